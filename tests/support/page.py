"""The server's page, as a person uses it in a browser."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

QUESTION = "What is the opposite of hot?"
ANSWER = "The opposite of hot is cold."


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
