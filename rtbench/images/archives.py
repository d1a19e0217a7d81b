"""Images inside tar and parquet files, listed and read in place.

What lists them here is called through `read_apart`, and what reads an image runs in a decoding process.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtbench.errors import UsageError
from rtbench.images.image_set import SUFFIXES, ImageFile, class_index, read_bytes

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.parquet import ParquetFile

PARQUET_ROWS = 64
"""Rows read at once: a row group of an image data set may be half a gigabyte."""
SPLITS = ("validation", "val", "test")
LABEL_PARTS = ("cls", "cls.txt", "json")
"""What a WebDataset sample calls its label, after the first dot of the member's name."""
LABEL_KEYS = ("label", "cls", "class")
Label = int | str | None
"""A class index, a word that stands for one, or no label."""


@dataclass(frozen=True, slots=True)
class TarMember(ImageFile):
    """An image inside an uncompressed tar: `size` bytes from `offset`."""

    offset: int = 0
    size: int = 0

    @property
    def place(self) -> tuple[int, ...]:
        return self.offset, self.size

    @property
    def shown(self) -> str:
        return f"{self.name} in {self.path}"

    def read(self) -> bytes:
        return read_bytes(self.path, self.offset, self.size)


@dataclass(frozen=True, slots=True)
class ParquetCell(ImageFile):
    """An image in a row of a parquet file, in the column at `column` (`image` or `image.bytes`)."""

    group: int = 0
    row: int = 0
    column: str = "image"

    @property
    def place(self) -> tuple[int, ...]:
        return self.group, self.row

    @property
    def shown(self) -> str:
        return f"{self.name} in {self.path}"

    def read(self) -> bytes:
        return _reader(self).read(self.row)


class _GroupReader:
    """Reads one row group forwards, a few rows at a time, and from its start again to go back."""

    def __init__(self, path: str, group: int, column: str) -> None:
        self.key = (path, group, column)
        self._batches: Iterator[Any] = iter(())
        self._first, self._cells = 0, _no_cells()
        self._broken: tuple[int, Exception] | None = None

    def read(self, row: int) -> bytes:
        if self._broken and row >= self._broken[0]:
            raise self._broken[1]
        if row < self._first or not len(self._cells):
            self._rewind()
        while row >= self._first + len(self._cells):
            self._go_on()
        content = self._cells[row - self._first].as_py()
        if not isinstance(content, bytes):
            raise OSError(0, "its cell holds no bytes" if content is None else f"its cell holds {content!r:.20}")
        return content

    def _go_on(self) -> None:
        """To the next rows; where they are damaged, neither they nor those behind them are tried again."""
        first = self._first + len(self._cells)
        try:
            cells = _flat(next(self._batches).column(0))
        except Exception as error:
            self._broken = (first, error)
            self._first, self._cells = 0, _no_cells()
            raise
        self._first, self._cells = first, cells

    def _rewind(self) -> None:
        path, group, column = self.key
        file = _open_parquet(path)
        self._first, self._cells = 0, _no_cells()
        self._batches = file.iter_batches(PARQUET_ROWS, row_groups=[group], columns=[column])


def _no_cells() -> pyarrow.Array:
    import pyarrow

    return pyarrow.array([], pyarrow.binary())


_last_reader: list[_GroupReader] = []


def _reader(cell: ParquetCell) -> _GroupReader:
    """The reader of this cell's row group: neighbours are asked for one after another."""
    key = (cell.path, cell.group, cell.column)
    if not _last_reader or _last_reader[0].key != key:
        _last_reader[:] = [_GroupReader(*key)]
    return _last_reader[0]


def _open_parquet(path: str) -> ParquetFile:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UsageError("parquet files need pyarrow", "pip install 'rtbench[parquet]'") from None
    return ParquetFile(path, buffer_size=1 << 20)


