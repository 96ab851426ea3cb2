"""Which code made an output: version of the package, and commit of a git checkout."""

import functools
import importlib.metadata
import pathlib
import subprocess
import tomllib

_PROJECT = pathlib.Path(__file__).resolve().parents[2]
_NAME = "noisy-student"
_COMMIT_DIGITS = 12
_SECONDS = 5  # That git may take, such as on a slow network disk.


@functools.cache
def code_version() -> str:
    """`0.1.0`, in a checkout `0.1.0+0123456789ab`, with local changes `….modified`.

    Files that git does not track are no changes. `unknown` where nothing says.
    """
    commit = _commit(_PROJECT)
    return f"{_package_version()}+{commit}" if commit else _package_version()


def _package_version() -> str:
    try:
        settings = tomllib.loads((_PROJECT / "pyproject.toml").read_text())["project"]
        if settings["name"] == _NAME:
            return settings["version"]
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        pass
    try:
        return importlib.metadata.version(_NAME)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _commit(project: pathlib.Path) -> str | None:
    # Else git would look further up, and name the commit of whatever lies around.
    if not (project / ".git").exists():
        return None
    command = ["git", "--no-optional-locks", "-C", str(project), "status"]
    command += ["--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = run.stdout.splitlines()
    oids = [line.split()[-1] for line in lines if line.startswith("# branch.oid ")]
    if not oids or oids[0] == "(initial)":
        return None
    changed = any(not line.startswith("#") for line in lines)
    return oids[0][:_COMMIT_DIGITS] + (".modified" if changed else "")
