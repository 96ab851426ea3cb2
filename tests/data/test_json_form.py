"""Forms of JSON files: what is at odds is named with its place."""

import dataclasses
import json

import pytest

from data import json_form
from data.errors import InputError
from data.settings import from_dict

FORM = {
    "count": int,
    "share": float,
    "names": [str],
    "shards": {str: {"records": int}},
    "best": json_form.optional({"step": int}),
}
WHOLE = {"count": 1, "share": 1, "names": ["a"], "shards": {"x": {"records": 2}}}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, ""),
        ({"more": None}, ""),
        ({"best": None}, ""),
        ({"best": {"step": 1}}, ""),
        ({"best": {}}, "one without `best.step`"),
        ({"count": True}, "`count` 'True', which is no int"),
        ({"count": 1.5}, "`count` '1.5', which is no int"),
        ({"share": None}, "`share` 'None', which is no float"),
        ({"names": "a"}, "`names` 'a', which is no list"),
        ({"names": ["a", 1]}, "`names[1]` '1', which is no str"),
        ({"shards": {"x": {}}}, "one without `shards.x.records`"),
        ({"shards": []}, "`shards` '[]', which is no object"),
    ],
)
def test_first_problem_is_named(change, problem):
    assert json_form.problem({**WHOLE, **change}, FORM) == problem


def test_value_that_is_no_object_is_named():
    assert json_form.problem([], FORM) == "a value '[]', which is no object"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_file_that_is_no_json_is_one_message(tmp_path, content):
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"manifest.json: expected JSON; received \d+ byt"):
        json_form.read(str(path), FORM, "a manifest")


def test_file_of_another_form_is_one_message(tmp_path):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**WHOLE, "count": "1"}))
    with pytest.raises(InputError, match="a manifest; received `count` '1'.*Put back a co"):
        json_form.read(str(path), FORM, "a manifest")


@dataclasses.dataclass(frozen=True)
class Settings:
    size: int
    rate: float = 0.1
    names: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "expected settings by name"),
        ({}, "expected also size"),
        ({"size": "3"}, "`Settings.size`: expected int; received '3'"),
        ({"size": True}, "`Settings.size`: expected int; received 'True'"),
        ({"size": 3, "names": "ab"}, "`Settings.names`: expected tuple"),
        ({"size": 3, "names": [1]}, "`Settings.names`: expected tuple"),
    ],
)
def test_settings_of_another_type_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        from_dict(Settings, values)


def test_whole_numbers_are_floats_and_lists_tuples():
    assert from_dict(Settings, {"size": 3, "rate": 1, "names": ["a"]}).rate == 1
