"""Class and file names that nobody should have: what becomes of them.

    python -m benchmarks.torture.names --output=docs/results/reliability/names.json

Digits as pictures in folders with such names go through the scripts: prepare_data,
iterate, evaluate, predict, export, lineage, show_augmentations. Fails where a script ends
with anything but success or one message, where a file outside of its directory changes,
where the report or a model card has an element or script that is not ours, where a CSV
does not read back or holds a formula, or where a terminal would obey what is printed.
"""

import csv
import html.parser
import os
import re
import subprocess
import sys
import tempfile
import time
import unicodedata

from absl import flags

from benchmarks import results
from noisy_student import tables
from tpu_scripts import setting_flags

_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: print only.")

CLASSES = (
    "<script>alert(1)</script>".replace("/", "∕"),  # A folder's name has no slash.
    '"><img src=x onerror=alert(1)>',
    "=cmd()|'x'!A1",
    "+1+1",
    "@SUM(A1)",
    "-rf",
    "new\nline",
    "tab\tand\rreturn",
    "*?[glob]",
    "{{7*7}}{% include 'x' %}",
    "${HOME}`id`$(id)",
    "%s%n%2e%2e",
    "caf\u00e9",
    "cafe\u0301",
    "😀 \u202egnp.exe",
    "\x1b]0;title\x07\x1b[2J",
    "Case",
    "case",
    "nan",
    "null",
    "con",
    "a, \"b\"; 'c'",
    "back\\slash",
    " space ",
    "n" * 255,
)
FILES = (
    "..png",
    "-rf.png",
    "=1+1.png",
    "a\nb.png",
    "a\rb.png",
    "<b>bold<!--.png",
    "../../up.png".replace("/", "∕"),
    "..\\..\\up.png",
    "*.png",
    "e\u0301.png",
    "\u00e9.png",
    "\x1b[31mred.png",
    "😀.png",
    "n" * 251 + ".png",
    "'quoted'.png",
    "a,b;c.png",
    "#frag?query=1.png",
    "%2e%2e%2f.png",
)
IMAGES_PER_CLASS = 6
_NETWORK = tuple(
    f"--{role}_{setting}"
    for role in ("teacher", "student")
    for setting in ("width=0.1", "depth=0.1", "batch_size=20", "duration=20 steps")
)
# What a terminal obeys, or shows in another order: but the end of a line and a tab.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def main():
    began, failures = time.monotonic(), []
    with tempfile.TemporaryDirectory() as directory:
        scripts = _scripts(directory)
        before = _inventory(directory, "given")
        found = {}
        for name, command in scripts.items():
            found[name] = _outcome(name, command)
            failures += [f"{name}: {problem}" for problem in found[name].pop("problems")]
            print(f"{name}: {found[name]}", flush=True)
        if _inventory(directory, "given") != before:
            failures.append("The given pictures changed.")
        strangers = set(os.listdir(directory)) - {"given", "made"}
        failures += [f"Outside of its directory: {name!r}" for name in strangers]
        failures += _looked_at(os.path.join(directory, "made"))
    rows = [[name, str(row["status"])] for name, row in found.items()]
    print(tables.markdown_table(["script", "status"], rows), *failures, sep="\n")
    settings = {"class_names": len(CLASSES), "file_names": len(FILES)}
    seconds = round(time.monotonic() - began)
    results.write(
        _OUTPUT.value, settings, scripts=found, seconds=seconds, failures=failures
    )
    if failures:
        raise SystemExit(1)


def write_pictures(directory: str) -> None:
    """`labeled/CLASS/…`, `test/CLASS/…` and `unlabeled/…` of digits."""
    from data import sources

    source = sources.open_source("digits")
    records = source.read(range(len(source)))
    for part in ("labeled", "test"):
        for name in CLASSES:
            for number in range(IMAGES_PER_CLASS):
                _write(os.path.join(directory, part, name, f"{number}.png"), next(records))
    for name in FILES:
        _write(os.path.join(directory, "unlabeled", name), next(records))
        _write(os.path.join(directory, "labeled", CLASSES[0], name), next(records))
    for number in range(60):
        _write(os.path.join(directory, "unlabeled", f"{number}.png"), next(records))
    # Not UTF-8, which TensorFlow cannot open.
    folder = os.fsencode(os.path.join(directory, "not_utf8"))
    os.makedirs(folder)
    with open(folder + b"/\xff\xfe.png", "wb") as file:
        file.write(next(records).image)


def _write(path: str, record) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(record.image)


