"""Who is let in: hosts, origins, keys, and bodies of the right kind and size."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

import dream_edge
from dream_edge.server import Engine, ServerSettings, build_app
from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.model import DreamModel
from support.serving import gated, served

ASKED = {"messages": [{"role": "user", "content": "What sound does the dog make?"}], "max_tokens": 4}
HERE = "http://127.0.0.1:8080"


@pytest.fixture(scope="module")
def model() -> DreamModel:
    return dream_edge.load("tiny", threads=1)


@contextmanager
def client(model: DreamModel, **settings: Any) -> Iterator[TestClient]:
    given = ServerSettings(**settings)
    engine = Engine(lambda: model, given.queue)
    with TestClient(build_app(engine, "tiny", given, "0"), base_url=HERE) as opened:
        while engine.state == "loading":
            time.sleep(0.01)
        yield opened


@pytest.fixture(scope="module")
def http(model: DreamModel) -> Iterator[TestClient]:
    """A client of a server with the default settings."""
    with client(model) as opened:
        yield opened


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8080", "localhost:1", "LOCALHOST", "[::1]:8080"])
def test_this_machine_is_answered(http: TestClient, host: str) -> None:
    assert http.get("/health", headers={"Host": host}).json() == {"status": "ready", "waiting": 0}


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "127.0.0.1:8080@evil", "", "a b", "localhost:", "localhost.", "127.1"],
)
def test_a_name_that_was_made_to_point_here_is_not(http: TestClient, host: str) -> None:
    assert http.get("/health", headers={"Host": host}).status_code in (400, 421)
    assert http.post("/v1/chat/completions", json=ASKED, headers={"Host": host}).status_code in (400, 421)


def test_other_names_are_answered_when_they_are_named(model: DreamModel) -> None:
    with client(model, allowed_hosts=("box.lan",)) as http:
        assert http.get("/health", headers={"Host": "box.lan:8080"}).status_code == 200
        assert http.get("/health", headers={"Host": "other.lan:8080"}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "http://127.0.0.1:8080.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    ],
)
def test_pages_of_other_origins_are_refused(http: TestClient, headers: dict[str, str]) -> None:
    assert code(http.post("/v1/chat/completions", json=ASKED, headers=headers)) == (403, "foreign_origin")
    assert code(http.get("/v1/models", headers=headers)) == (403, "foreign_origin")


def test_an_own_page_and_an_allowed_one_may_ask(model: DreamModel) -> None:
    own = {"Origin": HERE, "Sec-Fetch-Site": "same-origin"}
    friend = {"Origin": "https://friend.example", "Sec-Fetch-Site": "cross-site"}
    own_headers = "authorization,content-type,x-stainless-lang"  # of OpenAI's client for browsers
    preflight = {**friend, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": own_headers}
    with client(model) as http:
        answer = http.post("/v1/chat/completions", json=ASKED, headers=own)
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers
        assert http.options("/v1/chat/completions", headers=preflight).status_code == 403
    with client(model, allowed_origins=("https://friend.example",)) as http:
        allowed = http.options("/v1/chat/completions", headers=preflight)
        assert allowed.status_code == 200
        assert "access-control-allow-private-network" not in allowed.headers
        assert "x-stainless-lang" in allowed.headers["access-control-allow-headers"]
        answer = http.post("/v1/chat/completions", json=ASKED, headers=friend)
        assert answer.headers["access-control-allow-origin"] == "https://friend.example"
        other = http.post("/v1/chat/completions", json=ASKED, headers={"Origin": "https://enemy.example"})
        assert other.status_code == 403


def test_an_allowed_page_of_a_public_network_may_reach_this_machine(model: DreamModel) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Private-Network": "true"}
    with client(model, allowed_origins=("https://friend.example",)) as http:
        for origin, status, answer in (("https://friend.example", 200, "true"), ("https://enemy.example", 400, None)):
            allowed = http.options("/v1/chat/completions", headers={**asked, "Origin": origin})
            assert allowed.status_code == status
            assert allowed.headers.get("access-control-allow-private-network") == answer


@pytest.mark.parametrize("origin", ["app://obsidian.md", "chrome-extension://abcdefgh", "http://box.lan:81"])
def test_origins_of_any_scheme_may_be_allowed(model: DreamModel, origin: str) -> None:
    with client(model, allowed_origins=(origin,)) as http:
        answer = http.get("/v1/models", headers={"Origin": origin, "Sec-Fetch-Site": "cross-site"})
        assert answer.headers["access-control-allow-origin"] == origin
    for wrong in (f"{origin}/", origin.partition("://")[2], f"{origin}/page", f"{origin} "):
        with pytest.raises(InvalidOption, match="allowed_origins"):
            ServerSettings(allowed_origins=(wrong,))


@pytest.mark.parametrize("path", ["/health", "/metrics", "/v1/models", "/openapi.json", "/nowhere"])
def test_with_a_key_every_route_wants_it(model: DreamModel, path: str) -> None:
    basic = base64.b64encode(b"anybody:s3cret").decode()
    with client(model, api_key="s3cret") as http:
        for wrong in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "s3cret"},
            {"Authorization": "Basic =="},
        ):
            refused = http.get(path, headers=wrong)
            assert code(refused) == (401, "invalid_api_key")
            challenges = refused.headers.get_list("www-authenticate")
            assert [each.split()[0] for each in challenges] == ["Bearer", "Basic"]
        for right in ("Bearer s3cret", "bearer s3cret", f"Basic {basic}"):
            assert http.get(path, headers={"Authorization": right}).status_code == (404 if path == "/nowhere" else 200)


@pytest.mark.parametrize("key", ["", " ", "with space", "line\n", "schlüssel", "x" * 5000])
def test_a_key_that_no_header_could_carry_is_refused(key: str) -> None:
    with pytest.raises(InvalidOption, match="printable ASCII"):
        ServerSettings(api_key=key)


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/health", "/nowhere", "/v1/models"])
def test_nothing_is_taken_for_another_kind_of_file(http: TestClient, path: str) -> None:
    assert http.get(path).headers["x-content-type-options"] == "nosniff"
    assert http.get(path, headers={"Host": "evil.example"}).headers["x-content-type-options"] == "nosniff"


def test_the_page_may_not_be_framed_nor_ask_elsewhere(http: TestClient) -> None:
    policy = http.get("/").headers["content-security-policy"]
    for part in ("default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"):
        assert part in policy


def test_what_nobody_foresaw_gets_the_envelope_and_no_words(
    model: DreamModel, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_text: str) -> list[int]:
        raise RuntimeError("the secret prompt")

    broken = replace(model, tokenizer=SimpleNamespace(encode=fail))  # type: ignore[arg-type]
    with client(broken) as http:
        answer = http.post("/v1/completions", json={"prompt": "the secret prompt"})
        assert code(answer) == (500, "internal")
        assert "secret" not in answer.text + caplog.text


def test_a_text_that_no_canvas_holds_is_refused_before_it_is_tokenized(model: DreamModel) -> None:
    asked = {
        "/v1/completions": {"prompt": "a" * 600_000},
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "a" * 100_000}] * 6},
        "/v1/alternatives": {"before": "a" * 600_000},
    }
    unusable = replace(model, tokenizer=SimpleNamespace())  # type: ignore[arg-type]
    with client(unusable) as http:
        for path, body in asked.items():
            assert code(http.post(path, json=body)) == (400, "context_length_exceeded")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "my.lan"])
def test_other_machines_are_let_in_with_a_key_only(host: str) -> None:
    with pytest.raises(InvalidOption, match="api_key"):
        ServerSettings(host=host)
    assert ServerSettings(host=host, api_key="k").hosts is None


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/json2"])
def test_only_json_is_read(http: TestClient, kind: str) -> None:
    body = json.dumps(ASKED)
    refused = http.post("/v1/chat/completions", content=body, headers={"Content-Type": kind})
    assert code(refused) == (415, "unsupported_media_type")
    kind = "application/json; charset=utf-8"
    assert http.post("/v1/chat/completions", content=body, headers={"Content-Type": kind}).status_code == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is missing"),
        (b"[]", "holds a JSON list, expected an object"),
        (b"{", "line 1 column 2"),
        (b'{"n": 1,}', "not valid JSON"),
        (b'{"messages": NaN}', "NaN is not a JSON number"),
        (b'{"temperature": 1e999}', "a number that no 64-bit float is near"),
        (b'{"n": 1, "n": 2}', "key 'n' is repeated"),
        (b'{"user": "\\ud83d"}', "half a character"),
        (b'{"\\udfff": 1}', "half a character"),
        (b'\xff\xfe{"a": 1}', "not valid JSON"),
        (b'{"metadata": ' + b'{"a":' * 80 + b"1" + b"}" * 80 + b"}", "nested more than 64 deep"),
        (b'{"metadata": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not valid JSON"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"seed": 99999999999999999999999}', "seed: "),
    ],
)
def test_malformed_json_says_what_is_wrong(http: TestClient, body: bytes, message: str) -> None:
    refused = http.post("/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code == 400
    assert refused.json()["error"]["type"] == "invalid_request_error"
    assert message in refused.json()["error"]["message"]


def test_large_bodies_are_refused_whether_they_say_so_or_not(model: DreamModel) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(10):
            yield b" " * 1000

    with client(model, body_bytes=5000) as http:
        kind = {"Content-Type": "application/json"}
        assert code(http.post("/v1/chat/completions", content=b" " * 5001, headers=kind)) == (413, "too_large")
        assert code(http.post("/v1/chat/completions", content=pieces(), headers=kind)) == (413, "too_large")


@pytest.mark.parametrize(
    "path", ["/page/app.py", "/page/..%2Fapp.py", "/v1/chat/completions/x", "/v1/chat/completions"]
)
def test_wrong_ways_get_the_envelope(http: TestClient, path: str) -> None:
    refused = http.get(path)
    assert refused.status_code in (404, 405)
    assert refused.json()["error"]["type"] == "invalid_request_error"


def test_slow_heads_and_bodies_are_cut_off() -> None:
    model, _ = gated()
    with served(lambda: model, request_seconds=0.3) as url:
        port = int(url.rpartition(":")[2])
        for begun, answer in (
            (b"", b""),
            (b"GET /health HTTP/1.1\r\nHost: ", b""),
            (
                b"POST /infill HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 9\r\n\r\n{",
                b"HTTP/1.1 408",
            ),
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(begun)
                assert connection.recv(12) == answer


def test_idle_connections_are_closed_and_too_many_are_refused() -> None:
    model, _ = gated()
    with served(lambda: model, idle_seconds=1, request_seconds=2, connections=3) as url, ExitStack() as opened:
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        *silent, last = [opened.enter_context(socket.create_connection(address, timeout=20)) for _ in range(3)]
        last.sendall(b"GET /page/dom.js HTTP/1.1\r\nHost: localhost\r\n\r\n")  # read once all three are accepted
        assert b" 503 " in last.recv(1000)
        assert [each.recv(1000) for each in silent] == [b"", b""]  # nobody spoke
        kept = opened.enter_context(socket.create_connection(address, timeout=20))
        kept.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b'"status"' in b"".join(iter(lambda: kept.recv(1000), b""))  # to the end, since it is closed
