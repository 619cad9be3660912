"""Caches that cannot be written, or have no place at all: an error that names the variable, where one is needed."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import dream_edge
from dream_edge.cli.app import app
from dream_edge.models import cache_directory
from dream_edge_runtime.errors import NotWritable

posix = pytest.mark.skipif(sys.platform == "win32", reason="the home directory is found otherwise there")


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of a container: a number without an entry in /etc/passwd, and no HOME."""
    import pwd

    def unknown(_: int) -> pwd.struct_passwd:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)


@posix
@pytest.mark.usefixtures("homeless")
def test_what_needs_no_cache_needs_no_home(tmp_path: Path) -> None:
    dream_edge.export("tiny", tmp_path / "out", scheme="int8")
    for name in ("tiny", tmp_path / "out"):
        assert dream_edge.load(name).generate("Hello", max_new_tokens=2).new_tokens == 2


CACHING: dict[str, Callable[[Path], object]] = {
    "int8 copy": lambda artifact: dream_edge.load(artifact, as_int8=True),
    "tiny in another scheme": lambda _: dream_edge.load("tiny-int4"),
    "hub": lambda _: dream_edge.load("somebody/something"),
}


@posix
@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize("use", CACHING)
def test_missing_home_is_said_where_a_cache_is_needed(use: str, tmp_path: Path) -> None:
    dream_edge.export("tiny", tmp_path / "out", scheme="int4")
    with pytest.raises(NotWritable, match=r"no home directory. Set HOME, or XDG_CACHE_HOME"):
        CACHING[use](tmp_path / "out")


@pytest.mark.parametrize("use", ["int8 copy", "tiny in another scheme"])
@pytest.mark.parametrize("place", ["file", "read-only", "quota"])
def test_cache_that_cannot_be_written_is_said_with_the_remedy(
    use: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dream_edge.export("tiny", tmp_path / "out", scheme="int4")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if place == "file":
        (tmp_path / "cache").write_text("", "utf-8")
    else:
        refuse_to_create(tmp_path / "cache", {"read-only": errno.EROFS, "quota": errno.EDQUOT}[place], monkeypatch)
    with pytest.raises(NotWritable, match="XDG_CACHE_HOME"):
        CACHING[use](tmp_path / "out")


def refuse_to_create(below: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every file and directory under `below` refused that is not there."""
    (below / "dream-edge").mkdir(parents=True)
    make, create = os.mkdir, os.open

    def mkdir(path: str, *more: int) -> None:
        if below in Path(path).parents:
            raise OSError(code, os.strerror(code), path)
        make(path, *more)

    def open_(path: str, flags: int, *more: int, **named: int) -> int:
        if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR) and below in Path(path).parents:
            raise OSError(code, os.strerror(code), path)
        return create(path, flags, *more, **named)

    monkeypatch.setattr(os, "mkdir", mkdir)
    monkeypatch.setattr(os, "open", open_)


def test_variable_of_the_user_decides_before_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "dream-edge"


def test_verb_of_the_command_line_says_what_the_system_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(path: Path) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "is_dir", forbid)
    result = CliRunner().invoke(app, ["cache"])
    assert result.exit_code == 1
    assert result.stderr.startswith("dream-edge: ")
    assert "Permission denied. Check the name" in result.stderr
