"""Which faults the tests find: mutants of what decides the numbers.

    pip install cosmic-ray
    python -m benchmarks.mutation --output=docs/results/mutation.json

A mutant is a module with one place of it changed by an operator of cosmic-ray: `+` to
`-`, `<` to `<=`, a number by one, a condition turned around, a loop not run. It is
killed if a test of its module fails, and survives if all pass. Places are drawn evenly
from all modules, then one operator of those that fit the place; annotations are left
out. Each mutant lives in a copy of the tree (AutoGraph reads sources from disk) and is
tested in a fork of one process that has loaded TensorFlow, so that it costs the tests
alone. A survivor is no fault by itself: it may be equal in effect, or change a message.
"""

import ast
import difflib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest
import tensorflow  # noqa: F401  Loaded before the forks.
from absl import app, flags
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

from benchmarks import results
from noisy_student import tables

_MUTANTS = flags.DEFINE_integer("mutants", 300, "How many are drawn.", lower_bound=1)
_MODULES = flags.DEFINE_list("modules", [], "Paths of `TESTS`; empty: all.")
_LINES = flags.DEFINE_list("lines", [], "Only in these lines of the modules; empty: all.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the draw.")
_MINUTES = flags.DEFINE_float("minutes", 60, "Stops after the mutant that exceeds it.")
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: print only.")

_TRAINING, _BALANCING = "tests/noisy_student/training/", "tests/noisy_student/balancing/"
_SELECTION = [_BALANCING + "test_order_statistics.py", _BALANCING + "test_selection.py"]
_AUGMENTATION = ["tests/data/test_randaugment.py", "tests/data/test_augmentation.py"]
# Module -> its tests, the quick ones first: the first that fails is the last.
TESTS = {
    "noisy_student/training/losses.py": [
        _TRAINING + "test_losses.py",
        _TRAINING + "test_train_step.py",
    ],
    "noisy_student/training/objective.py": [
        _TRAINING + "test_golden_trajectory.py",
        _TRAINING + "test_train_step.py",
    ],
    "noisy_student/training/optimizer.py": [
        _TRAINING + "test_optimizer.py",
        _TRAINING + "test_golden_trajectory.py",
    ],
    "noisy_student/training/ema.py": [
        _TRAINING + "test_ema.py",
        _TRAINING + "test_golden_trajectory.py",
    ],
    "noisy_student/balancing/selection.py": _SELECTION,
    "noisy_student/balancing/order_statistics.py": _SELECTION,
    "noisy_student/balancing/ranking.py": _SELECTION,
    "noisy_student/balancing/choosing.py": _SELECTION,
    "noisy_student/balancing/reference_selection.py": _SELECTION,
    "noisy_student/preparation/splits.py": [
        "tests/noisy_student/preparation/test_splits.py",
        "tests/noisy_student/preparation/test_preparation.py",
    ],
    "data/augmentation.py": _AUGMENTATION,
    "data/randaugment.py": _AUGMENTATION,
    "data/image_ops.py": _AUGMENTATION,
    "data/crops.py": ["tests/data/test_crops.py", "tests/data/test_augmentation.py"],
    "data/records.py": ["tests/data/test_records.py", "tests/data/test_pipeline.py"],
    "data/soft_labels.py": ["tests/data/test_soft_labels.py"],
    "data/shuffling.py": ["tests/data/test_shuffling.py"],
    "data/record_order.py": ["tests/data/test_pipeline.py", "tests/data/test_shuffling.py"],
}
# They need to be told what to replace.
_OPERATORS = sorted(
    set(operator_names()) - {"core/VariableReplacer", "core/VariableInserter"}
)


def main(_):
    sys.dont_write_bytecode = True
    rng = random.Random(_SEED.value)
    modules = _MODULES.value or list(TESTS)
    sources = {module: pathlib.Path(module).read_text() for module in modules}
    drawn = draw(sources, _MUTANTS.value, rng)
    began, found = time.monotonic(), []
    with tempfile.TemporaryDirectory() as tree:
        _copy_tree(tree)
        seconds = {module: _seconds_unchanged(tree, module) for module in modules}
        for number, (module, mutant) in enumerate(drawn, 1):
            outcome = _outcome(tree, module, mutant, limit=60 + 4 * seconds[module])
            found.append({"module": module, "outcome": outcome})
            found[-1] |= _change(sources[module], mutant)
            if outcome == "survived":
                print(f"{module}:{found[-1]['line']}\n{found[-1]['change']}", flush=True)
            minutes = (time.monotonic() - began) / 60
            if number % 10 == 0:
                print(
                    f"{number} of {len(drawn)} mutants, {minutes:.0f} minutes", flush=True
                )
            if minutes > _MINUTES.value:
                break
    print(as_markdown(found))
    survivors = [row for row in found if row["outcome"] == "survived"]
    settings = results.settings(_MUTANTS, _SEED)
    results.write(_OUTPUT.value, settings, modules=_counts(found), survivors=survivors)


