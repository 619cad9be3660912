"""benchmarks/peers.py: what is read from llama.cpp's log, what is computed from figures, and what the table says."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.beside import comparison
from benchmarks.beside.figures import (
    FILE,
    LOAD,
    MEMORY,
    TEXT,
    UNCACHED_TEXT,
    Figures,
    Run,
    Samples,
    cached_text,
    extrapolated,
    pass_over,
    ratios,
    text_at,
    with_expected,
)
from benchmarks.beside.llama_cpp import LlamaCpp, LlamaCppFailed, check_build, read_log
from benchmarks.beside.subjects import Ours, PyTorch, Text
from benchmarks.beside.table import columns, table
from dream_edge.models import bundled

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers.py"

LOG = (
    "0.01.043.396 W load: control-looking token: 128247 '</s>' was not control-type\n"
    "0.58.500.000 I diffusion_params: - steps                     u32              = 3\n"
    "0.58.900.000 I \rdiffusion step: 0/3 [          ] 0%"
    "1.03.900.000 I \rdiffusion step: 1/3 [===       ] 33%"
    "1.06.000.000 I \rdiffusion step: 2/3 [======    ] 66%"
    "1.08.300.250 I \n"
    "total time: 9400.25ms, time per step: 3133.42ms, sampling time per step: 100.00ms\n"
)


def test_a_log_gives_loading_and_the_steps_after_the_first() -> None:
    run = read_log(LOG, 1 << 30)
    assert run.load == pytest.approx(58.9)
    assert run.steps == pytest.approx([2.1, 2.30025])
    assert run.passes == pytest.approx([2.0, 2.20025])  # without the sampling
    assert run.memory == 1 << 30


@pytest.mark.parametrize(
    "log",
    [
        "",
        "error: failed to load model\n",
        LOG.replace("total time: 9400.25ms", "total time: 19400.25ms"),  # contradicts the stamps
        LOG[: LOG.index("total time")],  # killed
    ],
)
def test_a_log_that_does_not_add_up_is_refused(log: str) -> None:
    with pytest.raises(LlamaCppFailed):
        read_log(log, 0)


def test_a_slow_build_is_refused() -> None:
    check_build("CMAKE_BUILD_TYPE:STRING=Release\nGGML_NATIVE:BOOL=ON\n")
    with pytest.raises(LlamaCppFailed, match="BUILD_TYPE"):
        check_build("CMAKE_BUILD_TYPE:STRING=\nGGML_NATIVE:BOOL=ON\n")
    with pytest.raises(LlamaCppFailed, match="NATIVE"):
        check_build("CMAKE_BUILD_TYPE:STRING=Release\nGGML_NATIVE:BOOL=OFF\n")


def test_rounds_settle_on_medians_but_memory_on_the_highest() -> None:
    samples = Samples()
    samples.add(LOAD, 3.0, 1.0, 9.0)
    samples.add(MEMORY, 5.0)
    samples.add(MEMORY, 7.0, 6.0)
    assert samples.settled() == {LOAD: 3.0, MEMORY: 7.0}


def test_two_counts_of_layers_make_a_line() -> None:
    fixed, each = 2.0, 0.25
    measured = {layers: {TEXT: fixed + each * layers, LOAD: 1.0} for layers in (2, 4)}
    assert extrapolated(measured, 28) == pytest.approx({TEXT: fixed + each * 28, LOAD: 1.0})
    with pytest.raises(ValueError, match="two points"):
        extrapolated({4: {TEXT: 1.0}}, 28)


def test_fewer_passes_spare_only_those_inside_a_block() -> None:
    full, cached = 10.0, 1.0
    total = 8 * full + 248 * cached
    assert cached_text(full, total, 256, 32, 1.0) == pytest.approx(total)
    assert cached_text(full, total, 256, 32, 2.0) == pytest.approx(8 * full + 120 * cached)
    assert cached_text(full, total, 256, 32, 1000.0) == pytest.approx(8 * full)  # at the least one pass a block
    assert cached_text(full, 5 * full, 5, 1, 2.0) == 5 * full  # all passes are full


def test_only_a_program_with_a_cache_gets_faster_with_the_pace() -> None:
    ours = with_expected({TEXT: 328.0, UNCACHED_TEXT: 2560.0}, 256, 32, [1.0, 2.0])
    assert (ours[text_at(1.0)], ours[text_at(2.0)]) == pytest.approx((328.0, 200.0))
    theirs = with_expected({TEXT: 2560.0}, 256, 32, [2.0])
    assert theirs[text_at(2.0)] == 2560.0


def test_ratios_say_how_many_times_ours_theirs_is() -> None:
    assert ratios({TEXT: 6.0, LOAD: 1.0}, {TEXT: 2.0, FILE: 1.0}) == {TEXT: 3.0}


def test_table_has_a_row_for_each_program_and_each_pair() -> None:
    figures = {
        "int8": {pass_over(64): 0.5, TEXT: 100.0, FILE: 2e9},
        "llama.cpp Q8_0": {pass_over(64): 1.5, TEXT: 2500.0, FILE: 2.2e9},
    }
    lines = table("4 layers", figures, columns([64], [1.0, 1.4])).splitlines()
    heading = [cell.strip() for cell in lines[0].split("|")]
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")] for line in lines[2:]}
    assert cells["int8"][heading.index("ms, 64")] == "500"
    assert cells["int8"][heading.index("files, GB")] == "2.00"
    assert cells["int8"][heading.index("load, s")] == "–"
    assert cells["llama.cpp Q8_0 / int8"][heading.index("ms, 64")] == "3.00 ×"
    assert cells["llama.cpp Q8_0 / int8"][heading.index("text, s")] == "25.00 ×"
    assert "at 1.4 a pass, s" in heading
    assert set(cells) == {"int8", "llama.cpp Q8_0", "llama.cpp Q8_0 / int8"}


def test_our_passes_and_texts_are_timed_in_a_process_of_their_own(tmp_path: Path) -> None:
    ours = Ours("int8", bundled("tiny_int8"), 1, tmp_path)
    run = ours.passes(16, 1)
    assert run.load > 0
    assert len(run.passes) == 1
    assert run.passes[0] > 0
    figures = ours.text(Text(prompt=8, new=8, block=4, steps=2))
    assert set(figures) == {TEXT, UNCACHED_TEXT}
    assert min(figures.values()) > 0


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "bfloat16"])
def test_pytorch_runs_the_checkpoint(dtype: str) -> None:
    run = PyTorch("PyTorch", bundled("tiny"), 1, dtype).passes(16, 1)
    assert run.load > 0
    assert run.passes[0] > 0


def test_runs_as_a_file_and_refuses_impossible_counts() -> None:
    run = subprocess.run(
        [sys.executable, str(PEERS), "--layers", "0"], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 2
    assert "--layers" in run.stderr


@dataclass(frozen=True)
class Pretended:
    """A program whose times grow with its layers."""

    name: str
    path: Path
    layers: int

    def passes(self, canvas: int, count: int) -> Run:
        return Run(load=1.0, passes=[float(canvas * self.layers)] * count, memory=5)

    def text(self, text: Text) -> Figures:
        return {TEXT: float(text.new * self.layers)}


def pretended(monkeypatch: pytest.MonkeyPatch, weights: Path, *arguments: str) -> None:
    def prepare(layers: int, *_: object) -> list[Pretended]:
        return [Pretended(name, weights, layers) for name in ("int8", "llama.cpp Q8_0")]

    monkeypatch.setattr(comparison, "prepare", prepare)
    monkeypatch.setattr(LlamaCpp, "obtain", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["peers.py", "--work", str(weights.parent), *arguments])
    comparison.main("about")


def test_two_counts_of_layers_also_give_the_whole_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"four")
    pretended(monkeypatch, weights, "--layers", "4", "2", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["measured"]["2"]["int8"][pass_over(64)] == 128
    assert found["measured"]["4"]["int8"][FILE] == 4
    assert found["extrapolated"]["28"]["int8"][pass_over(256)] == 256 * 28
    pretended(monkeypatch, weights, "--layers", "2", "4")
    printed = capsys.readouterr().out
    assert "2 of 28 layers, measured" in printed
    assert "28 layers, extrapolated" in printed


def test_one_count_of_layers_is_only_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"four")
    pretended(monkeypatch, weights, "--layers", "28")
    printed = capsys.readouterr().out
    assert "28 of 28 layers, measured" in printed
    assert "extrapolated" not in printed