def list_tar(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of every file in an uncompressed tar."""
    end = 0
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined] # it would keep them all
                if member.size < 0 or member.offset_data <= end:
                    raise tarfile.ReadError("its members overlap")
                end = member.offset_data
                if member.isfile():
                    yield member.name.removeprefix("./"), member.offset_data, member.size
    except tarfile.ReadError as error:
        raise UsageError(
            f"{path} is damaged or not an uncompressed tar: {error}", "unpack it, or its compression, first"
        ) from None


def tar_images(path: Path) -> Iterator[TarMember]:
    for name, offset, size in list_tar(path):
        if Path(name).suffix.lower() in SUFFIXES:
            yield TarMember(str(path), name, offset=offset, size=size)


def webdataset_samples(shard: Path) -> Iterator[tuple[TarMember, Label]]:
    """The image of every sample of a WebDataset shard, with its label as it is written there.

    Members of one sample follow each other and share their name up to the first dot.
    """
    key, image, label = None, None, None
    for name, offset, size in list_tar(shard):
        folder, _, file = name.rpartition("/")
        stem, _, part = file.partition(".")
        if (folder, stem) != key:
            if image:
                yield image, label
            key, image, label = (folder, stem), None, None
        if f".{part.rpartition('.')[2].lower()}" in SUFFIXES:
            image = TarMember(str(shard), f"{shard.name}/{name}", offset=offset, size=size)
        elif part in LABEL_PARTS:
            label = _written_label(TarMember(str(shard), name, offset=offset, size=size), part)
    if image:
        yield image, label


def _written_label(member: TarMember, part: str) -> Label:
    text = member.read().decode(errors="replace").strip()
    if part != "json":
        is_number = class_index(text.removeprefix("-")) is not None
        return _label(int(text) if is_number else text, member)
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(f"{member.shown} is not JSON", "write the shard again") from None
    known = fields if isinstance(fields, dict) else {}
    return _label(next((known[key] for key in LABEL_KEYS if key in known), None), member)


def _label(value: object, image: ImageFile) -> Label:
    """The label that `value` is: nothing where there is none or it is -1, as Hugging Face writes for that."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, int) or isinstance(value, bool) or value < -1:
        raise UsageError(f"{image.shown} has the label {value!r:.40}, not a class index", "write class indices from 0")
    return value if value >= 0 else None


def parquet_shards(folder: Path) -> list[Path]:
    """The parquet files of a folder or of `data` in it; of several splits only the validation's."""
    found = (sorted(path for path in folder.glob(place) if path.is_file()) for place in ("*.parquet", "data/*.parquet"))
    shards = next((shards for shards in found if shards), [])
    for split in SPLITS:
        own = [shard for shard in shards if shard.name.split("-")[0].split(".")[0] == split]
        if own:
            return own
    return shards


def parquet_images(shard: Path) -> Iterator[tuple[ParquetCell, Label]]:
    """The images of a Hugging Face parquet file, with their labels."""
    file = _open_parquet(str(shard))
    schema = file.schema_arrow
    image = next((name for name in ("image", "image_bytes", "img") if name in schema.names), None)
    if image is None:
        raise UsageError(
            f"{shard} has the columns {_few(schema.names)} and none named image", "name the column of images `image`"
        )
    parts = _parts(schema.field(image).type)
    if parts and "bytes" not in parts:
        raise UsageError(f"{shard} has {_few(parts)} in its column {image} and no bytes", "embed the images in it")
    has_names = "path" in parts
    wanted = [f"{image}.path"] if has_names else []
    wanted += ["label"] if "label" in schema.names else []
    column = f"{image}.bytes" if parts else image
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        table = file.read_row_group(group, columns=wanted)
        names = _flat(table.column(image).combine_chunks()).to_pylist() if has_names else [None] * rows
        labels = table.column("label").to_pylist() if "label" in wanted else [None] * rows
        for row, (name, label) in enumerate(zip(names, labels, strict=True)):
            own = f"{shard.name}/{name or f'{group}-{row}'}"
            cell = ParquetCell(str(shard), own, group=group, row=row, column=column)
            yield cell, _label(label, cell)


def _parts(kind: pyarrow.DataType) -> list[str]:
    """The names of a struct's fields, none where the type is another."""
    from pyarrow.types import is_struct

    return [kind.field(index).name for index in range(kind.num_fields)] if is_struct(kind) else []


def _flat(column: pyarrow.Array) -> pyarrow.Array:
    """The only field of a struct column, or the column itself."""
    return column.field(0) if _parts(column.type) else column


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
