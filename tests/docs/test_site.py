"""The manual as a site: built strictly, complete, and asking nothing of anybody."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from dream_edge_runtime.generation.config import OPTIONS
from dream_edge_runtime.generation.options import PRESETS
from dream_edge_runtime.generation.reveal import STRATEGIES
from support.documents import ROOT

PACKAGES = ["dream_edge", "dream_edge.batches", "dream_edge.hub", "dream_edge.quality", "dream_edge.server"]
PACKAGES += ["dream_edge_export.quantize.calibrate"]
ERRORS = (
    "dream_edge_runtime.errors",
    "dream_edge_export.errors",
    "dream_edge.batches.errors",
    "dream_edge.hub.errors",
    "dream_edge.quality.errors",
)
PUBLIC = [f"{package}.{name}" for package in PACKAGES for name in import_module(package).__all__]
PUBLIC += [
    f"{module}.{name}"
    for module in ERRORS
    for name, value in vars(import_module(module)).items()
    if inspect.isclass(value) and value.__module__ == module
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_the_reference_lists_every_option_and_preset(site: Path) -> None:
    text = (site / "reference" / "models.html").read_text(encoding="utf-8")
    for name in (*OPTIONS, *PRESETS, *STRATEGIES):
        assert name in text
    assert "<code>threshold</code></td>" in text


class Page(HTMLParser):
    """What a page loads, what it links to, and what it has for links from elsewhere."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded, self.links, self.anchors = list[str](), list[str](), set[str]()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.loaded += [given[name] for name in ("src", "srcset", "poster", "data") if given.get(name)]
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(given["href"])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if "id" in given:
            self.anchors.add(given["id"])


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def test_the_readme_and_the_changes_are_pages_and_files_elsewhere_come_along(site: Path) -> None:
    assert "Two minutes, without PyTorch" in (site / "index.html").read_text(encoding="utf-8")
    assert (site / "changelog.html").is_file()
    example = site / "files" / "examples" / "javascript" / "dream.mjs"
    assert example.read_bytes() == (ROOT / "examples" / "javascript" / "dream.mjs").read_bytes()


def test_pages_load_nothing_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert not [each for each in page.loaded if urlsplit(each).netloc], path
    for path in site.rglob("*.css"):
        assert not re.findall(r"url\(['\"]?(?:https?:)?//", path.read_text(encoding="utf-8")), path


def test_links_lead_somewhere(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        if path.name == "404.html":  # shown at any address, so its links begin at the root
            continue
        for each in (*page.links, *page.loaded):
            link = urlsplit(each)
            if link.scheme or link.netloc:
                continue
            target = (path.parent / unquote(link.path)).resolve() if link.path else path
            assert target.exists(), (path, each)
            if link.fragment and target in pages and not link.fragment.startswith(("__", "only-")):
                assert unquote(link.fragment) in pages[target].anchors, (path, each)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_in_the_reference(name: str, pages: dict[Path, Page]) -> None:
    value = getattr(import_module(name.rpartition(".")[0]), name.rpartition(".")[2])
    names = {name, f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"}
    assert [path for path, page in pages.items() if path.parent.name == "reference" and names & page.anchors]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_says_what_it_is(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    value = getattr(import_module(module), attribute)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return  # a constant: what follows it in its file is on the page
    assert describes(value), name
    for member, part in vars(value).items() if inspect.isclass(value) else ():
        if not member.startswith("_") and (inspect.isfunction(part) or isinstance(part, classmethod | property)):
            assert describes(part), f"{name}.{member}"


def describes(value: Any) -> bool:
    """Whether it has a docstring of its own; dataclasses get one made of their fields."""
    text: str = value.__dict__.get("__doc__") or "" if inspect.isclass(value) else value.__doc__ or ""
    return bool(text.strip()) and not text.startswith(f"{getattr(value, '__name__', '')}(")
