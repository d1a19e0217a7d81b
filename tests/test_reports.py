"""Every format of a report against its golden file, rendered from a run directory that was written before."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from conftest import GOLDEN
from made_runs import made_row, made_run
from rich.console import Console

from rtbench.records.run import Run
from rtbench.report.evidence import Evidence, read_evidence
from rtbench.report.html import render_html
from rtbench.report.markdown import render_markdown
from rtbench.report.table import render_table
from rtbench.report.tidy_csv import render_csv
from rtbench.runs.result import read_run
from rtbench.scores.answer import describe, pareto_front
from rtbench.scores.recommendation import recommendation

RUN = GOLDEN / "run"


@pytest.fixture(scope="module")
def run() -> Run:
    """As an earlier version wrote it (`made_runs.write_usual_run`): records have grown fields since."""
    return read_run(RUN)


def printed(renderable: object, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(renderable)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


@pytest.mark.parametrize("width", [80, 160])
def test_table(run, golden, width):
    text = printed(render_table(run), width)
    assert max(map(len, text.splitlines())) <= width
    golden(f"report-{width}.txt", text)


def test_markdown(run, golden):
    golden("report.md", render_markdown(run))


def test_csv(run, golden):
    golden("report.csv", render_csv(run))


def test_json(run, golden):
    golden("report.json", run.model_dump_json(indent=2) + "\n")


def test_html_without_the_charts(run, golden):
    """The charts are compared in a browser; the library is the installed one's."""
    page = render_html(run, read_evidence(RUN, run))
    page = re.sub(r"<script.*?</script>", "<script></script>", page, flags=re.DOTALL)
    golden("report.html", re.sub(r"<style>.*?</style>", "<style></style>", page, flags=re.DOTALL))


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "json", "html"])
@pytest.mark.parametrize("written", [GOLDEN / "run", GOLDEN / "first-result.json"], ids=["a run", "the first schema"])
def test_the_command_renders_every_format_to_stdout_and_to_a_file(rtbench, tmp_path, form, written):
    shown = rtbench("report", written, "--format", form)
    assert shown.returncode == 0, shown.stderr
    kept = rtbench("report", written, "--format", form, "--output", tmp_path / "report")
    assert kept.returncode == 0, kept.stderr
    assert kept.stdout == ""
    assert (tmp_path / "report").read_text(encoding="utf-8") == shown.stdout
    assert "\x1b" not in shown.stdout
    for row in read_run(written).rows:
        assert row.id in shown.stdout.replace("&lt;", "<").replace("&gt;", ">").replace("&#34;", '"').replace(
            "&amp;", "&"
        ).replace('\\"', '"').replace('""', '"')


def test_csv_is_one_row_a_row_with_figures_in_full(run):
    lines = list(csv.DictReader(io.StringIO(render_csv(run))))
    assert [line["row"] for line in lines] == [row.id for row in run.rows]
    for line, row in zip(lines, run.rows, strict=True):
        if row.latency and row.scores and row.scores.speedup_ci95:
            assert float(line["mean_ms"]) == row.latency.mean_ms
            assert float(line["speedup_ci95_high"]) == row.scores.speedup_ci95[1]
        if not row.latency:
            assert line["mean_ms"] == ""
            assert line["reason"] == row.reason


def test_a_newer_schema_is_refused_in_a_sentence(rtbench, tmp_path):
    result = json.loads((RUN / "result.json").read_text())
    (tmp_path / "result.json").write_text(json.dumps(result | {"schema_version": 99, "colour": "red"}))
    done = rtbench("report", tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "schema version 99" in done.stderr


def test_markdown_tables_have_one_cell_for_each_header(run):
    table = [line for line in render_markdown(run).splitlines() if line.startswith("|")]
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in table]
    assert set(cells[: 2 + len(run.rows)]) == {cells[0]}


