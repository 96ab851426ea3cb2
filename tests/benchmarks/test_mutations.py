"""Damage is what the seed says, and its makers do not fail themselves."""

import json
import random

import pytest

from benchmarks.torture import mutations, watched
from data.errors import InputError

JSON = json.dumps({"a": [1, {"b": None}], "c": "x", "d": {"e": 1.5}}).encode()


@pytest.mark.parametrize("damage", [mutations.mutated, mutations.mutated_json])
@pytest.mark.parametrize("content", [JSON, b"", b"1", b"\xff\xfe", b'"text"'])
def test_damage_repeats_and_never_fails(damage, content):
    found = [damage(content, random.Random(seed)) for seed in range(300)]
    assert found == [damage(content, random.Random(seed)) for seed in range(300)]
    assert len(set(found)) > 20


def test_some_files_stay_whole():
    found = [mutations.mutated(JSON, random.Random(seed)) for seed in range(300)]
    assert 5 < found.count(JSON) < 150


class Reader:
    name = "fake"

    def __init__(self, error):
        self._error = error

    def read(self, content):
        if self._error:
            raise self._error


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "read"),
        (InputError("a.json: expected JSON; received 3 bytes."), "refused"),
        (InputError("no"), "refused without a reason"),
        (KeyError("x"), "KeyError"),
        (SystemExit(1), "SystemExit"),
    ],
)
def test_only_a_reason_is_a_refusal(error, outcome):
    assert watched.outcome(Reader(error), b"")[0] == outcome
