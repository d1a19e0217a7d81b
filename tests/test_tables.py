"""Labels in tables and class maps, several for an image, and ImageNet's other test sets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import write_images

from rtbench.errors import UsageError
from rtbench.images.datasets import read_labelled
from rtbench.images.ground_truth import imagenet_wnids
from rtbench.images.labels import Reading, imagenet_subsets
from rtbench.images.tables import read_class_map
from rtbench.measure.accuracy import Predictions, predict_batch, score_predictions
from rtbench.records.run import Run

PETS = ("bird", "cat", "dog")
TABLES = {
    "plain.csv": "0.png,cat\n1.png,dog\n2.png,cat\n",
    "header.csv": "id,breed\n0,cat\n1,dog\n2,cat\n",
    "reversed.csv": "label;file name;filename\ncat;x;0.png\ndog;x;1.png\ncat;x;2.png\n",
    "tabs.tsv": "0.png\tcat\n1.png\tdog\n2.png\tcat\n",
    "spaces.txt": "0.png cat\n1.png dog\n2.png cat\n",
    "by name.json": json.dumps({"0.png": "cat", "1": "dog", "2.png": ["cat"]}),
    "metadata.jsonl": "\n".join(
        json.dumps({"file_name": f"{n}.png", "label": c}) for n, c in enumerate(("cat", "dog", "cat"))
    ),
    "fiftyone.json": json.dumps({"classes": ["bird", "cat", "dog"], "labels": {"0": 1, "1": 2, "2": 1}}),
}


def found(images) -> list[tuple[str, int, tuple[int, ...]]]:
    return [(file.name, file.label, file.also) for file in images.files]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_any_form_labels_images(name: str, tmp_path: Path) -> None:
    write_images(tmp_path / "data", 3, side=8)
    (tmp_path / name).write_text(TABLES[name])
    images = read_labelled(tmp_path / "data", 3, Reading(table=tmp_path / name, names=PETS))
    assert found(images) == [("0.png", 1, ()), ("1.png", 2, ()), ("2.png", 1, ())]
    assert images.labels == f"table ({name})"


@pytest.mark.parametrize("name", ["labels.json", "metadata.jsonl", "metadata.csv", "labels.csv"])
def test_a_table_of_such_a_name_beside_the_images_is_found(name: str, tmp_path: Path) -> None:
    write_images(tmp_path / "data", 3, side=8)
    form = {"labels.json": "fiftyone.json", "metadata.jsonl": "metadata.jsonl"}.get(name, "plain.csv")
    (tmp_path / ("data" if name.startswith("metadata") else ".") / name).write_text(TABLES[form])
    place = tmp_path if name == "labels.json" else tmp_path / "data"
    assert [label for _, label, _ in found(read_labelled(place, 3, Reading(names=PETS)))] == [1, 2, 1]


def test_real_labels_are_by_the_numbers_of_imagenets_images_and_may_be_several_or_none(tmp_path: Path) -> None:
    write_images(tmp_path / "data", 3, side=8)
    for number in range(3):
        (tmp_path / "data" / f"{number}.png").rename(tmp_path / "data" / f"ILSVRC2012_val_{number + 1:08}.png")
    (tmp_path / "real.json").write_text("[[3, 7], [], [999]]")
    images = read_labelled(tmp_path / "data", 1000, Reading(table=tmp_path / "real.json"))
    assert [(label, also) for _, label, also in found(images)] == [(3, (7,)), (999, ())]
    assert "1 images have no label in real.json and were left out" in images.choices


def test_an_image_is_right_by_any_of_its_labels() -> None:
    answers = Predictions(np.array([[7, 1], [2, 3], [4, 3]], dtype=np.int32), np.ones(3, dtype=np.float32))
    scored = score_predictions(answers, np.array([[3, 7], [2, -1], [1, 0]], dtype=np.int32), None)
    assert scored.top1 == pytest.approx(2 / 3)


MAPS = {
    "names.json": json.dumps(["a", "b", "c"]),
    "index.json": json.dumps({"0": ["n0", "a"], "1": ["n1", "b"], "2": ["n2", "c"]}),
    "of names.json": json.dumps({"a": 0, "b": 1, "c": 2}),
    "id2label.json": json.dumps({"0": "a", "1": "b", "2": "c"}),
    "names.txt": "a\nb\nc\n",
    "pairs.txt": "c 2\na 0\nb 1\n",
    "pairs.csv": "c,2\na,0\nb,1\n",
}


@pytest.mark.parametrize("name", MAPS)
def test_a_class_map_of_any_form_says_which_class_a_folder_is(name: str, tmp_path: Path) -> None:
    for folder in ("b", "c"):
        write_images(tmp_path / "data" / folder, 1, side=8)
    (tmp_path / name).write_text(MAPS[name])
    images = read_labelled(tmp_path / "data", 3, Reading(class_map=tmp_path / name))
    assert [(label, images.labels) for _, label, _ in found(images)] == [(1, "class map"), (2, "class map")]
    with pytest.raises(UsageError, match="has the class 2 for c, and the model has 2"):
        read_labelled(tmp_path / "data", 2, Reading(class_map=tmp_path / name))


def test_folders_named_as_the_models_classes_are_those(tmp_path: Path) -> None:
    for folder in ("Tabby_cat", "dog", "Bird"):
        write_images(tmp_path / folder, 1, side=8)
    names = ("dog", "tabby cat, tiger cat", "bird")
    images = read_labelled(tmp_path, 3, Reading(names=names))
    assert {name.split("/")[0]: label for name, label, _ in found(images)} == {"dog": 0, "Tabby_cat": 1, "Bird": 2}
    assert "--class-order text takes them in order instead" in images.choices[0]
    assert [label for _, label, _ in found(read_labelled(tmp_path, 3, Reading("text", names=names)))] == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "0.png,cat\n", r"no label for 2 of 3 images \(1.png, 2.png\)"),
        (
            "a.csv",
            "0.png,cat\n1.png,cow\n2.png,cat\n",
            r"has 2 labels \(cat, cow\) and the model has 3 outputs; say with",
        ),
        ("a.csv", "0.png\n1.png\n2.png\n", "has 0.png, which is not the label of an image"),
        ("a.json", "{", "is not JSON"),
        ("a.json", '{"0.png": {}}', r"has .*, which is not the label"),
        ("a.json", "7", "which is not the label"),
        ("missing.csv", None, "cannot be read: No such file"),
    ],
)
def test_a_table_that_does_not_fit_is_told_in_a_sentence(name: str, content: str, words: str, tmp_path: Path) -> None:
    write_images(tmp_path / "data", 3, side=8)
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=words):
        read_labelled(tmp_path / "data", 3, Reading(table=tmp_path / name, names=PETS))


def test_imagenet_a_and_r_are_known_by_their_classes_and_scored_on_those_alone(tmp_path: Path) -> None:
    wnids, subsets = imagenet_wnids(), imagenet_subsets()
    for name, subset in subsets.items():
        assert len(subset) == 200
        for label in subset:
            write_images(tmp_path / name / wnids[label], 1, side=8)
        images = read_labelled(tmp_path / name, 1000)
        assert (images.test_set, images.among) == (name, tuple(sorted(subset)))
        assert f"the images are of {name}" in images.choices[0]
        assert read_labelled(tmp_path / name, 1001).among == tuple(label + 1 for label in sorted(subset))
        assert read_labelled(tmp_path / name, 1000, Reading(all_classes=True)).among == ()


def test_other_test_sets_are_known_by_the_names_of_their_folders(tmp_path: Path) -> None:
    write_images(tmp_path / "imagenetv2-matched-frequency-format-val" / "7", 1, side=8)
    write_images(tmp_path / "imagenet" / "animals" / "n01498041", 1, side=8)  # a class of ImageNet-A
    assert read_labelled(tmp_path / "imagenet" / "animals", 1000).test_set is None
    write_images(tmp_path / "imagenet" / "7", 1, side=8)
    shutil.rmtree(tmp_path / "imagenet" / "animals")
    write_images(tmp_path / "ImageNet-Sketch" / "n01440764", 1, side=8)
    sets = {path.name: read_labelled(path, 1000).test_set for path in tmp_path.iterdir()}
    assert [sets[name] for name in sorted(sets)] == ["ImageNet-Sketch", None, "ImageNetV2"]


def test_answers_are_chosen_among_some_classes() -> None:
    outputs = np.array([[9, 1, 2, 3, 4, 5, 6], [1, 0, 0, 0, 0, 0, np.nan]], dtype=np.float32)
    few = predict_batch(outputs, (1, 3, 6))
    assert few.classes.tolist() == [[6, 3, 1], [-1, -1, -1]]
    assert few.confidences[0] == pytest.approx(1 / (1 + np.exp(-3) + np.exp(-5)))


def test_a_row_is_scored_on_the_classes_of_its_test_set(rtbench, tmp_path: Path) -> None:
    wnids, subset = imagenet_wnids(), sorted(imagenet_subsets()["ImageNet-R"])
    for label in subset:
        write_images(tmp_path / "imagenet-r" / wnids[label], 1, side=8)
    (tmp_path / "a.fake").write_text(json.dumps({"classes": 1000}))
    options = ("--data", tmp_path / "imagenet-r", "--runs", "5", "--patience", "0", "--runtimes", "fake")
    done = rtbench("compare", tmp_path / "a.fake", *options, "--out", tmp_path / "run")
    assert done.returncode in (0, 1), done.stderr
    run = Run.model_validate_json((tmp_path / "run" / "result.json").read_bytes())
    assert (run.dataset.test_set, run.dataset.among_classes) == ("ImageNet-R", 200)
    lines = (tmp_path / "run" / "predictions" / "fake-fp32.csv").read_text().splitlines()[1:]
    assert {int(line.split(",")[2]) for line in lines} <= set(subset)
    assert all(row.scores is None or row.scores.accuracy is None for row in run.rows)


@pytest.mark.parametrize(("name", "text"), [("map.txt", "a 1\nb {}\n"), ("map.json", '{{"{}": "a"}}')])
def test_a_number_too_long_to_be_a_class_is_refused(name, text, tmp_path):
    (tmp_path / name).write_text(text.format("9" * 5000))
    with pytest.raises(UsageError, match=f"{name} has 9{{40}}, which is not the label of an image"):
        read_class_map(tmp_path / name)
