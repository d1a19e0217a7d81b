"""The command line's manners: help with examples, completion, how loud it is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
import typer

from rtbench.cli.app import app

COMMANDS = ["export", "compare", "score", "report", "diff", "history", "gpu-check", "doctor", "cache", "tools"]


def every_command() -> list[list[str]]:
    """The words that each command and group is called by, the program's own help first."""

    def below(command: typer.core.TyperCommand | typer.core.TyperGroup, words: list[str]) -> list[list[str]]:
        children = getattr(command, "commands", {})
        return [words, *(each for name, child in children.items() for each in below(child, [*words, name]))]

    return below(typer.main.get_command(app), [])


@pytest.fixture
def fake(tmp_path):
    path = tmp_path / "one.fake"
    path.write_text(json.dumps({"latency_ms": [1.5]}))
    return path


def test_every_command_is_found():
    assert [words[0] for words in every_command() if len(words) == 1] == COMMANDS
    assert ["cache", "prune"] in every_command()


@pytest.mark.parametrize("command", every_command(), ids=lambda each: "-".join(each) or "rtbench")
def test_every_help_has_an_example_that_is_a_command(rtbench, command):
    done = rtbench(*command, "--help")
    assert done.returncode == 0
    example = next(line for line in done.stdout.splitlines() if "Example: rtbench" in line)
    assert " ".join(["rtbench", *command]) in example
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_completion_knows_the_commands(tmp_path):
    environment = os.environ | {"_RTBENCH_COMPLETE": "complete_bash", "COMP_WORDS": "rtbench ", "COMP_CWORD": "1"}
    script = "import sys; sys.argv[0] = 'rtbench'; from rtbench.cli.app import app; app(prog_name='rtbench')"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert set(COMMANDS) <= set(done.stdout.split())


def test_quiet_says_nothing_on_stderr_and_verbose_a_line_a_phase(rtbench, fake, ten_classes, tmp_path):
    arguments = ("compare", fake, "--data", ten_classes, "--runs", "20", "--out")
    usual = rtbench(*arguments, tmp_path / "usual")
    quiet = rtbench("--quiet", *arguments, tmp_path / "quiet")
    verbose = rtbench("--verbose", *arguments, tmp_path / "verbose")
    assert usual.returncode == quiet.returncode == verbose.returncode == 0
    assert usual.stderr.splitlines() == [
        f"Everything is kept in {tmp_path / 'usual'}; {tmp_path / 'usual' / 'report.html'} shows it."
    ]
    assert quiet.stderr == ""
    assert "fake/fp32" in quiet.stdout
    assert "latency: 20 in " in verbose.stderr
    assert "accuracy of fake/fp32: 45 in " in verbose.stderr


@pytest.mark.parametrize("arguments", [("-q", "compare"), ("compare", "-q"), ("compare", "--quiet")])
def test_quiet_may_stand_before_and_after_the_command(rtbench, fake, tmp_path, arguments):
    done = rtbench(*arguments, fake, "--runs", "5", "--processes", "1", "--out", tmp_path / "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "fake/fp32" in done.stdout


@pytest.mark.parametrize(("option", "runs"), [("--runs", 6), ("--iterations", 7)])
def test_runs_are_iterations_too(rtbench, fake, tmp_path, option, runs):
    rtbench("-q", "compare", fake, option, runs, "--processes", "1", "--out", tmp_path / "run")
    (row,) = json.loads((tmp_path / "run" / "result.json").read_text())["rows"]
    assert row["latency"]["runs"] == runs


def test_after_two_hyphens_there_are_no_options(rtbench):
    done = rtbench("compare", "--", "-q")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2,
        "rtbench: there is no architecture '-q'; see torchvision.models.list_models() for the names",
    )


def test_h_is_help(rtbench):
    for command in ((), ("compare",), ("cache", "list")):
        assert rtbench(*command, "-h").stdout == rtbench(*command, "--help").stdout != ""


def test_quiet_keeps_errors(rtbench, tmp_path):
    done = rtbench("--quiet", "report", tmp_path / "missing")
    assert done.returncode == 2
    assert "is not a run directory" in done.stderr


def test_quiet_and_verbose_exclude_each_other(rtbench):
    done = rtbench("--quiet", "--verbose", "doctor")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_a_terminal_sees_progress_with_the_time_left_and_a_pipe_does_not(
    rtbench, terminal, fake, ten_classes, tmp_path
):
    arguments = ("compare", fake, "--data", ten_classes, "--runs", "2000", "--out")
    seen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal(*arguments, tmp_path / "seen"))
    assert re.search(r"latency .*/2000 \S+ left \S+", seen)
    assert "left" not in rtbench(*arguments, tmp_path / "piped").stderr
    assert "left" not in terminal("--quiet", *arguments, tmp_path / "quiet")
