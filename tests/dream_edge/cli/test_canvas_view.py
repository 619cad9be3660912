"""The live canvas as lines of text."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from dream_edge.cli.terminal.canvas_view import CanvasView, Piece, header, plain_line, wrap
from dream_edge.cli.terminal.painter import Painter
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.generation.results import MASK_SYMBOL, CanvasReader, Step
from dream_edge_runtime.text.tokenizer import Tokenizer

WIDE = "漢字とかな\nnaïve 👍 text\tend 한국어 " * 4
MASK_ID = 0


@pytest.fixture(scope="module")
def tokenizer(random_artifact: Path) -> Tokenizer:
    return Artifact.open(random_artifact).tokenizer()


def step(
    tokenizer: Tokenizer,
    ids: list[int],
    *,
    masked: set[int] = frozenset(),  # type: ignore[assignment]
    revealed: dict[int, float] | None = None,
    hole: range | None = None,
    index: int = 1,
    moved: list[int] | None = None,
) -> Step:
    hole = range(len(ids)) if hole is None else hole
    at = np.array([position in masked for position in range(len(ids))], dtype=bool)
    chosen = revealed or {}
    return Step(
        index=index,
        steps=10,
        ids=np.where(at, MASK_ID, np.array(ids, dtype=np.int64)),
        masked=at,
        shown=range(len(ids)),
        holes=(hole,),
        revealed=np.array(list(chosen), dtype=np.int64),
        confidence=np.array(list(chosen.values()), dtype=np.float32),
        progress=1 - len(masked) / max(1, len(hole)),
        _reader=CanvasReader(tokenizer, 0),
        moved=None if moved is None else np.array(moved),
    )


def frame(view: CanvasView, shown: Step, width: int = 80, height: int = 24) -> list[str]:
    view.observe(shown)
    return [line.plain for line in view.frame(shown, width, height)]


@pytest.mark.parametrize("width", [1, 2, 20, 80, 200])
@pytest.mark.parametrize("masked_share", [0, 3, 7])
def test_no_line_is_wider_and_no_frame_higher_than_the_terminal(
    tokenizer: Tokenizer, width: int, masked_share: int
) -> None:
    ids = tokenizer.encode(WIDE)
    masked = {position for position in range(len(ids)) if position % 8 < masked_share}
    for height in (1, 2, 3, 10, 1000):
        lines = frame(CanvasView(tokenizer), step(tokenizer, ids, masked=masked), width, height)
        assert 0 < len(lines) <= height
        assert all(cell_len(line) <= width for line in lines)


def test_every_character_is_shown_once_and_in_order(tokenizer: Tokenizer) -> None:
    shown = frame(CanvasView(tokenizer), step(tokenizer, tokenizer.encode(WIDE)), 20, 1000)
    assert "".join(shown).replace(" ", "") == "".join(WIDE.split())


def test_colours_move_with_their_tokens(tokenizer: Tokenizer) -> None:
    """A hole grows by two positions and loses one; what was revealed stays as sure as it was."""
    view = CanvasView(tokenizer)
    ids = tokenizer.encode("abcd")
    assert len(ids) == 4
    frame(view, step(tokenizer, ids, masked={0, 1}, revealed={2: 0.95, 3: 0.1}))
    moved = step(tokenizer, [0, 0, 0, ids[2], ids[3]], masked={0, 1, 2}, index=2, moved=[0, -1, -1, 2, 3])
    view.observe(moved)
    pieces = [piece for piece in view.pieces(moved) if piece.text != MASK_SYMBOL]
    assert [(piece.text, piece.style) for piece in pieces] == [("c", "green"), ("d", "red")]


def test_line_ends_of_the_text_end_lines(tokenizer: Tokenizer) -> None:
    assert frame(CanvasView(tokenizer), step(tokenizer, tokenizer.encode("ab\n\ncd"))) == ["ab", "", "cd"]


def test_words_and_masks_are_wrapped_where_they_end() -> None:
    text = f"one two three{MASK_SYMBOL * 4}four abcdefghijkl m"
    lines = [text.plain for text, _ in wrap(iter([Piece(text, "")]), 8)]
    assert lines == ["one two ", f"three{MASK_SYMBOL * 3}", f"{MASK_SYMBOL}four ", "abcdefgh", "ijkl m"]


def test_wide_character_moves_to_the_next_line_rather_than_over_the_edge() -> None:
    assert [text.plain for text, _ in wrap(iter([Piece("a漢b", "")]), 2)] == ["a", "漢", "b"]


def test_masks_are_cells_of_their_own(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("abc")
    masked = set(range(len(ids)))
    assert frame(CanvasView(tokenizer), step(tokenizer, ids, masked=masked)) == [MASK_SYMBOL * len(ids)]


def test_character_with_a_masked_byte_is_shown_as_unreadable(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("漢")
    assert len(ids) > 1
    (line,) = frame(CanvasView(tokenizer), step(tokenizer, ids, masked={len(ids) - 1}))
    assert line == "�" + MASK_SYMBOL


def test_control_characters_cannot_steer_the_terminal(tokenizer: Tokenizer) -> None:
    (line,) = frame(CanvasView(tokenizer), step(tokenizer, tokenizer.encode("a\x1b[2Jb\x07")))
    assert line == "a�[2Jb�"


def test_special_tokens_are_dots(tokenizer: Tokenizer) -> None:
    special = min(tokenizer.special_ids)
    assert frame(CanvasView(tokenizer), step(tokenizer, [special, special])) == ["··"]


def test_color_of_a_fresh_token_tells_its_confidence(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a b")
    view = CanvasView(tokenizer)
    shown = step(tokenizer, ids, revealed={0: 0.95, len(ids) - 1: 0.1})
    view.observe(shown)
    first, *_, last = view.pieces(shown)
    assert (first.fresh, last.fresh) == (True, True)
    assert "green" in first.style
    assert "red" in last.style


def test_token_is_fresh_in_one_frame_and_settles(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a")
    view = CanvasView(tokenizer)
    frame(view, step(tokenizer, ids, revealed={0: 0.95}))
    tints = []
    for index in (2, 9):
        (piece,) = view.pieces(step(tokenizer, ids, index=index))
        tints.append((piece.fresh, piece.style))
    assert tints == [(False, "green"), (False, "")]


def test_tokens_of_steps_without_a_frame_are_fresh_in_the_next(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a b")
    view = CanvasView(tokenizer)
    view.observe(step(tokenizer, ids, revealed={0: 0.5}, masked={1}))
    later = step(tokenizer, ids, revealed={1: 0.5}, index=2)
    view.observe(later)
    assert all(piece.fresh for piece in view.pieces(later) if piece.text.strip())


def test_given_text_differs_from_generated(tokenizer: Tokenizer) -> None:
    given, generated = tokenizer.encode("ab"), tokenizer.encode("cd")
    hole = range(len(given), len(given) + len(generated))
    pieces = list(CanvasView(tokenizer).pieces(step(tokenizer, given + generated, hole=hole)))
    assert pieces[0].style != pieces[-1].style


def test_long_canvas_follows_what_happens(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("\n".join(str(number) for number in range(100)))
    view = CanvasView(tokenizer)
    top = frame(view, step(tokenizer, ids), height=10)
    assert top[1] == "0"
    assert top[-1] == "⋮ 92 more below"
    end = frame(view, step(tokenizer, ids, revealed={len(ids) - 1: 0.5}, index=2), height=10)
    assert end[-2:] == ["99", ""]
    assert end[0] == "⋮ 92 more above"
    still = frame(view, step(tokenizer, ids, index=3), height=10)
    assert still == end


@pytest.mark.parametrize("width", [1, 5, 20, 40, 80, 200])
def test_header_fits(tokenizer: Tokenizer, width: int) -> None:
    line = header(step(tokenizer, tokenizer.encode("abcdefgh"), masked={0, 1}), 2.0, width)
    assert line.cell_len <= width
    if width >= 40:
        assert line.plain.startswith("step 1/10 ━")
        assert "tokens/s" in line.plain


def test_plain_line_is_one_line(tokenizer: Tokenizer) -> None:
    assert plain_line(step(tokenizer, tokenizer.encode("a\nb"))) == "step 1/10 100%  a⏎b"


def test_painter_goes_back_over_lines_that_a_narrower_window_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(width=80, height=24, force_terminal=True, file=io.StringIO())
    with Painter(console) as painter:
        painter.draw([text for text, _ in wrap(iter([Piece("x" * 70 + "\n" + "y", "")]), 79)])
        console.width = 40  # the line of 70 takes two rows now
        painter.draw([])
    assert "\r\x1b[2A" in capsys.readouterr().err


def test_painter_leaves_the_cursor_visible_and_nothing_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    with Painter(Console(width=80, force_terminal=True, file=io.StringIO())) as painter:
        painter.draw([text for text, _ in wrap(iter([Piece("text", "")]), 79)])
    assert capsys.readouterr().err.endswith("\r\x1b[J\x1b[?25h")
