"""Dream in plain PyTorch: the full-precision model that everything else is measured against.

It is Qwen2.5 or Qwen3 with full (bidirectional) or block-causal attention, as the configuration says. Parameter names
are those of the checkpoint, so `state_dict()` and the safetensors files hold the same keys. Written to be read in one
sitting, not to be fast.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.tensors import EMBEDDING, LM_HEAD, weight_of

from ..checkpoint.checkpoint import Checkpoint


class Dream(nn.Module):
    """The whole network; `forward` gives one row of logits a position, before the shift."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, input_ids: Tensor, valid: Tensor | None = None) -> Tensor:
        """Logits fp32 [batch, length, vocab] for `input_ids` int64 [batch, length].

        `valid` bool [batch, length] marks real tokens (masks among them); false = padding, which nobody attends to and
        which is not counted in the positions. Row i predicts the token at i + `config.shift`: see `shift`.
        """
        logits: Tensor = self.lm_head(self.model(input_ids, valid))
        return logits.float()


def load_reference(checkpoint: Checkpoint) -> Dream:
    """The network with the weights of `checkpoint`, in fp32, ready for inference.

    Raises:
        NonFiniteWeights: a tensor holds NaN or infinity.
    """
    with torch.device("meta"):  # no memory or time for random weights that are replaced at once
        network = Dream(checkpoint.config)
    weights = {name: checkpoint.tensor(name).to(torch.float32, copy=True) for name in checkpoint.names}
    if checkpoint.config.tie_word_embeddings:
        weights[weight_of(LM_HEAD)] = weights[weight_of(EMBEDDING)]
    network.load_state_dict(weights, strict=True, assign=True)
    if checkpoint.config.tie_word_embeddings:
        network.lm_head.weight = network.model.embed_tokens.weight
    return network.eval().requires_grad_(False)


class Decoder(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.config = config

    def forward(self, input_ids: Tensor, valid: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Normalised hidden states [batch, length, hidden]; `mask` instead of that of the configuration."""
        valid = torch.ones_like(input_ids, dtype=torch.bool) if valid is None else valid
        positions = valid.long().cumsum(-1).sub(1).clamp(min=0)
        mask = attention_mask(self.config, positions, valid) if mask is None else mask
        angles = rotary_angles(self.config, positions)
        hidden: Tensor = self.embed_tokens(input_ids)
        for layer in self.layers:
            hidden = layer(hidden, angles, mask)
        normalised: Tensor = self.norm(hidden)
        return normalised


class Layer(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(self, hidden: Tensor, angles: Tensor, mask: Tensor) -> Tensor:
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), angles, mask)
        result: Tensor = hidden + self.mlp(self.post_attention_layernorm(hidden))
        return result


class Attention(nn.Module):
    """Grouped-query attention; q, k and v may have biases, and the heads of q and k a norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim, bias = config.head_dim, config.attention_bias
        self.q_proj = nn.Linear(config.hidden_size, config.query_size, bias=bias)
        self.k_proj = nn.Linear(config.hidden_size, config.kv_size, bias=bias)
        self.v_proj = nn.Linear(config.hidden_size, config.kv_size, bias=bias)
        self.o_proj = nn.Linear(config.query_size, config.hidden_size, bias=False)
        if config.qk_norm:
            self.q_norm = nn.RMSNorm(config.head_dim, eps=config.rms_norm_eps)
            self.k_norm = nn.RMSNorm(config.head_dim, eps=config.rms_norm_eps)
        self.qk_norm = config.qk_norm

    def forward(self, hidden: Tensor, angles: Tensor, mask: Tensor) -> Tensor:
        result: Tensor = self.o_proj(self.attend(hidden, angles, mask))
        return result

    def attend(self, hidden: Tensor, angles: Tensor, mask: Tensor) -> Tensor:
        """What o_proj gets [batch, length, heads * head_dim]."""
        query, key, value = (self._heads(project(hidden)) for project in (self.q_proj, self.k_proj, self.v_proj))
        if self.qk_norm:
            query, key = self.q_norm(query), self.k_norm(key)
        query, key = rotate(query, angles), rotate(key, angles)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
        return attended.transpose(1, 2).flatten(2)

    def _heads(self, projected: Tensor) -> Tensor:
        """[batch, length, heads * head_dim] → [batch, heads, length, head_dim]"""
        return projected.view(*projected.shape[:-1], -1, self.head_dim).transpose(1, 2)


class MLP(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        result: Tensor = self.down_proj(self.activate(hidden))
        return result

    def activate(self, hidden: Tensor) -> Tensor:
        """What down_proj gets [..., intermediate]."""
        activated: Tensor = F.silu(self.gate_proj(hidden)) * self.up_proj(hidden)
        return activated


def attention_mask(config: ModelConfig, positions: Tensor, valid: Tensor) -> Tensor:
    """Bool [batch, 1, 1 or length, length]: which keys each query attends to; never to padding.

    `positions` int64 and `valid` bool are [batch, length]. Block-causal attention: Arriola et al., "Block Diffusion"
    (arXiv 2503.09573).
    """
    if config.causal_block is None:
        return valid[:, None, None, :]
    block = positions // config.causal_block
    return ((block[:, None, :] <= block[:, :, None]) & valid[:, None, :])[:, None]


def rotary_angles(config: ModelConfig, positions: Tensor) -> Tensor:
    """Angles fp32 [batch, 1, length, head_dim / 2] by which `rotate` turns the pairs at `positions` [batch, length]."""
    pairs = torch.arange(0, config.head_dim, 2, device=positions.device).float()
    frequencies = config.rope_theta ** (-pairs / config.head_dim)
    return positions[:, None, :, None].float() * frequencies


def rotate(heads: Tensor, angles: Tensor) -> Tensor:
    """Rotary position embedding (arXiv 2104.09864): each pair (i, i + head_dim / 2) turned by its angle."""
    left, right = heads.chunk(2, dim=-1)
    cos, sin = angles.cos().to(heads.dtype), angles.sin().to(heads.dtype)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


def shift(logits: Tensor, by: int) -> Tensor:
    """Move each row of `logits` [batch, length, vocab] to the position it predicts, `by` (`config.shift`) further on.

    The first position has no row before it, and keeps its own.
    """
    return torch.cat([logits[:, :by], logits[:, : logits.shape[1] - by]], dim=1)
