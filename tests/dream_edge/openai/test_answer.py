"""What an answer says is read alike whether it comes whole or in pieces of any size."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dream_edge.openai.answer import AnswerReader, AnswerStream, Call, Said

CALL = '<tool_call>\n{"name": "look", "arguments": {"at": "é <b>", "n": [1, 2]}}\n</tool_call>'
LOOK = Call("look", '{"at": "é <b>", "n": [1, 2]}')
TOOLS = AnswerReader(tools=("look",))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Hello.\n", Said("Hello.\n")),
        (CALL, Said(calls=(LOOK,))),
        (f"I will look.\n{CALL}\n{CALL}", Said("I will look.", calls=(LOOK, LOOK))),
        (CALL.removesuffix("</tool_call>"), Said(calls=(LOOK,))),
        (CALL[:40], Said(CALL[:40])),
        ("<tool_call>{}</tool_call> and so on", Said("<tool_call>{}</tool_call> and so on")),
        (CALL.replace("look", "steal"), Said(CALL.replace("look", "steal"))),
        ('<tool_call>{"name": "look", "arguments": 3}', Said('<tool_call>{"name": "look", "arguments": 3}')),
        ('<tool_call>{"name": "look"}</tool_call>', Said(calls=(Call("look", "{}"),))),
        ("1 < 2 <tool", Said("1 < 2 <tool")),
        ("<think>no thoughts", Said("<think>no thoughts")),
    ],
)
def test_calls_are_read_out_of_the_text(text: str, said: Said) -> None:
    assert TOOLS.read(text, complete=True) == said


def test_without_tools_nothing_is_a_call() -> None:
    assert AnswerReader().read(CALL, complete=True) == Said(CALL)
    assert AnswerReader(tools=("look",), most_calls=1).read(CALL * 2, complete=True).calls == (LOOK,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>\nHm.\n</think>\n\nYes.", Said("Yes.", "Hm.")),
        ("<think>\n\n</think>\n\nYes.", Said("Yes.")),
        ("Yes. <think>no</think>", Said("Yes. <think>no</think>")),
        ("<think>cut sho", Said("", "cut sho")),
        ("", Said()),
    ],
)
def test_thoughts_are_apart_from_the_answer(text: str, said: Said) -> None:
    assert AnswerReader(thinks=True).read(text, complete=True) == said
    assert AnswerReader().read(text, complete=True) == Said(text)


def test_an_answer_that_is_a_call_is_nothing_else() -> None:
    reader = AnswerReader(tools=("look",), is_call=True)
    text = json.dumps({"name": "look", "arguments": {"at": 1}})
    assert reader.read(text, complete=False) == Said()
    assert reader.read(text, complete=True) == Said(calls=(Call("look", '{"at": 1}'),))


def test_what_only_begins_like_a_call_is_said_once() -> None:
    stream = AnswerStream(TOOLS)
    pieces = [stream.advance(each) for each in ("1 <", f" 2 <{CALL[:1]}", CALL[1:])] + [stream.finish("")]
    assert [piece.content for piece in pieces] == ["1", " < 2 <", "", ""]
    assert [piece.calls for piece in pieces] == [(), (), (LOOK,), ()]


PARTS = ["<think>", "</think>", "<tool_call>", "</tool_call>", '{"name": "look", "arguments": {}}', "\n", " ", "<", "a"]


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_pieces_say_what_the_whole_says(data: st.DataObject) -> None:
    text = "".join(data.draw(st.lists(st.sampled_from([*PARTS, CALL]), max_size=12)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    reader = AnswerReader(thinks=data.draw(st.booleans()), tools=("look",))
    stream = AnswerStream(reader)
    pieces = [stream.advance(text[start:stop]) for start, stop in zip([0, *cuts], cuts, strict=False)]
    pieces.append(stream.finish(text[cuts[-1] if cuts else 0 :]))
    whole = reader.read(text, complete=True)
    assert "".join(piece.content for piece in pieces) == whole.content
    assert "".join(piece.thoughts for piece in pieces) == whole.thoughts
    assert sum((piece.calls for piece in pieces), ()) == whole.calls
    assert [piece.calls_before for piece in pieces] == [
        sum(len(before.calls) for before in pieces[:at]) for at in range(len(pieces))
    ]
