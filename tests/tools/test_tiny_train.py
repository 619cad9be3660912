"""A tiny network that begins with the weights of another."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dream_edge.models import TINY, TINY_BLOCKS, bundled
from dream_edge_export.reference.model import Dream
from tools.tiny.networks import config_json, generation_json
from tools.tiny.scores import load
from tools.tiny.tokenizer import load_tokenizer, special_ids
from tools.tiny.train import adapt, initialise


def test_new_heads_add_nothing_at_first(tmp_path: Path) -> None:
    """Where the old network has no biases and the new one no norms of heads, both compute the same."""
    weights = {
        name: torch.zeros_like(tensor) if name.endswith("bias") else tensor
        for name, tensor in load_file(bundled(TINY) / "model.safetensors").items()
    }
    shutil.copytree(bundled(TINY), tmp_path, dirs_exist_ok=True)
    save_file(weights, tmp_path / "model.safetensors")
    old, _ = load(tmp_path)
    new = Dream(replace(old.config, num_attention_heads=6, head_dim=64, attention_bias=False)).eval()
    initialise(new)
    adapt(new, tmp_path)
    ids = torch.randint(0, 900, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(new(ids), old(ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("network", "name"), [("dream", TINY), ("blocks", TINY_BLOCKS)])
def test_bundled_configurations_are_those_of_the_program(network: str, name: str) -> None:
    stated, generation = (
        json.loads((bundled(name) / file).read_text("utf-8")) for file in ("config.json", "generation_config.json")
    )
    tokenizer = load_tokenizer(bundled(name))
    assert stated == config_json(network, tokenizer.get_vocab_size(), special_ids(tokenizer))
    assert generation == generation_json(network)
