"""A real Chromium for the page: `apt install chromium chromium-driver`, `pip install --group browser`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from support.page import Page
from support.serving import GatedNetwork, gated, served


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    webdriver: Any = pytest.importorskip("selenium.webdriver", reason="needs --group browser")
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
