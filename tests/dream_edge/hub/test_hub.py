"""Models from a hub, against one on loopback: what is fetched, where it lies, what happens when the cable is pulled."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir, snapshot_download

import dream_edge
from dream_edge.hub import Repository, find_cached, parse_repository, source
from dream_edge.hub import errors as hub_errors
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import MissingExtra, UnsupportedArtifact
from support.hub import Hub
from support.processes import run_python

NAME = "someone/dream"
WEIGHTS = "weights-00001.bin"
pytestmark = pytest.mark.usefixtures("hub")


@pytest.fixture
def commit(hub: Hub) -> str:
    return hub.branches[NAME, "main"]


def files_of(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def ask(model: dream_edge.DreamModel) -> str:
    return model.generate("x", max_new_tokens=4, steps=4, seed=1).text


# --- what is fetched -------------------------------------------------------------------------------------------------


def test_artifact_arrives_whole_and_runs(commit: str, random_artifact: Path) -> None:
    path = dream_edge.pull(NAME)
    assert files_of(path) == files_of(random_artifact)
    assert path == Path(os.environ["HF_HUB_CACHE"], "models--someone--dream", "snapshots", commit)
    assert all(file.is_symlink() for file in path.iterdir())
    assert ask(dream_edge.load(NAME)) == ask(dream_edge.load(random_artifact))


def test_checkpoint_arrives_whole(hub: Hub, random_checkpoint: Path) -> None:
    hub.add(NAME, random_checkpoint)
    path = dream_edge.resolve_checkpoint(NAME)
    assert Checkpoint.open(path).names == Checkpoint.open(random_checkpoint).names
    assert files_of(path) == files_of(random_checkpoint)


def test_code_and_pickles_stay_where_they_are(hub: Hub, random_checkpoint: Path) -> None:
    needless = (
        "modeling_dream.py",
        "pytorch_model.bin",
        "training_args.bin",
        "optimizer.pt",
        "dream.gguf",
        "tokenizer.py",
    )
    hub.add(NAME, files_of(random_checkpoint) | dict.fromkeys(needless, b"harm") | {"sub/config.json": b"{}"})
    dream_edge.pull(NAME)
    assert set(hub.fetched()) == set(files_of(random_checkpoint))


def test_artifact_without_what_an_export_does_not_write(hub: Hub, random_artifact: Path) -> None:
    needless = ("run.py", "pytorch_model.bin", "weights-1.bin", "config.json", "model.safetensors", "other.onnx")
    hub.add(NAME, files_of(random_artifact) | dict.fromkeys(needless, b"harm"))
    dream_edge.pull(NAME)
    assert set(hub.fetched()) == set(files_of(random_artifact))


def test_single_file_is_preferred_to_shards_of_the_same(hub: Hub, random_checkpoint: Path) -> None:
    hub.add(NAME, files_of(random_checkpoint) | {"consolidated.safetensors": b"the same in another form"})
    dream_edge.pull(NAME)
    assert "consolidated.safetensors" not in hub.fetched()


def test_shards_are_all_fetched(hub: Hub, tmp_path: Path) -> None:
    from support.checkpoints import write_checkpoint

    write_checkpoint(tmp_path / "sharded", shards=3)
    hub.add(NAME, tmp_path / "sharded")
    assert len(Checkpoint.open(dream_edge.resolve_checkpoint(NAME)).files) == 3


@pytest.mark.parametrize(
    "files",
    [
        ["README.md", "model.gguf"],
        ["config.json", "README.md"],
        ["manifest.json", "script.js"],
        ["config.json", "pytorch_model-00001-of-00002.bin"],
    ],
)
def test_repository_without_a_model_costs_one_request(hub: Hub, files: list[str]) -> None:
    hub.add(NAME, dict.fromkeys(files, b"{}"))
    with pytest.raises(hub_errors.NotAModel, match=rf"{NAME}.*pickled weights are never opened"):
        dream_edge.pull(NAME)
    assert len(hub.requests) == 1


def test_other_kind_is_refused_before_it_is_fetched(hub: Hub, random_checkpoint: Path) -> None:
    hub.add("someone/checkpoint", random_checkpoint)
    with pytest.raises(UnsupportedArtifact, match="dream-edge export someone/checkpoint OUT"):
        dream_edge.load("someone/checkpoint")
    with pytest.raises(UnsupportedArtifact, match="an artifact, not a checkpoint"):
        dream_edge.resolve_checkpoint(NAME)
    assert hub.fetched() == []


# --- names and revisions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["tiny", "./a/b", "/a/b", "a/b/c", "a/b/", "a--b/c", "a/..", "a/b@", "a/b@../x", "a b/c"]
)
def test_not_a_name(text: str) -> None:
    assert Repository.parse(text) is None


def test_names() -> None:
    assert Repository.parse("a.b-c/D_e.1@refs/pr/1") == Repository("a.b-c/D_e.1", "refs/pr/1")
    assert parse_repository("a/b", "v1.0") == Repository("a/b", "v1.0")
    for name, revision in (("dream", None), ("a/b@c", "d"), ("a/b", "../../etc")):
        with pytest.raises(hub_errors.NotAModel, match="owner/name@revision"):
            parse_repository(name, revision)


def test_directory_of_that_name_comes_first(
    hub: Hub, random_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(random_artifact, tmp_path / NAME)
    monkeypatch.chdir(tmp_path)
    assert dream_edge.resolve_artifact(NAME) == Path(NAME)
    assert hub.requests == []


def test_revisions_name_what_they_say(hub: Hub, random_artifact: Path) -> None:
    old = hub.add(NAME, random_artifact, branch="v1")
    new = hub.add(NAME, files_of(random_artifact) | {"README.md": b"new"})
    assert dream_edge.resolve_artifact(NAME).name == new
    assert dream_edge.resolve_artifact(f"{NAME}@v1").name == old
    assert dream_edge.pull(NAME, "v1") == dream_edge.resolve_artifact(f"{NAME}@{old}")
    assert hub.fetched().count(WEIGHTS) == 1  # both commits share it


def test_source_is_read_off_a_snapshot(commit: str, random_artifact: Path) -> None:
    assert source(dream_edge.pull(NAME)) == {"repository": NAME, "commit": commit}
    assert source(random_artifact) is None


# --- what lies in the cache ------------------------------------------------------------------------------------------


def test_cached_copy_needs_no_network_and_no_extra(hub: Hub, commit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = dream_edge.pull(NAME)
    hub.requests.clear()
    for module in ("huggingface_hub", "dream_edge.hub.network"):
        monkeypatch.setitem(sys.modules, module, None)
    assert dream_edge.resolve_artifact(NAME) == path
    assert dream_edge.resolve_artifact(f"{NAME}@{commit}") == path
    assert hub.requests == []


def test_pull_brings_what_is_new_and_load_what_was_pulled(hub: Hub, random_checkpoint: Path) -> None:
    older = hub.add(NAME, random_checkpoint)
    dream_edge.pull(NAME)
    newer = hub.add(NAME, files_of(random_checkpoint) | {"README.md": b"newer"})
    assert dream_edge.resolve_checkpoint(NAME).name == older
    hub.requests.clear()
    assert dream_edge.pull(NAME).name == newer
    assert hub.fetched() == ["README.md"]
    assert dream_edge.resolve_checkpoint(NAME).name == newer


def test_incomplete_copy_is_completed(hub: Hub) -> None:
    path = dream_edge.pull(NAME)
    (path / WEIGHTS).unlink()
    assert find_cached(parse_repository(NAME)) is None
    hub.requests.clear()
    assert dream_edge.resolve_artifact(NAME) == path
    assert hub.fetched() == []  # its bytes were still there
    (path / WEIGHTS).resolve().unlink()
    Artifact.open(dream_edge.resolve_artifact(NAME)).verify()
    assert hub.fetched() == [WEIGHTS]


def test_offline_uses_the_cache_and_nothing_else(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(hub_errors.ModelNotFound, match=f"dream-edge pull {NAME}"):
        dream_edge.load(NAME)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    path = dream_edge.pull(NAME)
    hub.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert dream_edge.resolve_artifact(NAME) == dream_edge.pull(NAME) == path
    assert hub.requests == []


def test_cache_is_one_that_huggingface_hub_reads(random_artifact: Path) -> None:
    path = dream_edge.pull(NAME)
    cache = Path(os.environ["HF_HUB_CACHE"])
    assert Path(snapshot_download(NAME, cache_dir=cache, local_files_only=True)) == path
    report = scan_cache_dir(cache)
    assert not report.warnings
    [found] = report.repos
    assert (found.repo_id, found.size_on_disk) == (NAME, sum(map(len, files_of(random_artifact).values())))


def test_what_huggingface_hub_fetched_is_found(hub: Hub, random_checkpoint: Path) -> None:
    hub.add(NAME, random_checkpoint)
    cache = Path(os.environ["HF_HUB_CACHE"])
    path = snapshot_download(NAME, cache_dir=cache, endpoint=hub.url)
    hub.requests.clear()
    assert dream_edge.resolve_checkpoint(NAME) == Path(path)
    assert hub.requests == []


def test_without_symlinks_the_files_themselves_lie_in_the_snapshot(
    hub: Hub, random_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_SYMLINKS", "1")
    path = Path(run_python(f"import dream_edge; print(dream_edge.pull({NAME!r}))").stdout.strip())
    assert not any(file.is_symlink() for file in path.iterdir())
    assert list((path.parents[1] / "blobs").iterdir()) == []
    assert ask(dream_edge.load(NAME)) == ask(dream_edge.load(random_artifact))
    hub.requests.clear()
    assert dream_edge.pull(NAME) == path
    assert hub.fetched() == []


# --- manners ----------------------------------------------------------------------------------------------------------


def test_token_opens_a_private_model_and_stays_with_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.private[NAME] = "hf_key"
    monkeypatch.setenv("HF_TOKEN", "hf_key")
    dream_edge.pull(NAME)
    assert {each.token for each in hub.requests if not each.path.startswith("/storage/")} == {"hf_key"}
    assert {each.token for each in hub.requests if each.path.startswith("/storage/")} == {None}


def test_two_at_once_fetch_each_file_once(hub: Hub) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(dream_edge.resolve_artifact(NAME))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 4
    assert hub.fetched().count(WEIGHTS) == 1
    Artifact.open(found[0]).verify()


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "dream_edge.hub.network", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"dream-edge\[hub\]"):
        dream_edge.load(NAME)


def test_library_prints_nothing(hub: Hub, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    hub.cuts[WEIGHTS] = [1000]
    dream_edge.pull(NAME)
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


def test_hf_xet_is_not_needed(commit: str) -> None:
    program = "import sys; sys.modules['hf_xet'] = None; import dream_edge; print(dream_edge.pull(sys.argv[1]).name)"
    done = run_python(program, NAME)
    assert (done.stdout.strip(), done.stderr) == (commit, "")


def test_naming_a_local_model_does_not_import_huggingface_hub(random_artifact: Path) -> None:
    program = (
        "import sys, dream_edge; dream_edge.load(sys.argv[1]); "
        "print([each for each in ('huggingface_hub', 'httpx2', 'filelock') if each in sys.modules])"
    )
    command = [sys.executable, "-c", program, str(random_artifact)]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip() == "[]"
