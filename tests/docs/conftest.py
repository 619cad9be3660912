"""A directory where the names that the manual uses exist: small random models stand in for Dream 7B."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dream_edge.quality.texts.read import builtin_texts
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_runtime.format.recipe import Recipe
from support.checkpoints import write_checkpoint
from support.documents import ROOT
from support.hub import serving
from support.manual_shell import Shell

CHECKPOINTS = ("Dream-v0-Instruct-7B", "CHECKPOINT")
ARTIFACTS = {
    "dream-int4": "int4",
    "dream-int8": "int8",
    "dream-nf4": "nf4",
    "dream-mixed": "mixed",
    "another-int8": "int8",
    "ARTIFACT": "int8",
}
ON_THE_HUB = {
    "Dream-org/Dream-v0-Instruct-7B": "checkpoint",
    "somebody/dream-int4": "int4",
}
FILES = {
    "my.jsonl": "".join(
        json.dumps({"text": f"The quick brown fox jumps over the lazy dog, {n} times in the rain."}) + "\n"
        for n in range(8)
    ),
    "my.txt": "The quick brown fox jumps over the lazy dog.\n\nAnd then the other thing happens in the rain.\n",
    "requests.jsonl": "".join(
        json.dumps(
            {
                "custom_id": f"request-{n}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"messages": [{"role": "user", "content": question}], "max_tokens": 16},
            }
        )
        + "\n"
        for n, question in enumerate(("What sound does the dog make?", "Where does a frog live?"))
    ),
}


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models, each once: `checkpoint`, and one artifact of it for each scheme."""
    shelf = tmp_path_factory.mktemp("shelf")
    write_checkpoint(shelf / "checkpoint", hidden_size=128, intermediate_size=256, max_position_embeddings=2048)
    checkpoint = Checkpoint.open(shelf / "checkpoint")
    for scheme in {*ARTIFACTS.values()}:
        export(checkpoint, shelf / scheme, Recipe.for_scheme(scheme, layers=checkpoint.config.num_hidden_layers))
    return shelf


@pytest.fixture(autouse=True)
def few_texts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons see a few of the built-in texts and short trajectories, unless there is time."""
    if request.node.get_closest_marker("slow") is None:
        texts = builtin_texts()[:2]
        monkeypatch.setattr("dream_edge.quality.texts.read.builtin_texts", lambda: texts)
        monkeypatch.setattr("dream_edge.quality.extras.TEXTS", 1)
        monkeypatch.setattr("dream_edge.quality.extras.NEW_TOKENS", 4)
        monkeypatch.setattr("dream_edge.cli.demo._COMPARED", 4)


@pytest.fixture
def shell(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """A shell in a new directory with the stand-ins, whose hub is on loopback and whose cache is empty."""
    directory = tmp_path / "work"
    directory.mkdir()
    for name in CHECKPOINTS:
        shutil.copytree(shelf / "checkpoint", directory / name)
    for name, scheme in ARTIFACTS.items():
        (directory / name).symlink_to(shelf / scheme, target_is_directory=True)
    for name, text in FILES.items():
        (directory / name).write_text(text, encoding="utf-8")
    (directory / "examples").symlink_to(ROOT / "examples", target_is_directory=True)
    for name in ("tiny", "tiny_blocks"):
        shutil.copytree(ROOT / "dream_edge" / name, directory / "dream_edge" / name)
    monkeypatch.chdir(directory)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "DREAM_EDGE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub" / "cache"))
    monkeypatch.setenv("COLUMNS", "120")
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        for name, model in ON_THE_HUB.items():
            for branch in ("main", "v1.1"):
                hub.add(name, shelf / model, branch=branch)
        shell = Shell(directory)
        try:
            yield shell
        finally:
            shell.close()
