"""From a name to a model: directories, models on a hub, and the tiny Dream that comes with the package."""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from dataclasses import replace
from importlib import resources
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import (
    ArtifactNotFound,
    CheckpointNotFound,
    DreamEdgeError,
    InvalidOption,
    MissingExtra,
    UnsupportedArtifact,
)
from dream_edge_runtime.files.writing import explain_write_errors
from dream_edge_runtime.format.manifest import MANIFEST
from dream_edge_runtime.format.recipe import SCHEMES, Recipe
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.generation.prefix_store import PrefixStore, suggest_limit
from dream_edge_runtime.host import default_threads, expand_home, free_gpu_memory, free_memory, installed_version
from dream_edge_runtime.inference.devices import choose_device
from dream_edge_runtime.inference.memory import check_memory
from dream_edge_runtime.inference.onnx_network import OnnxNetwork
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.progress import OnProgress, Progress, silent
from dream_edge_runtime.requantize.artifact import derive_recipe
from dream_edge_runtime.requantize.cache import Int8Cache
from dream_edge_runtime.text.chat import listed_ends

from .hub import Kind, Repository, find_or_download

if TYPE_CHECKING:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint

TINY, TINY_BLOCKS = "tiny", "tiny-blocks"
_TINY_SCHEME = "int8"  # the scheme whose artifacts of the tiny networks are in the package
_BUNDLED = {
    name: (model, scheme)
    for model in (TINY, TINY_BLOCKS)
    for name, scheme in [(model, _TINY_SCHEME), *((f"{model}-{scheme}", scheme) for scheme in SCHEMES)]
}


def load(
    name: str | Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    verify: bool = False,
    as_int8: bool = False,
    memory_check: bool = True,
    self_check: bool = True,
    prefix_cache_bytes: int | None = None,
    progress: OnProgress = silent,
) -> DreamModel:
    """Load an artifact.

    Args:
        name: the directory of an artifact, its name on a hub ("owner/name" or "owner/name@revision", see
            `dream_edge.hub`), or a bundled model: "tiny", or "tiny-blocks", which is block-causal. "tiny-int4",
            "tiny-fp32" and so on are a bundled model in another scheme: exported into the user's cache when first asked
            for (needs the export extra). A directory of that name with a model in it comes first.
        device: "auto", "cpu" or "cuda".
        threads: for one pass; None = one for each core that this process may use.
        verify: read every byte and compare its digest first; sizes and structure are always checked.
        as_int8: run 4-bit weights as 8-bit ones, 1.5 times as fast on a CPU, in 1.6 times the memory. The first load
            writes a copy with such weights into the user's cache; later ones find it. Nothing changes on a GPU.
        memory_check: refuse to load what the free memory cannot hold.
        self_check: try each kind of matrix product on this processor or GPU first, which takes milliseconds;
            DREAM_EDGE_SELF_CHECK=0 in the environment switches it off for the commands too.
        prefix_cache_bytes: up to how much a block-causal model keeps of the blocks it has computed, for texts that
            begin in the same way, such as the next turn of a conversation; 0 = nothing, None = a quarter of the memory
            that is free once it is loaded, at most 4 GB. Other models keep nothing: what a token's keys and values
            are depends on all that follows it.
        progress: told of a download and of the int8 copy in bytes, and when loading begins.

    Raises:
        ArtifactNotFound: there is no artifact of that name.
        CorruptArtifact: it is damaged, or a file of it is missing.
        UnsupportedArtifact: it is a checkpoint, or of a newer format.
        DeviceUnavailable: the device, its driver or the graph for it is missing.
        TooLittleMemory: the model does not fit what is free; the error names schemes that would.
        WrongProduct: ONNX Runtime multiplies wrongly on this processor or GPU.
        OnnxRuntimeUnfit: it does not run the model, being too old for example.
        InvalidOption: `device`, `threads` or `prefix_cache_bytes` has no such value.
        MissingExtra: what this takes is not installed.
        NothingToRequantize: `as_int8`, and its weights are not in 4 bits.
        NotEnoughDisk, NotWritable: `as_int8`, and there is no room for the copy, or no place that can be written.
        UnsafeCache: `as_int8`, and others can write to the user's cache.
        HubError: the model has to be fetched, and cannot be.
    """
    if prefix_cache_bytes is not None and (type(prefix_cache_bytes) is not int or prefix_cache_bytes < 0):
        raise InvalidOption("prefix_cache_bytes", prefix_cache_bytes, "must be a number of bytes; 0 keeps nothing")
    artifact = open_artifact(name, progress=progress)
    if verify:
        artifact.verify(progress)
    if as_int8:
        artifact = find_or_make_int8(
            artifact, device, threads=threads, memory_check=memory_check, verify=verify, progress=progress
        )
    progress(Progress(f"loading {name}", 0, 0, ""))
    defaults = GenerationConfig.from_checkpoint(
        artifact.manifest.generation, artifact.path / MANIFEST, artifact.manifest.config
    )
    tokenizer = artifact.tokenizer()  # before the weights: a bad one is found at once
    network = OnnxNetwork(artifact, device=device, threads=threads, memory_check=memory_check, self_check=self_check)
    progress(Progress(f"loading {name}", 1, 1, ""))
    prefixes = _open_store(network, prefix_cache_bytes)
    return DreamModel(network, tokenizer, defaults, ends=listed_ends(artifact.manifest.generation), prefixes=prefixes)


