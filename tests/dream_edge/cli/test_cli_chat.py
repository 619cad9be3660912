"""The conversation that `chat` keeps."""

from __future__ import annotations

import builtins
import dataclasses
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import dream_edge
from dream_edge.cli.app import app
from dream_edge.cli.chat import _talk
from dream_edge.cli.conversation import ChatCommandError, Conversation, Leave, utterances
from dream_edge_runtime.errors import CanvasTooLong, DreamEdgeError, InvalidOption, InvalidTemplate, NotWritable
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.generation.prefix_store import PrefixStore
from dream_edge_runtime.generation.results import Generation
from dream_edge_runtime.model import DreamModel
from support.block_loops import BLOCK, BlockNetwork


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
    defaults = GenerationConfig()

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.options: dict[str, Any] = {}

    def stream_chat(self, messages: Sequence[Mapping[str, str]], **options: Any) -> Answering:
        self.asked.append([message["content"] for message in messages])
        self.options = options
        if messages[-1]["content"] == "too long":
            raise CanvasTooLong(3, 2)
        if messages[-1]["content"] == "interrupt":
            raise KeyboardInterrupt
        return Answering(f"answer {len(self.asked)}")

    def stream_fill(self, template: str, **options: Any) -> Answering:
        if "[[" not in template:
            raise InvalidTemplate("the template has no hole")
        self.options = options
        return Answering(template.replace("[[1]]", " mat"))


@pytest.fixture
def talk(model: Model) -> Conversation:
    return Conversation(model, {"max_new_tokens": 8}, visual=False)  # type: ignore[arg-type]


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


def test_undo_takes_back_a_question_and_its_answer(model: Model, talk: Conversation) -> None:
    for text in ("one", "two", "/undo", "three"):
        talk.take(text)
    assert model.asked[-1] == ["one", "answer 1", "three"]
    talk.take("/undo")
    talk.take("/undo")
    assert talk.messages == []
    with pytest.raises(ChatCommandError, match="taken back"):
        talk.take("/undo")


def test_retry_answers_the_same_question_again(
    model: Model, talk: Conversation, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ChatCommandError, match="no answer"):
        talk.take("/retry")
    talk.take("one")
    talk.take("/retry")
    assert model.asked == [["one"], ["one"]]
    assert [message["content"] for message in talk.messages] == ["one", "answer 2"]
    assert "temperature" in capsys.readouterr().err
    talk.take("/set temperature 0.7")
    capsys.readouterr()
    talk.take("/retry")
    assert "temperature" not in capsys.readouterr().err


def test_a_turn_that_fails_leaves_the_conversation_as_it_was(talk: Conversation) -> None:
    talk.take("one")
    before = [*talk.messages]
    for text in ("too long", "/set threshold 2", "/set nothing 1", "/nonsense", "/infill no holes", "/save"):
        with pytest.raises((CanvasTooLong, InvalidOption, ChatCommandError, InvalidTemplate)):
            talk.take(text)
    assert talk.messages == before
    assert talk.settings == {"max_new_tokens": 8}


def test_options_are_set_and_unset(model: Model, talk: Conversation) -> None:
    talk.take("/set threshold 0.9")
    talk.take("/set exact false")
    talk.take("one")
    assert {name: model.options[name] for name in talk.settings} == {
        "max_new_tokens": 8,
        "threshold": 0.9,
        "exact": False,
    }
    talk.take("/set threshold")
    assert "threshold" not in talk.settings


def test_infill_stands_beside_the_conversation(
    model: Model, talk: Conversation, capsys: pytest.CaptureFixture[str]
) -> None:
    talk.take("/set threshold 0.9")
    talk.take("/infill The cat sat on the[[1]].")
    assert capsys.readouterr().out == "The cat sat on the mat.\n"
    assert talk.messages == []
    assert model.options["threshold"] == 0.9
    assert "max_new_tokens" not in model.options


