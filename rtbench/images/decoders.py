"""Decoding processes as their parent sees them: chunks of images to each, and a new process for one that an image
has ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

from rtbench.errors import WorkerFailed
from rtbench.images.cropping import Geometry
from rtbench.images.decoding import Decoded
from rtbench.images.image_set import ImageFile
from rtbench.worker import Worker

CHUNK = 32
HUNG_S = 60.0
"""The longest that one image may take. What is decoded at all takes a second or two."""


class Decoders:
    """Decodes `files` into the cache's file at `pixels`, of which `header` bytes are not theirs."""

    def __init__(self, files: Sequence[ImageFile], pixels: Path, header: int, geometry: Geometry, log: Path) -> None:
        self.files, self.log = files, log
        self.opened = (pixels, header, geometry)
        self.ended = False

    def decode(self, starts: Sequence[int], processes: int) -> Iterator[tuple[int, Decoded]]:
        """The chunks that begin with these images, as they become done. Each process has a thread here that waits for
        its answers."""
        left = iter(starts)
        decoders = [_Decoder(self) for _ in range(min(processes, len(starts)))]
        pool = ThreadPoolExecutor(len(decoders) or 1)

        def next_chunk(decoder: _Decoder) -> tuple[_Decoder, int, Decoded] | None:
            start = next(left, None)  # one step of a list's iterator, which the GIL keeps whole
            return None if start is None else (decoder, start, decoder.decode(start))

        try:
            for decoder in decoders:
                decoder.open()
            pending = {pool.submit(next_chunk, decoder) for decoder in decoders}
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    result = future.result()
                    if result:
                        decoder, start, decoded = result
                        pending.add(pool.submit(next_chunk, decoder))
                        yield start, decoded
        finally:
            self.ended = True
            for decoder in decoders:
                decoder.worker.kill()
            pool.shutdown()
            for decoder in decoders:
                decoder.worker.close()


class _Decoder:
    """One of the processes, started again where an image crashes or hangs it."""

    def __init__(self, all: Decoders) -> None:
        self._all = all
        self.worker = self._start()

    def _start(self) -> Worker:
        return Worker("rtbench.images.decoding:Decoder", log=self._all.log, timeout_s=HUNG_S, threads=1)

    def open(self) -> None:
        self.worker.call("open", *self._all.opened)

    def decode(self, start: int) -> Decoded:
        """The chunk; an image that ends the process twice is not tried again, and unreadable.

        Once may be a chance: another program may have taken the memory, or ended the process.
        """
        files = self._all.files[start : start + CHUNK]
        tried: list[int] = []
        suspect, deadly = None, dict[int, str]()
        while True:
            tried.clear()
            try:
                decoded: Decoded = self.worker.call("decode", start, files, deadly, on_progress=tried.append)
            except WorkerFailed as error:
                if self._all.ended or not tried:
                    raise
                if tried[-1] == suspect:
                    deadly[suspect] = f"the process that decoded it {error.message.replace(' in decode', '')}"
                suspect = tried[-1]
                self.worker.close()
                self.worker = self._start()
                self.open()
            else:
                return decoded
