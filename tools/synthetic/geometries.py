"""The published checkpoints of Dream's architecture, as far as their files differ: data, and nothing else.

What could be confirmed without the hub: the 7B geometry and ids 151643 and 151666; Dream-v0-Instruct's
generation_config.json; bos 151665 of Dream-Coder-Instruct; DreamOn's expand token; DiffuCoder's own pad token beside
config.json's 151643. Whatever a comment calls [unverified] is a plausible variant, which an export has to accept.
`family.py` has the checkpoints of other architectures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .vocabulary import chat_template

DREAM_CONFIG: Mapping[str, Any] = {
    "architectures": ["DreamModel"],
    "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_dream.DreamConfig", "AutoModel": "modeling_dream.DreamModel"},
    "bos_token_id": 151643,
    "eos_token_id": 151643,
    "hidden_act": "silu",
    "hidden_size": 3584,
    "initializer_range": 0.02,
    "intermediate_size": 18944,
    "mask_token_id": 151666,
    "max_position_embeddings": 131072,
    "max_window_layers": 28,
    "model_type": "Dream",
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "pad_token_id": 151643,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.46.2",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 152064,
}

DREAM_GENERATION: Mapping[str, Any] = {
    "_from_model_config": True,
    "alg": "origin",
    "alg_temp": None,
    "bos_token_id": 151643,
    "eos_token_id": 151643,
    "eps": 0.001,
    "mask_token_id": None,
    "output_history": False,
    "pad_token_id": 151643,
    "steps": 512,
    "temperature": 0.0,
    "top_k": None,
    "top_p": None,
    "transformers_version": "4.46.2",
}

DREAM_TOKENS = ("<|beginoftext|>", "<|mask|>")
DREAM_ROLES: Mapping[str, str] = {
    "bos_token": "<|beginoftext|>",
    "eos_token": "<|endoftext|>",
    "mask_token": "<|mask|>",
    "pad_token": "<|endoftext|>",
}


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """One checkpoint's configuration and the shape of its files."""

    repository: str
    """Whose files it resembles."""
    license: str = "apache-2.0"
    config: Mapping[str, Any] = field(default_factory=lambda: DREAM_CONFIG)
    generation: Mapping[str, Any] | None = field(default_factory=lambda: DREAM_GENERATION)
    """generation_config.json; None = there is none."""
    added_tokens: tuple[str, ...] = DREAM_TOKENS
    """Those after Qwen2's or Qwen3's own, so the first is 151665 or 151669."""
    roles: Mapping[str, str] = field(default_factory=lambda: DREAM_ROLES)
    qwen: Literal[2, 3] = 2
    """Whose form and whose added tokens: Qwen2's q, k and v have biases, Qwen3's heads of q and k have norms."""
    template: str = field(default_factory=lambda: chat_template("You are a helpful assistant."))
    template_file: bool = False
    """Whether the chat template is in chat_template.jinja, not in tokenizer_config.json."""
    fast_tokenizer: bool = False
    """Whether a tokenizer.json stands beside vocab.json and merges.txt."""
    stated: Mapping[str, Any] = field(default_factory=dict)
    """What its files leave open, as an export is told it: attention, shift."""
    stores_lm_head: bool = True
    """False: the head is tied and only the embedding is in the files."""

    def sized(self, **fields: int | None) -> Geometry:
        """With other sizes in config.json; None leaves one as it is."""
        config = {**self.config, **{name: value for name, value in fields.items() if value is not None}}
        if "head_dim" in config:  # as much wider than a head's share of the hidden size as it was
            wider = self.config["head_dim"] * self.config["num_attention_heads"] // self.config["hidden_size"]
            config["head_dim"] = wider * config["hidden_size"] // config["num_attention_heads"]
        if "layer_types" in config:
            config["layer_types"] = ["full_attention"] * config["num_hidden_layers"]
        return replace(self, config=config)


def _config(*absent: str, **changes: Any) -> Mapping[str, Any]:
    return {name: value for name, value in {**DREAM_CONFIG, **changes}.items() if name not in absent}


