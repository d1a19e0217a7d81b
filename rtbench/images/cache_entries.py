"""What the cache of decoded images holds, and the removal of what is no longer used."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from rtbench.errors import UsageError, visible_text
from rtbench.images.cache import ABOUT, CHUNKS, PIXELS
from rtbench.images.image_set import read_bytes, reason
from rtbench.terms import Colours, Interpolation, Preprocess

UNKNOWN = "unknown"
"""What an entry says of itself whose about.json is damaged or not written yet."""


class _Geometry(BaseModel):
    height: int
    width: int
    resize: int
    interpolation: Interpolation
    preprocess: Preprocess
    colour_order: Colours

    def __str__(self) -> str:
        side = f"{self.height}x{self.width}" if self.height != self.width else str(self.height)
        parts = [f"{side} of {self.resize} {self.interpolation}"]
        parts += [self.preprocess] if self.preprocess != "torch" else []
        parts += [self.colour_order] if self.colour_order != "RGB" else []
        return ", ".join(parts)


class _About(BaseModel):
    source: str
    images: int
    geometry: _Geometry


@dataclass(frozen=True)
class Entry:
    """One entry of the cache; `images` are of `source`, `last_used` is a time since the epoch in seconds."""

    path: Path
    source: str
    images: int
    geometry: str
    size_bytes: int
    last_used: float
    finished: bool


def list_entries(folder: Path) -> list[Entry]:
    """What the cache holds, the last used first; unfinished builds and damaged entries too."""
    try:
        return sorted(_entries(folder), key=lambda entry: -entry.last_used)
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {reason(error)}", "name another --cache-dir") from None


def prune(folder: Path, used_before: float) -> tuple[list[Entry], list[Entry]]:
    """Remove entries not used since that time; those removed, and those that some process has in use."""
    removed, kept = list[Entry](), list[Entry]()
    for entry in list_entries(folder):
        if entry.last_used >= used_before:
            continue
        try:
            (removed if _remove(entry.path) else kept).append(entry)
        except OSError as error:
            raise UsageError(f"{entry.path} cannot be removed: {reason(error)}", "remove it by hand") from None
    return removed, kept


def _remove(entry: Path) -> bool:
    """Whether nobody uses it, so that it is gone now."""
    descriptor = os.open(entry, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(entry)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _entries(folder: Path) -> Iterator[Entry]:
    """Only what is named as entries are: the folder may be one that holds other things too."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if re.fullmatch(r"[0-9a-f]{24}", path.name) and path.is_dir():
            with suppress(FileNotFoundError):  # it is removed at this moment
                yield _entry(path)


def _entry(path: Path) -> Entry:
    try:
        about = _About.model_validate_json(read_bytes(str(path / ABOUT)))
    except (OSError, ValidationError):
        about = None
    chunks = path / CHUNKS
    return Entry(
        path=path,
        source=visible_text(about.source) if about else UNKNOWN,
        images=about.images if about else 0,
        geometry=str(about.geometry) if about else UNKNOWN,
        size_bytes=sum(file.stat().st_size for file in path.iterdir()),
        last_used=(chunks if chunks.exists() else path).stat().st_mtime,
        finished=(path / PIXELS).is_file(),
    )
