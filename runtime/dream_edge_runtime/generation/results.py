"""What a generation hands back: a `Step` after every step, a `Generation` at the end. And how texts are read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise, zip_longest
from typing import Literal

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray
from ..text.tokenizer import AlignedText, Tokenizer

MASK_SYMBOL = "░"
"""Stands for a position that is still masked in the text of a step."""
CUT_CHARACTER = "\ufffd"
"""What tokens decode to that hold some of a character's bytes."""
_MOST_BYTES = 4  # of a character, and so the most tokens it can be spread over


@dataclass(frozen=True)
class Change:
    """A part of a text that is not what was given there."""

    start: int
    """Where it begins in the text, in characters (Unicode code points)."""
    stop: int
    """Where it ends."""
    before: str
    """What was given there."""


@dataclass(frozen=True)
class Step:
    """The canvas after one denoising step.

    Positions are those of the sequence's whole canvas, prompt included, counted from 0.
    """

    index: int
    """Which step, from 1."""
    steps: int
    """How many are planned so far. The last may come sooner: a generation ends when nothing is masked any more. A text
    that goes on block by block plans those of a block when it gets there."""
    ids: IntArray
    """[length] the canvas: prompt, revealed tokens, and the mask id where masked."""
    masked: BoolArray
    """[length] which positions are still masked."""
    shown: range
    """The positions `text` shows: the new part, or everything for infill and fill."""
    holes: tuple[range, ...]
    """The positions that were to be generated, or in a draft to be judged."""
    revealed: IntArray
    """Positions revealed at this step, best first; at the first step of a text with drafts, what stands of them."""
    confidence: FloatArray
    """[revealed] probabilities of their tokens, whatever the algorithm ranks by: after temperature and filters with the
    official schedule, else of the network's own distribution, at temperature 1 without filters."""
    progress: float
    """The share of the holes' positions that is revealed, 0 to 1. Falls where holes grow, or a block is added."""
    _reader: CanvasReader = field(repr=False, compare=False)
    ends_block: bool = False
    """Whether nothing is masked any more of the block that the step was about: all of the text, where it has none."""
    moved: IntArray | None = None
    """[length] where each position stood at the step before, -1 where it is new; None = all where they were."""

    @cached_property
    def text(self) -> str:
        """The text so far, `MASK_SYMBOL` for each masked position. Decoded when first asked for."""
        return self._reader.text(self.ids, self.masked, self.holes)

    @cached_property
    def settled(self) -> str:
        """The text before the first mask, which later steps only add to.

        Two ends of it are unsure: half a character (U+FFFD), and the beginning of a stop string.
        """
        end = self._settled_until(range(self.shown.start, len(self.ids)))
        return self._reader.text(self.ids[:end], self.masked[:end], self.holes)

    @cached_property
    def hole_texts(self) -> tuple[str, ...]:
        """The text of each of `holes` so far, `MASK_SYMBOL` for each masked position. Nothing is cut off."""
        return self._hole_texts([hole.stop for hole in self.holes])

    @cached_property
    def settled_hole_texts(self) -> tuple[str, ...]:
        """The text of each of `holes` before its first mask. Its end may be half a character (U+FFFD)."""
        return self._hole_texts([self._settled_until(hole) for hole in self.holes])

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        """Where `text` differs from what was given: in drafts, and in holes that take the place of words. Masks do."""
        return self._reader.changes(self.ids, self.masked, self.holes)

    def token_texts(self, place: range) -> list[str]:
        """The text of each position of `place`: `MASK_SYMBOL` where masked; a character of several tokens is with the
        first."""
        return self._reader.token_texts(self.ids, self.masked, self.holes, place)

    def _hole_texts(self, ends: Sequence[int]) -> tuple[str, ...]:
        """The text of each hole before its end among `ends`."""
        holes = enumerate(zip(self.holes, ends, strict=True))
        return tuple(self._reader.hole_text(self.ids[:end], self.masked[:end], at, hole) for at, (hole, end) in holes)

    def _settled_until(self, place: range) -> int:
        """The first masked position of `place`, or its end."""
        masks = np.flatnonzero(self.masked[place.start : place.stop])
        return place.start + int(masks[0]) if masks.size else place.stop


