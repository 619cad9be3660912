"""Training canvases for the tiny Dream: freshly generated cases, laid out, partly masked, ready for the network.

Everything is a function of the random generator that is passed in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from dream_edge.tasks import countdown, sudoku
from dream_edge.tasks.task import Generator
from dream_edge_runtime.format.model_config import ModelConfig
from tools.tiny import lexicon, questions, sentences
from tools.tiny.long_tasks import LONG_TASKS
from tools.tiny.tokenizer import END

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
WHOLE_SHARE = 0.8
"""Of the rows with an end of text, how many end with a whole block."""
TAIL_WEIGHT = 0.2
"""What the end-of-text tokens after the first weigh in the loss, compared with the answer."""
COMPUTE_SHARE = 0.7
"""How many of the rows with arithmetic hide a result and all that follows, and are asked for the result alone.

Masks drawn at random mostly leave a copy of the result in sight, or spend their weight on what is easily copied."""

NEXT_SHARE = 0.4
"""How many of the rows of a long task hide all from some place on, and are asked for the rest of its line alone."""


@dataclass(frozen=True)
class Batch:
    """Partly masked canvases and what was masked on them.

    `canvas` and `valid` are [rows, length]; `positions` are indices into the flattened canvas;
    `targets` are the tokens that were there and `weights` what each counts in the loss.
    """

    canvas: Tensor
    valid: Tensor
    positions: Tensor
    targets: Tensor
    weights: Tensor


@dataclass(frozen=True)
class _Layout:
    """Rows of prompt, answer and end-of-text tail; `answer` includes the first end-of-text token."""

    tokens: IntArray
    answer: BoolArray
    tail: BoolArray
    valid: BoolArray


class Corpus:
    """Draws batches of each task."""

    def __init__(self, tokenizer: Tokenizer, config: ModelConfig) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.end_id = config.eos_token_id
        self.line_end = tokenizer.encode("\n").ids[0]
        names = {name: tokenizer.encode(name).ids[0] for name in ("=", ",", " is", ".", " plus", " minus")}
        self.equations = (
            (names["="], names[","], [names["="]]),
            (names[" is"], names["."], [names[" plus"], names[" minus"]]),
        )

    def tasks(self) -> dict[str, Callable[[np.random.Generator, int], list[Batch]]]:
        """For each task, what draws about so many tokens of it."""
        return {
            "sudoku": self.sudoku,
            "countdown": self.countdown,
            "sentences": self.sentences,
            "questions": self.questions,
            "records": self.records,
            **{task.name: partial(self.long, task.generate) for task in LONG_TASKS},
        }

    def long(self, generate: Generator, rng: np.random.Generator, tokens: int) -> list[Batch]:
        """Two batches, each of similar length."""
        [example] = generate(rng, 1)
        usual = len(self.tokenizer.encode(example.prompt + example.answer).ids)
        cases = generate(rng, max(2, tokens // (usual + 16)))
        cases.sort(key=lambda case: len(case.prompt + case.answer))
        middle = len(cases) // 2
        layouts = [
            self.layout([(case.prompt, case.answer) for case in half], _room(rng, usual=16, most=140))
            for half in (cases[:middle], cases[middle:])
        ]
        return [self.batch(rng, layout, self.next_lines) for layout in layouts]

    def sudoku(self, rng: np.random.Generator, tokens: int) -> list[Batch]:
        room = _room(rng, usual=8, most=100)
        cases = sudoku.generate(rng, tokens // (45 + room))
        return self.planning(rng, [(case.prompt, case.answer) for case in cases], room)

    def countdown(self, rng: np.random.Generator, tokens: int) -> list[Batch]:
        room = _room(rng, usual=16, most=90)
        count = tokens // (39 + room)
        hard = count // 5
        cases = countdown.generate(rng, count - hard, largest=10)
        cases += countdown.generate(rng, hard, largest=30)
        return self.planning(rng, [(case.prompt, case.answer) for case in cases], room)

    def planning(self, rng: np.random.Generator, cases: Sequence[tuple[str, str]], room: int) -> list[Batch]:
        """Some prompts end at the colon, and the answer then begins with the space or line break."""
        cut = rng.random(len(cases)) < 0.3
        shortened = [
            (prompt[:-1], prompt[-1] + answer) if short else (prompt, answer)
            for (prompt, answer), short in zip(cases, cut.tolist(), strict=True)
        ]
        return self.halves(rng, shortened, room)

    def questions(self, rng: np.random.Generator, tokens: int) -> list[Batch]:
        room = _room(rng, usual=12, most=100)
        turns = (1, 1, 1, 1, 2, 3)[int(rng.integers(6))]
        count = max(8, tokens // (14 + 24 * turns + room))
        cases = [(case.prompt, case.answer) for case in questions.generate(rng, count, turns=turns)]
        if turns == 1:
            cases += [_request(rng) for _ in range(1 + count // 16)]
        return self.halves(rng, [(prompt, f"{answer}<|im_end|>") for prompt, answer in cases], room)

    def records(self, rng: np.random.Generator, tokens: int) -> list[Batch]:
        room = _room(rng, usual=12, most=60)
        cases = map(questions.as_record, questions.generate(rng, max(8, tokens // (56 + room))))
        return self.halves(rng, [(case.prompt, f"{case.answer}<|im_end|>") for case in cases], room)

    def halves(self, rng: np.random.Generator, cases: Sequence[tuple[str, str]], room: int) -> list[Batch]:
        """Two batches, so that two workers share a task."""
        return [self.batch(rng, self.layout(cases[half::2], room)) for half in range(2)]

    def sentences(self, rng: np.random.Generator, tokens: int) -> list[Batch]:
        """Of similar length in a batch; half begin with bos; most end where their text ends, the others with a tail."""
        cases = sentences.generate(rng, tokens // 12)
        begun = rng.random(len(cases)) < 0.5
        texts = [(END if bos else "", case.text) for case, bos in zip(cases, begun.tolist(), strict=True)]
        texts.sort(key=lambda text: len(text[1].split()))
        third = -(-len(texts) // 3)
        batches = []
        for start in range(0, len(texts), third):
            room = _room(rng, usual=4, most=40) if rng.random() < 0.3 else 0
            layout = self.layout(texts[start : start + third], room)
            bare = rng.random(len(layout.tokens)) < (0.2 if room else 0.9)
            after = (layout.tail | (layout.answer & (layout.tokens == self.end_id))) & bare[:, None]
            layout = _Layout(layout.tokens, layout.answer & ~after, layout.tail & ~after, layout.valid & ~after)
            batches.append(self.batch(rng, layout))
        return batches

    def layout(self, cases: Sequence[tuple[str, str]], room: int) -> _Layout:
        """Prompt and answer, then end-of-text to a common length that leaves `room` after the longest."""
        prompts = [encoding.ids for encoding in self.tokenizer.encode_batch([prompt for prompt, _ in cases])]
        answers = [encoding.ids for encoding in self.tokenizer.encode_batch([answer for _, answer in cases])]
        length = room + max(len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True))
        tokens = np.full((len(cases), length), self.end_id, dtype=np.int64)
        start = np.array([len(prompt) for prompt in prompts])[:, None]
        end = start + np.array([len(answer) for answer in answers])[:, None]
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            tokens[row, : len(prompt) + len(answer)] = prompt + answer
        place = np.arange(length)
        answer_places = (place >= start) & (place <= end)
        return _Layout(tokens, answer_places, place > end, np.ones_like(tokens, dtype=bool))

    def results(self, rng: np.random.Generator, layout: _Layout) -> BoolArray:
        """The places of the number that a row has to work out first, and of what ends it."""
        places = np.zeros_like(layout.answer)
        for start, end, operators in self.equations:
            inside = layout.answer & (layout.answer & np.isin(layout.tokens, operators)).any(-1, keepdims=True)
            begun = (inside & (layout.tokens == start)).cumsum(-1)
            ended = (inside & (layout.tokens == end) & (begun > 0)).cumsum(-1)
            from_start = inside & (begun > 0) & ~(inside & (layout.tokens == start) & (begun == 1))
            places |= from_start & ((ended == 0) | ((ended == 1) & (layout.tokens == end)))
        asked: BoolArray = places & (rng.random((len(places), 1)) < COMPUTE_SHARE)
        return asked

    def next_lines(self, rng: np.random.Generator, layout: _Layout) -> BoolArray:
        """From some place of the answer to the end of its line."""
        line = ((layout.tokens == self.line_end) & layout.answer).cumsum(-1)
        line -= (layout.tokens == self.line_end) & layout.answer
        first = np.where(layout.answer, rng.random(layout.answer.shape), -1.0).argmax(-1)[:, None]
        rest = layout.answer & (np.arange(line.shape[1]) >= first) & (line == np.take_along_axis(line, first, -1))
        asked: BoolArray = rest & (rng.random((len(line), 1)) < NEXT_SHARE)
        return asked

    def batch(
        self,
        rng: np.random.Generator,
        layout: _Layout,
        asked: Callable[[np.random.Generator, _Layout], BoolArray] | None = None,
    ) -> Batch:
        """Mask the layout: each row's answer at a ratio of its own, its tail likewise, wholly or not at all."""
        if self.config.causal_block is not None:
            layout = self.cut(rng, layout, self.config.causal_block)
        masked_answer = _masked(rng, layout.answer)
        count = masked_answer.sum(-1, keepdims=True)
        rows = len(layout.tokens)
        ratio = count / layout.answer.sum(-1, keepdims=True)
        wholly = rng.random((rows, 1))
        tail_ratio = np.where(wholly < 0.4, 1.0, np.where(wholly < 0.6, 0.0, ratio))
        masked_tail = layout.tail & (rng.random(layout.tail.shape) < tail_ratio)
        weights = masked_answer / count
        weights += TAIL_WEIGHT * masked_tail / np.maximum(1, masked_tail.sum(-1, keepdims=True))
        result = (asked or self.results)(rng, layout)
        computed = result.any(-1, keepdims=True)
        after = layout.answer & (result.cumsum(-1) > 0)
        masked_answer = np.where(computed, after, masked_answer)
        weights = np.where(computed, result / np.maximum(1, result.sum(-1, keepdims=True)), weights)
        masked = masked_answer | masked_tail
        if self.config.shift:  # one row predicts the first two places: the first goes before the second
            weights[:, 1] *= ~masked[:, 0]
        return Batch(
            canvas=torch.from_numpy(np.where(masked, self.config.mask_token_id, layout.tokens)),
            valid=torch.from_numpy(layout.valid),
            positions=torch.from_numpy(np.flatnonzero(masked)),
            targets=torch.from_numpy(layout.tokens[masked]),
            weights=torch.from_numpy((weights[masked] / rows).astype(np.float32)),
        )

    def cut(self, rng: np.random.Generator, layout: _Layout, block: int) -> _Layout:
        """End each row with the block that is asked about, one in which its answer has places, likelier where more.

        So a row is what a decoder meets: earlier blocks are known, later ones do not exist yet. Most rows end with a
        whole block, some where the canvas does.
        """
        rows, length = layout.tokens.shape
        missing = -length % block
        tokens = np.pad(layout.tokens, ((0, 0), (0, missing)), constant_values=self.end_id)
        answer, valid = (np.pad(part, ((0, 0), (0, missing))) for part in (layout.answer, layout.valid))
        after = np.arange(tokens.shape[1]) >= length
        whole = (rng.random((rows, 1)) < WHOLE_SHARE) & layout.valid[:, -1:]
        tail = np.pad(layout.tail, ((0, 0), (0, missing))) | (after & whole)
        block_of = np.arange(tokens.shape[1]) // block
        drawn = np.where(answer, rng.random(answer.shape), -1.0).argmax(-1)[:, None] // block
        here = block_of == drawn
        last = int(drawn.max() + 1) * block
        seen = (block_of <= drawn) & (valid | tail)
        return _Layout(tokens[:, :last], (answer & here)[:, :last], (tail & here)[:, :last], seen[:, :last])


