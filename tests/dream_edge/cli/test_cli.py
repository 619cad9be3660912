"""Verbs, in process: what goes to which stream."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import dream_edge
from dream_edge.cli.app import app
from support.artifacts import WEIGHTS, change_bytes, change_manifest

EXACT = ("-n", "8", "--steps", "8", "--alg", "entropy", "--seed", "3")


def run(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], input=stdin)


def succeed(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result


def generated(artifact: Path, prompt: str, **options: Any) -> str:
    model = dream_edge.load(artifact)
    return model.generate(prompt, max_new_tokens=8, steps=8, algorithm="entropy", seed=3, **options).text


def test_generate_prints_the_text_and_nothing_else_on_stdout(random_artifact: Path) -> None:
    result = succeed("generate", random_artifact, "-p", "Hello", *EXACT)
    assert result.stdout == generated(random_artifact, "Hello") + "\n"
    assert "8 steps (7 passes)" in result.stderr
    assert "seed 3" in result.stderr
    assert result.stderr.count("\n") == 1


def test_generate_visual_prints_lines_where_stderr_is_no_terminal(random_artifact: Path) -> None:
    result = succeed("generate", random_artifact, "-p", "Hello", "--visual", *EXACT)
    assert result.stdout == generated(random_artifact, "Hello") + "\n"
    *steps, statistics = result.stderr.splitlines()
    assert steps[0].startswith("step 1/8")
    assert steps[-1].startswith("step 8/8 100%")
    assert "\x1b" not in result.stderr
    assert "tokens/s" in statistics


def test_visual_lines_are_few_for_many_steps(random_artifact: Path) -> None:
    result = succeed(
        "generate", random_artifact, "-p", "a", "--visual", "-n", "64", "--steps", "64", "--alg", "entropy"
    )
    assert len(result.stderr.splitlines()) <= 20


def test_generate_json_is_one_object(random_artifact: Path) -> None:
    result = succeed("generate", random_artifact, "-p", "Hello", "--json", *EXACT)
    found = json.loads(result.stdout)
    assert found["text"] == generated(random_artifact, "Hello")
    assert (found["steps"], found["passes"], found["seed"], len(found["token_ids"])) == (8, 7, 3, 8)
    assert found["finish_reason"] in ("stop", "length")
    assert {"prompt_tokens", "new_tokens", "seconds", "tokens_per_second", "peak_memory_bytes"} <= set(found)
    assert result.stderr == ""


def test_prompt_from_standard_input(random_artifact: Path) -> None:
    piped = succeed("generate", random_artifact, "-p", "-", *EXACT, stdin="Hello\n")
    assert piped.stdout == generated(random_artifact, "Hello") + "\n"
    raw = succeed("generate", random_artifact, "-p", "-", "--raw", *EXACT, stdin="Hello\n")
    assert raw.stdout == generated(random_artifact, "Hello\n", raw=True) + "\n"


def test_every_sampling_option_reaches_the_model(random_artifact: Path) -> None:
    options = (
        "--temperature 0.7 --top-p 0.9 --top-k 20 --alg-temp 0.3 --eps 0.01 --threshold 0.5 --end-with b --stop zz"
    )
    result = succeed("generate", random_artifact, "-p", "Hello", "--raw", "--bos", *options.split(), *EXACT)
    expected = generated(
        random_artifact,
        "Hello",
        raw=True,
        bos=True,
        temperature=0.7,
        top_p=0.9,
        top_k=20,
        algorithm_temperature=0.3,
        eps=0.01,
        threshold=0.5,
        end_with="b",
        stop="zz",
    )
    assert result.stdout == expected + "\n"
    assert expected.endswith("b")


@pytest.mark.parametrize(
    ("name", "value"),
    [("threshold", 0.5), ("reveal", "factor:40"), ("reveal", "entropy_bound:20")],
)
def test_every_way_to_reveal_reaches_the_model(random_artifact: Path, name: str, value: Any) -> None:
    flag = "--" + name
    found = json.loads(succeed("generate", random_artifact, "-p", "Hello", "--json", *EXACT, flag, str(value)).stdout)
    options: dict[str, Any] = {name: value}
    expected = dream_edge.load(random_artifact).generate(
        "Hello", max_new_tokens=8, steps=8, algorithm="entropy", seed=3, **options
    )
    assert (found["text"], found["passes"]) == (expected.text, expected.passes)


def test_exact_is_the_checkpoints_own_loop(random_artifact: Path) -> None:
    result = succeed("generate", random_artifact, "-p", "Hello", "-n", "8", "--seed", "3", "--exact", "--json")
    found = json.loads(result.stdout)
    assert (
        found["text"] == dream_edge.load(random_artifact).generate("Hello", max_new_tokens=8, seed=3, exact=True).text
    )
    assert 8 < found["steps"] <= 512


def test_blocks_and_caches_are_those_of_the_api(random_artifact: Path) -> None:
    given = ("--alg", "entropy", "--block-length", "4", "--cache", "dual", "--suffix-window", "2", "--stop-at-end")
    result = succeed("generate", random_artifact, "-p", "Hello", "-n", "12", "--seed", "3", *given, "--json")
    options: dict[str, Any] = {
        "algorithm": "entropy",
        "block_length": 4,
        "cache": "dual",
        "suffix_window": 2,
        "stop_at_end": True,
    }
    expected = dream_edge.load(random_artifact).generate("Hello", max_new_tokens=12, seed=3, **options)
    found = json.loads(result.stdout)
    assert (found["text"], found["passes"]) == (expected.text, expected.passes)


def test_infill_by_length_and_by_template_agree(random_artifact: Path) -> None:
    common = ("--steps", "4", "--alg", "entropy")
    between = succeed("infill", random_artifact, "--prefix", "one ", "--suffix", " two", "--length", "4", *common)
    template = succeed("infill", random_artifact, "--template", "one [[4]] two", *common, "--json")
    found = json.loads(template.stdout)
    assert between.stdout == found["text"] + "\n"
    assert found["text"] == f"one {found['holes'][0]} two"


def test_infill_checks_a_draft() -> None:
    checked = (
        "infill",
        "tiny",
        "--prefix",
        "The old woman",
        "--draft",
        " sings because she are",
        "--suffix",
        " happy.",
    )
    found = json.loads(succeed(*checked, "--json").stdout)
    assert found["text"] == "The old woman sings because she is happy."
    assert found["changes"] == [{"start": 31, "stop": 34, "before": " are"}]
    assert succeed(*checked).stdout == found["text"] + "\n"


def test_a_text_matches_what_the_command_line_says(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(
        '{"type": "object", "properties": {"legs": {"type": "integer", "maximum": 8}}, "required": ["legs"]}'
    )
    found = json.loads(succeed("generate", "tiny", "-p", "Hello", "-n", "16", "--json-schema", schema).stdout)
    assert found["legs"] <= 8
    assert re.fullmatch("[a-z]{3}\n", succeed("generate", "tiny", "-p", "Hello", "--regex", "[a-z]{3}").stdout)
    assert succeed("generate", "tiny", "-p", "Hello", "--regex", "(?i)yes|no").stdout.strip().lower() in ("yes", "no")
    hole = ("infill", "tiny", "--prefix", "The old man sleeps because he", "--suffix", " hungry.", "--length", "2")
    filled = succeed(*hole, "--choice", " is", "--choice", " was").stdout
    assert filled == "The old man sleeps because he is hungry.\n"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--regex", "a", "--choice", "b"), "name one of them"),
        (("--regex", r"a\b"), "beginning"),
        (("--json-schema", "nowhere.json"), "nowhere.json"),
        (("--regex", "Q{30}", "-n", "12"), "takes 30 tokens"),
    ],
)
def test_what_no_text_can_match_ends_in_one_line(given: tuple[str, ...], message: str) -> None:
    result = run("generate", "tiny", "-p", "Hello", *given)
    assert result.exit_code != 0
    assert message in result.stderr
    assert result.stdout == ""


def test_export_then_info_and_verify(random_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "ein Ort für 漢字"
    result = succeed("export", random_checkpoint, out, "--scheme", "int4", "--block-size", "32")
    assert result.stdout.startswith(f"{out}: int4, ")
    assert "bits per weight" in result.stdout
    assert "Next: dream-edge generate" in result.stderr
    assert "0.1 M parameters" in result.stderr or "k parameters" in result.stderr
    described = json.loads(succeed("info", out, "--json").stdout)
    assert (described["scheme"], described["recipe"]["targets"]["cpu"]["body"]["block_size"]) == ("int4", 32)
    verified = succeed("verify", out).stdout
    assert verified.count("ok  ") == len(described["provenance"]["weights"]) + 2
    assert "is whole" in verified


def test_verify_says_that_a_graph_of_another_revision_is_not_compared(random_artifact: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(random_artifact, tmp_path / "newer"))
    change_manifest(copy, lambda document: document.update(graph_revision=999))
    assert "not compared: its graphs, of revision 999" in succeed("verify", copy).stdout


def test_info_of_an_artifact_adds_up(random_artifact: Path) -> None:
    found = json.loads(succeed("info", random_artifact, "--json").stdout)
    assert found["kind"] == "artifact"
    assert found["parameters"] == sum(found["parameters_by_part"].values())
    weights = (random_artifact / WEIGHTS).stat().st_size
    assert 0.95 * weights <= sum(found["bytes_by_part"].values()) <= weights
    assert found["bytes"] == sum(
        file.stat().st_size for file in random_artifact.iterdir() if file.name not in ("manifest.json", "README.md")
    )
    assert found["special_ids"]["mask_token_id"] == dream_edge.load(random_artifact).config.mask_token_id


def test_info_says_what_a_gpu_must_hold(random_checkpoint: Path, tmp_path: Path) -> None:
    succeed("export", random_checkpoint, tmp_path / "out", "--scheme", "int4", "--target", "all")
    memory = json.loads(succeed("info", tmp_path / "out", "--json").stdout)["expected_gpu_memory"]
    assert memory["weights"] > 0.5e9  # CUDA's own included
    assert (memory["canvas"], memory["rows"]) == (512, 256)
    assert "GPU memory" in succeed("info", tmp_path / "out").stdout


def test_info_of_a_checkpoint_reads_no_weights(random_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(random_checkpoint, tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "model.safetensors").write_bytes(b"x" * 1000)
    found = json.loads(succeed("info", tmp_path / "checkpoint", "--json").stdout)
    assert (found["kind"], found["bytes"], found["context"]) == ("checkpoint", 1000, 512)
    assert found["generation_defaults"]["alg"] == "origin"


@pytest.mark.parametrize("kind", ["artifact", "checkpoint"])
def test_info_for_people_has_a_line_for_each_fact(kind: str, random_artifact: Path) -> None:
    lines = succeed("info", random_artifact.parent / kind).stdout.splitlines()
    facts = {line.split()[0] for line in lines}
    assert {kind, "network", "parameters", "context", "special", "size", "defaults"} <= facts


def test_info_of_a_strange_manifest_does_not_reach_the_terminal(random_artifact: Path, tmp_path: Path) -> None:
    shutil.copytree(random_artifact, tmp_path / "artifact")
    strange = {"provenance": {"weights": {"a": "b"}, "dtype": ["\x1b[2J"]}}
    change_manifest(tmp_path / "artifact", lambda document: document.update(strange))
    assert "\x1b" not in succeed("info", tmp_path / "artifact").stdout


def test_verify_names_the_damaged_file(random_artifact: Path, tmp_path: Path) -> None:
    shutil.copytree(random_artifact, tmp_path / "artifact")
    change_bytes(tmp_path / "artifact" / WEIGHTS, lambda data: data.__setitem__(100, data[100] ^ 1))
    result = run("verify", tmp_path / "artifact")
    assert (result.exit_code, result.stdout) == (1, "")
    assert WEIGHTS in result.stderr
    assert result.stderr.count("\n") == 1


def test_compare_prints_a_table_or_json(random_artifact: Path, random_checkpoint: Path) -> None:
    arguments = ("compare", random_artifact, "--reference", random_checkpoint, "--sequences", "5", "--no-trajectory")
    found = json.loads(succeed(*arguments, "--json").stdout)
    assert 0 < found["overall"]["kl_mean"] < 1
    assert all("mask_ratio" in part for part in found["bins"])
    table = succeed(*arguments).stdout.splitlines()
    assert table[0].startswith(f"artifact (int8), {found['overall']['positions']} masked positions of 5 texts")
    assert table[2].startswith("mask ratio")
    overall = table[3 + len(found["bins"])]
    assert overall.startswith("all ")
    assert f"{found['overall']['kl_mean']:.6f}" in overall


def test_compare_of_several_artifacts_is_still_one_object(random_artifact: Path, random_checkpoint: Path) -> None:
    arguments = (
        "compare",
        random_artifact,
        random_artifact,
        "--reference",
        random_checkpoint,
        "--sequences",
        "2",
        "--no-trajectory",
    )
    found = json.loads(succeed(*arguments, "--json").stdout)
    assert len(found["comparisons"]) == 2


def test_compare_with_a_base_is_compare_with_its_checkpoint(
    random_artifact: Path, random_checkpoint: Path, tmp_path: Path
) -> None:
    """Made once, announced, and then used without the checkpoint and without PyTorch."""
    texts = tmp_path / "texts.txt", tmp_path / "chats.jsonl"
    texts[0].write_text("The quick brown fox.\n\nThe lazy dog.", "utf-8")
    texts[1].write_text(
        '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}', "utf-8"
    )
    arguments = ("--sequences", "4", "--longest", "12", "--bins", "6", "--data", texts[0], "--data", texts[1])
    base = tmp_path / "a.base"
    made = succeed("compare", random_artifact, "--reference", random_checkpoint, "--save-base", base, *arguments)
    assert "4 masked texts" in made.stderr
    assert str(base) in made.stderr
    again = succeed("compare", random_artifact, "--reference", random_checkpoint, *arguments)
    assert "--save-base" in again.stderr
    program = (
        "import sys; from dream_edge.cli.app import app; app(sys.argv[1:], standalone_mode=False);"
        "print([name for name in ('torch', 'onnx', 'safetensors') if name in sys.modules])"
    )
    command = [sys.executable, "-c", program, "compare", str(random_artifact), "--base", str(base)]
    light = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert light == made.stdout + "[]\n"
    assert again.stdout == made.stdout
    assert succeed("compare", random_artifact, "--reference", random_checkpoint, "--base", base).stdout == made.stdout


def test_version() -> None:
    assert succeed("--version").stdout == f"dream-edge {dream_edge.__version__}\n"


@pytest.mark.parametrize("verb", "generate infill chat export compare bench info verify demo".split())
def test_help_of_every_verb(verb: str) -> None:
    result = succeed(verb, "--help")
    assert result.stdout.startswith(f"Usage: root {verb} [OPTIONS]")
    assert max(map(len, result.stdout.splitlines())) <= 110
    assert result.stderr == ""
