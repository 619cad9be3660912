"""The command line and models on a hub: what is said before, while and after, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dream_edge.cli.app import app
from dream_edge.hub import find_cached, parse_repository
from dream_edge_runtime.format.manifest import Manifest
from support.hub import Hub

NAME, CHECKPOINT, GATED = "someone/dream", "someone/checkpoint", "someone/gated"
WEIGHTS = "weights-00001.bin"


@pytest.fixture(autouse=True)
def commit(hub: Hub, random_checkpoint: Path) -> str:
    """Of the checkpoint that the hub has besides the artifact, and in a room that one is not let into."""
    hub.gated.add(GATED)
    hub.add(GATED, random_checkpoint)
    return hub.add(CHECKPOINT, random_checkpoint)


def run(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def test_pull_says_what_it_will_do_what_it_did_and_what_comes_next(hub: Hub, random_artifact: Path) -> None:
    size = f"{sum(file.stat().st_size for file in random_artifact.iterdir()) / 1000:.1f} kB"
    result = run("pull", NAME)
    commit = hub.branches[NAME, "main"]
    first, second, following = result.stderr.splitlines()
    assert first == f"{NAME}: artifact at commit {commit[:12]}, 5 files, {size}"
    assert second.startswith(f"Downloading {size} into ")
    assert second.endswith(" are free")
    assert following == f"Next: dream-edge generate {NAME} -p 'Hello!'"
    path = find_cached(parse_repository(NAME))
    assert result.stdout == f"{path}: int8 artifact, verified, {size}, {NAME} at commit {commit}\n"


def test_pull_of_a_checkpoint_names_the_export() -> None:
    result = run("pull", CHECKPOINT)
    assert f"dream-edge export {CHECKPOINT} OUT" in result.stderr
    assert ": checkpoint, " in result.stdout


def test_pull_again_downloads_nothing() -> None:
    run("pull", NAME)
    assert "all of it is in the cache" in run("pull", NAME).stderr


def test_pull_in_json(commit: str) -> None:
    found = json.loads(run("pull", CHECKPOINT, "--revision", "main", "--json").stdout)
    path = find_cached(parse_repository(CHECKPOINT))
    assert path is not None
    assert found == {
        "repository": CHECKPOINT,
        "commit": commit,
        "revision": "main",
        "kind": "checkpoint",
        "path": str(path),
        "bytes": sum(file.stat().st_size for file in path.iterdir()),
    }


def test_cut_and_repeated(hub: Hub) -> None:
    hub.cuts[WEIGHTS] = [1000]
    hub.after_a_cut = [503] * 100
    broken = run("pull", NAME, code=1)
    assert broken.stdout == ""
    assert "run the same command again" in broken.stderr.splitlines()[-1]
    hub.refuse.clear()
    hub.requests.clear()
    again = run("pull", NAME)
    assert "are there already" in again.stderr
    assert WEIGHTS in hub.fetched()
    assert "manifest.json" not in hub.fetched()
    run("verify", NAME)


@pytest.mark.parametrize(
    "verb", ["generate {} -p x -n 4 --steps 4", "info {}", "verify {}", "infill {} --template [[2]]x"]
)
def test_verbs_fetch_what_they_are_given(verb: str, hub: Hub) -> None:
    first = run(*verb.format(NAME).split())
    assert f"{NAME}: artifact at commit" in first.stderr
    hub.requests.clear()
    again = run(*verb.format(NAME).split())
    assert "Downloading" not in again.stderr
    assert hub.requests == []


def test_chat_with_a_model_on_the_hub() -> None:
    result = CliRunner().invoke(app, ["chat", NAME], input="")
    assert f"{NAME}: artifact at commit" in result.stderr


def test_export_records_where_the_checkpoint_came_from(tmp_path: Path, random_checkpoint: Path, commit: str) -> None:
    result = run("export", f"{CHECKPOINT}@{commit}", tmp_path / "out", "--scheme", "int8")
    said = result.stderr.splitlines()
    assert said[0].startswith(f"{CHECKPOINT}@{commit}: checkpoint at commit {commit[:12]}, ")
    assert said[1].startswith("Downloading ")
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.provenance["source"] == {"repository": CHECKPOINT, "commit": commit}
    assert f"{CHECKPOINT} at commit {commit}" in run("info", tmp_path / "out").stdout
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert f"base_model: {CHECKPOINT}\n" in card
    assert commit in card
    run("export", random_checkpoint, tmp_path / "local", "--scheme", "int8")
    assert "source" not in Manifest.read(tmp_path / "local").provenance


def test_compare_takes_both_from_the_hub() -> None:
    result = run("compare", NAME, "--reference", CHECKPOINT, "--sequences", "2", "--no-trajectory", "--json")
    assert json.loads(result.stdout)["overall"]["kl_mean"] >= 0


def test_bad_options_are_refused_before_anything_is_asked(hub: Hub, tmp_path: Path) -> None:
    run("export", CHECKPOINT, tmp_path / "out", "--scheme", "int4", "--block-size", "33", code=2)
    assert hub.requests == []


FAILURES = {
    "no name": ("pull dream", 1, "owner/name"),
    "no such model": ("pull no/model", 1, "no such model"),
    "neither here nor there": ("generate out/int4 -p x", 1, "no such directory here"),
    "no such revision": (f"pull {NAME} --revision v2", 1, "no revision v2"),
    "odd revision": (f"pull {NAME} --revision ../x", 1, "owner/name@revision"),
    "gated": (f"pull {GATED}", 1, "hf auth login"),
    "other kind": (f"generate {CHECKPOINT} -p x", 1, f"dream-edge export {CHECKPOINT} OUT"),
    "artifact for checkpoint": (f"export {NAME} out --scheme int8", 1, "not a checkpoint"),
}


@pytest.mark.parametrize(("command", "code", "says"), FAILURES.values(), ids=FAILURES)
def test_failure_is_one_line(command: str, code: int, says: str) -> None:
    result = run(*command.split(), code=code)
    assert result.stdout == ""
    [said] = [line for line in result.stderr.splitlines() if line.startswith("dream-edge: ")]
    assert says in said


def test_offline_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in run("generate", NAME, "-p", "x", code=1).stderr
