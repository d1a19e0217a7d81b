"""The HTML page of unusual runs: one row, sixty rows, names full of markup, a run killed half way."""

from __future__ import annotations

import pytest

pytest.importorskip("selenium")
from browser import DRAWN, assert_clean, shown_rows
from made_runs import (
    bad_row,
    made_answers,
    made_blocks,
    made_model,
    made_row,
    made_run,
    scored,
    seed,
    write_page,
    write_run,
)

from rtbench.report.charts import stage_chart

MARKUP = '<img src="x" onerror="window.attacked=1">'


def test_one_row(browser, tmp_path):
    blocks = {"ort/int8": made_blocks("ort/int8", 0, 6.0, seed("ort/int8"))}
    rows, _ = scored([made_row("ort/int8", 6.0, range(0, 400, 8))], blocks)
    write_run(tmp_path / "run", made_run(rows), blocks, {"ort/int8": made_answers(range(0, 400, 8))})
    page = write_page(tmp_path / "run")
    browser.open(page)
    assert_clean(browser, page)
    said = browser.run("return document.querySelector('.answer').textContent")
    assert said.startswith("Ship ort/int8, the only row: ")
    assert len(browser.run(DRAWN, "front", "points")) == 1


@pytest.mark.parametrize("slowest_ms", [40.0, 4000.0], ids=["linear", "logarithmic"])
def test_an_interval_below_zero_is_drawn_from_the_edge(browser, tmp_path, slowest_ms):
    """Two rounds on a busy machine can differ so much that the mean's interval goes below 0."""
    names = {"ort/int8": 6.0, "ort/fp32": slowest_ms}
    blocks = {row: made_blocks(row, 0, ms, seed(row)) for row, ms in names.items()}
    rows, _ = scored([made_row(row, ms, range(0, 400, 8)) for row, ms in names.items()], blocks)
    fast = rows[0].latency
    assert fast
    scattered = fast.model_copy(update={"mean_ci95_ms": (-3.0, 15.0)})
    rows[0] = rows[0].model_copy(update={"latency": scattered})
    write_run(tmp_path / "run", made_run(rows), blocks, {row: made_answers(range(0, 400, 8)) for row in names})
    page = write_page(tmp_path / "run")
    browser.open(page)
    assert_clean(browser, page)
    drawn = {row: ms for row, ms, *_ in browser.run(DRAWN, "front", "points")}
    assert drawn["ort/int8"] == pytest.approx(fast.mean_ms, rel=0.01)
    ends = "return [...document.querySelectorAll('#front .mark-rule.role-mark line')].map((line) => line.getBBox().x)"
    left = browser.run(ends)
    assert left
    assert min(left) >= 0


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


def test_stages_are_in_order_whatever_their_formats():
    """By every format and precision that a row can have, another package's too."""
    formats = {
        "executorch/fp32": "executorch",
        "trt/int8": "engine",
        "litert/int8": "tflite",
        "litert/fp32": "tflite",
        "ort/int8": "onnx",
        "openvino/bf16": "onnx",
        "ort/fp32": "onnx",
        "torch+bf16/bf16": "state_dict",
    }
    rows = []
    for name, kind in formats.items():
        row = made_row(name.replace("bf16", "fp32"), 6.0, range(0, 400, 8))
        precision = name.rpartition("/")[2]
        artifact = row.artifact.model_copy(update={"format": kind})
        rows.append(row.model_copy(update={"id": name, "precision": precision, "artifact": artifact}))
    drawn = stage_chart(made_run(rows))["data"]["values"]
    assert [each["stage"] for each in drawn] == [
        "model",
        "ONNX FP32",
        "ONNX BF16",
        "ONNX INT8",
        "TFLite FP32",
        "TFLite INT8",
        "engine INT8",
        "executorch FP32",
    ]


def test_names_and_reasons_are_text_and_never_markup(browser, tmp_path):
    name = MARKUP + "<script>window.attacked=1"
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