def _open_store(network: OnnxNetwork, limit: int | None) -> PrefixStore | None:
    block = network.config.causal_block
    if limit is None and block is not None:
        limit = suggest_limit(free_gpu_memory() if network.device == "cuda" else free_memory())
    return PrefixStore(block, limit) if block and limit else None


def verify(name: str | Path, *, progress: OnProgress = silent) -> Artifact:
    """Check every byte of an artifact: its structure, its graph, the SHA-256 of each file, and that weights are finite.

    Args:
        name: as for `load`.
        progress: told of a download, and of what was read, in bytes.

    Raises: ArtifactNotFound, CorruptArtifact, UnsupportedArtifact, HubError.
    """
    artifact = open_artifact(name, progress=progress)
    artifact.verify(progress)
    return artifact


def open_artifact(name: str | Path, *, progress: OnProgress = silent) -> Artifact:
    """The artifact called `name`, its structure checked. Raises what `resolve_artifact` does, and CorruptArtifact."""
    return Artifact.open(resolve_artifact(name, progress=progress))


def open_checkpoint(
    name: str | Path,
    purpose: str,
    *,
    attention: str | None = None,
    shift: int | None = None,
    mask_token: str | None = None,
    progress: OnProgress = silent,
) -> Checkpoint:
    """The checkpoint called `name`, its structure checked.

    `attention`, `shift` and `mask_token` are what its files may leave open: see `StatedFacts`.

    Raises: what `resolve_checkpoint` does; CheckpointError; InvalidOption; MissingExtra without the libraries that read
    it, which says what `purpose` they are for, as "Exporting a checkpoint".
    """
    try:
        from dream_edge_export.checkpoint.checkpoint import Checkpoint
        from dream_edge_export.checkpoint.forms import StatedFacts
    except ImportError:
        raise MissingExtra(purpose, "export") from None
    stated = StatedFacts(attention=attention, shift=shift, mask_token=mask_token)
    return Checkpoint.open(resolve_checkpoint(name, progress=progress), stated)


def find_or_make_int8(
    artifact: Artifact,
    device: str = "cpu",
    *,
    threads: int | None = None,
    memory_check: bool = True,
    verify: bool = False,
    progress: OnProgress = silent,
) -> Artifact:
    """The copy of `artifact` with 8-bit weights in the user's cache, made if there is none; itself for a GPU.

    Raises:
        DeviceUnavailable: as for `load`.
        NothingToRequantize: its weights are not in 4 bits.
        TooLittleMemory: the copy could not be loaded.
        NotEnoughDisk, NotWritable: there is no room for it, or no place that can be written.
        UnsafeCache: others can write to the user's cache.
        CorruptArtifact: `artifact` is damaged.
    """
    if choose_device(device, artifact.manifest.graphs, artifact.path) != "cpu":
        return artifact
    recipe = derive_recipe(artifact)
    if memory_check:  # before a copy is written that could not be loaded
        check_memory(artifact.path, replace(artifact.manifest, recipe=recipe), "cpu")
    count = threads or default_threads() or os.cpu_count() or 1
    return int8_cache().obtain(artifact, threads=count, verify=verify, progress=progress)


