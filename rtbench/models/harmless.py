"""Files of code shown to be harmless before anything of them is loaded: TorchScript and torch.export archives.

An operator is harmless where the text that it takes is a mode, a message or a key, never the name of a file. What is
loaded is a copy, made of nothing but the parts that were looked at: a file is not read twice, nor by two readers of
zip archives that may see different members. This is about what a file asks for; a fault in torch itself that a graph
of harmless operators could use is not found.
"""

from __future__ import annotations

import functools
import io
import json
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from rtbench.models.torch_files import look_through
from rtbench.models.trust import NotShown
from rtbench.terms import Format

MODES = frozenset(
    {
        "UPLO",
        "a",
        "activation",
        "algorithm",
        "api_name",
        "approximate",
        "assert_msg",
        "b",
        "chars",
        "cls",
        "default_value",
        "device_type",
        "dict",
        "driver",
        "el",
        "elem",
        "equation",
        "fillchar",
        "idx",
        "ind",
        "indexing",
        "input",
        "inputs",
        "interpolation",
        "item",
        "key",
        "l",
        "message",
        "mode",
        "msg",
        "new",
        "norm",
        "old",
        "ord",
        "p",
        "pad_mode",
        "padding",
        "padding_side",
        "reduce",
        "rounding_mode",
        "s",
        "self",
        "separator",
        "side",
        "string",
        "substr",
        "t",
        "to_add",
        "type",
        "values",
    }
)
"""Arguments whose text says how, or is compared and put together; of `aten` and `prim`, where all are known."""
PROGRAM = re.compile(r"(?:data|constants)\.pkl|(?:data|constants)/\d+|code/.+\.py|version|byteorder|\.data/\w+")
"""What of a TorchScript archive makes the network; the rest is for debugging, other readers and its user."""
EXPORTED = re.compile(
    r"models/model\.json|data/(?:weights/(?:weight_\d+|model_weights_config\.json)"
    r"|constants/(?:tensor_\d+|model_constants_config\.json))|archive_format|archive_version|byteorder|\.data/\w+"
)
SAMPLE_INPUTS = "data/sample_inputs/model.pt"
CLASSES = re.compile(rb"[.\n]classes\b(?!\.(?:quantized|sparse|rnn)[.\n])")
"""Classes written in C++, but those that hold packed weights."""
TEXT_IS_A_MODE = ("mkldnn", "mkldnn_prepacked", "onednn", "quantized", "debug_mode_ops")
"""Libraries of operators; what the last of them annotates is a word of the language of TorchScript too."""
REMOTE = frozenset({"rpc_async", "rpc_sync", "rpc_remote"})
OPERATOR = re.compile(r"torch\.ops\.(?:aten|quantized|quantized_decomposed|torchvision)\.(\w+)\.\w+")
FUNCTIONS = frozenset(
    [f"_operator.{name}" for name in ("add", "and_", "eq", "floordiv", "ge", "getitem", "gt", "le", "lt", "mod", "mul")]
    + [f"_operator.{name}" for name in ("ne", "neg", "or_", "pow", "sub", "truediv")]
    + ["math.ceil", "math.floor", "math.trunc"]
    + [f"torch.sym_{name}" for name in ("float", "int", "ite", "max", "min", "not", "sum")]
)
"""What else a graph of torch.export may call."""
PLAIN, MODE = re.compile(r"[\w.-]*"), re.compile(r"[\w .,>+*/-]*")
"""Names, which torch writes into Python that it then runs; and text for operators."""
EXPRESSION, WORD = re.compile(r"[\w .,()<>=&|+*/%-]*"), re.compile(r"[^\W\d]\w*")
SYMBOL = re.compile(r"Symbol\('((?:s|u|zs|zuf|zf)\d+)'((?:, (?:positive|negative|nonnegative|integer|real)=True)*)\)")
FUNCTION = re.compile(
    r"(?:s|u|zs|zuf|zf)\d+|True|False|int_oo|Integer|Rational|Float|Add|Mul|Pow|Eq|Ne|Equality|Unequality|StrictLessThan"
    r"|LessThan|StrictGreaterThan|GreaterThan|And|Or|Not|Max|Min|floor|ceiling|Where|Mod|PythonMod|FloorDiv|CleanDiv"
    r"|CeilDiv|IntTrueDiv|FloatTrueDiv|ModularIndexing|CeilToInt|FloorToInt|TruncToInt|RoundToInt|TruncToFloat|ToFloat"
    r"|LShift|RShift|PowByNatural|FloatPow|Identity"
)
"""Expressions of sizes, which sympy runs as Python: symbols, numbers, and functions of them."""
MOST_TEXT = 500
CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")
MOST_CODE = 1 << 26
"""Bytes that code may unpack to; weights are not compressed."""
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    OverflowError,
)
"""What zipfile raises for bytes that it cannot read as an archive."""


