"""Pulled cables, full disks, closed doors: what a download does when something is wrong."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import dream_edge
from dream_edge.hub import download, find_cached, parse_repository, plan_download
from dream_edge.hub import errors as hub_errors
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import (
    CorruptArtifact,
    DreamEdgeError,
)
from support.hub import Hub
from support.processes import run_python

NAME = "someone/dream"
WEIGHTS = "weights-00001.bin"
pytestmark = pytest.mark.usefixtures("hub")


def files_of(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def test_cut_in_the_middle_is_continued_at_once(hub: Hub, random_artifact: Path) -> None:
    half = (random_artifact / WEIGHTS).stat().st_size // 2
    hub.cuts[WEIGHTS] = [half]
    Artifact.open(dream_edge.pull(NAME)).verify()
    ranges = [each.range for each in hub.requests if each.path.endswith(WEIGHTS) and "storage" in each.path]
    assert ranges == [None, f"bytes={half}-"]


def test_cut_and_repeated_goes_on_where_it_stopped(hub: Hub, random_artifact: Path) -> None:
    half = (random_artifact / WEIGHTS).stat().st_size // 2
    hub.cuts[WEIGHTS] = [half]
    hub.after_a_cut = [503] * 100  # the cable stays out
    with pytest.raises(hub_errors.DownloadInterrupted, match="run the same command again"):
        dream_edge.pull(NAME)
    assert find_cached(parse_repository(NAME)) is None
    hub.refuse.clear()
    hub.requests.clear()
    assert plan_download(parse_repository(NAME)).to_fetch == (random_artifact / WEIGHTS).stat().st_size - half
    Artifact.open(dream_edge.pull(NAME)).verify()
    assert [each.range for each in hub.requests if "storage" in each.path] == [f"bytes={half}-"]
    assert list((find_cached(parse_repository(NAME)) or Path()).parents[1].glob("blobs/*.dream-edge*")) == []


def test_progress_adds_up_to_what_was_said(hub: Hub) -> None:
    hub.cuts[WEIGHTS] = [1000, 5000]
    hub.ranges = False  # so the hub starts over each time
    planned = plan_download(parse_repository(NAME))
    assert planned.to_fetch == planned.size
    seen: list[float] = []
    download(planned, progress=lambda now: seen.append(now.done))
    assert (seen[0], seen[-1]) == (0, planned.size)
    assert sorted(seen) != seen
    Artifact.open(planned.path).verify()


def test_killed_download_is_continued(hub: Hub, random_artifact: Path) -> None:
    program = (
        "import os, signal, sys, dream_edge.hub as hub\n"
        "def stop(now):\n"
        f"    if now.done >= {(random_artifact / WEIGHTS).stat().st_size}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "hub.download(hub.plan_download(hub.parse_repository(sys.argv[1])), progress=stop)\n"
    )
    hub.cuts[WEIGHTS] = [(random_artifact / WEIGHTS).stat().st_size - 10]
    killed = run_python(program, NAME)
    assert killed.returncode == -9, killed.stderr
    hub.requests.clear()
    Artifact.open(dream_edge.pull(NAME)).verify()
    [asked] = [each.range for each in hub.requests if "storage" in each.path]
    assert asked is not None


def test_bytes_that_are_not_the_listed_ones_are_discarded(hub: Hub) -> None:
    hub.garble.add(WEIGHTS)
    with pytest.raises(hub_errors.DamagedDownload, match=WEIGHTS):
        dream_edge.pull(NAME)
    hub.garble.clear()
    Artifact.open(dream_edge.pull(NAME)).verify()


def test_half_of_another_file_is_noticed() -> None:
    planned = plan_download(parse_repository(NAME))
    [weights] = [file for file in planned.files if file.name == WEIGHTS]
    planned.partial(weights).parent.mkdir(parents=True)
    planned.partial(weights).write_bytes(b"\x07" * 1000)
    with pytest.raises(hub_errors.DamagedDownload):
        download(planned)
    Artifact.open(download(planned)).verify()


def test_artifact_that_does_not_fit_its_manifest_is_refused(hub: Hub, random_artifact: Path) -> None:
    files = files_of(random_artifact)
    files[WEIGHTS] = bytes(len(files[WEIGHTS]))
    hub.add(NAME, files)
    with pytest.raises(CorruptArtifact, match=WEIGHTS):
        dream_edge.pull(NAME)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_passing_fault_is_waited_out(hub: Hub, status: int) -> None:
    hub.refuse["/api"] = [status]
    hub.refuse["/storage"] = [status, status]
    Artifact.open(dream_edge.pull(NAME)).verify()


FAULTS: dict[str, tuple[Callable[[Hub], object], type[DreamEdgeError], str]] = {
    "no such model": (lambda hub: hub.files.clear(), hub_errors.RepositoryNotFound, "no such directory here"),
    "private": (lambda hub: hub.private.update({NAME: "hf_key"}), hub_errors.RepositoryNotFound, "HF_TOKEN"),
    "gated": (lambda hub: hub.gated.add(NAME), hub_errors.RepositoryClosed, "Accept the model's terms"),
    "forbidden": (lambda hub: hub.refuse.update({"/api": [403]}), hub_errors.RepositoryClosed, "HF_TOKEN"),
    "hub is down": (lambda hub: hub.refuse.update({"/": [500] * 9}), hub_errors.HubUnreachable, "answered 500"),
    "not a hub": (lambda hub: hub.refuse.update({"/api": [200]}), hub_errors.HubUnreachable, "HF_ENDPOINT"),
}


@pytest.mark.parametrize(("fault", "error", "says"), FAULTS.values(), ids=FAULTS)
def test_fault_is_said_with_its_remedy(
    hub: Hub, fault: Callable[[Hub], object], error: type[DreamEdgeError], says: str
) -> None:
    fault(hub)
    with pytest.raises(error, match=says) as raised:
        dream_edge.pull(NAME)
    assert isinstance(raised.value, OSError)
    assert "\n" not in str(raised.value)


def test_unknown_revision_is_said() -> None:
    with pytest.raises(hub_errors.RevisionNotFound, match="no revision v9"):
        dream_edge.pull(NAME, "v9")


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(hub_errors.HubUnreachable, match=r"127\.0\.0\.1:1 does not answer"):
        dream_edge.load(NAME)


def test_disk_that_is_too_small_is_said_before_the_download(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(hub_errors.CacheTooSmall, match="HF_HUB_CACHE"):
        dream_edge.pull(NAME)
    assert hub.fetched() == []


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_disk_that_fills_up_is_said(random_artifact: Path) -> None:
    """A limit on the size of files stands in for a full disk: writing fails half way."""
    half = (random_artifact / WEIGHTS).stat().st_size // 2
    program = (
        "import resource, signal, sys, dream_edge\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({half}, {half}))\n"
        "try: dream_edge.pull(sys.argv[1])\n"
        "except dream_edge.DreamEdgeError as error: print(type(error).__name__, error)\n"
    )
    said = run_python(program, NAME)
    assert said.stdout.startswith("CacheNotWritable "), said.stderr
    assert "HF_HUB_CACHE" in said.stdout
    Artifact.open(dream_edge.pull(NAME)).verify()
