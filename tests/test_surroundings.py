"""Comparisons in odd surroundings: streams, folders, limits and variables as no developer has them."""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rtbench.errors import UsageError
from rtbench.options import default_cache
from rtbench.runs.result import read_run

PACKAGE = Path(__file__).resolve().parents[1]
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def environment(cache: Path, **variables: str | None) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON") or name == "PYTHONPATH"}
    changed = own | {"XDG_CACHE_HOME": str(cache)} | variables
    return {name: value for name, value in changed.items() if value is not None}


@pytest.fixture
def run(tmp_path: Path, image_cache: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line through a shell, where `{}` stands for it."""

    def run(
        line: str,
        *arguments: str | Path,
        cwd: Path = tmp_path,
        variables: dict[str, str | None] | None = None,
        **how: Any,
    ):
        return subprocess.run(
            ["/bin/sh", "-c", line.replace("{}", f'"{sys.executable}" -m rtbench "$@"'), "sh", *map(str, arguments)],
            cwd=cwd,
            env=environment(image_cache, **(variables or {})),
            capture_output=True,
            text=True,
            check=False,
            **how,
        )

    return run


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    path = tmp_path / "one.fake"
    path.write_text(json.dumps({"latency_ms": [1.5]}))
    return path


@pytest.fixture
def compared(tmp_path: Path, fake: Path, ten_classes: Path) -> list[str | Path]:
    return ["compare", fake, "--data", ten_classes, "--runs", "20", "--out", tmp_path / "run"]


def one_sentence(done: subprocess.CompletedProcess[str], *words: str, code: int = 2) -> None:
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert done.stderr.startswith("rtbench: ")
    for each in words:
        assert each in done.stderr


def complete(folder: Path) -> bool:
    record = read_run(folder)
    return record.complete and [row.status for row in record.rows] == ["ok"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_results_that_stdout_does_not_take_are_an_error(run, compared, tmp_path):
    done = run("{} > /dev/full", *compared)
    assert (done.returncode, done.stderr.count("\n")) == (2, 2), done.stderr
    assert "Everything is kept in" in done.stderr
    assert done.stderr.endswith("rtbench: cannot write to stdout: No space left on device\n")
    assert complete(tmp_path / "run")
    for form in ("table", "json"):
        one_sentence(run("{} > /dev/full", "report", tmp_path / "run", "--format", form), "cannot write to stdout")
    one_sentence(run("{} > /dev/full", "--help"), "cannot write to stdout")


@pytest.mark.parametrize("where", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_end_nothing(run, compared, tmp_path, where):
    done = run("{} " + where, "--verbose", *compared)
    assert done.returncode == 0, done.stderr
    assert complete(tmp_path / "run")
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not [path for path in files if b"Everything is kept" in path.read_bytes()]  # as if it were the stream


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_stderr_ends_nothing(run, compared, tmp_path):
    done = run("{} 2> /dev/full", "--verbose", *compared)
    assert done.returncode == 0
    assert "fake/fp32" in done.stdout
    assert complete(tmp_path / "run")


def test_a_reader_that_has_seen_enough_changes_no_exit_code(image_cache, compared, tmp_path):
    read, write = os.pipe()
    os.close(read)
    for code, words in ((0, compared), (0, ["report", tmp_path / "run"]), (2, ["report", tmp_path / "absent"])):
        done = subprocess.run(
            [sys.executable, "-m", "rtbench", *map(str, words)],
            env=environment(image_cache),
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    os.close(write)


@pytest.mark.parametrize(
    "variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_an_ascii_stdout_gets_tables_in_ascii_and_files_as_they_are(run, compared, tmp_path, variables):
    path = tmp_path / ("modèle.fake" if "PYTHONIOENCODING" in variables else "model.fake")
    path.write_text("{}")
    done = run("{}", "compare", path, *compared[2:], variables=variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert "fake/fp32" in done.stdout
    for form, name in (("json", "result.json"), ("csv", "results.csv"), ("markdown", "report.md")):
        command = [sys.executable, "-m", "rtbench", "report", tmp_path / "run", "--format", form]
        again = subprocess.run(command, env=os.environ | variables, capture_output=True, check=True)
        assert again.stdout.strip() == (tmp_path / "run" / name).read_bytes().strip()


def test_a_locale_that_has_no_such_names_is_told(run, tmp_path):
    variables = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    one_sentence(run("{}", "compare", tmp_path / "modèle.fake", variables=variables), "set LC_ALL=C.UTF-8")


@pytest.mark.parametrize("variables", [{"COLUMNS": "1"}, {"COLUMNS": "0"}, {"COLUMNS": "abc"}, {"TERM": ""}])
def test_a_terminal_of_no_size_or_kind_ends_nothing(terminal, compared, tmp_path, variables):
    seen = terminal(*compared, **variables)
    assert "Traceback" not in seen
    assert complete(tmp_path / "run")
    assert "Traceback" not in terminal("report", tmp_path / "run", **variables)
    assert "Traceback" not in terminal("compare", "--help", **variables)


def test_modules_in_the_working_folder_are_not_imported(run, compared, tmp_path):
    for name in ("numpy", "torch", "typer", "json", "psutil", "onnxruntime"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} of the working folder was run')\n")
    done = run("{}", *compared)
    assert done.returncode == 0, done.stderr
    assert complete(tmp_path / "run")


def test_warnings_as_errors_end_nothing(run, compared, tmp_path):
    done = run("{}", *compared, variables={"PYTHONWARNINGS": "error"})
    assert done.returncode == 0, done.stderr
    assert complete(tmp_path / "run")


def test_a_working_folder_that_is_gone_is_told(run, compared, tmp_path):
    (tmp_path / "gone").mkdir()
    done = run("cd gone && rmdir ../gone && {}", "compare", *compared[1:-2])
    one_sentence(done)


def test_without_a_temporary_folder_rows_are_measured_all_the_same(run, compared, tmp_path):
    done = run("{}", *compared, variables={"TMPDIR": str(tmp_path / "absent")})
    assert done.returncode == 0, done.stderr
    assert complete(tmp_path / "run")


def limited(kind: int, most: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (most, most))


def test_files_that_may_not_grow_are_told_in_a_sentence(run, compared):
    for most in (100, 3000, 100_000):
        done = run("{}", *compared, "--runs", "2000", preexec_fn=limited(resource.RLIMIT_FSIZE, most))
        one_sentence(done, "File too large")
        shutil.rmtree(compared[-1], ignore_errors=True)


def test_a_row_whose_process_cannot_be_started_ends_no_other(run, compared, tmp_path):
    """Every row keeps a process, and so a file, open; the limit is for some of them."""
    models = []
    for number in range(40):
        models.append(tmp_path / f"m{number}.fake")
        models[-1].write_text("{}")
    done = run(
        "{}", "compare", *models, *compared[2:], "--processes", "1", preexec_fn=limited(resource.RLIMIT_NOFILE, 36)
    )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    record = read_run(tmp_path / "run")
    assert record.complete
    measured = [row for row in record.rows if row.status == "ok" and row.latency and row.accuracy]
    failed = [row for row in record.rows if row.status == "failed"]
    assert len(measured) + len(failed) == 40
    assert min(len(measured), len(failed)) > 3
    assert {row.reason for row in failed} == {"a worker process cannot be started: Too many open files"}


@pytest.mark.parametrize("most", [6, 8, 10, 12, 16])
def test_too_few_files_for_anything_are_told_in_a_sentence(run, compared, most):
    one = run("{}", *compared, preexec_fn=limited(resource.RLIMIT_NOFILE, most))
    assert one.returncode in (0, 1, 2)
    assert "Traceback (most recent call last)" not in one.stderr


def test_ctrl_c_while_modules_are_imported_is_no_traceback(run, tmp_path):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    path = os.pathsep.join([str(tmp_path / "modules"), str(PACKAGE)])
    done = run("exec {}", "doctor", variables={"PYTHONPATH": path})
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def unprivileged() -> None:
    """Let permissions hold for root too, by giving up what overrides them."""
    library = ctypes.CDLL(None)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        library.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


@pytest.fixture
def modest(run) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run` as somebody whom permissions bind."""
    return partial(run, "{}", preexec_fn=unprivileged)


@pytest.fixture
def ours(tmp_path: Path, fake: Path) -> list[str | Path]:
    return ["compare", fake, "--runs", "20", "--out", tmp_path / "run"]


def test_without_home_a_cache_may_be_named(run, ours, tmp_path):
    done = run("{}", *ours, "--cache-dir", tmp_path / "cache", variables={"HOME": None, "XDG_CACHE_HOME": None})
    assert done.returncode == 0, done.stderr
    assert complete(tmp_path / "run")


def test_who_is_unknown_to_the_system_is_asked_for_a_cache(monkeypatch):
    def unknown(user: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {user}")

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(UsageError, match="no home folder to keep decoded images in; name a --cache-dir"):
        default_cache()


def test_folders_that_cannot_be_written_are_told(modest, ours, tmp_path):
    home, work = tmp_path / "home", tmp_path / "work"
    for folder in (home, work):
        folder.mkdir()
        folder.chmod(0o555)
    variables = {"HOME": str(home), "XDG_CACHE_HOME": None}
    one_sentence(modest(*ours, variables=variables), "Permission denied", "--cache-dir")
    one_sentence(modest(*ours[:-2], cwd=work), "cannot write to", "Permission denied", "--out")
    one_sentence(modest("export", ours[1], cwd=work), "cannot write to", "Permission denied")


def test_files_that_nobody_may_read_are_told(run, ours):
    one_sentence(run("umask 777 && {}", *ours, preexec_fn=unprivileged), "Permission denied")


@pytest.mark.parametrize("name", ["MODEL", "--baseline", "--recipe", "--weights", "--data", "--against", "--resume"])
def test_what_may_not_be_read_is_told(modest, tmp_path, name):
    locked, closed = tmp_path / "locked", tmp_path / "closed.fake"
    locked.mkdir()
    for path in (closed, locked / "below"):
        path.write_text("{}")
        path.chmod(0)
    locked.chmod(0)
    for path in ("locked/below", "locked", "closed.fake"):
        words = ["compare", path] if name == "MODEL" else ["compare", "resnet18", name, path]
        one_sentence(modest(*words, "--runtimes", "ort", "--precisions", "fp32"))
