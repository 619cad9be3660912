"""Names of models on a hub, copies of them that are already on this machine, and the settings of the connection. No
network, no huggingface_hub.

The cache is huggingface_hub's own, shared with every program that uses it
(https://huggingface.co/docs/huggingface_hub/guides/manage-cache): files lie in blobs/ under their digest, and
snapshots/COMMIT/ links to them under their names; refs/ says which commit a branch or tag was last seen at.
The environment is read at each call.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dream_edge_runtime.errors import DreamEdgeError
from dream_edge_runtime.files.json import read_json_object
from dream_edge_runtime.format.manifest import MANIFEST, Manifest
from dream_edge_runtime.host import expand_home

_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.\-]{0,94}[A-Za-z0-9_])?"
_NAME = re.compile(rf"({_PART}/{_PART})(?:@([A-Za-z0-9_][A-Za-z0-9_.+/\-]{{0,254}}))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
SINGLE_FILE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_NOT_READ = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_SETTINGS = "HF_ENDPOINT HTTPS_PROXY HTTP_PROXY ALL_PROXY NO_PROXY SSL_CERT_FILE SSL_CERT_DIR SSLKEYLOGFILE".split()


@dataclass(frozen=True)
class Repository:
    """A model on a hub: "owner/name", and the branch, tag or commit of it; None is its main branch."""

    name: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Repository | None:
        """The repository that `text` names, as owner/name or owner/name@revision; None if it is no such name."""
        match = _NAME.fullmatch(text)
        if not match or ".." in text or "--" in match[1] or "//" in text:
            return None
        return cls(match[1], match[2])

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name

    @property
    def directory(self) -> Path:
        """Where the cache keeps it."""
        return cache_directory() / f"models--{self.name.replace('/', '--')}"

    @property
    def reference(self) -> Path | None:
        """The file that says which commit the revision is; None if the revision is itself a commit."""
        revision = self.revision or "main"
        return None if is_commit(revision) else self.directory / "refs" / revision


def is_commit(text: str) -> bool:
    return _COMMIT.fullmatch(text) is not None


def endpoint() -> str:
    """The hub: HF_ENDPOINT, for mirrors, or huggingface.co."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) forbids asking the hub."""
    chosen = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return chosen.upper() in {"1", "ON", "YES", "TRUE"}


def advise_to_retry() -> str:
    """What to do about a connection that fails: with the variables that are set and decide how it is made."""
    found = []
    for name, value in os.environ.items():
        if value and (name.upper() in _SETTINGS or (name in _NOT_READ and "SSL_CERT_FILE" not in os.environ)):
            note = ""
            if name in _NOT_READ:
                note = " (which is not read: SSL_CERT_FILE is)"
            elif name.startswith("SSL") and not Path(value).exists():
                note = f" (there is no {value})"
            elif value.lower().startswith("socks"):
                note = " (write socks5://, which needs `pip install socksio`)"
            found.append(name + note)
    settings = f", and what is set: {', '.join(found)}" if found else ""
    return f"Check the connection{settings}. Then run the same command again: files that have arrived are kept."


def cache_directory() -> Path:
    """The cache, from the variables that huggingface_hub reads."""
    parent = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{parent}/huggingface"
    chosen = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return expand_home(os.path.expandvars(chosen))


def find_cached(repository: Repository) -> Path | None:
    """The copy of `repository` in the cache, if it is complete: of the commit that its revision was last seen at."""
    reference = repository.reference
    try:
        commit = str(repository.revision) if reference is None else reference.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        return None
    directory = repository.directory / "snapshots" / commit
    return directory if is_commit(commit) and _is_complete(directory) else None


def source(path: Path) -> dict[str, str] | None:
    """Repository and commit of a snapshot in a cache of this layout; None for any other directory."""
    commit, parents = path.name, path.absolute().parents
    if not is_commit(commit) or len(parents) < 2 or parents[0].name != "snapshots":
        return None
    kind, _, name = parents[1].name.partition("--")
    repository = Repository.parse(name.replace("--", "/"))
    return {"repository": repository.name, "commit": commit} if kind == "models" and repository else None


def _is_complete(directory: Path) -> bool:
    """Whether everything is there that loading or exporting needs. What is damaged is there: opening it says so."""

    def holds(names: Iterable[object]) -> bool:
        return all((directory / str(name)).is_file() for name in names)

    try:
        if holds([MANIFEST]):
            return holds(entry.name for entry in Manifest.read(directory).files)
        weights: Iterable[object] = [SINGLE_FILE]
        if not holds(weights) and holds([_INDEX]):
            shards = read_json_object(directory / _INDEX, limit=1 << 26).get("weight_map")
            weights = shards.values() if isinstance(shards, dict) else weights
    except DreamEdgeError:
        return True
    return holds(["config.json", *weights]) and (holds(["tokenizer.json"]) or holds(["vocab.json", "merges.txt"]))
