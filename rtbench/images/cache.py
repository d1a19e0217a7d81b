"""Images decoded once: crops in a memory-mapped file on disk, shared by every row, run and model.

An entry of the cache is a folder named by a hash of what the pixels depend on:

    pixels.npy      the crops, (N, H, W, 3); there only when all of them are
    pixels.partial  the same while it is made
    chunks.jsonl    a line for each chunk of images that is done: sizes, checksums, what could not be read
    about.json      what it was made from, for people
    decode.log      what decoding processes said, while it is made

A lock on the folder keeps two builders apart; whoever uses a finished entry shares it, which keeps
`prune` away. The kernel lets go of the lock when a process ends, however it does.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import PIL.features

from rtbench.errors import UsageError
from rtbench.images.cropping import Geometry, Pixels, pixel_type
from rtbench.images.decoding import Decoded
from rtbench.images.image_set import ImageFile, ImageSet
from rtbench.records.model import Preprocessing
from rtbench.worker import Worker

VERSION = 3
PIXELS, PARTIAL, CHUNKS, ABOUT, LOG = "pixels.npy", "pixels.partial", "chunks.jsonl", "about.json", "decode.log"
CHUNK = 32
POLL_S = 0.2
HUNG_S = 600.0

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
    decoding libraries are the same. A build that was killed goes on where it was; one that another
    process is at is waited for. Raises UsageError where none of the images can be read, or the disk is full.
    """
    entry = folder / _key(images, recipe)
    lock = _Lock(entry, lambda: progress(0, len(images.files)))
    if not lock.finished:
        _Build(images, recipe, entry).run(processes, progress)
        lock.share()
    with contextlib.suppress(OSError):  # a cache that is only lent for reading
        os.utime(entry / CHUNKS)  # when it was last used, for prune
    chunks = _read_chunks(entry)
    contents = [content for start in sorted(chunks) for content in chunks[start].contents]
    unreadable = {start + place: why for start in sorted(chunks) for place, why in chunks[start].unreadable.items()}
    if len(unreadable) == len(images.files):
        raise UsageError(f"no image can be read: {unreadable[0]}", "give other images")
    return CachedImages(entry / PIXELS, len(images.files), _fingerprint(images, contents), unreadable, lock)


class _Lock:
    """A lock on an entry for as long as this object lives: shared where the entry is `finished`, else the
    only one. `waiting` is called while another process has it."""

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

    def _take(self, kind: int) -> bool:
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _is_still(self, entry: Path) -> bool:
        return entry.exists() and os.path.samestat(os.fstat(self._descriptor), entry.stat())


class _Build:
    """Decodes what is not yet in an entry, in processes of their own."""

    def __init__(self, images: ImageSet, recipe: Preprocessing, entry: Path) -> None:
        self._files, self._recipe, self._entry = images.files, recipe, entry
        self._about = {"source": images.source, "images": len(images.files)} | _depends_on(recipe)
        side = recipe.input_size
        self._shape = (len(images.files), side, side, 3)
        self._image_bytes = side * side * 3 * pixel_type(recipe).itemsize

    def run(self, processes: int, progress: Progress) -> None:
        """UsageError where the disk is full; nothing is left of the entry then."""
        try:
            header = self._make_room()
            done = self._verified(header)
            missing = [start for start in range(0, len(self._files), CHUNK) if start not in done]
            count = sum(self._size(start) for start in done)
            progress(count, len(self._files))
            for start, decoded in self._decode(missing, header, processes):
                self._append(start, decoded)
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

    def _size(self, start: int) -> int:
        return min(CHUNK, len(self._files) - start)

    def _make_room(self) -> int:
        """The partial file at its full size, its space reserved; where its pixels begin."""
        (self._entry / ABOUT).write_text(json.dumps(self._about, indent=2), encoding="utf-8")
        path = self._entry / PARTIAL
        with path.open("r+b" if path.exists() else "w+b") as file:
            np.lib.format.write_array_header_1_0(
                file,
                {"descr": pixel_type(self._recipe).str, "fortran_order": False, "shape": self._shape},
            )
            header = file.tell()
            size = header + len(self._files) * self._image_bytes
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)  # a full disk is found now, and never while mapped
            else:
                os.truncate(file.fileno(), size)
        return header

    def _verified(self, header: int) -> set[int]:
        """The chunks of an earlier build whose pixels are there as they were written."""
        chunks = _read_chunks(self._entry)
        with (self._entry / PARTIAL).open("rb") as file:
            good = {}
            for start, chunk in chunks.items():
                file.seek(header + start * self._image_bytes)
                if zlib.crc32(file.read(self._size(start) * self._image_bytes)) == chunk.crc:
                    good[start] = chunk
        lines = "".join(_line(start, chunk) for start, chunk in good.items())
        (self._entry / CHUNKS).write_text(lines, encoding="ascii")
        return set(good)

    def _append(self, start: int, decoded: Decoded) -> None:
        with (self._entry / CHUNKS).open("a", encoding="ascii") as file:
            file.write(_line(start, decoded))

    def _decode(self, starts: list[int], header: int, processes: int) -> Iterator[tuple[int, Decoded]]:
        """Chunks as they become done. Each process has a thread here that waits for its answers."""
        left = iter(starts)
        log = self._entry / LOG
        workers = [
            Worker("rtbench.images.decoding:Decoder", log=log, timeout_s=HUNG_S, threads=1)
            for _ in range(min(processes, len(starts)))
        ]
        pool = ThreadPoolExecutor(len(workers) or 1)

        def next_chunk(worker: Worker) -> tuple[Worker, int, Decoded] | None:
            start = next(left, None)  # one step of a list's iterator, which the GIL keeps whole
            if start is None:
                return None
            return worker, start, worker.call("decode", start, self._files[start : start + CHUNK])

        try:
            for worker in workers:
                worker.call("open", self._entry / PARTIAL, header, Geometry.of(self._recipe))
            pending = {pool.submit(next_chunk, worker) for worker in workers}
            while pending:
                ended, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in ended:
                    result = future.result()
                    if result:
                        worker, start, decoded = result
                        pending.add(pool.submit(next_chunk, worker))
                        yield start, decoded
        finally:
            for worker in workers:
                worker.kill()
            pool.shutdown()
            for worker in workers:
                worker.close()


def _line(start: int, chunk: Decoded) -> str:
    return json.dumps([start, chunk.crc, chunk.contents, chunk.unreadable]) + "\n"


def _read_chunks(entry: Path) -> dict[int, Decoded]:
    """What `chunks.jsonl` holds, by each chunk's first image; a last line that a kill has cut is no chunk."""
    path = entry / CHUNKS
    chunks = {}
    for line in path.read_text(encoding="ascii").splitlines(keepends=True) if path.exists() else ():
        if line.endswith("\n"):
            start, crc, contents, unreadable = json.loads(line)
            chunks[start] = Decoded(contents, crc, {int(place): reason for place, reason in unreadable.items()})
    return chunks


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
        digest.update(json.dumps([file.name, file.label, file.box, *content]).encode())
    return digest.hexdigest()