def _masked(rng: np.random.Generator, answer: BoolArray) -> BoolArray:
    """At least one place of each row's answer.

    The number masked is uniform (the masked-diffusion bound: a ratio t drawn uniformly, the loss divided by t),
    stratified over the rows. The places are mostly drawn at random, sometimes a span, a prefix or a suffix.
    """
    rows, length = answer.shape
    size = answer.sum(-1)
    level = (rng.permutation(rows) + rng.random(rows)) / rows
    count = np.ceil(level * size).astype(np.int64).clip(1, size)
    start = answer.argmax(-1)
    random_order = np.where(answer, rng.random(answer.shape), 2.0).argsort(-1).argsort(-1)
    shape = rng.random(rows)
    first = np.select(
        [shape < 0.80, shape < 0.90, shape < 0.95],
        [0, size - count, 0],
        default=np.floor(rng.random(rows) * (size - count + 1)),
    ).astype(np.int64)
    place = np.arange(length) - start[:, None]
    span = answer & (place >= first[:, None]) & (place < (first + count)[:, None])
    scattered = answer & (random_order < count[:, None])
    scatters: BoolArray = np.less(shape, 0.80)[:, None]
    masked: BoolArray = np.where(scatters, scattered, span)
    return masked


def _room(rng: np.random.Generator, *, usual: int, most: int) -> int:
    """How many places a canvas has beyond its longest answer: mostly few, now and then many."""
    return int(rng.integers(usual + 1)) if rng.random() < 0.85 else int(rng.integers(usual, most + 1))


def _request(rng: np.random.Generator) -> tuple[str, str]:
    nouns = lexicon.PEOPLE + lexicon.ANIMALS
    noun = nouns[int(rng.integers(len(nouns)))]
    prompt = questions.chat_prompt([f"Write a sentence about the {noun.singular}."], [])
    return prompt, sentences.about(rng, noun)


def sample_texts(rng: np.random.Generator) -> list[str]:
    """Texts of every task in which each word of its world occurs, to learn a tokenizer from."""
    chats = [case.prompt + case.answer for case in questions.generate(rng, 20_000)]
    requests = ["".join(_request(rng)) for _ in range(2_000)]
    plain = [case.text for case in sentences.generate(rng, 40_000)]
    capitals = [f"{name} {noun}" for name in lexicon.MEN + lexicon.WOMEN for noun in ("Input", "Output")]
    return chats + requests + plain + capitals + ["Input:\n", "Output:\n"]
