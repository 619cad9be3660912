"""Every published layout of this architecture becomes an artifact by the same call, which then writes text.

The checkpoints are synthesised (tools/synthesize.py), narrow and shallow, with the real vocabulary's ids.
"""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import dream_edge
from dream_edge.cli.app import app
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.checkpoint.forms import StatedFacts
from dream_edge_export.checkpoint.tokenizer import load_tokenizer
from dream_edge_export.export import export
from dream_edge_export.reference.model import load_reference
from dream_edge_runtime.chat_format import ChatFormat
from dream_edge_runtime.errors import InvalidConfig, InvalidOption
from dream_edge_runtime.format.manifest import MANIFEST
from dream_edge_runtime.format.recipe import Recipe
from tools.synthetic.checkpoint import synthesize
from tools.synthetic.family import GEOMETRIES

LAYERS = 1
SIZES = {
    "num_hidden_layers": LAYERS,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
# id of bos, of <|expand|>, positions: as the checkpoint's own files say
EXPECTED: dict[str, tuple[int, int | None, int]] = {
    "dream-v0-base-7b": (151643, None, 131072),
    "dream-v0-instruct-7b": (151643, None, 131072),
    "dream-coder-v0-base-7b": (151665, None, 32768),
    "dream-coder-v0-instruct-7b": (151665, None, 32768),
    "dreamon-v0-7b": (151665, 151667, 32768),
    "diffucoder-7b-base": (151643, None, 131072),
    "diffucoder-7b-instruct": (151643, None, 131072),
    "d3llm-dream-7b": (151643, None, 131072),
    "dparallel-dream-7b": (151643, None, 131072),
    "qwen2-0.5b": (151643, None, 32768),
    "qwen2-1.5b": (151643, None, 32768),
}

QWEN2, QWEN3 = {"attention_bias": True, "qk_norm": False}, {"attention_bias": False, "qk_norm": True}
QWEN25_CHAT = ChatFormat(system="You are Qwen, created by Alibaba Cloud. You are a helpful assistant.")
QWEN3_CHAT, SILENT_CHAT = (ChatFormat(system=None, thinking=thinking) for thinking in ("on", "off"))
A2D2 = {**QWEN2, "shift": 0, "tie_word_embeddings": True, "mask_token_id": 151665, "eos_token_id": 151645}
A2D3 = {**A2D2, **QWEN3, "mask_token_id": 151669, "head_dim": 64}
FAST = {**QWEN2, "shift": 1, "causal_block": 32, "mask_token_id": 151665, "eos_token_id": 151645}
REASONER = {**QWEN3, "shift": 0, "causal_block": 32, "mask_token_id": 151669, "tie_word_embeddings": False}
# facts of the network, and how it reads conversations
OTHERS: dict[str, tuple[dict[str, Any], ChatFormat]] = {
    "open-dcoder-0.5b": (
        {**QWEN2, "shift": 1, "causal_block": None, "mask_token_id": 151665, "eos_token_id": 151643},
        ChatFormat(),
    ),
    "coda-1.7b": (
        {**QWEN3, "shift": 1, "causal_block": None, "mask_token_id": 151669, "tie_word_embeddings": True},
        QWEN3_CHAT,
    ),
    "a2d-qwen2.5-coder-0.5b-mdlm": ({**A2D2, "causal_block": None}, QWEN25_CHAT),
    "a2d-qwen2.5-coder-0.5b-bd3lm": ({**A2D2, "causal_block": 32}, QWEN25_CHAT),
    "a2d-qwen3-0.6b-mdlm": ({**A2D3, "causal_block": None}, SILENT_CHAT),
    "a2d-qwen3-0.6b-bd3lm": ({**A2D3, "causal_block": 32}, SILENT_CHAT),
    "fast-dllm-v2-1.5b": ({**FAST, "tie_word_embeddings": True}, QWEN25_CHAT),
    "fast-dllm-v2-7b": ({**FAST, "tie_word_embeddings": False}, QWEN25_CHAT),
    "dreamreasoner-8b": (REASONER, QWEN3_CHAT),
    "dreamreasoner-8b-base": (REASONER, QWEN3_CHAT),
}
# the loop that each block-causal one was published with: block length, where blocks begin
LOOPS = {"a2d": (None, "answer"), "fast": (8, "prompt"), "dreamreasoner": (None, "prompt")}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("relatives"))


