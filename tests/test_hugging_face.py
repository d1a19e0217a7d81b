"""Folders of Hugging Face, against transformers itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from rtbench.errors import UsageError
from rtbench.images.cropping import crop
from rtbench.images.preprocessing import normalise
from rtbench.models.load import load_model
from rtbench.options import ModelOptions

transformers = pytest.importorskip("transformers", reason="pip install 'rtbench[hf]'")
PETS = {0: "cat", 1: "dog", 2: "bird"}


def vit(side: int, channels: int = 3) -> torch.nn.Module:
    torch.manual_seed(2)
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=side, patch_size=8,
        num_channels=channels, id2label=PETS, label2id={name: index for index, name in PETS.items()},
    )  # fmt: skip
    return transformers.ViTForImageClassification(config).eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    vit(32).save_pretrained(tmp_path / "vit")
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


def test_a_folder_gives_the_networks_outputs_recipe_and_names(folder: Path) -> None:
    loaded = load_model(str(folder), ModelOptions())
    record = loaded.record
    assert (record.name, record.arch, record.classes) == ("vit", "ViTForImageClassification", 3)
    assert record.class_names == ["cat", "dog", "bird"]
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 70, 3), dtype=np.uint8))
    ours = normalise(crop(image, record.preprocessing)[None], record.preprocessing)
    network = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        np.testing.assert_allclose(loaded.logits(ours), network(torch.from_numpy(ours)).logits.numpy(), atol=1e-5)


SQUARE, LARGER = {"height": 32, "width": 32}, {"height": 40, "width": 40}
PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT": ("ViTImageProcessor", {"size": SQUARE}),
    "a rectangle": ("ViTImageProcessor", {"size": {"height": 24, "width": 40}}),
    "not normalised": ("ViTImageProcessor", {"size": SQUARE, "do_normalize": False}),
    "ConvNeXT": ("ConvNextImageProcessor", {"size": {"shortest_edge": 32}, "crop_pct": 0.875}),
    "ConvNeXT, large": ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}),
    "CLIP": ("CLIPImageProcessor", {"size": {"shortest_edge": 40}, "crop_size": SQUARE}),
    "cropped after a squash": ("BitImageProcessor", {"size": LARGER, "crop_size": SQUARE}),
    "EfficientNet": ("EfficientNetImageProcessor", {"size": SQUARE}),
    "an offset": ("EfficientNetImageProcessor", {"size": SQUARE, "rescale_offset": True, "rescale_factor": 1 / 127.5}),
}


@pytest.mark.parametrize("case", PROCESSORS)
def test_recipes_are_what_the_processor_does(case: str, folder: Path) -> None:
    kind, options = PROCESSORS[case]
    processor = getattr(transformers, kind)(**options)
    processor.save_pretrained(folder)
    from rtbench.models.hugging_face import read_folder

    recipe = read_folder(folder).recipe
    slope = np.linspace(0, 200, 130)[None, :, None] + np.linspace(0, 55, 90)[:, None, None]
    image = Image.fromarray((slope * [1, 0.6, 0.3]).astype(np.uint8))  # smooth: theirs resizes in floating point
    theirs = processor(image, return_tensors="np")["pixel_values"]
    ours = normalise(crop(image, recipe)[None], recipe)
    assert ours.shape == theirs.shape
    level = 1 / 255 / min(recipe.std)
    assert np.abs(ours - theirs).max() <= 2.1 * level  # they round once, and Pillow twice


@pytest.mark.parametrize("says", [{"size": {"height": 1e999, "width": 32}}, {"size": SQUARE, "crop_pct": 0}])
def test_sizes_that_are_none_are_refused(says: dict[str, Any], folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps({**says, "crop_size": SQUARE}))
    with pytest.raises(UsageError, match="is not laid out as Hugging Face's are"):
        load_model(str(folder), ModelOptions())


def test_one_channel(tmp_path: Path) -> None:
    vit(16, channels=1).save_pretrained(tmp_path / "grey")
    (tmp_path / "grey" / "preprocessor_config.json").write_text(
        json.dumps({"size": 16, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]})
    )
    assert load_model(str(tmp_path / "grey"), ModelOptions()).record.preprocessing.input_shape == (1, 16, 16)


def test_a_folder_of_timms(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="pip install 'rtbench[timm]'")
    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=3).eval()
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    cfg = {
        "input_size": [3, 160, 160],
        "crop_pct": 0.9,
        "interpolation": "bilinear",
        "mean": [0.1] * 3,
        "std": [0.2] * 3,
    }
    config = {"architecture": "test_vit", "num_classes": 3, "label_names": ["a", "b", "c"], "pretrained_cfg": cfg}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = load_model(str(tmp_path), ModelOptions())
    record = loaded.record
    assert (record.arch, record.class_names, record.preprocessing.resize) == ("timm/test_vit", ["a", "b", "c"], 177)
    batch = np.random.default_rng(0).standard_normal((2, 3, 160, 160), dtype=np.float32)
    with torch.inference_mode():
        np.testing.assert_allclose(loaded.logits(batch), network(torch.from_numpy(batch)).numpy(), atol=1e-5)


def changed(folder: Path, **entries: Any) -> None:
    path = folder / "config.json"
    content = {key: value for key, value in json.loads(path.read_text()).items() if key != "auto_map"}
    path.write_text(json.dumps(content | entries))


def test_folders_that_are_no_classifiers_or_not_whole(folder: Path) -> None:
    changed(folder, architectures=["ViTModel"])
    with pytest.raises(UsageError, match="holds ViTModel, not an image classifier"):
        load_model(str(folder), ModelOptions())
    changed(folder, architectures=["ViTForImageClassification"], auto_map={"AutoConfig": "evil.Config"})
    with pytest.raises(UsageError, match=r"contains code that runs when it is loaded.*--trust-code"):
        load_model(str(folder), ModelOptions())
    (folder / "model.safetensors").unlink()
    changed(folder)
    with pytest.raises(UsageError, match="has no weights"):
        load_model(str(folder), ModelOptions())
    (folder / "config.json").write_text("[]")
    with pytest.raises(UsageError, match="is not a configuration"):
        load_model(str(folder), ModelOptions())


def test_weights_without_the_head_are_not_a_classifier(folder: Path) -> None:
    from safetensors.torch import load_file

    state = load_file(folder / "model.safetensors")
    save_file(
        {key: value for key, value in state.items() if "classifier" not in key},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(UsageError, match=r"lacks classifier.bias and so is not a whole classifier"):
        load_model(str(folder), ModelOptions())


@pytest.mark.slow
def test_a_folder_is_compared_on_both_runtimes(quickly, folder: Path, tmp_path: Path) -> None:
    from conftest import write_images

    for name in PETS.values():
        write_images(tmp_path / "data" / name, 4)
    options = ("--data", tmp_path / "data", "--runtimes", "torch,ort", "--precisions", "fp32")
    result = quickly(folder, *options)
    assert [(row["id"], row["status"]) for row in result["rows"]] == [("torch/fp32", "ok"), ("ort/fp32", "ok")]
    assert result["dataset"]["labels"] == "class names"
    assert result["rows"][1]["accuracy"]["agreement"] == 1.0
