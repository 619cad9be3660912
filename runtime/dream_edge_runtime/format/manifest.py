"""manifest.json: what an artifact consists of, and where it came from. Written last, read first.

The schema version is "MAJOR.MINOR". A runtime reads every older minor version of its major; a newer minor or another
major is refused with the name of the release that wrote it. Before 1.3 every network was of Dream's own form and read
conversations as Dream does, and a tied lm_head was stored by itself; before 1.2 no recipe was joined, so matrices lay
one after the other; 1.0 had no graph revision.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..chat_format import DREAM_CHAT, ChatFormat
from ..errors import ArtifactNotFound, CorruptArtifact, DreamEdgeError, UnsupportedArtifact
from ..files.json import canonical_json, describe, parse_canonical
from ..files.regular import read_regular
from .model_config import ModelConfig, add_form_of_dream
from .recipe import Recipe, Target

MANIFEST = "manifest.json"
ARTIFACT_FILES = re.compile(r"manifest\.json|tokenizer\.json|README\.md|model_\w+\.onnx|weights-\d{5}\.bin")
"""Names of the files that an export writes."""
SCHEMA_MAJOR, SCHEMA_MINOR = 1, 3
LARGEST_MANIFEST = 1 << 20
LARGEST_FILE = 1 << 40
MOST_FILES = 1 << 12

_LONGEST_TEXT = 200
_FLAT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}")
# the manifest itself, and what Windows takes for a device or shortens
_RESERVED = re.compile(r"manifest\.json|(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*\.", re.IGNORECASE)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})")


@dataclass(frozen=True)
class FileEntry:
    """One file of an artifact: bytes and SHA-256 in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything a runtime must know before it opens another file."""

    producer: str
    """The program that wrote it, and its version."""
    files: tuple[FileEntry, ...]
    """The graphs, weights and tokenizer: name, size in bytes, SHA-256."""
    graphs: Mapping[Target, str]
    """The graph's file for each target."""
    graph_revision: int = 0
    """The revision of the network's graph in these files; 0 = from before revisions were counted."""
    config: ModelConfig
    """The network's geometry and special ids."""
    recipe: Recipe
    """How each target's matrices are stored."""
    chat_format: ChatFormat | None = DREAM_CHAT
    """How the model reads conversations; None where its template is none that is known."""
    generation: Mapping[str, Any] = field(default_factory=dict)
    """The checkpoint's generation_config.json, as far as it can be used."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the weights are from."""
    license: str | None = None
    """The weights' licence, as the checkpoint states it."""

    def to_json(self) -> bytes:
        """See `canonical_json`."""
        document = {
            "schema": f"{SCHEMA_MAJOR}.{SCHEMA_MINOR}",
            "producer": self.producer,
            "files": [asdict(entry) for entry in sorted(self.files, key=lambda entry: entry.name)],
            "graphs": dict(self.graphs),
            "graph_revision": self.graph_revision,
            "model": self.config.to_dict(),
            "recipe": asdict(self.recipe),
            "chat_format": self.chat_format and asdict(self.chat_format),
            "generation": dict(self.generation),
            "provenance": dict(self.provenance),
            "license": self.license,
        }
        return canonical_json(document)

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """Read and check the manifest of the artifact in `directory`.

        Raises: ArtifactNotFound, CorruptArtifact, UnsupportedArtifact.
        """
        path = directory / MANIFEST
        if not path.is_file():
            raise ArtifactNotFound(directory)
        return cls.from_json(read_regular(path, LARGEST_MANIFEST), path)

    @classmethod
    def from_json(cls, data: bytes, source: Path | str = MANIFEST) -> Manifest:
        """The manifest in the canonical JSON `data`; `source` is named in errors."""
        if len(data) > LARGEST_MANIFEST:
            raise CorruptArtifact(source, f"a manifest has at most {LARGEST_MANIFEST} bytes")
        try:
            document = parse_canonical(data)
        except (ValueError, RecursionError) as error:
            raise CorruptArtifact(source, f"not canonical JSON ({describe(error)})") from None
        if not isinstance(document, dict):
            raise CorruptArtifact(source, "the manifest is not a JSON object")
        minor = _check_version(document, source)
        try:
            return _build(document, minor)
        except (DreamEdgeError, TypeError, KeyError, ValueError, AttributeError) as error:
            raise CorruptArtifact(source, f"the manifest does not fit its schema ({describe(error)})") from None

    def file(self, name: str) -> FileEntry:
        """The entry of the file called `name`."""
        return next(entry for entry in self.files if entry.name == name)


