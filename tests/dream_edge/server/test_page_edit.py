"""A text on the page, changed in place."""

from __future__ import annotations

from typing import Any

import pytest

from support.page import Page
from support.serving import GatedNetwork

pytestmark = pytest.mark.slow


def test_a_selection_is_rewritten_in_place_and_pins_stay(page: tuple[Page, GatedNetwork]) -> None:
    opened, _ = page
    text = opened.one("#text").get_attribute("value")
    opened.select("home")
    opened.one("#pin").click()
    assert "home" in opened.text("#pins")
    opened.select("walked home because")
    opened.one("#rewrite").click()
    opened.until(lambda: "pass" in opened.text("#edited .told"))
    found = opened.text("#edited .canvas")
    assert found.startswith("The old man")
    assert " home" in found
    assert found.endswith(" he was hungry.")
    assert len(opened.all("#edited .cell.given")) < len(opened.all("#edited .cell"))
    opened.picture("edit.png")
    opened.one("#take").click()
    assert opened.one("#text").get_attribute("value") == found
    assert not opened.one("#draft").is_displayed()
    opened.one("#text").send_keys("\ue009z")  # Ctrl+Z
    assert opened.one("#text").get_attribute("value") == text


def test_holes_are_filled_and_made(page: tuple[Page, GatedNetwork]) -> None:
    opened, _ = page
    opened.pace(3)
    opened.select("walked home")
    opened.one("#hole").click()
    assert opened.one("#text").get_attribute("value") == "The old man[[2]] because he was hungry."
    opened.one("#fill").click()
    opened.until(lambda: "pass" in opened.text("#edited .told"))
    assert opened.text("#edited .canvas").endswith(" because he was hungry.")
    assert "[[" not in opened.text("#edited .canvas")


def test_selections_grow_to_words_and_holes_in_them_stay(page: tuple[Page, GatedNetwork]) -> None:
    opened, _ = page
    cut = """const { pieces, grown } = await import("/page/edit.js");
        const [text, from, to, pinned] = arguments;
        return pieces(text, [grown(text, from, to)], pinned);"""

    def pieces(text: str, words: str, *pinned: str) -> Any:
        start = len(text[: text.index(words)].encode("utf-16-le")) // 2  # as JavaScript counts
        return opened.run(cut, text, start, start + len(words.encode("utf-16-le")) // 2, list(pinned))

    assert pieces("A naïve cat", "ïv") == [{"text": "A"}, {"rewrite": " naïve"}, {"text": " cat"}]
    assert pieces("Кот спит", "от") == [{"rewrite": "Кот"}, {"text": " спит"}]
    assert pieces("a 👩‍🚀 b", "🚀") == [{"text": "a"}, {"rewrite": " 👩‍🚀"}, {"text": " b"}]
    assert pieces("We [[2]] it all", "e [[") == [{"rewrite": "We "}, {"hole": 2}, {"text": " it all"}]
    assert pieces("He ate the cake", "ate the cake", "he") == [{"text": "He"}, {"rewrite": " ate the cake"}]
    pinned = [{"text": "He"}, {"rewrite": " ate"}, {"text": " the"}, {"rewrite": " cake"}]
    assert pieces("He ate the cake", "ate the cake", "the") == pinned
