"""CSV files of a run directory: how a row's are named, and their lines, which a kill may have cut."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from rtbench.runs.reading import exists, parsing, read_bytes

MOST_NAME = 200
"""Bytes of a file's name without its suffix; file systems take 255."""


def file_name(row: str) -> str:
    """A row's id as a file name that no other id has: `ort:cpu/int8` is `ort%3Acpu-int8`."""
    parts = (quote(part, safe="+", errors="surrogateescape").replace("-", "%2D") for part in row.split("/"))
    name = "-".join(parts)
    if len(name) <= MOST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"{name[: MOST_NAME - len(digest) - 1]}={digest}"


def row_file(folder: Path, row: str, rows: Iterable[str]) -> Path:
    """A row's CSV file; `rows` are all of the run.

    Earlier versions named files otherwise, and some rows alike: such a file is taken where it can only be this row's.
    """
    path, earlier = (folder / f"{name}.csv" for name in (file_name(row), _earlier_name(row)))
    if exists(path) or not exists(earlier):
        return path
    shared = sum(_earlier_name(each) == _earlier_name(row) for each in rows) > 1
    return path if shared else earlier


def _earlier_name(row: str) -> str:
    return "".join(char if char.isalnum() or char in "._" else "-" for char in row)


class Table(NamedTuple):
    columns: list[str]
    lines: list[list[str]]
    cut: bool
    """Whether the file ends in what a kill has left of a line."""


def read_table(path: Path, columns: Iterable[str]) -> Table:
    """The whole lines of a CSV file; nothing where it is missing.

    UsageError where it is damaged: not text, without one of `columns`, or with lines that have not as many cells.
    """
    content = read_bytes(path) or b""
    whole = content[: content.rfind(b"\n") + 1]
    cut = len(whole) < len(content)
    with parsing(path):
        header, *lines = [*filter(None, csv.reader(io.StringIO(whole.decode(), newline="")))] or [[]]
        if lines and whole.count(b'"') % 2:  # cut at a line break within a name
            lines.pop()
            cut = True
        missing = next((name for name in columns if name not in header), None)
        if whole and missing:
            raise ValueError(f"it has no column {missing}")
        bad = next((line for line in lines if len(line) != len(header)), None)
        if bad:
            raise ValueError(f"a line has {len(bad)} cells, expected {len(header)}")
    return Table(header, lines, cut)


def read_columns(path: Path, names: Sequence[str]) -> list[Sequence[str]]:
    """The same by column, which is several times as fast; nothing where the file is missing or has no lines."""
    content = read_bytes(path) or b""
    heading, _, rest = content[: content.rfind(b"\n") + 1].decode(errors="replace").partition("\n")
    with parsing(path):
        header = next(csv.reader([heading]), [])
        if "\ufffd" in rest:
            content.decode()
        missing = next((name for name in names if name not in header), None)
        if header and missing:
            raise ValueError(f"it has no column {missing}")
        found = split_columns(rest, len(header)) if rest else []
    return [found[header.index(name)] for name in names] if found else []


def split_columns(text: str, width: int) -> list[Sequence[str]]:
    """The columns of whole lines of CSV."""
    if not any(each in text for each in ('"', "\r", "\n\n")):
        fields = text.replace("\n", ",").split(",")[:-1]
        if len(fields) != width * text.count("\n"):
            raise ValueError("lines have different numbers of cells")
        return [fields[column::width] for column in range(width)]
    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    if text.count('"') % 2:  # cut within a name
        rows.pop()
    if any(len(row) != width for row in rows):
        raise ValueError("lines have different numbers of cells")
    return [[row[column] for row in rows] for column in range(width)]


def whole_lines(path: Path, columns: Iterable[str] = ()) -> list[dict[str, str]]:
    """The same as a mapping a line."""
    table = read_table(path, columns)
    return [dict(zip(table.columns, line, strict=True)) for line in table.lines]


def line_of(values: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
