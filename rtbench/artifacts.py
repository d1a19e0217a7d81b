"""Artifacts on disk: where they are, what they were made from, whether one is already there.

An artifact folder holds, for each artifact, the file and a manifest next to it (`onnx-int8.onnx`, `onnx-int8.json`; a
SavedModel is a folder, `tf-fp32`), and `model.json`, the model that they were all made from.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rtbench.errors import UsageError, WorkerFailed
from rtbench.onnx_file import external_files
from rtbench.options import require_path
from rtbench.records.model import Artifact, Calibration, Model
from rtbench.terms import Format, Precision

MODEL_FILE = "model.json"
SAVED_MODEL = ("saved_model.pb", "variables/*", "assets/**/*", "assets.extra/**/*")
UNFINISHED = re.compile(r"\.making-\d+-\w{8}|\..+\.json\.\d+\.partial")
"""Names of what a process is writing into an artifact folder, its number among them."""
SUFFIXES: dict[Format, str] = {
    "state_dict": ".pt",
    "torchscript": ".pt",
    "pickle": ".pt",
    "pt2": ".pt2",
    "saved_model": "",
    "onnx": ".onnx",
    "onnx_trt": ".onnx",
    "tflite": ".tflite",
    "engine": ".engine",
    "fake": ".fake",
}


FAMILIES = {"onnx": "onnx", "onnx_trt": "onnx", "engine": "trt", "saved_model": "tf", "tflite": "litert"}
"""What names of artifacts begin with, where that is not torch."""


def artifact_folder(engines: Path, model: Model) -> Path:
    """The default place of a model's artifacts: two models of one name never share it."""
    return engines / f"{model.name}-{model.sha256[:8]}"


def artifact_path(
    folder: Path, kind: Format, precision: Precision, number: int = 1, variant: str = "", suffix: str = ""
) -> Path:
    """Where an artifact is; `variant` tells recipes apart, and `number` several engines from one recipe; `suffix` is
    that of a format of another package's."""
    if kind not in SUFFIXES:
        return folder / f"{kind}-{precision}{suffix}"
    family = FAMILIES.get(kind, "torch")
    more = "-trt" if kind == "onnx_trt" else f"-{variant}" if variant else ""
    more += f"-{number}" if number > 1 else ""
    return folder / f"{family}-{precision}{more}{SUFFIXES[kind]}"


def manifest_path(path: Path) -> Path:
    return path.with_suffix(".json")


def require_file(path: Path) -> None:
    """Raise UsageError for anything but a file with content that can be read."""
    require_path(path)
    if not path.exists():
        raise UsageError(f"{path} does not exist", "name a model file or a torchvision model")
    if not path.is_file():
        raise UsageError(f"{path} is not a file", "name a model file or a torchvision model")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    if empty:
        raise UsageError(f"{path} is empty", "save the model again")


def load_manifest(path: Path) -> Artifact | None:
    """The manifest of the artifact at `path`; None where it has none that this version can read."""
    try:
        return Artifact.model_validate_json(manifest_path(path).read_bytes())
    except (OSError, ValidationError):
        return None


def save_manifest(artifact: Artifact) -> None:
    write_text(manifest_path(Path(artifact.path)), artifact.model_dump_json(indent=2))