@dataclass(frozen=True)
class Generation:
    """A finished text and how it came about."""

    text: str
    """The new text, cut at the end of the turn and at stop strings; for infill and fill the whole text, holes filled.
    Special tokens are left out."""
    token_ids: tuple[int, ...]
    """The ids `text` is read from, before any cut."""
    prompt_tokens: int
    """Tokens that were given: prompt, template, the fixed parts of a text with holes, and what stands of drafts."""
    cached_tokens: int = field(default=0, kw_only=True)
    """How many of them were not computed: a block-causal model's finished blocks out of a store (`BlockStore`)."""
    new_tokens: int
    """Generated tokens that the text keeps; what follows the end of the turn does not count."""
    steps: int
    """Denoising steps made."""
    passes: int
    """Forward passes of the network (NFE): a step that reveals nothing needs none."""
    seconds: float
    """From the first step to the last; of the whole batch, for a generation out of a batch."""
    seed: int
    """The seed that was used, also when none was given."""
    finish_reason: Literal["stop", "length"]
    """`stop`: the text ended before its room did. `length`: it used all of it."""
    stop_string: str | None = field(default=None, kw_only=True)
    """The stop string before which the text was cut, if one was."""
    holes: tuple[str, ...] = ()
    """The text of each hole, and of each draft among them (infill and fill)."""
    changes: tuple[Change, ...] = ()
    """Where `text` differs from what was given: in drafts, and in holes that take the place of words."""
    history: tuple[IntArray, ...] | None = field(default=None, repr=False, compare=False)
    """The canvas ids after every step, each [length at that step], when asked for."""

    @property
    def tokens_per_second(self) -> float:
        """New tokens by the time they took; 0 where none was measured."""
        return self.new_tokens / self.seconds if self.seconds > 0 else 0.0


def character_at(tokenizer: Tokenizer, ids: IntArray, masked: BoolArray, at: int, stop: int) -> tuple[str, int]:
    """The text of the settled token at position `at` of a canvas, and how many tokens before `stop` it takes.

    That is one, unless it takes more to spell the token's last character, or what there is of it: U+FFFD.
    """
    alone, taken = tokenizer.decode(ids[at : at + 1]), 1
    if not alone.endswith(CUT_CHARACTER):
        return alone, taken
    for end in range(at + 2, min(at + _MOST_BYTES, stop) + 1):
        if masked[end - 1]:
            break
        text = tokenizer.decode(ids[at:end])
        if not text.endswith(CUT_CHARACTER):
            return text, end - at
        if text == alone:
            taken = end - at
    return alone, taken


@dataclass(frozen=True)
class Ending:
    """Where a text ends."""

    text: str
    tokens: int
    """How many of the shown tokens it keeps."""
    stopped: bool
    """Whether anything was cut off."""
    stop_string: str | None = None
    """Before which it was, if it was one."""


def gather_given(parts: Iterable[AlignedText | int]) -> tuple[AlignedText, ...]:
    """What is given around the holes among `parts`, which stand as their sizes: before each, and after the last."""
    given = [AlignedText()]
    for part in parts:
        if isinstance(part, int):
            given.append(AlignedText())
        else:
            given[-1] += part
    return tuple(given)


