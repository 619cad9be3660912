"""The form filler reads what the tiny model understands, and gives a valid record of any text."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import dream_edge

EXAMPLES = Path(__file__).parents[2] / "examples"
RIGHT = {
    "Yesterday Anna found two frogs.": {"who": "a woman", "when": "before", "how_many": "several"},
    "The king carries an umbrella.": {"who": "a man", "when": "now", "how_many": "one"},
    "The boys saw a big cake.": {"who": "several people", "when": "before", "how_many": "one"},
    "Now the queens want three eggs.": {"who": "several people", "when": "now", "how_many": "several"},
    "Tom followed the horses.": {"who": "a man", "when": "before", "how_many": "several"},
}


@pytest.fixture
def form_filler(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("form_filler")


def test_it_prints_what_each_sentence_says() -> None:
    command = [sys.executable, str(EXAMPLES / "form_filler.py"), *RIGHT]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert [json.loads(line) for line in told.splitlines()] == [*RIGHT.values()]


@pytest.mark.parametrize("text", ["", "?", "I met him, with his dog.", '}{"who": 1}', "[[2]] <|mask|>", "é😀\r\n" * 9])
def test_any_text_gives_a_valid_record(form_filler: Any, text: str) -> None:
    read: Callable[..., dict[str, Any]] = form_filler.read_record
    jsonschema.validate(read(dream_edge.load("tiny"), text), form_filler.SCHEMA)


def test_what_is_no_valid_record_is_told(form_filler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(form_filler.FIELDS["how_many"], " them", "a crowd")
    with pytest.raises(jsonschema.ValidationError, match="'a crowd' is not one of"):
        form_filler.read_record(dream_edge.load("tiny"), "Yesterday Anna found two frogs.")