class World:
    """Checkpoints and artifacts, made when first asked for."""

    def __init__(self, directory: Path) -> None:
        self.checkpoint = cache(lambda name: self._checkpoint(directory / name, name))
        self.artifact = cache(lambda name, scheme: self._artifact(directory / f"{name}-{scheme}", name, scheme))

    def _checkpoint(self, directory: Path, name: str) -> Path:
        synthesize(GEOMETRIES[name].sized(**SIZES), directory, words=400)
        return directory

    def open(self, name: str) -> Checkpoint:
        return Checkpoint.open(self.checkpoint(name), StatedFacts(**GEOMETRIES[name].stated))

    def _artifact(self, directory: Path, name: str, scheme: str) -> Path:
        return export(self.open(name), directory, Recipe.for_scheme(scheme, layers=LAYERS)).path


def test_no_geometry_is_left_out() -> None:
    assert {*EXPECTED, *OTHERS} == set(GEOMETRIES)


@pytest.mark.parametrize("scheme", ["int8", "int4"])
@pytest.mark.parametrize("name", EXPECTED)
def test_relative_exports_loads_and_writes(world: World, name: str, scheme: str) -> None:
    model = dream_edge.load(world.artifact(name, scheme))
    bos, expand, positions = EXPECTED[name]
    config = model.config
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (bos, 151643, 151643)
    assert (config.mask_token_id, config.expand_token_id) == (151666, expand)
    assert (config.shift, config.context, config.max_position_embeddings) == (1, positions, positions)
    answer = model.generate("a b", max_new_tokens=4, steps=4)
    assert answer.new_tokens <= 4
    assert len(answer.token_ids) == 4
    filled = model.infill("one", "two", length=3, max_hole_tokens=0, steps=3, bos=True)
    assert len(filled.holes) == 1
    assert config.mask_token_id not in answer.token_ids


@pytest.mark.parametrize("scheme", ["int8", "int4"])
@pytest.mark.parametrize("name", OTHERS)
def test_other_architecture_exports_loads_and_writes(world: World, name: str, scheme: str) -> None:
    facts, chat_format = OTHERS[name]
    artifact = world.artifact(name, scheme)
    dream_edge.verify(artifact)
    model = dream_edge.load(artifact)
    stated = model.config.to_dict()
    assert {fact: stated[fact] for fact in facts} == facts
    assert model.tokenizer.chat_format == chat_format
    answer = model.generate("a b", max_new_tokens=40, steps=2)
    assert 0 < len(answer.token_ids) <= 40
    assert model.config.mask_token_id not in answer.token_ids
    filled = model.infill("one", "two", length=3, steps=3)
    assert len(filled.holes) == 1
    if model.config.causal_block:
        loop = next(loop for prefix, loop in LOOPS.items() if name.startswith(prefix))
        assert (model.defaults.block_length, model.defaults.align) == loop
    if chat_format.thinking == "none":
        with pytest.raises(InvalidOption, match="needs a model that can think"):
            model.generate("a b", thinking=False, max_new_tokens=4)
    else:
        sizes = [model.generate("a b", thinking=told, max_new_tokens=4).prompt_tokens for told in (True, False)]
        assert sizes[1] - sizes[0] == 4  # <think>, a blank line, </think>, a blank line


@pytest.mark.parametrize("name", OTHERS)
def test_other_architecture_is_compared_with_its_checkpoint(world: World, name: str) -> None:
    comparisons = dream_edge.compare(
        [world.artifact(name, scheme) for scheme in ("fp32", "int8")],
        reference=world.checkpoint(name),
        sequences=4,
        longest=48,
        trajectory=False,
    )
    exact, rounded = (each.to_dict()["overall"]["kl_mean"] for each in comparisons)
    assert abs(exact) < 1e-6 < rounded


