"""Activation outliers that change nothing: as in trained networks a few channels are far larger than the others."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from dream_edge_runtime.format.model_config import ModelConfig


def write_with_outliers(
    source: Path, directory: Path, config: ModelConfig, *, channels: int = 4, factor: float = 20.0, seed: int = 0
) -> None:
    """A copy of the one-file checkpoint `source` that computes the same in fp32, for all factors a power of 2 exactly.

    Of every norm's output, of what down_proj gets and of the values, `channels` channels are `factor` times as large;
    the matrices that read them make up for it.
    """
    weights = {name: tensor.float() for name, tensor in load_file(source / "model.safetensors").items()}
    generator = torch.Generator().manual_seed(seed)

    def factors(size: int) -> torch.Tensor:
        chosen = torch.ones(size)
        chosen[torch.randperm(size, generator=generator)[:channels]] = factor
        return chosen

    for index in range(config.num_hidden_layers):
        layer = f"model.layers.{index}"
        readers = {
            "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
        }
        for norm, matrices in readers.items():
            scale = factors(config.hidden_size)
            weights[f"{layer}.{norm}.weight"] *= scale
            for matrix in matrices:
                weights[f"{layer}.{matrix}.weight"] /= scale
        scale = factors(config.intermediate_size)
        weights[f"{layer}.mlp.up_proj.weight"] *= scale[:, None]
        weights[f"{layer}.mlp.down_proj.weight"] /= scale
        scale = factors(config.kv_size)
        weights[f"{layer}.self_attn.v_proj.weight"] *= scale[:, None]
        weights[f"{layer}.self_attn.v_proj.bias"] *= scale
        by_head = scale.reshape(config.num_key_value_heads, config.head_dim)
        repeats = config.num_attention_heads // config.num_key_value_heads
        weights[f"{layer}.self_attn.o_proj.weight"] /= torch.cat([head for head in by_head for _ in range(repeats)])
    scale = factors(config.hidden_size)
    weights["model.norm.weight"] *= scale
    weights["lm_head.weight"] /= scale
    shutil.copytree(source, directory)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
