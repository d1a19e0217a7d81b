"""Budgets: what is exceeded, what decides, what could not be judged, and how it is told."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from made_runs import (
    SLOWER,
    made_answers,
    made_blocks,
    made_row,
    made_run,
    rewrite,
    seed,
    write_run,
    write_usual_run,
)
from rich.console import Console

from rtbench.errors import UsageError
from rtbench.report.changes import gate_lines, render_diff, render_diff_json, render_diff_markdown
from rtbench.review.diff import Change, Diff, RowChange, diff
from rtbench.review.gate import Gate, judge, parse_budgets
from rtbench.review.sides import read_side
from rtbench.runs.result import read_run


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    write_usual_run(tmp_path / "before")
    write_usual_run(tmp_path / "after", slower=SLOWER)
    return tmp_path / "before", tmp_path / "after"


NONE = Change(before=None, after=None, verdict="not comparable", reason="another day")


def change(centre: float, low: float, high: float) -> Change:
    return Change(before=1.0, after=1 + centre, change=centre, ci95=(low, high), verdict="no difference shown")


def found(**rows: dict[str, Change]) -> Diff:
    changes = [
        RowChange.model_validate({"id": row, "latency": NONE, "accuracy": NONE, "size": NONE} | figures)
        for row, figures in rows.items()
    ]
    return Diff(before="before", after="after", side_by_side=False, rows=changes, notes=[])


def text_of(shown: object, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(shown)
    return capture.get()


def test_a_budget_is_exceeded_where_all_of_the_interval_is_worse():
    diffs = found(
        within={"latency": change(0.04, 0.01, 0.07)},
        nearly={"latency": change(0.2, 0.05, 0.4)},
        beyond={"latency": change(0.06, 0.051, 0.07)},
        faster={"latency": change(-0.3, -0.4, -0.2)},
    )
    gate = judge(diffs, {"latency": 0.05})
    assert {each.row: each.outcome for each in gate.decisions} == {
        "within": "within",
        "nearly": "within",
        "beyond": "exceeded",
        "faster": "within",
    }
    assert gate.verdict == "FAIL"
    assert gate_lines(gate) == ["FAIL latency:5%: beyond +6.0 % [+5.1, +7.0], worse by at least 5.1 %"]
    assert judge(diffs, {"latency": 0.06}).verdict == "PASS"
    assert gate_lines(judge(diffs, {"latency": 0.06})) == [
        "PASS latency:6%: nearest is beyond, +6.0 % [+5.1, +7.0]",
    ]


def test_the_row_that_decides_is_the_furthest_over_its_budget():
    diffs = found(
        near={"latency": change(0.06, 0.04, 0.08)},
        beyond={"latency": change(0.2, 0.1, 0.3)},
        over={"latency": change(0.1, 0.06, 0.2)},
    )
    assert judge(diffs, {"latency": 0.05}).deciding("latency").row == "beyond"


def test_accuracy_is_worse_downwards():
    diffs = found(
        better={"accuracy": change(0.02, 0.01, 0.03)},
        worse={"accuracy": change(-0.02, -0.03, -0.006)},
    )
    gate = judge(diffs, {"accuracy": 0.005})
    assert [each.outcome for each in gate.decisions] == ["within", "exceeded"]
    assert gate_lines(gate) == ["FAIL accuracy:0.5pp: worse -2.0 pp [-3.0, -0.6], worse by at least 0.6 pp"]
    assert gate_lines(judge(diffs, {"accuracy": 0.01}))[0].startswith("PASS accuracy:1pp: nearest is worse, -2.0 pp")


def test_every_budget_has_its_own_line_and_size_no_interval():
    diffs = found(
        one={"latency": change(0.5, 0.4, 0.6), "accuracy": change(0.0, -0.01, 0.01), "size": change(0.02, 0.02, 0.02)}
    )
    gate = judge(diffs, parse_budgets("latency:5%,accuracy:0.5pp,size:1%"))
    assert gate_lines(gate) == [
        "FAIL latency:5%: one +50.0 % [+40.0, +60.0], worse by at least 40.0 %",
        "PASS accuracy:0.5pp: nearest is one, +0.0 pp [-1.0, +1.0]",
        "FAIL size:1%: one +2.0 %, worse by at least 2.0 %",
    ]


def test_what_cannot_be_judged_is_told_and_fails_when_strict():
    diffs = found(well={"latency": change(0, -0.01, 0.01), "size": change(0, 0, 0)}, bad={})
    usual, strict = (judge(diffs, {"latency": 0.05, "size": 0.0}, strict=each) for each in (False, True))
    assert (usual.verdict, strict.verdict) == ("PASS", "FAIL")
    assert [each.row for each in usual.unjudged] == ["bad", "bad"]
    assert gate_lines(usual)[-1] == "not judged bad: latency, size: another day"
    assert gate_lines(strict)[-1] == "FAIL bad: latency, size: another day"
    assert gate_lines(usual)[:-1] == gate_lines(strict)[:-1]


def test_where_nothing_can_be_judged_there_is_no_nearest():
    gate = judge(found(bad={}), {"latency": 0.05})
    assert (gate.verdict, gate.deciding("latency")) == ("PASS", None)
    assert gate_lines(gate) == ["not judged bad: latency: another day"]


@pytest.mark.parametrize("after", ["failed", "gone", "other machine", "disturbed"])
def test_strict_fails_where_a_row_was_there_and_cannot_be_judged(runs, rtbench, after):
    before = read_run(runs[0])
    rows = {row.id: row for row in before.rows if row.status == "ok"}
    rewrite(runs[0], rows=list(rows.values()))
    write = {"rows": list(rows.values())}
    if after == "failed":
        rows["ort/int8"] = rows["ort/int8"].model_copy(update={"status": "failed", "reason": "x", "latency": None})
        write["rows"] = list(rows.values())
    elif after == "gone":
        del rows["ort/int8"]
        write["rows"] = list(rows.values())
    elif after == "disturbed":
        latency = rows["ort/int8"].latency.model_copy(update={"disturbed": "others kept 1.3 cores busy"})
        rows["ort/int8"] = rows["ort/int8"].model_copy(update={"latency": latency})
        write["rows"] = list(rows.values())
    else:
        write["environment"] = before.environment.model_copy(update={"threads": 1})
    rewrite(runs[1], **write)
    usual, strict = (rtbench("diff", *runs, "--fail-on", "latency:50%", *each) for each in ((), ("--strict",)))
    assert (usual.returncode, strict.returncode) == (0, 1)
    assert "Gate: PASS" in usual.stdout
    assert "Gate: FAIL" in strict.stdout
    assert re.search(r"^not judged ort/int8: latency: ", usual.stdout, re.MULTILINE)
    assert re.search(r"^FAIL ort/int8: latency: ", strict.stdout, re.MULTILINE)
    assert rtbench("diff", *runs, "--strict").returncode == 0  # there is no budget


def test_the_number_that_decides_is_the_one_that_the_table_shows(runs):
    """To the digit, for every row and figure, in the terminal, in Markdown and in JSON."""
    blocks = {"ort/int8": made_blocks("ort/int8", 0, 7.5, seed("ort/int8"))}
    worse = made_run([made_row("ort/int8", 7.5, range(120))])
    write_run(runs[0].parent / "worse", worse, blocks, {"ort/int8": made_answers(range(120))})
    diffs = diff(read_side(runs[0]), read_side(runs[0].parent / "worse"))
    gate = judge(diffs, parse_budgets("latency:5%,accuracy:0.5pp"))
    table = text_of(render_diff(diffs, gate))
    markdown = render_diff_markdown(diffs, gate)
    written = json.loads(render_diff_json(diffs, gate))
    for figure, sign, end in (("latency", 1, 0), ("accuracy", -1, 1)):
        (shown,) = re.findall(rf"^ +{figure} .*\[(.*)\]", table, re.MULTILINE)
        (decided,) = re.findall(rf"^FAIL {figure}.*worse by at least (\S+) ", table, re.MULTILINE)
        assert sign * float(shown.split(", ")[end]) == float(decided) > 0
        assert f"- FAIL {figure}" in markdown
        assert f"\\[{shown}\\], worse by at least {decided} " in markdown
        (decision,) = (
            each for each in written["gate"]["decisions"] if (each["figure"], each["row"]) == (figure, "ort/int8")
        )
        row = next(each for each in written["rows"] if each["id"] == "ort/int8")
        assert decision["ci95"] == row[figure]["ci95"]
        assert f"{100 * sign * decision['ci95'][end]:.1f}" == decided


def test_the_json_has_the_whole_gate_and_the_markdown_its_lines(rtbench, runs, tmp_path):
    budgets = ("--fail-on", "latency:5%,size:1%")
    done = rtbench("diff", *runs, *budgets, "--format", "json")
    gate = Gate.model_validate(json.loads(done.stdout)["gate"])
    assert gate == judge(diff(read_side(runs[0]), read_side(runs[1])), {"latency": 0.05, "size": 0.01})
    assert (done.returncode, gate.verdict, gate.strict) == (1, "FAIL", False)
    page = rtbench("diff", *runs, *budgets, "--format", "markdown", "--output", tmp_path / "diff.md")
    text = (tmp_path / "diff.md").read_text()
    assert page.returncode == 1
    assert "**Gate: FAIL**" in text
    assert "- FAIL latency:5%: ort/int8 +25.0 % " in text
    assert "Gate: FAIL" in page.stdout  # said beside a file too
    assert "latency:5%" in page.stdout


def test_the_command_is_a_gate(rtbench, runs):
    tripped = rtbench("diff", *runs, "--fail-on", "latency:5%,accuracy:0.5pp,size:1%")
    assert (tripped.returncode, tripped.stderr) == (1, "")
    assert "Gate: FAIL\nFAIL latency:5%: torch/fp32 +25.0 % [" in tripped.stdout
    assert "PASS size:1%: nearest is torch/fp32, +0.0 %" in tripped.stdout
    plain = rtbench("diff", *runs)
    assert plain.returncode == 0
    assert "Gate" not in plain.stdout
    passed = rtbench("diff", *runs, "--fail-on", "latency:20%")
    assert passed.returncode == 0
    assert "Gate: PASS" in passed.stdout
    wrong = rtbench("diff", *runs, "--fail-on", "latency:5")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert rtbench("diff", runs[0], runs[0].parent / "missing").returncode == 2


@pytest.mark.parametrize(
    "text", ["latency", "latency:5", "latency:5pp", "accuracy:0.5%", "speed:5%", "latency:-1%", "latency:nan%", "", ","]
)
def test_budgets_that_are_none_are_told(text):
    with pytest.raises(UsageError, match="is not a budget"):
        parse_budgets(text)


def test_a_budget_of_nothing_and_a_fraction_of_a_percent():
    assert parse_budgets("size:0%") == {"size": 0.0}
    assert parse_budgets("latency:150%") == {"latency": 1.5}
    for text in ("size:inf%", "size:-0.001%", "size:5%,size", "latency:%"):
        with pytest.raises(UsageError, match="is not a budget"):
            parse_budgets(text)


def test_a_row_is_worse_by_the_better_end_of_its_interval_and_by_nothing_where_there_is_none():
    gate = judge(
        found(one={"latency": change(0.5, 0.4, 0.6), "accuracy": change(-0.3, -0.4, -0.2)}),
        {"latency": 1, "accuracy": 1, "size": 1},
    )
    assert [each.worse_by for each in gate.decisions] == [0.4, 0.2, 0.0]
    assert [each.outcome for each in gate.decisions] == ["within", "within", "not judged"]


def test_budgets():
    assert parse_budgets("latency:5%, accuracy:0.5pp,size:1%") == {"latency": 0.05, "accuracy": 0.005, "size": 0.01}
