"""TensorFlow itself on a SavedModel: its signature as a function, in graph mode, on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtbench.errors import InvalidOutput, not_importable
from rtbench.images.graph_input import GraphInput
from rtbench.records.model import Artifact, Model
from rtbench.runtimes import Clock, SessionInfo

try:
    import tensorflow as tf
except ImportError as error:
    raise not_importable("tensorflow", "tf", error) from error

from rtbench.models.tensorflow.saved_models import open_saved_model


class TensorFlowSession:
    scripted_clock: Clock | None = None

    def __init__(self, artifact: Artifact, threads: int, trust_code: bool) -> None:
        if tf.config.threading.get_intra_op_parallelism_threads() != threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        self._network = open_saved_model(Path(artifact.path), trust_code=trust_code)
        self._taken = GraphInput(self._network.kind, channels_last=self._network.channels_last)
        self._name = artifact.output or self._network.outputs[0]
        self.info = SessionInfo(
            provider=f"tensorflow {tf.__version__}",
            device="cpu",
            settings={"input": str(self._taken), "mode": "graph", "inter_op_threads": "1"},
        )

    def bind(self, batch: NDArray[np.float32]) -> None:
        self._input = tf.constant(self._taken.of(batch))

    def run(self) -> None:
        try:
            self._output = self._network.function(**{self._network.input: self._input})[self._name]
        except tf.errors.InvalidArgumentError as error:
            raise InvalidOutput(str(error).splitlines()[0]) from error

    def fetch(self) -> NDArray[np.float32]:
        return np.array(self._output, dtype=np.float32)

    def device_ms(self) -> float | None:
        return None

    def close(self) -> None:
        del self._network


def ready(artifact: Artifact, device: str) -> None:
    pass


def open_session(
    artifact: Artifact, model: Model, device: str, threads: int, trust_code: bool, variants: tuple[str, ...] = ()
) -> TensorFlowSession:
    return TensorFlowSession(artifact, threads, trust_code)


def probe(device: str) -> str:
    return f"tensorflow {tf.__version__}"
