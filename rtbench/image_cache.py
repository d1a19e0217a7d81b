"""Images decoded once: uint8 crops in a memory-mapped file on disk, shared by every row and run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import PIL
from numpy.typing import NDArray

from rtbench.datasets import ImageFile, ImageSet
from rtbench.errors import UsageError
from rtbench.preprocessing import crop
from rtbench.records import Preprocessing

VERSION = 1


@dataclass(frozen=True)
class CachedImages:
    """uint8 (N, H, W, 3) in an .npy file, and the fingerprint of the files that it was made from."""

    path: Path
    count: int
    fingerprint: str

    def open(self) -> NDArray[np.uint8]:
        return cast("NDArray[np.uint8]", np.load(self.path, mmap_mode="r"))


def cache_images(
    images: ImageSet,
    recipe: Preprocessing,
    folder: Path,
    threads: int,
    progress: Callable[[int, int], None],
) -> CachedImages:
    """Decode, resize and crop every image into `folder`, or find that done already.

    What is there is used when the list of files, their sizes and times, the recipe's geometry and
    Pillow's version are the same. The fingerprint is of names, labels and contents, so it is the same
    on every machine that has these images. Raises UsageError naming an image that cannot be read.
    """
    key = _key(images, recipe)
    pixels_path, meta_path = folder / f"{key}.npy", folder / f"{key}.json"
    if pixels_path.is_file() and meta_path.is_file():
        meta = json.loads(meta_path.read_text(encoding="utf-8"))
        return CachedImages(pixels_path, len(images.files), meta["fingerprint"])

    count, side = len(images.files), recipe.input_size
    digests: list[str] = [""] * count
    partial = folder / f"{key}.{os.getpid()}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_keep(folder, error) from error
    try:
        pixels = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=(count, side, side, 3))
        with ThreadPoolExecutor(threads) as pool:  # Pillow decodes and resizes outside the GIL
            decoded = pool.map(lambda file: _decode(file, recipe), images.files)
            for index, (array, digest) in enumerate(decoded):
                pixels[index] = array
                digests[index] = digest
                progress(index + 1, count)
        pixels.flush()
        del pixels
        fingerprint = _fingerprint(images, digests)
        meta_path.write_text(json.dumps({"source": images.source, "fingerprint": fingerprint}), encoding="utf-8")
        partial.replace(pixels_path)
    except OSError as error:
        raise _cannot_keep(folder, error) from error
    finally:
        partial.unlink(missing_ok=True)
    return CachedImages(pixels_path, count, fingerprint)


def _cannot_keep(folder: Path, error: OSError) -> UsageError:
    return UsageError(
        f"decoded images cannot be kept in {folder}: {error.strerror}", "free some space or name a --cache-dir"
    )


def _cannot_read(file: ImageFile, error: OSError) -> UsageError:
    return UsageError(f"{file.path} cannot be read: {error.strerror}", "remove or replace it")


def _decode(file: ImageFile, recipe: Preprocessing) -> tuple[NDArray[np.uint8], str]:
    try:
        content = file.path.read_bytes()
    except OSError as error:
        raise _cannot_read(file, error) from None
    return crop(file.decode(BytesIO(content)), recipe), hashlib.sha256(content).hexdigest()


def _key(images: ImageSet, recipe: Preprocessing) -> str:
    def stamp(file: ImageFile) -> list[Any]:
        try:
            stat = file.path.stat()
        except OSError as error:
            raise _cannot_read(file, error) from None
        return [str(file.path.resolve()), file.name, stat.st_size, stat.st_mtime_ns, file.label, file.box]

    geometry = recipe.model_dump(include={"input_size", "resize", "interpolation"})
    depends_on = [VERSION, PIL.__version__, geometry, [stamp(file) for file in images.files]]
    return hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:24]


def _fingerprint(images: ImageSet, digests: list[str]) -> str:
    digest = hashlib.sha256()
    for file, content in zip(images.files, digests, strict=True):
        digest.update(json.dumps([file.name, file.label, file.box, content]).encode())
    return digest.hexdigest()
