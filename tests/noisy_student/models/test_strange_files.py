"""Model files of strangers: nothing in them is run, and damage is one message."""

import ast
import json
import pathlib
import shutil
import zipfile

import keras
import pytest

from data.errors import InputError
from noisy_student.models import model_files


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.keras"
    inputs = keras.Input([4])
    keras.Model(inputs, keras.layers.Dense(2, name="head")(inputs)).save(path)
    return path


def test_lambda_is_refused(tmp_path):
    path = tmp_path / "model.keras"
    inputs = keras.Input([4])
    keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs)).save(path)
    with pytest.raises(InputError, match="model.keras: expected a whole .keras .*ambda"):
        model_files.load_keras(str(path))


def test_function_of_another_module_is_not_called(model, tmp_path):
    """The config of a layer names `os.system` (CVE-2025-1550)."""
    with zipfile.ZipFile(model) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    marker = tmp_path / "called"
    layer = config["config"]["layers"][1]
    layer.update(module="os", class_name="function", registered_name="system")
    layer["config"] = "system"
    layer["inbound_nodes"] = [{"args": [f"touch {marker}"], "kwargs": {}}]
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(model, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(InputError, match="model.keras: expected a whole .keras file"):
        model_files.load_keras(str(model))
    assert not marker.exists()


def test_file_that_unpacks_to_far_more_is_refused(model):
    with zipfile.ZipFile(model, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/zeros", bytes(100 * 2**20))
    with pytest.raises(InputError, match="unpack to 10[0-9],.*may be made to fill memory"):
        model_files.load_keras(str(model))


@pytest.mark.parametrize("damage", ["cut off", "empty", "other bytes", "no weights"])
def test_damage_is_one_message(model, damage):
    content = model.read_bytes()
    if damage == "no weights":
        with zipfile.ZipFile(model) as archive:
            config = archive.read("config.json")
        with zipfile.ZipFile(model, "w") as archive:
            archive.writestr("config.json", config)
            archive.writestr("metadata.json", "{}")
    else:
        changed = {"cut off": content[: len(content) // 2], "empty": b""}
        model.write_bytes(changed.get(damage, b"no zip" * 100))
    with pytest.raises(InputError, match="model.keras: expected a whole .keras.*Put back"):
        model_files.load_keras(str(model))


# Calls that run what a file says.
FORBIDDEN = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "cloudpickle"}
UNSAFE_CALLS = {"eval", "exec", "enable_unsafe_deserialization", "unsafe_load"}


def test_nothing_is_ever_unpickled():
    """Nor evaluated: of all modules of the product; `loky` pickles what it made itself."""
    root = pathlib.Path(__file__).parents[3]
    folders = ("data", "efficientnet", "noisy_student", "tpu_scripts", "examples")
    paths = [path for folder in folders for path in (root / folder).rglob("*.py")]
    assert len(paths) > 150
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not _unsafe(node), f"{path.relative_to(root)}:{node.lineno}"


def _unsafe(node) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] in FORBIDDEN for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] in FORBIDDEN
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else None
    name = node.func.id if isinstance(node.func, ast.Name) else name
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    return (
        (name in UNSAFE_CALLS and not isinstance(node.func, ast.Attribute))
        or name == "enable_unsafe_deserialization"
        or given.get("allow_pickle") == "True"
        or given.get("safe_mode") == "False"
        or given.get("weights_only") == "False"
    )


def test_the_scan_sees_what_it_must():
    for line in (
        "import pickle",
        "from joblib import load",
        "eval(text)",
        "np.load(path, allow_pickle=True)",
        "keras.saving.load_model(path, safe_mode=False)",
        "torch.load(path, weights_only=False)",
        "keras.config.enable_unsafe_deserialization()",
    ):
        assert any(_unsafe(node) for node in ast.walk(ast.parse(line))), line


def test_model_that_is_damaged_is_named_where_it_is_used(finished_run, tmp_path):
    teacher = shutil.copytree(f"{finished_run[0]}/generation_0/teacher", tmp_path / "t")
    path = tmp_path / "t" / "model.keras"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match="t/model.keras: expected a whole .keras file"):
        model_files.load_model(str(teacher))
