"""Artifacts kept in a run directory under their hash: nothing that is exported meanwhile can replace them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from rtbench import artifacts
from rtbench.records.model import Artifact


def kept_path(artifact: Artifact, folder: Path) -> Path:
    """In a folder of its hash, so that external data keeps the name by which the graph knows it."""
    return folder / artifact.sha256[:16] / Path(artifact.path).name


def keep(artifact: Artifact, source: Path, folder: Path) -> Path:
    """The artifact under its hash in `folder`: a copy, or the same file where that is safe."""
    target = kept_path(artifact, folder)
    parts = artifacts.parts(source)
    for part in reversed(parts):  # the artifact itself is the last: what is there is whole
        kept = target.parent / part.relative_to(source.parent)
        if not kept.exists() and not _link(artifact, parts, kept):
            with artifacts.replacing(kept) as partial:
                shutil.copyfile(part, partial)
    return target


def hold(artifact: Artifact, folder: Path) -> None:
    """Keep an artifact while it is measured, where that takes no copy: else who opens it sees by its hash whether it is
    still the same."""
    _link(artifact, artifacts.parts(Path(artifact.path)), kept_path(artifact, folder))


def as_held(artifact: Artifact, folder: Path) -> Artifact:
    """The artifact where it is held, else in its own place."""
    kept = kept_path(artifact, folder)
    return artifact.model_copy(update={"path": str(kept)}) if kept.exists() else artifact


def _link(artifact: Artifact, parts: list[Path], kept: Path) -> bool:
    """Have `kept` be the same file as the artifact where rtbench made it, which never writes into a file that is there:
    whether that was possible. Runtimes refuse external data of two names."""
    if "file" in artifact.made_from or len(parts) > 1:
        return False
    kept.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(parts[0], kept)
    except FileExistsError:
        return True
    except OSError:  # as on another file system
        return False
    return True
