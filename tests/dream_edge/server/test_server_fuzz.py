"""Requests made up from /openapi.json: whatever they are, no answer is a 5xx. Needs `--group fuzz`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from support.serving import ready

pytestmark = pytest.mark.slow

schemathesis: Any = pytest.importorskip("schemathesis", reason="needs --group fuzz")

EXAMPLES = 500
LENGTHS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
SECONDS = 120  # for one answer, on a machine that has other things to do
MOST = {**dict.fromkeys((*LENGTHS, "n_predict", "hole"), 12), "steps": 30, "n": 2}
"""More of these is allowed, and takes its time."""


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    with ready() as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


OPERATIONS = (
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/fim/completions"),
    ("POST", "/v1/fill"),
    ("POST", "/v1/alternatives"),
    ("POST", "/infill"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{name}"),
    ("GET", "/health"),
    ("GET", "/metrics"),
)


def test_all_operations_are_here(api: Any) -> None:
    found = {(each.ok().method.upper(), each.ok().path) for each in api.get_all_operations()}
    assert found == {*OPERATIONS}


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_request_breaks_it(api: Any, method: str, path: str) -> None:
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    @given(case=api[path][method].as_strategy())
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[*HealthCheck], database=None)
    def answered(case: Any) -> None:
        lessen(case.body)
        if isinstance(case.body, dict) and not {*LENGTHS} & case.body.keys():  # it is 128 otherwise
            if "messages" in case.body:
                case.body["max_tokens"] = MOST["max_tokens"]
            elif "input" in case.body:
                case.body["max_output_tokens"] = MOST["max_output_tokens"]
        response = case.call(timeout=SECONDS)
        assert response.status_code < 500, response.text
        # what fits the schema may still contradict itself, or end in somebody else's turn
        case.validate_response(response, excluded_checks=[positive_data_acceptance])

    answered()


def lessen(value: Any) -> None:
    """Bring every number that `MOST` names, at any depth of `value`, down to it."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in [*parts]:
        if name in MOST and isinstance(part, int | float) and part > MOST[name]:
            value[name] = MOST[name]
        else:
            lessen(part)
