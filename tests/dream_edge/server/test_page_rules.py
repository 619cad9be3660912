"""What an answer on the page must match."""

from __future__ import annotations

import json
import re

import pytest

from support.page import ANSWER, QUESTION, Page
from support.serving import GatedNetwork

pytestmark = pytest.mark.slow


def answer(opened: Page, question: str) -> str:
    opened.ask(question)
    opened.until(lambda: "pass" in opened.text(".told"))
    return str(opened.one("#turns .answered .canvas").get_attribute("textContent"))


def test_an_answer_is_one_of_several(page: tuple[Page, GatedNetwork]) -> None:
    opened, _ = page
    opened.choose("#rule", "one of these")
    opened.one("#choices").send_keys("The frog is green.\n\n  The frog is purple. \nThe frog is loud.")
    opened.pace(3)
    assert answer(opened, "What color is the frog?") == "The frog is green."
    assert opened.all("#turns .answered .certain"), "the beginning is the same"
    assert len(opened.all("#turns .answered .certain")) < len(opened.all("#turns .answered .cell"))
    opened.picture("choices.png")


def test_an_answer_is_a_number(page: tuple[Page, GatedNetwork]) -> None:
    opened, _ = page
    opened.choose("#rule", "a number")
    assert re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", answer(opened, "How much is 3 plus 4?"))


def test_an_answer_is_json_by_a_form(page: tuple[Page, GatedNetwork]) -> None:
    opened, _ = page
    opened.choose("#rule", "JSON")
    for at, (name, kind) in enumerate(
        [("animal", "one of"), ("legs", "number"), ("flies", "yes or no"), ("", "text")], 1
    ):
        if at > 1:
            opened.one("#add-field").click()
        row = f"#fields .row:nth-child({at})"
        opened.one(f"{row} input").send_keys(name)
        opened.choose(f"{row} select", kind)
        if kind == "one of":
            opened.one(f"{row} input + select + input").send_keys("owl, frog")
    opened.one("#add-field").click()
    assert opened.browser.switch_to.active_element.accessible_name == "Field 5: Name"
    opened.browser.switch_to.active_element.send_keys("wrong")
    opened.one("#fields .row:nth-child(5) button").click()
    opened.picture("form.png")
    found = json.loads(answer(opened, "What sound does the frog make?"))
    assert list(found) == ["animal", "legs", "flies"]
    assert found["animal"] in ("owl", "frog")
    assert isinstance(found["legs"], int | float)
    assert isinstance(found["flies"], bool)
    assert opened.all("#turns .answered .certain")
    opened.picture("json.png")


def test_an_answer_is_json_by_a_schema(page: tuple[Page, GatedNetwork]) -> None:
    opened, _ = page
    opened.choose("#rule", "JSON")
    opened.one("#rule-json summary").click()
    opened.one("#schema").send_keys('{"type": "array", "items": {"enum": [1, 2]}, "minItems": 3, "maxItems": 3}')
    found = json.loads(answer(opened, "How much is 3 plus 4?"))
    assert len(found) == 3
    assert set(found) <= {1, 2}


def test_what_is_wrong_with_a_rule_is_said_and_the_question_stays(page: tuple[Page, GatedNetwork]) -> None:
    opened, network = page
    opened.choose("#rule", "one of these")
    opened.ask(QUESTION)
    assert opened.text("#trouble") == "Name a choice, one a line."
    opened.choose("#rule", "JSON")
    opened.one("#send").click()
    assert opened.text("#trouble") == "Name a field of the JSON, or paste a schema."
    opened.one("#fields input").send_keys("size")
    opened.choose("#fields select", "one of")
    opened.one("#send").click()
    assert opened.text("#trouble") == "Name what size is one of."
    opened.one("#rule-json summary").click()
    opened.one("#schema").send_keys("{")
    opened.one("#send").click()
    assert opened.text("#trouble").startswith("The schema is no JSON: ")
    assert opened.all("#turns li") == []
    assert network.passes == 0
    assert opened.one("#question").get_attribute("value") == QUESTION
    opened.one("#schema").send_keys('"$ref": "#"}')
    opened.one("#send").click()
    opened.until(lambda: "the schema leads back to itself" in opened.text("#trouble"))  # the server's own words
    assert opened.one("#question").get_attribute("value") == QUESTION
    opened.browser.get_log("browser")  # the 400
    opened.choose("#rule", "anything")
    opened.one("#send").click()
    opened.until(lambda: opened.all(".answered .canvas")[-1].text == ANSWER)
    assert not opened.one("#trouble").is_displayed()
    assert opened.all(".certain:not(.hint *)") == []
