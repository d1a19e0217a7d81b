"""The published JSON Schema of `result.json` is that of the records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import GOLDEN

from rtbench.records.run import SCHEMA_VERSION, Run

SCHEMA = Path(__file__).resolve().parents[1] / "docs" / "schema" / f"result-{SCHEMA_VERSION}.json"


def test_the_published_schema_is_that_of_the_records(request: pytest.FixtureRequest) -> None:
    text = json.dumps(Run.model_json_schema(mode="serialization"), indent=2, ensure_ascii=False) + "\n"
    if request.config.getoption("--update-golden"):
        SCHEMA.parent.mkdir(exist_ok=True)
        SCHEMA.write_text(text, encoding="utf-8")
    assert text == SCHEMA.read_text(encoding="utf-8")


def test_a_result_has_what_the_schema_requires_and_nothing_else() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    result = json.loads((GOLDEN / "report.json").read_text(encoding="utf-8"))
    assert_fits(result, schema, schema["$defs"])


def assert_fits(value: object, schema: dict, named: dict) -> None:
    """By hand, as far as records go: objects with their fields, lists and choices of them."""
    if "$ref" in schema:
        schema = named[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        choices = [each for each in schema["anyOf"] if (each.get("type") == "null") == (value is None)]
        assert choices, (value, schema)
        if value is not None and len(choices) == 1:
            assert_fits(value, choices[0], named)
    elif isinstance(value, dict) and "properties" in schema:
        assert set(schema.get("required", ())) <= set(value) <= set(schema["properties"])
        for key, inner in value.items():
            assert_fits(inner, schema["properties"][key], named)
    elif isinstance(value, list) and "items" in schema:
        for each in value:
            assert_fits(each, schema["items"], named)
