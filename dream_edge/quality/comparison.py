"""Measure an artifact against the full-precision network it was made from, on masked texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dream_edge_runtime.arrays import FloatArray, IntArray
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import InvalidOption, MissingExtra
from dream_edge_runtime.network import Network
from dream_edge_runtime.session import OnnxNetwork

from ..models import TINY, bundled
from .data import Text, builtin_texts, passages
from .errors import MismatchedModels, NoData
from .masking import MaskedPassage, mask_passages
from .measures import Differences, differences, log_softmax
from .report import Comparison, figures
from .tiny import tiny_texts

if TYPE_CHECKING:
    from dream_edge_export.checkpoint import Checkpoint

SEQUENCES = 128
BINS = 5
LONGEST = 512

Progress = Callable[[int, int], None]
"""Called with the number of sequences done, and of all."""


def compare(
    artifact: Artifact,
    checkpoint: Checkpoint,
    *,
    data: Sequence[Text] | None = None,
    sequences: int = SEQUENCES,
    bins: int = BINS,
    longest: int = LONGEST,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress = lambda _done, _all: None,
) -> Comparison:
    """KL divergence, agreement and likelihood of `artifact` against `checkpoint` in fp32; see `Measures`.

    The same seed and data mask the same positions of the same texts for every artifact of one checkpoint, so that
    their figures can be set side by side. One sequence is in memory at a time.

    Args:
        data: texts to mask; None = held-out cases of its tasks for the bundled tiny model, built-in ones for others.
        sequences: how many masked sequences, each at a mask ratio of its own, stratified over (0, 1].
        bins: into how many equal intervals of mask ratios the figures are split.
        longest: tokens of a sequence; longer texts are cut (at the model's context at the latest).
        seed: of masks and of the order of the texts.
        threads: for the artifact's passes; None = as many as the processor has cores.
        progress: called after each sequence.

    Raises:
        MismatchedModels: artifact and checkpoint differ in vocabulary or geometry.
        NoData: no text has anything to mask.
        MissingExtra: PyTorch is not installed.
        InvalidOption, PromptError, CheckpointError, ArtifactError.
    """
    integers = (("sequences", sequences, 1), ("bins", bins, 1), ("longest", longest, 2), ("seed", seed, 0))
    for name, value, least in integers:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InvalidOption(name, value, f"must be an integer of at least {least}")
    _check_same_model(artifact, checkpoint)
    config = artifact.manifest.config
    texts = default_texts(checkpoint) if data is None else data
    if isinstance(texts, str) or not texts:
        raise NoData("data", "it is one string, not a list of texts" if texts else "there is no text in it")
    pieces = passages(texts, artifact.tokenizer(), min(longest, config.context))
    reference = _load_reference(checkpoint)
    network = OnnxNetwork(artifact, threads=threads)

    measured: list[tuple[int, Differences]] = []
    for masked in mask_passages(pieces, config.mask_token_id, count=sequences, bins=bins, seed=seed):
        rows = np.maximum(masked.positions - config.shift, 0)  # the first position has only its own row
        log_p = log_softmax(reference(masked.canvas, rows))
        found = differences(log_p, _artifact_logits(network, masked, rows), masked.targets)
        measured.append((masked.bin, found))
        progress(len(measured), sequences)
    found_figures = figures(measured, bins)
    return Comparison(
        overall=found_figures.overall,
        bins=found_figures.bins,
        artifact=artifact.path.name,
        scheme=artifact.manifest.recipe.scheme,
        seed=seed,
    )


def default_texts(checkpoint: Checkpoint) -> list[Text]:
    """What is masked when the caller names no texts."""
    tiny = bundled(TINY)
    if tiny.is_dir() and checkpoint.path.resolve() == tiny.resolve():
        return tiny_texts()
    return builtin_texts()


def _artifact_logits(network: Network, masked: MaskedPassage, rows: IntArray) -> FloatArray:
    positions = np.arange(len(masked.canvas), dtype=np.int64)[None]
    everyone = np.ones((1, len(masked.canvas)), np.bool_)
    return network.forward(masked.canvas[None], positions, everyone, rows, 0.0, None).fetch_logits()


def _load_reference(checkpoint: Checkpoint) -> Callable[[IntArray, IntArray], FloatArray]:
    """The fp32 network as a function: ids [length] and rows [masked] → logits [masked, vocab] of those rows only."""
    try:
        import torch

        from dream_edge_export.reference import load_reference
    except ImportError:
        raise MissingExtra("Comparing with the full-precision network", "export") from None
    network = load_reference(checkpoint)

    def logits(ids: IntArray, rows: IntArray) -> FloatArray:
        with torch.inference_mode():
            hidden = network.model(torch.from_numpy(ids)[None])[0, torch.from_numpy(rows)]
            found: FloatArray = network.lm_head(hidden).float().numpy()
        return found

    return logits


def _check_same_model(artifact: Artifact, checkpoint: Checkpoint) -> None:
    ours, theirs = artifact.manifest.config.to_dict(), checkpoint.config.to_dict()
    differing = [f"{name} {ours[name]} / {theirs[name]}" for name in ours if ours[name] != theirs[name]]
    if differing:
        raise MismatchedModels(artifact.path, checkpoint.path, differing)
