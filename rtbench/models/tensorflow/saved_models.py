"""SavedModels, shown to be harmless before TensorFlow runs anything of them.

A SavedModel is a program, and its operators can read and write files. One is harmless where it takes no text: text may
be the name of a file. What is loaded is a copy with the functions that compute alone. Those that save and restore are
left out, and TensorFlow reads the variables without them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from rtbench.errors import UsageError, not_importable
from rtbench.images.graph_input import CHANNELS
from rtbench.models.tensorflow import GRAPH
from rtbench.models.trust import NotShown, needs_trust

try:
    import tensorflow as tf
    from tensorflow.core.framework import types_pb2
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.framework import op_def_registry
except ImportError as error:
    raise not_importable("tensorflow", "tf", error) from error

SAVING = ("__inference__traced_save_", "__inference__traced_restore_")
SETTINGS = frozenset(
    (
        *("container", "shared_name", "debug_name", "config", "config_proto", "executor_type"),
        *("data_format", "padding", "method", "mode", "equation"),
    )
)
"""Attributes whose text says how something is computed, or what a variable is called."""
KINDS = frozenset({"user_object", "function", "bare_concrete_function", "variable", "constant"})
"""Objects of a SavedModel that hold no file: neither assets nor tables."""
MOST_GRAPH = 1 << 28
"""Bytes of a graph without the weights."""
SERVING = ("serving_default", "serve")


@dataclass(frozen=True)
class Network:
    """A signature of a SavedModel that takes one image tensor. `shape` has None for what is free."""

    function: Any
    input: str
    kind: np.dtype[Any]
    shape: tuple[int | None, ...]
    outputs: tuple[str, ...]
    parameters: int

    @property
    def channels_last(self) -> bool:
        """As TensorFlow's networks are, but where the signature says otherwise."""
        return self.shape[1] not in CHANNELS or self.shape[3] in CHANNELS

    def __call__(self, batch: NDArray[Any]) -> dict[str, Any]:
        outputs: dict[str, Any] = self.function(**{self.input: tf.constant(batch)})
        return outputs


def open_saved_model(folder: Path, *, trust_code: bool) -> Network:
    """The network of a SavedModel, ready to run on the CPU.

    Raises UsageError where it is damaged, runs code of its own while `trust_code` is false, or takes no images.
    """
    with tempfile.TemporaryDirectory(prefix="rtbench-") as scratch:
        if not trust_code:
            try:
                folder_read = _harmless_copy(folder, Path(scratch))
            except NotShown as reason:
                raise needs_trust(folder, "a SavedModel", reason) from None
        else:
            folder_read = folder
        try:
            loaded = tf.saved_model.load(str(folder_read))
        except Exception as error:  # TensorFlow raises many kinds
            raise UsageError(
                f"{folder} cannot be loaded by TensorFlow {tf.__version__}: {str(error).splitlines()[0]}",
                "export it again",
            ) from error
    return _network(folder, loaded)


def _network(folder: Path, loaded: Any) -> Network:
    found = getattr(loaded, "signatures", {})
    signatures = dict(found) if isinstance(found, Mapping) else {}
    name = next((each for each in SERVING if each in signatures), None)
    if name is None and len(signatures) == 1:
        name = next(iter(signatures))
    if name is None:
        said = f"its signatures are {', '.join(signatures)}" if signatures else "it has no signature"
        raise UsageError(f"{folder} cannot be called: {said}", f"export it with the signature {SERVING[0]}")
    function = signatures[name]
    inputs = function.structured_input_signature[1]
    spec = next(iter(inputs.values()), None)
    if len(inputs) != 1 or spec is None or spec.shape.rank != 4:
        raise UsageError(f"{folder} does not take one input of four axes", "export an image classifier")
    function.keep = loaded  # its variables live as long
    return Network(
        function,
        next(iter(inputs)),
        np.dtype(spec.dtype.as_numpy_dtype),
        tuple(spec.shape.as_list()),
        tuple(sorted(function.structured_outputs)),
        sum(int(np.prod(each.shape)) for each in function.variables),
    )


def _harmless_copy(folder: Path, scratch: Path) -> Path:
    """The SavedModel with its graph looked through, and the same variables; NotShown where it may do more than
    compute."""
    path = folder / GRAPH
    if path.stat().st_size > MOST_GRAPH:
        raise NotShown("its graph is too large to be looked through")
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString(path.read_bytes())
    except DecodeError:
        raise UsageError(f"{path} is damaged: it cannot be parsed", "export it again") from None
    graphs = [each for each in saved.meta_graphs if "serve" in each.meta_info_def.tags]
    if len(graphs) != 1 or not graphs[0].HasField("object_graph_def"):
        raise NotShown("it is of TensorFlow 1, or has no graph to serve")
    graph = graphs[0]
    _check_objects(graph.object_graph_def)
    functions = [each for each in graph.graph_def.library.function if not each.signature.name.startswith(SAVING)]
    names = {each.signature.name for each in functions}
    if wild := set(graph.object_graph_def.concrete_functions) - names:
        raise NotShown(f"it calls {sorted(wild)[0]:.80}")
    for function in functions:
        _check_nodes(function.node_def, names)
    library = type(graph.graph_def.library)(function=functions)
    constants = [node for node in graph.graph_def.node if node.op == "Const"]
    kept = type(graph.graph_def)(library=library, node=constants, versions=graph.graph_def.versions)
    graph.graph_def.CopyFrom(kept)
    graph.ClearField("saver_def")
    graph.ClearField("collection_def")
    graph.ClearField("asset_file_def")
    only = saved_model_pb2.SavedModel(saved_model_schema_version=saved.saved_model_schema_version, meta_graphs=[graph])
    (scratch / GRAPH).write_bytes(only.SerializeToString())
    if (folder / "variables").is_dir():
        (scratch / "variables").symlink_to((folder / "variables").resolve())
    return scratch


def _check_objects(objects: Any) -> None:
    for node in objects.nodes:
        kind = node.WhichOneof("kind")
        if kind not in KINDS:
            raise NotShown(f"it has a {kind}")
        if node.saveable_objects or node.registered_saver:
            raise NotShown("it is restored by functions of its own")


def _check_nodes(nodes: Sequence[Any], functions: set[str]) -> None:
    for node in nodes:
        known = op_def_registry.get(node.op)
        if known is None and node.op not in functions:
            raise NotShown(f"it has the operator {node.op:.80}, which this TensorFlow does not know")
        if known is None:
            continue
        if any(_is_text(argument, node) for argument in known.input_arg):
            raise NotShown(f"its operator {node.op} takes text")
        for attribute in known.attr:
            given = node.attr.get(attribute.name)
            if attribute.type in ("string", "list(string)") and attribute.name not in SETTINGS and _has_text(given):
                raise NotShown(f"its operator {node.op} has the text {attribute.name}")
        called = {value.func.name for value in node.attr.values() if value.HasField("func")}
        called |= {each.name for value in node.attr.values() for each in value.list.func}
        if wild := called - functions - {""}:
            raise NotShown(f"it calls {sorted(wild)[0]:.80}")


def _is_text(argument: Any, node: Any) -> bool:
    text = types_pb2.DT_STRING
    types = [argument.type]
    if argument.type_attr:
        types.append(node.attr[argument.type_attr].type)
    if argument.type_list_attr:
        types += node.attr[argument.type_list_attr].list.type
    return text in types


def _has_text(value: Any) -> bool:
    return value is not None and bool(value.s or any(value.list.s))
