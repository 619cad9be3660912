"""The tiny networks that are trained: their geometry, the tasks of their training, the files beside their weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from dream_edge_export.checkpoint.config import read_checkpoint_config
from dream_edge_runtime.format.model_config import ModelConfig
from tools.tiny.corpus import sample_texts
from tools.tiny.tokenizer import END, MASK, load_tokenizer, special_ids, train_tokenizer

GEOMETRY = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
NETWORKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "dream": ("DreamModel", "AutoModel", {}),
    "long": ("DreamModel", "AutoModel", {}),
    "records": ("DreamModel", "AutoModel", {}),
    "blocks": (
        "DreamForCausalLM",
        "AutoModelForCausalLM",
        {"attention_bias": False, "block_size": 32, "head_dim": 64, "num_attention_heads": 6},
    ),
}
"""Dream's form and its block-causal successor's: architecture, class to load it by, what else config.json has.

`long` writes long texts, `records` answers in JSON; neither is in the package.
"""
_OLD = {"sudoku": 350, "countdown": 300, "sentences": 150, "questions": 350}
_MORE = {"sudoku": 500, "countdown": 1000, "sentences": 300, "questions": 800}
STAGES: dict[str, dict[int, dict[str, int]]] = {
    "dream": {
        0: {"sudoku": 3000, "countdown": 3000, "sentences": 2000, "questions": 2400},
        400: {"sudoku": 1400, "countdown": 4200, "sentences": 2200, "questions": 3000},
        700: {"sudoku": 1000, "countdown": 4200, "sentences": 2200, "questions": 3000},
        900: {"sudoku": 600, "countdown": 3000, "sentences": 1300, "questions": 2600},
        1400: {"sudoku": 500, "countdown": 2800, "sentences": 1400, "questions": 3200},
    },
    "blocks": {
        0: {"sudoku": 3000, "countdown": 3000, "sentences": 2000, "questions": 2400},
        400: {"sudoku": 4000, "countdown": 2600, "sentences": 1500, "questions": 2200},
    },
    "long": {
        0: {**_OLD, "chains": 1300, "grids": 1300, "stories": 1100},
        150: {**_MORE, "chains": 1700, "grids": 1700, "stories": 1400},
        420: {"chains": 2400, "grids": 1800, "stories": 1800},
    },
    "records": {0: {"questions": 2400, "records": 3600}},
}
"""From which step on a step of a network's training holds about how many tokens of each task.

Dream learns Sudoku first, arithmetic last. Without seeing the rest of the answer Sudoku is what is hardest.
"""


def amounts(network: str, step: int) -> dict[str, int]:
    """About how many tokens of each task `step` holds. What the long one knows already is rehearsed at every other."""
    stages = STAGES[network]
    found = stages[max(start for start in stages if start <= step)]
    return {name: tokens for name, tokens in found.items() if network != "long" or step % 2 or name not in _OLD}


def config_json(network: str, tokenizer_size: int, special: dict[str, int]) -> dict[str, Any]:
    """config.json as the published networks of its kind have it; the vocabulary is padded to a multiple of 256."""
    architecture, auto_model, own = NETWORKS[network]
    return {
        "architectures": [architecture],
        "attention_dropout": 0.0,
        "auto_map": {
            "AutoConfig": "configuration_dream.DreamConfig",
            auto_model: f"modeling_dream.{architecture}",
        },
        "bos_token_id": special[END],
        "eos_token_id": special[END],
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "mask_token_id": special[MASK],
        "max_window_layers": GEOMETRY["num_hidden_layers"],
        "model_type": "Dream",
        "pad_token_id": special[END],
        "rope_scaling": None,
        "sliding_window": None,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.46.2",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": -(-tokenizer_size // 256) * 256,
        **GEOMETRY,
        **own,
    }


_GENERATION: dict[str, Any] = {"temperature": 0.0, "top_k": None, "top_p": None, "transformers_version": "4.46.2"}
_ORDERED: dict[str, Any] = {
    "alg": "entropy",
    "alg_temp": None,
    "eps": 0.001,
    "mask_token_id": None,
    "output_history": False,
    "return_dict_in_generate": False,
}


def generation_json(network: str) -> dict[str, Any]:
    """generation_config.json; that of a block-causal network names no order: its published loop has one."""
    return dict(sorted((_GENERATION if network == "blocks" else _GENERATION | _ORDERED).items()))


def prepare(directory: Path, network: str, seed: int) -> ModelConfig:
    """Write the tokenizer and the configuration to `directory`, unless they are there."""
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "config.json").exists():
        train_tokenizer(sample_texts(np.random.default_rng(seed)), directory)
        tokenizer = load_tokenizer(directory)
        special = special_ids(tokenizer)
        config = dict(sorted(config_json(network, tokenizer.get_vocab_size(), special).items()))
        (directory / "generation_config.json").write_text(
            json.dumps(generation_json(network), indent=2) + "\n", "utf-8"
        )
        (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    return read_checkpoint_config(directory)
