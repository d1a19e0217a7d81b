"""Images inside tar and parquet files, listed and read in place."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtbench.errors import UsageError
from rtbench.images.image_set import SUFFIXES, ImageFile

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.parquet import ParquetFile

PARQUET_ROWS = 64
"""Rows read at once: a row group of an image data set may be half a gigabyte."""
SPLITS = ("validation", "val", "test")
LABEL_PARTS = ("cls", "cls.txt", "json")
"""What a WebDataset sample calls its label, after the first dot of the member's name."""
LABEL_KEYS = ("label", "cls", "class")


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
        with Path(self.path).open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise OSError(0, "the tar ends before the image does")
        return content


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

    def read(self, row: int) -> bytes:
        import pyarrow

        try:
            if row < self._first or not len(self._cells):
                self._rewind()
            while row >= self._first + len(self._cells):
                self._first += len(self._cells)
                self._cells = _flat(next(self._batches).column(0))
            content = self._cells[row - self._first].as_py()
        except pyarrow.ArrowInvalid as error:
            raise OSError(0, str(error).splitlines()[0]) from error
        if content is None:
            raise OSError(0, "it has no bytes in it")
        return bytes(content)

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
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UsageError("parquet files need pyarrow", "pip install 'rtbench[parquet]'") from None
    try:
        return ParquetFile(path, buffer_size=1 << 20)
    except pyarrow.ArrowInvalid as error:
        raise UsageError(f"{path} is damaged or no parquet file: {error}", "download it again") from None


def list_tar(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of every file in an uncompressed tar; UsageError where it is none."""
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined] # it would keep them all
                if member.isfile():
                    yield member.name.removeprefix("./"), member.offset_data, member.size
    except tarfile.ReadError as error:
        raise UsageError(
            f"{path} is damaged or no uncompressed tar: {error}", "unpack it, or its compression, first"
        ) from None


def tar_images(path: Path) -> Iterator[TarMember]:
    for name, offset, size in list_tar(path):
        if Path(name).suffix.lower() in SUFFIXES:
            yield TarMember(str(path), name, offset=offset, size=size)


def webdataset_samples(shard: Path) -> Iterator[tuple[TarMember, int | str | None]]:
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


def _written_label(member: TarMember, part: str) -> int | str | None:
    text = member.read().decode(errors="replace").strip()
    if part != "json":
        return int(text) if text.isdecimal() else text
    try:
        fields = json.loads(text)
    except ValueError:
        raise UsageError(f"{member.shown} is no JSON", "write the shard again") from None
    label = next((fields[key] for key in LABEL_KEYS if key in fields), None) if isinstance(fields, dict) else None
    return label if isinstance(label, int | str) else None


def parquet_shards(folder: Path) -> list[Path]:
    """The parquet files of a folder or of `data` in it; of several splits only the validation's."""
    shards = sorted(folder.glob("*.parquet")) or sorted(folder.glob("data/*.parquet"))
    for split in SPLITS:
        own = [shard for shard in shards if shard.name.split("-")[0].split(".")[0] == split]
        if own:
            return own
    return shards


def parquet_images(shard: Path) -> Iterator[ParquetCell]:
    """The images of a Hugging Face parquet file, with their labels; a label of -1 is none."""
    file = _open_parquet(str(shard))
    schema = file.schema_arrow
    image = next((name for name in ("image", "image_bytes", "img") if name in schema.names), None)
    if image is None:
        raise UsageError(
            f"{shard} has the columns {_few(schema.names)} and none named image", "name the column of images `image`"
        )
    is_struct = bool(schema.field(image).type.num_fields)
    wanted = [f"{image}.path"] if is_struct else []
    wanted += ["label"] if "label" in schema.names else []
    column = f"{image}.bytes" if is_struct else image
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        table = file.read_row_group(group, columns=wanted)
        names = _flat(table.column(image).combine_chunks()).to_pylist() if is_struct else [None] * rows
        labels = table.column("label").to_pylist() if "label" in wanted else [None] * rows
        for row, (name, label) in enumerate(zip(names, labels, strict=True)):
            own = name or f"{group}-{row}"
            known = label if isinstance(label, int) and label >= 0 else None
            yield ParquetCell(str(shard), f"{shard.name}/{own}", known, group=group, row=row, column=column)


def _flat(column: pyarrow.Array) -> pyarrow.Array:
    """The only field of a struct column, or the column itself."""
    return column.field(0) if column.type.num_fields else column


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
