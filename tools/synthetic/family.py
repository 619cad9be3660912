"""The published checkpoints of the family besides Dream's own: small ones, and those that write block by block.

Read in public copies of their files: CoDA's config.json, generation_config.json and tokenizer_config.json;
Fast_dLLM_v2_1.5B's config.json, and that its mask is `|<MASK>|`, 151665, of which config.json says nothing;
open-dcoder-0.5B's architecture and its mask `<M>`, 151665; that A2D's files hold the head and the embedding, which are
equal, and that its masks are 151665 and 151669; DreamReasoner's architecture, block_size and mask_token_id. The rest of
their geometry is that of the Qwen model which each was made of. Whatever a comment calls [unverified] is a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .geometries import DREAM_GEOMETRIES, Geometry
from .vocabulary import chat_template

_QWEN2_TEMPLATE = chat_template("You are a helpful assistant.")
_QWEN25_TEMPLATE = chat_template("You are Qwen, created by Alibaba Cloud. You are a helpful assistant.")
_QWEN3_TEMPLATE = chat_template(None, thinks=True)


def _config(layers: int, **fields: Any) -> Mapping[str, Any]:
    """What the configurations of all have in common, as transformers writes it."""
    return {
        "attention_dropout": 0.0,
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "max_window_layers": layers,
        "num_hidden_layers": layers,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": 151936,
        **fields,
    }


def _widths(hidden: int, intermediate: int, heads: int, kv_heads: int, head_dim: int | None = None) -> dict[str, Any]:
    widths = {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
    }
    return widths if head_dim is None else {**widths, "head_dim": head_dim, "attention_bias": False}


_QWEN2_05B = _widths(896, 4864, 14, 2)
_QWEN3_06B = _widths(1024, 3072, 16, 8, 128)


def _a2d(repository: str, qwen: int, widths: Mapping[str, Any], template: str) -> Geometry:
    """A checkpoint of dllm-hub; the files of one of mdlm and one of bd3lm say the same."""
    name, layers, positions = f"A2DQwen{qwen}", {2: 24, 3: 28}[qwen], {2: 32768, 3: 40960}[qwen]
    return Geometry(
        repository=f"dllm-hub/{repository}",  # its licence is [unverified]
        config=_config(
            layers,
            **widths,
            architectures=[f"{name}LMHeadModel"],
            auto_map={
                "AutoConfig": f"modeling_qwen{qwen}.{name}Config",
                "AutoModel": f"modeling_qwen{qwen}.{name}Model",
                "AutoModelForMaskedLM": f"modeling_qwen{qwen}.{name}LMHeadModel",
            },
            layer_types=["full_attention"] * layers,
            max_position_embeddings=positions,
            model_type=f"a2d-qwen{qwen}",
            pad_token_id=151643,  # [unverified]
            tie_word_embeddings=True,
        ),
        generation=None,  # [unverified]
        qwen=3 if qwen == 3 else 2,
        added_tokens=("<|mask|>",),
        roles={"eos_token": "<|im_end|>", "mask_token": "<|mask|>", "pad_token": "<|endoftext|>"},  # [unverified]
        template=template,
        template_file=True,  # [unverified]
        fast_tokenizer=True,
        stated={"attention": "block-causal:32" if "bd3lm" in repository else "full"},
    )


_CODER = "Qwen2.5-Coder-0.5B-Instruct-diffusion"
_A2D = {
    "a2d-qwen2.5-coder-0.5b-mdlm": _a2d(f"{_CODER}-mdlm-v0.1", 2, _QWEN2_05B, _QWEN25_TEMPLATE),
    "a2d-qwen3-0.6b-mdlm": _a2d("Qwen3-0.6B-diffusion-mdlm-v0.1", 3, _QWEN3_06B, _QWEN3_TEMPLATE),
    "a2d-qwen2.5-coder-0.5b-bd3lm": _a2d(f"{_CODER}-bd3lm-v0.1", 2, _QWEN2_05B, _QWEN25_TEMPLATE),
    "a2d-qwen3-0.6b-bd3lm": _a2d("Qwen3-0.6B-diffusion-bd3lm-v0.1", 3, _QWEN3_06B, _QWEN3_TEMPLATE),
}


def _fast_dllm(repository: str, layers: int, widths: Mapping[str, Any], **fields: Any) -> Geometry:
    return Geometry(
        repository=f"Efficient-Large-Model/{repository}",
        config=_config(
            layers,
            **widths,
            architectures=["Fast_dLLM_QwenForCausalLM"],
            auto_map={
                "AutoConfig": "configuration.Fast_dLLM_QwenConfig",
                "AutoModel": "modeling.Fast_dLLM_QwenModel",
                "AutoModelForCausalLM": "modeling.Fast_dLLM_QwenForCausalLM",
            },
            bd_size=32,
            layer_types=["full_attention"] * layers,
            max_position_embeddings=32768,
            model_type="Fast_dLLM_Qwen",
            pad_token_id=151645,
            **fields,
        ),
        generation={"eos_token_id": [151645, 151643], "pad_token_id": 151643, "transformers_version": "4.53.1"},
        added_tokens=("|<MASK>|",),
        roles={"eos_token": "<|im_end|>", "mask_token": "|<MASK>|", "pad_token": "<|endoftext|>"},  # [unverified]
        template=_QWEN25_TEMPLATE,
        fast_tokenizer=True,
        stores_lm_head=not fields["tie_word_embeddings"],
    )


def _reasoner(repository: str) -> Geometry:
    return Geometry(
        repository=f"Dream-org/{repository}",
        config=_config(
            36,
            **_widths(4096, 12288, 32, 8, 128),
            architectures=["DreamForCausalLM"],
            auto_map={
                "AutoConfig": "configuration_dream.DreamConfig",
                "AutoModelForCausalLM": "modeling_dream.DreamForCausalLM",
            },
            block_size=32,
            mask_token_id=151669,
            max_position_embeddings=40960,  # [unverified]
            model_type="Dream",
            pad_token_id=151643,
            tie_word_embeddings=False,
        ),
        generation={"eos_token_id": [151645, 151643], "pad_token_id": 151643},  # [unverified]
        qwen=3,
        added_tokens=("<|mask|>",),
        roles={"eos_token": "<|im_end|>", "mask_token": "<|mask|>", "pad_token": "<|endoftext|>"},  # [unverified]
        template=_QWEN3_TEMPLATE,
        template_file=True,  # [unverified]
        fast_tokenizer=True,
    )


FAMILY: Mapping[str, Geometry] = {
    "open-dcoder-0.5b": Geometry(
        repository="fredzzp/open-dcoder-0.5B",
        config=_config(
            24,
            **_QWEN2_05B,
            architectures=["Qwen2ForCausalLM"],
            eos_token_id=151643,
            max_position_embeddings=32768,
            model_type="qwen2",
            tie_word_embeddings=True,
        ),
        generation={"bos_token_id": 151643, "eos_token_id": 151643},  # [unverified]
        added_tokens=("<M>",),
        roles={"eos_token": "<|endoftext|>", "mask_token": "<M>", "pad_token": "<|endoftext|>"},  # [unverified]
        template=_QWEN2_TEMPLATE,  # [unverified]
        fast_tokenizer=True,
        stated={"attention": "full", "shift": 1},
        stores_lm_head=False,
    ),
    "coda-1.7b": Geometry(
        repository="Salesforce/CoDA-v0-Instruct",
        license="cc-by-nc-4.0",
        config={
            name: value
            for name, value in _config(
                28,
                **_widths(2048, 6144, 16, 8, 128),
                architectures=["CoDALanguageModel"],
                attention_kernel="flash_attention",
                auto_map={"AutoConfig": "model_config.CoDAConfig", "AutoModel": "modeling_coda.CoDALanguageModel"},
                block_masking_probability=[0.25, 0.5, 0.5, 0.75, 0.25],
                mask_block_sizes=[4, 8, 16, 32],
                mask_token_id=151669,
                max_position_embeddings=40960,
                model_type="CoDA",
                pad_token_id=151643,
                prefix_probability=0,
                sampling_eps=[0.001, 0.25, 0.5, 0.25, 0.001],
                torch_dtype="float32",
                truncate_probability=0,
            ).items()
            if name not in ("bos_token_id", "eos_token_id")  # nor does it say whether the head is tied
        },
        generation={
            "alg": "original",
            "alg_temp": 0.2,
            "diffusion_steps": 10,
            "eps": 0.001,
            "mask_token_id": 151669,
            "max_tokens": 256,
            "output_history": False,
            "top_k": None,
            "top_p": None,
        },
        qwen=3,
        added_tokens=("<|mask|>",),
        roles={
            "bos_token": "<|im_end|>",
            "eos_token": "<|im_end|>",
            "mask_token": "<|mask|>",
            "pad_token": "<|endoftext|>",
            "sep_token": "<|file_sep|>",
        },
        template=_QWEN3_TEMPLATE,
        fast_tokenizer=True,
        stores_lm_head=False,  # [unverified]
    ),
    **_A2D,
    "fast-dllm-v2-1.5b": _fast_dllm(
        "Fast_dLLM_v2_1.5B", 28, _widths(1536, 8960, 12, 2), max_window_layers=21, tie_word_embeddings=True
    ),
    "fast-dllm-v2-7b": _fast_dllm(
        "Fast_dLLM_v2_7B", 28, _widths(3584, 18944, 28, 4), tie_word_embeddings=False, vocab_size=152064
    ),
    "dreamreasoner-8b": _reasoner("DreamReasoner-8B"),
    "dreamreasoner-8b-base": _reasoner("DreamReasoner-8B-Base"),
}

GEOMETRIES: Mapping[str, Geometry] = {**DREAM_GEOMETRIES, **FAMILY}
SHORT_NAMES: Mapping[str, str] = {"dream-7b": "dream-v0-instruct-7b"}


def geometry(name: str) -> Geometry:
    """The geometry called `name`; `KeyError` where there is none."""
    return GEOMETRIES[SHORT_NAMES.get(name, name)]
