"""Tables of labels and class maps: damaged ones are read or refused."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path

import pytest
from judge import INPUTS, SEED, judge
from mutate import mutations

from rtbench.images.tables import read_class_map, read_label_table

NAMES = [f"ILSVRC2012_val_{number:08}.JPEG" for number in range(1, 7)]


def read_table(name: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        table = read_label_table(path)
        for number, image in enumerate(NAMES, 1):
            labels = table.labels_of(image, number)
            assert labels is None or all(isinstance(each, (str, int)) for each in labels)


def read_map(name: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(data)
        assert all(isinstance(index, int) for index in read_class_map(Path(folder) / name).values())


LABELS = {name: [position, position + 1] for position, name in enumerate(NAMES)}
LABEL_TABLES = {
    "csv": ["".join(f"{name},{index}\n" for index, name in enumerate(NAMES)), "id;breed\n" + "a;cat\nb;dog\n" * 3],
    "json": [json.dumps(LABELS), json.dumps(list(LABELS.values())), json.dumps({"classes": ["a"], "labels": {"0": 0}})],
    "jsonl": ["\n".join(json.dumps({"file_name": name, "label": 3}) for name in NAMES)],
}
CLASS_MAPS = {
    "json": [json.dumps({"a": 0, "b": 1}), json.dumps({"0": ["n0", "a"], "1": "b"}), json.dumps(["a", "b", "c"])],
    "txt": ["a\nb\nc\n", "a 2\nb 1\n", "a,2\nb,1\n"],
}


@pytest.mark.parametrize("kind", LABEL_TABLES)
def test_tables_of_labels(kind: str) -> None:
    seeds = [text.encode() for text in LABEL_TABLES[kind]]
    tally = judge(f"labels.{kind}", partial(read_table, f"labels.{kind}"), mutations(seeds, INPUTS, SEED))
    assert not tally.faults, str(tally)


@pytest.mark.parametrize("kind", CLASS_MAPS)
def test_class_maps(kind: str) -> None:
    seeds = [text.encode() for text in CLASS_MAPS[kind]]
    tally = judge(f"class map {kind}", partial(read_map, f"classes.{kind}"), mutations(seeds, INPUTS, SEED))
    assert not tally.faults, str(tally)
