"""From a name to a model: directories, models on a hub, and the tiny Dream that comes with the package."""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from dataclasses import replace
from importlib import metadata, resources
from pathlib import Path

from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.cores import default_threads
from dream_edge_runtime.errors import (
    ArtifactNotFound,
    CheckpointNotFound,
    DreamEdgeError,
    MissingExtra,
    UnsupportedArtifact,
)
from dream_edge_runtime.format.manifest import MANIFEST
from dream_edge_runtime.format.recipe import Recipe, check_scheme
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.inference.devices import choose_device
from dream_edge_runtime.inference.onnx_network import OnnxNetwork, check_memory
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.requantize.artifact import Progress, derive_recipe
from dream_edge_runtime.requantize.cache import Int8Cache

from .hub import Kind, Repository, obtain

TINY = "tiny"
_TINY_SCHEME = "int8"  # the scheme whose artifact of the tiny Dream is in the package


def load(
    name: str | Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    verify: bool = False,
    scheme: str | None = None,
    as_int8: bool = False,
    memory_check: bool = True,
) -> DreamModel:
    """Load an artifact.

    Args:
        name: the directory of an artifact, its name on a hub ("owner/name" or "owner/name@revision", see
            `dream_edge.hub`), or "tiny" for the bundled model. A directory of that name with a model in it comes first.
        device: "auto", "cpu" or "cuda".
        threads: for one pass; None = one for each core that this process may use.
        verify: read every byte and compare its digest first; sizes and structure are always checked.
        scheme: with "tiny", another scheme than the bundled int8: exported into the user's cache when first asked for
            (needs the export extra). With a directory, the scheme it must have.
        as_int8: run 4-bit weights as 8-bit ones, about twice as fast on a CPU, for 1.6 times the memory. The first load
            writes a copy with such weights into the user's cache; later ones find it. Nothing changes on a GPU.
        memory_check: refuse to load what the free memory cannot hold.

    Raises:
        ArtifactNotFound: there is none of that name.
        CorruptArtifact: it is damaged, or a file of it is missing.
        UnsupportedArtifact: it is a checkpoint, of another scheme than the one asked for, or of a newer format.
        DeviceUnavailable: the device, its driver or the graph for it is missing.
        TooLittleMemory: the model does not fit what is free; the error names schemes that would.
        InvalidOption: `device`, `scheme` or `threads` is none.
        MissingExtra: what this takes is not installed.
        NothingToRequantize: `as_int8`, and its weights are not in 4 bits.
        NoRoomForCache: `as_int8`, and the copy does not fit the disk.
        UnsafeCache: `as_int8`, and others can write to the user's cache.
        HubError: the model has to be fetched, and cannot be.
    """
    artifact = Artifact.open(resolve_artifact(name, scheme=scheme))
    if verify:
        artifact.verify()
    if as_int8 and choose_device(device, artifact.manifest.graphs, artifact.path) == "cpu":
        artifact = obtain_int8(artifact, threads=threads, memory_check=memory_check, verify=verify)
    defaults = GenerationConfig.from_checkpoint(artifact.manifest.generation, artifact.path / MANIFEST)
    tokenizer = artifact.tokenizer()  # before the weights: a bad one is found at once
    network = OnnxNetwork(
        artifact,
        device=device,
        threads=threads,
        memory_check=memory_check,
    )
    return DreamModel(network, tokenizer, defaults)


def obtain_int8(
    artifact: Artifact,
    *,
    threads: int | None = None,
    memory_check: bool = True,
    verify: bool = False,
    progress: Progress = lambda *_: None,
) -> Artifact:
    """The copy of `artifact` with 8-bit weights in the user's cache, made if there is none; see `load`.

    Raises:
        NothingToRequantize: its weights are not in 4 bits.
        TooLittleMemory: the copy could not be loaded.
        NoRoomForCache: it does not fit the disk.
        UnsafeCache: others can write to the user's cache.
        CorruptArtifact: `artifact` is damaged.
    """
    recipe = derive_recipe(artifact)
    if memory_check:  # before a copy is written that could not be loaded
        check_memory(replace(artifact, manifest=replace(artifact.manifest, recipe=recipe)), "cpu")
    count = threads or default_threads() or os.cpu_count() or 1
    return int8_cache().obtain(artifact, threads=count, verify=verify, progress=progress)


