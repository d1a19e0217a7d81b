"""An engine that rtbench has built, taken as an artifact as it is."""

from __future__ import annotations

from pathlib import Path

from rtbench import artifacts
from rtbench.errors import UsageError
from rtbench.records.model import Artifact, Model


def adopt_engine(path: Path) -> tuple[Model, Artifact]:
    """The model and the manifest of an engine that rtbench has built; UsageError for any other."""
    if not path.is_file():
        raise UsageError(f"there is no file {path}", "name an engine that rtbench export wrote")
    manifest = artifacts.load_manifest(path)
    if manifest is None or manifest.build is None:
        raise UsageError(
            f"{path} has no manifest next to it that says what it was built from", "build it with rtbench export"
        )
    said, build = (manifest.format, manifest.precision), manifest.build
    if not artifacts.is_unchanged(path, manifest.sha256) or said != ("engine", build.recipe.precision):
        raise UsageError(f"{path} is damaged: it is not the file that its manifest describes", "export it again")
    own = {
        "path": str(path),
        "size_bytes": artifacts.size_on_disk(path),
        "made_from": manifest.made_from | {"file": str(path)},
    }
    return artifacts.load_model_record(path.parent), manifest.model_copy(update=own)
