"""What callers rely on: prompts, holes, endings, batches, hooks, history, cancelling, and clear errors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dream_edge_export.checkpoint.tokenizer import convert_tokenizer
from dream_edge_runtime.arrays import FloatArray, IntArray
from dream_edge_runtime.errors import (
    Cancelled,
    CanvasTooLong,
    DreamEdgeError,
    EmptyPrompt,
    InvalidConversation,
    InvalidOption,
    InvalidTemplate,
    InvalidText,
    InvalidTokenId,
    UnknownOption,
)
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.generation.results import MASK_SYMBOL
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.chat import chat_ids
from dream_edge_runtime.text.tokenizer import Tokenizer
from support.checkpoints import write_checkpoint
from support.networks import FakeNetwork, random_network, small_config

NEW: Any = {"max_new_tokens": 12, "steps": 12, "algorithm": "entropy"}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    directory = tmp_path_factory.mktemp("tokenizer")
    return Tokenizer.from_bytes(convert_tokenizer(directory, write_checkpoint(directory)))


@pytest.fixture
def network() -> FakeNetwork:
    return random_network(small_config())


@pytest.fixture
def model(network: FakeNetwork, tokenizer: Tokenizer) -> DreamModel:
    return DreamModel(network, tokenizer)


@pytest.mark.parametrize("text", ["hello", " hello, world", "caf\u00e9 \U0001f600", "<|mask|>"])
def test_tokens_are_counted_as_a_raw_prompt_has_them(model: DreamModel, text: str) -> None:
    assert model.count_tokens(text) == model.generate(text, raw=True, max_new_tokens=1).prompt_tokens


def test_no_text_has_no_tokens_and_half_a_character_is_refused(model: DreamModel) -> None:
    assert model.count_tokens("") == 0
    with pytest.raises(InvalidText):
        model.count_tokens("\ud800")


# --- prompts ---------------------------------------------------------------------------------------------------------


def test_text_is_a_users_turn_unless_raw(model: DreamModel) -> None:
    chat = model.generate("hello", **NEW, history=True)
    ids = model.generate(chat_ids(model.tokenizer, [{"role": "user", "content": "hello"}]), **NEW)
    assert chat.token_ids == ids.token_ids
    assert model.generate("hello", **NEW, raw=True).prompt_tokens == len(model.tokenizer.encode("hello"))


def test_bos_begins_a_raw_prompt(model: DreamModel) -> None:
    plain, with_bos = (model.generate("hello", **NEW, raw=True, bos=bos, history=True) for bos in (False, True))
    assert with_bos.prompt_tokens == plain.prompt_tokens + 1
    assert with_bos.history is not None
    assert with_bos.history[0][0] == model.config.bos_token_id


def test_prompt_containing_mask_token_is_text(model: DreamModel) -> None:
    """As text it is characters; as an id it is a token like any other: neither is ever filled in."""
    mask = model.config.mask_token_id
    assert mask not in model.tokenizer.encode("a <|mask|> b")
    result = model.generate([5, mask, 7], **NEW, history=True)
    assert all(canvas[:3].tolist() == [5, mask, 7] for canvas in result.history or ())
    assert result.new_tokens <= 12


def test_conversations_have_several_turns(model: DreamModel) -> None:
    messages = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": "bye"},
    ]
    result = model.chat(messages, **NEW)
    assert result.prompt_tokens == len(chat_ids(model.tokenizer, messages))


def test_batch_of_unequal_prompts_equals_each_alone(model: DreamModel) -> None:
    prompts = ["hello there, how are you", "hi", "good morning"]
    together = model.generate_batch(prompts, **NEW, raw=True)
    assert [each.token_ids for each in together] == [
        model.generate(prompt, **NEW, raw=True).token_ids for prompt in prompts
    ]
    assert model.generate_batch([], **NEW) == []


# --- holes and endings -----------------------------------------------------------------------------------------------


def test_infill_keeps_prefix_and_suffix(model: DreamModel) -> None:
    result = model.infill("The cat ", " on the mat.", 4, algorithm="entropy")
    assert result.text == f"The cat {result.holes[0]} on the mat."
    assert len(result.holes) == 1
    assert model.infill("", "end", 2, algorithm="entropy").text.endswith("end")
    assert model.infill("begin", "", 2, algorithm="entropy").text.startswith("begin")


def test_fill_writes_in_every_hole_and_nowhere_else(model: DreamModel) -> None:
    result = model.fill("The [[2]] sat on the [[1]].", algorithm="entropy")
    first, second = result.holes
    assert result.text == f"The {first} sat on the {second}."
    assert result.new_tokens == 3


def test_ending_is_fixed_from_the_start(model: DreamModel) -> None:
    with model.stream("hello", **NEW, end_with=" the end") as steps:
        texts = [step.text for step in steps]
    assert all(text.endswith(" the end") for text in texts)
    assert steps.result().text.endswith(" the end")
    assert len(steps.result().token_ids) == 12


def test_text_is_cut_at_the_end_of_a_turn_and_at_stop_strings(model: DreamModel) -> None:
    end = model.config.eos_token_id
    letters = model.tokenizer.encode("abcdef")

    def ending(step: int | None, ids: IntArray) -> IntArray:
        changed = ids.copy()
        if step is None:
            changed[-12 : -12 + len(letters)] = letters
            changed[-12 + len(letters)] = end
        return changed

    cut = model.generate("hello", **NEW, token_hook=ending)
    assert cut.text == "abcdef"
    assert (cut.finish_reason, cut.stop_string) == ("stop", None)
    stopped = model.generate("hello", **NEW, token_hook=ending, stop=["zzz", "e", "cd"])
    assert (stopped.text, stopped.stop_string) == ("ab", "cd")
    assert model.generate("hello", **NEW, token_hook=ending, stop="zzz").stop_string is None


# --- steps -----------------------------------------------------------------------------------------------------------


def test_stream_shows_every_step(model: DreamModel) -> None:
    denoising = model.stream("hello", max_new_tokens=12, steps=6, algorithm="maskgit_plus", history=True)
    steps = list(denoising)
    result = denoising.result()
    assert denoising.prompt_tokens == result.prompt_tokens
    revealed = [place for step in steps for place in step.revealed.tolist()]
    start = steps[0].shown.start
    assert sorted(revealed) == list(range(start, start + 12))
    assert [step.index for step in steps] == list(range(1, len(steps) + 1))
    assert [step.progress for step in steps] == sorted(step.progress for step in steps)
    assert steps[-1].progress == 1.0
    assert steps[0].text.count(MASK_SYMBOL) == int(steps[0].masked.sum())
    assert all((step.confidence > 0).all() and (step.confidence <= 1).all() for step in steps)
    assert result.steps == len(steps) == len(result.history or ())
    for step, canvas in zip(steps, result.history or (), strict=True):
        assert (step.ids == canvas).all()


def test_seed_repeats_and_is_named(model: DreamModel) -> None:
    options = {**NEW, "temperature": 1.0}
    first = model.generate("hello", **options)
    assert model.generate("hello", **options, seed=first.seed).token_ids == first.token_ids
    assert len({model.generate("hello", **options, seed=seed).token_ids for seed in range(5)}) > 1


def test_logits_hook_decides(model: DreamModel) -> None:
    seen = []

    def only_seven(step: int, _ids: IntArray, positions: IntArray, logits: FloatArray) -> FloatArray:
        seen.append((step, len(positions), logits.shape))
        changed = np.full_like(logits, -10.0)
        changed[:, 7] = 10.0
        return changed

    result = model.generate([5, 6], **NEW, logits_hook=only_seven)
    assert set(result.token_ids) == {7}
    assert all(shape == (rows, model.config.vocab_size) for _, rows, shape in seen)


def test_token_hook_can_mask_again(model: DreamModel) -> None:
    mask = model.config.mask_token_id

    def remask(step: int | None, ids: IntArray) -> IntArray:
        changed = ids.copy()
        if step == 3:
            changed[-12:] = mask
        return changed

    with model.stream([5, 6], **NEW, token_hook=remask) as steps:
        masked = [int(step.masked.sum()) for step in steps]
    assert masked[3] == 12
    assert masked[-1] == 0


# --- stopping --------------------------------------------------------------------------------------------------------


def test_closing_the_iterator_ends_the_generation(model: DreamModel, network: FakeNetwork) -> None:
    with model.stream("hello", **NEW) as steps:
        next(steps)
    passes = network.passes
    assert list(steps) == []
    assert network.passes == passes
    with pytest.raises(Cancelled):
        steps.result()


def test_cancelling_stops_within_one_step(model: DreamModel, network: FakeNetwork) -> None:
    cancel = threading.Event()
    network.before_pass = lambda: cancel.set() if network.passes == 3 else None
    with pytest.raises(Cancelled):
        model.generate("hello", **NEW, cancel=cancel)
    assert network.passes <= 4


def test_threads_share_a_model(model: DreamModel) -> None:
    found: dict[int, tuple[int, ...]] = {}

    def work(seed: int) -> None:
        found[seed] = model.generate("hello", **NEW, temperature=1.0, seed=seed).token_ids

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, ids in found.items():
        assert model.generate("hello", **NEW, temperature=1.0, seed=seed).token_ids == ids


# --- bad input -------------------------------------------------------------------------------------------------------

UNKNOWN: Any = {"stepps": 3}
BAD: dict[str, tuple[type[DreamEdgeError], Callable[[DreamModel], Any]]] = {
    "empty prompt": (EmptyPrompt, lambda model: model.generate("")),
    "empty raw prompt": (EmptyPrompt, lambda model: model.generate("", raw=True)),
    "no ids": (EmptyPrompt, lambda model: model.generate([])),
    "prompt beyond the context": (CanvasTooLong, lambda model: model.generate([1] * 600)),
    "new tokens beyond the context": (CanvasTooLong, lambda model: model.generate("hello", max_new_tokens=600)),
    "holes beyond the context": (CanvasTooLong, lambda model: model.fill("[[600]]")),
    "absurd length": (CanvasTooLong, lambda model: model.infill("a", "b", 100_000)),
    "no new tokens": (InvalidOption, lambda model: model.generate("hello", max_new_tokens=0)),
    "negative new tokens": (InvalidOption, lambda model: model.generate("hello", max_new_tokens=-1)),
    "no steps": (InvalidOption, lambda model: model.generate("hello", steps=0)),
    "fraction of a step": (InvalidOption, lambda model: model.generate("hello", steps=1.5)),  # type: ignore[arg-type]
    "truth as a number": (InvalidOption, lambda model: model.generate("hello", steps=True)),
    "unknown algorithm": (InvalidOption, lambda model: model.generate("hello", algorithm="best")),
    "negative temperature": (InvalidOption, lambda model: model.generate("hello", temperature=-1.0)),
    "temperature that is no number": (InvalidOption, lambda model: model.generate("hello", temperature=float("nan"))),
    "top_p above 1": (InvalidOption, lambda model: model.generate("hello", top_p=1.5)),
    "top_p of 0": (InvalidOption, lambda model: model.generate("hello", top_p=0.0)),
    "top_k of 0": (InvalidOption, lambda model: model.generate("hello", top_k=0)),
    "eps of 1": (InvalidOption, lambda model: model.generate("hello", eps=1.0)),
    "negative seed": (InvalidOption, lambda model: model.generate("hello", seed=-1)),
    "threshold above 1": (InvalidOption, lambda model: model.generate("hello", threshold=2.0)),
    "empty stop string": (InvalidOption, lambda model: model.generate("hello", stop=[""])),
    "unknown option": (UnknownOption, lambda model: model.generate("hello", **UNKNOWN)),
    "id beyond the vocabulary": (InvalidTokenId, lambda model: model.generate([1, 10_000])),
    "negative id": (InvalidTokenId, lambda model: model.generate([-1])),
    "fractional id": (InvalidTokenId, lambda model: model.generate([1.5])),  # type: ignore[list-item]
    "lone surrogate": (InvalidText, lambda model: model.generate("a\ud800b")),
    "lone surrogate in a hole's text": (InvalidText, lambda model: model.fill("\udfff [[1]]")),
    "bytes": (InvalidOption, lambda model: model.generate(b"hello")),
    "nothing": (InvalidOption, lambda model: model.generate(None)),  # type: ignore[arg-type]
    "template without holes": (InvalidTemplate, lambda model: model.fill("no holes")),
    "hole of no tokens": (InvalidTemplate, lambda model: model.fill("a [[0]]")),
    "hole that is no number": (InvalidTemplate, lambda model: model.fill("a [[x]]")),
    "infill of no tokens": (InvalidOption, lambda model: model.infill("a", "b", 0)),
    "ending longer than the text": (
        InvalidOption,
        lambda model: model.generate("hello", max_new_tokens=2, end_with="a very long ending"),
    ),
    "bos without raw": (InvalidOption, lambda model: model.generate("hello", bos=True)),
    "empty conversation": (InvalidConversation, lambda model: model.chat([])),
    "unknown role": (InvalidConversation, lambda model: model.chat([{"role": "robot", "content": "hi"}])),
    "one string as a batch": (InvalidOption, lambda model: model.generate_batch("hello")),
    "new tokens for a text with holes": (InvalidOption, lambda model: model.fill("a [[1]]", max_new_tokens=3)),
    "hook that is no function": (InvalidOption, lambda model: model.generate("hello", logits_hook=3)),  # type: ignore[arg-type]
    "logits of a wrong shape": (
        InvalidOption,
        lambda model: model.generate([5], steps=2, max_new_tokens=2, logits_hook=lambda *_: np.zeros(3, np.float32)),
    ),
}


@pytest.mark.parametrize(("kind", "call"), BAD.values(), ids=BAD)
def test_bad_input_is_a_typed_error_of_one_line(
    kind: type[DreamEdgeError], call: Callable[[DreamModel], Any], model: DreamModel, network: FakeNetwork
) -> None:
    with pytest.raises(kind) as caught:
        call(model)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    assert network.passes <= 1


@pytest.mark.parametrize("field", ["temperature", "algorithm", "eps", "stop"])
def test_fields_that_must_have_a_value_refuse_none(field: str) -> None:
    nothing: Any = {field: None}
    with pytest.raises(InvalidOption, match=field):
        GenerationConfig(**nothing)


def test_generation_defaults_come_from_the_checkpoint(tmp_path: Path) -> None:
    raw = {"alg": "entropy", "alg_temp": None, "eps": 1e-3, "steps": 512, "temperature": 0.2, "top_p": 0.95, "top_k": 0}
    config = GenerationConfig.from_checkpoint({**raw, "transformers_version": "4.46.2"}, tmp_path)
    assert config == GenerationConfig(algorithm="entropy", eps=1e-3, steps=512, temperature=0.2, top_p=0.95)


@pytest.mark.parametrize("length", [1, 3, 5, None])
def test_a_step_says_whether_it_ends_its_block(model: DreamModel, length: int | None) -> None:
    options: Any = {"block_length": length, "algorithm": "entropy", "steps": 9}
    holes = model.stream_fill([7, "b", 4], **options)
    for denoising in (model.stream("hello", max_new_tokens=11, **options), holes):
        before = None
        for step in denoising:
            places = np.array([at for hole in step.holes for at in hole])
            before = np.ones(len(places), bool) if before is None else before
            block = np.arange(len(places)) // (length or len(places))
            worked = block == block[before].min()
            assert step.ends_block == (not step.masked[places[worked]].any())
            before = step.masked[places]
        assert step.ends_block
