"""What the cache keeps of each chunk of images, a line each: sizes, checksums, what could not be read."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

from rtbench.images.decoding import Decoded


def chunk_line(start: int, chunk: Decoded) -> bytes:
    """A line that says by its own checksum that it is whole."""
    text = json.dumps([start, chunk.crc, chunk.contents, chunk.unreadable]).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def read_chunks(path: Path) -> dict[int, Decoded]:
    """What the file holds, by each chunk's first image; lines that are cut or damaged are left out."""
    chunks = {}
    for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else ():
        checksum, _, text = line.partition(b" ")
        if text.endswith(b"\n") and checksum == b"%08x" % zlib.crc32(text[:-1]):
            start, crc, contents, unreadable = json.loads(text)
            chunks[start] = Decoded(contents, crc, {int(place): why for place, why in unreadable.items()})
    return chunks
