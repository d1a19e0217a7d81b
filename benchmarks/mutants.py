"""Do the tests of the pure modules notice a change? Every place that can be changed, changed once, by Cosmic Ray.

    python benchmarks/mutants.py > benchmarks/results/DATE-mutants.md        # half an hour
    python benchmarks/mutants.py stats measure/fidelity --most 50

A mutant is one module with one comparison, operator, number, condition or argument changed; types, decorators and
`is` beside a constant, of which Python warns, are left out. It is noticed where one of the module's own fast tests
fails; it runs in a forked process that has loaded everything else. Which of several changes of a place is made, and
where there are more than `--most` places which of them, is a matter of `--seed`. Mutants that survive are explained in
`survivors.toml`. Prints Markdown; exit code 1 where fewer than 95 % are noticed, or one that survives is not explained
there.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import importlib.util
import multiprocessing
import os
import random
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from multiprocessing.connection import wait
from pathlib import Path
from types import ModuleType

import cosmic_ray.plugins
import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
SURVIVORS = Path(__file__).with_name("survivors.toml")
TESTS = {
    "stats": ("test_stats", "test_mean_interval", "test_compare_rounds"),
    "measure/fidelity": ("test_fidelity",),
    "measure/conditions": ("test_conditions",),
    "measure/latency": ("test_latency",),
    "measure/summary": ("test_summary", "test_stats", "test_mean_interval"),
    "measure/rounds": ("test_latency", "test_rounds"),
    "review/spread": ("test_spread",),
    "review/gate": ("test_gate",),
    "scores/normalise": ("test_scores",),
    "scores/recommendation": ("test_recommendation", "test_recommendation_limits"),
    "scores/answer": ("test_answer",),
    "scores/doubt": ("test_labels",),
    "images/preprocessing": ("test_preprocessing",),
    "images/cropping": ("test_preprocessing", "test_input_shapes"),
}
LOADED_ONCE = ("rtbench.errors", "rtbench.terms", "rtbench.options", "rtbench.records")
"""Which import none of these modules, and take long to load."""
PROMISED = 0.95
SLOWER = 10
"""Than the tests of the module as it is, and a mutant counts as noticed: it does not end."""


@dataclass(frozen=True)
class Mutant:
    line: int
    before: str
    after: str
    source: str

    @property
    def change(self) -> str:
        return f"{self.before} -> {self.after}"


def mutants_of(source: str, chooser: random.Random) -> Iterator[Mutant]:
    """One change of each kind at every place, in the order of the file."""
    tree, skipped = get_ast(source), types_and_decorators(source)
    places: dict[tuple[tuple[int, int], str], list[tuple[object, int]]] = {}
    for name in cosmic_ray.plugins.operator_names():
        kind = cosmic_ray.plugins.get_operator(name)
        if kind.arguments():
            continue
        starts = [start for node in ast_nodes(tree) for start, _ in kind().mutation_positions(node)]
        for occurrence, start in enumerate(starts):
            if start not in skipped:
                places.setdefault((start, name.split("_")[0]), []).append((kind(), occurrence))
    for _, found in sorted(places.items()):
        chooser.shuffle(found)
        for operator, occurrence in found:
            mutated = mutate_code(source, operator, occurrence)
            if mutated and mutated != source and compiles(mutated):
                yield compared(source, mutated)
                break


def compiles(source: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("error", SyntaxWarning)
        try:
            compile(source, "mutant", "exec")
        except SyntaxError:
            return False
    return True


def types_and_decorators(source: str) -> set[tuple[int, int]]:
    """Where they stand."""
    found: set[tuple[int, int]] = set()
    for node in ast.walk(ast.parse(source)):
        types = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        for each in filter(None, [*types, *getattr(node, "decorator_list", ())]):
            found |= {(each.lineno, column) for column in range(each.col_offset - 1, each.end_col_offset)}
    return found


def compared(source: str, mutated: str) -> Mutant:
    old, new = source.splitlines(), mutated.splitlines()
    at = next(index for index, line in enumerate(old) if index >= len(new) or line != new[index])
    same_length = len(old) == len(new)
    return Mutant(at + 1, old[at].strip(), new[at].strip() if same_length else "(left out)", mutated)


class Quiet:
    """Leaves out tests that start rtbench as a process, which has the module as it is on disk."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        outside = {"rtbench", "terminal", "browser", "comparing", "image_cache"}
        items[:] = [item for item in items if not outside & set(getattr(item, "fixturenames", ()))]