def resolve_artifact(name: str | Path, *, progress: OnProgress = silent) -> Path:
    """The directory of the artifact called `name`, fetched from a hub if it is not here. See `load` for the arguments.

    Raises:
        ArtifactNotFound: there is no artifact of that name.
        UnsupportedArtifact: it is a checkpoint.
        MissingExtra: what fetching or exporting it takes is not installed.
        HubError: it has to be fetched, and cannot be.
    """
    if is_bundled(name):
        model, scheme = _BUNDLED[str(name)]
        return bundled(f"{model}-{scheme}") if scheme == _TINY_SCHEME else _export_tiny(model, scheme)
    path = _directory(name, "artifact", progress)
    if not (path / MANIFEST).is_file():
        if (path / "config.json").is_file():
            remedy = f"Run `dream-edge export {path} OUT --scheme int4` first."
            raise UnsupportedArtifact(path, "this is a checkpoint, not an artifact", remedy)
        raise ArtifactNotFound(path)
    return path


def resolve_checkpoint(name: str | Path, *, progress: OnProgress = silent) -> Path:
    """The directory of the checkpoint called `name` (a bundled one too), fetched from a hub if it is not here.

    Raises:
        CheckpointNotFound: there is no such directory.
        HubError: it has to be fetched, and cannot be.
    """
    if str(name) in (TINY, TINY_BLOCKS) and is_bundled(name):
        return bundled(str(name))
    path = _directory(name, "checkpoint", progress)
    if not path.is_dir():
        raise CheckpointNotFound(path, "directory")
    return path


def is_bundled(name: str | Path) -> bool:
    """Whether `name` means a model in the package: a directory of that name comes first, if it holds a model."""
    if str(name) not in _BUNDLED:
        return False
    return not any((Path(name) / each).is_file() for each in (MANIFEST, "config.json"))


def _directory(name: str | Path, kind: Kind, progress: OnProgress) -> Path:
    """Look here first, then in the hub's cache, then on the hub."""
    repository = hub_repository(name)
    return Path(name) if repository is None else find_or_download(repository, kind, progress=progress)


def hub_repository(name: str | Path) -> Repository | None:
    """The model on a hub that `name` means; None if it means a place here. A `Path` always does."""
    return None if isinstance(name, Path) or Path(name).exists() else Repository.parse(name)


def is_tiny(checkpoint: Checkpoint) -> bool:
    """Whether `checkpoint` is a tiny network, wherever it lies: its vocabulary is that of its own small world."""
    with suppress(OSError):
        return (checkpoint.path / "vocab.json").read_bytes() == (bundled(TINY) / "vocab.json").read_bytes()
    return False


def served_name(name: str | Path, artifact: Artifact) -> str:
    """The name for requests of the model that was loaded as `name`: on the hub, bundled, or its directory's name."""
    if is_bundled(name):
        return str(name)
    repository = hub_repository(name)
    return artifact.path.name if repository is None else repository.name


def bundled(name: str) -> Path:
    """A directory inside the package: of a checkpoint ("tiny", "tiny-blocks") or an artifact ("tiny-int8" …)."""
    return Path(str(resources.files("dream_edge").joinpath(name.replace("-", "_"))))


def _export_tiny(model: str, scheme: str) -> Path:
    """A tiny network in another scheme, from the cache or exported into it."""
    weights = hashlib.sha256((bundled(model) / "model.safetensors").read_bytes()).hexdigest()
    out = cache_directory() / f"{model}-{scheme}-{installed_version()}-{weights[:12]}"
    with suppress(DreamEdgeError):  # nothing there, or what another revision of this version wrote
        return Artifact.open(out).path
    checkpoint = open_checkpoint(bundled(model), f"{model} comes as {_TINY_SCHEME}; exporting it as {scheme}")

    from dream_edge_export.export import export

    with explain_write_errors(out.parent, "Make room, or name another place with XDG_CACHE_HOME."):
        out.parent.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=out.parent).close()  # the export would advise to name another OUT
    recipe = Recipe.for_scheme(scheme, layers=checkpoint.config.num_hidden_layers)
    return export(checkpoint, out, recipe, force=True).path


def int8_cache() -> Int8Cache:
    """The copies that `load(..., as_int8=True)` keeps."""
    return Int8Cache(cache_directory() / "as-int8")


def cache_directory() -> Path:
    """The directory for files that can be made again, by the custom of this platform."""
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen) / "dream-edge"
    if sys.platform == "win32":
        return expand_home(os.environ.get("LOCALAPPDATA") or "~/AppData/Local") / "dream-edge" / "cache"
    return expand_home("~/Library/Caches" if sys.platform == "darwin" else "~/.cache") / "dream-edge"
