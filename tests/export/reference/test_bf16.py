"""The reference with its activations rounded, against PyTorch's own bf16."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dream_edge.models import TINY, bundled
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.reference.bf16 import round_activations, round_to_bf16
from dream_edge_export.reference.model import Dream, load_reference


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint.open(bundled(TINY))


def test_rounded_values_are_those_of_bf16() -> None:
    """8 bits of mantissa, ties to even: 1 + 2⁻⁸ lies halfway between 1 and 1 + 2⁻⁷."""
    given = torch.tensor([1 + 2**-8, 1 + 2**-8 + 2**-20, 1 + 3 * 2**-8, -3.0, 0.0])
    assert round_to_bf16(given).tolist() == [1, 1 + 2**-7, 1 + 2**-6, -3, 0]
    assert round_to_bf16(given).dtype == torch.float32


def test_every_matrix_and_normalisation_takes_and_gives_rounded_values(checkpoint: Checkpoint) -> None:
    network, seen = load_reference(checkpoint), []

    def check(module: nn.Module, given: tuple[torch.Tensor, ...], found: torch.Tensor) -> None:
        seen.append(module)
        assert torch.equal(round_to_bf16(given[0]), given[0])
        assert torch.equal(round_to_bf16(found), found)

    round_activations(network)
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.RMSNorm):
            module.register_forward_hook(check)
    with torch.inference_mode():
        network(torch.arange(12)[None])
    assert len(seen) == 1 + 1 + 9 * checkpoint.config.num_hidden_layers


def test_it_is_as_far_from_fp32_as_pytorchs_own_bf16(checkpoint: Checkpoint) -> None:
    exact, ours = load_reference(checkpoint), load_reference(checkpoint)
    round_activations(ours)
    ids = torch.from_numpy(np.random.default_rng(0).integers(checkpoint.config.vocab_size, size=(8, 40)))
    with torch.inference_mode():
        log_p = exact(ids).double().log_softmax(-1)
        with torch.autocast("cpu", torch.bfloat16):
            theirs = exact(ids)
        far = [divergence(log_p, logits) for logits in (ours(ids), theirs)]
    assert far[0] > 1e-6
    assert 1 / 3 < far[0] / far[1] < 3


def divergence(log_p: torch.Tensor, logits: torch.Tensor) -> float:
    log_q = logits.double().log_softmax(-1)
    return float((log_p.exp() * (log_p - log_q)).sum(-1).mean())


def test_weights_are_not_changed(checkpoint: Checkpoint) -> None:
    network: Dream = load_reference(checkpoint)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    round_activations(network)
    with torch.inference_mode():
        network(torch.arange(5)[None])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
