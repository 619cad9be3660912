"""Which model is recommended on which machine: laptops and GPUs that are not here, as fast as a test says."""

from __future__ import annotations

import pytest

from dream_edge.recommendation.candidates import (
    SCHEMES,
    Candidate,
    Machine,
    answer_seconds,
    choose_probes,
    list_candidates,
    rank,
    reckon,
)
from dream_edge.recommendation.probe import Network, Speed
from dream_edge.recommendation.published import PUBLISHED, PublishedModel
from dream_edge_runtime.format.tensors import parameter_count

GB = 10**9
BY_NAME = {model.repository.split("/")[1]: model for model in PUBLISHED}
DREAM, REASONER = BY_NAME["Dream-v0-Instruct-7B"], BY_NAME["DreamReasoner-8B"]
BLOCKS = BY_NAME["Qwen3-0.6B-diffusion-bd3lm-v0.1"]


def machine(memory: float | None, gpu: float | None = None) -> Machine:
    free = None if memory is None else int(memory * GB)
    return Machine(
        processor="fake",
        threads=2,
        free_memory=free,
        gpu=gpu is not None,
        free_gpu_memory=None if gpu is None else int(gpu * GB),
    )


def advise(here: Machine, operations: float, *, patience: float = 60.0) -> list[Candidate]:
    """What is recommended where so many operations take a second; 4-bit products take twice as long as 8-bit ones."""
    candidates = list_candidates(here, 256)
    speeds = []
    for network in choose_probes(candidates):
        pace = operations * (50 if network.device == "cuda" else 1) / (1 + (network.scheme == "int4"))
        full, cached = (2 * network.operations(count) / pace for count in (256, 32))
        speeds.append(Speed(network=network, full=full, cached=cached))
    return rank([reckon(each, speeds, 128, 128) for each in candidates], patience)


LAPTOP, WORKSTATION = 300e9, 3e12


@pytest.mark.parametrize(
    ("here", "pace", "best", "scheme", "device"),
    [
        (machine(2.5), LAPTOP, "Fast_dLLM_v2_1.5B", "int8", "cpu"),  # a 4 GB laptop
        (machine(0.8), LAPTOP, "Qwen3-0.6B-diffusion-bd3lm-v0.1", "int4", "cpu"),
        (machine(5.5), LAPTOP, "Fast_dLLM_v2_1.5B", "int8", "cpu"),  # 8 GB: a 7B fits in 4 bits, and takes too long
        (machine(28), WORKSTATION, "Dream-v0-Instruct-7B", "int8", "cpu"),
        (machine(28), LAPTOP, "Fast_dLLM_v2_1.5B", "int8", "cpu"),
        (machine(12, gpu=7.5), LAPTOP, "Dream-v0-Instruct-7B", "int4", "cuda"),
        (machine(28, gpu=22), LAPTOP, "Dream-v0-Instruct-7B", "int8", "cuda"),
        (machine(None), LAPTOP, "Fast_dLLM_v2_1.5B", "int8", "cpu"),
    ],
)
def test_what_suits_a_machine(here: Machine, pace: float, best: str, scheme: str, device: str) -> None:
    first = advise(here, pace)[0]
    assert (first.model.repository.split("/")[1], first.scheme, first.device) == (best, scheme, device)


def test_what_does_not_fit_comes_last_and_has_no_time() -> None:
    found = advise(machine(2.5), LAPTOP)
    fitting = [each.fits is True for each in found]
    assert fitting == sorted(fitting, reverse=True)
    for each in found:
        assert each.fits == (each.memory_bytes <= 2.5 * GB)
        assert (each.seconds is None) == (each.speed is None) == (not each.fits)
    assert found[-1].model is REASONER


def test_a_larger_model_is_taken_where_one_is_patient() -> None:
    here = machine(28)
    assert advise(here, LAPTOP)[0].model.repository == "Efficient-Large-Model/Fast_dLLM_v2_1.5B"
    assert advise(here, LAPTOP, patience=3600)[0].model is DREAM


def test_where_nothing_is_in_time_the_fastest_comes_first() -> None:
    found = advise(machine(28), 1e9)
    free_to_use = [each.seconds or 0 for each in found if not (each.model.non_commercial or each.model.thinks)]
    assert min(free_to_use) > 60
    assert found[0].seconds == min(free_to_use)


def test_models_that_are_not_for_commerce_or_think_first_stand_aside() -> None:
    found = advise(machine(64), 1e15)
    aside = [each.model.non_commercial or each.model.thinks for each in found]
    assert aside == sorted(aside)
    assert {each.model.license for each in found if each.model.non_commercial} == {"cc-by-nc-4.0"}


