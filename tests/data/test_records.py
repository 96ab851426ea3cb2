"""Shards: what is written is read, whole or not at all."""

import os
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from data import files, record_order, records
from data.errors import InputError
from data.records import Record, RecordSet

ROWS = [
    records.image_example(Record(f"bild/ä{i}", bytes([i]) * (i + 1), label=i - 1))
    for i in range(5)
]


@pytest.fixture
def shard(tmp_path):
    path = str(tmp_path / "x-00000-of-00001.tfrecord")
    assert records.write_shard(path, ROWS) == 5
    return path


def test_a_shard_gives_back_what_was_written(shard):
    found = list(records.read_shard(shard))
    assert [records.example_id(x, shard, 9) for x in found] == [
        f"bild/ä{i}" for i in range(5)
    ]
    assert [records.example_label(x) for x in found] == [-1, 0, 1, 2, 3]
    encoded = [x.features.feature[records.IMAGE].bytes_list.value[0] for x in found]
    assert encoded == [bytes([i]) * (i + 1) for i in range(5)]
    assert len(list(records.read_shard(shard))) == 5


_FLOATS = st.floats(width=32, allow_nan=False)
_FEATURES = st.one_of(
    st.binary(), st.integers(-(2**63), 2**63 - 1), _FLOATS, st.lists(_FLOATS)
)


@settings(max_examples=20)
@given(st.lists(st.dictionaries(st.text(max_size=9), _FEATURES, max_size=5), max_size=9))
def test_any_features_come_back_in_their_order(rows):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "x.tfrecord")
        assert records.write_shard(path, rows) == len(rows)
        found = [example.features.feature for example in records.read_shard(path)]
    kinds = {
        bytes: "bytes_list",
        int: "int64_list",
        float: "float_list",
        list: "float_list",
    }
    for features, row in zip(found, rows, strict=True):
        assert set(features) == set(row)
        for key, value in row.items():
            stored = getattr(features[key], kinds[type(value)]).value
            assert list(stored) == (value if isinstance(value, list) else [value])


@settings(max_examples=20)
@given(
    st.integers(0, 20),
    st.sets(st.integers(0, 19)),
    st.none() | st.integers(0, 19),
)
def test_skipped_records_are_passed_over_by_position(count, gone, end):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "x.tfrecord")
        records.write_shard(path, [{"label": number} for number in range(count)])
        skipped = [records.BadRecord(path, number, "", "", "") for number in gone]
        skipped += [
            records.BadRecord(f"{directory}/a", number, "", "", "") for number in range(20)
        ]
        if end is not None:
            skipped.append(records.BadRecord(path, end, "", "", "", rest_of_file=True))
        found = list(records.numbered_examples(path, skipped))
        dataset = record_order.numbered_records(path, skipped)
        in_pipeline = [int(position) for _, position, _ in dataset.as_numpy_iterator()]
    last = count if end is None else min(count, end)
    expected = [number for number in range(last) if number not in gone]
    assert [position for position, _ in found] == in_pipeline == expected
    assert [records.example_label(example, "label") for _, example in found] == expected


@pytest.mark.parametrize(("rest", "end"), [(False, ""), (True, " to the end")])
def test_a_bad_record_is_named_by_file_place_and_id(rest, end):
    bad = records.BadRecord("d/a.tfrecord", 3, "cat/1.jpg", "", "", rest_of_file=rest)
    assert bad.name == f"a.tfrecord:3 ('cat/1.jpg'){end}"


@pytest.mark.parametrize(
    ("stored", "offset", "known", "label"),
    [
        (0, 0, True, 0),
        (5, 0, True, 5),
        (-1, 0, True, -1),
        (5, 0, False, -1),
        (1, 1, True, 0),
        (1000, 1, True, 999),
        (0, 1, True, -1),  # Such as ImageNet's background class.
        (-1, -1, True, -1),
        (0, -1, True, 1),
    ],
)
def test_true_labels_have_the_offset_subtracted(stored, offset, known, label):
    features = {records.TRUE_LABEL: stored} if stored >= 0 else {}
    example = tf.train.Example.FromString(records.serialize(features))
    examples = RecordSet((), (), (), label_offset=offset, truth_known=known)
    assert examples.true_label(example) == label


def test_an_unknown_label_is_not_stored(shard):
    first, second = list(records.read_shard(shard))[:2]
    assert records.TRUE_LABEL not in first.features.feature
    assert records.TRUE_LABEL in second.features.feature


def test_numbers_and_lists_are_stored_by_kind(tmp_path):
    path = str(tmp_path / "x.tfrecord")
    row = {"label": 3, "prob": 0.25, "probabilities": [0.25, 0.5], "copies": 7}
    records.write_shard(path, [row])
    (found,) = records.read_shard(path)
    feature = found.features.feature
    assert list(feature["label"].int64_list.value) == [3]
    assert list(feature["prob"].float_list.value) == [0.25]
    assert list(feature["probabilities"].float_list.value) == [0.25, 0.5]
    assert records.example_label(found, "copies") == 7


@pytest.mark.parametrize(
    "floats",
    [
        [],
        [0.1, -0.0, 1e-45, float("inf")],
        np.random.default_rng(0).random(1000).astype(np.float32),
        np.random.default_rng(0).random(31),
        np.arange(40, dtype=np.float32)[::3],
    ],
)
def test_floats_have_the_bytes_that_protobuf_gives_them_one_by_one(floats):
    one_by_one = tf.train.FloatList(value=[float(value) for value in floats])
    features = {"x": tf.train.Feature(float_list=one_by_one)}
    example = tf.train.Example(features=tf.train.Features(feature=features))
    assert records.serialize({"x": floats}) == example.SerializeToString()