def harmless_copy(path: Path, kind: Format) -> io.BytesIO:
    """The archive of kind `torchscript` or `pt2` without what is not needed to run it; NotShown where it may do more
    than compute."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, PROGRAM if kind == "torchscript" else EXPORTED, path.stat().st_size)
    except BROKEN as error:
        raise NotShown(f"its archive cannot be looked into: {error}") from None
    try:
        changed = _checked_script(members) if kind == "torchscript" else _checked_program(members)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise NotShown("it is not laid out as this version of torch does") from None
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w") as archive:
        for name, content in {**members, **changed}.items():
            archive.writestr(f"model/{name}", content)
    copy.seek(0)
    return copy


def _members(archive: zipfile.ZipFile, wanted: re.Pattern[str], size: int) -> dict[str, bytes]:
    """By their names below the archive's one folder."""
    members: dict[str, bytes] = {}
    roots = {member.filename.partition("/")[0] for member in archive.infolist()}
    if len(roots) != 1:
        raise NotShown("it has more than one folder")
    chosen = {member.filename.partition("/")[2]: member for member in archive.infolist()}
    if len(chosen) < len(archive.infolist()):
        raise NotShown("it has two members of one name")
    chosen = {name: member for name, member in chosen.items() if wanted.fullmatch(name)}
    if sum(member.file_size for member in chosen.values()) > size + MOST_CODE:
        raise NotShown("it unpacks to more than its own size")
    for name, member in chosen.items():
        members[name] = archive.read(member)
    return members


@functools.cache
def _harmful() -> frozenset[str]:
    """Names of the operators that take text which may name a file, or anything else outside the graph."""
    names = set(REMOTE)
    for schema in torch._C._jit_get_all_schemas():
        library, _, name = schema.name.partition("::")
        text = {argument.name for argument in schema.arguments if re.search(r"\bstr\b", str(argument.type))}
        if text and not (library in ("aten", "prim") and text <= MODES) and library not in TEXT_IS_A_MODE:
            names.add(name)
    return frozenset(names)


def _checked_script(members: Mapping[str, bytes]) -> dict[str, bytes]:
    """Every word of the code is looked at, wherever it stands: to be called, an operator must be named."""
    for name, content in members.items():
        if not name.endswith((".py", ".pkl")):
            continue
        if CLASSES.search(content):
            raise NotShown("it makes an object of a class that is not known")
        if name.endswith(".pkl"):
            look_through(content)
        if name.endswith(".py"):
            words = set(WORD.findall(content.decode("ascii")))
            if named := sorted(words & _harmful()):
                raise NotShown(f"its code names {named[0]}")
    return {}


def _checked_program(members: Mapping[str, bytes]) -> dict[str, bytes]:
    """The program and where its weights are, without pickles, sample inputs, guards and notes."""
    changed: dict[str, Any] = {}
    for kind, file in (("weights", "weight_"), ("constants", "tensor_")):
        name = f"data/{kind}/model_{kind}_config.json"
        changed[name] = json.loads(members[name])
        _require_plain(changed[name])
        for payload in changed[name]["config"].values():
            if payload["use_pickle"] or not payload["path_name"].startswith(file):
                raise NotShown("some of its weights are pickled")
    program = json.loads(members["models/model.json"])
    module = program["graph_module"]
    root = next(call for call in module["module_call_graph"] if not call["fqn"])
    specs = {name: _checked_spec(root["signature"].pop(name)) for name in ("in_spec", "out_spec")}
    program["guards_code"], module["metadata"], module["treespec_namedtuple_fields"] = [], {}, {}
    module["module_call_graph"] = [root]
    for node in module["graph"]["nodes"]:
        node["metadata"] = {}
        called = OPERATOR.fullmatch(node["target"])
        if (called and called[1] in _harmful()) or not (called or node["target"] in FUNCTIONS):
            raise NotShown(f"it calls {node['target']:.80}")
    _require_plain(program)
    root["signature"].update(specs)
    changed["models/model.json"] = program
    # it is not loaded without sample inputs, and these need no reading
    return {name: json.dumps(content).encode() for name, content in changed.items()} | {SAMPLE_INPUTS: b""}


def _checked_spec(text: str) -> str:
    """How inputs and outputs are nested: in containers of Python alone, whose reading calls nothing."""
    protocol, outer = json.loads(text)

    def require(spec: Any) -> None:
        if spec["type"] not in CONTAINERS:
            raise NotShown(f"its inputs or outputs are of the type {spec['type']!s:.80}")
        context = json.loads(spec["context"]) if spec["context"] is not None else None
        if context is not None and not all(isinstance(each, (str, int)) for each in context):
            raise NotShown("the keys of its inputs or outputs are not text")
        for child in spec["children_spec"]:
            require(child)

    require(outer)
    return json.dumps([protocol, outer])


def _require_plain(part: Any, key: str = "") -> None:
    """Text is names, modes of operators and expressions of sizes; objects are tensors and numbers."""
    match part:
        case dict():
            for name, value in part.items():
                _require_text(name, PLAIN.fullmatch)
                if "custom_obj" in name and value:
                    raise NotShown("it makes an object of a class that is not known")
                _require_plain(value, name)
        case list():
            for value in part:
                _require_plain(value, key)
        case str():
            _require_text(part, _CHECKS.get(key, PLAIN.fullmatch))


def _is_expression(text: str) -> bool:
    rest = SYMBOL.sub(r"\1", text)
    plain = EXPRESSION.fullmatch(rest) and all(FUNCTION.fullmatch(word) for word in WORD.findall(rest))
    return bool(plain) and len(text) <= MOST_TEXT


_CHECKS: dict[str, Callable[[str], object]] = {
    "expr_str": _is_expression,
    "as_string": MODE.fullmatch,
    "as_strings": MODE.fullmatch,
    "torch_version": re.compile(r"[\w.+]*").fullmatch,
}


def _require_text(text: str, check: Callable[[str], object]) -> None:
    if not check(text):
        raise NotShown(f"it holds the text {text[:80]!r}")
