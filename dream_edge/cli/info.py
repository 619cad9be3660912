"""`dream-edge info`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dream_edge_runtime.units import number, size

from . import options
from .terminal.io import print_json, printable
from .terminal.progress import show_progress

if TYPE_CHECKING:
    from dream_edge.description import ArtifactInfo, ModelInfo
    from dream_edge_runtime.chat_format import ChatFormat
    from dream_edge_runtime.format.model_config import ModelConfig
    from dream_edge_runtime.format.recipe import Formats, WeightFormat


def info(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help='Artifact or checkpoint: directory, owner/name, "tiny".')
    ],
    attention: options.Attention = None,
    shift: options.Shift = None,
    mask_token: options.MaskToken = None,
    json: options.PrintJson = False,
) -> None:
    """Describe an artifact or a checkpoint.

    Geometry, size, expected memory, generation defaults, origin. No weight is read.
    """
    import dream_edge

    with show_progress() as progress:
        found = dream_edge.info(model, attention=attention, shift=shift, mask_token=mask_token, progress=progress)
    if json:
        print_json(found.to_dict())
    else:
        typer.echo(printable("\n".join(f"{name:<12} {value}" for name, value in _rows(found))))


def _rows(found: ModelInfo) -> list[tuple[str, str]]:
    from dream_edge.description import ArtifactInfo, CheckpointInfo

    config = found.config
    known = config.max_position_embeddings
    positions = "all its positions" if known == config.context else f"of {known} positions"
    special_ids = (f"{name.split('_')[0]} {value}" for name, value in found.special_ids.items())
    rows = [
        (found.kind, str(found.path)),
        (
            "network",
            f"{config.num_hidden_layers} layers × {config.hidden_size}, intermediate {config.intermediate_size}, "
            f"{config.num_attention_heads} heads of {config.head_dim}, {config.num_key_value_heads} for keys and values"
            f", vocabulary {config.vocab_size}",
        ),
        ("form", _form(config)),
        ("attention", _attention(config)),
        ("parameters", f"{number(found.parameters)}: {_listed(found.parameters_by_part, number)}"),
        ("context", f"{config.context} tokens, {positions}"),
        ("logits", f"row i predicts the token at i{f' + {config.shift}' if config.shift else ''}"),
        ("special ids", ", ".join(special_ids)),
        ("chat", _chat(found.chat_format)),
    ]
    if isinstance(found, ArtifactInfo):
        rows += _artifact_rows(found)
    elif isinstance(found, CheckpointInfo):
        rows.append(("size", f"{size(found.bytes)} of {found.dtype}, {found.bits_per_weight:.2f} bits per weight"))
    defaults = ", ".join(f"{name} {value}" for name, value in found.generation_defaults.items() if value is not None)
    licence = (found.license or "not named by the checkpoint") + (", non-commercial" if found.is_noncommercial else "")
    return [*rows, ("license", licence), ("defaults", defaults or "none")]


def _form(config: ModelConfig) -> str:
    """What Qwen2's and Qwen3's networks differ in, and the head."""
    parts = ["norms of each head of q and k"] if config.qk_norm else []
    parts += ["biases of q, k and v"] if config.attention_bias else []
    return ", ".join([*parts, "lm_head is the embedding" if config.tie_word_embeddings else "an lm_head of its own"])


def _attention(config: ModelConfig) -> str:
    if config.causal_block is None:
        return "full: every position to every other"
    return f"block-causal: a position to its block of {config.causal_block} and to those before it"


def _chat(chat_format: ChatFormat | None) -> str:
    if chat_format is None:
        return "its template is none that is known: --raw alone"
    thinking = {
        "none": "",
        "on": ", thinks first unless told --no-thinking",
        "off": ", thinks first only when told --thinking",
    }
    system = "no system turn" if chat_format.system is None else f"system turn {chat_format.system!r:.80}"
    return f"ChatML, {system} by default{thinking[chat_format.thinking]}"


def _artifact_rows(found: ArtifactInfo) -> list[tuple[str, str]]:
    memory, gpu = found.memory, found.gpu_memory
    described = {target: _describe(formats) for target, formats in found.recipe.targets.items()}
    if len(described) > 1:
        described = {target: f"{target}: {text}" for target, text in described.items()}
    rows = [
        (
            "scheme",
            f"{found.recipe.scheme}, {found.bits_per_weight:.2f} bits per weight ({'; '.join(described.values())})",
        ),
        ("size", f"{size(found.bytes)}: {_listed(found.bytes_by_part, size)}"),
        (
            "memory",
            f"{size(memory.weights)} loaded, {size(memory.weights + memory.loading)} while loading, "
            f"{size(memory.working)} more in a pass over {found.canvas} tokens; Python and ONNX Runtime add 0.1 GB; "
            "estimated, not measured",
        ),
    ]
    if gpu:
        text = (
            f"{size(gpu.weights)} loaded, CUDA's own included; {size(gpu.working)} more in a pass over "
            f"{found.canvas} tokens that may reveal {found.rows}; estimated, not measured"
        )
        rows.append(("GPU memory", text))
    return [
        *rows,
        ("runs on", ", ".join(found.targets)),
        ("origin", _origin(found.provenance)),
    ]


def _listed(amounts: Mapping[str, int], shown: Callable[[float], str]) -> str:
    return ", ".join(f"{name} {shown(amount)}" for name, amount in amounts.items() if amount)


def _describe(formats: Formats) -> str:
    """How the matrices of a graph are stored."""

    def describe(part: WeightFormat) -> str:
        if part.kind == "float":
            return f"fp{part.bits}"
        return f"{part.bits}-bit " + (f"in groups of {part.block_size}" if part.block_size else "a column")

    parts = {"layers": formats.body, "embedding": formats.embedding, "lm_head": formats.lm_head}
    otherwise = f", {len(formats.overrides)} matrices otherwise" if formats.overrides else ""
    return ", ".join(f"{name} {describe(part)}" for name, part in parts.items()) + otherwise


def _origin(provenance: Mapping[str, Any]) -> str:
    weights = provenance.get("weights")
    sizes = [each for each in weights.values() if isinstance(each, int)] if isinstance(weights, dict) else []
    digest = str(provenance.get("config_sha256"))[:16]
    source = provenance.get("source")
    pulled = f"{source.get('repository')} at commit {source.get('commit')}; " if isinstance(source, dict) else ""
    return (
        f"{pulled}{provenance.get('dtype')} weights, {len(sizes)} file(s) of {size(sum(sizes))}; "
        f"config.json {digest}; by {provenance['producer']}"
    )
