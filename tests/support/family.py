"""Random networks of every form of the family, and transformers' Qwen2 and Qwen3 with the same weights.

No config.json is interpreted: what is stated here are the facts of a network.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.checkpoint.tensor_file import TensorFile
from dream_edge_export.reference.model import Dream

from .checkpoints import random_weights, write_weights
from .networks import small_config
from .vocabulary import write_tokenizer

_QWEN2: dict[str, Any] = {
    "attention_bias": True,
    "qk_norm": False,
    "num_attention_heads": 7,
    "num_key_value_heads": 1,
    "head_dim": 8,
}
_QWEN2 |= {"hidden_size": 56, "intermediate_size": 304}  # of the 0.5B, a sixteenth
_QWEN3: dict[str, Any] = {
    "attention_bias": False,
    "qk_norm": True,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 16,
}
_QWEN3 |= {"hidden_size": 64, "intermediate_size": 192}  # of the 0.6B: queries are twice as wide as the stream
_BLOCKS = {"causal_block": 8}

FAMILY: dict[str, dict[str, Any]] = {
    "open-dcoder-0.5B": {**_QWEN2, "tie_word_embeddings": True, "shift": 1},
    "CoDA-1.7B": {**_QWEN3, "hidden_size": 128, "intermediate_size": 384, "tie_word_embeddings": True, "shift": 1},
    "mdlm-Qwen2.5-Coder-0.5B": {**_QWEN2, "tie_word_embeddings": True, "shift": 0},
    "mdlm-Qwen3-0.6B": {**_QWEN3, "tie_word_embeddings": True, "shift": 0},
    "Fast_dLLM_v2_1.5B": {
        **_QWEN2,
        **_BLOCKS,
        "hidden_size": 96,
        "num_attention_heads": 6,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "intermediate_size": 560,
        "tie_word_embeddings": True,
        "shift": 1,
    },
    "Fast_dLLM_v2_7B": {**_QWEN2, **_BLOCKS, "tie_word_embeddings": False, "shift": 1},
    "bd3lm-Qwen2.5-Coder-0.5B": {**_QWEN2, **_BLOCKS, "tie_word_embeddings": True, "shift": 0},
    "bd3lm-Qwen3-0.6B": {**_QWEN3, **_BLOCKS, "tie_word_embeddings": True, "shift": 0},
    "DreamReasoner-8B": {
        **_QWEN3,
        **_BLOCKS,
        "hidden_size": 128,
        "num_key_value_heads": 2,
        "intermediate_size": 384,
        "tie_word_embeddings": False,
        "shift": 0,
    },
}
"""The nine layouts, narrower; blocks of 8 instead of 32."""

FULL_WIDTH: dict[str, dict[str, Any]] = {
    "Qwen2-0.5B": {
        **FAMILY["bd3lm-Qwen2.5-Coder-0.5B"],
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "head_dim": 64,
    },
    "Qwen3-0.6B": {
        **FAMILY["bd3lm-Qwen3-0.6B"],
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
}


def write_family_checkpoint(directory: Path, *, seed: int = 0, **facts: Any) -> Checkpoint:
    """A checkpoint with random weights of a network with these `facts`, in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    config = small_config(**facts)
    write_tokenizer(directory)
    (directory / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")  # only to be digested
    write_weights(directory, random_weights(config, seed=seed))
    file = TensorFile.open(directory / "model.safetensors")
    return Checkpoint(directory, config, {}, dict.fromkeys(file.entries, file), {})


def qwen(network: Dream) -> Qwen2ForCausalLM | Qwen3ForCausalLM:
    """The same network by transformers."""
    config = network.config
    stated: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "tie_word_embeddings": config.tie_word_embeddings,
        "hidden_act": "silu",
        "use_sliding_window": False,
    }
    model: Qwen2ForCausalLM | Qwen3ForCausalLM
    if config.qk_norm:
        model = Qwen3ForCausalLM(Qwen3Config(**stated, head_dim=config.head_dim, attention_bias=config.attention_bias))
    else:
        model = Qwen2ForCausalLM(Qwen2Config(**stated))
    model.load_state_dict(network.state_dict(), strict=True)
    model.set_attn_implementation("eager")
    model.train(False)
    return model


def qwen_logits(
    model: Qwen2ForCausalLM | Qwen3ForCausalLM, ids: Tensor, valid: Tensor, block: int | None = None
) -> Tensor:
    """Logits under a 4-D mask, positions counted from the first valid token.

    Every token attends to all valid tokens or, with `block`, to those of its own block of so many and of earlier ones.
    """
    batch, length = ids.shape
    mask = torch.full((batch, 1, length, length), torch.finfo(torch.float32).min)
    positions = torch.zeros_like(ids)
    for sequence in range(batch):
        real = [place for place in range(length) if valid[sequence, place]]
        for position, place in enumerate(real):
            positions[sequence, place] = position
            end = len(real) if block is None else (position // block + 1) * block
            mask[sequence, 0, place, real[:end]] = 0
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    return logits
