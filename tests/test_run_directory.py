"""The run directory: made, refused, resumed and discarded, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from full_run import a_run

from rtbench.errors import UsageError
from rtbench.runs.csv_lines import file_name
from rtbench.runs.directory import RunDirectory, read_command
from rtbench.runs.result import read_run


def test_only_an_interrupted_run_is_resumed_and_by_one_process(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing is no run directory that can be resumed \(it has no command\.json"):
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
    del second
    with pytest.raises(UsageError, match="is complete, there is nothing to resume"):
        RunDirectory(tmp_path / "run", resume=True)


def test_file_names_stay_in_their_folder() -> None:
    assert file_name("ort:cpu/int8") == "ort-cpu-int8"
    for row in ("../../etc/passwd", "a\\b", "a b/c\0d", "résumé/ort/fp32"):
        assert Path(file_name(row)).name == file_name(row)
        assert not set(file_name(row)) & set('/\\: \0"')


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
    with pytest.raises(UsageError, match="file is there already"):
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
