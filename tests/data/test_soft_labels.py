"""Soft labels come back from every format, as near as the format says."""

import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from data import augmentation, bad_records, pipeline, records, soft_labels, streams
from data.errors import InputError
from data.records import RecordSet
from data.soft_labels import FLOAT16, FLOAT32

CLASSES = 1000
TOP_10 = soft_labels.parse_format("top_10")
FORMATS = [FLOAT32, FLOAT16, soft_labels.parse_format("top_1"), TOP_10]


def distributions(kind, count=40, classes=CLASSES):
    """Softmax of random logits: nearly sure, unsure, or nearly even."""
    spread = {"peaked": 4.0, "unsure": 1.5, "flat": 0.1}[kind]
    logits = spread * np.random.default_rng(0).normal(size=(count, classes))
    if kind == "peaked":
        logits[np.arange(count), np.arange(count)] += 20
    return tf.nn.softmax(tf.constant(logits, tf.float32)).numpy()


def parsed(features):
    """A features dict as it comes back from a file."""
    return tf.train.Example.FromString(records.serialize(features)).features.feature


def read_back(probabilities, label_format):
    """Through serialized records, in NumPy."""
    rows = soft_labels.encode(probabilities, label_format)
    classes = probabilities.shape[-1]
    return np.stack([soft_labels.decode(parsed(r), label_format, classes) for r in rows])


def exact_top(probabilities, top):
    """What top_K stands for, in float64: the rest shared evenly."""
    expected = np.array(probabilities, np.float64)
    for row in expected:
        others = np.argsort(-row, kind="stable")[top:]
        row[others] = row[others].mean() if len(others) else 0
    return expected


@pytest.mark.parametrize("kind", ["peaked", "unsure", "flat"])
def test_float32_is_exact_and_float16_within_its_rounding(kind):
    probabilities = distributions(kind)
    np.testing.assert_array_equal(read_back(probabilities, FLOAT32), probabilities)
    halves = read_back(probabilities, FLOAT16)
    assert halves.dtype == np.float32
    # 2**-11 of a value or 2**-25, and as much again from the division by the sum.
    bound = 2 * (probabilities * 2**-11 + 2**-25) + CLASSES * 2**-25 * probabilities
    assert (np.abs(halves - probabilities) <= bound).all()
    np.testing.assert_allclose(halves.sum(-1), 1, atol=1e-6)


@pytest.mark.parametrize("kind", ["peaked", "unsure", "flat"])
@pytest.mark.parametrize("top", [1, 10, 999, 1000])
def test_top_k_keeps_k_classes_and_spreads_the_rest(kind, top):
    probabilities = distributions(kind)
    label_format = soft_labels.parse_format(f"top_{top}", CLASSES)
    found, expected = read_back(probabilities, label_format), exact_top(probabilities, top)
    assert (np.abs(found - expected) <= expected * 2.1 * 2**-11 + 2**-23).all()
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
    label = probabilities.argmax(-1)[:, None]
    best = np.take_along_axis(found, label, -1)[:, 0]  # Rounded, another may equal it.
    np.testing.assert_array_equal(best, found.max(-1))


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.integers(2, 12)),
        elements=st.sampled_from([0.0, 1e-6, 0.25, 0.5, 1.0]),
    ),
    st.data(),
)
def test_any_distribution_keeps_its_best_classes_in_their_order(rows, data):
    rows[:, 0] += 1e-3  # Else some would be of nothing.
    probabilities = rows / rows.sum(-1, keepdims=True)
    top = data.draw(st.integers(1, probabilities.shape[1]))
    label_format = soft_labels.parse_format(f"top_{top}")
    for row, features in zip(
        probabilities, soft_labels.encode(probabilities, label_format), strict=True
    ):
        best = np.sort(np.argsort(-row, kind="stable")[:top])
        assert features[soft_labels.TOP_CLASSES].tolist() == best.tolist()
    np.testing.assert_allclose(read_back(probabilities, label_format).sum(-1), 1, atol=1e-6)
    np.testing.assert_array_equal(read_back(probabilities, FLOAT32), probabilities)


def test_of_equally_probable_classes_the_first_are_kept():
    row = np.full(8, 0.125, np.float32)
    feature = soft_labels.encode(row, soft_labels.parse_format("top_3"))
    assert feature[soft_labels.TOP_CLASSES].tolist() == [0, 1, 2]
    row[[5, 2]] = 0.2, 0.2
    feature = soft_labels.encode(row, soft_labels.parse_format("top_3"))
    assert feature[soft_labels.TOP_CLASSES].tolist() == [0, 2, 5]


