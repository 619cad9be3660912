"""From a case to the token ids that a network completes: as plain text or a conversation, with or without a form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dream_edge_runtime.generation.canvas import MaskedSequence
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.generation.denoising import DenoisingRun
from dream_edge_runtime.generation.denoising import Task as Denoised
from dream_edge_runtime.generation.options import RunOptions
from dream_edge_runtime.generation.results import CanvasReader, Generation, gather_given
from dream_edge_runtime.text.chat import Message, chat_ids
from dream_edge_runtime.text.tokenizer import AlignedText, Tokenizer

from .task import Case, Task

if TYPE_CHECKING:
    from dream_edge_runtime.model import DreamModel


def write_question(
    tokenizer: Tokenizer, task: Task, case: Case, examples: Sequence[Case] = (), *, chat: bool = False
) -> list[int]:
    """Ids of the question, after `examples`: as one text, or as a conversation in which they are earlier turns.

    A model that can think before it answers is told not to.

    Raises:
        CannotChat: `chat`, and the model has no chat format.
    """
    if not chat:
        return tokenizer.encode(task.write_prompt(case, examples))
    turns: list[Message] = []
    for each in (*examples, case):
        turns.append({"role": "user", "content": f"{task.instruction}\n\n{each.prompt.rstrip()}"})
        turns.append({"role": "assistant", "content": each.answer})
    thinks = tokenizer.chat_format is not None and tokenizer.chat_format.thinking != "none"
    return chat_ids(tokenizer, turns[:-1], thinking=False if thinks else None)


@dataclass(frozen=True)
class Form:
    """An answer of which some is given: texts, and the sizes of the holes between them in tokens.

    A hole has the size of what the case's own answer has there: other right answers have to fit.
    """

    parts: tuple[AlignedText | int, ...]

    @classmethod
    def of(cls, tokenizer: Tokenizer, task: Task, case: Case) -> Form | None:
        """The form of the answer to `case`; None where `task` has none."""
        if task.find_holes is None:
            return None
        parts: list[AlignedText | int] = []
        end = 0
        for hole in task.find_holes(case):
            if hole.start > end:
                parts.append(tokenizer.align(case.answer[end : hole.start]))
            parts.append(len(tokenizer.encode(case.answer[hole])))
            end = hole.stop
        if end < len(case.answer):
            parts.append(tokenizer.align(case.answer[end:]))
        return cls(tuple(parts))


def fill_forms(
    model: DreamModel, prompts: Sequence[Sequence[int]], forms: Sequence[Form], config: GenerationConfig
) -> list[Generation]:
    """The `forms` filled in after their `prompts`, in one batch; texts are those of the answers."""
    tasks = []
    for prompt, form in zip(prompts, forms, strict=True):
        laid = [part if isinstance(part, int) else part.ids for part in form.parts]
        sequence = MaskedSequence.of([prompt, *laid], model.config.mask_token_id)
        tasks.append(Denoised(sequence, CanvasReader(model.tokenizer, len(prompt), given=gather_given(form.parts))))
    run = DenoisingRun(model.network, tasks, config, RunOptions(store=model.prefixes))
    for _ in run:
        pass
    return [run.generation(row) for row in range(len(tasks))]
