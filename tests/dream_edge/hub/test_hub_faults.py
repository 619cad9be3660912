"""Pulled cables, full disks, closed doors: what a download does when something is wrong."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import dream_edge
from dream_edge.hub import errors as hub_errors
from dream_edge.hub import find_cached, parse_repository
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import (
    CorruptArtifact,
    DreamEdgeError,
    NotEnoughDisk,
)
from dream_edge_runtime.progress import Progress
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
    assert ranges[0] is None
    assert len(ranges) >= 2


def test_cut_and_repeated_goes_on_with_the_files_that_are_missing(hub: Hub, random_artifact: Path) -> None:
    weights = (random_artifact / WEIGHTS).stat().st_size
    hub.cuts[WEIGHTS] = [weights // 2]
    hub.after_a_cut = [503] * 100  # the cable stays out
    with pytest.raises(hub_errors.HubUnreachable, match="run the same command again"):
        dream_edge.pull(NAME)
    assert find_cached(parse_repository(NAME)) is None
    hub.refuse.clear()
    hub.requests.clear()
    Artifact.open(dream_edge.pull(NAME)).verify()
    assert WEIGHTS in hub.fetched()
    assert len(hub.fetched()) < 5


def test_progress_is_of_the_bytes_that_were_announced(hub: Hub) -> None:
    hub.cuts[WEIGHTS] = [1000, 5000]
    hub.ranges = False  # so the hub starts over each time
    reports: list[Progress] = []
    path = dream_edge.pull(NAME, progress=reports.append)
    size = sum(file.stat().st_size for file in path.iterdir())
    seen = [each for each in reports if each.task == f"downloading {NAME}"]
    assert (seen[0].done, seen[-1].done) == (0, size)
    assert {(each.total, each.unit) for each in seen} == {(size, "bytes")}
    assert all(0 <= each.done <= size for each in seen)


def test_download_is_stopped_in_its_midst(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, and whatever a caller raises, ends the download with the piece that is under way (10 MB)."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    hub.trickle.add(WEIGHTS)

    def stop(now: Progress) -> None:
        if now.done:
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        dream_edge.pull(NAME, progress=stop)
    assert time.monotonic() - start < 5
    hub.trickle.clear()
    Artifact.open(dream_edge.pull(NAME)).verify()


def test_killed_download_is_continued(hub: Hub) -> None:
    program = (
        "import os, signal, sys, dream_edge\n"
        "import huggingface_hub.constants\n"
        "huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 1000\n"
        "def count(now):\n"
        "    if now.done: os.kill(os.getpid(), signal.SIGKILL)\n"
        "dream_edge.pull(sys.argv[1], progress=count)\n"
    )
    hub.trickle.add(WEIGHTS)
    killed = run_python(program, NAME)
    assert killed.returncode == -9, killed.stderr
    hub.trickle.clear()
    assert find_cached(parse_repository(NAME)) is None
    Artifact.open(dream_edge.pull(NAME)).verify()


def test_bytes_that_are_not_the_listed_ones_are_discarded(hub: Hub) -> None:
    hub.garble.add(WEIGHTS)
    with pytest.raises(hub_errors.HubError, match=f"{WEIGHTS} arrived, but .* discarded"):
        dream_edge.pull(NAME)
    hub.garble.clear()
    Artifact.open(dream_edge.pull(NAME)).verify()


def test_artifact_that_does_not_fit_its_manifest_is_refused(hub: Hub, random_artifact: Path) -> None:
    files = files_of(random_artifact)
    files[WEIGHTS] = bytes(len(files[WEIGHTS]))
    hub.add(NAME, files)
    with pytest.raises(CorruptArtifact, match=WEIGHTS):
        dream_edge.pull(NAME)


FAULTS: dict[str, tuple[Callable[[Hub], object], type[DreamEdgeError], str]] = {
    "no such model": (lambda hub: hub.files.clear(), hub_errors.ModelNotFound, "no such directory here"),
    "private": (lambda hub: hub.private.update({NAME: "hf_key"}), hub_errors.ModelNotFound, "HF_TOKEN"),
    "gated": (lambda hub: hub.gated.add(NAME), hub_errors.AccessDenied, "Accept the model's terms"),
    "forbidden": (lambda hub: hub.refuse.update({"/api": [403]}), hub_errors.AccessDenied, "HF_TOKEN"),
    "hub is down": (lambda hub: hub.refuse.update({"/": [500]}), hub_errors.HubUnreachable, "answered 500"),
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
    with pytest.raises(hub_errors.ModelNotFound, match="no revision v9"):
        dream_edge.pull(NAME, "v9")


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(hub_errors.HubUnreachable, match=r"127\.0\.0\.1:1 does not answer"):
        dream_edge.load(NAME)


@pytest.mark.parametrize(
    ("name", "value", "note"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1", "(write socks5://, which needs"),
        ("all_proxy", "socks://127.0.0.1:1", "(write socks5://, which needs"),
        ("HTTP_PROXY", "http://name:secret@127.0.0.1:1", ""),
        ("http_proxy", "127.0.0.1:1", ""),
        ("HTTP_PROXY", "http://127.0.0.1:99999", ""),
        ("SSL_CERT_FILE", "/gone/ca.pem", "(there is no /gone/ca.pem)"),
        ("SSLKEYLOGFILE", "/gone/keys", "(there is no /gone/keys)"),
        ("HF_ENDPOINT", "mirror.example", ""),
        ("HF_ENDPOINT", "http://127.0.0.1:99999", ""),
    ],
)
def test_setting_that_keeps_a_connection_from_being_made_is_named(
    name: str, value: str, note: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import dream_edge\n"
        f"try: dream_edge.pull({NAME!r})\n"
        "except dream_edge.DreamEdgeError as error: print(type(error).__name__, error)\n"
        "print(dream_edge.load('tiny').generate('Hello', max_new_tokens=2).new_tokens)\n"  # it needs no hub
    )
    for proxy in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setenv(name, value)
    said = run_python(program)
    assert "HubUnreachable " in said.stdout, said.stdout + said.stderr
    assert f"{name} {note}".strip() in said.stdout.partition("what is set:")[2]
    assert "secret" not in said.stdout
    assert hub.requests == []
    assert said.stdout.splitlines()[-1] == "2"


def test_certificates_that_are_not_read_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/ssl/mine.pem")
    with pytest.raises(hub_errors.HubUnreachable, match=r"REQUESTS_CA_BUNDLE \(which is not read: SSL_CERT_FILE is\)"):
        dream_edge.pull(NAME)


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"])
def test_cache_that_is_no_directory_is_said_with_the_remedy(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "file"))
    program = (
        "import dream_edge\n"
        f"try: dream_edge.load({NAME!r})\n"
        "except dream_edge.DreamEdgeError as error: print(type(error).__name__, error)\n"
    )
    said = run_python(program)
    assert said.stdout.startswith("NotWritable "), said.stdout + said.stderr
    assert "Not a directory. Make room, or set HF_HOME, or HF_HUB_CACHE" in said.stdout


def test_disk_that_is_too_small_is_said_before_the_download(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(NotEnoughDisk, match="HF_HUB_CACHE"):
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
    assert said.stdout.startswith("NotWritable "), said.stderr
    assert "HF_HUB_CACHE" in said.stdout
    Artifact.open(dream_edge.pull(NAME)).verify()