@pytest.mark.parametrize("value", [np.zeros((2, 2), np.float32), np.float32(1)])
def test_what_is_no_list_of_floats_is_refused(value):
    with pytest.raises(TypeError, match="`features`: expected values that are bytes"):
        records.serialize({"x": value})


def test_records_without_an_id_are_named_by_file_and_position(tmp_path):
    path = str(tmp_path / "x.tfrecord")
    records.write_shard(path, [{records.IMAGE: b"1"}])
    (found,) = records.read_shard(path)
    assert records.example_id(found, path, 4) == "x.tfrecord:4"
    assert records.example_label(found) == -1


@pytest.mark.parametrize("existed", [False, True])
def test_an_error_while_writing_leaves_no_new_file(tmp_path, existed):
    path = str(tmp_path / "x.tfrecord")
    if existed:
        records.write_shard(path, ROWS[:1])

    def failing():
        yield ROWS[0]
        yield ROWS[1]
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        records.write_shard(path, failing())
    assert os.listdir(tmp_path) == (["x.tfrecord"] if existed else [])
    assert not existed or len(list(records.read_shard(path))) == 1


def test_a_shard_being_written_is_not_there_yet(tmp_path):
    path = str(tmp_path / "x-00000-of-00001.tfrecord")

    def watching():
        yield ROWS[0]
        assert len(os.listdir(tmp_path)) == 1
        assert records.glob_shards(str(tmp_path)) == ()
        yield ROWS[1]

    assert records.write_shard(path, watching()) == 2
    assert records.glob_shards(str(tmp_path)) == (path,)


def test_a_truncated_shard_is_named_with_the_records_before(shard):
    with open(shard, "rb+") as file:
        file.truncate(os.path.getsize(shard) - 3)
    examples = records.read_shard(shard)
    assert len([next(examples) for _ in range(4)]) == 4
    with pytest.raises(InputError, match=r"x-00000-of-00001.tfrecord after 4 records"):
        next(examples)


@pytest.mark.parametrize("content", [b"no TFRecord, but long enough to look", None])
def test_what_is_no_shard_is_named(tmp_path, content):
    path = tmp_path / "y.tfrecord"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"Unreadable TFRecord file .*y.tfrecord after 0"):
        list(records.read_shard(str(path)))


def test_glob_finds_finished_shards_sorted(tmp_path):
    names = ["b-00000-of-00001.tfrecord", "a-00001-of-00002.tfrecord"]
    names += ["a-00000-of-00002.tfrecord", "old.tfrecord-00000-of-00001"]
    others = ["class_names.json", "a.tfrecord.json"]
    others += [f"a-00000-of-00002{files.TEMPORARY_SUFFIX}-77.tfrecord"]
    for name in names + others:
        (tmp_path / name).write_bytes(b"")
    everything = tuple(sorted(str(tmp_path / name) for name in names))
    assert records.glob_shards(str(tmp_path)) == everything
    assert records.glob_shards(f"{tmp_path}/") == everything
    assert records.glob_shards(f"{tmp_path}/*") == everything
    assert records.glob_shards(f"{tmp_path}/a-*") == everything[:2]
    assert records.glob_shards(f"{tmp_path}/c-*") == ()


def test_missing_shards_are_those_that_the_numbering_promises():
    there = ["d/x-00000-of-00003.tfrecord", "d/x-00002-of-00003.tfrecord"]
    other = ["d/y.tfrecord", "d/z-00000-of-00001.tfrecord"]
    assert records.missing_shards(there + other) == ["d/x-00001-of-00003.tfrecord"]
    assert records.missing_shards(other) == []
    old_style = ["d/train-00001-of-00002"]
    assert records.missing_shards(old_style) == ["d/train-00000-of-00002"]


def test_shard_name_is_the_contract():
    name = records.shard_name("labeled", 3, 128)
    assert name == "labeled-00003-of-00128.tfrecord"
    assert len(records.missing_shards([name])) == 127


def _fingerprint(*paths):
    return RecordSet(tuple(map(str, paths)), (), ("a",)).fingerprint()


@pytest.mark.parametrize("place", [0, 100, -1], ids=["start", "early", "end"])
@pytest.mark.parametrize("length", [1000, 300_000])
def test_fingerprint_changes_with_the_content(tmp_path, place, length):
    path = tmp_path / "x.tfrecord"
    content = bytearray(os.urandom(length))
    path.write_bytes(content)
    before = _fingerprint(path)
    assert _fingerprint(path) == before
    content[place] ^= 1
    path.write_bytes(content)
    assert _fingerprint(path) != before


def test_fingerprint_tells_names_sizes_and_order_but_not_places(tmp_path):
    (tmp_path / "moved").mkdir()
    for name in ("x", "y", "moved/x"):
        (tmp_path / name).write_bytes(b"\0" * 200_000)
    x, y, moved = (tmp_path / name for name in ("x", "y", "moved/x"))
    assert _fingerprint(x) == _fingerprint(moved)
    assert _fingerprint(x) != _fingerprint(y)
    assert _fingerprint(x, y) != _fingerprint(y, x)
    assert _fingerprint(x, y) != _fingerprint(x)
    before = _fingerprint(x)
    x.write_bytes(b"\0" * 200_001)
    assert _fingerprint(x) != before


def test_labels_larger_than_32_bits_and_empty_shards(tmp_path):
    path = str(tmp_path / "x.tfrecord")
    records.write_shard(path, [{records.TRUE_LABEL: 2**40}])
    (found,) = records.read_shard(path)
    assert records.example_label(found) == 2**40
    assert records.write_shard(path, []) == 0
    assert list(records.read_shard(path)) == []
    assert tf.io.gfile.exists(path)
