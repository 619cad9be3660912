"""The model card of an artifact: README.md, with the metadata block that model hubs read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dream_edge_runtime.format.manifest import Manifest

_SCHEMES = {
    "fp32": "weights as they are, in fp32",
    "fp16": "weights rounded to fp16",
    "int8": "8-bit weights and activations (W8A8), one scale for each column and for each row",
    "int4": "4-bit weights in groups, embedding and lm_head in 8 bits",
    "mixed": "4-bit weights in groups; sensitive matrices, embedding and lm_head in 8 bits",
    "nf4": "bitsandbytes' 4-bit NormalFloat, embedding and lm_head in 8 bits",
}


def format_card(manifest: Manifest) -> str:
    """Markdown, the same for the same manifest."""
    config, recipe = manifest.config, manifest.recipe
    header = ["---", "library_name: dream-edge", "pipeline_tag: text-generation"]
    header += [f"license: {manifest.license}"] if manifest.license else []
    source = manifest.provenance.get("source")
    header += [f"base_model: {source['repository']}"] if source else []
    header += ["tags:", "- dream", "- diffusion", "- onnx", f"- {recipe.scheme}", "---"]
    weights = sum(entry.size for entry in manifest.files if entry.name.startswith("weights-"))
    bits = ", ".join(
        f"{formats.bits_per_weight(config):.2f} bits per weight on {target}"
        for target, formats in recipe.targets.items()
    )
    chosen_by = manifest.provenance.get("recipe_chosen_by")
    described = _describe_budget(chosen_by) if chosen_by else _SCHEMES[recipe.scheme]
    return "\n".join(
        [
            *header,
            "",
            f"# Dream {config.num_hidden_layers} × {config.hidden_size}, {recipe.scheme}",
            "",
            f"A Dream masked-diffusion language model, exported by {manifest.producer}: {described}.",
            "",
            "| | |",
            "|---|---|",
            f"| exported from | {_describe_source(source)}{manifest.provenance['dtype']} weights, "
            f"config.json {manifest.provenance['config_sha256'][:12]} |",
            f"| geometry | {config.num_hidden_layers} layers × {config.hidden_size}, "
            f"{config.num_attention_heads} heads, {config.num_key_value_heads} key-value heads, "
            f"vocabulary {config.vocab_size} |",
            f"| weights | {weights / 1e6:.1f} MB; {bits} |",
            f"| runs on | {', '.join(recipe.targets)} |",
            f"| rounding | {recipe.rounding} |",
            f"| context | {config.context} tokens |",
            "",
            "```console",
            'pip install "dream-edge[cpu]"',
            "dream-edge generate . -p 'Hello'",
            "dream-edge verify .",
            "```",
            "",
        ]
    )


def _describe_source(source: Mapping[str, str] | None) -> str:
    return f"{source['repository']} at commit {source['commit']}, " if source else ""


def _describe_budget(chosen_by: Mapping[str, Any]) -> str:
    return (
        f"each matrix in one of {', '.join(chosen_by['formats'])}, chosen by its measured loss within "
        f"{chosen_by['bits']:g} bits per weight"
    )
