"""Dream editor: `python examples/desktop/main.py --help`."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import dream_edge
from dream_editor.passage import filling


def edit(path: Path | None, model: str, *, fills: bool) -> int:
    """Open the window."""
    from PySide6.QtWidgets import QApplication  # here, since printing needs no Qt

    from dream_editor.window import Window

    application = QApplication(sys.argv[:1])
    application.setApplicationDisplayName("Dream editor")
    window = Window()
    window.show()
    window.load(model)
    if path:
        window.open(path)
    if fills:
        window.fill()  # once the model is loaded: its thread does one thing after the other
    try:
        return application.exec()
    finally:
        window.writer.close()


def print_filled(path: Path, name: str) -> int:
    """The text of a file with its holes filled, on standard output; the rest of it stays as it is."""
    try:
        passage = filling(path.read_bytes().decode(), 0, 0)
        if passage is None:
            raise ValueError("there is no hole such as [[3]]")
        model = dream_edge.load(name)
        filled = model.fill(passage.template(model.count_tokens))
    except (dream_edge.DreamEdgeError, OSError, ValueError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(passage.filled(filled.holes).encode())
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description="A text editor in which Dream rewrites a selection or fills a gap.")
    parser.add_argument("file", nargs="?", type=Path, help="a text to open")
    parser.add_argument(
        "--model", default="tiny", help="the directory of an artifact (default: the bundled tiny Dream)"
    )
    parser.add_argument("--fill", action="store_true", help="fill the holes of the file at once")
    parser.add_argument("--print", action="store_true", help="print it filled, without a window")
    parser.add_argument("--verbose", action="store_true", help="tell on standard error what happens")
    arguments = parser.parse_args()
    if arguments.verbose:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    if arguments.file is None and (arguments.fill or arguments.print):
        parser.error("--fill and --print need a file")
    if arguments.print:
        return print_filled(arguments.file, arguments.model)
    return edit(arguments.file, arguments.model, fills=arguments.fill)


if __name__ == "__main__":
    sys.exit(main())