@pytest.mark.parametrize("name", OTHERS)
def test_info_says_what_a_network_of_another_architecture_is(world: World, name: str) -> None:
    facts, chat_format = OTHERS[name]
    of_artifact = dream_edge.info(world.artifact(name, "int8"))
    of_checkpoint = dream_edge.info(world.checkpoint(name), **GEOMETRIES[name].stated)
    for found in (of_artifact, of_checkpoint):
        geometry = {**found.to_dict()["geometry"], "shift": found.to_dict()["shift"], **found.special_ids}
        assert {fact: geometry[fact] for fact in facts} == facts
        assert found.chat_format == chat_format
        assert found.is_noncommercial == (name == "coda-1.7b")
        assert found.license == ("cc-by-nc-4.0" if name == "coda-1.7b" else "apache-2.0")
    shown = CliRunner().invoke(app, ["info", str(world.artifact(name, "int8"))]).stdout
    assert ("block of 32" in shown) == bool(facts["causal_block"])
    assert ("non-commercial" in shown) == (name == "coda-1.7b")
    assert ("--no-thinking" in shown) == (chat_format.thinking == "on")
    assert ("norms of each head" in shown) == facts["qk_norm"]


def test_a_mask_that_only_the_tokens_know_is_named_by_the_user(world: World, tmp_path: Path) -> None:
    copy = tmp_path / "checkpoint"
    shutil.copytree(world.checkpoint("open-dcoder-0.5b"), copy)
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        settings = json.loads((copy / file).read_text("utf-8"))
        del settings["mask_token"]
        (copy / file).write_text(json.dumps(settings), "utf-8")
    with pytest.raises(InvalidConfig, match="mask_token_id is missing: name the token with --mask-token"):
        Checkpoint.open(copy, StatedFacts(attention="full", shift=1))
    opened = Checkpoint.open(copy, StatedFacts(attention="full", shift=1, mask_token="<M>"))
    assert opened.config.mask_token_id == 151665


