"""A hook of mkdocs: what the site holds besides docs/, so that links work in the repository and in the site alike.

The README is its home page; CHANGELOG and CONTRIBUTING are pages too; any other file that a page links to comes along
under files/. Pictures that come light and dark follow the page's switch. The table of generation options is made from
their declarations.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from dream_edge_runtime.generation.config import DEFAULTS, OPTIONS
from dream_edge_runtime.generation.options import PRESETS

PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
OPTIONS_PLACE = "<!-- generation options -->"
_SOURCES = {page: source for source, page in PAGES.items()}
_LINK = re.compile(r"(?P<before>\]\()(?P<target>(?!\w+:|#)[^)\s#]+)(?P<after>#[^)\s]*)?(?=\))")
_PICTURE = re.compile(
    r'<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="(?P<dark>[^"]+)">\s*'
    r'<img alt="(?P<alt>[^"]+)" src="(?P<light>[^"]+)">\s*</picture>'
)


def on_files(files: Any, *, config: Any) -> Any:
    root = Path(config.config_file_path).parent
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(root / source)))
    for file in list(files.documentation_pages()):
        for found in _LINK.finditer(file.content_string):
            place = _place(file.src_uri, found["target"])
            if place.startswith("files/") and place not in files.src_uris:
                if not (root / place.removeprefix("files/")).is_file():
                    continue  # mkdocs will say that this link leads nowhere
                files.append(File.generated(config, place, abs_src_path=str(root / place.removeprefix("files/"))))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    markdown = markdown.replace(OPTIONS_PLACE, tabulate_options())
    markdown = _PICTURE.sub(r"![\g<alt>](\g<light>#only-light)\n![\g<alt>](\g<dark>#only-dark)", markdown)
    return _LINK.sub(lambda found: _link(page.file.src_uri, found), markdown)


def _link(page: str, found: re.Match[str]) -> str:
    target = posixpath.relpath(_place(page, found["target"]), posixpath.dirname(page) or ".")
    return f"{found['before']}{target}{found['after'] or ''}"


def _place(page: str, target: str) -> str:
    """Where in the site the file lies that `target` means in the source of `page`."""
    source = _SOURCES.get(page, f"docs/{page}")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if path in PAGES:
        return PAGES[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"files/{path}"


def tabulate_options() -> str:
    """Two tables in Markdown: every option of a generation, and every preset."""
    rows = ["| option | default | values | what it does |", "|---|---|---|---|"]
    for name, option in OPTIONS.items():
        default = option.default_help or f"`{DEFAULTS[name]!r}`"
        source = f" ({option.source})" if option.source else ""
        values = option.kind.requirement.removeprefix("must ").removeprefix("be ")
        rows.append(f"| `{name}` | {default} | {values} | {option.explain()}{source} |")
    rows += ["", "| preset | what it does | source | options |", "|---|---|---|---|"]
    for name, preset in PRESETS.items():
        options = ", ".join(f"`{key}={value!r}`" for key, value in preset.settings.items())
        rows.append(f"| `{name}` | {preset.help} | {preset.source} | {options} |")
    return "\n".join(rows)
