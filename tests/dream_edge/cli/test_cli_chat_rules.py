"""What every answer of a conversation must match."""

from __future__ import annotations

import builtins
import json
import re
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner, Result

import dream_edge
from dream_edge.cli.app import app
from dream_edge.cli.chat import _talk
from dream_edge.cli.conversation import Conversation
from dream_edge_runtime.chat_format import ChatFormat
from dream_edge_runtime.constraint.errors import TooLittleRoom
from dream_edge_runtime.errors import DreamEdgeError, InvalidOption
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.tokenizer import Tokenizer

OWL = "What sound does an owl make?"
SCHEMA = {"type": "object", "properties": {"legs": {"type": "integer", "maximum": 8}}, "required": ["legs"]}


def chat(*arguments: str | Path, lines: str = f"{OWL}\nAnd a dog?\n") -> Result:
    return CliRunner().invoke(app, ["chat", "tiny", "-n", "16", *map(str, arguments)], input=lines)


@pytest.fixture(scope="module")
def model() -> DreamModel:
    return dream_edge.load("tiny", threads=1)


@pytest.fixture
def talk(model: DreamModel) -> Conversation:
    return Conversation(model, {"max_new_tokens": 16}, visual=False)


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    path = tmp_path / "a schema.json"
    path.write_text(json.dumps(SCHEMA))
    return path


def answer(talk: Conversation, question: str = OWL) -> str:
    talk.take(question)
    return str(talk.messages[-1]["content"])


def test_every_answer_is_held_to_a_regular_expression_that_is_shown_first() -> None:
    result = chat("--regex", "[a-z]{3,9}", "--visual")
    assert re.fullmatch("([a-z]{3,9}\n){2}", result.stdout)
    assert result.stderr.startswith("Every answer matches: [a-z]{3,9}\nstep 1/")


def test_every_answer_is_one_of_several() -> None:
    result = chat("--choice", "An owl hoots.", "--choice", "A dog barks.")
    assert result.stdout == "An owl hoots.\nA dog barks.\n"
    assert "Every answer is one of: 'An owl hoots.', 'A dog barks.'." in result.stderr


def test_every_answer_is_json_by_a_schema(schema: Path) -> None:
    result = chat("--json-schema", schema, "--json")
    assert '"maximum": 8' in result.stderr
    objects = [json.loads(line) for line in result.stdout.splitlines()]  # one a line, whatever the answer
    assert len(objects) == 2
    for each in objects:
        jsonschema.validate(json.loads(each["text"]), SCHEMA)


def test_true_is_any_object_for_every_verb() -> None:
    result = chat("--json-schema", "true", lines=f"{OWL}\n")
    assert isinstance(json.loads(result.stdout), dict)
    assert "any object" in result.stderr
    generated = CliRunner().invoke(app, ["generate", "tiny", "-p", OWL, "-n", "16", "--json-schema", "true"])
    assert isinstance(json.loads(generated.stdout), dict)


def test_what_answers_match_is_changed_within_a_conversation(
    talk: Conversation, schema: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    free = answer(talk)
    talk.take("/reset")
    talk.take('/choices "A dog barks." "A frog is green."')
    assert answer(talk) in ("A dog barks.", "A frog is green.")
    talk.take("/regex [0-9]{3}")
    assert re.fullmatch("[0-9]{3}", answer(talk))
    talk.take(f"/schema {schema}")
    jsonschema.validate(json.loads(answer(talk)), SCHEMA)
    talk.take("/schema true")
    assert isinstance(json.loads(answer(talk)), dict)
    assert len(talk.messages) == 8
    capsys.readouterr()
    talk.take("/set")
    assert capsys.readouterr().err == "max_new_tokens = 16\nEvery answer is JSON: any object.\n"
    talk.take("/free")
    talk.take("/reset")
    assert answer(talk) == free


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        ("/choices", "name what an answer may be"),
        ("/choices I don't know", "Put a text with quotes in others"),
        ("/regex", "give a regular expression"),
        ("/regex (a", "it is no regular expression"),
        ("/regex a(?=b)b", "look beyond the text"),
        ("/regex Q{30}", "Raise max_new_tokens"),
        ("/regex (a{999}){999}", "Allow fewer repetitions"),
        ("/schema", "name a file"),
        ("/schema nowhere.json", "a file with a JSON schema"),
        ("/schema ~nobody-of-that-name/schema.json", "a file with a JSON schema"),
        ("/schema {broken}", "not valid JSON"),
        ("/schema {list}", "expected an object"),
        ("/schema {empty}", "Look for types and bounds"),
        ("/set thinking true", "leave it out"),
        ("/set stop no", "leave it out"),
    ],
)
def test_what_cannot_be_leaves_everything_as_it_was(
    talk: Conversation, tmp_path: Path, command: str, remedy: str
) -> None:
    texts = {"broken": '{"type": ', "list": "[]", "empty": '{"type": "string", "minLength": 2, "maxLength": 1}'}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        command = command.replace(f"{{{name}}}", str(tmp_path / name))
    talk.take("/choices yes no")
    assert answer(talk) in ("yes", "no")
    before = [*talk.messages]
    with pytest.raises(DreamEdgeError, match=re.escape(remedy)):
        talk.take(command)
    assert talk.messages == before
    assert talk.settings == {"max_new_tokens": 16, "choices": ["yes", "no"]}


