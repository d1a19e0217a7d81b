"""What the documentation lists of names is what the code has."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from rtbench.images import datasets, labels, tables
from rtbench.images.ground_truth import LISTS
from rtbench.images.image_set import FORMATS, SUFFIXES
from rtbench.models import checkpoints, hugging_face, others
from rtbench.onnx_file import INPUT_TYPES
from rtbench.scores import doubt

DOCS = Path(__file__).resolve().parents[1] / "docs"


def listed(page: str, heading: str) -> dict[str, set[str]]:
    """The names in code of each line of the table below a heading, by what its first cell says."""
    text = (DOCS / page).read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")][2:]
    return {cells[0].strip(): set(re.findall(r"`([^`]+)`", cells[1])) for cells in lines}


MODELS: dict[str, Iterable[str]] = {
    "averaged weights, in this order": checkpoints.AVERAGED,
    "other weights, in this order": [key for key in checkpoints.NESTED if key not in checkpoints.AVERAGED],
    "wrappers around a pickled module": checkpoints.WRAPPERS,
    "weights in a Hugging Face folder": hugging_face.WEIGHTS,
    "inputs of an ONNX graph": INPUT_TYPES.values(),
    "files of others, which are called so": {other.what for _, _, other in others.STARTS},
}
DATA: dict[str, Iterable[str]] = {
    "images": SUFFIXES,
    "formats": FORMATS,
    "parts of a dataset, in this order": datasets.SPLITS,
    "hidden": datasets.HIDDEN,
    "lists next to images": LISTS,
    "tables next to images": datasets.TABLES,
    "columns of names": tables.NAMES,
    "columns of labels": tables.LABELS,
    "test sets by their classes": labels.imagenet_subsets(),
    "test sets by their names": labels.OTHER_TESTS,
}


@pytest.mark.parametrize("kind", MODELS)
def test_what_is_read_of_models_is_listed(kind: str) -> None:
    assert listed("models.md", "Names that are known")[kind] == set(MODELS[kind])


@pytest.mark.parametrize("kind", DATA)
def test_what_is_read_of_images_and_labels_is_listed(kind: str) -> None:
    assert listed("accuracy.md", "Names that are known")[kind] == set(DATA[kind])


def test_no_line_of_the_tables_is_of_something_else() -> None:
    assert listed("models.md", "Names that are known").keys() == MODELS.keys()
    assert listed("accuracy.md", "Names that are known").keys() == DATA.keys()


def test_when_labels_are_doubted_is_told_in_its_numbers() -> None:
    text = " ".join((DOCS / "accuracy.md").read_text(encoding="utf-8").split())
    assert f"fewer than {doubt.BY_CHANCE:g} times as many answers are right as a guess would have" in text
    assert f"at least {100 * doubt.EXPLAINED:.0f} % of them" in text


MARKDOWN = [
    path for path in sorted(DOCS.parent.rglob("*.md")) if ".venv" not in path.parts and "results" not in path.parts
]


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda path: str(path.relative_to(DOCS.parent)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file that is there, and to a heading that it has; nothing on the network is asked."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), target
        if heading:
            assert heading in headings(linked), target


def headings(page: Path) -> set[str]:
    """As links name them: small letters and hyphens."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in found}


def test_the_readme_is_short() -> None:
    before = (DOCS.parent / "README.md").read_text(encoding="utf-8").split("## Tests")[0]
    assert len(before.splitlines()) <= 60
