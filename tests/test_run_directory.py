"""The run directory: made, refused, resumed and discarded, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from full_run import a_run

from rtbench.errors import UsageError
from rtbench.measure.accuracy import Predictions
from rtbench.review.history import history
from rtbench.runs.csv_lines import file_name
from rtbench.runs.directory import REPORTS, RunDirectory, read_command
from rtbench.runs.predictions import read_predictions
from rtbench.runs.result import read_run


def test_only_an_interrupted_run_is_resumed_and_by_one_process(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing is not a run directory that can be resumed \(it has no"):
        RunDirectory(tmp_path / "missing", resume=True)
    first = RunDirectory(tmp_path / "run")
    first.save_command(["compare", "a model.pt"])
    with pytest.raises(UsageError, match="is being measured by another process"):
        RunDirectory(tmp_path / "run", resume=True)
    run = a_run()
    first.save(run.model_copy(update={"complete": False}))
    del first
    second = RunDirectory(tmp_path / "run", resume=True)
    assert second.kept == run.model_copy(update={"complete": False})
    assert read_command(second.path) == (["compare", "a model.pt"], Path.cwd())
    second.save(run)
    assert second.missing_reports() == list(REPORTS)
    second.save_reports(dict.fromkeys(REPORTS, lambda: "a report"))
    del second
    with pytest.raises(UsageError, match="is complete, there is nothing to resume"):
        RunDirectory(tmp_path / "run", resume=True)


LIKE_ONE_ANOTHER = [
    *("m b/ort/fp32", "m-b/ort/fp32", "m/b/ort/fp32", "m%20b/ort/fp32", "m:b/ort/fp32", "m%2Db/ort/fp32"),
    *(
        "é/ort/fp32",
        "e\u0301/ort/fp32",
        "è/ort/fp32",
        "a\nb/ort/fp32",
        "a\\b",
        "ort/fp32",
        "ort:cpu/fp32",
        "ort-cpu/fp32",
    ),
    *(f"{'x' * count}/ort/fp32" for count in (190, 192, 193, 250, 251)),
    *(f"{'é' * 60}{end}/ort/fp32" for end in "ab"),
]


def test_no_two_rows_have_one_file_name() -> None:
    names = {row: file_name(row) for row in LIKE_ONE_ANOTHER}
    assert len(set(names.values())) == len(LIKE_ONE_ANOTHER)
    assert names["ort/fp32"] == "ort-fp32"
    assert names["ort:cpu/fp32"] == "ort%3Acpu-fp32"


def test_file_names_stay_in_their_folder_and_are_not_too_long() -> None:
    for row in [*LIKE_ONE_ANOTHER, "../../etc/passwd", "..", "a b/c\0d", "bytes\udcff/ort/fp32", "=cmd()/ort/fp32"]:
        name = f"{file_name(row)}.csv"
        assert Path(name).name == name
        assert not set(name) & set('/\\: \0"\n')
        assert len(name.encode()) <= 230  # with what a file has in its name while it is written, 255


def as_before(row: str) -> str:
    """The file name that the first version gave a row."""
    return "".join(char if char.isalnum() or char in "._" else "-" for char in row) + ".csv"


def test_predictions_of_an_earlier_version_are_read_where_they_are_of_one_row(tmp_path: Path) -> None:
    (tmp_path / "predictions").mkdir()
    rows = ["m b/ort/fp32", "m-b/ort/fp32", "m b/ort:cpu/fp32", "torch/fp32"]
    for row in rows:
        text = f"file,label,top1,confidence\n{row},1,2,0.5\n"
        (tmp_path / "predictions" / as_before(row)).write_text(text)
    read = read_predictions(tmp_path, rows)
    assert {row: [each.file for each in found] for row, found in read.items()} == {
        "m b/ort/fp32": [],
        "m-b/ort/fp32": [],
        "m b/ort:cpu/fp32": ["m b/ort:cpu/fp32"],
        "torch/fp32": ["torch/fp32"],
    }
    # and what this version writes beside them goes first
    new = RunDirectory(tmp_path / "new")
    new.append_predictions("m-b/ort/fp32", ["a.png"], [(1,)], Predictions.unanswered(1, 5), {})
    (new.path / "predictions" / as_before("m-b/ort/fp32")).write_text("file,label,top1,confidence\nold.png,1,2,0.5\n")
    assert [each.file for each in read_predictions(new.path, ["m-b/ort/fp32"])["m-b/ort/fp32"]] == ["a.png"]


def test_discarding_leaves_what_has_come_to_measuring(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.save_command(["compare"])
    fill(directory)
    directory.save(a_run().model_copy(update={"complete": False}))
    before = sorted(tmp_path.rglob("*"))
    directory.discard()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "x" * 200 + "/" + "y" * 300])
def test_a_name_that_cannot_be_is_told(tmp_path: Path, name: str) -> None:
    for call in (RunDirectory, read_run, read_command, lambda path: RunDirectory(path, resume=True), history):
        with pytest.raises(UsageError) as caught:
            call(tmp_path / name)
        assert name[:100].replace("\0", r"\x00") in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    assert RunDirectory(tmp_path / "a" / "b" / "run").path.is_dir()


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    RunDirectory(tmp_path / "empty").save(a_run())
    assert read_run(tmp_path / "empty") == a_run()


@pytest.mark.parametrize("content", ["notes.txt", ".hidden", "folder/"])
def test_a_folder_with_anything_in_it_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "run" / content
    if content.endswith("/"):
        path.mkdir(parents=True)
    else:
        path.parent.mkdir()
        path.write_text("mine")
    with pytest.raises(UsageError, match="not an empty folder"):
        RunDirectory(tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == [path]


def test_a_file_and_a_place_below_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="file already exists"):
        RunDirectory(tmp_path / "file")
    with pytest.raises(UsageError, match="cannot write to"):
        RunDirectory(tmp_path / "file" / "run")
    assert (tmp_path / "file").read_text() == "mine"


def fill(directory: RunDirectory) -> None:
    directory.logs.mkdir()
    directory.log("ort:cpu/int8").write_text("log")


def test_discarding_takes_back_the_folder_and_its_new_parents(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "mine.txt").write_text("mine")
    directory = RunDirectory(tmp_path / "old" / "new" / "newer" / "run")
    fill(directory)
    directory.discard()
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["mine.txt"]


def test_discarding_a_relative_path(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    directory = RunDirectory(Path("runs") / "one")
    fill(directory)
    directory.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_discarding_leaves_a_folder_that_was_there_and_empties_it(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    directory = RunDirectory(tmp_path / "run")
    fill(directory)
    directory.discard()
    assert list(tmp_path.iterdir()) == [tmp_path / "run"]
    assert list((tmp_path / "run").iterdir()) == []


def test_discarding_leaves_the_runs_beside_it(tmp_path: Path) -> None:
    """Two comparisons into one new parent folder, as by default: the first gives up, the second measures."""
    first = RunDirectory(tmp_path / "runs" / "first")
    second = RunDirectory(tmp_path / "runs" / "second")
    second.save(a_run())
    fill(first)
    first.discard()
    assert not first.path.exists()
    assert read_run(second.path) == a_run()
