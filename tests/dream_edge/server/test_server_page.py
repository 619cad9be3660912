"""The page in a real Chromium: `apt install chromium chromium-driver`, `pip install --group browser`."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.serving import GatedNetwork, gated, served

pytestmark = pytest.mark.slow

webdriver: Any = pytest.importorskip("selenium.webdriver", reason="needs --group browser")

QUESTION = "What is the opposite of hot?"
ANSWER = "The opposite of hot is cold."


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    assert chromium, "install Chromium to test the page: apt install chromium chromium-driver"
    assert driver, "install chromedriver to test the page: apt install chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    opened.set_window_size(1280, 900)
    yield opened
    opened.quit()


@pytest.fixture
def page(browser: Any) -> Iterator[tuple[Page, GatedNetwork]]:
    model, network = gated()
    network.gate.set()
    with served(lambda: model) as url:
        try:
            browser.get(url)
            browser.get_log("browser")  # what earlier pages said
            browser.execute_script("sessionStorage.clear()")
            browser.get(url)
            opened = Page(browser, url)
            opened.until(lambda: opened.text("#state") == "tiny")
            yield opened, network
            unexpected = [entry for entry in browser.get_log("browser") if "/health" not in entry["message"]]
            assert not [entry for entry in unexpected if entry["level"] == "SEVERE"]
        finally:
            network.gate.set()


class Page:
    """What a person does."""

    def __init__(self, browser: Any, url: str) -> None:
        self.browser, self.url = browser, url

    def until(self, holds: Any, seconds: float = 30) -> None:
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        waiting = WebDriverWait(self.browser, seconds, 0.05, [StaleElementReferenceException])
        waiting.until(lambda _browser: holds())

    def all(self, selector: str) -> list[Any]:
        return list(self.browser.find_elements("css selector", selector))

    def one(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        return str(self.one(selector).text)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def pace(self, value: int) -> None:
        self.run(
            "const p = document.getElementById('pace'); p.value = arguments[0]; p.dispatchEvent(new Event('input'))",
            value,
        )

    def ask(self, question: str) -> None:
        self.one("#question").send_keys(question + "\n")

    def select(self, words: str) -> None:
        script = """const t = document.getElementById('text'), at = t.value.indexOf(arguments[0]);
            t.focus(); t.setSelectionRange(at, at + arguments[0].length)"""
        self.run(script, words)

    def choose(self, selector: str, option: str) -> None:
        from selenium.webdriver.support.ui import Select

        Select(self.one(selector)).select_by_visible_text(option)

    def picture(self, name: str) -> None:
        folder = os.environ.get("DREAM_EDGE_PICTURES")
        if folder:
            self.browser.save_screenshot(str(Path(folder) / name))


def test_chat_shows_the_denoising_and_its_timeline(page: tuple[Page, GatedNetwork]) -> None:
    opened, network = page
    opened.pace(3)
    network.gate.clear()
    opened.ask(QUESTION)
    opened.until(lambda: opened.one("#send").get_attribute("disabled"))
    threading.Timer(0.5, network.gate.set).start()
    opened.until(lambda: opened.text("#turns .answered .canvas") == ANSWER)
    assert "pass" in opened.text(".told")
    assert "tokens/s" in opened.text("#speed")
    assert opened.text(".asked") == QUESTION
    last = int(opened.one(".timeline input").get_attribute("max"))
    assert last > 20
    scrub = """const slider = document.querySelector('.timeline input');
        slider.value = arguments[0]; slider.dispatchEvent(new Event('input'))"""
    opened.run(scrub, 0)
    masks = len(opened.all(".cell.masked"))
    assert masks > 40
    assert opened.text(".timeline output").startswith("step 1 of")
    opened.run(scrub, last // 2)
    assert 0 < len(opened.all(".cell.masked")) < masks
    opened.picture("chat.png")
    opened.run(scrub, last)
    assert opened.text("#turns .answered .canvas") == ANSWER


def test_a_conversation_goes_on_and_outlives_a_reload(page: tuple[Page, GatedNetwork]) -> None:
    opened, _ = page
    opened.ask(QUESTION)
    opened.until(lambda: opened.text("#turns .answered .canvas") == ANSWER and "pass" in opened.text(".told"))
    opened.ask("What sound does the dog make?")
    opened.until(lambda: len(opened.all(".told")) == 2 and "pass" in opened.all(".told")[1].text)
    kept = [each.text for each in opened.all("#turns .answered .canvas")]
    opened.browser.refresh()
    opened.until(lambda: len(opened.all("#turns li")) == 4)
    assert [each.text for each in opened.all("#turns li")] == [
        QUESTION,
        kept[0],
        "What sound does the dog make?",
        kept[1],
    ]
    opened.one("#clear").click()
    assert opened.all("#turns li") == []


def test_stop_stops_the_server_too(page: tuple[Page, GatedNetwork]) -> None:
    opened, network = page
    network.gate.clear()
    opened.ask(QUESTION)
    assert network.entered.wait(20)
    opened.one("#stop").click()
    opened.until(lambda: opened.text(".told") == "Stopped.")
    assert network.cancelled.wait(5)
    assert opened.one("#question").get_attribute("value") == QUESTION
    network.gate.set()
    opened.one("#send").click()
    opened.until(lambda: opened.all(".answered .canvas")[-1].text == ANSWER)


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


def test_an_ending_is_met(page: tuple[Page, GatedNetwork]) -> None:
    opened, _ = page
    opened.one("#ending").send_keys(" is cold.")
    opened.run("document.getElementById('room').value = 8")
    opened.ask(QUESTION)
    opened.until(lambda: "pass" in opened.text(".told"))
    assert opened.text("#turns .answered .canvas").endswith(" is cold.")


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


def test_alternatives_are_named(page: tuple[Page, GatedNetwork]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    opened, _ = page
    opened.ask(QUESTION)
    opened.until(lambda: "pass" in opened.text(".told"))
    cold = next(each for each in opened.all("#turns .token") if each.text.strip() == "cold")
    ActionChains(opened.browser).move_to_element(cold).perform()
    opened.until(lambda: opened.one("#others").is_displayed())
    assert "cold" in opened.text("#others .chosen")
    assert "%" in opened.text("#others")
    opened.picture("alternatives.png")
    ActionChains(opened.browser).send_keys("\ue00c").perform()
    opened.until(lambda: not opened.one("#others").is_displayed())


def test_it_finds_the_server_again(browser: Any) -> None:
    model, network = gated()
    with served(lambda: model) as url:
        port = int(url.rpartition(":")[2])
        browser.get(url)
        opened = Page(browser, url)
        opened.until(lambda: opened.text("#state") == "tiny")
        opened.ask(QUESTION)
        assert network.entered.wait(20)
    opened.until(lambda: opened.text("#state") == "Not connected")
    assert "Trying again" in opened.text("#trouble")
    network.gate.set()
    with served(lambda: model, port=port):
        opened.until(lambda: opened.text("#state") == "tiny")
        assert not opened.one("#trouble").is_displayed()
        opened.one("#send").click()
        opened.until(lambda: opened.all(".answered .canvas")[-1].text == ANSWER)


def test_it_asks_nobody_else_and_fits_narrow_and_dark(page: tuple[Page, GatedNetwork]) -> None:
    opened, _ = page
    opened.ask(QUESTION)
    opened.until(lambda: "pass" in opened.text(".told"))
    asked = [entry["name"] for entry in opened.run("return performance.getEntriesByType('resource')")]
    assert asked
    assert all(each.startswith(opened.url) for each in asked)
    opened.browser.set_window_size(420, 860)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    try:
        opened.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": dark})
        opened.choose("#rule", "JSON")
        opened.choose("#fields select", "one of")
        assert opened.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert not opened.one("#edit").is_displayed()
        opened.picture("narrow-dark.png")
        opened.one("#show-edit").click()
        assert opened.one("#edit").is_displayed()
        assert not opened.one("#chat").is_displayed()
    finally:
        opened.browser.set_window_size(1280, 900)
        opened.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_everything_has_a_name_for_those_who_do_not_see_it(page: tuple[Page, GatedNetwork]) -> None:
    opened, _ = page
    opened.choose("#rule", "JSON")
    opened.one("#rule-json summary").click()
    opened.choose("#fields .row select", "one of")
    for control in opened.all("#ask button, #ask input, #ask textarea, #ask select, #ask summary"):
        assert control.accessible_name or not control.is_displayed(), control.get_attribute("outerHTML")
    opened.choose("#rule", "anything")
    opened.ask(QUESTION)
    opened.until(lambda: "pass" in opened.text(".told"))
    for control in opened.all("button, input, textarea, select, summary"):
        if control.is_displayed():
            assert control.accessible_name, control.get_attribute("outerHTML")
    text = opened.one("#turns .answered .canvas")
    assert text.get_attribute("aria-hidden") is None
    assert len(opened.all("#turns .answered [tabindex='0']")) == 1  # one stop of Tab, whatever its length
    assert opened.one("#said").get_attribute("textContent") == ANSWER
    assert opened.run("return getSelection().selectAllChildren(arguments[0]) ?? String(getSelection())", text) == ANSWER


def test_words_are_gone_through_by_keyboard(page: tuple[Page, GatedNetwork]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    opened, _ = page
    opened.ask(QUESTION)
    opened.until(lambda: "pass" in opened.text(".told"))
    opened.run("document.querySelector('#turns .token').focus()")
    ActionChains(opened.browser).send_keys("\ue010\ue012").perform()  # End, to the left
    assert opened.browser.switch_to.active_element.text.strip() == "cold"
    opened.until(lambda: opened.one("#others").is_displayed())
    assert "cold" in opened.text("#others .chosen")
    assert "Here could stand: cold" in opened.one("#said").get_attribute("textContent")
    ActionChains(opened.browser).send_keys("\ue011").perform()  # Home
    assert opened.browser.switch_to.active_element.text == "The"


def test_words_may_be_tapped(page: tuple[Page, GatedNetwork]) -> None:
    opened, _ = page
    opened.ask(QUESTION)
    opened.until(lambda: "pass" in opened.text(".told"))
    place = """const words = [...document.querySelectorAll('#turns .token')];
        const word = words.find((each) => each.textContent === ' cold');
        const { x, y, width, height } = word.getBoundingClientRect();
        return { x: x + width / 2, y: y + height / 2 }"""
    opened.browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        point = opened.run(place)
        opened.browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
        opened.browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        opened.until(lambda: opened.one("#others").is_displayed())
        assert "cold" in opened.text("#others .chosen")
    finally:
        opened.browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def test_what_looks_like_markup_is_text(page: tuple[Page, GatedNetwork]) -> None:
    opened, _ = page
    markup = "<img src=x onerror=\"document.title='mine'\"> **bold** <b>"
    opened.one("#ending").send_keys(markup)
    opened.ask(f"<i>{QUESTION}</i>")
    opened.until(lambda: "pass" in opened.text(".told"))
    assert opened.text("#turns .answered .canvas").endswith(markup)
    assert opened.text(".asked") == f"<i>{QUESTION}</i>"
    assert opened.all("#turns img, #turns b, #turns i") == []
    assert opened.browser.title == "dream-edge"


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


def test_a_full_queue_is_told_and_forgotten(browser: Any) -> None:
    model, network = gated()
    with served(lambda: model, queue=1) as url:
        browser.get(url)
        browser.execute_script("sessionStorage.clear()")
        opened = Page(browser, url)
        opened.until(lambda: opened.text("#state") == "tiny")
        with ThreadPoolExecutor(2) as pool:
            asked = {"prompt": "The", "max_tokens": 1}
            others = [pool.submit(httpx.post, f"{url}/v1/completions", json=asked, timeout=60) for _ in range(2)]
            opened.until(lambda: httpx.get(f"{url}/health").json() == {"status": "busy", "waiting": 1})
            opened.ask(QUESTION)
            opened.until(lambda: "Ask again in" in opened.text("#trouble"))
            assert opened.one("#question").get_attribute("value") == QUESTION
            network.gate.set()
            assert all(each.result().status_code == 200 for each in others)
        opened.one("#send").click()
        opened.until(lambda: opened.all(".answered .canvas")[-1].text == ANSWER)
        assert not opened.one("#trouble").is_displayed()


def test_with_a_key_the_browser_asks_for_it(browser: Any) -> None:
    with served(lambda: gated()[0], api_key="s3cret") as url:
        browser.get(url)
        assert browser.find_elements("css selector", "#state") == []  # nobody types it here
        browser.get(url.replace("//", "//anybody:s3cret@"))
        browser.get(url)  # the browser remembers what it was told
        opened = Page(browser, url)
        opened.until(lambda: opened.text("#state") == "tiny")
