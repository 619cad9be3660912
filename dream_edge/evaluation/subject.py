"""What an evaluation asks of a model: likelihoods of answers, likelihoods of texts, and texts up to a stop string."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dream_edge_runtime.errors import CanvasTooLong, InvalidOption
from dream_edge_runtime.generation.config import FIELDS
from dream_edge_runtime.generation.strategies import align_blocks
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.chat import TURN_START

from .likelihood import bound_likelihood, is_first_choice, split_windows
from .prompts import encode, encode_pair

_log = logging.getLogger(__name__)

MAX_NEW_TOKENS = 256
"""Unless the user or the task says otherwise, as elsewhere in the harness."""

_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_SAMPLING = ("temperature", "top_p", "top_k")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is evaluated, and how.

    Attributes:
        mc_samples: masks for each likelihood. An answer with no more masks than that (7 tokens have 127) gets them all,
            and so the exact value of the bound. The blocks of a block-causal model share them.
        seed: of masks and of drawn tokens. Masks depend on it, the prompt and the answer's length alone: neither on
            the order of the requests nor on the batch, and answers of one length to one question share them.
        check_greedy: find out whether an answer is the model's own, in at most as many passes as it has tokens;
            otherwise none counts as such.
        add_bos_token: begin prompts with the bos token, as evaluations of base models do; not conversations.
        batch_size: texts, or masks of one text, that go through a pass together.
        options: how to generate, as keywords of `DreamModel.generate`. They win over what a task asks for.

    Raises:
        InvalidOption: a value that does not fit.
    """

    model: DreamModel
    mc_samples: int = 128
    seed: int = 0
    check_greedy: bool = True
    add_bos_token: bool = False
    batch_size: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("mc_samples", 1), ("seed", 0), ("batch_size", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidOption(name, value, f"must be an integer of at least {least}")
        for name in ("check_greedy", "add_bos_token"):
            if type(getattr(self, name)) is not bool:
                raise InvalidOption(name, getattr(self, name), "must be true or false")

    @property
    def context(self) -> int:
        return self.model.config.context if self.model.context is None else self.model.context

    # --- likelihoods -------------------------------------------------------------------------------------------------

    def log_likelihood(self, context: str, continuation: str) -> tuple[float, bool]:
        """The bound on log p(continuation | context) in nats, and whether the model would write it by itself.

        An empty context is the bos token. A context that is too long loses its beginning.

        Raises:
            CanvasTooLong: the continuation alone does not fit.
        """
        prompt, answer = encode_pair(self.model.tokenizer, context, continuation)
        prompt = self._with_bos(prompt, context)
        if len(answer) >= self.context:
            raise CanvasTooLong(len(answer) + 1, self.context)
        prompt = self._truncate(prompt, self.context - len(answer))
        bound, network = self._bound(prompt, answer), self.model.network
        return bound, self.check_greedy and is_first_choice(network, prompt, answer, self._offset(prompt))

    def rolling_log_likelihood(self, text: str) -> float:
        """The bound on log p(text) in nats, after the bos token; long texts in pieces, each after what precedes it."""
        ids = self.model.tokenizer.encode(text)
        pieces = split_windows(ids, self.model.config.bos_token_id, self.context)
        return sum(self._bound(prompt, answer) for prompt, answer in pieces)

    def _bound(self, prompt: Sequence[int], answer: Sequence[int]) -> float:
        if not answer:
            return 0.0
        rng = np.random.default_rng([self.seed, zlib.crc32(np.array(prompt, "<i8").tobytes()), len(answer)])
        return bound_likelihood(
            self.model.network,
            prompt,
            answer,
            self.mc_samples,
            rng,
            batch_size=self.batch_size,
            offset=self._offset(prompt),
        )

    def _offset(self, prompt: Sequence[int]) -> int:
        """How many positions before `prompt` the first block begins, as where texts are generated."""
        block = self.model.config.causal_block
        align = self.options.get("align", self.model.defaults.align)
        return align_blocks(self.model.defaults.replace(align=align), block, len(prompt)) if block else 0

    # --- texts -------------------------------------------------------------------------------------------------------

    def generate(self, requests: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[tuple[int, str]]:
        """Write on from each context, with its task's keywords, up to the first of its `until`.

        Requests with the same keywords share batches, so texts come in another order, with their requests' numbers.
        Each batch has its own seed. A context that is too long loses its beginning; an empty one is the bos token.

        Raises:
            UnknownOption, InvalidOption: of the options.
        """
        alike: dict[str, list[int]] = {}
        for index, (_, keywords) in enumerate(requests):
            alike.setdefault(repr(sorted(keywords.items())), []).append(index)
        for indices in alike.values():
            options = self.options_for(requests[indices[0]][1])
            prompts = {index: self._prompt(requests[index][0], options["max_new_tokens"]) for index in indices}
            by_length = sorted(prompts, key=lambda index: len(prompts[index]))
            for start in range(0, len(prompts), self.batch_size):
                batch = by_length[start : start + self.batch_size]
                seed = self.seed + start  # texts of a task that asks for several from one prompt differ
                results = self.model.generate_batch([prompts[index] for index in batch], seed=seed, **options)
                yield from zip(batch, (result.text for result in results), strict=True)

    def options_for(self, keywords: Mapping[str, Any]) -> dict[str, Any]:
        """How to generate for a task that asks for `keywords`: the user's options, then the task's, then defaults."""
        wanted = dict(keywords)
        until = wanted.pop("until", None) or ()
        lengths = [wanted.pop(name, None) for name in _LENGTHS]
        if not wanted.pop("do_sample", True):
            wanted = {name: value for name, value in wanted.items() if name not in _SAMPLING} | {"temperature": 0.0}
        options = {"max_new_tokens": next((length for length in lengths if length is not None), MAX_NEW_TOKENS)}
        for name, value in wanted.items():
            if name in (*FIELDS, "preset", "exact"):
                options |= {} if value is None else {name: value}
            else:
                _log.warning("the task's %s=%r means nothing here and is left out", name, value)
        stops = [until] if isinstance(until, str) else list(until)
        options |= {"stop": [stop for stop in stops if stop]} | dict(self.options)
        return {name: value for name, value in options.items() if name != "thinking"}  # the prompt says it: render_chat

    def _prompt(self, context: str, new_tokens: int) -> list[int]:
        prompt = self._with_bos(encode(self.model.tokenizer, context), context)
        return self._truncate(prompt, max(1, self.context - new_tokens))

    def _with_bos(self, prompt: list[int], context: str) -> list[int]:
        """`prompt` with the bos token before it where that is asked for, or where there is nothing else."""
        begins = self.add_bos_token and not context.startswith(TURN_START)
        return [self.model.config.bos_token_id, *prompt] if begins or not prompt else prompt

    def _truncate(self, prompt: list[int], room: int) -> list[int]:
        if len(prompt) > room:
            _log.warning("a prompt of %d tokens loses its first %d: no more fit", len(prompt), len(prompt) - room)
        return prompt[-room:]