@contextlib.contextmanager
def writing(folder: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Have an artifact folder to oneself; `wait` is called where another process has it, before waiting for that.

    What processes that were killed left unfinished in it goes, those of this one too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        _tidy(folder)
        yield
        _tidy(folder)
    finally:
        os.close(descriptor)


def _tidy(folder: Path) -> None:
    for left in folder.iterdir():
        if UNFINISHED.fullmatch(left.name):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()


def require_ours(paths: Iterable[Path]) -> None:
    """UsageError where a file that rtbench has not made is in the way of an artifact: it has no manifest."""
    for path in paths:
        if load_manifest(path) is None:
            for file in (path, path.with_name(f"{path.name}.data"), manifest_path(path)):
                _require_absent(file)


def require_own_model(folder: Path) -> None:
    """UsageError where a `model.json` that rtbench has not made is in the way of its own."""
    try:
        Model.model_validate_json((folder / MODEL_FILE).read_bytes())
    except (OSError, ValidationError):
        _require_absent(folder / MODEL_FILE)


def _require_absent(file: Path) -> None:
    if os.path.lexists(file):
        raise UsageError(
            f"{file} exists and was not made by this version of rtbench", "move it away or choose another --out"
        )


def reusable(path: Path, kind: Format, precision: Precision, made_from: dict[str, str]) -> Artifact | None:
    """The artifact at `path` if it was made from exactly this and is unchanged since, by hash.

    What can be measured of it is, and not believed of its manifest.
    """
    manifest = load_manifest(path)
    if manifest is None or manifest.made_from != made_from or not is_unchanged(path, manifest.sha256):
        return None
    known = {"path": str(path), "format": kind, "precision": precision, "size_bytes": size_on_disk(path)}
    return manifest.model_copy(update=known)


def make(
    path: Path,
    kind: Format,
    precision: Precision,
    made_from: dict[str, str],
    tools: dict[str, str],
    write: Callable[[Path], Mapping[str, Any]],
    calibration: Calibration | None = None,
) -> Artifact:
    """Let `write` write the file under a temporary name in the same folder, then put it in its place.

    `write` gives what else the manifest is to say. That comes into its place first: wherever this is killed, what lies
    at `path` is not what the manifest describes, and is made again.
    """
    require_ours([path])
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".making-{os.getpid()}-") as scratch:
        made = Path(scratch) / path.name
        more = write(made)
        artifact = Artifact(
            path=str(path),
            format=kind,
            precision=precision,
            size_bytes=size_on_disk(made),
            sha256=file_sha256(made),
            made_from=made_from,
            tools=tools,
            calibration=calibration,
            **more,
        )
        save_manifest(artifact)
        if made.is_dir() and path.exists():
            path.rename(Path(scratch) / "replaced")
        for part in [made] if made.is_dir() else reversed(parts(made)):
            part.replace(path.parent / part.name)
    return artifact


def parts(path: Path) -> list[Path]:
    """The files of an artifact: itself, and where it is an ONNX file, those next to it with weights of its graph; of a
    SavedModel, those that TensorFlow reads."""
    if path.is_dir():
        inside = (each for name in SAVED_MODEL for each in path.glob(name))
        return sorted(each for each in inside if each.is_file())
    return [path, *(external_files(path) if path.suffix == ".onnx" else [])]


def size_on_disk(path: Path) -> int:
    return sum(part.stat().st_size for part in parts(path))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file and, after it, of its external data; of a folder's files with their names."""
    digest = hashlib.sha256()
    for part in parts(path):
        if path.is_dir():
            digest.update(f"{part.relative_to(path)} {part.stat().st_size}\n".encode())
        if not part.is_file():  # a pipe would not end
            raise FileNotFoundError(f"{part} is not a file")
        with part.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def is_unchanged(path: Path, sha256: str) -> bool:
    """Whether a file and its external data are there and have this hash."""
    try:
        return file_sha256(path) == sha256
    except (OSError, UsageError):
        return False


def require_unchanged(artifact: Artifact) -> None:
    """WorkerFailed where an artifact is another file than the one that was hashed, as when somebody has written into
    it since."""
    if not is_unchanged(Path(artifact.path), artifact.sha256):
        raise WorkerFailed(f"{artifact.path} has changed since it was hashed", "measure it again")


def save_model(folder: Path, model: Model) -> None:
    write_text(folder / MODEL_FILE, model.model_dump_json(indent=2))


def load_model_record(folder: Path) -> Model:
    """What `model.json` of an artifact folder says; UsageError where the folder is none."""
    path = folder / MODEL_FILE
    try:
        return Model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{folder} was not written by rtbench export", "name a model file") from None
    except (OSError, ValidationError):
        raise UsageError(f"{path} is damaged or of another version of rtbench", "export the model again") from None


def tool_versions(*packages: str) -> dict[str, str]:
    """Installed versions by package name; packages that are absent are left out."""
    found = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def write_text(path: Path, text: str) -> None:
    """Replace a file whole: under a temporary name first, then renamed."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder, which becomes `path` once all is written."""
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
