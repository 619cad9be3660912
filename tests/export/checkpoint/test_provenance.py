"""What tells one checkpoint from another."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from dream_edge_export.checkpoint.provenance import fingerprint
from support.family import FAMILY, write_family_checkpoint

FORM = ("head_dim", "attention_bias", "qk_norm", "causal_block")
DREAM = {"tie_word_embeddings": False, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 64}


def test_a_network_of_dreams_form_keeps_the_fingerprint_of_earlier_releases(tmp_path: Path) -> None:
    """Which stated none of `FORM`: files of theirs, of predictions and of sensitivities, still fit."""
    checkpoint = write_family_checkpoint(tmp_path, **DREAM)
    facts = {name: value for name, value in checkpoint.config.to_dict().items() if name not in FORM}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in checkpoint.names:
        shape = checkpoint.shape(name)
        rows = checkpoint.tensor(name)[:1] if len(shape) > 1 else checkpoint.tensor(name)
        digest.update(f"{name} {shape} {rows.dtype}".encode())
        digest.update(rows.contiguous().view(torch.uint8).numpy().tobytes())
    assert fingerprint(checkpoint) == digest.hexdigest()


def test_networks_that_attend_otherwise_are_told_apart(tmp_path: Path) -> None:
    """The weights are the same."""
    facts = FAMILY["bd3lm-Qwen3-0.6B"]
    changes: list[dict[str, Any]] = [{}, {"causal_block": 4}, {"causal_block": None}, {"shift": 1}]
    found = {
        fingerprint(write_family_checkpoint(tmp_path / str(index), **facts | change))
        for index, change in enumerate(changes)
    }
    assert len(found) == 4
