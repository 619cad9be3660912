"""`dream-edge info`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import Formats

from . import options as given
from .pull import at_hand
from .terminal.io import number, print_json, printable, size


def info(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help='Artifact or checkpoint: directory, owner/name, "tiny".')
    ],
    scheme: given.SchemeChoice = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Describe an artifact or a checkpoint.

    Geometry, size, expected memory, generation defaults, origin. No weight is read.
    """
    from dream_edge.models import resolve_artifact
    from dream_edge_runtime.format.manifest import MANIFEST

    model = str(at_hand(model))
    path = Path(model)
    is_checkpoint = (path / "config.json").is_file() and not (path / MANIFEST).is_file()
    if is_checkpoint:
        found = describe_checkpoint(path)
    else:
        found = describe_artifact(resolve_artifact(model, scheme=scheme and scheme.value))
    if json:
        print_json(found)
    else:
        typer.echo(printable("\n".join(lines(found))))


def describe_artifact(path: Path) -> dict[str, Any]:
    """What the manifest says and what follows from it; the structure is checked."""
    from dataclasses import asdict

    from dream_edge_runtime.artifact import Artifact
    from dream_edge_runtime.format.memory import estimate_memory
    from dream_edge_runtime.format.tensors import matrix_shapes

    artifact = Artifact.open(path)
    manifest = artifact.manifest
    config, recipe = manifest.config, manifest.recipe
    target = next(iter(recipe.targets))  # the CPU's, if there are two
    formats = recipe.targets[target]
    memory = estimate_memory(config, formats)
    stored = {name: formats.of(name).stored_bytes(*shape) for name, shape in matrix_shapes(config).items()}
    return {
        "kind": "artifact",
        "path": str(path),
        **_network(config),
        "scheme": recipe.scheme,
        "bits_per_weight": formats.bits_per_weight(config),
        "recipe": asdict(recipe),
        "bytes": artifact.size,
        "bytes_by_part": _by_part(stored) | {"norms and biases": formats.stored_bytes(config) - sum(stored.values())},
        "expected_memory": {
            "weights": memory.weights,
            "loading": memory.loading,
            "pass": memory.working,
            "canvas": _estimated_canvas(config),
        },
        **({"expected_gpu_memory": _gpu_memory(config, recipe.targets["cuda"])} if "cuda" in recipe.targets else {}),
        "targets": sorted(manifest.graphs),
        "generation_defaults": dict(manifest.generation),
        "provenance": dict(manifest.provenance) | {"producer": manifest.producer},
        "license": manifest.license,
    }


def describe_checkpoint(path: Path) -> dict[str, Any]:
    """What config.json and the sizes of the files say; the weights are not opened."""
    from dream_edge_export.checkpoint.config import read_checkpoint_config
    from dream_edge_runtime.format.model_config import read_json_object

    config = read_checkpoint_config(path)
    raw = read_json_object(path / "config.json")
    defaults = path / "generation_config.json"
    network = _network(config)
    stored = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    return {
        "kind": "checkpoint",
        "path": str(path),
        **network,
        "dtype": raw.get("torch_dtype") or raw.get("dtype"),
        "bits_per_weight": 8 * stored / network["parameters"],
        "bytes": stored,
        "generation_defaults": read_json_object(defaults) if defaults.is_file() else {},
    }


def _network(config: ModelConfig) -> dict[str, Any]:
    from dream_edge_runtime.format.tensors import matrix_shapes, vector_sizes

    counts = {name: rows * columns for name, (rows, columns) in matrix_shapes(config).items()}
    parts = _by_part(counts) | {"norms and biases": sum(vector_sizes(config).values())}
    stated = config.to_dict()
    context, shift = stated.pop("context"), stated.pop("shift")
    ids = {name: stated.pop(name) for name in list(stated) if name.endswith("_token_id")}
    return {
        "geometry": stated,
        "context": context,
        "shift": shift,
        "special_ids": {name: value for name, value in ids.items() if value is not None},
        "parameters": sum(parts.values()),
        "parameters_by_part": parts,
    }


def _positions(positions: int, context: int) -> str:
    return "all its positions" if positions == context else f"of {positions} positions"


def _predicted(shift: int) -> str:
    return f"row i predicts the token at i + {shift}" if shift else "row i predicts the token at i"


def _by_part(amounts: dict[str, int]) -> dict[str, int]:
    """Amounts of matrices, added up."""
    embedding, head = amounts["model.embed_tokens"], amounts["lm_head"]
    return {"embedding": embedding, "layers": sum(amounts.values()) - embedding - head, "lm_head": head}


