"""A checkpoint as a GGUF file, and a GGUF file as a checkpoint in fp32, with the bytes of each tensor.

llama.cpp's own converter knows only vocabularies that are published; quantizing needs none, so none is written.
What is read are the numbers that llama.cpp stores: the `gguf` package restores them as its kernels define them. What a
pass of llama.cpp adds, activations rounded to 8 bits, is in activations.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from torch import Tensor

from dream_edge_runtime.format.model_config import ModelConfig

_WHOLE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output.weight": "lm_head.weight",
    "output_norm.weight": "model.norm.weight",
}
_PARTS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_IN_A_LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")


@dataclass(frozen=True)
class GgufWeights:
    """Attributes:
    tensors: fp32, by the names of the checkpoint.
    types: how each is stored, e.g. "Q4_K".
    sizes: bytes of each.
    file: bytes of the whole file.
    """

    tensors: dict[str, Tensor]
    types: dict[str, str]
    sizes: dict[str, int]
    file: int


def checkpoint_name(name: str) -> str | None:
    """The tensor's name in a Dream checkpoint, or None for one that it does not have (frequencies of the rotation)."""
    if name in _WHOLE:
        return _WHOLE[name]
    found = _IN_A_LAYER.fullmatch(name)
    if found is None or found[2] not in _PARTS:
        return None
    return f"model.layers.{found[1]}.{_PARTS[found[2]]}.{found[3]}"


def gguf_name(name: str) -> str:
    """The tensor's name in a GGUF file."""
    found = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
    if found is None:
        return next(theirs for theirs, ours in _WHOLE.items() if ours == name)
    return f"blk.{found[1]}.{next(theirs for theirs, ours in _PARTS.items() if ours == found[2])}.{found[3]}"


def write_gguf(path: Path, tensors: Mapping[str, Tensor], config: ModelConfig) -> None:
    """`tensors` in fp32, by their names in the checkpoint, as llama-quantize reads them."""
    writer = gguf.GGUFWriter(path, "dream")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for name, tensor in tensors.items():
        writer.add_tensor(gguf_name(name), tensor.float().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_gguf(path: Path) -> GgufWeights:
    """Every tensor of `path`, dequantized."""
    tensors, types, sizes = {}, {}, {}
    for tensor in gguf.GGUFReader(path).tensors:
        name = checkpoint_name(tensor.name)
        if name is None:
            continue
        values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        tensors[name] = torch.from_numpy(values.reshape([int(size) for size in reversed(tensor.shape)]).copy())
        types[name], sizes[name] = tensor.tensor_type.name, int(tensor.n_bytes)
    return GgufWeights(tensors, types, sizes, path.stat().st_size)
