"""From the pieces of a text to the task of filling it: what stands, what is judged, and what is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..constraint.rule import Rule, read_rule
from ..errors import CanvasTooLong, InvalidOption
from ..format.model_config import ModelConfig
from ..text.template import Draft, Hole
from ..text.tokenizer import AlignedText, Tokenizer
from .canvas import MaskedSequence
from .config import GenerationConfig
from .denoising import Task
from .drafts import StandingText
from .results import CanvasReader, gather_given

_ELSEWHERE = {
    "max_new_tokens": "the holes say how many tokens are new",
    "grow_from": "the holes say how many tokens are new",
    "stop": "the text is not cut",
    "thinking": "they are no conversation",
}


def check_fill_options(options: Mapping[str, Any]) -> None:
    """Raises InvalidOption for what a text with holes has no use for."""
    for name, why in _ELSEWHERE.items():
        if options.get(name, None) is not None:
            raise InvalidOption(name, options[name], f"does not apply to texts with holes: {why}")


def plan_fill(
    parts: Sequence[AlignedText | Hole | Draft],
    tokenizer: Tokenizer,
    model: ModelConfig,
    context: int,
    config: GenerationConfig,
    rule: Rule | None,
    options: Mapping[str, Any],
    *,
    beginning: Sequence[int] = (),
) -> Task:
    """The task of filling `parts` after the tokens of `beginning`, by `config`, for which the caller gave `options`.
    `rule` is what each hole must match that has no rule of its own.

    Raises:
        InvalidOption: something given does not go with these parts.
        CanvasTooLong: they are longer than `context`.
    """
    read = [part if isinstance(part, AlignedText) else _read_hole(part, tokenizer, rule) for part in parts]
    holes = [part for part in read if isinstance(part, _Hole)]
    if rule and all(hole.draft for hole in holes):
        raise InvalidOption(rule.kind, options[rule.kind], "holds holes to it, and there are only drafts: leave it out")
    sized = [part.size if isinstance(part, _Hole) else part for part in read]
    laid = [part if isinstance(part, int) else part.ids for part in sized]
    sequence = MaskedSequence.of([beginning, *laid], model.mask_token_id)
    if len(sequence.ids) > context:
        raise CanvasTooLong(len(sequence.ids), context)
    stood = tuple(hole.stood for hole in holes)
    return Task(
        sequence,
        CanvasReader(tokenizer, len(beginning), given=gather_given(sized), stood=stood),
        names_holes=True,
        most_hole_tokens=_limit_growth(sequence, holes, model, context, config, options),
        constraints=[hole.rule.compile(tokenizer) if hole.rule else None for hole in holes],
        drafts=[hole.draft for hole in holes],
    )


@dataclass(frozen=True)
class _Hole:
    """A part that is written, or judged."""

    size: int
    stood: AlignedText | None
    rule: Rule | None = None
    draft: StandingText | None = None


def _read_hole(part: Hole | Draft, tokenizer: Tokenizer, rule: Rule | None) -> _Hole:
    if isinstance(part, Draft):
        text = tokenizer.align(part.text)
        return _Hole(len(text.ids), text, draft=StandingText(text, part.bound, part.groups))
    stood = None if part.instead_of is None else tokenizer.align(part.instead_of)
    return _Hole(part.size, stood, read_rule(vars(part)) or rule)


def _limit_growth(
    sequence: MaskedSequence,
    holes: Sequence[_Hole],
    model: ModelConfig,
    context: int,
    config: GenerationConfig,
    options: Mapping[str, Any],
) -> int | None:
    """Up to how many tokens the `holes` of `sequence` may grow; None where they keep their size, as beside drafts and
    with rules."""
    most = config.max_hole_tokens
    for is_there, what in (
        (any(hole.rule for hole in holes), "holes that must match something, which keep their size"),
        (any(hole.draft for hole in holes), "drafts, beside which holes keep their size"),
    ):
        if is_there:
            if options.get("max_hole_tokens"):
                raise InvalidOption("max_hole_tokens", most, f"does not go with {what}: leave it out")
            return None
    if model.expand_token_id is None or model.causal_block is not None or not most:
        if most and "max_hole_tokens" in options:
            requirement = "needs a model that can expand holes, such as DreamOn: leave it out for this one"
            raise InvalidOption("max_hole_tokens", most, requirement)
        return None
    if options.get("steps") is not None:
        requirement = "does not apply to holes that may grow and shrink; max_hole_tokens=0 fixes their sizes"
        raise InvalidOption("steps", options["steps"], requirement)
    masks = int(sequence.masked.sum())
    return max(masks, min(most, context - len(sequence.ids) + masks))