def resolve_artifact(name: str | Path, *, scheme: str | None = None) -> Path:
    """The directory of the artifact called `name`, fetched from a hub if it is not here. See `load` for the arguments.

    Raises:
        ArtifactNotFound: there is none of that name.
        UnsupportedArtifact: it is a checkpoint, or of another scheme.
        InvalidOption: `scheme` is none.
        HubError: it has to be fetched, and cannot be.
    """
    if scheme is not None:
        check_scheme(scheme)  # an unknown name is said before anything is read
    if is_bundled(name):
        return bundled("tiny_int8") if scheme in (None, _TINY_SCHEME) else _exported_tiny(str(scheme))
    path = _directory(name, Kind.ARTIFACT)
    if not (path / MANIFEST).is_file():
        if (path / "config.json").is_file():
            remedy = f"Run `dream-edge export {path} OUT --scheme int4` first."
            raise UnsupportedArtifact(path, "this is a checkpoint, not an artifact", remedy)
        raise ArtifactNotFound(path)
    if scheme is not None:
        found = Artifact.open(path).manifest.recipe.scheme
        if found != scheme:
            remedy = "Name another artifact, or no scheme."
            raise UnsupportedArtifact(path, f"its scheme is {found}, not {scheme}", remedy)
    return path


def resolve_checkpoint(name: str | Path) -> Path:
    """The directory of the checkpoint called `name` ("tiny" is one too), fetched from a hub if it is not here.

    Raises:
        CheckpointNotFound: there is no such directory.
        HubError: it has to be fetched, and cannot be.
    """
    if is_bundled(name):
        return bundled("tiny")
    path = _directory(name, Kind.CHECKPOINT)
    if not path.is_dir():
        raise CheckpointNotFound(path, "directory")
    return path


def is_bundled(name: str | Path) -> bool:
    """Whether `name` means the tiny Dream in the package: a directory of that name comes first, if it holds a model."""
    here = Path(TINY)
    return str(name) == TINY and not any((here / each).is_file() for each in (MANIFEST, "config.json"))


def _directory(name: str | Path, kind: Kind) -> Path:
    """What is here comes first; then a copy in the hub's cache; then the hub."""
    repository = hub_repository(name)
    return Path(name) if repository is None else obtain(repository, kind)


def hub_repository(name: str | Path) -> Repository | None:
    """The model on a hub that `name` means; None if it means a place here. A `Path` always does."""
    return None if isinstance(name, Path) or Path(name).exists() else Repository.parse(name)


def bundled(name: str) -> Path:
    """A directory inside the package: "tiny" (checkpoint) or "tiny_int8" (artifact)."""
    return Path(str(resources.files("dream_edge").joinpath(name)))


def _exported_tiny(scheme: str) -> Path:
    """The tiny Dream in another scheme, from the cache or exported into it."""
    weights = hashlib.sha256((bundled(TINY) / "model.safetensors").read_bytes()).hexdigest()
    out = cache_directory() / f"{TINY}-{scheme}-{metadata.version('dream-edge')}-{weights[:12]}"
    with suppress(DreamEdgeError):  # nothing there, or what another revision of this version wrote
        return Artifact.open(out).path
    try:
        from dream_edge_export.checkpoint.checkpoint import Checkpoint
        from dream_edge_export.export import export
    except ImportError:
        raise MissingExtra(f"The tiny Dream comes as {_TINY_SCHEME}; exporting it as {scheme}", "export") from None
    checkpoint = Checkpoint.open(bundled(TINY))
    recipe = Recipe.for_scheme(scheme, layers=checkpoint.config.num_hidden_layers)
    return export(checkpoint, out, recipe, force=True).path


def int8_cache() -> Int8Cache:
    """Where `load(..., as_int8=True)` keeps its copies."""
    return Int8Cache(cache_directory() / "as-int8")


def cache_directory() -> Path:
    """Where this user's platform keeps files that can be made again."""
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen) / "dream-edge"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "dream-edge" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "dream-edge"
    return Path.home() / ".cache" / "dream-edge"
