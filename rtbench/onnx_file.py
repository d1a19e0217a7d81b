"""What an ONNX file's input may be, and where it keeps its weights: the files next to it that its graph names.

Without the onnx package, since parents and workers ask too, which do not import it. Protobuf writes a key before
each value, and before a message its length.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from rtbench.errors import UsageError

WITHIN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
"""The messages that have tensors somewhere in them: number and kind of the fields to follow."""
EXTERNAL_DATA, DATA_LOCATION, EXTERNAL = 13, 14, 1
MARK = b"location"
"""The key of every entry that names a file."""
CHUNK = 1 << 20
INPUT_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
"""As ONNX Runtime names them, and NumPy."""


def external_files(path: Path) -> dict[Path, int]:
    """The files that hold weights of an ONNX file's graph, each with the bytes that it has at least.

    UsageError where the graph names one outside of its folder, or cannot be read.
    """
    if not _has(path, MARK):
        return {}
    data = path.read_bytes()
    files: dict[Path, int] = {}
    try:
        for start, end in _tensors(data):
            entries = _external(data, start, end)
            if entries is not None:
                file = path.parent / _inside(path, entries.get("location", ""))
                least = int(entries.get("offset", 0)) + int(entries.get("length", 0))
                files[file] = max(least, files.get(file, 0))
    except (ValueError, IndexError):
        raise UsageError(f"{path} is damaged or not an ONNX model", "export it again") from None
    return files


def require_external_files(path: Path) -> None:
    """UsageError where a file that holds weights of an ONNX file is not there, or is too short for them."""
    for file, least in external_files(path).items():
        name = str(file.relative_to(path.parent))
        if not file.is_file():
            raise UsageError(f"{path} has weights in {name!r}, which is not there", "put it back where it was")
        if file.stat().st_size < least:
            raise UsageError(f"{path} has weights in {name!r}, which is too short", "export it again")


def _has(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        tail = b""
        while chunk := file.read(CHUNK):
            seen = tail + chunk
            if mark in seen:
                return True
            tail = seen[-len(mark) :]
    return False


def _inside(path: Path, location: str) -> PurePosixPath:
    """A location as a path below the folder of the ONNX file at `path`."""
    inside = PurePosixPath(location)
    if inside.is_absolute() or ".." in inside.parts or not inside.parts or "\0" in location:
        raise UsageError(f"{path} has weights in {location!r}, which is outside its folder", "export it again")
    return inside


def _tensors(data: bytes) -> Iterator[tuple[int, int]]:
    """Where each tensor of a model begins and ends, those in attributes and in graphs within graphs too."""
    waiting = [("model", 0, len(data))]
    while waiting:
        kind, start, end = waiting.pop()
        if kind == "tensor":
            yield start, end
            continue
        inside = WITHIN[kind]
        found = [(inside[number], *span) for number, span in _fields(data, start, end) if number in inside]
        waiting += reversed(found)


def _external(data: bytes, start: int, end: int) -> dict[str, str] | None:
    """What a tensor says of the file that it is in, None where it is in none."""
    entries: dict[str, str] = {}
    external = False
    for number, (begin, stop) in _fields(data, start, end):
        if number == EXTERNAL_DATA:
            pair = {at: data[slice(*span)].decode() for at, span in _fields(data, begin, stop)}
            entries[pair.get(1, "")] = pair.get(2, "")
        elif number == DATA_LOCATION:
            external = _varint(data, begin)[0] == EXTERNAL
    return entries if external else None


def _fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Number of each field of a message, and where its value begins and ends."""
    at = start
    while at < end:
        key, at = _varint(data, at)
        match key & 7:
            case 0:
                stop = _varint(data, at)[1]
            case 1:
                stop = at + 8
            case 2:
                length, at = _varint(data, at)
                stop = at + length
            case 5:
                stop = at + 4
            case other:
                raise ValueError(f"there is no wire type {other}")
        if stop > end:
            raise ValueError("a field goes on past its message")
        yield key >> 3, (at, stop)
        at = stop


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, seven bits a byte, the lowest first; and where the next value begins."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number goes on past ten bytes")