def run_tests(module: str, mutated: str | None) -> int:
    """In a process of its own: 0 where all pass."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    if mutated is not None:
        load(f"rtbench.{module.replace('/', '.')}", mutated)
    paths = [str(ROOT / "tests" / f"{name}.py") for name in TESTS[module]]
    return int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", *paths], plugins=[Quiet()]))


def load(name: str, source: str) -> None:
    """Put `source` in place of a module that is not loaded yet."""
    spec = importlib.util.find_spec(name)
    assert spec
    assert spec.origin
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    package, _, own = name.rpartition(".")
    setattr(importlib.import_module(package), own, module)
    exec(compile(source, spec.origin, "exec"), vars(module))


def start(module: str, mutated: str | None) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(run_tests(module, mutated)))
    process.start()
    return process  # type: ignore[return-value]


def survivors_of(module: str, mutants: Sequence[Mutant], beside: int) -> list[Mutant]:
    """Those that no test notices."""
    began = time.monotonic()
    as_it_is = start(module, None)
    as_it_is.join()
    if as_it_is.exitcode:
        sys.exit(f"the tests of {module} fail as it is: {' '.join(TESTS[module])}")
    most_s = SLOWER * (time.monotonic() - began) + 10
    waiting, running, survivors = list(mutants), {}, []
    while waiting or running:
        while waiting and len(running) < beside:
            mutant = waiting.pop(0)
            running[start(module, mutant.source)] = mutant, time.monotonic()
        wait([process.sentinel for process in running], timeout=1)
        for process, (mutant, since) in list(running.items()):
            if process.is_alive() and time.monotonic() - since < most_s:
                continue
            process.kill()
            process.join()
            del running[process]
            if process.exitcode == 0:
                survivors.append(mutant)
    return survivors


def load_everything() -> None:
    """What tests and rtbench need of others, once; rtbench itself anew in each process, but for its records."""
    with contextlib.redirect_stdout(None):
        sys.path.insert(0, str(ROOT / "tests"))
        for name in ("made_runs", "torchvision.datasets.folder", "scipy.stats", *LOADED_ONCE):
            importlib.import_module(name)
    own: dict[str, ModuleType] = {name: module for name, module in sys.modules.items() if "/rtbench/" in origin(module)}
    for name, module in own.items():
        package, _, last = name.rpartition(".")
        if name == "rtbench" or name.startswith(LOADED_ONCE):
            continue
        del sys.modules[name]
        if package in sys.modules:
            vars(sys.modules[package]).pop(last, None)
        del module
    for name in ("made_runs", "made_samples"):
        sys.modules.pop(name, None)


def origin(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or ""


def explanations() -> dict[tuple[str, str], str]:
    if not SURVIVORS.exists():
        return {}
    listed = tomllib.loads(SURVIVORS.read_text(encoding="utf-8"))["survivor"]
    return {(each["module"], each["change"]): each["why"] for each in listed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", nargs="*", help=f"of {', '.join(TESTS)}; none: all of them")
    parser.add_argument("--most", type=int, default=150, help="mutants of a module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beside", type=int, default=os.cpu_count(), help="processes at a time")
    options = parser.parse_args()
    load_everything()
    why, tally, survived = explanations(), [0, 0], []
    print(f"# Mutants of the pure modules, {datetime.now(timezone.utc):%Y-%m-%d}\n")
    print(f"Seed {options.seed}, at most {options.most} of a module.\n")
    print("| module | its tests | places | mutants | noticed | share |\n|---|---|---|---|---|---|", flush=True)
    for module in options.module or TESTS:
        chooser = random.Random(options.seed)
        every = list(mutants_of((ROOT / "rtbench" / f"{module}.py").read_text(encoding="utf-8"), chooser))
        chosen = chooser.sample(every, min(options.most, len(every)))
        left = sorted(survivors_of(module, chosen, options.beside), key=lambda each: each.line)
        noticed = len(chosen) - len(left)
        tally[0] += noticed
        tally[1] += len(chosen)
        survived += [(module, mutant) for mutant in left]
        tests = ", ".join(f"`{name}`" for name in TESTS[module])
        share = f"{noticed / len(chosen):.1%}"
        print(f"| `{module}` | {tests} | {len(every)} | {len(chosen)} | {noticed} | {share} |", flush=True)
    share = tally[0] / tally[1]
    print(f"| all | | | {tally[1]} | {tally[0]} | {share:.1%} |\n\n## Survivors\n")
    for module, mutant in survived:
        print(f"- `{module}`:{mutant.line}: `{mutant.before}` becomes `{mutant.after}`")
        print(f"  {why.get((module, mutant.change), '**Not explained.**')}")
    sys.exit(share < PROMISED or any((module, mutant.change) not in why for module, mutant in survived))


if __name__ == "__main__":
    main()