def test_what_is_saved_can_be_compared_with(talk: Conversation, tmp_path: Path) -> None:
    from dream_edge.quality import Sample, read_texts

    path = tmp_path / "a talk.jsonl"
    for text in ("one", f"/save {path}", "two"):
        talk.take(text)
    talk.take("/save")
    assert read_texts(path) == [Sample(tuple(talk.messages[:-1]), "answer 2")]
    assert [*tmp_path.iterdir()] == [path]
    talk.take("/reset")
    talk.take("other")
    with pytest.raises(ChatCommandError, match="exists"):
        talk.take(f"/save {path}")
    with pytest.raises(NotWritable, match="cannot write"):
        talk.take(f"/save {tmp_path / 'nowhere' / 'talk.jsonl'}")


@pytest.mark.parametrize("name", ["x" * 300, "a/\0b", "~nobody-of-that-name/talk.jsonl", "."])
def test_a_name_that_no_file_can_have_is_refused(talk: Conversation, tmp_path: Path, name: str) -> None:
    talk.take("one")
    with pytest.raises(DreamEdgeError, match="Name a"):
        talk.take(f"/save {name if name.startswith('~') else tmp_path / name}")
    assert [*tmp_path.iterdir()] == []


def test_a_conversation_that_is_too_long_says_how_to_go_on(talk: Conversation) -> None:
    with pytest.raises(ChatCommandError, match=r"/undo and /reset.*/set max_new_tokens"):
        talk.take("too long")


def test_help_names_every_command_and_exit_leaves(talk: Conversation, capsys: pytest.CaptureFixture[str]) -> None:
    talk.take("/help")
    told = capsys.readouterr().err
    for name in ("/undo", "/retry", "/infill", "/set", "/save", "/reset", "/exit"):
        assert name in told
    with pytest.raises(Leave):
        talk.take("/exit")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["one", "two"], ["one", "two"]),
        (["one \\", "two", "three"], ["one \ntwo", "three"]),
        (['"""', "one", "", "/two", '"""', "three"], ["one\n\n/two", "three"]),
        (['"""', "one"], ["one"]),
        (["one\\"], ["one"]),
        ([], []),
    ],
)
def test_a_text_may_have_several_lines(lines: list[str], said: list[str]) -> None:
    assert [*utterances(lines)] == said


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX terminals")
def test_at_a_real_terminal_ctrl_c_stops_the_answer_and_not_the_program() -> None:
    import pty

    terminal, inside = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "dream_edge", "chat", "tiny", "-n", "1000", "--exact", "--threads", "1"],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        # a shell's background job ignores Ctrl-C, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(inside)
    seen = b""

    def until(text: bytes) -> None:
        nonlocal seen
        while text not in seen:
            seen += os.read(terminal, 4096)
        seen = seen.partition(text)[2]

    try:
        until(b"> ")
        os.write(terminal, b"Hello\n")
        until(b"step 2/")
        process.send_signal(signal.SIGINT)
        until(b"Stopped.")
        until(b"> ")
        os.write(terminal, b"/undo\n")
        until(b"nothing has been said")  # what was stopped is no turn
        os.write(terminal, b"/exit\n")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def test_what_earlier_turns_computed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block-causal model: on stderr, from the second turn on; the store is as large as asked for."""
    asked: list[Any] = []

    def load(_name: str, *, prefix_cache_bytes: int | None, **_options: Any) -> DreamModel:
        asked.append(prefix_cache_bytes)
        return DreamModel(network, tokenizer, prefixes=PrefixStore(BLOCK, 1 << 24) if prefix_cache_bytes != 0 else None)

    tiny = dream_edge.load("tiny", threads=1)
    network, tokenizer = BlockNetwork(dataclasses.replace(tiny.config, causal_block=BLOCK, shift=0)), tiny.tokenizer
    monkeypatch.setattr(dream_edge, "load", load)
    for options in ([], ["--prefix-cache", "7"], ["--prefix-cache", "0"]):
        arguments = ["chat", "tiny", "-n", "9", "--threshold", "0.5", *options]
        result = CliRunner().invoke(app, arguments, input="How do you do?\nAnd how is the weather?\n")
        assert result.exit_code == 0, result.output
        told = re.findall(r"(\d+) of (\d+) tokens were there from earlier turns\.", result.stderr)
        assert len(told) == (options != ["--prefix-cache", "0"])
        assert all(0 < int(cached) < int(given) for cached, given in told)
    CliRunner().invoke(app, ["generate", "tiny", "-p", "Hello", "-n", "4"])
    assert asked == [None, 7_000_000, 0, 0]
