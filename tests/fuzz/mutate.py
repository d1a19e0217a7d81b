"""Bad inputs out of good ones: seeded edits of bytes, of lines, of numbers in text and of members in zip files."""

from __future__ import annotations

import io
import random
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence

INTEGERS = (0, 1, 2, 7, 10, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
NUMBERS = (
    *(str(sign * each).encode() for each in (*INTEGERS, 2**64, 10**30) for sign in (1, -1)),
    *(b"nan", b"NaN", b"inf", b"-Infinity", b"1e999", b"1e-999", b"0.5", b"-0.0", b"1_0", b"0x10", b"007", b""),
)
STRINGS = (
    *(b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\r", b"\r\n", b"\n\n", b"\t", b",", b'"', b"'"),
    *(b"null", b"true", b"{}", b"[]", b"NaN", b"{", b"]", b'""', b"\\u0000", b"\\ud800", b"# ", b"=", b"\x1b[31m"),
    *(b"../../x", b"/etc/passwd", b"%s%n", b"A" * 300, b"9" * 5000, b"[" * 20_000, b'{"a":' * 20_000, b"<script>"),
)
MOST_BYTES = 4 * 2**20
"""What duplication may grow an input to, where its seed is not larger."""

Edit = Callable[[random.Random, bytes, Sequence[bytes]], bytes]


def mutations(seeds: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """`count` inputs, each one of `seeds` with one to eight edits; the same ones for the same arguments."""
    chooser = random.Random(seed)
    archives = [zipfile.is_zipfile(io.BytesIO(each)) for each in seeds]
    for _ in range(count):
        which = chooser.randrange(len(seeds))
        data, most = seeds[which], max(MOST_BYTES, len(seeds[which]))
        if archives[which] and chooser.random() < 0.6:
            yield _zip_edited(chooser, data, seeds)
            continue
        yield _edited(chooser, data, seeds)[:most]


def _edited(chooser: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    for _ in range(chooser.choice((1, 1, 1, 2, 2, 4, 8))):
        data = chooser.choice(TEXT_EDITS if _is_text(data) else BYTE_EDITS)(chooser, data, seeds)
    return data


def _is_text(data: bytes) -> bool:
    start = data[:512]
    return b"\x00" not in start and sum(byte < 9 or byte > 126 for byte in start) * 10 <= len(start)


def _span(chooser: random.Random, data: bytes) -> tuple[int, int]:
    """A slice, mostly short."""
    start = chooser.randint(0, len(data))
    most = chooser.choice((1, 4, 16, 64, 1024, len(data)))
    return start, min(len(data), start + chooser.randint(0, most))


def _flip(chooser: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(chooser.choice((1, 1, 2, 8)) if data else 0):
        at = chooser.randrange(len(changed))
        changed[at] = chooser.choice((changed[at] ^ 1 << chooser.randrange(8), chooser.randrange(256)))
    return bytes(changed)


def _truncate(chooser: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = chooser.randint(0, len(data))
    return data[:at] if chooser.random() < 0.8 else data[at:]


def _remove(chooser: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(chooser, data)
    return data[:start] + data[end:]


def _insert(chooser: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = chooser.randint(0, len(data))
    return data[:at] + chooser.choice((chooser.randbytes(chooser.randint(1, 16)), chooser.choice(STRINGS))) + data[at:]


def _duplicate(chooser: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(chooser, data)
    at = chooser.randint(0, len(data))
    return data[:at] + data[start:end] * chooser.choice((1, 1, 2, 50)) + data[at:]


def _splice(chooser: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    other = chooser.choice(seeds)
    start, end = _span(chooser, other)
    at, behind = _span(chooser, data)
    return data[:at] + (other[start:] if chooser.random() < 0.3 else other[start:end] + data[behind:])


def _integer(chooser: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """A binary integer of one to eight bytes written over what is there."""
    size, order = chooser.choice((1, 2, 4, 8)), chooser.choice(("little", "big"))
    value = chooser.choice((1, -1)) * chooser.choice(INTEGERS) % 2 ** (8 * size)
    at = chooser.randint(0, max(len(data) - size, 0))
    return data[:at] + value.to_bytes(size, order) + data[at + size :]


def _number(chooser: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """A number in text replaced."""
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?", data[: 2**16]))
    if not found:
        return data
    number = chooser.choice(found)
    return data[: number.start()] + chooser.choice(NUMBERS) + data[number.end() :]


def _word(chooser: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """A word, a quoted string or a bracket in text replaced or left out."""
    found = list(re.finditer(rb'"[^"\n]*"|\w+|[^\w\s]', data[: 2**16]))
    if not found:
        return data
    word = chooser.choice(found)
    put = chooser.choice((*STRINGS, *NUMBERS, chooser.choice(found).group(), b""))
    return data[: word.start()] + put + data[word.end() :]


def _lines(chooser: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """A line left out, doubled, moved, cut, or taken from another seed."""
    lines = data.splitlines(keepends=True)
    if not lines:
        return data
    at, to = chooser.randrange(len(lines)), chooser.randint(0, len(lines))
    match chooser.randrange(5):
        case 0:
            del lines[at]
        case 1:
            lines[to:to] = [lines[at]] * chooser.choice((1, 1, 100))
        case 2:
            lines.insert(to, lines.pop(at))
        case 3:
            lines[at] = lines[at][: chooser.randint(0, len(lines[at]))]
        case 4:
            lines.insert(to, chooser.choice(chooser.choice(seeds).splitlines(keepends=True) or [b""]))
    return b"".join(lines)


BYTE_EDITS: tuple[Edit, ...] = (
    _flip,
    _flip,
    _flip,
    _integer,
    _integer,
    _truncate,
    _remove,
    _insert,
    _duplicate,
    _splice,
)
TEXT_EDITS: tuple[Edit, ...] = (*BYTE_EDITS, _number, _number, _number, _word, _word, _word, _lines, _lines, _lines)


def _zip_edited(chooser: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """The archive written anew with one member edited, left out, doubled, renamed or swapped with another one."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(each.filename, archive.read(each)) for each in archive.infolist()]
    if not members:
        return _edited(chooser, data, seeds)
    at, other = chooser.randrange(len(members)), chooser.randrange(len(members))
    name, content = members[at]
    match chooser.choice((0, 0, 0, 0, 1, 2, 3, 4)):
        case 0:
            members[at] = name, _edited(chooser, content, [each for _, each in members])
        case 1:
            del members[at]
        case 2:
            members.append((name, _edited(chooser, content, [content])))
        case 3:
            members[at] = chooser.choice(("../" + name, "/" + name, name + "/x", name[1:], "x" * 300, "é\x1b")), content
        case 4:
            members[at], members[other] = (name, members[other][1]), (members[other][0], content)
    return _zipped(members)


def _zipped(members: Sequence[tuple[str, bytes]]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in members:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of a name that is there twice, which is wanted
                archive.writestr(zipfile.ZipInfo(name), content)
    return written.getvalue()
