"""What rows are judged by: the model itself, whether or not it is a row, and the file that the user gave."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision

import rtbench
from rtbench.report.cells import notes
from rtbench.runs.predictions import read_predictions
from rtbench.runs.result import read_run


@pytest.mark.slow
def test_the_model_itself_answers_the_labelled_images_where_torch_is_no_row(
    rtbench, tmp_path: Path, imagenet_sample: Path
) -> None:
    asked = ["--data", imagenet_sample, "--limit", "30", "--runs", "3", "--patience", "0", "--precisions", "fp32,int8"]
    for runtimes in ("ort", "torch,ort"):
        done = rtbench("compare", "efficientnet_lite0", "--runtimes", runtimes, *asked, "--out", tmp_path / runtimes)
        assert done.returncode == 0, done.stderr
    alone, beside = ({row.id: row.accuracy for row in read_run(tmp_path / name).rows} for name in ("ort", "torch,ort"))
    assert set(alone) == {"ort/fp32", "ort/int8"}
    for name, accuracy in alone.items():
        assert accuracy.difference is not None
        assert accuracy.difference == beside[name].difference
        assert accuracy.agreement == beside[name].agreement
    # The same, counted from what was kept of each row's answers.
    torch_answers, own = (
        [each.classes[0] for each in read_predictions(tmp_path / folder, [row])[row]]
        for folder, row in (("torch,ort", "torch/fp32"), ("ort", "ort/int8"))
    )
    same = sum(one == other for one, other in zip(torch_answers, own, strict=True))
    assert alone["ort/int8"].agreement == pytest.approx(same / 30)


def test_the_size_of_a_model_is_that_of_the_file_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    network = torchvision.models.squeezenet1_1(num_classes=10)
    torch.save(network.half().state_dict(), tmp_path / "half.pt")
    given = (tmp_path / "half.pt").stat().st_size
    (artifact,) = rtbench.export(tmp_path / "half.pt", precisions=[], out=tmp_path / "artifacts").artifacts
    saved = (tmp_path / "artifacts" / "torch-fp32.pt").stat().st_size
    assert (artifact.size_bytes, artifact.serialised_bytes) == (given, saved)
    assert saved > 1.9 * given
    (again,) = rtbench.export(tmp_path / "half.pt", precisions=[], out=tmp_path / "artifacts").artifacts
    assert again.size_bytes == given


def test_the_notes_say_whose_size_it_is() -> None:
    from made_runs import made_row, made_run

    row = made_row("torch/fp32", 20.0, ())
    given = row.model_copy(update={"artifact": row.artifact.model_copy(update={"serialised_bytes": 2**25})})
    assert any("state dict as rtbench saves it" in note for note in notes(made_run([row])))
    assert any("of the file given; saved by rtbench it has 32.00 MiB" in note for note in notes(made_run([given])))
