"""The conversation that `chat` keeps."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import dream_edge
from dream_edge.cli.app import app
from dream_edge.cli.chat import Conversation, _talk
from dream_edge_runtime.errors import CanvasTooLong
from dream_edge_runtime.results import Generation


class Answering:
    """Stands for a Denoising: no steps, then an answer."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def result(self) -> Generation:
        return Generation(
            text=self.text,
            token_ids=(),
            prompt_tokens=1,
            new_tokens=1,
            steps=0,
            passes=0,
            seconds=0.0,
            seed=0,
            finish_reason="stop",
        )


class Model:
    """Numbers its answers and remembers what it was asked."""

    tokenizer = None

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def stream_chat(self, messages: Sequence[Mapping[str, str]], **options: Any) -> Answering:
        self.asked.append([message["content"] for message in messages])
        if messages[-1]["content"] == "too long":
            raise CanvasTooLong(3, 2)
        if messages[-1]["content"] == "interrupt":
            raise KeyboardInterrupt
        return Answering(f"answer {len(self.asked)}")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    model = Model()
    monkeypatch.setattr(dream_edge, "load", lambda *_, **__: model)
    return model


def test_piped_lines_are_turns_of_one_conversation(model: Model) -> None:
    result = CliRunner().invoke(app, ["chat", "tiny"], input="one\n\ntwo")
    assert (result.exit_code, result.stdout) == (0, "answer 1\nanswer 2\n")
    assert model.asked == [["one"], ["one", "answer 1", "two"]]


def test_reset_forgets_and_exit_leaves(model: Model) -> None:
    result = CliRunner().invoke(app, ["chat", "tiny"], input="one\n/reset\ntwo\n/exit\nthree\n")
    assert (result.exit_code, result.stdout) == (0, "answer 1\nanswer 2\n")
    assert model.asked == [["one"], ["two"]]


def test_error_in_a_piped_turn_ends_the_program(model: Model) -> None:
    result = CliRunner().invoke(app, ["chat", "tiny"], input="too long\ntwo\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "context" in result.stderr
    assert len(model.asked) == 1


def test_at_a_terminal_a_turn_that_fails_is_forgotten_and_the_talk_goes_on(
    model: Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = iter(["one", "too long", "interrupt", "two"])

    def ask(_prompt: str = "") -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(builtins, "input", ask)
    _talk(Conversation(model, {}, visual=False))  # type: ignore[arg-type]
    assert model.asked[-1] == ["one", "answer 1", "two"]
    captured = capsys.readouterr()
    assert captured.out == "answer 1\nanswer 4\n"
    assert "context" in captured.err
    assert "Stopped." in captured.err


def test_chat_with_a_real_model(random_artifact: Path) -> None:
    lines = "Hello\nAnd again\n"
    arguments = ["chat", str(random_artifact), "-n", "4", "--steps", "4", "--alg", "entropy", "--seed", "1"]
    result = CliRunner().invoke(app, arguments, input=lines)
    assert result.exit_code == 0
    loaded = dream_edge.load(random_artifact)
    options: dict[str, Any] = {"max_new_tokens": 4, "steps": 4, "algorithm": "entropy", "seed": 1}
    first = loaded.generate("Hello", **options).text
    turns = [("user", "Hello"), ("assistant", first), ("user", "And again")]
    second = loaded.chat([{"role": role, "content": content} for role, content in turns], **options).text
    assert result.stdout == f"{first}\n{second}\n"
