"""The page of `rtbench history` in headless Chromium: its trends are those of the runs."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("selenium")
from browser import assert_clean
from made_runs import write_usual_run

from rtbench.report.trends import render_history_page
from rtbench.review.history import history
from rtbench.runs.result import read_run


@pytest.fixture(scope="module")
def past(tmp_path_factory) -> Path:
    """Five runs of one model, the fourth and fifth a fifth slower; and one of another machine."""
    folder = tmp_path_factory.mktemp("past")
    for day, slower in enumerate((1.0, 1.001, 0.999, 1.2, 1.2), start=1):
        write_usual_run(folder / f"day-{day}", slower=slower, created=f"2026-11-{day:02}T12:00:00+00:00")
    other = write_usual_run(folder / "elsewhere", created="2026-11-03T13:00:00+00:00")
    environment = other.environment.model_copy(update={"cpu": "another CPU"})
    (folder / "elsewhere" / "result.json").write_text(
        other.model_copy(update={"environment": environment}).model_dump_json()
    )
    (folder / "history.html").write_text(render_history_page(history(folder)), encoding="utf-8")
    return folder


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_the_history_page_renders_from_the_file_alone(browser, past, width, scheme):
    page = past / "history.html"
    browser.open(page, width=width, scheme=scheme)
    assert_clean(browser, page)


def test_the_trends_are_those_of_the_runs_and_changes_are_marked(browser, past):
    browser.open(past / "history.html")
    # Rows in the order of the run: ort/int8 is the fourth.
    points = browser.run("return views['latency-0-3'].data('points').map((each) => [each.run, each.value, each.mark])")
    for run, value, _ in points:
        rows = {row.id: row for row in read_run(past / run).rows}
        assert value == rows["ort/int8"].latency.p50_ms
    assert {run: mark for run, _, mark in points if mark} == {"day-4": "worse"}
    assert len(points) == 6
    drawn = browser.run("return document.querySelectorAll('#latency-0-3 .points_marks path').length")
    assert drawn == 6


def test_the_table_of_runs_sorts(browser, past):
    browser.open(past / "history.html")
    heading = next(
        each
        for each in browser.driver.find_elements("css selector", "#runs thead button")
        if each.text.startswith("p50")
    )
    browser.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", heading)
    heading.click()
    shown = browser.run(
        "return [...document.querySelectorAll('#runs tbody tr')].map((row) => row.cells[4].dataset.value ?? null)"
    )
    measured = [float(value) for value in shown if value is not None]
    assert measured == sorted(measured)
    assert shown[len(measured) :] == [None] * (len(shown) - len(measured))