def _gpu_memory(config: ModelConfig, formats: Formats) -> dict[str, int]:
    from dream_edge_runtime.inference.gpu_memory import BLOCK, estimate_gpu_memory

    memory, canvas = estimate_gpu_memory(config, formats), _estimated_canvas(config)
    return {"weights": memory.weights, "pass": memory.working, "canvas": canvas, "rows": min(BLOCK, canvas)}


def _estimated_canvas(config: ModelConfig) -> int:
    from dream_edge_runtime.format.memory import CANVAS

    return min(CANVAS, config.context)


def lines(found: dict[str, Any]) -> list[str]:
    """The same for people."""
    geometry, parts = found["geometry"], found["parameters_by_part"]
    bits = f"{found['bits_per_weight']:.2f} bits per weight"
    rows = [
        (found["kind"], found["path"]),
        (
            "network",
            f"{geometry['num_hidden_layers']} layers × {geometry['hidden_size']}, intermediate "
            f"{geometry['intermediate_size']}, {geometry['num_attention_heads']} heads, "
            f"{geometry['num_key_value_heads']} for keys and values, vocabulary {geometry['vocab_size']}",
        ),
        ("parameters", f"{number(found['parameters'])}: {_listed(parts, number)}"),
        ("context", f"{found['context']} tokens, {_positions(geometry['max_position_embeddings'], found['context'])}"),
        ("logits", _predicted(found["shift"])),
        ("special ids", ", ".join(f"{name.split('_')[0]} {value}" for name, value in found["special_ids"].items())),
    ]
    if found["kind"] == "artifact":
        memory = found["expected_memory"]
        rows += [
            ("scheme", f"{found['scheme']}, {bits} ({_formats(found['recipe']['targets'])})"),
            ("size", f"{size(found['bytes'])}: {_listed(found['bytes_by_part'], size)}"),
            (
                "memory",
                f"{size(memory['weights'])} loaded, {size(memory['weights'] + memory['loading'])} while loading, "
                f"{size(memory['pass'])} more in a pass over {memory['canvas']} tokens; Python and ONNX Runtime add "
                "0.1 GB; "
                "estimated, not measured",
            ),
            *_gpu_line(found),
            ("runs on", ", ".join(found["targets"])),
            ("origin", _origin(found["provenance"])),
            ("license", found["license"] or "not named by the checkpoint"),
        ]
    else:
        rows.append(("size", f"{size(found['bytes'])} of {found['dtype']}, {bits}"))
    rows.append(("defaults", _listed_values(found["generation_defaults"]) or "none"))
    return [f"{name:<12} {value}" for name, value in rows]


def _gpu_line(found: dict[str, Any]) -> list[tuple[str, str]]:
    memory = found.get("expected_gpu_memory")
    if not memory:
        return []
    text = (
        f"{size(memory['weights'])} loaded, CUDA's own included; {size(memory['pass'])} more in a pass over "
        f"{memory['canvas']} tokens that may reveal {memory['rows']}; estimated, not measured"
    )
    return [("GPU memory", text)]


def _listed(amounts: dict[str, int], shown: Any) -> str:
    return ", ".join(f"{name} {shown(amount)}" for name, amount in amounts.items())


def _listed_values(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)


def _formats(targets: dict[str, Any]) -> str:
    """What each graph stores, "cuda: " before it where there are two."""
    described = {target: _format(formats) for target, formats in targets.items()}
    if len(described) == 1:
        return next(iter(described.values()))
    return "; ".join(f"{target}: {text}" for target, text in described.items())


def _format(formats: dict[str, Any]) -> str:
    def named(part: dict[str, Any]) -> str:
        if part["kind"] == "float":
            return f"fp{part['bits']}"
        return f"{part['bits']}-bit " + (f"in groups of {part['block_size']}" if part["block_size"] else "a column")

    parts = ", ".join(
        f"{name} {named(formats[key])}"
        for name, key in (("layers", "body"), ("embedding", "embedding"), ("lm_head", "lm_head"))
    )
    return parts + (f", {len(formats['overrides'])} matrices otherwise" if formats["overrides"] else "")


def _origin(provenance: dict[str, Any]) -> str:
    weights = provenance.get("weights")
    sizes = [each for each in weights.values() if isinstance(each, int)] if isinstance(weights, dict) else []
    digest = str(provenance.get("config_sha256"))[:16]
    source = provenance.get("source")
    pulled = f"{source.get('repository')} at commit {source.get('commit')}; " if isinstance(source, dict) else ""
    return (
        f"{pulled}{provenance.get('dtype')} weights, {len(sizes)} file(s) of {size(sum(sizes))}; "
        f"config.json {digest}; by {provenance['producer']}"
    )