def _scripts(directory: str) -> dict[str, list[str]]:
    given, made = os.path.join(directory, "given"), os.path.join(directory, "made")
    write_pictures(given)
    os.makedirs(made)
    data = [
        f"--labeled_data=folder:{given}/labeled",
        f"--unlabeled_data=folder:{given}/unlabeled",
        f"--test_data=folder:{given}/test",
        "--validation_data=",
        "--labels_per_class=0",
    ]
    run = f"{made}/run"
    refused = [f"--unlabeled_data=folder:{given}/not_utf8", f"--output_dir={made}/no"]
    return {
        "prepare_data": [*data, f"--output_dir={made}/data"],
        "prepare_data, refused": [*data, *refused],
        "iterate": [
            *data,
            f"--work_dir={run}",
            *_NETWORK,
            "--generations=1",
            "--min_confidence=0",
            "--dedup_by=perceptual",
        ],
        "evaluate": [
            f"--model={run}/generation_1/student",
            f"--data=folder:{given}/test",
        ],
        "predict": [
            f"--model={run}/export/saved_model",
            f"--images={given}/unlabeled",
            f"--output={made}/predictions.csv",
        ],
        "export": [
            f"--model={run}/generation_1/student",
            f"--output_dir={made}/export",
            "--tflite=float16",
        ],
        "lineage": [f"--model={run}/generation_1/student"],
        "show_augmentations": [
            f"--data=folder:{given}/labeled",
            f"--output={made}/augmentations.png",
        ],
    }


def _outcome(name: str, arguments: list[str]) -> dict:
    run = subprocess.run(
        [sys.executable, "-m", f"tpu_scripts.{name.split(',')[0]}", *arguments],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        timeout=1200,
    )
    text = (run.stdout + run.stderr).decode("utf-8", "backslashreplace")
    problems, refused = [], name.endswith(", refused")
    if refused:
        expected = r"Error: .*not_utf8: .*UTF-8.*\\xff"
        if not (run.returncode == 1 and re.search(expected, text)):
            problems.append(f"was not refused by name: {text.strip()[-600:]!r}")
    elif run.returncode:
        problems.append(f"status {run.returncode}: {text.strip()[-600:]!r}")
    if "Traceback" in text:
        problems.append("a traceback")
    if obeyed := _CONTROL.search(text):
        around = text[max(0, obeyed.start() - 60) : obeyed.end() + 20]
        problems.append(f"a control character is printed: {around!r}")
    return {"status": run.returncode, "problems": problems}


def _inventory(directory: str, part: str) -> dict[bytes, tuple[int, int]]:
    found = {}
    for folder, _, names in os.walk(os.fsencode(os.path.join(directory, part))):
        for name in names:
            stat = os.stat(os.path.join(folder, name))
            found[os.path.join(folder, name)] = (stat.st_size, stat.st_mtime_ns)
    return found


class _Page(html.parser.HTMLParser):
    """Counts what a browser would act on."""

    def __init__(self):
        super().__init__()
        self.suspects: list[str] = []
        self.text: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag, attrs):
        self._inside = tag
        for name, value in attrs:
            if name.startswith("on") or (value or "").strip().startswith("javascript:"):
                self.suspects.append(f"<{tag} {name}={value}>")
        if tag == "img" and not dict(attrs).get("src", "data:").startswith("data:"):
            self.suspects.append(f"<{tag} {attrs}>")

    def handle_data(self, data):
        if self._inside == "script" and "alert(" in data:
            self.suspects.append(data)
        if self._inside not in ("script", "style"):
            self.text.append(data)


def _looked_at(made: str) -> list[str]:
    """What is wrong with reports, cards and CSV files."""
    failures, seen = [], set()
    for folder, _, names in os.walk(made):
        for name in names:
            path = os.path.join(folder, name)
            kind = os.path.splitext(name)[1]
            seen.add(kind)
            if kind == ".html":
                failures += _html_problems(path)
            if kind == ".csv":
                failures += _csv_problems(path)
            if kind == ".md":
                with open(path, encoding="utf-8") as file:
                    if re.search(r"<(script|img)", file.read()):
                        failures.append(f"{name}: HTML of a class name in Markdown")
    return failures + [
        f"No {kind} file was made." for kind in {".html", ".csv", ".md"} - seen
    ]


def _html_problems(path: str) -> list[str]:
    page = _Page()
    with open(path, encoding="utf-8") as file:
        content = file.read()
    page.feed(content)
    failures = [f"{os.path.basename(path)}: {suspect[:200]!r}" for suspect in page.suspects]
    text = "".join(page.text)
    for name in CLASSES[:3]:
        if name not in text:
            failures.append(f"{os.path.basename(path)}: does not show {name!r}")
    if "49{%" in text:
        failures.append(f"{os.path.basename(path)}: a template in a name was run")
    return failures


def _csv_problems(path: str) -> list[str]:
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.reader(file))
    failures = []
    if len({len(row) for row in rows}) != 1:
        failures.append(f"{os.path.basename(path)}: rows of several lengths")
    for cell in (cell for row in rows for cell in row):
        if cell[:1] in tuple("=+-@\t\r"):
            failures.append(f"{os.path.basename(path)}: a formula: {cell[:40]!r}")
    if os.path.basename(path) == "predictions.csv":
        files = {row[0][1:] if row[0][:1] == "'" else row[0] for row in rows[1:]}
        # What begins with a dot is hidden, and no image of a set.
        missing = {name for name in FILES if name[0] != "."} - files
        failures += [f"predictions.csv: without {name[:60]!r}" for name in missing]
        forms = {unicodedata.normalize("NFC", name) for name in files}
        if len(forms) == len(files):
            failures.append("predictions.csv: Unicode forms were mixed up")
    return failures


if __name__ == "__main__":
    setting_flags.run(main)
