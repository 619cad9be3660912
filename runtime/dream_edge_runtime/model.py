"""A loaded Dream model: what a program calls to get text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

from .constraint.rule import Rule
from .errors import CanvasTooLong, InvalidOption
from .format.model_config import ModelConfig
from .generation.canvas import MaskedSequence
from .generation.config import DEFAULT_NEW_TOKENS, GenerationConfig
from .generation.denoising import Denoising, DenoisingRun, Task
from .generation.filling import check_fill_options, plan_fill
from .generation.options import Options, RunOptions, resolve
from .generation.prefix_store import PrefixStore
from .generation.results import CanvasReader, Generation, gather_given
from .generation.strategies import align_blocks, check_attention
from .inference.network import Network
from .text.chat import Message, chat_ids, end_ids
from .text.prompts import Prompt, align_argument, prompt_ids
from .text.template import Draft, Hole, Template, parse_template
from .text.tokenizer import AlignedText, Tokenizer


@dataclass(frozen=True)
class DreamModel:
    """A network and its tokenizer. Immutable, and shared by threads: a generation's state lives in its call. Only
    `prefixes` remembers, and says nothing that is not computed alike without it.

    Every method takes a `GenerationConfig`, any of its fields as keywords (which win), and the keywords of
    `options.RunOptions`: `cancel`, `history`, `logits_hook`, `token_hook`. Arguments are checked at once, also by the
    methods that stream. For each method that returns a finished text there is one that returns its steps.

    Every error is a `DreamEdgeError`. All methods raise UnknownOption and InvalidOption for the options, InvalidText
    for lone surrogates, CanvasTooLong where the tokens given and the new ones exceed the context, and Cancelled.
    """

    network: Network
    """Computes the passes."""
    tokenizer: Tokenizer
    """From text to ids and back."""
    defaults: GenerationConfig = GenerationConfig()  # noqa: RUF009 - frozen, so it can be shared
    """What a call without a configuration uses."""
    context: int | None = None
    """The longest canvas in tokens; None = what the network's configuration allows."""
    ends: frozenset[int] = frozenset()
    """Ids before which a text is cut, besides the ends of a sequence and of a turn."""
    longest_answer: int | None = None
    """Up to how many tokens a block-causal model's text goes on where nobody says; None = to the end of the context."""
    prefixes: PrefixStore | None = None
    """What `network`, if it is block-causal, has computed of earlier texts, for those that begin as they did."""

    @property
    def config(self) -> ModelConfig:
        """The network's geometry and special ids."""
        return self.network.config

    @property
    def _context(self) -> int:
        return self.config.context if self.context is None else self.context

    def count_tokens(self, text: str) -> int:
        """How many tokens `text` has, taken raw: the size of a hole for as much."""
        return len(self.tokenizer.encode(text))

    # --- after a prompt ----------------------------------------------------------------------------------------------

    def generate(
        self,
        prompt: Prompt,
        config: GenerationConfig | None = None,
        *,
        raw: bool = False,
        bos: bool = False,
        end_with: str = "",
        **options: Unpack[Options],
    ) -> Generation:
        """The text that follows `prompt`.

        Args:
            prompt: text, which becomes the user's turn of a conversation, or token ids, which are taken as they are.
            config: how to generate; None = `defaults`.
            raw: take a text as it is too, as base models want it.
            bos: begin with the bos token; for raw prompts only.
            end_with: how the text ends. These are the last of the `max_new_tokens` tokens, fixed from the start, so
                that the rest is written towards them; the text is then not cut at an end of turn.

        Raises:
            EmptyPrompt, InvalidTokenId: the prompt cannot be used.
        """
        return self.stream(prompt, config, raw=raw, bos=bos, end_with=end_with, **options).result()

    def stream(
        self,
        prompt: Prompt,
        config: GenerationConfig | None = None,
        *,
        raw: bool = False,
        bos: bool = False,
        end_with: str = "",
        **options: Unpack[Options],
    ) -> Denoising:
        """As `generate`, but yields a `Step` after every denoising step."""
        settled, run_options = self._resolve(config, options)
        ids = self._prompt(prompt, settled, options, raw=raw, bos=bos)
        return self._start(self._continuation(ids, settled, end_with, run_options.rule), settled, run_options)

    def generate_batch(
        self,
        prompts: Sequence[Prompt],
        config: GenerationConfig | None = None,
        *,
        raw: bool = False,
        bos: bool = False,
        end_with: str = "",
        **options: Unpack[Options],
    ) -> list[Generation]:
        """As `generate`, for several prompts of any lengths in one batch; no prompts give no texts.

        Each text draws its own random numbers, from the seed and its place in the batch.
        """
        if isinstance(prompts, str | bytes) or not isinstance(prompts, Sequence):
            raise InvalidOption("prompts", prompts, "must be a list of prompts")
        settled, run_options = self._resolve(config, options)
        ids = [self._prompt(each, settled, options, raw=raw, bos=bos) for each in prompts]
        tasks = [self._continuation(each, settled, end_with, run_options.rule) for each in ids]
        if not tasks:
            return []
        run = DenoisingRun(self.network, tasks, settled, run_options)
        for _ in run:
            pass
        return [run.generation(row) for row in range(len(tasks))]

    def chat(
        self,
        messages: Sequence[Message | Mapping[str, object]],
        config: GenerationConfig | None = None,
        *,
        end_with: str = "",
        **options: Unpack[Options],
    ) -> Generation:
        """The assistant's answer to a conversation: `[{"role": "user", "content": "…"}, …]`.

        Raises:
            InvalidConversation: the messages are not one.
        """
        return self.stream_chat(messages, config, end_with=end_with, **options).result()

    def stream_chat(
        self,
        messages: Sequence[Message | Mapping[str, object]],
        config: GenerationConfig | None = None,
        *,
        end_with: str = "",
        **options: Unpack[Options],
    ) -> Denoising:
        """As `chat`, but yields a `Step` after every denoising step."""
        settled, run_options = self._resolve(config, options)
        ids = chat_ids(self.tokenizer, messages, thinking=settled.thinking)
        task = self._continuation(ids, settled, end_with, run_options.rule)
        return self._start(task, settled, run_options)

    # --- between texts -----------------------------------------------------------------------------------------------

    def infill(
        self,
        prefix: str,
        suffix: str,
        length: int,
        config: GenerationConfig | None = None,
        *,
        bos: bool = False,
        **options: Unpack[Options],
    ) -> Generation:
        """The text with `length` tokens between `prefix` and `suffix`; `holes[0]` is what was written between them.

        Either may be empty. Texts are taken raw. Nothing is cut: special tokens in the hole are left out of the text.
        A model that can expand holes (DreamOn) starts at `length` and finds the size itself; see `max_hole_tokens`.
        """
        return self.stream_infill(prefix, suffix, length, config, bos=bos, **options).result()

    def stream_infill(
        self,
        prefix: str,
        suffix: str,
        length: int,
        config: GenerationConfig | None = None,
        *,
        bos: bool = False,
        **options: Unpack[Options],
    ) -> Denoising:
        """As `infill`, but yields a `Step` after every denoising step."""
        if isinstance(length, bool) or not isinstance(length, int) or length < 1:
            raise InvalidOption("length", length, "must be a number of tokens, at least 1")
        before, after = (align_argument(self.tokenizer, *each) for each in (("prefix", prefix), ("suffix", suffix)))
        return self._fill([before, Hole(length), after], config, bos, options)

    def fill(
        self,
        template: Template,
        config: GenerationConfig | None = None,
        *,
        bos: bool = False,
        **options: Unpack[Options],
    ) -> Generation:
        """`template` with its holes filled: `"The [[2]] sat on the [[1]]."` has one of two tokens and one of one.

        The same in pieces, for texts that may hold such brackets: `["The ", 2, " sat on the ", 1, "."]`. No tokens are
        added at the end. Texts are taken raw. Nothing is cut: special tokens in a hole are left out of the text.
        `holes` of the result tells what was written in each. A `Draft` among the pieces is a text whose unlikely tokens
        are written again; `changes` tells which.

        Raises:
            InvalidTemplate: it has neither holes nor drafts, or impossible ones.
        """
        return self.stream_fill(template, config, bos=bos, **options).result()

    def stream_fill(
        self,
        template: Template,
        config: GenerationConfig | None = None,
        *,
        bos: bool = False,
        **options: Unpack[Options],
    ) -> Denoising:
        """As `fill`, but yields a `Step` after every denoising step."""
        pieces = parse_template(template)
        self._check_length(sum(piece.size for piece in pieces if isinstance(piece, Hole)))
        parts = [self.tokenizer.align(piece) if isinstance(piece, str) else piece for piece in pieces]
        return self._fill(parts, config, bos, options)

    # --- what they share ---------------------------------------------------------------------------------------------

    def _resolve(
        self, config: GenerationConfig | None, options: Mapping[str, Any]
    ) -> tuple[GenerationConfig, RunOptions]:
        block_causal = self.config.causal_block is not None
        settled, run_options = resolve(self.defaults, config, options, block_causal=block_causal)
        check_attention(settled, self.config)
        if run_options.rule is not None:
            settled = self._hold_to_rule(settled, options)
        return settled, replace(run_options, store=self.prefixes)

    def _hold_to_rule(self, config: GenerationConfig, options: Mapping[str, Any]) -> GenerationConfig:
        """`config` for a text that must match something: nothing cuts it, changes it or comes before it."""
        given = {"stop": config.stop} | {name: options.get(name) for name in ("thinking", "token_hook")}
        for name, value in given.items():
            if value:
                raise InvalidOption(name, value, "does not go with a text that must match something: leave it out")
        can_think = self.tokenizer.chat_format is not None and self.tokenizer.chat_format.thinking != "none"
        return config.replace(thinking=False) if can_think else config

    def _prompt(
        self, prompt: Prompt, config: GenerationConfig, options: Mapping[str, Any], *, raw: bool, bos: bool
    ) -> list[int]:
        if bos and not raw and isinstance(prompt, str):
            raise InvalidOption("bos", bos, "needs raw=True: the chat template decides how a conversation begins")
        if (raw or not isinstance(prompt, str)) and (thinking := options.get("thinking")) is not None:
            requirement = "is about conversations, and this prompt is taken as it is: leave it out"
            raise InvalidOption("thinking", thinking, requirement)
        ids = prompt_ids(self.tokenizer, prompt, self.config.vocab_size, raw=raw, thinking=config.thinking)
        return [self.config.bos_token_id, *ids] if bos else ids

    def _continuation(self, prompt: list[int], config: GenerationConfig, end_with: str, rule: Rule | None) -> Task:
        """Masks after `prompt`, the last of them replaced by the fixed ending."""
        constraint = rule.compile(self.tokenizer) if rule else None
        ending = align_argument(self.tokenizer, "end_with", end_with)
        block, start = self.config.causal_block, len(prompt)
        room = config.max_new_tokens or DEFAULT_NEW_TOKENS
        if config.max_new_tokens is None and block is not None and not ending.ids:
            room = max(1, min(self._context - start, self.longest_answer or self._context))
        self._check_length(start + room)
        free = room - len(ending.ids)
        if free < 0:
            requirement = f"takes {len(ending.ids)} tokens, more than max_new_tokens={room}"
            raise InvalidOption("end_with", end_with, requirement)
        first = free
        if config.grow_from is not None:
            if ending.ids:
                requirement = "does not go with end_with, whose place is at the end of max_new_tokens: name one of them"
                raise InvalidOption("grow_from", config.grow_from, requirement)
            first = min(free, max(config.grow_from, constraint.shortest if constraint else 1))
        elif block is not None and not ending.ids:
            first = min(free, block - (start + align_blocks(config, block, start)) % block)
        hole = [first] if first else []
        sequence = MaskedSequence.of([prompt, *hole, ending.ids], self.config.mask_token_id)
        ends = frozenset() if ending.ids else end_ids(self.tokenizer, self.config.eos_token_id) | self.ends
        given = gather_given([*hole, ending]) if ending.ids else ()
        most = free if first < free else None
        reader = CanvasReader(self.tokenizer, len(prompt), ends, config.stop, given)
        return Task(sequence, reader, most_new_tokens=most, constraints=[constraint])

    def _fill(
        self,
        parts: Sequence[AlignedText | Hole | Draft],
        config: GenerationConfig | None,
        bos: bool,
        options: Mapping[str, Any],
    ) -> Denoising:
        check_fill_options(options)
        settled, run_options = self._resolve(config, options)
        beginning = [self.config.bos_token_id] if bos else []
        task = plan_fill(
            parts,
            self.tokenizer,
            self.config,
            self._context,
            settled,
            run_options.rule,
            options,
            beginning=beginning,
        )
        return self._start(task, settled, run_options)

    def _start(self, task: Task, config: GenerationConfig, run_options: RunOptions) -> Denoising:
        return Denoising(DenoisingRun(self.network, [task], config, run_options), task)

    def _check_length(self, length: int) -> None:
        if length > self._context:
            raise CanvasTooLong(length, self._context)
