"""Batches in the accuracy pass: what they answer is what single images are answered, on real runtimes."""

from __future__ import annotations

import numpy as np
import pytest

from rtbench.export.exporter import Exporter
from rtbench.images.cache import CachedImages, cache_images
from rtbench.images.sample import sample_photographs
from rtbench.measure.accuracy import Predictions, predict_batch
from rtbench.measure.sessions import SessionHost
from rtbench.options import PrepareOptions
from rtbench.records.model import Artifact, Calibration, Model

IMAGES = 23


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Model, CachedImages, dict[str, Artifact]]:
    """The sample network with its real weights, in every form that takes batches."""
    folder = tmp_path_factory.mktemp("exported")
    exporter = Exporter(lambda *_: None)
    model, _ = exporter.load("efficientnet_lite0", PrepareOptions(), None, 2)
    images = cache_images(
        sample_photographs().spread(IMAGES), model.preprocessing, folder / "cache", 2, lambda *_: None
    )
    calibration = Calibration(source="", method="minmax", images=IMAGES, fingerprint=images.fingerprint)
    artifacts = {
        "torch/fp32": exporter.export_own(folder),
        "ort/fp32": exporter.export_onnx(folder, "fp32", None, None),
        "ort/int8": exporter.export_onnx(folder, "int8", calibration, images.path),
    }
    return model, images, artifacts


def opened(exported, row: str) -> tuple[SessionHost, list[Predictions]]:
    model, images, artifacts = exported
    reported: list[Predictions] = []
    host = SessionHost(reported.append)
    host.open(row.split("/")[0], "cpu", artifacts[row], model, images.path, 2, False)
    return host, reported


@pytest.mark.slow
@pytest.mark.parametrize("row", ["torch/fp32", "ort/fp32", "ort/int8"])
def test_batches_are_answered_as_single_images_are(exported, row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answered: list[int] = []

    def counted(logits: np.ndarray, *among: object) -> Predictions:
        answered.append(len(logits))
        return predict_batch(logits, *among)

    monkeypatch.setattr("rtbench.measure.sessions.predict_batch", counted)
    host, reported = opened(exported, row)
    found = {}
    for size in (1, 5, IMAGES):
        reported.clear()
        answered.clear()
        host.predict(range(IMAGES), size)
        assert answered[0] == size
        assert sum(answered) == IMAGES
        found[size] = Predictions.join(reported)
        assert len(found[size]) == IMAGES
    assert len(np.unique(found[1].classes[:, 0])) > 5
    for size in (5, IMAGES):
        np.testing.assert_allclose(found[size].confidences, found[1].confidences, atol=1e-4)
        np.testing.assert_array_equal(found[size].classes[:, 0], found[1].classes[:, 0])
    assert host.batches_agree(range(5), "fp32" if row.endswith("fp32") else "int8")


@pytest.mark.slow
def test_a_batch_that_is_answered_differently_is_noticed(exported) -> None:
    host, _ = opened(exported, "ort/fp32")
    plain = host._infer
    host._infer = lambda indices: plain(indices[:1].repeat(len(indices)) if len(indices) > 1 else indices)
    assert not host.batches_agree(np.arange(4), "fp32")  # all of the batch answered with its first image
    host._infer = lambda indices: plain(indices)[:1]
    assert not host.batches_agree(np.arange(4), "fp32")  # one answer for all of it
