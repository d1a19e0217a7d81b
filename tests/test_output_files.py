"""--output: a report replaces a report and nothing else, and devices and pipes are written into."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import GOLDEN
from made_runs import write_usual_run

RUN = GOLDEN / "run"
KINDS = [
    *(("report", RUN, "--format", form) for form in ("table", "markdown", "csv", "json", "html")),
    *(("diff", RUN, RUN, "--format", form) for form in ("table", "markdown", "json")),
    *(("history", "runs", "--format", form) for form in ("table", "html", "json")),
]

Rtbench = Callable[..., Any]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of every kind, as each command writes it; a folder of runs."""
    folder = tmp_path_factory.mktemp("files")
    write_usual_run(folder / "runs" / "one")
    for number, kind in enumerate(KINDS):
        subprocess.run(
            [sys.executable, "-m", "rtbench", *map(str, kind), "--output", str(number)], cwd=folder, check=True
        )
    return folder


@pytest.mark.parametrize("number", range(len(KINDS)), ids=lambda at: f"{KINDS[at][0]}-{KINDS[at][-1]}")
def test_a_report_replaces_one_of_its_kind_and_no_other_file(files: Path, rtbench: Rtbench, number: int) -> None:
    own, other = ((files / str(at % len(KINDS))).read_text(encoding="utf-8") for at in (number, number + 1))
    place = files / f"over-{number}"
    place.write_text(own.replace("4", "3"), encoding="utf-8")
    done = rtbench(*KINDS[number], "--output", place, cwd=files)
    assert done.returncode == 0, done.stderr
    assert place.read_text(encoding="utf-8") == own
    place.write_text(other, encoding="utf-8")
    done = rtbench(*KINDS[number], "--output", place, cwd=files)
    assert done.returncode == 2
    assert "already exists and is not a report of this kind; choose another --output" in done.stderr
    assert place.read_text(encoding="utf-8") == other


@pytest.mark.parametrize("content", [b"mine\n", b"\xff\xfe\x00", b"# notes on rtbench: \n", b"{}", b"<html></html>"])
def test_files_of_others_stay(rtbench: Rtbench, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine").write_bytes(content)
    (tmp_path / "link").symlink_to("mine")
    for name in ("mine", "link"):
        for form in ("table", "html", "json"):
            done = rtbench("report", RUN, "--format", form, "--output", name)
            assert (done.returncode, done.stderr.count("\n")) == (2, 1)
            assert "is not a report of this kind" in done.stderr
    assert (tmp_path / "mine").read_bytes() == content
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "mine"]


def test_an_empty_file_is_filled_and_a_link_followed(rtbench: Rtbench, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to("empty")
    (tmp_path / "nowhere").symlink_to("new")
    for name in ("link", "link", "nowhere"):
        assert rtbench("report", RUN, "--format", "csv", "--output", name).returncode == 0
    for name, target in (("link", "empty"), ("nowhere", "new")):
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / target).read_text() == rtbench("report", RUN, "--format", "csv").stdout


def test_a_pipe_a_device_and_stdout_are_written_into(rtbench: Rtbench, tmp_path: Path) -> None:
    expected = rtbench("report", RUN, "--format", "csv").stdout
    assert rtbench("report", RUN, "--format", "csv", "--output", "/dev/stdout").stdout == expected
    assert rtbench("report", RUN, "--format", "csv", "--output", "/dev/stderr").stderr == expected
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE, text=True)
    done = rtbench("report", RUN, "--format", "csv", "--output", "pipe")
    assert (done.returncode, reader.communicate(timeout=60)[0]) == (0, expected)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    try:
        os.mknod(tmp_path / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        (tmp_path / "null").symlink_to("/dev/null")
    assert rtbench("report", RUN, "--format", "html", "--output", "null").returncode == 0
    assert stat.S_ISCHR((tmp_path / "null").stat().st_mode)


def test_stdout_that_goes_to_a_file_is_added_to(tmp_path: Path) -> None:
    line = f'"{sys.executable}" -m rtbench report "{RUN}" --format csv --output /dev/stdout'
    subprocess.run(["sh", "-c", f"(echo first; {line}; echo last) > log"], cwd=tmp_path, check=True)
    lines = (tmp_path / "log").read_text().splitlines()
    assert (lines[0], lines[1][:10], lines[-1]) == ("first", "row,model,", "last")


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (".", "Is a directory"),
        ("/dev/full", "No space left on device"),
        ("x" * 300, "File name too long"),
        ("file/report.md", "File exists"),
    ],
)
def test_what_cannot_be_written_is_told(rtbench: Rtbench, tmp_path: Path, output: str, why: str) -> None:
    (tmp_path / "file").write_text("mine")
    done = rtbench("report", RUN, "--output", output)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"cannot write {output}: {why}; choose another --output" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