@dataclass(frozen=True)
class CanvasReader:
    """Reads a canvas from position `shown_from` to its end. Special tokens are left out of the text.

    The text is cut at the first settled token of `ends`, then before the first of the `stop` strings. Both are empty
    for texts with holes and for fixed endings: a cut there would take what the caller gave.
    """

    tokenizer: Tokenizer
    shown_from: int
    ends: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()
    given: tuple[AlignedText, ...] = ()
    """What was given around the holes: before each of them, and after the last; it is read as it was given. Nothing
    where the canvas is generated from `shown_from` to its end."""
    stood: tuple[AlignedText | None, ...] = ()
    """What stood in each hole before; None = nothing. Tokens that stand there again are read as they were given."""

    def text(self, ids: IntArray, masked: BoolArray, holes: Sequence[range] = ()) -> str:
        """The text of `ids` [length] with these `holes`, `MASK_SYMBOL` for each position that is `masked` [length]."""
        return self.ending(ids, masked, holes).text

    def ending(self, ids: IntArray, masked: BoolArray, holes: Sequence[range] = ()) -> Ending:
        """Read the text, and where it ends."""
        shown, is_masked = ids[self.shown_from :], masked[self.shown_from :]
        count = len(shown)
        if self.ends:
            ends = np.flatnonzero(np.isin(shown, list(self.ends)) & ~is_masked)
            count = int(ends[0]) if ends.size else count
        text = self._read(ids, masked, holes, count)
        stopped, stop_string = count < len(shown), None
        found = [(place, stop) for stop in self.stop if (place := text.find(stop)) >= 0]
        if found:
            place, stop_string = min(found)
            text = text[:place]
            # the least number of tokens whose text is as long
            count = bisect_left(range(count), len(text), key=lambda size: len(self._read(ids, masked, holes, size)))
            stopped = True
        return Ending(text, count, stopped, stop_string)

    def hole_text(self, ids: IntArray, masked: BoolArray, index: int, hole: range) -> str:
        """The text of `hole`, which is number `index`, on the canvas `ids` [length], `MASK_SYMBOL` where it is `masked`
        [length]. What lies after the end of `ids` is left out."""
        segments = self._compare(ids, masked, index, hole)
        return "".join(self._segment_text(ids, masked, part, given) for part, given, _ in segments)

    def changes(self, ids: IntArray, masked: BoolArray, holes: Sequence[range]) -> tuple[Change, ...]:
        """Where the text of the canvas `ids` [length] is not what `stood` there."""
        changes, at = [], 0
        for part, given, before in self._segments(ids, masked, holes):
            text = self._segment_text(ids, masked, part, given)
            if before is not None and before != text:
                changes.append(Change(at, at + len(text), before))
            at += len(text)
        return tuple(changes)

    def token_texts(self, ids: IntArray, masked: BoolArray, holes: Sequence[range], place: range) -> list[str]:
        """The text of each position of `place`. A character that several tokens spell is with the first of them."""
        texts: list[str] = []
        for segment, given, _ in self._segments(ids, masked, holes):
            at = segment.start
            if given:
                texts += given.pieces
            else:
                while at < segment.stop:
                    text, count = MASK_SYMBOL, 1
                    if not masked[at]:
                        text, count = character_at(self.tokenizer, ids, masked, at, segment.stop)
                    texts += [text, *[""] * (count - 1)]
                    at += count
        return texts[place.start - self.shown_from : place.stop - self.shown_from]

    def _read(self, ids: IntArray, masked: BoolArray, holes: Sequence[range], count: int) -> str:
        """The text of the first `count` tokens that are shown."""
        end = self.shown_from + count
        ids, masked = ids[:end], masked[:end]
        segments = self._segments(ids, masked, holes)
        return "".join(self._segment_text(ids, masked, part, given) for part, given, _ in segments)

    def _segments(
        self, ids: IntArray, masked: BoolArray, holes: Sequence[range]
    ) -> Iterator[tuple[slice, AlignedText | None, str | None]]:
        """What is shown, part by part: with what was given there, if that is still what stands there, and otherwise,
        of what stood in a hole, with its text."""
        start = self.shown_from
        for index, (given, hole) in enumerate(zip_longest(self.given, holes if self.given else ())):
            stop = len(ids) if hole is None else hole.start
            part = slice(start, min(stop, len(ids)))
            is_intact = not masked[part].any() and tuple(ids[part]) == given.ids
            yield part, given if is_intact else None, None
            if hole is None or hole.start > len(ids):
                return
            start = min(hole.stop, len(ids))
            yield from self._compare(ids, masked, index, hole)
        if not self.given:
            yield slice(start, len(ids)), None, None

    def _compare(
        self, ids: IntArray, masked: BoolArray, index: int, hole: range
    ) -> Iterator[tuple[slice, AlignedText | None, str | None]]:
        """The parts of a hole as `_segments` has them: runs of characters that stood there before, and of others."""
        part, stood = slice(hole.start, min(hole.stop, len(ids))), self.stood[index] if self.stood else None
        if stood is None or len(stood.ids) != len(hole):
            yield part, None, None if stood is None else "".join(stood.pieces)
            return
        here = part.stop - part.start
        if not here:  # nothing of it is on the canvas
            return
        differs = np.ones(len(stood.ids), dtype=bool)
        differs[:here] = masked[part] | (ids[part] != stood.ids[:here])
        character = np.cumsum([piece != "" for piece in stood.pieces])
        changed = np.isin(character, character[differs])[:here]
        bounds = [0, *(np.flatnonzero(np.diff(changed)) + 1).tolist(), here]
        for begin, end in pairwise(bounds):
            run, old = slice(part.start + begin, part.start + end), stood[begin:end]
            yield (run, None, "".join(old.pieces)) if changed[begin] else (run, old, None)

    def _segment_text(self, ids: IntArray, masked: BoolArray, part: slice, given: AlignedText | None) -> str:
        return "".join(given.pieces) if given else self._decode(ids[part], masked[part])

    def _decode(self, ids: IntArray, masked: BoolArray) -> str:
        """Runs of settled tokens are decoded together, since a character may span several of them."""
        if not len(ids):
            return ""
        bounds = [0, *(np.flatnonzero(np.diff(masked)) + 1).tolist(), len(ids)]
        return "".join(
            MASK_SYMBOL * (stop - start) if masked[start] else self.tokenizer.decode(ids[start:stop])
            for start, stop in pairwise(bounds)
        )
