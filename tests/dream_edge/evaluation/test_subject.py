"""What an evaluation asks of a model: prompts, answers and texts, without the harness."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from typing import Any

import pytest

import dream_edge
from dream_edge.evaluation.__main__ import main
from dream_edge.evaluation.likelihood import enumerate_masks, is_first_choice, log_likelihood
from dream_edge.evaluation.prompts import encode, encode_pair, render_chat
from dream_edge.evaluation.subject import Subject
from dream_edge_runtime.chat_format import DREAM_CHAT
from dream_edge_runtime.errors import CannotChat, CanvasTooLong, InvalidConversation, InvalidOption
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.chat import chat_ids
from dream_edge_runtime.text.tokenizer import Tokenizer
from support.networks import FakeNetwork, random_network

PUZZLE = "Input:\n1000\n0002\n4003\n0000\nOutput:\n"
CONVERSATION = [
    {"role": "user", "content": "What sound does the dog make?"},
    {"role": "assistant", "content": "The dog says woof."},
    {"role": "user", "content": "  And the cow?\n"},
]


@pytest.fixture(scope="module")
def tiny() -> DreamModel:
    return dream_edge.load("tiny", threads=1)


@pytest.fixture(scope="module")
def tokenizer(tiny: DreamModel) -> Tokenizer:
    return tiny.tokenizer


# --- prompts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "messages", [CONVERSATION, CONVERSATION[:1], [{"role": "system", "content": "Be brief."}, *CONVERSATION]]
)
def test_rendered_conversations_have_the_ids_of_the_chat(tokenizer: Tokenizer, messages: list[dict[str, str]]) -> None:
    assert encode(tokenizer, render_chat(messages, DREAM_CHAT)) == chat_ids(tokenizer, messages)


def test_a_reply_that_is_begun_goes_on(tokenizer: Tokenizer) -> None:
    begun = [*CONVERSATION, {"role": "assistant", "content": "The cow"}]
    ids = encode(tokenizer, render_chat(begun, DREAM_CHAT, opens_reply=False))
    assert ids == [*chat_ids(tokenizer, CONVERSATION), *tokenizer.encode("The cow")]


@pytest.mark.parametrize("messages", [[], [{"role": "tool", "content": "7"}]])
def test_what_is_no_conversation_is_refused(messages: list[dict[str, str]]) -> None:
    with pytest.raises(InvalidConversation):
        render_chat(messages, DREAM_CHAT)


def test_turn_markers_within_other_texts_are_text(tokenizer: Tokenizer) -> None:
    text = "What does <|im_end|> mean?"
    assert encode(tokenizer, text) == tokenizer.encode(text)


def test_a_vocabulary_without_turn_markers_is_named(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tokenizer, "special_id", lambda *_: None)
    with pytest.raises(CannotChat):
        encode(tokenizer, render_chat(CONVERSATION, DREAM_CHAT))


@pytest.mark.parametrize(
    ("context", "continuation"),
    [("A dog", " barks."), ("A dog ", "barks."), ("A dog", ""), ("", "barks"), ("Answer:\n", "A dog")],
)
def test_prompt_and_answer_are_the_ids_of_one_text(tokenizer: Tokenizer, context: str, continuation: str) -> None:
    prompt, answer = encode_pair(tokenizer, context, continuation)
    assert prompt + answer == tokenizer.encode(context + continuation)
    assert prompt == tokenizer.encode(context.rstrip(" "))


# --- likelihoods -----------------------------------------------------------------------------------------------------


def test_likelihood_of_a_pair_is_the_bound_of_its_ids(tiny: DreamModel) -> None:
    prompt, answer = encode_pair(tiny.tokenizer, "The dog says", " woof.")
    assert 1 <= len(answer) <= 6
    bound, first = Subject(model=tiny).log_likelihood("The dog says", " woof.")
    assert bound == pytest.approx(log_likelihood(tiny.network, prompt, answer, enumerate_masks(len(answer))), rel=1e-6)
    assert first == is_first_choice(tiny.network, prompt, answer)


def test_a_solved_puzzle_is_the_models_own_and_a_spoilt_one_is_not(tiny: DreamModel) -> None:
    subject = Subject(model=tiny, mc_samples=4)
    solution = tiny.generate(PUZZLE, raw=True, algorithm="maskgit_plus", max_new_tokens=19, threshold=1.0).text
    assert subject.log_likelihood(PUZZLE, solution)[1]
    assert not subject.log_likelihood(PUZZLE, solution.replace("4", "3"))[1]
    assert not replace(subject, check_greedy=False).log_likelihood(PUZZLE, solution)[1]


def test_bos_begins_texts_without_a_context_and_prompts_where_asked(tiny: DreamModel) -> None:
    seen: list[list[int]] = []
    network = random_network(tiny.config)
    remember(network, seen)
    subject = Subject(model=replace(tiny, network=network), mc_samples=1, check_greedy=False)
    subject.log_likelihood("", "woof")
    subject.log_likelihood("The dog", " woof")
    replace(subject, add_bos_token=True).log_likelihood("The dog", " woof")
    replace(subject, add_bos_token=True).log_likelihood(render_chat(CONVERSATION, DREAM_CHAT), "woof")
    bos, plain = tiny.config.bos_token_id, tiny.tokenizer.encode("The dog")
    assert seen[0][0] == bos
    assert seen[1][: len(plain)] == plain
    assert seen[2][: len(plain) + 1] == [bos, *plain]
    assert seen[3][0] != bos


def remember(network: FakeNetwork, seen: list[list[int]]) -> None:
    """Add the first sequence of every pass to `seen`."""
    logits_of = network.logits_of

    def remembering(ids: Any, valid: Any) -> Any:
        seen.append(ids[0].tolist())
        return logits_of(ids, valid)

    network.logits_of = remembering


def test_seed_and_request_alone_decide_the_masks(tiny: DreamModel) -> None:
    subject = Subject(model=replace(tiny, network=random_network(tiny.config)), mc_samples=5, check_greedy=False)
    request = ("The dog says", " woof woof woof woof.")
    first = subject.log_likelihood(*request)
    subject.log_likelihood("Something else", " in between")
    assert subject.log_likelihood(*request) == first
    assert replace(subject, batch_size=5).log_likelihood(*request)[0] == pytest.approx(first[0], rel=1e-6)
    assert replace(subject, seed=1).log_likelihood(*request) != first


def test_long_contexts_lose_their_beginning(tiny: DreamModel, caplog: pytest.LogCaptureFixture) -> None:
    model = replace(tiny, network=random_network(tiny.config), context=24)
    subject = Subject(model=model, check_greedy=False, mc_samples=31, options={"max_new_tokens": 10})
    long = "one two three " * 20
    with caplog.at_level(logging.WARNING):
        kept = subject.log_likelihood(long, " woof.")
        assert dict(subject.generate([(long, {})])).keys() == {0}
    assert "loses" in caplog.text
    prompt, answer = encode_pair(model.tokenizer, long, " woof.")
    tail, every = prompt[-(24 - len(answer)) :], enumerate_masks(len(answer))
    assert len(answer) <= 5  # so that each of its masks is among the 31
    assert kept[0] == pytest.approx(log_likelihood(model.network, tail, answer, every), rel=1e-6)
    with pytest.raises(CanvasTooLong):
        subject.log_likelihood("", long)


def test_a_text_is_the_sum_of_its_windows(tiny: DreamModel) -> None:
    model = replace(tiny, context=12)
    subject, text = Subject(model=model, mc_samples=63), "The dog says woof. The cow says moo."
    ids, found = model.tokenizer.encode(text), 0.0
    assert len(ids) > 12
    whole = [model.config.bos_token_id, *ids]
    for start in range(1, len(whole), 6):
        answer = whole[start : start + 6]
        before = whole[max(0, start + len(answer) - 12) : start]
        found += log_likelihood(model.network, before, answer, enumerate_masks(len(answer)))
    assert subject.rolling_log_likelihood(text) == pytest.approx(found, rel=1e-6)
    assert subject.rolling_log_likelihood("") == 0


# --- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "keywords", "expected"),
    [
        ({}, {}, {"max_new_tokens": 256, "stop": []}),
        ({}, {"until": "\n", "max_gen_toks": 40}, {"max_new_tokens": 40, "stop": ["\n"]}),
        ({}, {"until": ["a", ""], "max_tokens": 3}, {"max_new_tokens": 3, "stop": ["a"]}),
        (
            {},
            {"do_sample": False, "temperature": 0.7, "top_p": 0.9},
            {"max_new_tokens": 256, "stop": [], "temperature": 0.0},
        ),
        (
            {"temperature": 0.2, "max_new_tokens": 8, "exact": True},
            {"do_sample": False, "max_gen_toks": 40},
            {"temperature": 0.2, "max_new_tokens": 8, "exact": True, "stop": []},
        ),
        (
            {},
            {"do_sample": True, "temperature": 0.7, "steps": 9, "num_beams": 4, "top_k": None},
            {"max_new_tokens": 256, "temperature": 0.7, "steps": 9, "stop": []},
        ),
    ],
)
def test_the_user_wins_over_the_task(
    tiny: DreamModel, given: dict[str, Any], keywords: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert Subject(model=tiny, options=given).options_for(keywords) == expected


def test_texts_are_the_models_own_cut_at_until(tiny: DreamModel) -> None:
    question = render_chat(CONVERSATION[:1], DREAM_CHAT)
    subject = Subject(model=tiny, batch_size=2, options={"exact": True})
    task: dict[str, Any] = {"max_gen_toks": 16}
    requests: list[tuple[str, dict[str, Any]]] = [
        (question, task),
        (PUZZLE, {"until": ["\n"], "max_gen_toks": 24}),
        (question, {**task, "until": [" barks"]}),
    ]
    requests.append((render_chat(CONVERSATION, DREAM_CHAT), task))
    texts = dict(subject.generate(requests))
    puzzle = tiny.generate(PUZZLE, raw=True, exact=True, max_new_tokens=24).text
    assert texts[0] == "A dog barks."
    assert texts[1] == puzzle.split("\n")[0]
    assert texts[2] == "A dog"
    assert texts[3] == tiny.chat(CONVERSATION, exact=True, max_new_tokens=16).text


def test_several_texts_drawn_from_one_prompt_differ(tiny: DreamModel) -> None:
    model = replace(tiny, network=random_network(tiny.config, scale=0.1))
    subject = Subject(model=model, options={"cache": "none"})
    requests = [("one", {"do_sample": True, "temperature": 1.0, "max_gen_toks": 8})] * 3
    assert len(set(dict(subject.generate(requests)).values())) == 3


@pytest.mark.parametrize(
    "option", [{"mc_samples": 0}, {"seed": -1}, {"batch_size": "auto"}, {"check_greedy": 1}, {"add_bos_token": "yes"}]
)
def test_impossible_options_are_refused(tiny: DreamModel, option: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match=next(iter(option))):
        Subject(model=tiny, **option)


def test_without_the_harness_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.api.instance", None)
    monkeypatch.delitem(sys.modules, "dream_edge.evaluation.harness", raising=False)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "dream-edge[eval]" in capsys.readouterr().err
