"""Every option's bounds and paths, by the Python API's way and by the command line's."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import rtbench
from rtbench.cli import app as command_line
from rtbench.errors import UsageError
from rtbench.options import CompareOptions, ExportOptions, Options, flag

NUMBERS = {
    each.name: each.metadata
    for kind in (CompareOptions, ExportOptions)
    for each in fields(kind)
    if math.isfinite(each.metadata["least"])
}
TRIPLES = ("mean", "std")
PATHS = ("weights", "labels", "class_map", "calibration", "data", "cache_dir", "against", "against_python")
NAMED_FILES = ("--baseline", "--reference")
NOT_READ = ("--weights", "--cache-dir")
"""For a script of the fake runtime: whatever is there will do."""


def options_with(name: str, value: object) -> Options:
    kind = CompareOptions if name in {each.name for each in fields(CompareOptions)} else ExportOptions
    return kind(**{name: (0.5, value, 0.5) if name in TRIPLES else value})


def test_every_option_that_is_a_number_has_bounds() -> None:
    types = {each.name: str(each.type) for kind in (CompareOptions, ExportOptions) for each in fields(kind)}
    numeric = {
        name
        for name, hint in types.items()
        if any(each in hint for each in ("int", "float", "Share", "Triple", "Size"))
    }
    assert numeric - {"interpolation"} == set(NUMBERS)
    assert all(math.isfinite(each["most"]) for each in NUMBERS.values())


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_out_of_bounds_is_refused_in_a_sentence(name: str) -> None:
    least, most = NUMBERS[name]["least"], NUMBERS[name]["most"]
    for inside in (least, most):
        options_with(name, inside)
    for outside in (math.nan, math.inf, -math.inf, least - 1, least - 1e-9, most * (1 + 1e-9), 10**400, -(10**400)):
        with pytest.raises(
            UsageError, match=rf"^{flag(name)} is .*, expected {least:.9g} to {re.escape(f'{most:.9g}')}$"
        ):
            options_with(name, outside)


@pytest.mark.parametrize("name", PATHS)
def test_a_path_that_no_file_can_have_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    bad = {
        "x" * 5000: "File name too long",
        str(loop): "Too many levels of symbolic links",
        "a\0b": "null byte",
        os.fsdecode(b"\xff.png"): r"\\udcff.png is not UTF-8; rename it",
    }
    for path, words in bad.items():
        with pytest.raises(UsageError, match=words) as caught:
            CompareOptions(**{name: Path(path)})
        assert flag(name) in str(caught.value)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 700


@pytest.mark.parametrize("source", ["x" * 5000, "a\0b", os.fsdecode(b"\xff.fake")])
def test_a_model_that_no_file_can_be_is_refused_by_the_python_api(source: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for call in (rtbench.compare, rtbench.export):
        with pytest.raises(UsageError, match=r"^model "):
            call(source)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def command(tmp_path: Path, monkeypatch, capfd) -> Iterator[Callable[..., tuple[int, str]]]:
    """The `rtbench` command in this process: its exit code and what it wrote to stderr."""
    monkeypatch.chdir(tmp_path)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))  # set back after the test

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["rtbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            command_line.main()
        return caught.value.code, capfd.readouterr().err

    return run


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "--timeout": ["0", "-1", "nan", "inf", "-inf", "1e999", "soon"],
        "--patience": ["-1", "nan", "inf"],
        "--max-time": ["0", "-5", "nan", "inf"],
        "--target-ci": ["0", "nan", "inf", "-1%", "100%", "nan%"],
        "--max-loss": ["0", "nan", "inf", "-1pp", "100pp"],
        "--max-disagreement": ["0", "nan", "2"],
        "--mean": ["nan,0,0", "0,inf,0", "0,0", "123.7,116.3,103.5", "a,b,c", ""],
        "--std": ["0,1,1", "1,nan,1", "1,1,-1", "1,1,inf", "1,1,1e-300"],
        "--runs": ["0", "-1", "1000000000000", "9" * 5000, "1.5", "nan"],
        "--threads": ["0", "100000", "1" * 30],
        "--processes": ["0", "1" * 30],
        "--warmup": ["-1", "1" * 30],
        "--input-size": ["0", "1000000"],
        "--batch-size": ["0", "1" * 30],
        "--limit": ["0", "1" * 30],
        "--build-repeats": ["0", "1" * 30],
        "--runtimes": ["", ",", "tensorflow", "torch:tpu", "\x1b[31mred\nnext"],
        "--precisions": ["", "fp8"],
        "--fail-on": ["", "latency:nan%", "latency:-1%", "speed:3%"],
        "--nonsense": ["1"],
    }.items(),
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_bad_value_is_one_line_and_exit_code_2(command, tmp_path: Path, name: str, values: list[str]) -> None:
    for value in values:
        code, told = command("compare", "absent.fake", name, value)
        assert (code, told.count("\n")) == (2, 1), told
        assert told.startswith("rtbench: ")
        assert name.lstrip("-").rstrip("s") in told
        assert told[:-1].isprintable()
        assert "absent.fake does not exist" not in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [*NAMED_FILES, *map(flag, PATHS), "--out", "--resume"])
def test_a_bad_path_is_one_line_and_exit_code_2(command, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "text").write_text("nothing that anything reads")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "latin").write_bytes(b'name = "\xe9"')
    (tmp_path / "model.fake").write_text("{}")
    model = "absent.fake" if name == "--reference" else "model.fake"  # which has no need of one
    given = ("--against", "folder") if name == "--against-python" else ()
    wrong = () if name in NOT_READ else ("latin", "folder", "folder/text/below")
    for path in ("x" * 5000, "loop", "loop/below", *wrong):
        code, told = command("compare", model, *given, name, path, "--precisions", "int8")
        assert (code, told.count("\n")) == (2, 1), (path, told)
        assert told.startswith("rtbench: ")
    code, told = command("compare", "model.fake", name, os.fsdecode(b"\xff"))
    assert (code, told) == (2, "rtbench: \\udcff is not UTF-8; rename it\n")


@pytest.mark.parametrize("words", [("report",), ("diff", "folder"), ("history",), ("gpu-check",), ("cache", "list")])
def test_so_it_is_of_the_commands_that_read(command, tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    before = "--cache-dir" if words[0] == "cache" else "--"
    for path in ("x" * 5000, "loop", os.fsdecode(b"\xff")):
        code, told = command(*words, before, path)
        assert (code, told.count("\n")) == (2, 1), (path, told)
        assert told.startswith("rtbench: ")


def test_no_arguments_are_answered_with_help(command) -> None:
    for words in ((), ("cache",)):
        code, told = command(*words)
        assert code == 2
        assert "Usage: rtbench" in told
        assert "Example: rtbench" in told