def test_a_small_remainder_beside_a_sure_class_is_not_lost():
    row = np.full(CLASSES, 1e-4 / (CLASSES - 1), np.float32)
    row[7] = 1 - 1e-4  # Its half float is 1.
    found = read_back(row[None], soft_labels.parse_format("top_1"))[0]
    np.testing.assert_allclose(found, row, rtol=1e-3)


def test_one_image_and_a_batch_are_encoded_alike():
    probabilities = distributions("unsure", 3)
    for label_format in FORMATS:
        one = soft_labels.encode(probabilities[1], label_format)
        batch = soft_labels.encode(probabilities, label_format)
        assert records.serialize(one) == records.serialize(batch[1])
        assert soft_labels.encode(probabilities[:0], label_format) == []


def test_float32_records_are_the_bytes_they_always_were():
    row = distributions("peaked", 1)[0]
    by_hand = tf.train.Example()
    by_hand.features.feature["probabilities"].float_list.value.extend(row)
    by_hand.features.feature["label"].int64_list.value.append(3)
    features = {**soft_labels.encode(row, FLOAT32), records.LABEL: 3}
    expected = by_hand.SerializeToString(deterministic=True)
    assert records.serialize(features) == expected


def test_stored_sizes():
    row = distributions("peaked", 1)[0]
    sizes = {
        label_format.name: records.record_bytes(soft_labels.encode(row, label_format))
        for label_format in FORMATS
    }
    assert sizes["float16"] < 0.52 * sizes["float32"]
    assert sizes["top_10"] < 0.03 * sizes["float32"]


@pytest.mark.parametrize(
    "name", ["", "float64", "top_0", "top_", "top_-1", "top_1.5", "top_01", "Top_3", "top"]
)
def test_names_of_no_format_are_refused(name):
    with pytest.raises(InputError, match=r"`label_format`.*float32, float16 or top_K"):
        soft_labels.parse_format(name)


def test_more_kept_classes_than_there_are_are_refused():
    assert soft_labels.parse_format("top_10", 10).top == 10
    with pytest.raises(InputError, match=r"at most 10.*'top_11'.*float16"):
        soft_labels.parse_format("top_11", 10)


@pytest.mark.parametrize("label_format", FORMATS, ids=lambda f: f.name)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_probabilities_that_are_not_finite_are_refused(label_format, value):
    rows = distributions("flat", 4)
    rows[2, 5] = value
    with pytest.raises(InputError, match="NaN or infinity for 1 of 4"):
        soft_labels.encode(rows, label_format)


@pytest.fixture(scope="module")
def make_set(tmp_path_factory, encode, noise_image):
    """Pseudo-labeled records of one format; the labels number them."""

    def make(probabilities, *formats):
        encoded = encode(noise_image(8, 8, 3))
        rows = [
            {
                records.IMAGE: encoded,
                records.ID: f"id{number}".encode(),
                records.LABEL: number,
                **soft_labels.encode(row, formats[number % len(formats)]),
            }
            for number, row in enumerate(probabilities)
        ]
        path = str(tmp_path_factory.mktemp("soft") / "part-00000-of-00001.tfrecord")
        records.write_shard(path, rows)
        names = tuple(map(str, range(probabilities.shape[-1])))
        return RecordSet((path,), (len(rows),), names)

    return make


def batches_of(examples, batch_size):
    plain = augmentation.Augmentation(crop="pad", num_ops=0)
    stream = streams.TrainingInput(examples, 8, plain, 0, "pseudo_labeled")
    return stream, pipeline.training_batches(stream, batch_size)


def graph_reads(examples, label_format):
    """What tf.data makes of the set's records, without their images."""
    classes = examples.num_classes
    keys = soft_labels.features(label_format, classes)

    def decoded(serialized):
        parsed = tf.io.parse_single_example(serialized, keys)
        return soft_labels.decode_tensor(parsed, label_format, classes)

    dataset = tf.data.TFRecordDataset(examples.files).map(decoded)
    assert dataset.element_spec.shape == (classes,)
    return np.stack(list(dataset.as_numpy_iterator()))


@pytest.mark.parametrize("label_format", FORMATS, ids=lambda f: f.name)
def test_graphs_read_every_format_as_numpy_does(make_set, label_format):
    probabilities = distributions("unsure", 6)
    examples = make_set(probabilities, label_format)
    assert soft_labels.format_of(examples.files[0]) == label_format
    expected = read_back(probabilities, label_format)
    exact = label_format == FLOAT32
    found = graph_reads(examples, label_format)
    np.testing.assert_allclose(found, expected, rtol=0 if exact else 2e-6)


