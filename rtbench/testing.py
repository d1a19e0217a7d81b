"""For those who write a runtime: does a module keep the contract of `rtbench.runtimes`?"""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
from numpy.typing import NDArray

from rtbench import artifacts
from rtbench.errors import RuntimeUnavailable
from rtbench.measure.fidelity import within_rounding
from rtbench.records.model import Artifact, Model
from rtbench.runtimes import RuntimeModule, Session, SessionInfo

if TYPE_CHECKING:
    import torch

REPEATS = 20
"""Sessions opened and closed one after the other, none of which may leave a file open."""


def network(classes: int) -> torch.nn.Module:
    """A small network with random weights for inputs of any size, in which nothing hides NaN, as a ReLU may."""
    import torch

    pooled = torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(4), torch.nn.Conv2d(8, 16, 3), torch.nn.Flatten()
    return torch.nn.Sequential(*pooled, torch.nn.Linear(64, classes)).eval()


def check_runtime(
    module: RuntimeModule, artifact: Artifact, model: Model, device: str = "cpu", variants: tuple[str, ...] = ()
) -> None:
    """Open an artifact of `model`, made of `network()` or alike, on a runtime, and hold the session to the contract.

    AssertionError in a sentence where: the probe says nothing; an input is changed; an output is not float32 of
    (N, classes), changes with a later run, or hardly depends on the input; a batch is not answered image by image;
    NaN in the input is hidden by a runtime that computes in floating point; closed sessions leave files open; a damaged
    artifact is opened, or called unavailable.
    """
    assert module.probe(device).strip(), "probe() says nothing of what would run"
    first, second = _images(model, 1), _images(model, 2)

    def opened() -> Session:
        module.ready(artifact, device)
        return module.open_session(artifact, model, device, 1, True, variants)

    session = opened()
    assert isinstance(session.info, SessionInfo), "info is not a SessionInfo"
    assert session.info.provider, "info.provider does not say what executes"
    _check_outputs(session, model, first, second)
    _check_batch(session, artifact, first, second)
    if artifact.precision != "int8":
        assert np.isnan(_infer(session, np.full_like(first, np.nan))).any(), "NaN in the input is not in the output"
    session.close()

    def use() -> None:
        session = opened()
        _infer(session, first)
        session.close()

    _check_closing(use)
    _check_damaged(module, artifact, model, device)


def _images(model: Model, seed: int) -> NDArray[np.float32]:
    """One image of noise, (1, C, H, W)."""
    shape = (1, *model.preprocessing.input_shape)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _infer(session: Session, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    session.bind(batch)
    session.run()
    return session.fetch()


def _check_outputs(session: Session, model: Model, first: NDArray[np.float32], second: NDArray[np.float32]) -> None:
    before = first.copy()
    output = _infer(session, first)
    assert (first == before).all(), "the input was changed"
    assert output.dtype == np.float32, f"the output is {output.dtype}, not float32"
    assert output.shape == (1, model.classes), f"the output has shape {output.shape}, expected (1, {model.classes})"
    kept = output.copy()
    other = _infer(session, second)
    assert (output == kept).all(), "an output changed with the next run: fetch() must give memory of its own"
    assert not (other == output).all(), "two images gave the very same output"
    again = _infer(session, first)
    assert np.allclose(again, output, rtol=1e-3, atol=1e-3 * np.abs(output).max()), "the same image gave another output"


def _check_batch(session: Session, artifact: Artifact, first: NDArray[np.float32], second: NDArray[np.float32]) -> None:
    if not artifact.dynamic_batch:
        return
    together = _infer(session, np.concatenate([first, second]))
    assert len(together) == 2, f"a batch of 2 gave {len(together)} outputs"
    alone = np.concatenate([_infer(session, first), _infer(session, second)])
    assert within_rounding(together, alone, artifact.precision), "a batch is answered differently from single images"


def _check_closing(use: Callable[[], None]) -> None:
    use()  # what is loaded once stays
    gc.collect()
    before = _open_files()
    for _ in range(REPEATS):
        use()
    gc.collect()
    left = _open_files() - before
    assert left < REPEATS, f"{REPEATS} closed sessions left {left} files open"


def _open_files() -> int:
    return int(psutil.Process().num_fds())


def _check_damaged(module: RuntimeModule, artifact: Artifact, model: Model, device: str) -> None:
    path = Path(artifact.path)
    damaged = path.with_name(f"damaged-{path.name}")
    (shutil.copytree if path.is_dir() else shutil.copyfile)(path, damaged)
    largest = max(artifacts.parts(damaged), key=lambda part: part.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    try:
        module.open_session(artifact.model_copy(update={"path": str(damaged)}), model, device, 1, True)
    except RuntimeUnavailable as error:
        raise AssertionError(
            "a damaged artifact is called unavailable, which is for machines that lack something"
        ) from error
    except Exception:  # noqa: BLE001 - whatever the library raises; it is the row's failure
        return
    finally:
        shutil.rmtree(damaged) if damaged.is_dir() else damaged.unlink()
    raise AssertionError("a damaged artifact was opened")
