from collections.abc import Iterator
from pathlib import Path

import pytest

from support.artifacts import make_artifact
from support.hub import Hub, serving


@pytest.fixture(scope="session")
def random_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An int8 artifact of a small random network; its checkpoint lies beside it as `checkpoint`. Not to be changed."""
    return make_artifact(tmp_path_factory.mktemp("random model"), hidden_size=128, intermediate_size=256).path


@pytest.fixture(scope="session")
def random_checkpoint(random_artifact: Path) -> Path:
    return random_artifact.parent / "checkpoint"


@pytest.fixture
def hub(tmp_path: Path, random_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub of our own on loopback that has an artifact, someone/dream; an empty cache."""
    for name in (
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HF_TOKEN",
        "HUGGINGFACE_HUB_CACHE",
        "HF_HUB_DISABLE_SYMLINKS",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    with serving() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        served.add("someone/dream", random_artifact)
        yield served
