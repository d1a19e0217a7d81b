"""SavedModels of TensorFlow Hub by their address, kept in the user's cache."""

from __future__ import annotations

import re
import shutil
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from rtbench.errors import UsageError
from rtbench.models.tensorflow import GRAPH, HUB
from rtbench.options import cache_folder
from rtbench.records.model import safe_name

TIMEOUT_S = 60.0
MOST_BYTES = 4 << 30
EXAMPLE = f"{HUB}google/imagenet/resnet_v1_50/classification/5"
PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)+")


def downloaded(address: str) -> Path:
    """The folder of a SavedModel, downloaded where it is not there yet; UsageError where it cannot be."""
    path = address.removeprefix(HUB)
    if not PATH.fullmatch(path) or ".." in path:
        raise UsageError(f"{address} is not the address of a model", f"one is {EXAMPLE}")
    folder = cache_folder() / "hub" / safe_name(path.replace("/", "-"))
    if (folder / GRAPH).is_file():
        return folder
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with urllib.request.urlopen(f"{address}?tf-hub-format=compressed", timeout=TIMEOUT_S) as answer:
            _unpack(address, answer, partial)
        if not (partial / GRAPH).is_file():
            raise UsageError(f"{address} is not a SavedModel", "download it, and name its folder")
        partial.replace(folder)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        remedy = "download it elsewhere, unpack it, and name its folder"
        raise UsageError(f"{address} cannot be downloaded ({reason})", remedy) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _unpack(address: str, answer: object, folder: Path) -> None:
    """Files and folders alone, none of them outside `folder`."""
    try:
        with tarfile.open(fileobj=answer, mode="r|gz") as archive:  # type: ignore[call-overload]
            size = 0
            for member in archive:
                size += member.size
                if size > MOST_BYTES:
                    raise UsageError(f"{address} unpacks to more than {MOST_BYTES >> 30} GiB")
                archive.extract(member, folder, filter="data")
    except tarfile.TarError as error:
        raise UsageError(f"{address} is not an archive of a SavedModel: {error}") from error
