"""A hundred thousand damaged files for every reader: none may crash, hang or eat memory.

    python -m benchmarks.torture.bad_bytes --output=docs/results/reliability/bad_bytes.json

Files of a real run of digits, and photos, are damaged (`mutations`) and read by the
project's own code in child processes (`watched`). Each input must be read, or refused by
an `InputError` that says why, in the time and memory that it may take; in a TFRecord file
every whole record must be found good. Whatever ends a child is put on record, and the
next input is read by another. A seed and a number give an input again:

    python -m benchmarks.torture.bad_bytes --reader='IDX labels' --only=1234
"""

import dataclasses
import os
import random
import tempfile
import time
import traceback

from absl import flags

from benchmarks import results
from benchmarks.torture import small_run, watched
from benchmarks.torture.readers import READERS
from noisy_student import tables
from tpu_scripts import setting_flags

_INPUTS = flags.DEFINE_integer("inputs", 100_000, "In all.", lower_bound=1)
_READER = flags.DEFINE_list("reader", [], "Names of readers; empty: all.")
_MINUTES = flags.DEFINE_float("minutes", 60, "No input is begun after so many.")
_SECONDS = flags.DEFINE_float("seconds", 20, "An input may take.", lower_bound=0.1)
_MEGABYTES = flags.DEFINE_float("megabytes", 1800, "Of memory that an input may take.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the damage.")
_ONLY = flags.DEFINE_integer("only", -1, "One input, read in this process.")
_RUN = flags.DEFINE_string("run", "", "A finished run of `small_run`; empty: make one.")
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: print only.")


def main():
    names = _READER.value or list(READERS)
    with tempfile.TemporaryDirectory() as directory:
        run = _RUN.value or _made(os.path.join(directory, "run"))
        if _ONLY.value >= 0:
            return _show(names[0], directory, run)
        found = _watched(names, run)
    rows = [
        [
            one.reader,
            *(f"{n:,}" for n in (one.inputs, one.read, one.refused)),
            ", ".join(f"{n} {kind}" for kind, n in one.kinds().items()) or "none",
            f"{one.peak_mb:,.0f}",
            f"{one.longest_s:.1f}",
            str(one.children),
        ]
        for one in found
    ]
    header = ["reader", "inputs", "read", "refused", "failures"]
    header += ["most MB", "longest s", "processes"]
    print(tables.markdown_table(header, rows))
    inputs = sum(one.inputs for one in found)
    failures = [failure for one in found for failure in one.failures]
    print(f"\n{inputs:,} inputs, {len(failures):,} failures")
    given = results.settings(_INPUTS, _SECONDS, _MEGABYTES, _SEED)
    wrong = [f"{f['reader']}, input {f['input']}: {f['kind']}" for f in failures]
    if inputs < _INPUTS.value:
        wrong.append(f"Only {inputs:,} of {_INPUTS.value:,} inputs.")
    results.write(
        _OUTPUT.value,
        given,
        inputs=inputs,
        readers={one.reader: _as_json(one) for one in found},
        seconds=round(sum(one.seconds for one in found)),
        failures=wrong,
    )
    if wrong:
        raise SystemExit(f"{len(wrong)} failures.")


def _made(directory: str) -> str:
    ended = small_run.ended(small_run.iterate(directory))
    if ended.status:
        raise RuntimeError(ended.tail)
    return directory


def _watched(names: list[str], run: str) -> list[watched.Found]:
    limits = watched.Limits(_SECONDS.value, _MEGABYTES.value)
    parts, found = sum(READERS[name].share for name in names), []
    end = time.monotonic() + 60 * _MINUTES.value
    for name in names:
        count = -int(-_INPUTS.value * READERS[name].share // parts)
        one = watched.watch(name, run, count, _SEED.value, limits, end)
        print(f"{name}: {one.inputs:,} inputs in {one.seconds:.0f} s", flush=True)
        for failure in one.failures[:3]:
            print(f"  {failure['input']}: {failure['kind']}: {failure['error'][:400]}")
        found.append(one)
    return found


def _as_json(found: watched.Found) -> dict:
    values = dataclasses.asdict(found)
    values["failures"] = values["failures"][:20]
    return {"kinds": found.kinds(), **values}


def _show(name: str, directory: str, run: str) -> None:
    reader = READERS[name](directory, run)
    made = reader.make(random.Random(f"{_SEED.value}:{name}:{_ONLY.value}"))
    print(f"{len(made):,} bytes: {made[:2000]!r}")
    try:
        reader.read(made)
        print("read")
    except Exception:
        traceback.print_exc()


if __name__ == "__main__":
    setting_flags.run(main)
