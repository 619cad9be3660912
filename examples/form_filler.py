"""A free text becomes a validated record: `python examples/form_filler.py "Yesterday Anna found two frogs."`

The form is a sentence that goes on from the text, with a hole for each field. The tiny model only knows such sentences:
somebody does something to animals or things, now or yesterday. A larger one writes JSON itself: see docs/structured.md.
Needs `pip install jsonschema`.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import jsonschema

import dream_edge
from dream_edge import Hole

FIELDS = {
    "who": {" He": "a man", " She": "a woman", " They": "several people"},
    "when": {" liked": "before", " likes": "now", " like": "now"},
    "how_many": {" it": "one", " them": "several"},
}
"""What the model may write in each hole, and what that means."""

SCHEMA = {
    "type": "object",
    "properties": {name: {"enum": sorted(set(words.values()))} for name, words in FIELDS.items()},
    "required": list(FIELDS),
    "additionalProperties": False,
}


def read_record(model: dream_edge.DreamModel, text: str) -> dict[str, Any]:
    """The fields as `text` has them."""
    holes = [Hole(max(map(model.count_tokens, words)), choices=[*words]) for words in FIELDS.values()]
    written = model.fill([text, *holes, "."]).holes
    record = {name: words[word] for (name, words), word in zip(FIELDS.items(), written, strict=True)}
    jsonschema.validate(record, SCHEMA)
    return record


def main() -> int:
    parser = argparse.ArgumentParser(description="Read who did it, when, and to how many.")
    parser.add_argument("text", nargs="+", help="one sentence each")
    parser.add_argument(
        "--model", default="tiny", help="the directory of an artifact (default: the bundled tiny Dream)"
    )
    arguments = parser.parse_args()
    model = dream_edge.load(arguments.model)
    for text in arguments.text:
        print(json.dumps(read_record(model, text)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
