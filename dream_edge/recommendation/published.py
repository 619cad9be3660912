"""The published checkpoints of Dream's family: what their authors say of them, and nothing else.

Read in their repositories, papers and cards, November 2026; no hub could be asked. Scores are the authors' own, or
those of the paper that is named, and nothing here was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dream_edge_runtime.format.model_config import IDS, ModelConfig

ASSUMED_TOKENS_PER_PASS = 2.0
"""Where nothing is published."""


@dataclass(frozen=True, kw_only=True)
class PublishedModel:
    """A checkpoint on the hub."""

    repository: str
    license: str | None
    """None where it was not stated in what could be read."""
    non_commercial: bool = False
    config: ModelConfig
    """Its geometry; ids and context are stand-ins, which size and speed do not depend on."""
    purpose: str
    """What it was made for, in a word or two."""
    thinks: bool = False
    """It writes its reasoning before its answer, so that an answer is many times as long."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Percent, by benchmark."""
    scores_source: str | None = None
    published_tokens_per_pass: float | None = None
    tokens_per_pass_source: str | None = None

    @property
    def tokens_per_pass(self) -> float:
        """As published; `ASSUMED_TOKENS_PER_PASS` otherwise."""
        return self.published_tokens_per_pass or ASSUMED_TOKENS_PER_PASS

    @property
    def attention(self) -> str:
        block = self.config.causal_block
        return "full" if block is None else f"block-causal {block}"


def _network(sizes: tuple[int, int, int, int, int, int, int], **facts: Any) -> ModelConfig:
    """Of hidden and intermediate size, layers, heads, those of keys and values, their size, and vocabulary."""
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    values = dict(zip((*names, "head_dim", "vocab_size"), sizes, strict=True))
    ids = dict.fromkeys(IDS, 0)
    usual: dict[str, Any] = {"shift": 1, "causal_block": None, "tie_word_embeddings": True, "expand_token_id": None}
    usual |= {"rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 32768, "context": 32768}
    return ModelConfig(**{**values, **ids, **usual, **facts})


_QWEN2 = {"attention_bias": True, "qk_norm": False}
_QWEN3 = {"attention_bias": False, "qk_norm": True}
_BLOCKS = {"causal_block": 32}
_HALF = (896, 4864, 24, 14, 2, 64, 151936)
_SMALL = (1024, 3072, 28, 16, 8, 128, 151936)
_SEVEN = (3584, 18944, 28, 28, 4, 128, 152064)
_DREAM = _network(_SEVEN, tie_word_embeddings=False, **_QWEN2)
_A2D = "README of ZHZisZZ/dllm, examples/a2d"

PUBLISHED: tuple[PublishedModel, ...] = (
    PublishedModel(
        repository="fredzzp/open-dcoder-0.5B",
        license="apache-2.0",
        config=_network(_HALF, **_QWEN2),
        purpose="code, infilling",
        scores={"HumanEval": 20.8},
        scores_source="README of pengzhangzhi/Open-dLLM",
    ),
    PublishedModel(
        repository="dllm-hub/Qwen2.5-Coder-0.5B-Instruct-diffusion-mdlm-v0.1",
        license=None,
        config=_network(_HALF, shift=0, **_QWEN2),
        purpose="code",
        scores={"HumanEval": 28.1},
        scores_source=_A2D,
    ),
    PublishedModel(
        repository="dllm-hub/Qwen2.5-Coder-0.5B-Instruct-diffusion-bd3lm-v0.1",
        license=None,
        config=_network(_HALF, shift=0, **_QWEN2, **_BLOCKS),
        purpose="code",
        scores={"HumanEval": 39.0},
        scores_source=_A2D,
    ),
    PublishedModel(
        repository="dllm-hub/Qwen3-0.6B-diffusion-mdlm-v0.1",
        license=None,
        config=_network(_SMALL, shift=0, **_QWEN3),
        purpose="chat",
        scores={"GSM8K": 29.3, "HumanEval": 30.5},
        scores_source=_A2D,
    ),
    PublishedModel(
        repository="dllm-hub/Qwen3-0.6B-diffusion-bd3lm-v0.1",
        license=None,
        config=_network(_SMALL, shift=0, **_QWEN3, **_BLOCKS),
        purpose="chat",
        scores={"GSM8K": 46.3, "HumanEval": 46.3},
        scores_source=_A2D,
    ),
    PublishedModel(
        repository="Efficient-Large-Model/Fast_dLLM_v2_1.5B",
        license="apache-2.0",
        config=_network((1536, 8960, 28, 12, 2, 128, 151936), **_QWEN2, **_BLOCKS),
        purpose="chat",
        scores={"GSM8K": 62.0, "HumanEval": 43.9},
        scores_source="Fast-dLLM v2, arXiv 2509.26328",
    ),
    PublishedModel(
        repository="Salesforce/CoDA-v0-Instruct",
        license="cc-by-nc-4.0",
        non_commercial=True,
        config=_network((2048, 6144, 28, 16, 8, 128, 151936), **_QWEN3),
        purpose="code",
        scores={"HumanEval": 54.3, "MBPP": 47.2},
        scores_source="README of SalesforceAIResearch/CoDA",
    ),
    PublishedModel(
        repository="Efficient-Large-Model/Fast_dLLM_v2_7B",
        license="apache-2.0",
        config=_network(_SEVEN, tie_word_embeddings=False, **_QWEN2, **_BLOCKS),
        purpose="chat",
    ),
    PublishedModel(
        repository="Dream-org/Dream-v0-Instruct-7B",
        license="apache-2.0",
        config=_DREAM,
        purpose="chat",
        scores={"GSM8K": 82.9, "HumanEval": 52.4, "MBPP": 58.8},
        scores_source="dParallel, table 2: the official loop, 256 steps",
        published_tokens_per_pass=2.0,
        tokens_per_pass_source=(
            "dParallel, table 2: 256 tokens in 43 to 93 passes at threshold 0.9, of which about two a pass come before "
            "the end of the text"
        ),
    ),
    PublishedModel(
        repository="Dream-org/Dream-Coder-v0-Instruct-7B", license="apache-2.0", config=_DREAM, purpose="code"
    ),
    PublishedModel(
        repository="Dream-org/DreamReasoner-8B",
        license="apache-2.0",
        config=_network((4096, 12288, 36, 32, 8, 128, 151936), shift=0, tie_word_embeddings=False, **_QWEN3, **_BLOCKS),
        purpose="mathematics, code",
        thinks=True,
    ),
)
"""Smallest first."""
