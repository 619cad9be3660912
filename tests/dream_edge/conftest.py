from pathlib import Path

import pytest

from support.artifacts import make_artifact


@pytest.fixture(scope="session")
def random_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An int8 artifact of a small random network; its checkpoint lies beside it as `checkpoint`. Not to be changed."""
    return make_artifact(tmp_path_factory.mktemp("random model"), hidden_size=128, intermediate_size=256).path


@pytest.fixture(scope="session")
def random_checkpoint(random_artifact: Path) -> Path:
    return random_artifact.parent / "checkpoint"
