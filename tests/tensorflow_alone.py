"""Run by test_tensorflow.py in a process of its own: TensorFlow, read as it is, or refused for what it would run."""

from __future__ import annotations

import io
import json
import shutil
import struct
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import write_images

import rtbench
from rtbench.compare.prepared import Prepared
from rtbench.errors import UsageError
from rtbench.images.preprocessing import normalise
from rtbench.models.tensorflow import hub
from rtbench.options import ModelOptions
from rtbench.runtimes.known import load_runtime
from rtbench.testing import check_runtime

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's own modules use what is deprecated
CLASSES = 7


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Which can be said before TensorFlow has begun, and not after."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow

        tensorflow.config.threading.set_intra_op_parallelism_threads(1)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)


@pytest.fixture(scope="module")
def known(networks: Path) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, (N, C, H, W), and what Keras itself makes of them."""
    kept = np.load(networks / "outputs.npz")
    return np.ascontiguousarray(kept["inputs"].transpose(0, 3, 1, 2)), kept["outputs"]


def load(path: Path, **options):
    from rtbench.models.tensorflow.load import load_tensorflow

    return load_tensorflow(path, ModelOptions(**options))


@pytest.mark.parametrize("name", ["small", "small.keras", "small.h5", "nchw"])
def test_outputs_are_those_of_keras_itself(networks: Path, known, name: str) -> None:
    model = load(networks / name)
    np.testing.assert_allclose(model.logits(known[0]), known[1], atol=1e-5)
    model.close()
    assert (model.record.classes, model.record.parameters) == (CLASSES, 535)
    assert model.record.framework == "tensorflow"
    assert "--mean and --std choose" in model.record.choices[0]


def test_pixels_are_given_to_networks_that_normalise_them(networks: Path) -> None:
    for name in ("pixels.keras", "uint8"):
        recipe = load(networks / name).record.preprocessing
        grey = np.array([[[[0, 128, 255]]]], dtype=np.uint8)
        np.testing.assert_allclose(normalise(grey, recipe)[0, :, 0, 0], [0, 128, 255], rtol=1e-6)


def test_networks_of_keras_applications_get_their_own_recipe(networks: Path) -> None:
    import keras

    pixel = np.array([[[[10, 120, 250]]]], dtype=np.uint8)
    modules = {"resnet50": keras.applications.resnet50, "mobilenet": keras.applications.mobilenet_v2}
    for name, module in modules.items():
        recipe = load(networks / f"{name}.keras").record.preprocessing
        expected = module.preprocess_input(pixel.astype(np.float32).copy())
        np.testing.assert_allclose(normalise(pixel, recipe).transpose(0, 2, 3, 1), expected, rtol=1e-4, atol=1e-4)


def test_the_baselines_recipe_is_taken_where_it_is_asked_for(networks: Path) -> None:
    for name in ("resnet50.keras", "small"):
        recipe = load(networks / name, preprocess="tf").record.preprocessing
        assert (recipe.colour_order, recipe.mean) == ("RGB", (0.485, 0.456, 0.406))
        assert recipe.source == "the baseline's TensorFlow recipe, by --preprocess tf"
    assert load(networks / "uint8", preprocess="tf").record.preprocessing.mean == (0.0, 0.0, 0.0)


@pytest.mark.slow
def test_the_names_in_keras_applications_are_known() -> None:
    """Every architecture of it, by the names that it gives: normalised outside as its own module does, or inside."""
    import keras

    from rtbench.models.tensorflow.keras_files import _recipe

    pixel = np.array([[[[10, 120, 250]]]], dtype=np.uint8)
    for module, architecture in [
        ("vgg16", "VGG16"),
        ("resnet", "ResNet101"),
        ("resnet_v2", "ResNet50V2"),
        ("inception_v3", "InceptionV3"),
        ("inception_resnet_v2", "InceptionResNetV2"),
        ("xception", "Xception"),
        ("densenet", "DenseNet121"),
        ("mobilenet", "MobileNet"),
        ("mobilenet_v2", "MobileNetV2"),
        ("mobilenet_v3", "MobileNetV3Small"),
        ("nasnet", "NASNetMobile"),
        ("efficientnet", "EfficientNetB0"),
        ("efficientnet_v2", "EfficientNetV2B0"),
        ("convnext", "ConvNeXtTiny"),
    ]:
        arguments = {"weights": None, "input_shape": (224, 224, 3)}
        if architecture in ("InceptionV3", "InceptionResNetV2", "Xception"):
            arguments["input_shape"] = (299, 299, 3)
        model = getattr(keras.applications, architecture)(**arguments)
        recipe = _recipe(model)
        assert recipe is not None, architecture
        expected = getattr(keras.applications, module).preprocess_input(pixel.astype(np.float32).copy())
        found = normalise(pixel, recipe).transpose(0, 2, 3, 1)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3, err_msg=architecture)


def test_a_free_size_is_the_usual_one_or_the_one_that_is_given(networks: Path) -> None:
    assert load(networks / "free").record.preprocessing.input_shape == (3, 224, 224)
    assert load(networks / "free", input_size=64).record.preprocessing.input_shape == (3, 64, 64)
    with pytest.raises(UsageError, match="takes 32 inputs, not 64; give --input-size 32"):
        load(networks / "small", input_size=64)


def test_the_output_is_chosen_where_there_are_several(networks: Path, known) -> None:
    with pytest.raises(UsageError, match="has 2 outputs: features, logits; say with --output"):
        load(networks / "two")
    np.testing.assert_allclose(load(networks / "two", output="logits").logits(known[0]), known[1], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("write", "its operator WriteFile takes text"),
        ("read", "its operator ReadFile takes text"),
        ("disguised", "it calls __inference__traced_save_1"),
        ("table", "it has a resource"),
        ("lambda.keras", "it has a Lambda"),
        ("lambda.h5", "it has a Lambda"),
        ("elsewhere.h5", "some of its weights are in another file"),
    ],
)
def test_code_needs_trust(networks: Path, tmp_path: Path, monkeypatch, name: str, reason: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"loading it runs code that it holds .*{reason}"):
        load(networks / name)
    assert not list(tmp_path.iterdir())


def test_a_file_of_two_kinds_is_read_as_keras_reads_it(networks: Path, tmp_path: Path, monkeypatch) -> None:
    """HDF5 with a Lambda, and behind it an archive that is harmless."""
    monkeypatch.chdir(tmp_path)
    both = (networks / "lambda.h5").read_bytes() + (networks / "small.keras").read_bytes()
    (tmp_path / "m.h5").write_bytes(both)
    assert zipfile.is_zipfile(tmp_path / "m.h5")
    with pytest.raises(UsageError, match="it has a Lambda"):
        load(tmp_path / "m.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["m.h5"]


def test_code_runs_with_trust(networks: Path, known, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.testing.assert_allclose(load(networks / "write", trust_code=True).logits(known[0]), known[1], atol=1e-5)
    assert (tmp_path / "attacked.txt").read_text() == "by a SavedModel"


@pytest.mark.parametrize(
    "part",
    [
        {"module": "os", "class_name": "function", "config": "system", "registered_name": "function"},
        {"module": "keras.utils", "class_name": "get_file", "config": {}, "registered_name": None},
        {"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}},
        {"module": "keras.layers", "class_name": "Dense", "config": {}, "registered_name": "mine>Dense"},
        {"class_name": "__lambda__", "config": {"value": "4wA="}},
        {"class_name": "Mine", "config": {}},
        {"class_name": ["Dense"], "config": {}},
    ],
)
def test_every_class_that_a_configuration_names_is_looked_at(networks: Path, tmp_path: Path, part: dict) -> None:
    with zipfile.ZipFile(networks / "small.keras") as archive, zipfile.ZipFile(tmp_path / "m.keras", "w") as changed:
        for member in archive.namelist():
            content = archive.read(member)
            if member == "config.json":
                config = json.loads(content)
                config["config"]["layers"][1]["config"]["activity_regularizer"] = part
                content = json.dumps(config).encode()
            changed.writestr(member, content)
    with pytest.raises(UsageError, match="loading it runs code that it holds"):
        load(tmp_path / "m.keras")


@pytest.mark.parametrize("name", ["small/saved_model.pb", "small.keras", "small.h5"])
def test_damage_is_one_sentence(networks: Path, tmp_path: Path, name: str) -> None:
    top = name.partition("/")[0]
    source = networks / top
    (shutil.copytree if source.is_dir() else shutil.copyfile)(source, tmp_path / top)
    file = tmp_path / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UsageError) as raised:
        load(tmp_path / top)
    assert "\n" not in str(raised.value)


def test_an_archive_that_ends_within_a_file_is_damage(networks: Path, tmp_path: Path) -> None:
    content = (networks / "small.keras").read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        whole = archive.read("config.json")
        stored = io.BytesIO()
        with zipfile.ZipFile(stored, "w") as changed:
            for name in ("metadata.json", "model.weights.h5", "config.json"):
                changed.writestr(name, archive.read(name))
    sizes, larger = (struct.pack("<2I", size, size) for size in (len(whole), len(whole) + 100_000))
    assert stored.getvalue().count(sizes) == 2  # before the file, and in the directory at the end
    (tmp_path / "m.keras").write_bytes(stored.getvalue().replace(sizes, larger))
    with pytest.raises(UsageError, match="is damaged or not a Keras model"):
        load(tmp_path / "m.keras")


def test_no_room_is_made_for_an_attribute_that_claims_gigabytes(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["model_config"] = "{}" + 12343 * " "
    content = (tmp_path / "m.h5").read_bytes()
    at = content.index(struct.pack("<I", 12345))
    (tmp_path / "m.h5").write_bytes(content[:at] + struct.pack("<I", 2**31 - 1) + content[at + 4 :])
    with pytest.raises(UsageError, match="is damaged or not a Keras model") as raised:
        load(tmp_path / "m.h5")
    assert "allocat" in str(raised.value.__cause__)


# ------------------------------------------------------------------------------------------------ TFLite by itself


def adopt(path: Path, **options):
    from rtbench.export.adopt_tflite import adopt_tflite

    return adopt_tflite(path, ModelOptions(**options), None)


def litert(path: Path, batch: np.ndarray) -> np.ndarray:
    from rtbench.runtimes.litert import LiteRtSession

    session = LiteRtSession(adopt(path)[1], 1)
    outputs = []
    for index in range(len(batch)):
        session.bind(batch[index : index + 1])
        session.run()
        outputs.append(session.fetch())
    return np.concatenate(outputs)


def test_tflite_is_run_as_it_is(networks: Path, known) -> None:
    np.testing.assert_allclose(litert(networks / "small.tflite", known[0]), known[1], atol=1e-4)
    model, artifact = adopt(networks / "small.tflite")
    assert (artifact.precision, artifact.dynamic_batch, model.classes) == ("fp32", False, CLASSES)


@pytest.mark.parametrize(
    ("shape", "claimed", "words"),
    [
        ((1, 32, 32, 3), (1, 1 << 20, 32, 3), r"it takes inputs of shape \[1, 1048576, 32, 3\]"),
        ((1, 15, 15, 8), (1, 1 << 24, 15, 8), "it claims a tensor of 7,680 MiB"),
    ],
)
def test_no_room_is_made_for_tensors_of_gigabytes(
    networks: Path, tmp_path: Path, shape: tuple[int, ...], claimed: tuple[int, ...], words: str
) -> None:
    content = (networks / "small.tflite").read_bytes()
    own, other = (struct.pack("<5i", 4, *each) for each in (shape, claimed))
    assert own in content
    (tmp_path / "m.tflite").write_bytes(content.replace(own, other))
    with pytest.raises(UsageError, match=words):
        adopt(tmp_path / "m.tflite")


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_quantised_inputs_and_outputs_are_scaled(networks: Path, known, kind: str) -> None:
    """Against TensorFlow's outputs, in FP32; the range of what was calibrated with was -1 to 1."""
    found = litert(networks / f"{kind}.tflite", known[0])
    spread = np.sqrt(np.mean((known[1] - known[1].mean(0)) ** 2))
    assert np.sqrt(np.mean((found - known[1]) ** 2)) < 0.2 * spread
    model, artifact = adopt(networks / f"{kind}.tflite")
    assert artifact.precision == "int8"
    assert model.preprocessing.source == "by the scale of its input, -1 to 1"
    assert model.preprocessing.mean == (0.5, 0.5, 0.5)