def test_markdown_escapes_what_a_name_may_hold(run):
    name = "a|b <i>*`torch/fp32#2` [x](http://e.vil)\nnext"
    rows = [run.rows[0].model_copy(update={"id": f"{name}/ort/fp32"})]
    text = render_markdown(
        run.model_copy(update={"rows": rows, "models": [run.model.model_copy(update={"name": name})]})
    )
    row = next(line for line in text.splitlines() if "e.vil" in line and line.startswith("|"))
    assert (
        row.removeprefix("| **ship** ")
        .removeprefix("| ")
        .startswith("`` a\\|b <i>*`torch/fp32#2` [x](http://e.vil)\\nnext/ort/fp32 `` |")
    )
    heading = text.splitlines()[0]
    assert heading == r"### rtbench: a\|b &lt;i>\*\`torch/fp32#<!-- -->2\` \[x\](http://e.vil)\\nnext"


def test_the_front_is_what_no_row_beats_in_both(run):
    assert [row.id for row in pareto_front(run)] == ["ort/int8", "ort/fp32"]


def test_every_format_gives_the_same_answer_and_marks_the_row(run):
    rows = {row.id: row for row in run.rows}
    fidelity = rows["ort/fp32"].fidelity.model_copy(update={"relative_error": 1e-6})
    same = rows["ort/fp32"].model_copy(update={"fidelity": fidelity})
    shipping = run.model_copy(update={"rows": [rows["torch/fp32"], same]})
    found = recommendation(shipping)
    assert found.row == "ort/fp32"
    assert found.reason in " ".join(printed(render_table(shipping), 400).split())
    assert "> ort/fp32" in printed(render_table(shipping), 160)
    assert found.reason.replace("[", "\\[").replace("]", "\\]") in render_markdown(shipping)
    assert "| **ship** `ort/fp32` |" in render_markdown(shipping)
    page = render_html(shipping, Evidence())
    assert found.reason in page
    assert '<tr class="ok shipped" data-row="ort/fp32">' in page


def test_random_weights_say_nothing_of_accuracy(run):
    model = run.model.model_copy(update={"random_weights": True})
    changed = run.model_copy(update={"models": [model]})
    assert "random weights say nothing of accuracy" in recommendation(changed).reason
    assert 'id="stages"' not in render_html(changed, Evidence())


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.25, "a quarter of the size"),
        (0.5, "half the size"),
        (1.0, "the same size"),
        (0.8, "80 % of the size"),
        (2.5, "2.5x the size"),
    ],
)
def test_sizes_are_said_in_words(share, words):
    torch, small = made_row("torch/fp32", 20, []), made_row("ort/int8", 6, [])
    size = round(share * torch.artifact.size_bytes)
    small = small.model_copy(update={"artifact": small.artifact.model_copy(update={"size_bytes": size})})
    assert words in describe(made_run([torch, small]), small)


def test_output_that_cannot_be_written_is_told(rtbench, tmp_path):
    (tmp_path / "file").write_text("mine")
    done = rtbench("report", RUN, "--output", tmp_path / "file" / "report.md")
    assert done.returncode == 2
    assert "choose another --output" in done.stderr
    assert (tmp_path / "file").read_text() == "mine"


def test_terminal_output_is_plain_where_there_is_no_terminal_or_no_colour(rtbench, terminal):
    red = "\x1b[31m"
    assert red in terminal("report", RUN)
    assert red not in terminal("report", RUN, NO_COLOR="1")
    plain = terminal("report", RUN, TERM="dumb")
    assert "\x1b" not in plain
    assert max(map(len, plain.splitlines())) <= 80
    assert "\x1b" not in rtbench("report", RUN).stdout


def test_a_row_whose_convolutions_ran_elsewhere_is_red(run):
    row = run.rows[0].model_copy(
        update={
            "status": "ok",
            "provider": "CUDAExecutionProvider (onnxruntime 1.31.1)",
            "placement": {"CUDAExecutionProvider": {"Relu": 17}, "CPUExecutionProvider": {"Conv": 20, "Shape": 3}},
        }
    )
    at_home = row.model_copy(update={"id": "home", "placement": {"CUDAExecutionProvider": {"Conv": 20}}})
    console = Console(width=160, color_system="standard", force_terminal=True)
    with console.capture() as capture:
        console.print(render_table(run.model_copy(update={"rows": [row, at_home]})))
    red = [line for line in capture.get().splitlines() if "\x1b[31m" in line]
    assert len(red) == 1
    assert row.id in red[0]
