"""Folded scales change what is rounded, never what is computed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dream_edge_export.checkpoint.forms import parse_config
from dream_edge_export.quantize.calibrate.folding import (
    Activity,
    find_scales,
    fold_into_norm,
    fold_into_up,
    fold_into_value,
    group_by_value,
    repeat_for_queries,
)
from dream_edge_export.reference.model import Dream, Layer
from dream_edge_runtime.format.model_config import ModelConfig
from support.checkpoints import config_dict, random_weights
from support.family import FAMILY
from support.networks import small_config

CONFIG = parse_config(config_dict(num_attention_heads=8))
CONFIGS = {"Dream": CONFIG, "Qwen3": small_config(**FAMILY["DreamReasoner-8B"])}


def network(config: ModelConfig = CONFIG) -> Dream:
    made = Dream(config)
    made.load_state_dict(random_weights(config))
    return made.eval().requires_grad_(False)


def first_layer() -> Layer:
    layer = network().model.layers[0]
    assert isinstance(layer, Layer)
    return layer


def into_attention(layer: Layer, draw: Callable[[int], torch.Tensor]) -> None:
    attention = layer.self_attn
    readers = [attention.q_proj, attention.k_proj, attention.v_proj]
    fold_into_norm(layer.input_layernorm, readers, draw(attention.o_proj.out_features))


def into_mlp(layer: Layer, draw: Callable[[int], torch.Tensor]) -> None:
    readers = [layer.mlp.gate_proj, layer.mlp.up_proj]
    fold_into_norm(layer.post_attention_layernorm, readers, draw(layer.mlp.down_proj.out_features))


def into_up(layer: Layer, draw: Callable[[int], torch.Tensor]) -> None:
    fold_into_up(layer.mlp, draw(layer.mlp.up_proj.out_features))


def into_value(layer: Layer, draw: Callable[[int], torch.Tensor]) -> None:
    fold_into_value(layer.self_attn, draw(layer.self_attn.v_proj.out_features))


def into_head(folded: Dream, draw: Callable[[int], torch.Tensor]) -> None:
    fold_into_norm(folded.model.norm, [folded.lm_head], draw(folded.config.hidden_size))


FOLDS = (into_attention, into_mlp, into_up, into_value)


@settings(max_examples=20, deadline=None)
@given(
    form=st.sampled_from([*CONFIGS]),
    seed=st.integers(0, 10**6),
    spread=st.floats(0, 3),
    chosen=st.sets(st.sampled_from(FOLDS)),
)
def test_logits_stay_but_for_rounding_errors(
    form: str, seed: int, spread: float, chosen: set[Callable[..., None]]
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(size: int) -> torch.Tensor:
        return (spread * torch.randn(size, generator=generator)).exp()

    folded, ids = network(CONFIGS[form]), torch.arange(40).view(2, 20)
    expected = folded(ids)
    for layer in folded.model.layers:
        for fold in sorted(chosen, key=lambda each: each.__name__):
            fold(layer, draw)
    into_head(folded, draw)
    torch.testing.assert_close(folded(ids), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("fold", FOLDS)
def test_a_fold_changes_weights(fold: Callable[..., None]) -> None:
    folded = network()
    fold(folded.model.layers[0], lambda size: torch.full((size,), 2.0))
    before, after = network().state_dict(), folded.state_dict()
    assert 1 < sum(not torch.equal(before[name], after[name]) for name in before) < 6


def test_values_reach_the_query_heads_that_share_them() -> None:
    """What o_proj gets, divided: the fold's scales are those of its own inputs."""
    layer, folded = first_layer(), first_layer()
    scales = torch.rand(CONFIG.kv_size) + 0.5
    fold_into_value(folded.self_attn, scales)
    hidden, angles = torch.randn(1, 6, CONFIG.hidden_size), torch.zeros(1, 1, 6, CONFIG.head_dim // 2)
    mask = torch.ones(1, 1, 1, 6, dtype=torch.bool)
    expected = layer.self_attn.attend(hidden, angles, mask) / repeat_for_queries(scales, layer.self_attn)
    torch.testing.assert_close(folded.self_attn.attend(hidden, angles, mask), expected)


def test_a_value_is_smoothed_by_the_largest_of_the_heads_that_read_it() -> None:
    attention = first_layer().self_attn
    seen = torch.arange(1.0, CONFIG.hidden_size + 1)
    repeats, width = CONFIG.num_attention_heads // CONFIG.num_key_value_heads, CONFIG.head_dim
    largest, sets = group_by_value(seen, attention)
    for channel in range(CONFIG.kv_size):
        head, place = divmod(channel, width)
        readers = [(head * repeats + repeat) * width + place for repeat in range(repeats)]
        assert largest[channel] == max(seen[reader] for reader in readers)
        for repeat, reader in enumerate(readers):
            assert torch.equal(sets[repeat][:, channel], attention.o_proj.weight[:, reader])


@pytest.mark.parametrize("strength", [0.0, 0.5, 0.65, 1.0])
def test_smoothing_undoes_outliers_that_change_nothing(strength: float) -> None:
    """A channel 64 times as large, read by columns a 64th as large, gets a scale 64 times as large."""
    inputs, matrix = torch.rand(30, 256) + 0.1, torch.randn(64, 256)
    outliers = torch.ones(256)
    outliers[3] = 64
    plain = find_scales(inputs.amax(dim=0), [matrix], strength)
    shifted = find_scales((inputs * outliers).amax(dim=0), [matrix / outliers], strength)
    # one column of many changes what is usual in a row, but hardly
    torch.testing.assert_close(shifted / plain, outliers / 64 ** (1 / 256), rtol=0.01, atol=0)


def test_the_size_of_a_row_does_not_matter() -> None:
    matrix, largest = torch.randn(20, 12), torch.rand(12) + 0.1
    sizes = torch.logspace(-3, 3, 20)[:, None]
    torch.testing.assert_close(find_scales(largest, [matrix * sizes], 0.5), find_scales(largest, [matrix], 0.5))


def test_channels_that_nobody_uses_are_left_alone() -> None:
    matrix = torch.randn(8, 4)
    matrix[:, 2] = 0
    scales = find_scales(torch.tensor([1.0, 0.0, 3.0, 2.0]), [matrix], 0.5)
    assert scales[1] == scales[2] == 1
    assert scales.isfinite().all()


def test_activity_is_of_everything_seen() -> None:
    activity, parts = Activity(), [torch.randn(2, 5, 3), torch.randn(1, 4, 3)]
    for part in parts:
        activity.see(part)
    rows = torch.cat([part.reshape(-1, 3) for part in parts])
    torch.testing.assert_close(activity.largest, rows.abs().amax(dim=0))
    torch.testing.assert_close(activity.squares, rows.square().sum(dim=0))
