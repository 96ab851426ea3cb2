"""Predictions on disk that are not what they were are named."""

import dataclasses
import os
import re

import numpy as np
import pytest

from data import records
from data.errors import InputError
from noisy_student.manifest import Stage, read_manifest
from noisy_student.prediction_checks import check_directory, check_index, check_shard
from noisy_student.predictions import Index, index_path, write_index

SHARD = "unlabeled-00000-of-00001.tfrecord"
INDEX = Index(
    ids=[f"image{n}".encode() for n in range(6)],
    labels=np.array([0, 2, 1, 0, 2, 1], np.int32),
    confidences=np.array([0.4, 1.0, 0.9, 0.0, 0.5, 0.7], np.float32),
)


@pytest.fixture
def shard(tmp_path):
    """Path and facts of a sound shard of predictions."""
    stage = Stage(str(tmp_path / "p"), "label", {"class_names": ["a", "b", "c"]})
    write_index(stage.path(SHARD), INDEX)
    count = records.write_shard(stage.path(SHARD), [{records.ID: x} for x in INDEX.ids])
    facts = stage.finish_shard(SHARD, count)
    stage.finish([SHARD])
    return stage.path(SHARD), facts


def change(path, edit):
    with open(path, "rb") as file:
        content = bytearray(file.read())
    edit(content)
    with open(path, "wb") as file:
        file.write(content)


def flip(content):
    content[40] ^= 1


def cut(content):
    del content[-9:]


def clear(content):
    content.clear()


def test_a_sound_shard_passes_and_gives_its_index(shard):
    path, facts = shard
    index = check_shard(path, facts, 3, sha256=True)
    assert index.ids == INDEX.ids
    np.testing.assert_array_equal(index.confidences, INDEX.confidences)
    directory = os.path.dirname(path)
    check_directory(directory, read_manifest(directory), sha256=True)


def test_an_empty_shard_passes():
    empty = Index([], np.zeros(0, np.int32), np.zeros(0, np.float32))
    check_index(empty, {"records": 0}, 3, "x.tfrecord")


@pytest.mark.parametrize(
    ("of_index", "edit", "text"),
    [
        (False, cut, r"tfrecord: expected \d+ bytes.*received \d+\. Delete the shard and"),
        (False, flip, r"tfrecord: expected the content on record; its SHA-256"),
        (True, cut, r"parquet: expected a whole Parquet file"),
        (True, clear, r"parquet: expected a whole Parquet file"),
    ],
)
def test_damaged_files_are_named(shard, of_index, edit, text):
    path, facts = shard
    change(index_path(path) if of_index else path, edit)
    with pytest.raises(InputError, match=text):
        check_shard(path, facts, 3, sha256=True)


@pytest.mark.parametrize("of_index", [False, True])
def test_missing_files_are_named(shard, of_index):
    path, facts = shard
    missing = index_path(path) if of_index else path
    os.remove(missing)
    with pytest.raises(InputError, match=f"{re.escape(missing)}: .*is missing"):
        check_shard(path, facts, 3)


@pytest.mark.parametrize(
    ("field", "row", "value", "text"),
    [
        ("labels", 4, 3, "labels from 0 to 2; received 3 of b'image4', and 1 such"),
        ("labels", 0, -1, "labels from 0 to 2; received -1 of b'image0'"),
        ("confidences", 2, np.nan, "confidences from 0 to 1; received nan of b'image2'"),
        ("confidences", 5, 1.001, "confidences from 0 to 1; received 1.001"),
        ("confidences", 1, -0.1, "confidences from 0 to 1; received -0.1"),
        ("confidences", [1, 2], np.inf, "confidences.*inf of b'image1', and 2 such rows"),
        ("ids", 3, b"image1", "each id once; 1 row.* b'image1'"),
    ],
)
def test_rows_that_cannot_be_are_named(shard, field, row, value, text):
    path, facts = shard
    values = getattr(INDEX, field).copy()
    values[row] = value
    write_index(path, dataclasses.replace(INDEX, **{field: values}))
    with pytest.raises(InputError, match=rf"unlabeled-00000.*parquet: expected {text}"):
        check_shard(path, facts, 3)


def test_an_index_of_another_number_of_rows_is_named(shard):
    path, facts = shard
    shorter = Index(INDEX.ids[:5], INDEX.labels[:5], INDEX.confidences[:5])
    write_index(path, shorter)
    with pytest.raises(InputError, match="expected 6 rows.*received 5"):
        check_shard(path, facts, 3)
