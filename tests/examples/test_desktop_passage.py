"""The desktop editor's part without a window: what the model is asked, where drafts stand, and `--print`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dream_edge_runtime.text.template import Draft, Template, parse_template
from dream_editor.draft import Place, after_edit, difference, to_own, to_shown
from dream_editor.passage import REACH, Hole, Passage, filling, inserting, rewriting

MAIN = Path(__file__).parents[2] / "examples" / "desktop" / "main.py"


def pieces(template: Template) -> list[str | int]:
    """The texts of `template`, and the sizes of its holes."""
    found = [piece for piece in parse_template(template) if not isinstance(piece, Draft)]
    return [piece if isinstance(piece, str) else piece.size for piece in found]


def words(text: str) -> int:
    return len(text.split())


def chosen(text: str) -> tuple[str, int, int]:
    """A text and the selection in it, which stands between bars: "a |word| here"."""
    start = text.index("|")
    stop = text.replace("|", "", 1).find("|")
    return text.replace("|", ""), start, start if stop < 0 else stop


# --- what the model is asked -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "template"),
    [
        ("The |old man| slept.", ["The", 2, " slept."]),
        ("The o|ld m|an slept.", ["The", 2, " slept."]),
        ("The| old man |slept.", ["The", 2, " slept."]),
        ("|The old| man.", [2, " man."]),
        ("He (|always|) slept.", ["He (", 1, ") slept."]),
        ("one\n|two three|", ["one\n", 2]),
    ],
)
def test_a_selection_is_written_anew_in_whole_words(text: str, template: list[str | int]) -> None:
    passage = rewriting(*chosen(text))
    assert passage is not None
    assert pieces(passage.template(words)) == template


@pytest.mark.parametrize("text", ["no|thing", "two| \n|words", "|"])
def test_without_a_word_there_is_nothing_to_write_anew(text: str) -> None:
    assert rewriting(*chosen(text)) is None


def test_holes_are_those_of_the_selection_or_of_the_whole_text() -> None:
    text = "The [[2]] sat on[[1]]. A [x] and [[y]] stay."
    whole, part = filling(text, 7, 7), filling(text, 12, 30)
    assert whole is not None
    assert part is not None
    assert pieces(whole.template(words)) == ["The", 2, " sat on", 1, ". A [x] and [[y]] stay."]
    assert [hole.size for hole in part.holes] == [1]
    assert filling("no hole", 0, 0) is None


@pytest.mark.parametrize(
    ("text", "template", "filled"),
    [
        ("The |cat sat.", ["The", 3, " cat sat."], "The<> cat sat."),
        ("The| cat sat.", ["The", 3, " cat sat."], "The<> cat sat."),
        ("The cat |", ["The cat", 3], "The cat <>"),
        ("The cat|.", ["The cat", 3, "."], "The cat<>."),
        ("|", [3], "<>"),
    ],
)
def test_a_gap_at_the_caret_leaves_its_space_to_the_word_after_it(
    text: str, template: list[str | int], filled: str
) -> None:
    plain, at, _ = chosen(text)
    passage = inserting(plain, at, 3)
    assert pieces(passage.template(words)) == template
    assert passage.filled(["<>"]) == filled


def test_a_word_does_not_bring_a_second_space() -> None:
    passage = filling("The [[1]] sat[[1]].", 0, 0)
    assert passage is not None
    assert passage.filled([" cat", " down"]) == "The cat sat down."


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), min_size=1, max_size=4), st.text(max_size=5))
def test_nothing_but_the_holes_changes(parts: list[tuple[str, str]], last: str) -> None:
    text, holes = "", []
    for before, old in parts:
        text += before
        holes.append(Hole(len(text), len(text) + len(old), 1))
        text += old
    filled = Passage(text + last, tuple(holes)).filled(["<new>"] * len(parts))
    assert filled == "".join(before + "<new>" for before, _ in parts) + last


def test_the_model_sees_the_neighbourhood_in_whole_words() -> None:
    text = "word " * 1000 + "[[2]] " + "word " * 1000
    passage = filling(text, 0, 0)
    assert passage is not None
    before, size, after = pieces(passage.template(words))
    assert isinstance(before, str)
    assert isinstance(after, str)
    assert size == 2
    assert REACH - 10 < len(before) <= REACH
    assert REACH - 10 < len(after) <= REACH
    assert {*before.split(), *after.split()} == {"word"}


# --- where drafts stand ----------------------------------------------------------------------------------------------


@st.composite
def placed(draw: st.DrawFn) -> tuple[tuple[Place, ...], int]:
    """Places in a text, and how long the text is."""
    places, at = [], 0
    for _ in range(draw(st.integers(1, 3))):
        start = at + draw(st.integers(0, 3))
        at = start + draw(st.integers(0, 3))
        places.append(Place(start, at, draw(st.integers(0, 4))))
        at += 1
    return tuple(places), at + draw(st.integers(0, 3))


def shown(places: tuple[Place, ...], size: int) -> list[int | None]:
    """The places of the user's own characters in the order they are shown, None for each of a draft."""
    cells: list[int | None] = []
    at = 0
    for place in places:
        cells += [*range(at, place.start), *[None] * place.length]
        at = place.stop
    return [*cells, *range(at, size)]


