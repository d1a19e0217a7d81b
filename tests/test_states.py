"""State dicts as training scripts and other libraries leave them: the network is found, and what was chosen is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from rtbench.errors import UsageError
from rtbench.models.checkpoints import read_checkpoint
from rtbench.models.load import load_model
from rtbench.models.states import fit
from rtbench.options import ModelOptions

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(3)
    return torchvision.models.resnet18(num_classes=7).state_dict()


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


WRAPPED: dict[str, Callable[[State], State]] = {
    "DataParallel": lambda state: prefixed(state, "module."),
    "torch.compile": lambda state: prefixed(state, "_orig_mod."),
    "compiled within": lambda state: {key.replace("layer2.", "layer2._orig_mod."): each for key, each in state.items()},
    "Lightning": lambda state: (
        prefixed(state, "model.") | {"criterion.weight": torch.ones(7), "val_accuracy.confmat": torch.zeros(7, 7)}
    ),
    "a module of one's own in DataParallel": lambda state: prefixed(state, "module.classifier_net."),
    "MMPretrain": lambda state: {
        (f"head.{key}" if key.startswith("fc.") else f"backbone.{key}"): value for key, value in state.items()
    },
    "averaged": lambda state: prefixed(state, "module.") | {"n_averaged": torch.tensor(5)},
    "sorted": lambda state: dict(sorted(state.items())),
    "without counters": lambda state: {key: each for key, each in state.items() if "num_batches" not in key},
    "counted by thop": lambda state: state | {"total_ops": torch.zeros(1), "layer1.total_params": torch.zeros(1)},
    "bfloat16": lambda state: {k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()},
}


@pytest.mark.parametrize("how", WRAPPED)
def test_the_network_is_found_in_what_it_was_wrapped_in(how: str, state: State) -> None:
    fitted = fit(WRAPPED[how](state))
    assert (fitted.arch, fitted.options["num_classes"]) == ("resnet18", 7)
    assert fitted.state.keys() == state.keys()
    for key, value in fitted.state.items():
        assert torch.allclose(value.float(), state[key].float(), rtol=1e-2), key
    aside = {"Lightning": "criterion.weight and 1 more", "averaged": "n_averaged", "counted by thop": "total_ops"}
    said = " ".join(fitted.choices)
    assert aside.get(how, "") in said
    assert ("bfloat16" in said) == (how == "bfloat16")
    assert "timm has other recipes for the same layers: --arch timm/resnet18" in said
    assert len(fitted.choices) == 1 + (how in {*aside, "bfloat16"})


def test_former_names_are_those_of_now() -> None:
    network = torchvision.models.densenet121(num_classes=3)
    former = {
        key.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): each
        for key, each in network.state_dict().items()
    }
    assert former.keys() != network.state_dict().keys()
    assert fit(former).state.keys() == network.state_dict().keys()


def test_a_network_with_layers_of_its_own_is_not_taken_for_another(state: State) -> None:
    attentive = state | {"attention.weight": torch.ones(3, 3)}
    with pytest.raises(UsageError, match=r"the nearest is resnet18: it has attention\.weight, unknown there"):
        fit(attentive)


def test_what_fits_nothing_says_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"\(2 keys: stem\.weight, stem\.bias, …\) fits none .* TorchScript or"):
        fit({"stem.weight": torch.ones(3, 3), "stem.bias": torch.ones(3)})


def test_a_quantised_state_dict_is_called_that(state: State) -> None:
    with pytest.raises(UsageError, match="PyTorch has quantised; save the network as TorchScript"):
        fit(state | {"conv1.scale": torch.tensor(0.1), "conv1.zero_point": torch.tensor(3)})


def test_averaged_weights_are_taken_first_and_said(state: State, tmp_path: Path) -> None:
    averaged = {key: value * 2 if value.is_floating_point() else value for key, value in state.items()}
    torch.save({"state_dict": state, "state_dict_ema": averaged, "epoch": 3}, tmp_path / "both.pt")
    found = read_checkpoint(tmp_path / "both.pt")
    assert found.state is not None
    assert torch.equal(found.state["fc.bias"], averaged["fc.bias"])
    assert found.choices == ("the file's state_dict_ema was taken; --checkpoint-key chooses another of its state_dict",)
    chosen = read_checkpoint(tmp_path / "both.pt", key="state_dict")
    assert chosen.state is not None
    assert torch.equal(chosen.state["fc.bias"], state["fc.bias"])
    with pytest.raises(UsageError, match=r"has no raw; --checkpoint-key is one of state_dict_ema, state_dict"):
        read_checkpoint(tmp_path / "both.pt", key="raw")
    record = load_model(str(tmp_path / "both.pt"), ModelOptions(checkpoint_key="state_dict")).record
    assert "state_dict was taken" in record.choices[0]


@pytest.mark.parametrize("key", ["module", "model", "net", "params"])
def test_other_libraries_keep_it_under_other_keys(state: State, key: str, tmp_path: Path) -> None:
    torch.save({key: state, "optimizer": {"state": {0: torch.ones(3)}}}, tmp_path / "made.pt")
    assert load_model(str(tmp_path / "made.pt"), ModelOptions()).record.arch == "resnet18"


def test_safetensors_are_read_whole_and_in_parts(state: State, tmp_path: Path) -> None:
    plain = {key: value.contiguous() for key, value in state.items()}
    save_file(plain, tmp_path / "model.safetensors")
    assert load_model(str(tmp_path / "model.safetensors"), ModelOptions()).record.classes == 7
    keys = list(plain)
    for number, part in enumerate((keys[:50], keys[50:])):
        save_file({key: plain[key] for key in part}, tmp_path / f"part-{number}.safetensors")
    index = {key: f"part-{int(at >= 50)}.safetensors" for at, key in enumerate(keys)}
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": index}))
    read = read_checkpoint(path).state
    assert read is not None
    assert all(torch.equal(read[key], value) for key, value in state.items())
    (tmp_path / "part-1.safetensors").unlink()
    with pytest.raises(UsageError, match=r"part-1\.safetensors, which .* names, does not exist"):
        read_checkpoint(path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "cut.bin").write_bytes(whole[:-100])
    with pytest.raises(UsageError, match=r"cut\.bin is damaged or cut off"):
        read_checkpoint(tmp_path / "cut.bin")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5 file.*ends in .h5"),
        (b"\x1c\0\0\0TFL3" + bytes(100), "TensorFlow Lite model.*ends in .tflite"),
        (b"GGUF" + bytes(100), "GGUF file"),
        (b"<?xml version='1.0'?><net/>", "XML file"),
    ],
)
def test_files_of_other_frameworks_are_called_that(content: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(UsageError, match=what) as caught:
        load_model(str(tmp_path / "model.pt"), ModelOptions())
    assert "damaged" not in str(caught.value)


def test_a_choice_that_no_state_dict_shows_is_said(tmp_path: Path) -> None:
    torch.save(
        torchvision.models.googlenet(num_classes=4, init_weights=False, aux_logits=False).state_dict(),
        tmp_path / "g.pt",
    )
    (choice,) = load_model(str(tmp_path / "g.pt"), ModelOptions()).record.choices
    assert "transform_input=True" in choice
    assert "--no-transform-input leaves that out" in choice