def draw(sources: dict[str, str], count: int, rng: random.Random) -> list[tuple[str, str]]:
    """Module and changed source of so many mutants, all different."""
    wanted = {int(line) for line in _LINES.value}
    places: dict[tuple, list] = {}
    for module, source in sources.items():
        for name in _OPERATORS:
            for occurrence, start in enumerate(_positions(source, get_operator(name)())):
                if not wanted or start[0] in wanted:
                    places.setdefault((module, start), []).append((name, occurrence))
    order = sorted(places)
    rng.shuffle(order)
    drawn: list[tuple[str, str]] = []
    for module, start in order:
        name, occurrence = rng.choice(places[module, start])
        source = sources[module]
        mutant = mutate_code(source, get_operator(name)(), occurrence)
        if _differs(mutant, source):
            drawn.append((module, mutant))
        if len(drawn) == count:
            break
    return drawn


def _positions(source: str, operator) -> list[tuple[int, int]]:
    nodes = ast_nodes(get_ast(source))
    return [start for node in nodes for start, _ in operator.mutation_positions(node)]


def _differs(mutant: str, source: str) -> bool:
    try:
        return _without_annotations(mutant) != _without_annotations(source)
    except SyntaxError:  # `*arguments`, taken for a product.
        return False


def _without_annotations(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            if hasattr(node, field):
                setattr(node, field, None)
    return ast.dump(tree)


def _copy_tree(tree: str) -> None:
    listed = subprocess.run(
        ["git", "ls-files"], check=True, stdout=subprocess.PIPE, text=True
    )
    for path in listed.stdout.splitlines():
        target = pathlib.Path(tree, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def _seconds_unchanged(tree: str, module: str) -> float:
    began = time.monotonic()
    if _run_tests(tree, module, 600) != "survived":
        raise app.UsageError(f"the tests of {module} fail as it is: {TESTS[module]}")
    return time.monotonic() - began


def _outcome(tree: str, module: str, mutant: str, limit: float) -> str:
    path = pathlib.Path(tree, module)
    original = path.read_text()
    path.write_text(mutant)
    try:
        return _run_tests(tree, module, limit)
    finally:
        path.write_text(original)


def _run_tests(tree: str, module: str, limit: float) -> str:
    """`killed`, `timeout` or `survived`, found by a fork of this process."""
    child = os.fork()
    if not child:
        _be_the_test(tree, module)
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return "survived" if status == 0 else "killed"
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


def _be_the_test(tree: str, module: str) -> None:
    os.setsid()
    home = os.getcwd()
    os.chdir(tree)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sys.path[:] = [tree, *(path for path in sys.path if path not in ("", home))]
    roots = {path.split("/")[0] for path in TESTS} | {"benchmarks", "tpu_scripts"}
    for name in [name for name in sys.modules if name.split(".")[0] in roots]:
        del sys.modules[name]
    options = ["-x", "-q", "-p", "no:cacheprovider"]
    status = 1
    try:
        status = pytest.main([*options, *TESTS[module]])
    finally:
        os._exit(int(status))


def _change(source: str, mutant: str) -> dict:
    before, after = source.splitlines(), mutant.splitlines()
    lines = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]
    same = (old == new for old, new in zip(before, after, strict=False))
    line = next((at for at, equal in enumerate(same, 1) if not equal), len(after))
    return {"line": line, "change": "\n".join(lines)}


def _counts(found: list[dict]) -> list[dict]:
    rows = []
    for module in TESTS:
        outcomes = [row["outcome"] for row in found if row["module"] == module]
        if outcomes:
            survived = outcomes.count("survived")
            rows.append({"module": module, "mutants": len(outcomes), "survived": survived})
    return rows


def as_markdown(found: list[dict]) -> str:
    rows = [[str(value) for value in row.values()] for row in _counts(found)]
    return tables.markdown_table(["module", "mutants", "survived"], rows)


if __name__ == "__main__":
    app.run(main)
