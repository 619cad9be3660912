"""Ways in which the files of an artifact, its tokenizer and its weights can be bad; each returns the file at fault."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from .artifacts import GRAPH, WEIGHTS, change_bytes, change_graph, change_manifest, load_graph, relist
from .systems import make_link, make_pipe

TOKENIZER = "tokenizer.json"
Damage = Callable[[Path], str]


def gone(name: str, named: str = "") -> Damage:
    def damage(artifact: Path) -> str:
        (artifact / name).unlink()
        return named or name

    return damage


def cut(name: str) -> Damage:
    def damage(artifact: Path) -> str:
        os.truncate(artifact / name, (artifact / name).stat().st_size // 2)
        return name

    return damage


def grown(artifact: Path) -> str:
    with (artifact / WEIGHTS).open("ab") as file:
        file.write(b"\0")
    return WEIGHTS


def replaced(name: str, by: Callable[[Path], object]) -> Damage:
    def damage(artifact: Path) -> str:
        (artifact / name).unlink()
        by(artifact / name)
        return name

    return damage


def linked(name: str, to: str) -> Damage:
    return replaced(name, lambda path: make_link(path, to))


def swapped(artifact: Path) -> str:
    graph, tokenizer = artifact / GRAPH, artifact / TOKENIZER
    held = graph.read_bytes()
    graph.write_bytes(tokenizer.read_bytes())
    tokenizer.write_bytes(held)
    relist(artifact)
    return TOKENIZER


def renamed(artifact: Path) -> str:
    (artifact / WEIGHTS).rename(artifact / "weights-00002.bin")
    return WEIGHTS


def renamed_and_listed(artifact: Path) -> str:
    (artifact / WEIGHTS).rename(artifact / "weights-7.bin")
    change_manifest(artifact, lambda document: document["files"][-1].update(name="weights-7.bin"))
    return WEIGHTS


def unlisted(name: str, named: str) -> Damage:
    def damage(artifact: Path) -> str:
        change_manifest(
            artifact,
            lambda document: document.update(files=[each for each in document["files"] if each["name"] != name]),
        )
        return named

    return damage


def sparse_weights(artifact: Path) -> str:
    """A terabyte that takes no room, but not what the manifest says."""
    os.truncate(artifact / WEIGHTS, 1 << 40)
    return WEIGHTS


def other_weights_size(artifact: Path) -> str:
    """Shorter, and listed so."""
    os.truncate(artifact / WEIGHTS, 1000)
    relist(artifact)
    return WEIGHTS


FILES: dict[str, Damage] = {
    "no_manifest": gone("manifest.json", named="no_manifest"),
    **{f"no_{name}": gone(name) for name in (WEIGHTS, GRAPH, TOKENIZER)},
    **{f"cut_{name}": cut(name) for name in (WEIGHTS, GRAPH, TOKENIZER, "manifest.json")},
    "grown": grown,
    "empty_graph": lambda artifact: str(((artifact / GRAPH).write_bytes(b"") and "") or GRAPH),
    "directory": replaced(WEIGHTS, Path.mkdir),
    "pipe_for_weights": replaced(WEIGHTS, make_pipe),
    "pipe_for_the_graph": replaced(GRAPH, make_pipe),
    "pipe_for_the_tokenizer": replaced(TOKENIZER, make_pipe),
    "link_to_nowhere": linked(WEIGHTS, "nowhere"),
    "link_to_itself": linked(WEIGHTS, WEIGHTS),
    "link_to_a_device": linked(WEIGHTS, "/dev/zero"),
    "link_to_a_directory": linked(GRAPH, "."),
    "link_to_another_file": linked(GRAPH, WEIGHTS),
    "swapped": swapped,
    "renamed": renamed,
    "renamed_and_listed": renamed_and_listed,
    "tokenizer_not_listed": unlisted(TOKENIZER, TOKENIZER),
    "weights_not_listed": unlisted(WEIGHTS, WEIGHTS),
    "graph_not_listed": unlisted(GRAPH, "manifest.json"),
    "sparse_terabyte": sparse_weights,
    "weights_too_short_for_the_recipe": other_weights_size,
}


# --- tokenizers ------------------------------------------------------------------------------------------------------


def tokenizer(change: Callable[[Any], object]) -> Damage:
    def damage(artifact: Path) -> str:
        document = json.loads((artifact / TOKENIZER).read_bytes())
        change(document)
        (artifact / TOKENIZER).write_text(json.dumps(document), encoding="utf-8")
        relist(artifact)
        return TOKENIZER

    return damage


def pattern(regex: str) -> Damage:
    def change(document: Any) -> None:
        document["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = regex

    return tokenizer(change)


def text(data: bytes) -> Damage:
    def damage(artifact: Path) -> str:
        (artifact / TOKENIZER).write_bytes(data)
        relist(artifact)
        return TOKENIZER

    return damage


TOKENIZERS: dict[str, Damage] = {
    "hostile_regex": pattern("(a+)+$"),
    "regex_that_panics": pattern("(?"),
    "huge_id": tokenizer(lambda document: document["model"]["vocab"].update(zzz=(1 << 32) - 1)),
    "negative_id": tokenizer(lambda document: document["model"]["vocab"].update(zzz=-1)),
    "id_beyond_the_network": tokenizer(lambda document: document["model"]["vocab"].update(zzz=5000)),
    "two_tokens_one_id": tokenizer(lambda document: document["model"]["vocab"].update(zzz=0)),
    "another_model": tokenizer(lambda document: document["model"].update(type="WordPiece")),
    "normalizer": tokenizer(lambda document: document.update(normalizer={"type": "NFKC"})),
    "no_vocabulary": tokenizer(lambda document: document["model"].update(vocab={})),
    "merges_of_unknown_tokens": tokenizer(lambda document: document["model"].update(merges=[["zzzz", "yyyy"]])),
    "nested_tokenizer": text(b"[" * 1_000_000),
    "tokenizer_with_a_huge_integer": text(b'{"version":' + b"9" * 1_000_000 + b"}"),
    "tokenizer_is_no_text": text(b"\xff" * 1000),
}


# --- bytes that only verifying finds ---------------------------------------------------------------------------------


def flipped(name: str) -> Damage:
    def damage(artifact: Path) -> str:
        middle = (artifact / name).stat().st_size // 2
        change_bytes(artifact / name, lambda data: data.__setitem__(middle, data[middle] ^ 1))
        return name

    return damage


def poisoned(weight: str, value: float) -> Damage:
    """A weight that is no number, in files that match the manifest."""

    def damage(artifact: Path) -> str:
        tensor = next(each for each in load_graph(artifact).initializer if each.name == weight)
        offset = int(next(each.value for each in tensor.external_data if each.key == "offset"))
        form = "<e" if tensor.data_type == onnx.TensorProto.FLOAT16 else "<f"
        change_bytes(artifact / WEIGHTS, lambda data: struct.pack_into(form, data, offset, value))
        relist(artifact)
        return WEIGHTS

    return damage


def other_graph(change: Callable[[onnx.ModelProto], object]) -> Damage:
    """A graph that computes something else, in files that match the manifest."""

    def damage(artifact: Path) -> str:
        change_graph(artifact, change)
        return GRAPH

    return damage


def other_manifest(**values: object) -> Damage:
    """A manifest that is right in itself, but whose graph is another's."""

    def damage(artifact: Path) -> str:
        change_manifest(artifact, lambda document: document["model"].update(values))
        return GRAPH

    return damage


VALUES: dict[str, Damage] = {
    "verify_flipped_weights": flipped(WEIGHTS),
    "verify_flipped_tokenizer": flipped("tokenizer.json"),
    "verify_nan_scale": poisoned("lm_head.scales", float("nan")),
    "verify_infinite_scale": poisoned("model.embed_tokens.scales", float("inf")),
    "verify_nan_norm": poisoned("model.norm.weight", float("nan")),
    "verify_nan_bias": poisoned("model.layers.2.self_attn.q_proj.bias", float("-inf")),
    "verify_no_graph": other_graph(lambda model: model.ClearField("graph")),
    "verify_longer_graph": other_graph(lambda model: model.graph.node.add().CopyFrom(model.graph.node[0])),
    "verify_other_operator": other_graph(lambda model: setattr(model.graph.node[5], "op_type", "Loop")),
    "verify_other_place": other_graph(
        lambda model: setattr(model.graph.initializer[0].external_data[0], "value", "/etc/passwd")
    ),
    "verify_wrong_rotary_base": other_manifest(rope_theta=500.0),
    "verify_wrong_epsilon": other_manifest(rms_norm_eps=0.5),
}


def copy(original: Path, to: Path) -> Path:
    return Path(shutil.copytree(original, to))
