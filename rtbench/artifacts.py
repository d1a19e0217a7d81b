"""Artifacts on disk: where they lie, what they were made from, whether one is already there.

An artifact folder holds, for each artifact, the file and a manifest beside it (`onnx-int8.onnx`,
`onnx-int8.json`), and `model.json`, the model that they were all made from.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import ValidationError

from rtbench.errors import UsageError
from rtbench.records.model import Artifact, Calibration, Model
from rtbench.terms import Format, Precision

MODEL_FILE = "model.json"
SUFFIXES: dict[Format, str] = {
    "state_dict": ".pt",
    "torchscript": ".pt",
    "pickle": ".pt",
    "pt2": ".pt2",
    "onnx": ".onnx",
    "onnx_trt": ".onnx",
    "engine": ".engine",
    "fake": ".fake",
}


def artifact_folder(engines: Path, model: Model) -> Path:
    """The default place of a model's artifacts: two models of one name never share it."""
    return engines / f"{model.name}-{model.sha256[:8]}"


def artifact_path(folder: Path, kind: Format, precision: Precision, number: int = 1) -> Path:
    """Where an artifact lies; `number` tells several engines from one recipe apart."""
    family = "onnx" if kind.startswith("onnx") else "trt" if kind == "engine" else "torch"
    suffix = "-trt" if kind == "onnx_trt" else f"-{number}" if number > 1 else ""
    return folder / f"{family}-{precision}{suffix}{SUFFIXES[kind]}"


def manifest_path(path: Path) -> Path:
    return path.with_suffix(".json")


def require_file(path: Path) -> None:
    if not path.exists():
        raise UsageError(f"{path} does not exist", "name a model file or a torchvision model")
    if path.is_file() and path.stat().st_size == 0:
        raise UsageError(f"{path} is empty", "save the model again")


def load_manifest(path: Path) -> Artifact | None:
    """The manifest of the artifact at `path`; None where it has none that this version can read."""
    try:
        return Artifact.model_validate_json(manifest_path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        return None


def save_manifest(artifact: Artifact) -> None:
    write_text(manifest_path(Path(artifact.path)), artifact.model_dump_json(indent=2))


def reusable(path: Path, made_from: dict[str, str]) -> Artifact | None:
    """The artifact at `path` if it was made from exactly this and is unchanged since, by hash.

    Raises UsageError where a file is there that rtbench has not made, which it will not overwrite.
    """
    if not path.exists():
        return None
    manifest = load_manifest(path)
    if manifest is None:
        raise UsageError(f"{path} exists and was not made by rtbench", "move it away or choose another --out")
    if manifest.made_from != made_from or manifest.sha256 != file_sha256(path):
        return None
    return manifest.model_copy(update={"path": str(path)})


def make(
    path: Path,
    kind: Format,
    precision: Precision,
    made_from: dict[str, str],
    tools: dict[str, str],
    write: Callable[[Path], None],
    calibration: Calibration | None = None,
) -> Artifact:
    """Let `write` write the file under a temporary name in the same folder, then put it in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as scratch:
        made = Path(scratch) / path.name
        write(made)
        for companion in external_data(made):
            companion.replace(path.parent / companion.name)
        manifest_path(path).unlink(missing_ok=True)  # never a manifest beside a file it does not describe
        made.replace(path)
    artifact = Artifact(
        path=str(path),
        format=kind,
        precision=precision,
        size_bytes=size_on_disk(path),
        sha256=file_sha256(path),
        made_from=made_from,
        tools=tools,
        calibration=calibration,
    )
    save_manifest(artifact)
    return artifact


def external_data(path: Path) -> list[Path]:
    """The files beside an ONNX file that hold its larger weights, where it has any."""
    companion = path.with_name(path.name + ".data")
    return [companion] if companion.exists() else []


def size_on_disk(path: Path) -> int:
    return sum(part.stat().st_size for part in [path, *external_data(path)])


def file_sha256(path: Path) -> str:
    """SHA-256 of a file and, after it, of its external data."""
    digest = hashlib.sha256()
    for part in [path, *external_data(path)]:
        with part.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def save_model(folder: Path, model: Model) -> None:
    write_text(folder / MODEL_FILE, model.model_dump_json(indent=2))


def load_model_record(folder: Path) -> Model:
    """What `model.json` of an artifact folder says; UsageError where the folder is none."""
    path = folder / MODEL_FILE
    try:
        return Model.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{folder} was not written by rtbench export", "name a model file") from None
    except ValidationError:
        raise UsageError(f"{path} is damaged or of another version of rtbench", "export the model again") from None


def adopt_engine(path: Path) -> tuple[Model, Artifact]:
    """The model and the manifest of an engine that rtbench has built; UsageError for any other."""
    if not path.is_file():
        raise UsageError(f"there is no file {path}", "name an engine that rtbench export wrote")
    manifest = load_manifest(path)
    if manifest is None or manifest.build is None:
        raise UsageError(
            f"{path} has no manifest beside it that says what it was built from", "build it with rtbench export"
        )
    if manifest.sha256 != file_sha256(path):
        raise UsageError(f"{path} is damaged: it is not the file that its manifest describes", "export it again")
    own = {"path": str(path), "made_from": manifest.made_from | {"file": str(path)}}
    return load_model_record(path.parent), manifest.model_copy(update=own)


def tool_versions(*packages: str) -> dict[str, str]:
    """Installed versions by package name; packages that are absent are left out."""
    found = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def write_text(path: Path, text: str) -> None:
    """Replace a file whole: under a temporary name first, then renamed."""
    with _replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Raise UsageError, before any work is done, where files could not be written into `folder`.

    The folder itself is not made: only the nearest parent that exists is tried.
    """
    existing = folder
    while not existing.exists():
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}", "choose another --out") from None
