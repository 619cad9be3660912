"""The network's tensors, by the names that they have in a checkpoint and in an artifact."""

from __future__ import annotations

from .model_config import ModelConfig

EMBEDDING = "model.embed_tokens"
LM_HEAD = "lm_head"


def matrix_shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Every matrix of the network in the order data meets it: name → (outputs, inputs)."""
    hidden, kv, inner = config.hidden_size, config.kv_size, config.intermediate_size
    shapes = {EMBEDDING: (config.vocab_size, hidden)}
    for index in range(config.num_hidden_layers):
        layer = f"model.layers.{index}"
        shapes |= {
            f"{layer}.self_attn.q_proj": (hidden, hidden),
            f"{layer}.self_attn.k_proj": (kv, hidden),
            f"{layer}.self_attn.v_proj": (kv, hidden),
            f"{layer}.self_attn.o_proj": (hidden, hidden),
            f"{layer}.mlp.gate_proj": (inner, hidden),
            f"{layer}.mlp.up_proj": (inner, hidden),
            f"{layer}.mlp.down_proj": (hidden, inner),
        }
    return shapes | {LM_HEAD: (config.vocab_size, hidden)}


def vector_sizes(config: ModelConfig) -> dict[str, int]:
    """Every bias and norm of the network: tensor name → length."""
    sizes: dict[str, int] = {}
    for index in range(config.num_hidden_layers):
        layer = f"model.layers.{index}"
        sizes |= {
            f"{layer}.input_layernorm.weight": config.hidden_size,
            f"{layer}.self_attn.q_proj.bias": config.hidden_size,
            f"{layer}.self_attn.k_proj.bias": config.kv_size,
            f"{layer}.self_attn.v_proj.bias": config.kv_size,
            f"{layer}.post_attention_layernorm.weight": config.hidden_size,
        }
    return sizes | {"model.norm.weight": config.hidden_size}


def parameter_count(config: ModelConfig) -> int:
    """Weights that an artifact of this geometry stores; a tied lm_head counts, since it is stored by itself."""
    matrices = sum(rows * columns for rows, columns in matrix_shapes(config).values())
    return matrices + sum(vector_sizes(config).values())
