"""The usual HTML page in headless Chromium: nothing but the file is needed, and what is drawn is what was measured."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("selenium")
from browser import DRAWN, assert_clean, shown_rows
from made_runs import write_page, write_usual_run
from selenium.webdriver.common.keys import Keys

from rtbench.records.run import Run
from rtbench.scores.recommendation import recommendation


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> tuple[Path, Run]:
    folder = tmp_path_factory.mktemp("usual") / "run"
    run = write_usual_run(folder)
    write_page(folder)
    return folder, run


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
        "Accuracy by conversion stage",
        "Flipped images",
        "Artifacts",
        "Environment",
        "How each figure was measured",
        "How to reproduce it",
    ]
    assert page.stat().st_size < 1_500_000


def test_the_answer_stands_on_top(browser, usual):
    browser.open(usual[0] / "report.html")
    said = browser.run("return document.querySelector('.answer').textContent")
    assert said == recommendation(usual[1]).reason
    assert said == (
        "Ship ort/fp32: 1.7x faster than torch/fp32, top-1 0.0 points [-0.5, +0.5], the same size. ort/int8 is 2.0x"
        " faster than ort/fp32, but its loss is between -0.6 and 1.6 points of top-1; about 1,900 images would tell."
    )


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


def test_a_result_json_alone_is_enough(browser, usual, tmp_path):
    (tmp_path / "result.json").write_bytes((usual[0] / "result.json").read_bytes())
    page = write_page(tmp_path)
    browser.open(page)
    assert_clean(browser, page)
    assert len(browser.run(DRAWN, "front", "points")) == 4
