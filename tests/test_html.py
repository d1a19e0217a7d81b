"""The HTML pages in headless Chromium: nothing but the file is needed, and what is drawn is what was measured."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("selenium")
import browser as browsing
from made_runs import (
    bad_row,
    made_answers,
    made_blocks,
    made_model,
    made_row,
    made_run,
    scored,
    seed,
    write_run,
    write_usual_run,
)
from selenium.webdriver.common.keys import Keys

from rtbench.records.run import Run
from rtbench.report.evidence import read_evidence
from rtbench.report.html import render_html
from rtbench.report.trends import render_history_page
from rtbench.review.history import history
from rtbench.runs.result import read_run

MARKUP = '<img src="x" onerror="window.attacked=1">'
SCRIPT = "</script><script>window.attacked=1</script>"

# Of each drawn point: its row, and what its place on the page says by the chart's scales.
DRAWN = """
const view = views[arguments[0]];
return [...document.querySelectorAll(`#${CSS.escape(arguments[0])} .${arguments[1]}_marks path`)].map((path) => {
  const place = path.transform.baseVal[0].matrix;
  return [path.__data__.datum.row, view.scale("x").invert(place.e), place.f, path.__data__.size];
});
"""


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    if not (browsing.CHROMIUM and browsing.DRIVER):
        pytest.skip("no chromium and chromedriver; on Debian: apt-get install chromium chromium-driver")
    started = browsing.Browser(tmp_path_factory.mktemp("chromium"))
    yield started
    started.close()


def write_page(folder: Path) -> Path:
    run = read_run(folder)
    page = folder / "report.html"
    page.write_text(render_html(run, read_evidence(folder, run)), encoding="utf-8")
    return page


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> tuple[Path, Run]:
    folder = tmp_path_factory.mktemp("usual") / "run"
    run = write_usual_run(folder)
    write_page(folder)
    return folder, run


def assert_clean(browser, page: Path) -> None:
    """Nothing on the console, nothing asked for but the page, nothing wider than the screen, nothing attacked."""
    assert browser.console() == []
    assert [url for url in browser.requests() if not url.startswith("data:")] == [page.resolve().as_uri()]
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.run("return window.attacked") is None
    empty = "return [...document.querySelectorAll('.chart')].filter((each) => !each.querySelector('svg')).length"
    assert browser.run(empty) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_renders_from_the_file_alone(browser, usual, width, scheme):
    page = usual[0] / "report.html"
    browser.open(page, width=width, scheme=scheme)
    assert_clean(browser, page)
    headings = browser.run("return [...document.querySelectorAll('h2')].map((each) => each.textContent)")
    assert headings == [
        "Scores",
        "What it costs",
        "Latency",
        "Scores against the baseline",
        "Where accuracy went",
        "Flipped images",
        "Artifacts",
        "Environment",
        "How each figure was measured",
        "How to reproduce it",
    ]
    assert page.stat().st_size < 1_500_000


def test_the_answer_stands_on_top(browser, usual):
    browser.open(usual[0] / "report.html")
    assert browser.run("return document.querySelector('.answer').textContent").startswith(
        "Ship ort/int8: 3.3x faster than torch/fp32, accuracy -0.5 points [-1.6, +0.6], a quarter of the size;"
    )
    assert "a quarter of the size; on the Pareto front." in browser.run(
        "return document.querySelector('.answer').textContent"
    )


def shown_rows(browser) -> list[str]:
    return browser.run("return [...document.querySelectorAll('#scores tbody tr')].map((row) => row.dataset.row)")


def test_the_table_sorts_by_mouse_and_by_keyboard(browser, usual):
    folder, run = usual
    browser.open(folder / "report.html")
    assert shown_rows(browser) == [row.id for row in run.rows]
    measured = sorted((row for row in run.rows if row.latency), key=lambda row: row.latency.mean_ms)
    bad = [row.id for row in run.rows if not row.latency]
    headings = browser.driver.find_elements("css selector", "#scores thead button")
    mean = next(each for each in headings if each.text.startswith("mean ms"))
    mean.click()
    assert shown_rows(browser) == [*(row.id for row in measured), *bad]
    assert mean.find_element("xpath", "..").get_attribute("aria-sort") == "ascending"
    mean.send_keys(Keys.ENTER)
    assert shown_rows(browser) == [*(row.id for row in reversed(measured)), *bad]
    assert mean.find_element("xpath", "..").get_attribute("aria-sort") == "descending"
    headings[0].send_keys(Keys.SPACE)
    by_name = ["ort:cuda/int8", "ort/fp16", "ort/fp32", "ort/int8", "torch/fp32", "trt/fp16", "trt/int8"]
    assert shown_rows(browser) == by_name
    assert mean.find_element("xpath", "..").get_attribute("aria-sort") == "none"


def test_every_cell_of_the_table_is_a_figure_of_result_json(browser, usual):
    folder, _ = usual
    browser.open(folder / "report.html")
    result = json.loads((folder / "result.json").read_text())
    script = """
    const names = [...document.querySelectorAll('#scores thead th')].map((each) => each.textContent);
    return [...document.querySelectorAll('#scores tbody tr')].map((row) => Object.fromEntries(
        [...row.cells].map((cell, index) => [names[index], cell.firstChild?.textContent.trim()])));
    """
    shown = browser.run(script)
    for row, cells in zip(result["rows"], shown, strict=True):
        if not row["latency"]:
            continue
        assert float(cells["mean ms"]) == pytest.approx(row["latency"]["mean_ms"], rel=1e-3)
        assert float(cells["p50"]) == pytest.approx(row["latency"]["p50_ms"], rel=1e-3)
        assert float(cells["top-1 %"]) == pytest.approx(100 * row["accuracy"]["top1"], abs=0.005)
        assert float(cells["MiB"]) == pytest.approx(row["artifact"]["size_bytes"] / 2**20, abs=0.005)
        assert float(cells["vs torch"]) == pytest.approx(row["scores"]["speedup_vs_torch"], abs=0.005)


@pytest.mark.parametrize("width", [1280, 400])
def test_the_points_of_the_front_are_drawn_where_result_json_says(browser, usual, width):
    folder, _ = usual
    browser.open(folder / "report.html", width=width)
    drawn = {row: rest for row, *rest in browser.run(DRAWN, "front", "points")}
    rows = [row for row in json.loads((folder / "result.json").read_text())["rows"] if row["latency"]]
    assert drawn.keys() == {row["id"] for row in rows}
    areas = {row["id"]: drawn[row["id"]][2] / row["artifact"]["size_bytes"] for row in rows}
    for row in rows:
        mean, y, _ = drawn[row["id"]]
        assert mean == pytest.approx(row["latency"]["mean_ms"], rel=1e-6)
        top1 = browser.run("return views.front.scale('y').invert(arguments[0])", y)
        assert top1 == pytest.approx(100 * row["accuracy"]["top1"], rel=1e-6)
        assert areas[row["id"]] == pytest.approx(areas["torch/fp32"])
    line = browser.run("return views.front.data('front').map((each) => [each.mean_ms, each.worth])")
    by_latency = sorted(rows, key=lambda row: row["latency"]["mean_ms"])
    front = [
        row
        for index, row in enumerate(by_latency)
        if all(other["accuracy"]["top1"] < row["accuracy"]["top1"] for other in by_latency[:index])
    ]
    assert line[1:-1] == [[row["latency"]["mean_ms"], 100 * row["accuracy"]["top1"]] for row in front]


@pytest.mark.parametrize("score", ["size", "latency", "accuracy"])
def test_the_bars_are_as_long_as_the_scores(browser, usual, score):
    folder, _ = usual
    browser.open(folder / "report.html")
    script = """
    const view = views[arguments[0]];
    return [...document.querySelectorAll(`#${arguments[0]} .bars_marks path`)].map((path) => {
      const box = path.getBBox();
      return [path.__data__.datum.row, view.scale("x").invert(box.x), view.scale("x").invert(box.x + box.width)];
    });
    """
    drawn = {row: (low, high) for row, low, high in browser.run(script, f"score-{score}")}
    for row in json.loads((folder / "result.json").read_text())["rows"]:
        if row["scores"]:
            low, high = drawn[row["id"]]
            assert low == pytest.approx(0, abs=1e-6)
            assert high == pytest.approx(row["scores"][score], rel=1e-4)


def test_distributions_and_drift_are_those_of_the_samples(browser, usual):
    folder, run = usual
    browser.open(folder / "report.html")
    with (folder / "samples.csv").open(newline="") as file:
        samples = list(csv.DictReader(file))
    first = min(int(each["start_ns"]) for each in samples)
    means = {row: mean for row, mean, *_ in browser.run(DRAWN, "quantiles", "points")}
    for index, row in enumerate(run.rows):
        own = [each for each in samples if each["row"] == row.id]
        if not own:
            continue
        milliseconds = np.array([int(each["duration_ns"]) / 1e6 for each in own])
        assert means[row.id] == pytest.approx(milliseconds.mean(), rel=1e-6)
        bins = browser.run(f"return views['histogram-{index}'].data('bins').map((each) => each.runs)")
        assert sum(bins) == len(own)
        drawn = browser.run(f"return views['time-{index}'].data('samples').map((each) => [each.second, each.ms])")
        seconds = {round((int(each["start_ns"]) - first) / 1e9, 3): int(each["duration_ns"]) / 1e6 for each in own}
        assert all(seconds[second] == ms for second, ms in drawn)
        medians = browser.run(f"return views['time-{index}'].data('medians').map((each) => each.median_ms)")
        rounds = [
            np.median([int(each["duration_ns"]) for each in group]) / 1e6
            for _, group in itertools.groupby(own, key=lambda each: each["round"])
        ]
        assert medians == pytest.approx(rounds)


def test_flips_are_counted_from_the_predictions(browser, usual):
    folder, _ = usual
    browser.open(folder / "report.html")
    caption = browser.run("return document.querySelector('[aria-labelledby=h-flips] figcaption').textContent")
    assert "ort/int8" in caption
    assert "3 lost, 1 gained, 0 wrong in another way; 1 class" in caption
    line = "[...document.querySelector('[aria-labelledby=h-flips] tbody tr').cells].map((cell) => cell.textContent)"
    assert browser.run(f"return {line}") == ["0", "40", "3", "1", "0"]


def test_bad_rows_keep_their_reasons_and_unstable_ones_their_flag(browser, usual):
    browser.open(usual[0] / "report.html")
    text = "return document.querySelector(`#scores tr[data-row='${arguments[0]}']`).innerText"
    assert "no NVIDIA driver; install one" in browser.run(text, "trt/fp16")
    assert "engine: exploded | <script>alert(1)</script>" in browser.run(text, "trt/int8")
    assert "NaN or infinity" in browser.run(text, "ort:cuda/int8")
    assert "unstable" in browser.run(text, "ort/fp16")
    assert "unstable" not in browser.run(text, "ort/int8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser, usual, scheme):
    """WCAG 2's contrast of at least 4.5 for every colour that text has."""
    browser.open(usual[0] / "report.html", scheme=scheme)

    def luminance(name: str) -> float:
        colour = browser.run("return getComputedStyle(document.documentElement).getPropertyValue(arguments[0])", name)
        parts = [int(colour.strip()[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    for ground in ("--paper", "--card", "--ship"):
        for ink in ("--ink", "--muted", "--good", "--warn", "--bad"):
            bright, dark = sorted((luminance(ground), luminance(ink)), reverse=True)
            assert (bright + 0.05) / (dark + 0.05) >= 4.5, (ground, ink)


def test_charts_say_in_words_what_they_show(browser, usual):
    folder, run = usual
    browser.open(folder / "report.html")
    labels = browser.run("return [...document.querySelectorAll('.chart')].map((each) => each.ariaLabel)")
    assert len(labels) == len(set(labels)) > 10
    points = browser.run(
        "return [...document.querySelectorAll('#front .points_marks path')].map((each) => each.ariaLabel)"
    )
    for row in run.rows:
        if row.latency:
            assert any(row.id in label and f"{row.latency.mean_ms:.4g}" in label for label in points), points
    unnamed = "return [...document.querySelectorAll('button, a, summary')].filter((each) => !each.textContent).length"
    assert browser.run(unnamed) == 0


def test_printing_draws_charts_that_were_never_on_the_screen(browser, usual):
    browser.emulate(width=1280, scheme="light")
    browser.driver.get((usual[0] / "report.html").resolve().as_uri())
    undrawn = "return [...document.querySelectorAll('.chart')].filter((each) => !each.querySelector('svg')).length"
    assert browser.run(undrawn) > 0
    browser.run("window.dispatchEvent(new Event('beforeprint'))")
    browser.driver.execute_async_script("const done = arguments[0]; drawAll().then(() => setTimeout(done, 50));")
    assert browser.run(undrawn) == 0


def test_one_row(browser, tmp_path):
    blocks = {"ort/int8": made_blocks("ort/int8", 0, 6.0, seed("ort/int8"))}
    rows, _ = scored([made_row("ort/int8", 6.0, range(0, 400, 8))], blocks)
    write_run(tmp_path / "run", made_run(rows), blocks, {"ort/int8": made_answers(range(0, 400, 8))})
    page = write_page(tmp_path / "run")
    browser.open(page)
    assert_clean(browser, page)
    assert browser.run("return document.querySelector('.answer').textContent").startswith("ort/int8, the only row: ")
    assert len(browser.run(DRAWN, "front", "points")) == 1


def test_sixty_rows(browser, tmp_path):
    names = [
        f"model-{number}/{runtime}/{precision}"
        for number in range(5)
        for runtime in ("torch", "ort", "trt", "openvino")
        for precision in ("fp32", "fp16", "int8")
    ]
    blocks = {row: made_blocks(row, turn, 2.0 + turn, seed(row)) for turn, row in enumerate(names)}
    rows = [
        made_row(row, 2.0 + turn, range(0, 400, 8 + turn % 3), model=row.split("/")[0])
        for turn, row in enumerate(names)
    ]
    models = [made_model(f"model-{number}") for number in range(5)]
    found, _ = scored(rows, blocks)
    write_run(tmp_path / "run", made_run(found, models), blocks, {})
    page = write_page(tmp_path / "run")
    assert page.stat().st_size < 5_000_000
    browser.open(page, width=400)
    assert_clean(browser, page)
    assert len(shown_rows(browser)) == len(browser.run(DRAWN, "front", "points")) == 60


def test_names_and_reasons_are_text_and_never_markup(browser, tmp_path):
    name = MARKUP + SCRIPT
    row, torch = f"{name}/ort/int8", f"{name}/torch/fp32"
    blocks = {each: made_blocks(each, 0, 6.0, seed(each)) for each in (row, torch)}
    answers = {torch: made_answers([]), row: made_answers([1, 2])}
    rows = [
        made_row(torch, 6.0, [], model=name),
        made_row(row, 6.0, [1, 2], model=name).model_copy(update={"warnings": [name]}),
        bad_row(f"{name}/trt/fp16", "failed", name, model=name),
    ]
    found, _ = scored(rows, blocks)
    run = made_run(found, [made_model(name)], command=["rtbench", "compare", name])
    write_run(tmp_path / "run", run, blocks, answers)
    page = write_page(tmp_path / "run")
    browser.open(page)
    assert_clean(browser, page)
    assert browser.run("return document.querySelector('h1').textContent") == name
    assert browser.run("return document.images.length") == 0
    assert browser.run("return document.title") == f"rtbench: {name}"
    point = browser.driver.find_elements("css selector", "#front .points_marks path")[0]
    browser.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    webdriver_move(browser, point)
    assert name in browser.run("return document.querySelector('#vg-tooltip-element').textContent")
    assert_clean_after_tooltip(browser)


def webdriver_move(browser, element) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(browser.driver).move_to_element(element).perform()


def assert_clean_after_tooltip(browser) -> None:
    assert browser.run("return window.attacked") is None
    assert browser.console() == []


def test_a_run_killed_half_way(browser, tmp_path):
    """Two rows were timed for some rounds, the last line is cut, and no figures were put into the record yet."""
    names = ("torch/fp32", "ort/int8")
    blocks = {row: made_blocks(row, 0, 6.0, seed(row))[:3] for row in names}
    rows = [made_row(row, 6.0, []).model_copy(update={"latency": None}) for row in names]
    run = made_run([*rows, bad_row("ort/fp16", "ok", None)], complete=False)
    write_run(tmp_path / "run", run, blocks, {names[0]: made_answers([])})
    samples = tmp_path / "run" / "samples.csv"
    samples.write_text(samples.read_text()[:-9])
    page = write_page(tmp_path / "run")
    browser.open(page)
    assert_clean(browser, page)
    body = browser.run("return document.body.innerText")
    assert "interrupted" in body
    assert "Nothing to ship: no row's latency was measured." in body


def test_a_result_json_alone_is_enough(browser, usual, tmp_path):
    (tmp_path / "result.json").write_bytes((usual[0] / "result.json").read_bytes())
    page = write_page(tmp_path)
    browser.open(page)
    assert_clean(browser, page)
    assert len(browser.run(DRAWN, "front", "points")) == 4


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
