"""Files and names that outlive a power cut."""

from __future__ import annotations

import os
from pathlib import Path


def write_durably(path: Path, data: bytes) -> None:
    """The bytes are on disk under this path when this returns; the name itself is only with `sync_folder`."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def make_folder(folder: Path, mode: int = 0o750) -> None:
    """The folder is there, with the name of every folder made on the way to it on disk, when this returns."""
    missing = [each for each in (folder, *folder.parents) if not each.is_dir()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True, mode=mode)
        sync_folder(each.parent)


def sync_folder(folder: Path) -> None:
    """Every name in this folder is on disk, and every name removed is gone, when this returns."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
