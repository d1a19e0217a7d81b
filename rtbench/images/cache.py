"""Images decoded once: crops in a memory-mapped file on disk, shared by every row, run and model.

An entry of the cache is a folder named by a hash of what the pixels depend on:

    pixels.npy      the crops, (N, H, W, C); there only when all of them are
    pixels.partial  the same while it is made
    chunks.jsonl    a line for each chunk of images that is done, see `cache_chunks`
    about.json      what it was made from, for people
    decode.log      what decoding processes said, while it is made

A lock on the folder keeps two builders apart; whoever uses a finished entry shares it, which keeps
`prune` away. The kernel lets go of the lock when a process ends, however it does.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import logging
import math
import os
import shutil
import time
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import PIL.features

from rtbench.errors import UsageError
from rtbench.images import decoders
from rtbench.images.cache_chunks import chunk_line, read_chunks
from rtbench.images.cropping import Geometry, Pixels, pixel_type
from rtbench.images.decoding import Decoded
from rtbench.images.image_set import ImageFile, ImageSet
from rtbench.records.model import Preprocessing

VERSION = 4
PIXELS, PARTIAL, CHUNKS, ABOUT, LOG = "pixels.npy", "pixels.partial", "chunks.jsonl", "about.json", "decode.log"
POLL_S = 0.2

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CachedImages:
    """Crops of `count` images in an .npy file, of `cropping.pixel_type`.

    `fingerprint` is of names, labels, sizes and checksums, so it is the same on every machine that has these
    images. `unreadable`: by index, why an image is black here.
    """

    path: Path
    count: int
    fingerprint: str
    unreadable: dict[int, str]
    lock: _Lock = field(compare=False, repr=False)

    def open(self) -> Pixels:
        pixels: Pixels = np.load(self.path, mmap_mode="r")
        return pixels

    @property
    def readable(self) -> list[int]:
        return [index for index in range(self.count) if index not in self.unreadable]


def cache_images(
    images: ImageSet, recipe: Preprocessing, folder: Path, processes: int, progress: Progress
) -> CachedImages:
    """Decode, resize and crop every image into `folder`, or find that done already.

    What is there is used when the list of files, their sizes and times, the recipe's geometry and the
    decoding libraries are the same, and its pixels have the checksums of those that were written; what is damaged
    is decoded again, which a line in the log says. A build that was killed goes on where it was; one that another
    process is at is waited for. Raises UsageError where none of the images can be read, or the disk is full.
    """
    entry = folder / _key(images, recipe)
    lock = _HELD.get(entry) or _Lock(entry, lambda: progress(0, len(images.files)))
    _HELD[entry] = lock
    lock.users += 1
    build = _Build(images, recipe, entry)
    chunks = build.sound_chunks(entry / PIXELS, processes) if lock.finished else {}
    if not build.is_whole(chunks):
        if lock.finished:
            logging.getLogger(__name__).warning("decoded images in %s are damaged and are decoded again", entry)
            lock.take_alone(entry)
        chunks = build.run(processes, progress)
        lock.share()
    with contextlib.suppress(OSError):  # a cache that is only lent for reading
        os.utime(entry / CHUNKS)  # when it was last used, for prune
    contents = [content for start in sorted(chunks) for content in chunks[start].contents]
    unreadable = {start + place: why for start in sorted(chunks) for place, why in chunks[start].unreadable.items()}
    if len(unreadable) == len(images.files):
        raise UsageError(f"no image can be read: {unreadable[0]}", "give other images")
    return CachedImages(entry / PIXELS, len(images.files), _fingerprint(images, contents), unreadable, lock)


class _Lock:
    """A lock on an entry for as long as this object lives: shared where the entry is `finished`, else the
    only one. `waiting` is called while another process has it."""

    users = 0
    """How often this process has taken the entry, whose file it opens but once."""

    def __init__(self, entry: Path, waiting: Callable[[], None] | None = None) -> None:
        while True:
            try:
                entry.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(entry, os.O_RDONLY)
            except OSError as error:
                raise _cannot_keep(entry.parent, error) from error
            self.finished = (entry / PIXELS).is_file()
            if self._take(fcntl.LOCK_SH if self.finished else fcntl.LOCK_EX):
                # Only now is it sure that nobody has finished or removed the entry meanwhile.
                if (entry / PIXELS).is_file() == self.finished and self._is_still(entry):
                    weakref.finalize(self, os.close, self._descriptor)
                    return
            elif waiting:
                waiting()
            os.close(self._descriptor)
            time.sleep(POLL_S)

    def share(self) -> None:
        self._take(fcntl.LOCK_SH)
        self.finished = True

    def take_alone(self, entry: Path) -> None:
        """Keep all others from a finished entry; UsageError where one uses it now."""
        if self.users > 1 or not self._take(fcntl.LOCK_EX):
            raise UsageError(f"decoded images in {entry} are damaged and in use", "wait until the other run has ended")

    def _take(self, kind: int) -> bool:
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _is_still(self, entry: Path) -> bool:
        return entry.exists() and os.path.samestat(os.fstat(self._descriptor), entry.stat())


_HELD: weakref.WeakValueDictionary[Path, _Lock] = weakref.WeakValueDictionary()


class _Build:
    """Decodes what is not yet in an entry, in processes of their own."""

    def __init__(self, images: ImageSet, recipe: Preprocessing, entry: Path) -> None:
        self._files, self._recipe, self._entry = images.files, recipe, entry
        self._about = {"source": images.source, "images": len(images.files)} | _depends_on(recipe)
        crop, kind = Geometry.of(recipe).shape, pixel_type(recipe)
        self._image_bytes = math.prod(crop) * kind.itemsize
        header = io.BytesIO()
        shape = (len(images.files), *crop)
        np.lib.format.write_array_header_1_0(header, {"descr": kind.str, "fortran_order": False, "shape": shape})
        self._header = header.getvalue()
        self._file_bytes = len(self._header) + len(images.files) * self._image_bytes

    def run(self, processes: int, progress: Progress) -> dict[int, Decoded]:
        """All chunks. UsageError where the disk is full; nothing is left of the entry then."""
        try:
            self._make_room()
            chunks = self._kept(processes)
            missing = [start for start in self._starts if start not in chunks]
            count = sum(self._size(start) for start in chunks)
            progress(count, len(self._files))
            for start, decoded in self._decode(missing, processes):
                self._append(start, decoded)
                chunks[start] = decoded
                count += self._size(start)
                progress(count, len(self._files))
            (self._entry / PARTIAL).replace(self._entry / PIXELS)
            (self._entry / LOG).unlink(missing_ok=True)
        except OSError as error:
            shutil.rmtree(self._entry, ignore_errors=True)
            raise _cannot_keep(self._entry.parent, error) from error
        except UsageError:
            shutil.rmtree(self._entry, ignore_errors=True)
            raise
        return chunks

    def is_whole(self, chunks: dict[int, Decoded]) -> bool:
        return len(chunks) == len(self._starts)

    @property
    def _starts(self) -> range:
        return range(0, len(self._files), decoders.CHUNK)

    def _size(self, start: int) -> int:
        return min(decoders.CHUNK, len(self._files) - start)

    def _make_room(self) -> None:
        """The partial file at its full size, its space reserved; it was a finished one where that is damaged."""
        (self._entry / ABOUT).write_text(json.dumps(self._about, indent=2), encoding="utf-8")
        path = self._entry / PARTIAL
        if (self._entry / PIXELS).exists():
            (self._entry / PIXELS).replace(path)
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.write(self._header)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, self._file_bytes)  # a full disk is found now, not while mapped
            os.truncate(file.fileno(), self._file_bytes)

    def _kept(self, processes: int) -> dict[int, Decoded]:
        """The sound chunks of an earlier build; the others are forgotten."""
        good = self.sound_chunks(self._entry / PARTIAL, processes)
        (self._entry / CHUNKS).write_bytes(b"".join(chunk_line(start, chunk) for start, chunk in good.items()))
        return good

    def sound_chunks(self, path: Path, processes: int) -> dict[int, Decoded]:
        """The chunks whose pixels at `path` are there as they were written; none where it is not the file of these
        images or cannot be read."""
        try:
            chunks = read_chunks(self._entry / CHUNKS)
            with path.open("rb") as file, ThreadPoolExecutor(processes) as pool:
                whole = os.fstat(file.fileno()).st_size == self._file_bytes
                if not whole or file.read(len(self._header)) != self._header:
                    return {}
                starts = [start for start in self._starts if start in chunks]
                sums = list(pool.map(lambda start: self._checksum(file.fileno(), start), starts))
        except OSError:
            return {}
        return {start: chunks[start] for start, crc in zip(starts, sums, strict=True) if crc == chunks[start].crc}

    def _checksum(self, descriptor: int, start: int) -> int:
        place = len(self._header) + start * self._image_bytes
        return zlib.crc32(os.pread(descriptor, self._size(start) * self._image_bytes, place))

    def _append(self, start: int, decoded: Decoded) -> None:
        with (self._entry / CHUNKS).open("ab") as file:
            file.write(chunk_line(start, decoded))

    def _decode(self, starts: list[int], processes: int) -> Iterator[tuple[int, Decoded]]:
        geometry = Geometry.of(self._recipe)
        pixels, log = self._entry / PARTIAL, self._entry / LOG
        return decoders.Decoders(self._files, pixels, len(self._header), geometry, log).decode(starts, processes)


def _cannot_keep(folder: Path, error: OSError) -> UsageError:
    return UsageError(
        f"decoded images cannot be kept in {folder}: {error.strerror}", "free some space or name a --cache-dir"
    )


def _depends_on(recipe: Preprocessing) -> dict[str, Any]:
    geometry = Geometry.of(recipe)._asdict()
    libraries = {name: PIL.features.version(name) for name in ("libjpeg_turbo", "webp", "libtiff")}
    return {"cache": VERSION, "pillow": PIL.__version__, "libraries": libraries, "geometry": geometry}


def _key(images: ImageSet, recipe: Preprocessing) -> str:
    digest = hashlib.sha256(json.dumps(_depends_on(recipe)).encode())
    last, stamp = None, ""
    for file in images.files:
        if file.path != last:
            last, stamp = file.path, _stamp(file)
        digest.update(f"{stamp} {file.place} {file.box}\n".encode())
    return digest.hexdigest()[:24]


def _stamp(file: ImageFile) -> str:
    path = os.path.abspath(file.path)  # noqa: PTH100 - fifty thousand Paths are slow
    try:
        stat = os.stat(path)  # noqa: PTH116
    except OSError as error:
        return f"{path!r} {error.strerror}"
    return f"{path!r} {stat.st_size} {stat.st_mtime_ns} {os.access(path, os.R_OK)}"


def _fingerprint(images: ImageSet, contents: Sequence[Sequence[int]]) -> str:
    digest = hashlib.sha256()
    for file, content in zip(images.files, contents, strict=True):
        labels = [file.label, *file.also] if file.also else file.label
        digest.update(json.dumps([file.name, labels, file.box, *content]).encode())
    return digest.hexdigest()