@given(placed())
def test_a_caret_before_a_character_stays_there(case: tuple[tuple[Place, ...], int]) -> None:
    places, size = case
    beside = {at for place in places for at in (place.start, place.stop)}  # there it may be on either side of a draft
    for at, own in enumerate(shown(places, size)):
        if own is not None and own not in beside:
            assert to_own(places, at) == own
            assert to_shown(places, own) == at


@given(placed())
def test_every_position_has_a_counterpart(case: tuple[tuple[Place, ...], int]) -> None:
    places, size = case
    length = len(shown(places, size))
    owns, showns = [to_own(places, at) for at in range(length + 1)], [to_shown(places, at) for at in range(size + 1)]
    assert owns == sorted(owns)
    assert showns == sorted(showns)
    assert 0 <= owns[0] <= owns[-1] <= size
    assert 0 <= showns[0] <= showns[-1] <= length


@given(placed(), st.data())
def test_drafts_follow_their_characters_through_an_edit(
    case: tuple[tuple[Place, ...], int], data: st.DataObject
) -> None:
    places, size = case
    at = data.draw(st.integers(0, size))
    removed, added = data.draw(st.integers(0, size - at)), data.draw(st.integers(0, 3))
    before = [*range(size)]
    after = [*before[:at], *[None] * added, *before[at + removed :]]
    moved = after_edit(places, at, removed, added)
    if moved is None:
        assert any({*range(place.start, place.stop + 1)} & {*range(at, at + removed + 1)} for place in places)
    else:
        kept = [before[place.start : place.stop] for place in places]
        assert [after[place.start : place.stop] for place in moved] == kept
        assert [place.length for place in moved] == [place.length for place in places]


@given(st.text("ab", max_size=6), st.text("ab", max_size=6))
def test_a_difference_leads_from_one_text_to_the_other(before: str, after: str) -> None:
    at, removed, added = difference(before, after)
    assert before[:at] + after[at : at + added] + before[at + removed :] == after
    assert not removed or not added or (before[at] != after[at])
    assert (removed, added) != (0, 0) or before == after


def test_an_edit_inside_a_draft_ends_it() -> None:
    assert after_edit((Place(3, 6, 9),), 4, 0, 1) is None
    assert after_edit((Place(3, 6, 9),), 2, 2, 0) is None
    assert after_edit((Place(3, 3, 9),), 2, 2, 0) is None
    assert after_edit((Place(3, 6, 9),), 3, 0, 1) == (Place(4, 7, 9),)
    assert after_edit((Place(3, 6, 9),), 6, 0, 1) == (Place(3, 6, 9),)


# --- without a window ------------------------------------------------------------------------------------------------


def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, str(MAIN), *arguments], capture_output=True, timeout=120)


def test_print_fills_the_holes_and_touches_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a letter – ä.txt"
    file.write_bytes("The old man [[1]] because he [[1]] hungry.\r\n\u00a0 A\u0308 😀".encode())
    done = run("--print", str(file))
    assert done.returncode == 0, done.stderr.decode()
    before, after = "The old man ", " hungry.\r\n\u00a0 A\u0308 😀"
    text = done.stdout.decode()
    assert text.startswith(before)
    assert text.endswith(after)
    first, because, second = text[len(before) : -len(after)].partition(" because he ")
    assert because
    assert first.isalpha()
    assert second.isalpha()


def test_print_needs_no_qt(tmp_path: Path) -> None:
    file = tmp_path / "letter.txt"
    file.write_text("The old man[[1]] because he[[1]] hungry.", "utf-8")
    program = f"""
import pathlib, sys
sys.path.insert(0, {str(MAIN.parent)!r})
import main
assert main.print_filled(pathlib.Path({str(file)!r}), "tiny") == 0
assert not [name for name in sys.modules if name.startswith(("PySide6", "torch"))]
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=120)


@pytest.mark.parametrize(
    ("text", "model", "said"),
    [("no hole", "tiny", "no hole such as [[3]]"), ("a [[1]]", "/no/artifact", "dream-edge export")],
)
def test_print_says_what_is_wrong(tmp_path: Path, text: str, model: str, said: str) -> None:
    file = tmp_path / "letter.txt"
    file.write_text(text, "utf-8")
    done = run("--print", str(file), "--model", model)
    assert done.returncode == 1
    assert said in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""