def test_an_error_does_not_end_a_conversation_at_a_terminal(
    talk: Conversation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = iter(["/regex (a", "/regex [0-9]{20}", "/set max_new_tokens 20", "/regex [0-9]{20}", OWL, "/exit"])
    monkeypatch.setattr(builtins, "input", lambda _prompt="": next(typed))
    _talk(talk)
    captured = capsys.readouterr()
    assert re.fullmatch("[0-9]{20}\n", captured.out)
    assert "no regular expression" in captured.err
    assert "there is room for 16. Raise max_new_tokens" in captured.err


def test_what_cannot_be_kept_from_the_start_ends_before_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(status: int, message: str, *given: str) -> None:
        result = chat(*given)
        assert (result.exit_code, result.stdout) == (status, "")
        assert message in result.stderr

    ends(1, "takes 30 tokens", "--regex", "Q{30}")
    ends(2, "leave it out", "--regex", "a", "--thinking")
    monkeypatch.setattr(dream_edge, "load", lambda *_, **__: pytest.fail("loaded"))
    ends(1, "no regular expression", "--regex", "(a")
    ends(2, "--json-schema 'nowhere.json': must be true, or a file", "--json-schema", "nowhere.json")
    ends(2, "name one of them", "--regex", "a", "--choice", "b")


def test_a_piped_error_ends_the_program_with_what_was_answered() -> None:
    result = chat("--choice", "An owl hoots.", lines=f"{OWL}\n/regex (a\n{OWL}\n")
    assert (result.exit_code, result.stdout) == (1, "An owl hoots.\n")


def test_a_model_that_thinks_does_not_where_an_answer_must_match(model: DreamModel) -> None:
    tokenizer = Tokenizer(model.tokenizer._tokenizer, ChatFormat(system=None, thinking="on"))
    thinker = DreamModel(model.network, tokenizer, model.defaults)
    talk = Conversation(thinker, {"max_new_tokens": 16}, visual=False)
    talk.take("/regex [a-z]{3}")
    assert re.fullmatch("[a-z]{3}", answer(talk))
    talk.take("/free")
    talk.take("/set thinking true")
    with pytest.raises(InvalidOption, match="thinking"):
        talk.take("/regex [a-z]{3}")
    assert talk.settings == {"max_new_tokens": 16, "thinking": True}


def test_holes_of_other_texts_are_not_answers(talk: Conversation, capsys: pytest.CaptureFixture[str]) -> None:
    text = "/infill The old man sleeps because he[[1]] hungry."
    talk.take(text)
    talk.take("/choices yes no")
    capsys.readouterr()
    talk.take(text)
    assert capsys.readouterr().out == "The old man sleeps because he is hungry.\n"


def test_room_that_is_taken_back_is_missed_at_once(talk: Conversation) -> None:
    talk.take("/regex [0-9]{12}")
    with pytest.raises(TooLittleRoom, match="there is room for 8"):
        talk.take("/set max_new_tokens 8")
    assert re.fullmatch("[0-9]{12}", answer(talk))