def test_a_model_that_the_gpu_cannot_hold_runs_on_the_processor() -> None:
    found = {(each.model.repository, each.scheme): each for each in list_candidates(machine(28, gpu=4), 256)}
    assert found[DREAM.repository, "int4"].device == "cpu"
    assert found[BLOCKS.repository, "int8"].device == "cuda"
    assert "--target cuda" in found[BLOCKS.repository, "int8"].commands[1]
    assert "--target" not in found[DREAM.repository, "int4"].commands[1]


def test_the_smallest_and_the_largest_that_fit_are_timed_first() -> None:
    chosen = choose_probes(list_candidates(machine(28), 256))
    assert [network.scheme for network in chosen] == [*SCHEMES] * 3
    sizes = [parameter_count(network.config) for network in chosen]
    published = [parameter_count(model.config) for model in PUBLISHED]
    assert sizes[:4] == [min(published)] * 2 + [max(published)] * 2
    assert max(published) > sizes[4] > min(published)
    assert choose_probes(list_candidates(machine(0.1), 256)) == []
    only = choose_probes(list_candidates(machine(0.9), 256))
    assert {parameter_count(network.config) for network in only} <= set(sorted(set(published))[:2])


def test_an_answer_costs_the_passes_that_the_loop_makes() -> None:
    """Counted by hand: 0.1 s a block, 0.1 + 224 · 0.01 s a full pass, so 0.01 s a further token."""

    def speed(model: PublishedModel) -> Speed:
        network = Network(config=model.config, scheme="int8", device="cpu")
        return Speed(network=network, full=0.1 + 2.24, cached=0.1)

    # 64 passes over a block; the prompt of 128 and each finished block once more
    assert answer_seconds(BLOCKS, speed(BLOCKS), 128, 128) == pytest.approx(64 * 0.1 + 256 * 0.01)
    # 32 full passes, 32 cached ones
    assert answer_seconds(DREAM, speed(DREAM), 128, 128) == pytest.approx(32 * (0.1 + 2.24) + 32 * 0.1)
    # a canvas of 64 is too short for a cache: 16 passes over all of it
    assert answer_seconds(DREAM, speed(DREAM), 32, 32) == pytest.approx(16 * (0.1 + 0.32))


def test_times_follow_the_nearest_network_of_the_same_kind() -> None:
    small, large = (Network(config=model.config, scheme="int8", device="cpu") for model in (BLOCKS, DREAM))
    other = Network(config=BLOCKS.config, scheme="int4", device="cpu")
    speeds = [
        Speed(network=small, full=1.0, cached=0.5),
        Speed(network=large, full=20.0, cached=5.0),
        Speed(network=other, full=99.0, cached=99.0),
    ]
    candidates = list_candidates(machine(28), 256)
    exact, near = (
        next(reckon(each, speeds, 128, 128).speed for each in candidates if each.model is model)  # int8 comes first
        for model in (BLOCKS, REASONER)
    )
    assert exact is not None
    assert near is not None
    assert (exact.full, exact.cached, exact.measured) == (1.0, 0.5, True)
    reasoner = Network(config=REASONER.config, scheme="int8", device="cpu")
    assert not near.measured
    assert near.full == pytest.approx(20 * reasoner.operations(256) / large.operations(256))


def test_what_is_published_states_its_source() -> None:
    assert [*PUBLISHED] == sorted(PUBLISHED, key=lambda model: parameter_count(model.config))
    for model in PUBLISHED:
        assert bool(model.scores) == bool(model.scores_source)
        assert bool(model.published_tokens_per_pass) == bool(model.tokens_per_pass_source)
        assert model.tokens_per_pass > 0


def test_sizes_are_those_that_the_names_say() -> None:
    billions = {name: parameter_count(model.config) / 1e9 for name, model in BY_NAME.items()}
    for name, size in (("open-dcoder-0.5B", 0.494), ("Qwen3-0.6B-diffusion-mdlm-v0.1", 0.596), ("CoDA", 1.72)):
        assert next(value for key, value in billions.items() if key.startswith(name)) == pytest.approx(size, abs=0.005)
    assert billions["Fast_dLLM_v2_1.5B"] == pytest.approx(1.544, abs=0.005)
    assert billions["Dream-v0-Instruct-7B"] == pytest.approx(7.616, abs=0.005)
    assert billions["DreamReasoner-8B"] == pytest.approx(8.19, abs=0.005)
