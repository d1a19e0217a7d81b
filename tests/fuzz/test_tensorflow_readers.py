"""Bad models of TensorFlow's, made of good ones of every kind. TensorFlow is imported where they are read alone."""

from __future__ import annotations

import io
import json
import zipfile
from functools import partial
from pathlib import Path

import pytest
from judge import INPUTS, SEED, judge
from mutate import mutations

from rtbench.options import ModelOptions

pytest.importorskip("ai_edge_litert")


def read_tflite(path: Path, data: bytes) -> None:
    from rtbench.export.adopt_tflite import adopt_tflite

    path.write_bytes(data)
    adopt_tflite(path, ModelOptions(), None)


def read_saved_model(folder: Path, data: bytes) -> None:
    from rtbench.models.tensorflow.load import load_tensorflow

    (folder / "saved_model.pb").write_bytes(data)
    load_tensorflow(folder, ModelOptions())


def read_keras(path: Path, data: bytes) -> None:
    from rtbench.models.tensorflow.load import load_tensorflow

    path.write_bytes(data)
    load_tensorflow(path, ModelOptions()).close()


def read_configuration(path: Path, seed: bytes, data: bytes) -> None:
    """In an archive that is whole."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(seed)) as archive, zipfile.ZipFile(made, "w") as changed:
        for name in archive.namelist():
            changed.writestr(name, data if name == "config.json" else archive.read(name))
    read_keras(path, made.getvalue())


def assert_no_faults(family: str, reader: partial[None], seeds: list[bytes], share: int) -> None:
    tally = judge(f"models/{family}", reader, mutations(seeds, max(INPUTS // share, 10), SEED), contained=True)
    assert not tally.faults, str(tally)


def test_tflite(networks: Path, tmp_path: Path) -> None:
    seeds = [(networks / f"{name}.tflite").read_bytes() for name in ("small", "uint8", "int8")]
    assert_no_faults("TFLite", partial(read_tflite, tmp_path / "m.tflite"), seeds, 1)


def test_saved_models(networks: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "variables").symlink_to(networks / "small" / "variables")
    seeds = [(networks / "small" / "saved_model.pb").read_bytes()]
    assert_no_faults("SavedModel", partial(read_saved_model, folder), seeds, 4)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_keras_files(networks: Path, tmp_path: Path, suffix: str) -> None:
    seeds = [(networks / f"small{suffix}").read_bytes()]
    assert_no_faults(f"Keras {suffix}", partial(read_keras, tmp_path / f"m{suffix}"), seeds, 8)


def test_keras_configurations(networks: Path, tmp_path: Path) -> None:
    seed = (networks / "small.keras").read_bytes()
    with zipfile.ZipFile(io.BytesIO(seed)) as archive:
        config = archive.read("config.json")
    seeds = [config, json.dumps(json.loads(config), indent=1).encode()]
    assert_no_faults("Keras config.json", partial(read_configuration, tmp_path / "m.keras", seed), seeds, 8)
