"""Names out of files are shown as text: they move no cursor, end no line, and are no formula."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made_runs import bad_row, made_model, made_run, write_usual_run
from rich.console import Console, Group

from rtbench.compare.doctor import Finding
from rtbench.errors import visible_text
from rtbench.images.cache_entries import Entry
from rtbench.records.run import Run
from rtbench.report.cached import render_entries
from rtbench.report.changes import render_diff, render_diff_markdown
from rtbench.report.console import PLAIN
from rtbench.report.exported import render_exported
from rtbench.report.findings import render_findings
from rtbench.report.markdown import render_markdown
from rtbench.report.table import render_table
from rtbench.report.tidy_csv import render_csv
from rtbench.report.trends import render_history
from rtbench.review.diff import diff
from rtbench.review.gate import judge
from rtbench.review.history import history
from rtbench.review.sides import read_side
from rtbench.runs.result import read_run

NASTY = "\x1b[2J\x1b]0;owned\x07\n| forged | row |\r\x9b31m\u202eabc\u2028\x00[/red]:x:"


def nasty(data: Any) -> Any:
    """The same JSON with that at the end of every text that is free to be any."""
    words = {"precision", "status", "format", "interpolation", "preprocess", "colour_order", "verdict", "created"}
    words |= {"name", "path", "sha256", "framework"}  # which are checked to be what they say
    match data:
        case dict():
            return {key: each if key in words or key == "schema_version" else nasty(each) for key, each in data.items()}
        case list():
            return [nasty(each) for each in data]
        case str():
            return data + NASTY
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs in which every name is nasty."""
    folder = tmp_path_factory.mktemp("nasty")
    for day in (1, 2):
        path = folder / f"run-{day}\x1b[31m\n"
        write_usual_run(path, slower=day, created=f"2026-11-0{day}T12:00:00+00:00")
        result = path / "result.json"
        result.write_text(json.dumps(nasty(json.loads(result.read_text()))))
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return read_run(sorted(folder.iterdir())[0])


def renderings(folder: Path, run: Run) -> Iterator[tuple[str, str]]:
    before, after = (read_side(path) for path in sorted(folder.glob("run-*")))
    found = diff(before, after)
    gate = judge(found, {"latency": 0.05, "size": 0.0})
    artifacts = [row.artifact for row in run.rows if row.artifact]
    entry = Entry(Path(f"/x/{NASTY}"), NASTY, 3, NASTY, 5, 0.0, finished=True)
    shown: dict[str, Group | str | Any] = {
        "table": render_table(run),
        "markdown": render_markdown(run),
        "diff": render_diff(found, gate),
        "diff in Markdown": render_diff_markdown(found, gate),
        "history": render_history(history(folder)),
        "exported": render_exported(
            run.model, Path(NASTY), artifacts, {("onnx", "int8"): NASTY}, {("engine", "int8"): NASTY}
        ),
        "cached": render_entries([entry]),
        "findings": render_findings([Finding(NASTY, False, NASTY, NASTY)], run.environment),
    }
    for name, rendered in shown.items():
        yield name, rendered if isinstance(rendered, str) else wide(rendered)


def wide(rendered: Any) -> str:
    """As `plain_text` prints it, but no line is folded."""
    console = Console(width=100_000, color_system=None, **PLAIN)
    with console.capture() as capture:
        console.print(rendered)
    return capture.get()


def controls(text: str) -> set[str]:
    return {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp")} - {"\n"}


def test_no_rendering_has_control_characters_or_lines_of_a_name(folder: Path, run: Run) -> None:
    seen = dict(renderings(folder, run))
    assert len(seen) == 8
    for name, text in seen.items():
        assert controls(text) == set(), name
        assert "forged" in text, name
        assert not [line for line in text.splitlines() if line.startswith(("| forged", " forged", "forged"))], name
        assert "\\x1b" in text.replace("\\\\", "\\"), name


def test_csv_has_a_line_a_row_and_no_control_characters(run: Run) -> None:
    text = render_csv(run)
    assert controls(text) == set()
    assert len(text.splitlines()) == 1 + len(run.rows)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n="])
def test_no_cell_of_the_csv_is_a_formula(start: str) -> None:
    name = f"{start}HYPERLINK(1)"
    row = bad_row(f"{name}/ort/fp32", "failed", name, model=name).model_copy(update={"runtime": name, "provider": name})
    (line,) = csv.DictReader(io.StringIO(render_csv(made_run([row], [made_model("model")]))))
    texts = {line[column] for column in ("row", "model", "runtime", "provider", "reason")}
    assert {text[0] for text in texts} <= {"'", "\\"}
    assert {text.lstrip("'") for text in texts} == {visible_text(name), visible_text(f"{name}/ort/fp32")}


def test_numbers_of_the_csv_stay_numbers(tmp_path: Path) -> None:
    run = write_usual_run(tmp_path / "run")
    lines = {line["row"]: line for line in csv.DictReader(io.StringIO(render_csv(run)))}
    (lost,) = [row for row in run.rows if row.id == "ort/int8"]
    assert lost.accuracy
    assert lost.accuracy.difference
    assert lost.accuracy.difference.top1 < 0
    assert float(lines["ort/int8"]["top1_difference"]) == lost.accuracy.difference.top1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("résumé 模型 ½ “a” \\x", "résumé 模型 ½ “a” \\x"),
        ("\x1b[0m\x7f\x9b", "\\x1b[0m\\x7f\\x9b"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\u202e\u2066\u200b\ufeff", "\\u202e\\u2066\\u200b\\ufeff"),
        ("bytes \udcff", "bytes \\udcff"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_what_does_not_print_is_escaped(text: str, shown: str) -> None:
    assert visible_text(text) == shown
    assert visible_text(shown) == shown


def test_messages_and_progress_escape_names_too(rtbench: Callable[..., Any], terminal: Callable[..., str]) -> None:
    name = "absent\x1b[31m\nforged"
    for arguments in (["report", name], ["diff", name, name], ["history", name], ["compare", f"{name}.fake"]):
        done = rtbench(*arguments)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1, done.stderr
        assert re.search(r"absent\\x1b\[31m(\\n| )forged", done.stderr)
    assert "\x1b[31m" not in terminal("report", name)


def test_a_comparison_of_a_nasty_name_shows_it_as_text(
    rtbench: Callable[..., Any], terminal: Callable[..., str], tmp_path: Path, ten_classes: Path
) -> None:
    name = "=1\x1b[31m\n[b]"
    (tmp_path / f"{name}.fake").write_text("{}")
    done = rtbench("--verbose", "compare", f"{name}.fake", "--data", ten_classes, "--out", "run", "--runs", "20")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "\x1b" not in (tmp_path / "run" / "report.md").read_text()
    (line,) = csv.DictReader((tmp_path / "run" / "results.csv").read_text().splitlines())
    assert not line["model"].startswith("=")
    assert "\x1b[31m\n" not in terminal("report", "run")