def _generation(**changes: Any) -> Mapping[str, Any]:
    return {**DREAM_GENERATION, **changes}


_CODER = _config(bos_token_id=151665, max_position_embeddings=32768)  # positions as Qwen2.5-Coder's, [unverified]
_QWEN2_SMALL = {"max_position_embeddings": 32768, "tie_word_embeddings": True, "vocab_size": 151936}

DREAM_GEOMETRIES: Mapping[str, Geometry] = {
    "dream-v0-base-7b": Geometry(
        repository="Dream-org/Dream-v0-Base-7B",
        generation=_generation(transformers_version="4.46.3"),  # [unverified]
    ),
    "dream-v0-instruct-7b": Geometry(repository="Dream-org/Dream-v0-Instruct-7B"),
    "dream-coder-v0-base-7b": Geometry(
        repository="Dream-org/Dream-Coder-v0-Base-7B",
        config=_CODER,
        generation=_generation(bos_token_id=151665),  # [unverified]
    ),
    "dream-coder-v0-instruct-7b": Geometry(
        repository="Dream-org/Dream-Coder-v0-Instruct-7B",
        config=_CODER,
        generation=_generation(bos_token_id=151665, eos_penalty=0.0),  # the field is theirs, its value [unverified]
    ),
    "dreamon-v0-7b": Geometry(
        repository="Dream-org/DreamOn-v0-7B",
        config={**_CODER, "expand_token_id": None},  # null like mask_token_id in generation_config.json: [unverified]
        generation=_generation(bos_token_id=151665, expand_token_id=None, number_transfer_tokens=1),  # [unverified]
        added_tokens=(*DREAM_TOKENS, "<|expand|>"),
    ),
    "diffucoder-7b-base": Geometry(
        repository="apple/DiffuCoder-7B-Base",
        license="apple-amlr",
        config=_config("max_window_layers", "attention_dropout"),  # fields without a meaning here, [unverified]
        added_tokens=(*DREAM_TOKENS, "<|dlm_pad|>"),
        roles={**DREAM_ROLES, "pad_token": "<|dlm_pad|>"},
    ),
    "diffucoder-7b-instruct": Geometry(
        repository="apple/DiffuCoder-7B-Instruct",
        license="apple-amlr",
        added_tokens=(*DREAM_TOKENS, "<|dlm_pad|>"),
        roles={**DREAM_ROLES, "pad_token": "<|dlm_pad|>"},
        generation=None,  # [unverified]
    ),
    "d3llm-dream-7b": Geometry(
        repository="d3LLM/d3LLM_Dream",  # [unverified]
        config=_config(  # as transformers 5 writes it, [unverified]
            "torch_dtype",
            "rope_theta",
            "rope_scaling",
            dtype="bfloat16",
            head_dim=128,
            layer_types=["full_attention"] * 28,
            rope_parameters={"rope_theta": 1000000.0, "rope_type": "default"},
        ),
        fast_tokenizer=True,  # [unverified]
    ),
    "dparallel-dream-7b": Geometry(
        repository="Zigeng/dParallel_Dream_7B_Instruct",  # [unverified]
        config=_config(_name_or_path="Dream-org/Dream-v0-Instruct-7B", full_attn_mask=True),  # [unverified]
        generation=_generation(threshold=0.5, steps=256),  # [unverified]
    ),
    "qwen2-0.5b": Geometry(
        repository="a Dream of Qwen2.5-0.5B's size",
        config=_config(
            hidden_size=896,
            intermediate_size=4864,
            num_hidden_layers=24,
            num_attention_heads=14,
            num_key_value_heads=2,
            **_QWEN2_SMALL,
        ),
        stores_lm_head=False,
    ),
    "qwen2-1.5b": Geometry(
        repository="a Dream of Qwen2.5-1.5B's size, its tied head stored all the same",
        config=_config(
            hidden_size=1536, intermediate_size=8960, num_attention_heads=12, num_key_value_heads=2, **_QWEN2_SMALL
        ),
    ),
}
