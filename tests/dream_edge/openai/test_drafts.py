"""POST /v1/fill with drafts: what is written again, and how the answer tells what has changed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import dream_edge
from support.serving import served

WRONG = "The old woman sings because she are happy."
RIGHT = "The old woman sings because she is happy."


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    model = dream_edge.load("tiny", threads=1)
    with served(lambda: model) as address:
        while httpx.get(f"{address}/health").status_code == 503:
            time.sleep(0.05)
        yield f"{address}/v1/fill"


def stream(url: str, asked: dict[str, Any]) -> list[Any]:
    lines = httpx.post(url, json=asked | {"stream": True}, timeout=60).text.splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line and not line.endswith("[DONE]")]


def test_a_draft_is_mended_and_the_change_is_named(url: str) -> None:
    told = httpx.post(url, json={"pieces": [{"draft": WRONG}], "bos": True}).json()
    (choice,) = told["choices"]
    assert choice["text"] == RIGHT
    assert choice["changes"] == [{"start": 31, "stop": 34, "before": " are"}]
    assert told["usage"]["completion_tokens"] == 1
    right = httpx.post(url, json={"pieces": [{"draft": RIGHT}], "bos": True, "n": 2}).json()
    assert [(each["text"], each["changes"]) for each in right["choices"]] == [(RIGHT, []), (RIGHT, [])]


def test_a_piece_says_how_it_is_judged(url: str) -> None:
    def ask(**piece: float) -> Any:
        return httpx.post(url, json={"pieces": [{"draft": WRONG, **piece}], "bos": True}).json()

    kept = ask(bound=0, groups=7)
    assert kept["choices"][0]["text"] == WRONG
    assert kept["diffusion"]["passes"] == 7
    assert len(ask(bound=1)["choices"][0]["changes"]) > 1


@pytest.mark.parametrize("before", ["", "\U0001f600 e\u0301 "])
def test_changes_are_counted_in_code_points(url: str, before: str) -> None:
    pieces = [{"text": before}, {"draft": WRONG, "bound": 0.1, "groups": 8}, {"text": " It"}, {"rewrite": " rains"}]
    told = httpx.post(url, json={"pieces": pieces, "bos": True}).json()["choices"][0]
    text, changes = told["text"], told["changes"]
    for change in reversed(changes):
        text = text[: change["start"]] + change["before"] + text[change["stop"] :]
    assert text == f"{before}{WRONG} It rains"
    assert changes


@pytest.mark.parametrize("shows", [{}, {"diffusing": True}, {"stream_options": {"whole_blocks": True}}], ids=str)
@pytest.mark.parametrize("draft", [WRONG, RIGHT])
def test_the_last_event_of_a_stream_names_the_changes(url: str, shows: dict[str, Any], draft: str) -> None:
    asked: Any = {"pieces": [{"draft": draft}], "bos": True, **shows}
    events = stream(url, asked)
    choice = events[-1]["choices"][0]
    whole = choice["text"] if "diffusing" in shows else "".join(event["choices"][0]["text"] for event in events)
    assert whole == RIGHT
    assert choice["changes"] == ([] if draft == RIGHT else [{"start": 31, "stop": 34, "before": " are"}])
    assert all("changes" not in event["choices"][0] for event in events[:-1])


def test_a_rule_is_for_the_holes(url: str) -> None:
    asked = {"pieces": [{"draft": WRONG}, {"text": " No."}, {"hole": 3}], "regex": " [0-9]{2}", "bos": True}
    text = httpx.post(url, json=asked).json()["choices"][0]["text"]
    assert text.startswith(f"{RIGHT} No. ")
    assert text[-2:].isdigit()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"pieces": [{"draft": ""}]}, "pieces.0.draft: String should have at least 1 character"),
        ({"pieces": [{"draft": "a", "bound": 2}]}, "pieces.0.bound: Input should be less than or equal to 1"),
        ({"pieces": [{"draft": "a", "groups": 0}]}, "pieces.0.groups: Input should be greater than or equal to 1"),
        ({"pieces": [{"draft": "a", "limit": 1}]}, "pieces.0"),
        ({"pieces": [{"draft": "a"}], "regex": "b"}, "there are only drafts"),
        ({"pieces": [{"draft": "a"}], "max_hole_tokens": 9}, "max_hole_tokens"),
        ({"pieces": [{"draft": "word " * 9000}]}, "context"),
        ({"pieces": [{"text": "a"}]}, "no hole"),
    ],
    ids=lambda each: str(each)[:60],
)
def test_what_does_not_fit_is_refused_by_name(url: str, body: dict[str, Any], message: str) -> None:
    refused = httpx.post(url, json=body)
    assert refused.status_code == 400
    assert message in refused.json()["error"]["message"]
