"""Names and files to networks, against torchvision itself."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from rtbench import artifacts
from rtbench.errors import UsageError
from rtbench.images import sample
from rtbench.models.architectures import Options, build, outline
from rtbench.models.checkpoints import read_checkpoint
from rtbench.models.load import load_model
from rtbench.models.states import fit
from rtbench.options import ModelOptions

OPTIONS = ModelOptions()
TRUSTED = ModelOptions(trust_code=True)


@pytest.fixture(scope="module")
def resnet18() -> torch.nn.Module:
    torch.manual_seed(3)
    return torchvision.models.resnet18().eval()


def recognised(state: dict[str, torch.Tensor]) -> tuple[str, Options]:
    fitted = fit(state)
    return fitted.arch, fitted.options


class Pickled(torch.nn.Module):
    """A module of the user's own, and what timm says of a model's input."""

    pretrained_cfg = {  # noqa: RUF012
        "input_size": (3, 32, 32),
        "crop_pct": 0.8,
        "interpolation": "bicubic",
        "mean": (0.1, 0.2, 0.3),
        "std": (0.4, 0.5, 0.6),
    }

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 7)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.linear(batch.mean((2, 3)))


def test_every_torchvision_classifier_is_recognised_by_its_own_state_dict():
    names = torchvision.models.list_models(module=torchvision.models)
    assert len(names) >= 80
    extra = {"googlenet": {"aux_logits": True, "init_weights": False}, "inception_v3": {"init_weights": False}}
    wrong = {}
    for name in names:
        found, _ = recognised(outline(name, {"num_classes": 1000} | extra.get(name, {})))
        if found != name:
            wrong[name] = found
    assert wrong == {}


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "densenet121", "swin_t", "alexnet"]
)
def test_another_number_of_classes_is_recognised_too(name):
    found, options = recognised(outline(name, {"num_classes": 37}))
    assert (found, options["num_classes"]) == (name, 37)


def test_a_vision_transformers_input_size_is_read_off_its_position_embedding():
    found, options = recognised(outline("vit_b_16", {"num_classes": 1000, "image_size": 384}))
    assert (found, options["image_size"]) == ("vit_b_16", 384)


def test_googlenets_optional_parts_are_built_as_the_state_dict_has_them():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        without = torchvision.models.googlenet(aux_logits=False, init_weights=False).state_dict()
    found, options = recognised(without)
    assert (found, options["aux_logits"]) == ("googlenet", False)
    assert build(found, options).load_state_dict(without)


def test_the_samples_own_weights_are_recognised():
    assert recognised(read_checkpoint(sample.weights_file()).state)[0] == "efficientnet_lite0"


@pytest.mark.parametrize("wrapping", ["plain", "state_dict", "model", "module.", "all"])
def test_a_checkpoint_gives_the_networks_own_outputs(resnet18, tmp_path, wrapping):
    state = dict(resnet18.state_dict())
    if wrapping in ("module.", "all"):
        state = {f"module.{key}": value for key, value in state.items()}
    content = {
        "plain": state,
        "state_dict": {"epoch": 9, "state_dict": state, "optimizer": {"lr": 0.1}},
        "model": {"model": state},
        "module.": state,
        "all": {"state_dict": {"model": state}, "epoch": 1},
    }[wrapping]
    path = tmp_path / "mine.pth"
    torch.save(content, path)
    loaded = load_model(str(path), OPTIONS)
    batch = np.random.default_rng(0).standard_normal((2, 3, 224, 224), dtype=np.float32)
    with torch.inference_mode():
        expected = resnet18(torch.from_numpy(batch)).numpy()
    np.testing.assert_array_equal(loaded.logits(batch), expected)
    record = loaded.record
    assert (record.name, record.arch, record.classes) == ("mine", "resnet18", 1000)
    assert record.parameters == 11_689_512  # torchvision's documented num_params
    assert record.sha256 == artifacts.file_sha256(path)
    assert (record.preprocessing.resize, record.preprocessing.interpolation) == (256, "bilinear")
    assert "assumed" in record.preprocessing.source


def test_the_recipe_comes_from_the_recognised_architecture(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "b0.pt"
    torch.save(torchvision.models.efficientnet_b0(num_classes=5).state_dict(), path)
    recipe = load_model(str(path), OPTIONS).record.preprocessing
    published = torchvision.models.EfficientNet_B0_Weights.IMAGENET1K_V1.transforms()
    assert [recipe.input_size] == published.crop_size
    assert [recipe.resize] == published.resize_size
    assert recipe.interpolation == published.interpolation.value == "bicubic"
    assert list(recipe.mean) == published.mean


def test_the_users_words_win_over_the_recipe(resnet18, tmp_path):
    path = tmp_path / "mine.pt"
    torch.save(resnet18.state_dict(), path)
    options = ModelOptions(input_size=112, interpolation="bicubic", std=(0.5, 0.5, 0.5))
    recipe = load_model(str(path), options).record.preprocessing
    assert (recipe.input_size, recipe.resize, recipe.interpolation) == (112, 128, "bicubic")
    assert (recipe.mean, recipe.std) == ((0.485, 0.456, 0.406), (0.5, 0.5, 0.5))
    assert "--input-size, --interpolation, --std given" in recipe.source


def test_torchscript_and_torch_export_files(tmp_path):
    torch.manual_seed(0)
    network = torchvision.models.squeezenet1_1(num_classes=11).eval()
    batch = np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32)
    example = torch.from_numpy(batch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, example).save(str(tmp_path / "script.pt"))
    torch.export.save(torch.export.export(network, (example,)), tmp_path / "exported.pt2")
    with torch.inference_mode():
        expected = network(example).numpy()
    for name, kind in (("script.pt", "torchscript"), ("exported.pt2", "pt2")):
        loaded = load_model(str(tmp_path / name), TRUSTED)
        assert (loaded.kind, loaded.record.classes) == (kind, 11)
        assert loaded.record.preprocessing.source == "ImageNet default"
        np.testing.assert_allclose(loaded.logits(batch), expected, rtol=1e-5, atol=1e-6)


def test_a_pickled_module_needs_trust_and_says_how_its_input_is_made(tmp_path):
    path = tmp_path / "whole.pt"
    torch.save(Pickled(), path)
    with pytest.raises(UsageError, match=r"test_models\.Pickled.*--trust-code"):
        load_model(str(path), OPTIONS)
    record = load_model(str(path), TRUSTED).record
    assert (record.arch, record.classes) == ("Pickled", 7)
    recipe = record.preprocessing
    assert (recipe.input_size, recipe.resize, recipe.interpolation) == (32, 40, "bicubic")
    assert recipe.std == (0.4, 0.5, 0.6)


def test_random_weights_are_the_same_every_time():
    options = ModelOptions(random_weights=True)
    first, second = (load_model("squeezenet1_1", options).record for _ in range(2))
    assert first.sha256 == second.sha256
    assert first.random_weights


def test_weights_from_a_file_for_a_model_by_name(resnet18, tmp_path):
    torch.save(resnet18.state_dict(), tmp_path / "w.pt")
    record = load_model("resnet18", ModelOptions(weights=tmp_path / "w.pt")).record
    assert (record.name, record.source) == ("resnet18", "resnet18")
    with pytest.raises(UsageError, match="does not fit resnet34"):
        load_model("resnet34", ModelOptions(weights=tmp_path / "w.pt"))


def test_published_weights_that_cannot_be_downloaded_offer_two_ways_out(monkeypatch):
    import urllib.error

    def refuse(*_args, **_options):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", refuse)
    with pytest.raises(UsageError, match=r"no route to host.*--weights FILE.*--random-weights"):
        load_model("resnet18", OPTIONS)


def damaged(folder: Path) -> dict[str, Path]:
    torch.manual_seed(0)
    state = torchvision.models.squeezenet1_1().state_dict()
    torch.save(state, folder / "whole.pt")
    whole = (folder / "whole.pt").read_bytes()
    (folder / "truncated.pt").write_bytes(whole[: len(whole) // 2])
    torch.save(state, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    legacy = (folder / "legacy.pt").read_bytes()
    (folder / "truncated-legacy.pt").write_bytes(legacy[: len(legacy) // 2])
    (folder / "text.pt").write_bytes(b"hello world" * 100)
    (folder / "empty.pt").write_bytes(b"")
    torch.save([1, 2, 3], folder / "list.pt")
    short = dict(state)
    del short["features.3.squeeze.weight"]
    torch.save(short, folder / "short.pt")
    torch.save({"a": torch.zeros(3), "b": torch.zeros(2, 2)}, folder / "strange.pt")
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("truncated.pt", "cut off"),
        ("truncated-legacy.pt", "cut off"),
        ("text.pt", "cut off"),
        ("empty.pt", "is empty"),
        ("absent.pt", "does not exist"),
        ("list.pt", "no state dict and no module"),
        ("short.pt", "nearest is squeezenet1_1: it lacks features.3.squeeze.weight"),
        ("strange.pt", r"2 keys: a, b.*none of torchvision's or timm's networks; for a class of your own"),
        ("resnet19", "did you mean resnet1"),
    ],
)
def test_bad_files_are_told_in_a_sentence(tmp_path, name, words):
    source = damaged(tmp_path).get(name, tmp_path / name if name.endswith(".pt") else name)
    with pytest.raises(UsageError, match=words) as caught:
        load_model(str(source), OPTIONS)
    assert "\n" not in str(caught.value)


def test_a_wrong_input_size_and_a_model_that_is_no_classifier(tmp_path):
    with pytest.raises(UsageError, match=r"does not run on a 7x7 input.*--input-size"):
        load_model("alexnet", ModelOptions(random_weights=True, input_size=7))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(torch.nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8)).save(str(tmp_path / "map.pt"))
    with pytest.raises(UsageError, match=r"not a classifier: its output is of shape \[1, 4, 222, 222\]"):
        load_model(str(tmp_path / "map.pt"), TRUSTED)