def test_a_student_of_float16_sees_nearly_the_same_probabilities(make_set):
    probabilities = distributions("unsure", 6)
    _, batches = batches_of(make_set(probabilities, FLOAT16), 6)
    assert batches.element_spec["probabilities"].shape == (6, CLASSES)
    batch = next(batches.as_numpy_iterator())
    near = probabilities[batch["label"]]
    assert 0 < np.abs(batch["probabilities"] - near).max() < 2e-4


def test_training_names_a_record_of_another_format(make_set):
    examples = make_set(distributions("flat", 4, 20), TOP_10, TOP_10, FLOAT16)
    stream, batches = batches_of(examples, 4)
    text = r"record 2 \('id2'\): .*as top_10.*received float16"
    with (
        pytest.raises(InputError, match=text),
        pipeline.explained_training(stream, 4, 0, 4),
    ):
        list(batches.take(1))


def first_problem(examples):
    contract = bad_records.contract_of(examples, "pseudo_labeled")
    return bad_records.find_first(examples.files, contract)


@pytest.mark.parametrize(
    ("first", "second", "received"),
    [
        (FLOAT32, FLOAT16, "as float32.*received float16"),
        (FLOAT16, TOP_10, "as float16.*received top_10"),
        (TOP_10, soft_labels.parse_format("top_3"), "as top_10.*received top_3"),
    ],
)
def test_records_of_another_format_stop_a_graph_and_can_be_skipped(
    make_set, first, second, received
):
    examples = make_set(distributions("flat", 4, 20), first, first, second)
    with pytest.raises(tf.errors.InvalidArgumentError):
        graph_reads(examples, first)
    bad = first_problem(examples)
    assert (bad.position, bad.id) == (2, "id2")
    assert re.search(received, bad.problem)
    left = bad_records.without_bad(examples, "pseudo_labeled")
    assert (left.num_examples, left.skipped) == (3, (bad,))


def spoilt(examples, key, value):
    """The set with a feature of record 1 replaced; None removes it."""
    rows = list(records.read_shard(examples.files[0]))
    del rows[1].features.feature[key]
    if value is not None:
        rows[1].features.feature[key].CopyFrom(records._feature(value))
    with tf.io.TFRecordWriter(examples.files[0]) as writer:
        for row in rows:
            writer.write(row.SerializeToString())
    return examples


@pytest.mark.parametrize(
    ("label_format", "key", "value", "text"),
    [
        (FLOAT16, soft_labels.HALF, b"x" * 38, "20 half floats, 40 bytes; received 38"),
        (FLOAT16, soft_labels.HALF, b"x" * 39, "20 half floats, 40 bytes; received 39"),
        (FLOAT16, soft_labels.HALF, None, "`probabilities/float16`: expected this feature"),
        (FLOAT16, soft_labels.HALF, [0.5] * 20, "expected bytes values; received float"),
        (TOP_10, soft_labels.TOP, b"x" * 20, "11 half floats, 22 bytes; received 20"),
        (TOP_10, soft_labels.TOP, None, "`top/probabilities`: expected this feature"),
        (TOP_10, soft_labels.TOP_CLASSES, np.arange(11, 21), "different classes from 0 to"),
        (TOP_10, soft_labels.TOP_CLASSES, np.arange(-1, 9), "different classes from 0 to"),
    ],
    ids=range(8),
)
def test_damaged_soft_labels_stop_a_graph_and_are_named(
    make_set, label_format, key, value, text
):
    examples = make_set(distributions("flat", 3, 20), label_format)
    spoilt(examples, key, value)
    with pytest.raises(tf.errors.InvalidArgumentError):
        graph_reads(examples, label_format)
    bad = first_problem(examples)
    assert bad.position == 1
    assert text in bad.problem


def test_repeated_classes_are_found_when_records_are_examined(make_set):
    examples = make_set(distributions("flat", 3, 20), TOP_10)
    spoilt(examples, soft_labels.TOP_CLASSES, np.repeat(np.arange(5), 2))
    left = bad_records.without_bad(examples, "pseudo_labeled")
    assert "different classes" in left.skipped[0].problem


def test_the_first_good_record_tells_the_format(make_set):
    examples = make_set(distributions("flat", 3, 20), FLOAT16)
    skipped = records.BadRecord(examples.files[0], 0, "id0", "", "")
    mixed = make_set(distributions("flat", 3, 20), FLOAT32, FLOAT16)
    skipped = dataclasses.replace(skipped, file=mixed.files[0])
    assert soft_labels.format_of(mixed.files[0], [skipped]) == FLOAT16
    assert soft_labels.format_of_set(examples) == FLOAT16
    empty = make_set(np.zeros((0, 3), np.float32), FLOAT16)
    assert soft_labels.format_of(empty.files[0]) is None
