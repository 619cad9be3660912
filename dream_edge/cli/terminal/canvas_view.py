"""The canvas as a picture: masks, tokens just revealed in the colour of their confidence, settled text.

Pure: a step and a width and height go in, lines come out. Nothing is printed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from rich.cells import cell_len
from rich.text import Text

from dream_edge_runtime.generation.results import CUT_CHARACTER, MASK_SYMBOL, Step, character_at
from dream_edge_runtime.text.tokenizer import Tokenizer

from .io import is_control

MASK, GIVEN, SETTLED, SPECIAL = "grey50", "dim", "", "grey35"
SPECIAL_SYMBOL = "·"
_RECENT = 3  # steps for which a token keeps a tint of its confidence
_GRADES = ((0.9, "green"), (0.7, "yellow"), (0.4, "dark_orange"), (0.0, "red"))
"""Probability from which a colour stands."""


@dataclass(frozen=True)
class Piece:
    """Characters that share a style; `fresh` where a token was revealed since the last frame."""

    text: str
    style: str
    fresh: bool = False


@dataclass
class CanvasView:
    """Draws the steps of one generation, one frame for each."""

    tokenizer: Tokenizer
    _revealed: dict[int, tuple[int, float]] = field(default_factory=dict)  # position → step, confidence
    _drawn: int = 0  # the last step a frame showed
    _top: int = 0  # the first line shown

    def observe(self, step: Step) -> None:
        """Remember what `step` revealed, and where; not every step needs a frame."""
        if step.moved is not None:
            known = ((now, self._revealed.get(before)) for now, before in enumerate(step.moved.tolist()))
            self._revealed = {now: revealed for now, revealed in known if revealed is not None}
        for position, confidence in zip(step.revealed.tolist(), step.confidence.tolist(), strict=True):
            self._revealed[position] = (step.index, confidence)

    def frame(self, step: Step, width: int, height: int) -> list[Text]:
        """At most `height` lines of at most `width` cells: the canvas, or the part of it where things happen."""
        lines = list(wrap(self.pieces(step), width))
        self._drawn = step.index
        if len(lines) <= height:
            self._top = 0
            return [text for text, _ in lines]
        fresh = [number for number, (_, is_fresh) in enumerate(lines) if is_fresh]
        room = max(1, height - 2)  # one line above and one below say how much is hidden
        self._top = _scroll(self._top, room, len(lines), fresh)
        shown = [text for text, _ in lines[self._top : self._top + room]]
        if height < 3:
            return shown
        above, below = self._top, len(lines) - self._top - room
        return [_hidden(above, "above", width), *shown, _hidden(below, "below", width)]

    def pieces(self, step: Step) -> Iterator[Piece]:
        """The shown part of the canvas from left to right."""
        in_hole = {position for hole in step.holes for position in hole}
        position, end = step.shown.start, step.shown.stop
        while position < end:
            if step.masked[position]:
                yield Piece(MASK_SYMBOL, MASK)
                position += 1
                continue
            text, count = self._character(step, position, end)
            yield self._piece(step, range(position, position + count), text, position in in_hole)
            position += count

    def _piece(self, step: Step, positions: range, text: str, generated: bool) -> Piece:
        if not generated:
            return Piece(text, GIVEN)
        if text == SPECIAL_SYMBOL and self.tokenizer.is_special(int(step.ids[positions.start])):
            return Piece(text, SPECIAL, self._is_fresh(positions))
        known = [self._revealed[position] for position in positions if position in self._revealed]
        if not known:
            return Piece(text, SETTLED)
        revealed, confidence = max(known)
        color = next(color for least, color in _GRADES if confidence >= least)
        if revealed > self._drawn:
            return Piece(text, f"bold black on {color}", fresh=True)
        return Piece(text, color if revealed > step.index - _RECENT else SETTLED)

    def _is_fresh(self, positions: range) -> bool:
        return any(self._revealed.get(position, (0, 0.0))[0] > self._drawn for position in positions)

    def _character(self, step: Step, position: int, end: int) -> tuple[str, int]:
        """The text at `position`, and how many tokens it takes: a character may span several."""
        token = int(step.ids[position])
        if self.tokenizer.is_special(token):
            return SPECIAL_SYMBOL, 1
        text, count = character_at(self.tokenizer, step.ids, step.masked, position, end)
        return text or CUT_CHARACTER, count


def wrap(pieces: Iterable[Piece], width: int) -> Iterator[tuple[Text, bool]]:
    """Lines of at most `width` cells, and whether anything in each is fresh. Words stay whole where they can."""
    line: list[Piece] = []  # of one character each
    used = 0
    for character in _characters(pieces):
        cells = cell_len(character.text)
        if character.text == "\n":
            yield _join(line)
            line, used = [], 0
            continue
        if used + cells > width:
            kept = len(line) if character.text == " " else _last_break(line)
            if kept:
                yield _join(line[:kept])
            line = line[kept:]
            used = sum(cell_len(each.text) for each in line)
            if character.text == " ":
                continue
        if used + cells <= width:
            line.append(character)
            used += cells
    yield _join(line)


def _characters(pieces: Iterable[Piece]) -> Iterator[Piece]:
    for piece in pieces:
        for character in piece.text.replace("\r\n", "\n").replace("\t", "    "):
            yield Piece("�" if is_control(character) else character, piece.style, piece.fresh)


def _last_break(line: Sequence[Piece]) -> int:
    """The length of a full line to keep: up to its last space, mask or wide character, or else all of it."""
    for number in range(len(line), 0, -1):
        text = line[number - 1].text
        if text in (" ", MASK_SYMBOL) or cell_len(text) > 1:
            return number
    return len(line)


def _join(line: Sequence[Piece]) -> tuple[Text, bool]:
    text = Text(no_wrap=True, end="")
    for style, run in groupby(line, key=lambda character: character.style):
        text.append("".join(character.text for character in run), style)
    return text, any(character.fresh for character in line)


def header(step: Step, seconds: float, width: int) -> Text:
    """One line: step, bar, share, tokens a second; what does not fit `width` is left out."""
    revealed = sum(map(len, step.holes)) * step.progress
    counter = f"step {step.index}/{step.steps}"
    share = f"{step.progress:4.0%}"
    rate = f"{revealed / seconds:.1f} tokens/s" if seconds > 0 else ""
    line = Text(no_wrap=True, end="")
    bar = width - len(counter) - len(share) - len(rate) - 4
    if bar < 8:
        line.append(f"{step.index}/{step.steps} {share.strip()}"[:width], "bold")
        return line
    bar = min(bar, 40)
    done = round(step.progress * bar)
    line.append(f"{counter} ", "bold")
    line.append("━" * done, "cyan")
    line.append("━" * (bar - done), "grey30")
    line.append(f" {share}  {rate}")
    return line


def plain_line(step: Step) -> str:
    """A step for a log: everything on one line."""
    text = step.text.replace("\n", "⏎")
    return f"step {step.index}/{step.steps} {step.progress:4.0%}  {text}"


def _scroll(top: int, room: int, total: int, fresh: list[int]) -> int:
    """The first line to show: as before while the middle of what is fresh can be seen, else with it in the middle."""
    if fresh:
        focus = fresh[len(fresh) // 2]
        if not top <= focus < top + room:
            top = focus - room // 2
    return max(0, min(top, total - room))


def _hidden(count: int, where: str, width: int) -> Text:
    label = f"⋮ {count} more {where}" if count else ""
    return Text(label[:width], MASK, no_wrap=True, end="")
