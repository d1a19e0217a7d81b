"""What the cache of decoded images holds, and the removal of what is no longer used."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from rtbench.images.cache import ABOUT, CHUNKS, PIXELS


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
    """What the cache holds, the last used first; unfinished builds too."""
    found = [_entry(path.parent) for path in folder.glob(f"*/{ABOUT}")]
    return sorted(found, key=lambda entry: -entry.last_used)


def prune(folder: Path, used_before: float) -> tuple[list[Entry], list[Entry]]:
    """Remove entries not used since that time; those removed, and those that some process has in use."""
    removed, kept = [], []
    for entry in list_entries(folder):
        if entry.last_used >= used_before:
            continue
        descriptor = os.open(entry.path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(entry.path)
            removed.append(entry)
        except BlockingIOError:
            kept.append(entry)
        finally:
            os.close(descriptor)
    return removed, kept


def _entry(path: Path) -> Entry:
    about = json.loads((path / ABOUT).read_text(encoding="utf-8"))
    geometry = about["geometry"]
    chunks = path / CHUNKS
    return Entry(
        path=path,
        source=about["source"],
        images=about["images"],
        geometry=f"{geometry['input_size']} of {geometry['resize']} {geometry['interpolation']}"
        + (f", {geometry['preprocess']}" if geometry["preprocess"] != "torch" else ""),
        size_bytes=sum(file.stat().st_size for file in path.iterdir()),
        last_used=(chunks if chunks.exists() else path).stat().st_mtime,
        finished=(path / PIXELS).is_file(),
    )
