"""timm's networks, by name and by their state dicts, against timm itself."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rtbench.errors import UsageError
from rtbench.images.cropping import crop
from rtbench.images.preprocessing import normalise
from rtbench.models import timm_networks
from rtbench.models.load import load_model
from rtbench.models.timm_networks import digest, names_for
from rtbench.options import ModelOptions

timm = pytest.importorskip("timm", reason="timm is not installed: pip install 'rtbench[timm]'")


def on_meta(name: str, **options: int) -> torch.nn.Module:
    with torch.device("meta"):
        return timm.create_model(name, **options)


def made(name: str, **options: int) -> torch.nn.Module:
    torch.manual_seed(1)
    return timm.create_model(name, **options).eval()


def test_the_index_has_all_networks_of_this_timm_or_an_older_one() -> None:
    indexed = {name for names in timm_networks._index().values() for each in names.values() for name in each}
    assert len(indexed) > 1300
    assert len(indexed - set(timm.list_models())) < 20  # timm takes a few away, with years between


def test_the_index_is_what_timm_builds() -> None:
    """Every 25th network, and 7 classes as well as its own."""
    for name in timm.list_models()[::25]:
        assert f"timm/{name}" in names_for(on_meta(name, num_classes=7).state_dict()), name


def test_networks_that_differ_have_different_digests() -> None:
    found = defaultdict(set)
    for groups in timm_networks._index().values():
        for names in groups.values():
            found[len(names)].update(names)
    assert len(found[1]) > 1100
    ambiguous = set().union(*(names for count, names in found.items() if count > 1))
    assert {"efficientnet_b0", "tf_efficientnet_b0", "vit_base_patch16_224", "deit_base_patch16_224"} <= ambiguous


def test_a_digest_leaves_out_classes_channels_and_counters() -> None:
    same = digest(on_meta("resnet18").state_dict(), ("fc",), ("conv1",))
    grey = on_meta("resnet18", in_chans=1, num_classes=3).state_dict()
    assert digest({k: v for k, v in grey.items() if "num_batches" not in k}, ("fc",), ("conv1",)) == same
    assert digest(on_meta("resnet34").state_dict(), ("fc",), ("conv1",)) != same


def test_recognising_needs_no_timm(tmp_path: Path) -> None:
    torch.save(on_meta("resnet26d").state_dict(), tmp_path / "shapes.pt")
    code = (
        "import sys, torch; from rtbench.models.timm_networks import names_for;"
        "print(names_for(torch.load(sys.argv[1])), 'timm' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "shapes.pt"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "['timm/resnet26d'] False\n"


def test_a_state_dict_gives_the_networks_own_outputs_on_the_networks_own_input(tmp_path: Path) -> None:
    network = made("resnet26d", num_classes=5)
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, tmp_path / "mine.pth.tar")
    loaded = load_model(str(tmp_path / "mine.pth.tar"), ModelOptions())
    record = loaded.record
    assert (record.arch, record.classes) == ("timm/resnet26d", 5)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (260, 330, 3), dtype=np.uint8))
    ours, theirs = normalise(crop(image, record.preprocessing)[None], record.preprocessing), transform(image)[None]
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)
    with torch.inference_mode():
        np.testing.assert_allclose(loaded.logits(ours), network(torch.from_numpy(ours)).numpy(), atol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18.a1_in1k",
        "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        "beit_base_patch16_224.in22k_ft_in22k_in1k",
        "resnetv2_50x1_bit.goog_in21k_ft_in1k",
    ],
)
def test_recipes_are_timms(name: str) -> None:
    recipe = timm_networks.preprocessing(f"timm/{name}", assumed=False)
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    transform = timm.data.create_transform(**config)
    generator = np.random.default_rng(1)
    for height, width in ((600, 700), (501, 333)):
        image = Image.fromarray(generator.integers(0, 255, (height, width, 3), dtype=np.uint8))
        ours = normalise(crop(image, recipe)[None], recipe)[0]
        np.testing.assert_allclose(ours, transform(image).numpy(), atol=2e-5)
    assert recipe.source == f"timm's for {name}"


def test_of_several_networks_the_file_or_the_user_says_which(tmp_path: Path) -> None:
    state = made("tf_efficientnet_b0", num_classes=3).state_dict()
    torch.save(state, tmp_path / "mine.pth")
    undecided = load_model(str(tmp_path / "mine.pth"), ModelOptions()).record
    assert "3 of timm's networks equally well: timm/efficientnet_b0, timm/efficientnet_blur_b0" in str(
        undecided.undecided
    )
    said = load_model(str(tmp_path / "mine.pth"), ModelOptions(arch="timm/tf_efficientnet_b0.ns_jft_in1k")).record
    assert said.preprocessing.source.startswith("timm's for tf_efficientnet_b0.ns_jft_in1k")
    torch.save(state, tmp_path / "tf_efficientnet_b0_ns-c0e6a31c.pth")
    named = load_model(str(tmp_path / "tf_efficientnet_b0_ns-c0e6a31c.pth"), ModelOptions()).record
    assert named.arch == "timm/tf_efficientnet_b0"
    assert any("timm/efficientnet_b0" in said and "--arch" in said for said in named.choices)
    torch.save({"arch": "tf_efficientnet_b0", "model": state}, tmp_path / "checkpoint.pth")
    assert load_model(str(tmp_path / "checkpoint.pth"), ModelOptions()).record.arch == "timm/tf_efficientnet_b0"


def test_what_torchvision_has_too_is_torchvisions_unless_the_name_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = made("resnet18", num_classes=3).state_dict()
    torch.save(state, tmp_path / "resnet18.pth")
    with monkeypatch.context() as patched:
        patched.setattr(timm_networks, "_timm", lambda: pytest.fail("timm was imported, which takes most of a second"))
        record = load_model(str(tmp_path / "resnet18.pth"), ModelOptions()).record
    assert record.arch == "resnet18"
    assert "timm has other recipes for the same layers: --arch timm/resnet18" in record.choices[0]
    torch.save(state, tmp_path / "resnet18.a1_in1k.pth")
    record = load_model(str(tmp_path / "resnet18.a1_in1k.pth"), ModelOptions()).record
    assert (record.arch, record.preprocessing.interpolation) == ("timm/resnet18.a1_in1k", "bicubic")


def test_a_training_checkpoint_with_its_settings_needs_no_consent(tmp_path: Path) -> None:
    """timm's train.py keeps its arguments beside the weights."""
    network = made("convnext_atto", num_classes=3, in_chans=1)
    content = {"arch": "convnext_atto", "args": argparse.Namespace(lr=0.1), "state_dict": network.state_dict()}
    torch.save(content, tmp_path / "last.pth.tar")
    record = load_model(str(tmp_path / "last.pth.tar"), ModelOptions()).record
    assert (record.arch, record.classes, record.preprocessing.input_shape) == ("timm/convnext_atto", 3, (1, 224, 224))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("timm/resnet18x", "timm has no network 'resnet18x'; did you mean timm/resnet18"),
        ("timm/resnet18.a9_in1k", r"timm has no weights 'a9_in1k' of resnet18; its tags: .*a1_in1k"),
    ],
)
def test_names_that_timm_does_not_have(source: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_model(source, ModelOptions(random_weights=True))


def test_random_weights_by_name() -> None:
    record = load_model("timm/test_vit.r160_in1k", ModelOptions(random_weights=True)).record
    assert (record.name, record.arch, record.random_weights) == (
        "timm-test_vit.r160_in1k",
        "timm/test_vit.r160_in1k",
        True,
    )
    assert record.preprocessing.input_size == 160


def test_where_timm_is_missing_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"timm is not installed.*pip install 'rtbench\[timm\]'"):
        load_model("timm/resnet18", ModelOptions())
