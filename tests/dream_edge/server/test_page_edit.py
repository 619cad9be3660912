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


def test_a_selection_is_checked_and_what_changed_is_marked(page: tuple[Page, GatedNetwork]) -> None:
    opened, _ = page
    opened.one("#text").clear()
    opened.one("#text").send_keys("😀 The old woman sings because she are happy.")
    opened.pace(3)
    opened.select("woman sings because she are")
    opened.one("#check").click()
    opened.until(lambda: "pass" in opened.text("#edited .told"))
    assert opened.text("#edited .canvas") == "😀 The old woman sings because she is happy."
    assert [each.get_attribute("textContent") for each in opened.all("#edited .changed")] == [" is"]
    assert opened.text("#edited .told").startswith("1 changed: ")
    line = opened.one("#edited .changed").value_of_css_property("text-decoration-line")
    assert line == "underline", "not by colour alone"
    opened.run("document.querySelector('#edited .changed').focus()")
    opened.until(lambda: opened.one("#others").is_displayed())
    assert opened.text("#others caption") == "Instead of: are"
    assert opened.one("#said").get_attribute("textContent").startswith("Instead of: are. Here could stand: is")
    opened.picture("checked.png")
    opened.one("#text").clear()
    opened.one("#text").send_keys("The old woman sings because she is happy.")
    opened.one("#check").click()  # all of it
    opened.until(lambda: "Nothing changed: " in opened.text("#edited .told"))
    assert opened.all("#edited .changed") == []


def test_what_is_written_is_held_to_a_rule(page: tuple[Page, GatedNetwork]) -> None:
    opened, _ = page
    opened.choose("#edit-rule", "one of these")
    opened.select("hungry")
    opened.one("#rewrite").click()
    assert opened.text("#trouble") == "Name a choice, one a line."
    opened.one("#edit-choices").send_keys("sad\ntired")
    opened.one("#rewrite").click()
    opened.until(lambda: "pass" in opened.text("#edited .told"))
    found = opened.text("#edited .canvas")
    assert found in ("The old man walked home because he was sad.", "The old man walked home because he was tired.")
    assert "".join(each.get_attribute("textContent") for each in opened.all("#edited .changed")) in ("sad", "tired")
    opened.picture("edit-rule.png")
    opened.select(" walked home")
    opened.one("#check").click()  # a draft need not be what the rule says
    opened.until(lambda: "changed: " in opened.text("#edited .told") and "pass" in opened.text("#edited .told"))
    assert not opened.one("#trouble").is_displayed()
    opened.choose("#edit-rule", "a number")
    opened.select("old")
    opened.one("#hole").click()
    assert opened.one("#text").get_attribute("value").startswith("The [[1]] man")
    opened.one("#fill").click()
    opened.until(lambda: "pass" in opened.text("#edited .told") and opened.text("#edited .canvas")[4].isdigit())


def test_the_edit_fits_narrow_in_both_themes(page: tuple[Page, GatedNetwork]) -> None:
    opened, _ = page
    opened.browser.set_window_size(420, 860)
    try:
        opened.one("#show-edit").click()
        opened.choose("#edit-rule", "JSON")
        opened.choose("#edit-fields .row select", "one of")
        assert opened.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        opened.choose("#edit-rule", "anything")
        opened.one("#check").click()
        opened.until(lambda: "pass" in opened.text("#edited .told"))
        for theme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": theme}]
            opened.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            opened.picture(f"edit-narrow-{theme}.png")
            assert opened.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        for control in opened.all("#edit button, #edit input, #edit textarea, #edit select, #edit summary"):
            assert control.accessible_name or not control.is_displayed(), control.get_attribute("outerHTML")
    finally:
        opened.browser.set_window_size(1280, 900)
        opened.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
