"""benchmarks/peers.py: what is read from llama.cpp's log, what is computed from figures, and what the table says."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.beside import comparison
from benchmarks.beside.comparison import read_mix
from benchmarks.beside.figures import (
    FILE,
    LOAD,
    MEMORY,
    STEP,
    TEXT,
    Figures,
    Samples,
    Text,
    interpolate,
    part_of,
    pass_over,
    ratios,
    with_text,
)
from benchmarks.beside.llama_cpp import LlamaCpp, LlamaCppFailed, check_build, read_log
from benchmarks.beside.record import Question, Record
from benchmarks.beside.subjects import Ours, PyTorch
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


AVX2 = "\n".join(
    ["CMAKE_BUILD_TYPE:STRING=Release", "GGML_NATIVE:BOOL=OFF"]
    + [f"GGML_{name}:BOOL=ON" for name in ("SSE42", "AVX", "AVX2", "FMA", "F16C", "BMI2")]
    + [f"GGML_{name}:BOOL=OFF" for name in ("AVX512", "AVX512_VNNI", "AVX_VNNI")]
)


def test_a_slow_build_is_refused() -> None:
    check_build("CMAKE_BUILD_TYPE:STRING=Release\nGGML_NATIVE:BOOL=ON\n")
    with pytest.raises(LlamaCppFailed, match="BUILD_TYPE"):
        check_build("CMAKE_BUILD_TYPE:STRING=\nGGML_NATIVE:BOOL=ON\n")
    with pytest.raises(LlamaCppFailed, match="NATIVE"):
        check_build("CMAKE_BUILD_TYPE:STRING=Release\nGGML_NATIVE:BOOL=OFF\n")


def test_a_build_for_avx2_uses_that_and_nothing_above_it() -> None:
    check_build(AVX2, "avx2")
    with pytest.raises(LlamaCppFailed, match="AVX512_VNNI=OFF"):
        check_build(AVX2.replace("GGML_AVX512_VNNI:BOOL=OFF", "GGML_AVX512_VNNI:BOOL=ON"), "avx2")
    with pytest.raises(LlamaCppFailed, match="FMA=ON"):
        check_build(AVX2.replace("GGML_FMA:BOOL=ON", "GGML_FMA:BOOL=OFF"), "avx2")


def test_rounds_settle_on_medians_but_memory_on_the_highest() -> None:
    samples = Samples()
    samples.add(LOAD, 3.0, 1.0, 9.0)
    samples.add(MEMORY, 5.0)
    samples.add(MEMORY, 7.0, 6.0)
    assert samples.settled() == {LOAD: 3.0, MEMORY: 7.0}


def test_a_pass_between_two_measured_ones_lies_on_the_line_through_them() -> None:
    costs = {356: 10.0, 16: 1.0, 36: 2.0}
    assert interpolate(costs, 16) == 1.0
    assert interpolate(costs, 26) == pytest.approx(1.5)
    assert interpolate(costs, 36) == 2.0
    assert interpolate(costs, 196) == pytest.approx(6.0)
    assert interpolate(costs, 356) == 10.0
    assert interpolate(costs, 3) == 1.0  # no cheaper than what was measured
    with pytest.raises(ValueError, match="400 positions"):
        interpolate(costs, 400)


TWO_A_PASS = Text(prompt=100, new=256, block=32, tokens_per_pass=2.0, mix={356: 0.25, 33: 0.75})


def test_a_text_takes_the_passes_of_its_mix() -> None:
    assert TWO_A_PASS.passes == 128
    assert TWO_A_PASS.positions_per_pass == pytest.approx(0.25 * 356 + 0.75 * 33)
    figures = {part_of(356, 356): 10.0, part_of(33, 356): 1.0, part_of(33, 300): 7.0, LOAD: 5.0}
    found = with_text(figures, TWO_A_PASS, steps=256)
    assert found == figures | {TEXT: pytest.approx(32 * 10.0 + 96 * 1.0)}


def test_a_text_without_a_cache_takes_equal_steps() -> None:
    assert with_text({STEP: 3.0}, TWO_A_PASS, steps=256) == {STEP: 3.0, TEXT: 768.0}
    assert with_text({LOAD: 3.0}, TWO_A_PASS, steps=256) == {LOAD: 3.0}  # not yet measured


def test_a_mix_names_positions_and_their_shares() -> None:
    assert read_mix(["full=0.2", "33=0.5", "20=0.3"], 356) == {356: 0.2, 33: 0.5, 20: 0.3}
    for wrong, says in (
        (["full=0.5"], "make one"),
        (["full=1.5", "33=-0.5"], "make one"),
        (["400=1"], "between 1 and 356"),
        (["0=1"], "between 1 and 356"),
        (["half=1"], "half"),
        (["33"], "float"),
    ):
        with pytest.raises(ValueError, match=says):
            read_mix(wrong, 356)


ONE = Question("a machine", "int8", "passes", 1)


def test_a_record_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "measured.jsonl"
    Record(path).add(ONE, {LOAD: 1.0})
    with path.open("a") as file:
        file.write('{"question": {"cond')  # stopped while it wrote
    again = Record(path)
    assert ONE in again
    second = Question("a machine", "int8", "passes", 2)
    assert second not in again
    again.add(second, {LOAD: 4.0})
    again.add(Question("another machine", "int8", "passes", 2), {LOAD: 100.0})
    assert Record(path).settle("a machine") == {"int8": {LOAD: 2.5}}


def test_ratios_say_how_many_times_ours_theirs_is() -> None:
    assert ratios({TEXT: 6.0, LOAD: 1.0}, {TEXT: 2.0, FILE: 1.0}) == {TEXT: 3.0}


def test_table_has_a_row_for_each_program_and_each_pair() -> None:
    figures = {
        "int8": {pass_over(64): 0.5, TEXT: 100.0, FILE: 2e9},
        "llama.cpp Q8_0": {pass_over(64): 1.5, TEXT: 2500.0, FILE: 2.2e9},
    }
    lines = table("4 layers", figures, columns([64], [33], 356)).splitlines()
    heading = [cell.strip() for cell in lines[0].split("|")]
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")] for line in lines[2:]}
    assert cells["int8"][heading.index("ms, 64")] == "500"
    assert cells["int8"][heading.index("files, GB")] == "2.00"
    assert cells["int8"][heading.index("load, s")] == "–"
    assert cells["llama.cpp Q8_0 / int8"][heading.index("ms, 64")] == "3.00 ×"
    assert cells["llama.cpp Q8_0 / int8"][heading.index("text, s")] == "25.00 ×"
    assert {"ms, 33 of 356", "ms, 356 of 356"} <= set(heading)
    assert set(cells) == {"int8", "llama.cpp Q8_0", "llama.cpp Q8_0 / int8"}


SHORT = Text(prompt=8, new=8, block=4, tokens_per_pass=2.0, mix={16: 0.5, 5: 0.5})


def test_our_passes_are_timed_in_a_process_of_their_own(tmp_path: Path) -> None:
    ours = Ours("int8", bundled("tiny_int8"), 1, tmp_path)
    figures = ours.passes([8, 16], 1)
    assert set(figures) == {pass_over(8), pass_over(16), LOAD, MEMORY}
    assert min(figures.values()) > 0
    figures = ours.text(SHORT, [5], 1)
    assert set(figures) == {part_of(5, 16), part_of(16, 16), LOAD, MEMORY}
    assert min(figures.values()) > 0


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "bfloat16"])
def test_pytorch_runs_the_checkpoint(dtype: str) -> None:
    figures = PyTorch("PyTorch", bundled("tiny"), 1, dtype).passes([8, 16], 1)
    assert set(figures) == {pass_over(8), pass_over(16), LOAD, MEMORY}
    assert min(figures.values()) > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--layers", "0"], "at least 1"), (["--mix", "full=2"], "--mix"), (["--tokens", "16"], "canvas of 32")],
)
def test_runs_as_a_file_and_refuses_what_cannot_be(arguments: list[str], says: str) -> None:
    run = subprocess.run(
        [sys.executable, str(PEERS), *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 2
    assert says in run.stderr


@dataclass(frozen=True)
class Pretended:
    """A program whose times grow with its layers."""

    name: str
    path: Path
    layers: int

    def passes(self, canvases: list[int], count: int) -> Figures:
        assert count == 1
        return {pass_over(canvas): float(canvas * self.layers) for canvas in canvases} | {LOAD: 1.0, MEMORY: 5.0}

    def text(self, text: Text, parts: list[int], count: int) -> Figures:
        assert count == 1
        if self.name == "int8":
            return {part_of(each, text.canvas): float(each) for each in (*parts, text.canvas)}
        return {STEP: float(text.canvas)}


def pretended(monkeypatch: pytest.MonkeyPatch, weights: Path, *arguments: str) -> None:
    def prepare(size: str, layers: int, *_: object) -> list[Pretended]:
        assert size == "7b"
        return [Pretended(name, weights, layers) for name in ("int8", "llama.cpp Q8_0")]

    monkeypatch.setattr(comparison, "prepare", prepare)
    monkeypatch.setattr(LlamaCpp, "obtain", lambda *_: None)
    command = ["peers.py", "--work", str(weights.parent), "--sizes", "7b", "--instructions", "native", *arguments]
    monkeypatch.setattr(sys, "argv", command)
    comparison.main("about")


def test_prints_a_table_with_the_text_of_everyone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"four")
    pretended(monkeypatch, weights, "--mix", "full=0.5", "33=0.5")
    printed = capsys.readouterr().out
    assert "28 of 28 layers" in printed
    assert "128 passes over 194 positions each on average; theirs: 256 steps over 356" in printed
    ours, theirs = 64 * (356 + 33), 256 * 356
    assert f"{theirs / ours:.2f} ×" in printed


def test_goes_on_until_all_have_had_their_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"four")
    clock = iter(range(1000))
    monkeypatch.setattr(comparison, "monotonic", lambda: next(clock))
    for _ in range(11):  # three rounds of two questions to two programs, one at a time
        with pytest.raises(SystemExit, match="goes on"):
            pretended(monkeypatch, weights, "--seconds", "1.5")
    assert "|" not in capsys.readouterr().out
    pretended(monkeypatch, weights, "--seconds", "1.5")
    assert "28 of 28 layers" in capsys.readouterr().out