def test_what_litert_ran_is_counted(networks: Path) -> None:
    from rtbench.runtimes.litert import LiteRtSession

    floating = LiteRtSession(adopt(networks / "small.tflite")[1], 1).info
    assert floating.layers["FP32"]["products"] == 3  # two convolutions and a matrix
    assert "XNNPACK" in floating.provider
    heavy = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1}
    assert heavy.items() <= floating.placement["XNNPACK"].items()
    assert not heavy.keys() & floating.placement.get("LiteRT", {}).keys()
    whole = LiteRtSession(adopt(networks / "int8.tflite")[1], 1).info
    assert whole.layers["INT8"]["products"] == 3
    assert whole.warnings == ()


# ------------------------------------------------------------------------------------------------- TensorFlow Hub


def archive(folder: Path, *, climbing: bool = False) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as packed:
        packed.add(folder, ".")
        if climbing:
            packed.add(folder / "saved_model.pb", "../../outside.pb")
    return made.getvalue()


@pytest.fixture
def cached(monkeypatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.usefixtures("cached")
def test_a_model_of_the_hub_is_downloaded_once(monkeypatch, networks: Path, known) -> None:
    asked = []

    def urlopen(address: str, **_: object) -> io.BytesIO:
        asked.append(address)
        return io.BytesIO(archive(networks / "small"))

    monkeypatch.setattr(hub.urllib.request, "urlopen", urlopen)
    address = f"{hub.HUB}google/small/classification/5"
    for _ in range(2):
        folder = hub.downloaded(address)
    assert asked == [f"{address}?tf-hub-format=compressed"]
    np.testing.assert_allclose(load(folder).logits(known[0]), known[1], atol=1e-5)


def test_nothing_of_an_archive_is_written_outside(monkeypatch, cached: Path, networks: Path) -> None:
    monkeypatch.setattr(
        hub.urllib.request, "urlopen", lambda *_, **__: io.BytesIO(archive(networks / "small", climbing=True))
    )
    with pytest.raises(UsageError, match="is not an archive of a SavedModel"):
        hub.downloaded(f"{hub.HUB}google/small/5")
    assert not [path for path in cached.rglob("*") if path.is_file()]


@pytest.mark.usefixtures("cached")
def test_addresses_are_checked() -> None:
    with pytest.raises(UsageError, match="is not the address of a model"):
        hub.downloaded(f"{hub.HUB}a/../../b")


# --------------------------------------------------------------------------------------------------- the contract


@pytest.fixture(scope="module")
def prepared(networks: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("contract")
    write_images(folder / "images", 8)
    formats = ("onnx", "tflite")
    return rtbench.export(networks / "small", out=folder / "out", formats=formats, calibration=folder / "images")


@pytest.mark.parametrize(
    ("name", "kind", "precision"),
    [("tf", "saved_model", "fp32"), *(("litert", "tflite", each) for each in ("fp32", "fp16", "int8"))],
)
def test_the_contract_is_kept(prepared: Prepared, name: str, kind: str, precision: str) -> None:
    artifact = next(each for each in prepared.artifacts if (each.format, each.precision) == (kind, precision))
    assert artifact.check or kind == "saved_model"
    check_runtime(load_runtime(name), artifact, prepared.model)


@pytest.mark.slow
def test_artifacts_of_another_output_are_others(networks: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "images", 4)
    made = {}
    for output in ("logits", "features", "logits"):
        prepared = rtbench.export(
            networks / "two",
            out=tmp_path / "out",
            formats=("onnx", "tflite"),
            precisions=("fp32",),
            calibration=tmp_path / "images",
            output=output,
        )
        for artifact in prepared.artifacts:
            assert artifact.check is None or artifact.check.status == "ok", (output, artifact.format)
        made.setdefault(output, []).append({each.format: each.sha256 for each in prepared.artifacts[1:]})
    assert made["logits"][0]["tflite"] == made["logits"][1]["tflite"] != made["features"][0]["tflite"]
