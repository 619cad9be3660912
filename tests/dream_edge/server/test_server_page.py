"""The page: its chat, and what holds for all of it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from support.page import ANSWER, QUESTION, Page
from support.serving import GatedNetwork, gated, served

pytestmark = pytest.mark.slow


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


def test_an_ending_is_met(page: tuple[Page, GatedNetwork]) -> None:
    opened, _ = page
    opened.one("#ending").send_keys(" is cold.")
    opened.run("document.getElementById('room').value = 8")
    opened.ask(QUESTION)
    opened.until(lambda: "pass" in opened.text(".told"))
    assert opened.text("#turns .answered .canvas").endswith(" is cold.")


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