@pytest.mark.parametrize("name", ["fast-dllm-v2-1.5b", "a2d-qwen3-0.6b-mdlm"])
def test_a_mask_that_the_architectures_code_names_is_found(world: World, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "checkpoint"
    shutil.copytree(world.checkpoint(name), copy)
    settings = json.loads((copy / "tokenizer_config.json").read_text("utf-8"))
    del settings["mask_token"]
    (copy / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    (copy / "special_tokens_map.json").unlink()
    opened = Checkpoint.open(copy, StatedFacts(**GEOMETRIES[name].stated))
    assert opened.config.mask_token_id == OTHERS[name][0]["mask_token_id"]


def test_tokenizer_of_qwen3_is_the_same_from_either_of_its_files(world: World, tmp_path: Path) -> None:
    alone = tmp_path / "fast"
    shutil.copytree(world.checkpoint("dreamreasoner-8b"), alone)
    config = world.open("dreamreasoner-8b").config
    for name in ("vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json", "special_tokens_map.json"):
        (alone / name).unlink()
    both, fast = load_tokenizer(world.checkpoint("dreamreasoner-8b"), config), load_tokenizer(alone, config)
    text = "<think>\nHm.\n</think>\n\n<tool_call> one <|im_end|>"
    assert both.encode(text) == fast.encode(text)
    assert [both.encode(token) for token in ("<think>", "</think>", "<tool_call>")] == [[151667], [151668], [151657]]
    assert both.decode([151667, 151669, 151668]) == "<think></think>"
    assert both.vocab_size == 151670 < config.vocab_size
    assert both.decode([151900]) == ""  # an id that the network has and no token


def test_manifest_says_what_the_code_does_not(world: World) -> None:
    stated = json.loads((world.artifact("dreamon-v0-7b", "int8") / MANIFEST).read_bytes())
    assert {name: stated["model"][name] for name in ("shift", "context", "expand_token_id", "bos_token_id")} == {
        "shift": 1,
        "context": 32768,
        "expand_token_id": 151667,
        "bos_token_id": 151665,
    }
    assert stated["license"] == "apache-2.0"


def test_holes_of_dreamon_may_change_their_size(world: World) -> None:
    model = dream_edge.load(world.artifact("dreamon-v0-7b", "int8"))

    def expand(_step: int, _ids: Any, positions: Any, logits: Any) -> Any:
        logits[:, 151667] += 1000.0 if len(positions) < 6 else -1000.0
        return logits

    grown = model.infill("one", "two", 3, logits_hook=expand, max_hole_tokens=20)
    assert 6 <= grown.new_tokens <= 20
    assert 151667 not in grown.token_ids
    text = model.tokenizer.encode("one"), model.tokenizer.encode("two")
    assert (list(grown.token_ids[: len(text[0])]), list(grown.token_ids[-len(text[1]) :])) == text


def test_one_id_is_another_token_in_another_relative(world: World) -> None:
    """151667 is DreamOn's <|expand|> and DiffuCoder's padding."""
    names = {
        name: dream_edge.load(world.artifact(name, "int8")).tokenizer.token_text(151667)
        for name in ("dreamon-v0-7b", "diffucoder-7b-instruct", "dream-v0-instruct-7b")
    }
    assert names == {"dreamon-v0-7b": "<|expand|>", "diffucoder-7b-instruct": "<|dlm_pad|>", "dream-v0-instruct-7b": ""}


def test_defaults_of_the_checkpoint_are_those_of_the_model(world: World) -> None:
    artifact = world.artifact("dream-coder-v0-instruct-7b", "int8")
    assert json.loads((artifact / MANIFEST).read_bytes())["generation"]["eos_penalty"] == 0.0
    model = dream_edge.load(artifact)
    assert (model.defaults.algorithm, model.defaults.steps, model.defaults.eps) == ("origin", 512, 1e-3)
    assert model.defaults.eos_penalty == 0.0


def test_tokenizer_json_beside_the_slow_files_changes_nothing(world: World, tmp_path: Path) -> None:
    plain = world.artifact("dream-v0-instruct-7b", "int8")
    both = world.artifact("d3llm-dream-7b", "int8")
    assert (both / "tokenizer.json").read_bytes() == (plain / "tokenizer.json").read_bytes()
    fast = tmp_path / "fast"
    shutil.copytree(world.checkpoint("d3llm-dream-7b"), fast)
    for name in ("vocab.json", "merges.txt", "added_tokens.json"):
        (fast / name).unlink()
    alone = export(Checkpoint.open(fast), tmp_path / "out", Recipe.for_scheme("int8", layers=LAYERS)).path
    assert (alone / "tokenizer.json").read_bytes() == (plain / "tokenizer.json").read_bytes()


def test_tied_head_is_the_embedding_stored_or_not(world: World) -> None:
    for name in ("qwen2-0.5b", "qwen2-1.5b"):
        checkpoint = Checkpoint.open(world.checkpoint(name))
        assert checkpoint.config.tie_word_embeddings
        assert torch.equal(checkpoint.tensor("lm_head.weight"), checkpoint.tensor("model.embed_tokens.weight"))


@pytest.mark.parametrize("name", ["dream-coder-v0-instruct-7b", "qwen2-0.5b"])
def test_fp32_graph_gives_the_references_logits(world: World, name: str) -> None:
    model = dream_edge.load(world.artifact(name, "fp32"))
    reference = load_reference(Checkpoint.open(world.checkpoint(name)))
    ids = np.array([[151665, 10, 20, *[151666] * 5]], dtype=np.int64)
    positions = np.arange(8, dtype=np.int64)[None]
    rows = model.network.forward(ids, positions, np.ones((1, 1, 8), bool), np.arange(8, dtype=np.int64), 0.0, None)
    expected = reference(torch.from_numpy(ids))[0].numpy()
    assert np.abs(rows.fetch_logits() - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("change", "positions"),
    [
        ({"some_new_field": {"deep": [1]}, "_name_or_path": "x"}, 131072),
        ({"max_position_embeddings": 4096}, 4096),
        ({"pad_token_id": None, "mask_token_id": None}, 131072),
        ({"rope_scaling": None, "head_dim": None, "attention_bias": True}, 131072),
    ],
)
def test_variants_of_config_json_export(world: World, tmp_path: Path, change: dict[str, Any], positions: int) -> None:
    """Fields that nobody needs, and ids that only the tokenizer's files name."""
    copy = tmp_path / "checkpoint"
    shutil.copytree(world.checkpoint("dream-v0-instruct-7b"), copy)
    raw = json.loads((copy / "config.json").read_text("utf-8")) | change
    (copy / "config.json").write_text(json.dumps(raw), "utf-8")
    config = export(Checkpoint.open(copy), tmp_path / "out", Recipe.for_scheme("int8", layers=LAYERS)).manifest.config
    assert (config.mask_token_id, config.pad_token_id, config.context) == (151666, 151643, positions)
