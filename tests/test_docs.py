"""The documentation: its commands parse, its links lead somewhere."""

import json
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from noisy_student import recipes
from tests.shell_blocks import PAGES, blocks

SEPARATORS = {";", "&&", "||", "|", "&", "done"}


def commands(page):
    """[module, arguments …] of each `python -m` in the page's shell blocks."""
    for block in blocks(page):
        plain = re.sub(r"(^|\s)#.*", "", block.text.replace("\\\n", " "))
        plain = re.sub(r"\$\w+", "1", plain)  # Numbers, or the beginning of a path.
        lexer = shlex.shlex(plain, posix=True, punctuation_chars=";&|\n")
        lexer.whitespace = " \t"
        lexer.whitespace_split = True
        line = []
        for token in [*lexer, "\n"]:
            if token.strip("\n") in SEPARATORS | {""}:
                yield from command_of(line)
                line = []
            else:
                line.append(token)


def command_of(line):
    for position, token in enumerate(line[:-2]):
        if token.endswith("python") and line[position + 1] == "-m":
            module, *arguments = line[position + 2 :]
            if module.startswith(("tpu_scripts", "benchmarks")):
                yield [module, *arguments]


def test_commands_have_flags_that_there_are():
    found = [(page, command) for page in PAGES for command in commands(page)]
    assert len(found) > 50
    wrong = wrong_of([command for _, command in found])
    for (page, command), message in zip(found, wrong, strict=True):
        assert message is None, f"{page}: {shlex.join(command)}: {message}"


def wrong_of(lines):
    """What is wrong with each command's flags, or None."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.parse_commands"],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_every_script_and_benchmark_has_flags_of_its_own():
    """A flag that is defined twice ends a script before it begins."""
    scripts = [
        f"{file.parent.name}.{file.stem}"
        for folder in ("tpu_scripts", "benchmarks")
        for file in sorted(pathlib.Path(folder).glob("*.py"))
        if "__main__" in file.read_text()
    ]
    assert len(scripts) > 25
    wrong = wrong_of([[script, "…"] for script in scripts])
    # Some benchmarks compare with what only requirements-peers.txt installs.
    wrong = [each for each in wrong if each and "ModuleNotFoundError" not in each]
    assert wrong == []


def test_recipes_that_are_named_exist():
    named = {
        name
        for page in PAGES
        for name in re.findall(r"--recipes?=([a-z0-9_,.-]+)", page.read_text())
    }
    for name in {each for names in named for each in names.split(",")}:
        assert name in recipes.names(), name


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http:", "https:")):
            continue
        path, _, heading = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if heading:
            assert heading in headings(linked), target


def headings(page):
    """As GitHub makes anchors of them."""
    lines = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", line.lower()) for line in lines)
    return {line.replace(" ", "-") for line in plain}
