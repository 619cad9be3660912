"""What a system may lack; where it does, the test that asks for it is skipped with the reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_PRIVILEGE_NOT_HELD = 1314  # Windows' number


def make_pipe(path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(path)


def make_link(path: Path, to: str | Path, *, target_is_directory: bool = False) -> None:
    try:
        path.symlink_to(to, target_is_directory)
    except OSError as error:
        if getattr(error, "winerror", None) == _PRIVILEGE_NOT_HELD:
            pytest.skip("links need a privilege on this system")
        raise
    if (path.parent / to).exists() and not path.exists():  # Wine
        pytest.skip("links are made and not followed on this system")
