"""Command-line options made of the fields of `rtbench.options`, and how their text is read."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_args, get_type_hints

import typer

from rtbench.cli.completion import COMPLETERS
from rtbench.errors import UsageError
from rtbench.options import OTHER_NAMES, Options, Share, flag
from rtbench.terms import FormatName, Precision, Size, Triple

PRECISIONS = get_args(Precision)
FORMATS: dict[str, str] = {"onnx": "onnx", "trt": "engine", "tflite": "tflite"}

_OTHER_FLAGS = {flag(other)[2:]: flag(name)[2:] for other, name in OTHER_NAMES.items()}
OTHER_FLAGS = {"token_normalize_func": lambda name: _OTHER_FLAGS.get(name, name)}
"""Settings of a command that knows its options by their other names too, which `--help` does not show."""

Given = TypeVar("Given", bound=Options)


def option(
    *names: str,
    help: str,
    metavar: str | None = None,
    min: float | None = None,
    max: float | None = None,
    autocompletion: Callable[[str], list[str]] | None = None,
) -> Any:
    return typer.Option(
        *names, help=help, metavar=metavar, min=min, max=max, show_default=True, autocompletion=autocompletion
    )


CacheDir = Annotated[Path | None, option("--cache-dir", help="Where decoded images are kept.", metavar="DIR")]
Output = Annotated[Path | None, option("--output", help="Write there instead of to stdout.", metavar="FILE")]


def takes(kind: type[Given]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each field of `kind`; it is called with `options`, an instance of it."""
    types = get_type_hints(kind)
    names = list(_field_names(kind))

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            said = {name: _read(name, types[name], given.pop(name)) for name in names}
            command(**given, options=kind(**said))

        own = inspect.signature(command, eval_str=True).parameters
        parameters = [each for name, each in own.items() if name != "options"]
        parameters += [_parameter(kind, name, types[name]) for name in names]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


def _field_names(kind: type[Options]) -> Iterator[str]:
    """A class's own fields first, then those of its bases as they are listed."""
    for each in kind.__mro__:
        yield from (name for name in inspect.get_annotations(each) if name in kind.__dataclass_fields__)


def _parameter(kind: type[Options], name: str, hint: Any) -> inspect.Parameter:
    field = kind.__dataclass_fields__[name]
    default, said = field.default, field.metadata
    bounds = said["least"], said["most"]
    if _reader(hint) is parse_share:
        bounds = -math.inf, math.inf  # which are of fractions, and the text is in percent
    if _reader(hint):
        hint = str if default else str | None
        default = _text(default)
    low, high = (bound if math.isfinite(bound) else None for bound in bounds)
    named = f"{flag(name)}/{flag(name, False)}" if hint == bool | None else flag(name)
    completer = COMPLETERS.get(name)
    declared = option(named, help=said["help"], metavar=said["metavar"], min=low, max=high, autocompletion=completer)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, declared]
    )


def _text(default: Any) -> str | None:
    """A default as the user would write it."""
    if isinstance(default, tuple):
        names = {kind: name for name, kind in FORMATS.items()}
        return ",".join(str(names.get(each, each)) for each in default) or None
    return None if default is None else f"{100 * default:g}%"


def _read(name: str, hint: Any, value: Any) -> Any:
    """The value of an option as its field has it."""
    reader = _reader(hint)
    if reader is None:
        return value
    return reader(flag(name), value) if value is not None else () if hint == tuple[str, ...] else None


def _reader(hint: Any) -> Callable[[str, str], Any] | None:
    """What reads the text of an option of this type; None where Typer does."""
    return next((READERS[each] for each in (hint, *get_args(hint)) if each in READERS), None)


def parse_names(flag: str, text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise UsageError(f"{flag} is empty", "leave it out, or name something")
    return names


def parse_precisions(flag: str, text: str) -> tuple[Precision, ...]:
    return cast("tuple[Precision, ...]", _known(flag, text, PRECISIONS))


def parse_formats(flag: str, text: str) -> tuple[str, ...]:
    return tuple(FORMATS.get(name, name) for name in parse_names(flag, text))


def _known(flag: str, text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """The names of a list, each one of `known`; UsageError with the nearest for one that is not."""
    import difflib

    names = parse_names(flag, text)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise UsageError(f"there is no {flag[2:-1]} {name!r}", hint)
    return names


def parse_triple(flag: str, text: str) -> Triple:
    try:
        first, *rest = (float(part) for part in text.split(","))
        second, third = rest or (first, first)
    except ValueError:
        raise UsageError(f"{flag} {text} is not one number or three", f"write {flag} 0.5,0.5,0.5") from None
    return first, second, third


def parse_size(flag: str, text: str) -> Size:
    """`224`, or `224x320`: height and width."""
    try:
        sides = [int(part) for part in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2):
        raise UsageError(f"{flag} {text} is not a size in pixels", f"write {flag} 224, or {flag} 224x320")
    return sides[0] if len(set(sides)) == 1 else (sides[0], sides[1])


def parse_share(flag: str, text: str) -> Share:
    """`1%`, `1pp` or `0.01`, as a fraction."""
    number = text.removesuffix("%").removesuffix("pp")
    try:
        value = float(number) / (1 if number == text else 100)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise UsageError(f"{flag} {text} is not between 0 and 100 %", f"write {flag} 1%")
    return Share(value)


READERS: dict[Any, Callable[[str, str], Any]] = {
    tuple[str, ...]: parse_names,
    tuple[Precision, ...]: parse_precisions,
    tuple[FormatName, ...]: parse_formats,
    Triple: parse_triple,
    tuple[int, int]: parse_size,
    Share: parse_share,
}
