"""The origin of an artifact, as its manifest states it: the same checkpoint gives the same bytes wherever it lies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch

from dream_edge_runtime.format.model_config import add_form_of_dream

from .checkpoint import Checkpoint

_FORM = ("head_dim", "attention_bias", "qk_norm", "causal_block")


def describe_origin(
    checkpoint: Checkpoint, source: Mapping[str, str] | None = None, chosen_by: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Digest of config.json, type of the weights, names and sizes of their files; `source`, where it is known.

    `chosen_by`: the budget and the measurements that the recipe was chosen by.
    """
    return {
        "config_sha256": hashlib.sha256((checkpoint.path / "config.json").read_bytes()).hexdigest(),
        "dtype": str(checkpoint.dtype).removeprefix("torch."),
        "weights": {file.path.name: file.stamp.size for file in checkpoint.tensor_files},
        **({"source": dict(source)} if source else {}),
        **({"recipe_chosen_by": dict(chosen_by)} if chosen_by else {}),
    }


def fingerprint(checkpoint: Checkpoint) -> str:
    """SHA-256, in hex, of the geometry and of the first row of every tensor: no two trained networks share it.

    It takes a moment, however large the checkpoint, and is the same wherever and in however many files that lies. What
    earlier releases did not state, since it was so in every network, is not stated where it is so.
    """
    facts = checkpoint.config.to_dict()
    dream = add_form_of_dream(facts)
    stated = {name: value for name, value in facts.items() if name not in _FORM or value != dream[name]}
    digest = hashlib.sha256(json.dumps(stated, sort_keys=True).encode())
    for name in checkpoint.names:
        shape = checkpoint.shape(name)
        rows = checkpoint.rows(name, 0, 1 if len(shape) > 1 else shape[0])
        digest.update(f"{name} {shape} {rows.dtype}".encode())
        digest.update(rows.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
