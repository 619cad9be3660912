"""The network's tensors, by the names that they have in a checkpoint and in an artifact."""

from __future__ import annotations

from .model_config import ModelConfig

EMBEDDING = "model.embed_tokens"
LM_HEAD = "lm_head"
NORM = "model.norm.weight"
"""The γ of the norm before lm_head."""

READERS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "o": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
"""The matrices of a layer that read the same inputs, in the order in which data meets them."""


def layer_name(index: int) -> str:
    """What the names of layer `index` begin with."""
    return f"model.layers.{index}"


def layer_matrices(index: int) -> list[str]:
    """The matrices of layer `index`."""
    return [f"{layer_name(index)}.{matrix}" for matrices in READERS.values() for matrix in matrices]


def matrix_groups(config: ModelConfig) -> list[list[str]]:
    """Every matrix in the order data meets it; those that read the same inputs are one group."""
    layers = (layer_name(index) for index in range(config.num_hidden_layers))
    groups = [[f"{layer}.{matrix}" for matrix in readers] for layer in layers for readers in READERS.values()]
    return [[EMBEDDING], *groups, [LM_HEAD]]


def weight_of(matrix: str) -> str:
    """The tensor of a checkpoint that holds `matrix`."""
    return f"{matrix}.weight"


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of the network in the order of a checkpoint, a tied lm_head too; matrices are [outputs, inputs]."""
    hidden, inner = config.hidden_size, config.intermediate_size
    query, kv, head = config.query_size, config.kv_size, config.head_dim
    layer: dict[str, tuple[int, ...]] = {"input_layernorm.weight": (hidden,)}
    for name, outputs in (("q_proj", query), ("k_proj", kv), ("v_proj", kv)):
        layer[f"self_attn.{name}.weight"] = (outputs, hidden)
        if config.attention_bias:
            layer[f"self_attn.{name}.bias"] = (outputs,)
    if config.qk_norm:
        layer |= {"self_attn.q_norm.weight": (head,), "self_attn.k_norm.weight": (head,)}
    layer |= {
        "self_attn.o_proj.weight": (hidden, query),
        "post_attention_layernorm.weight": (hidden,),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
    }
    shapes: dict[str, tuple[int, ...]] = {weight_of(EMBEDDING): (config.vocab_size, hidden)}
    for index in range(config.num_hidden_layers):
        shapes |= {f"{layer_name(index)}.{name}": shape for name, shape in layer.items()}
    return shapes | {NORM: (hidden,), weight_of(LM_HEAD): (config.vocab_size, hidden)}


def matrix_shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Every matrix of the network in the order data meets it: name → (outputs, inputs)."""
    shapes = tensor_shapes(config).items()
    return {name.removesuffix(".weight"): (shape[0], shape[1]) for name, shape in shapes if len(shape) == 2}


def vector_sizes(config: ModelConfig) -> dict[str, int]:
    """Every bias and norm of the network: tensor name → length."""
    return {name: shape[0] for name, shape in tensor_shapes(config).items() if len(shape) == 1}


def stored_shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Every matrix that an artifact stores: a tied lm_head is the embedding."""
    shapes = matrix_shapes(config)
    if config.tie_word_embeddings:
        del shapes[LM_HEAD]
    return shapes


def parameter_count(config: ModelConfig) -> int:
    """Weights of the network; those of a tied lm_head are the embedding's."""
    matrices = sum(rows * columns for rows, columns in stored_shapes(config).values())
    return matrices + sum(vector_sizes(config).values())
