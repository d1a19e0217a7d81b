"""Files that say which class an image or a name is of: tables of labels, and class maps."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any

from rtbench.errors import UsageError, visible_text
from rtbench.images.ground_truth import read_text
from rtbench.images.image_set import class_index

NAMES = ("file_name", "filename", "file", "image", "image_id", "imageid", "path", "img", "id", "name")
LABELS = ("label", "labels", "class", "class_id", "classid", "category", "target", "species", "breed")
"""What columns are called, in any case; without such a first line, they are the first and the second."""
DELIMITERS = "\t,;"
Labels = tuple["str | int", ...]
"""All that are right for one image."""


@dataclass(frozen=True)
class LabelTable:
    """By an image's name, or in the order of ImageNet's validation images."""

    path: Path
    by_name: Mapping[str, Labels]
    in_order: Sequence[Labels] = ()
    names: tuple[str, ...] = ()
    """Of the classes that the labels number, where the table has them."""

    def labels_of(self, name: str, number: int | None) -> Labels | None:
        """None where it does not have the image."""
        if self.in_order:
            return self.in_order[number - 1] if number and number <= len(self.in_order) else None
        path = PurePosixPath(name)
        return next((self.by_name[each] for each in (name, path.name, path.stem) if each in self.by_name), None)


def read_label_table(path: Path) -> LabelTable:
    """A CSV of image and label; JSON of one label or several an image, as ImageNet-ReaL's; JSON lines of Hugging Face's
    folders; the labels.json of FiftyOne. UsageError where it is none of these."""
    if path.suffix == ".jsonl":
        lines = [_parsed(path, line) for line in read_text(path).splitlines() if line.strip()]
        return LabelTable(path, {_key(path, line): _labels(path, line) for line in lines})
    if path.suffix != ".json":
        return LabelTable(path, dict(_rows(path)))
    content = _parsed(path, read_text(path))
    if isinstance(content, list):
        return LabelTable(path, {}, [_all(path, each) for each in content])
    if isinstance(content.get("labels"), dict) and isinstance(content.get("classes"), list):
        names = tuple(map(str, content["classes"]))
        return LabelTable(path, {key: _all(path, each) for key, each in content["labels"].items()}, names=names)
    return LabelTable(path, {key: _all(path, each) for key, each in content.items()})


def read_class_map(path: Path) -> dict[str, int]:
    """The class of each name: a JSON object of name and class, or of class and name or names; a list of names in the
    order of their classes; text with a name a line, or a name and its class."""
    if path.suffix == ".json":
        content = _parsed(path, read_text(path))
        pairs = enumerate(content) if isinstance(content, list) else content.items()
        return {name: index for key, value in pairs for name, index in _mapped(path, key, value)}
    rows = [line.replace(",", " ").replace("\t", " ").split() for line in read_text(path).splitlines() if line.strip()]
    if all(len(row) == 2 and row[1].isdecimal() for row in rows):
        return {name: numbered_class(path, text) for name, text in rows}
    return {line.strip(): index for index, line in enumerate(filter(str.strip, read_text(path).splitlines()))}


def numbered_class(path: Path, text: str) -> int:
    if (index := class_index(text)) is None:
        raise _not_understood(path, text)
    return index


def _mapped(path: Path, key: Any, value: Any) -> Iterator[tuple[str, int]]:
    if isinstance(value, int):
        yield str(key), value
    elif str(key).isdecimal() and isinstance(value, (str, list)):
        for name in value if isinstance(value, list) else [value]:
            yield str(name), numbered_class(path, str(key))
    else:
        raise _not_understood(path, f"{key}: {value}")


def _rows(path: Path) -> Iterator[tuple[str, Labels]]:
    text = read_text(path)
    first = text.partition("\n")[0]
    delimiter = next((each for each in DELIMITERS if each in first), " ")
    try:
        lines = csv.reader(StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        rows = [row for row in lines if row]
    except csv.Error as error:
        raise UsageError(f"{path} is not a table: {error}", "write a CSV of image and label") from None
    columns = [column.strip().lower() for column in rows[0]] if rows else []
    name = next((columns.index(each) for each in NAMES if each in columns), None)
    label = next((columns.index(each) for each in LABELS if each in columns), None)
    if name is None and label is None:
        name, label = 0, 1
    else:
        rows = rows[1:]
        name = 0 if name is None else name
        label = (1 if name == 0 else 0) if label is None else label
    for row in rows:
        if len(row) <= max(name, label):
            raise _not_understood(path, delimiter.join(row))
        words = row[label].replace("|", " ").split()
        several = len(words) > 1 and all(word.isdecimal() for word in words)
        yield row[name], tuple(words) if several else (row[label].strip(),)


def _key(path: Path, line: Any) -> str:
    key = next((line[each] for each in NAMES if each in line), None) if isinstance(line, dict) else None
    if not isinstance(key, str):
        raise _not_understood(path, str(line))
    return key


def _labels(path: Path, line: Mapping[str, Any]) -> Labels:
    return _all(path, next((line[each] for each in LABELS if each in line), None))


def _all(path: Path, value: Any) -> Labels:
    values = tuple(value) if isinstance(value, list) else (value,)
    if not all(isinstance(each, (str, int)) for each in values):
        raise _not_understood(path, str(value))
    return values


def _parsed(path: Path, text: str) -> Any:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error!s:.80}", "write it again") from None
    if not isinstance(content, (list, dict)):
        raise _not_understood(path, text)
    return content


def _not_understood(path: Path, what: str) -> UsageError:
    return UsageError(
        f"{path} has {visible_text(what):.40}, which is not the label of an image", "write image and label"
    )