def _check_version(document: Mapping[str, Any], source: Path | str) -> int:
    """The minor version of a schema that can be read."""
    schema = document.get("schema")
    match = _VERSION.fullmatch(schema) if isinstance(schema, str) else None
    if not match:
        raise CorruptArtifact(source, f"schema {ascii(schema)[:80]} is not a version")
    major, minor = map(int, match.groups())
    if major != SCHEMA_MAJOR or minor > SCHEMA_MINOR:
        raise UnsupportedArtifact(
            source,
            f"schema {major}.{minor} is not one this version reads ({SCHEMA_MAJOR}.0 to {SCHEMA_MAJOR}.{SCHEMA_MINOR})",
            f"It was written by {str(document.get('producer'))[:80]!r}: install that release, or export again.",
        )
    return minor


def _build(document: dict[str, Any], minor: int) -> Manifest:
    expected = {each.name for each in fields(Manifest)} | {"schema", "model"}
    expected -= {"config"} | (set() if minor else {"graph_revision"}) | (set() if minor >= 3 else {"chat_format"})
    _check(set(document) == expected, f"keys {sorted(set(document) ^ expected)} are missing or unknown")
    for key, kind in (("producer", str), ("files", list), ("generation", dict), ("provenance", dict), ("graphs", dict)):
        _check(isinstance(document[key], kind), f"{key} is not a {kind.__name__}")
    for key in ("producer", "license"):
        text = document[key]
        fits = text is None or (isinstance(text, str) and len(text) <= _LONGEST_TEXT and text.isprintable())
        _check(fits, f"{key} is not a line of at most {_LONGEST_TEXT} characters")
    count, graphs = len(document["files"]), document["graphs"]
    _check(0 < count <= MOST_FILES, f"it lists {count} files, expected 1 to {MOST_FILES}")
    files = tuple(_file_entry(raw) for raw in document["files"])
    names = [entry.name for entry in files]
    _check(len({name.lower() for name in names}) == count, "a file is listed twice, or two names differ only in case")
    _check(names == sorted(names), "the files are not in the order of their names")
    _check(len(set(map(str, graphs.values()))) == len(graphs), "two targets share a graph")
    for target, name in graphs.items():
        _check(name in names, f"the graph for {target} is not among the files")
    revision = document.get("graph_revision", 0)
    _check(type(revision) is int and revision >= 0, "the graph's revision is not a number")
    facts = document["model"] if minor >= 3 else add_form_of_dream(document["model"])
    config, recipe = ModelConfig(**facts), Recipe.from_dict(document["recipe"])
    recipe.check(config)
    _check(graphs.keys() == recipe.targets.keys(), "the graphs are not those of the recipe")
    chat = document.get("chat_format", {})
    chat_format = None if chat is None else ChatFormat(**chat)
    values = {**document, "files": files, "config": config, "recipe": recipe, "chat_format": chat_format}
    return Manifest(**{name: value for name, value in values.items() if name not in ("schema", "model")})


def _file_entry(raw: dict[str, Any]) -> FileEntry:
    entry = FileEntry(**raw)
    name, size, digest = entry.name, entry.size, entry.sha256
    plain = isinstance(name, str) and _FLAT_NAME.fullmatch(name) and not _RESERVED.fullmatch(name)
    _check(bool(plain), f"{name!r} is not a plain file name")
    _check(type(size) is int and 0 <= size <= LARGEST_FILE, f"the size of {name} is not a number of bytes")
    _check(isinstance(digest, str) and bool(_DIGEST.fullmatch(digest)), f"the digest of {name} is not 64 hex digits")
    return entry


def _check(fits: bool, problem: str) -> None:
    if not fits:
        raise ValueError(problem)
