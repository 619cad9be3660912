"""The directory in which an artifact is built: hidden, beside its goal, locked, with a journal of what is finished.

    .OUT.partial/lock       held by the process that exports; the system releases it when that process dies
    .OUT.partial/journal    what is finished, so that the same command resumes there
    .OUT.partial/calibration/  what a calibration has finished, see `calibrate.store`
    .OUT.partial/artifact/  becomes OUT when it is whole
    .OUT.partial/replaced/  the old OUT, between the two renames that exchange them

Nothing but OUT itself is ever an artifact that somebody would load. Where OUT must stay the directory it is (a mount
point, the working directory), it is built in OUT/.export.partial and its files are moved, the manifest last.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dream_edge_runtime.artifact import CARD
from dream_edge_runtime.files.lock import hold_lock
from dream_edge_runtime.files.writing import OF_THE_SYSTEM, list_entries, move, remove_tree, sync_directory
from dream_edge_runtime.format.manifest import ARTIFACT_FILES, MANIFEST

JOURNAL = "journal"
CALIBRATION = "calibration"
_INSIDE = ".export.partial"
_MOUNTS = Path("/proc/self/mountinfo")


def resolve_goal(out: Path) -> Path:
    """`out`, absolute and by one name for one place; a link at `out` itself is not followed."""
    out = out.absolute()
    return out.resolve() if out.name == ".." else out.parent.resolve() / out.name


def locate_staging(out: Path) -> Path:
    """Where an export to `out` is built: on the same disk in any case."""
    out = resolve_goal(out)
    return out / _INSIDE if _must_stay(out) else out.with_name(f".{out.name}.partial")


def _must_stay(out: Path) -> bool:
    """Whether `out` is a directory that no other can take the place of."""
    if out.is_symlink() or not out.is_dir():
        return False
    with suppress(OSError):  # there may be no working directory any more
        if out.samefile(Path.cwd()):
            return True
    holds = {entry.name for entry in out.iterdir()}
    return bool(holds & {_INSIDE, *OF_THE_SYSTEM}) or _is_mount_point(out) or not os.access(out.parent, os.W_OK)


def _is_mount_point(out: Path) -> bool:
    if os.path.ismount(out):
        return True
    name = re.sub(rb"[\\ \t\n]", lambda found: b"\\%03o" % found[0][0], os.fsencode(out))
    with suppress(OSError):  # a part of the same file system: only Linux mounts such, and lists them
        return any(line.split()[4] == name for line in _MOUNTS.read_bytes().splitlines())
    return False


class Staging:
    """The directory in which the artifact for `out` is built. Make one with `claim_staging`."""

    def __init__(self, out: Path, path: Path) -> None:
        self.out = out
        self.path = path
        self.artifact = self.path / "artifact"
        self.journal = self.path / JOURNAL
        self.calibration = self.path / CALIBRATION
        self.replaced = self.path / "replaced"
        self.is_resumable = self.journal.exists() or self.calibration.exists()
        """Whether something is finished that the next export can continue, so that it must outlive this one."""

    def clear(self) -> None:
        """Start over; a calibration stays."""
        remove_tree(self.artifact)
        self.journal.unlink(missing_ok=True)
        self.is_resumable = self.calibration.exists()
        self.artifact.mkdir()

    def put_in_place(self) -> None:
        """Make the artifact that was built the one at `out`, and remove an older one."""
        sync_directory(self.artifact)
        if self.path.parent == self.out:
            self._fill()
        else:
            try:
                self._exchange()
            except OSError:
                if not self.out.is_dir():
                    raise
                self._fill()  # it is in use, of an image's lower layer, or not ours to move: files can still be moved
        self.is_resumable = False
        sync_directory(self.out.parent)
        self.recover()

    def _exchange(self) -> None:
        """Rename directories; an older artifact is moved aside first and removed last."""
        if is_occupied(self.out):
            move(self.out, self.replaced)
        elif self.out.exists():
            self.out.rmdir()
        try:
            move(self.artifact, self.out)
        except OSError:
            self.recover()
            raise

    def _fill(self) -> None:
        """Move files into `out`. From when the old manifest is removed to when the new one is there, nothing loads."""
        move(self.artifact / CARD, self.out / CARD)  # first: where no file can be moved, nothing is lost
        for file in sorted(list_files(self.out), key=lambda file: file.name != MANIFEST):
            if file.name != CARD:
                file.unlink()
                sync_directory(self.out)
        for file in sorted(self.artifact.iterdir(), key=lambda file: file.name == MANIFEST):
            move(file, self.out / file.name)
            sync_directory(self.out)

    def recover(self) -> None:
        """Undo what was interrupted between two renames, or finish what was not. A half is resumed as what it was."""
        if _was_being_filled(self.out, self.artifact):
            for file in list_files(self.out):
                file.unlink() if (self.artifact / file.name).exists() else move(file, self.artifact / file.name)
        if not os.path.lexists(self.replaced):
            return
        if is_occupied(self.out):
            (self.replaced / MANIFEST).unlink(missing_ok=True)  # first: a half is no artifact
            remove_tree(self.replaced)
            return
        if self.out.exists():
            self.out.rmdir()
        move(self.replaced, self.out)

    def remove(self) -> None:
        """Remove everything that an export has made here."""
        remove_tree(self.artifact)
        remove_tree(self.calibration)
        self.journal.unlink(missing_ok=True)
        _remove_lock(self.path)


@contextmanager
def claim_staging(out: Path) -> Iterator[Staging]:
    """The place where `out` is built, for this process alone. What can be resumed outlives the block.

    Raises: OutputBusy.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    path = locate_staging(out)
    try:
        with hold_lock(path / "lock", out):
            place = Staging(out, path)
            place.recover()
            place.artifact.mkdir(exist_ok=True)
            try:
                yield place
            finally:
                if not place.is_resumable and not os.path.lexists(place.replaced):
                    place.remove()
    finally:
        if os.name == "nt":
            _remove_lock(path)


def _remove_lock(path: Path) -> None:
    """Remove what is left of the directory, unless something is."""
    with suppress(OSError):
        if {entry.name for entry in path.iterdir()} <= {"lock", "lock.holder"}:
            for entry in path.iterdir():
                entry.unlink()  # Windows refuses while it is open
            path.rmdir()


def is_occupied(out: Path) -> bool:
    """Whether there is anything at `out` but an empty directory, or what an interrupted export was moving there."""
    if out.is_symlink() or not out.is_dir():
        return os.path.lexists(out)
    return bool(list_files(out)) and not _was_being_filled(out, locate_staging(out) / "artifact")


def list_files(out: Path) -> list[Path]:
    """What a directory holds, without what a system or an export keeps there."""
    return [entry for entry in list_entries(out) if entry.name != _INSIDE]


def _was_being_filled(out: Path, built: Path) -> bool:
    """Whether an export that moved files from `built` to `out` was interrupted before the manifest."""
    is_half = (built / MANIFEST).is_file() and out.is_dir() and not (out / MANIFEST).exists()
    return is_half and all(ARTIFACT_FILES.fullmatch(file.name) for file in list_files(out))
