"""Every kind of bad record is named, and can be left out without a trace."""

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from data import augmentation as aug
from data import (
    bad_records,
    evaluation_input,
    images,
    pipeline,
    record_order,
    records,
    sources,
    streams,
)
from data.bad_records import Contract
from data.errors import InputError
from data.evaluation_input import EvaluationInput
from data.records import Record, RecordSet

CLASSES = ("a", "b", "c")
SIZE = 16
PLAIN = aug.Augmentation(crop="pad", num_ops=0)
SHARDS = (4, 4)  # Records of each file; record 5 is the one that is spoilt.
FILE, POSITION = "part-00001-of-00002.tfrecord", 1


def labeled_row(index, noise_image):
    encoded = images.encode_png(noise_image(SIZE, SIZE, 3, seed=index))
    return records.image_example(Record(f"id{index}", encoded, index % 3))


def pseudo_row(index, noise_image):
    row = labeled_row(index, noise_image)
    row[records.LABEL] = row.pop(records.TRUE_LABEL)
    row[records.PROBABILITIES] = [0.5, 0.25, 0.25]
    row[records.COPIES] = 1 + index % 2
    return row


def without(key):
    return lambda row: {k: row[k] for k in row if k != key}


def having(key, value):
    return lambda row: {**row, key: value}


# What is done to the record, what the message must say of it.
LABELED = {
    "no image": (without(records.IMAGE), r"`image/encoded`: expected this feature"),
    "no label": (without(records.TRUE_LABEL), r"`image/class/label`: expected this feat"),
    "float label": (having(records.TRUE_LABEL, 1.0), r"int64 values; received float"),
    "no image file": (having(records.IMAGE, b"x"), r"`image/encoded`: .*received 1 bytes"),
    "label too large": (having(records.TRUE_LABEL, 3), r"0 to 2 \(3 classes.*received 3"),
    "negative label": (having(records.TRUE_LABEL, -1), r"0 to 2 .*received -1"),
}
PSEUDO_LABELED = {
    "no probabilities": (without(records.PROBABILITIES), r"`probabilities`: expected this"),
    "too few": (having(records.PROBABILITIES, [0.5, 0.5]), r"expected 3 value.*received 2"),
    "too many": (having(records.PROBABILITIES, [0.2] * 4), r"expected 3 val.*received 4"),
    "no pseudo-label": (without(records.LABEL), r"`label`: expected this feature"),
    "pseudo-label too large": (
        having(records.LABEL, 7),
        r"`label`: expected 0 to 2.*received 7",
    ),
    "float copies": (having(records.COPIES, 2.0), r"`copies`: expected int64"),
}


@pytest.fixture
def make_set(tmp_path, write_records, noise_image):
    """A set of 8 records; `spoil` changes record 5, or drops it if None."""

    def make(make_row=labeled_row, spoil=lambda row: row, name="spoilt"):
        rows = [make_row(index, noise_image) for index in range(sum(SHARDS))]
        sizes = SHARDS
        if spoil is None:
            del rows[SHARDS[0] + POSITION]
            sizes = (SHARDS[0], SHARDS[1] - 1)
        else:
            rows[SHARDS[0] + POSITION] = spoil(rows[SHARDS[0] + POSITION])
        directory = tmp_path / name
        directory.mkdir()
        paths = write_records(directory, rows, sizes)
        copies = [int(row.get("copies", 1)) for row in rows]
        counts = (sum(copies[: sizes[0]]), sum(copies[sizes[0] :]))
        return RecordSet(paths, counts, CLASSES)

    return make


def replace_records(path, change):
    """Writes a file again with its serialized records changed."""
    rows = [row.numpy() for row in tf.data.TFRecordDataset(path)]
    with tf.io.TFRecordWriter(path) as writer:
        for position, row in enumerate(rows):
            writer.write(change(position, row))


def stream_of(examples, kind="labeled"):
    return streams.TrainingInput(examples, SIZE, PLAIN, 5, kind)


def train(examples, count=12, kind="labeled", start=0, batch_size=2):
    """`count` training examples as (label, image bytes)."""
    stream = stream_of(examples, kind)
    with pipeline.explained_training(stream, batch_size, start, count):
        batches = pipeline.training_batches(stream, batch_size, start)
        batches = list(itertools.islice(batches.as_numpy_iterator(), count // batch_size))
    return [
        (int(label), image.tobytes())
        for batch in batches
        for label, image in zip(batch["label"], batch["image"], strict=True)
    ]


def evaluate(examples, kind="labeled"):
    """Every id and label of an evaluation."""
    stream = EvaluationInput(examples, SIZE, "pad", kind)
    with evaluation_input.explained_evaluation(stream):
        batches = evaluation_input.evaluation_batches(stream, 3)
        batches = list(batches.as_numpy_iterator())
    return [
        (id_.decode(), int(label))
        for batch in batches
        for id_, label in zip(batch["id"], batch["label"], strict=True)
    ]


def assert_named(error, problem):
    assert FILE in str(error.value)
    assert "record 1 ('id5')" in str(error.value)
    assert error.match(problem)
    assert error.match("or pass --skip_bad_records")


@pytest.mark.parametrize("case", LABELED)
def test_training_names_a_bad_labeled_record(make_set, case):
    spoil, expected = LABELED[case]
    with pytest.raises(InputError) as error:
        train(make_set(spoil=spoil))
    assert_named(error, expected)


@pytest.mark.parametrize("case", PSEUDO_LABELED)
def test_training_names_a_bad_pseudo_labeled_record(make_set, case):
    spoil, expected = PSEUDO_LABELED[case]
    with pytest.raises(InputError) as error:
        train(make_set(pseudo_row, spoil), kind="pseudo_labeled")
    assert_named(error, expected)


@pytest.mark.parametrize("case", LABELED)
def test_evaluation_names_a_bad_record(make_set, case):
    spoil, expected = LABELED[case]
    with pytest.raises(InputError) as error:
        evaluate(make_set(spoil=spoil))
    assert_named(error, expected)


def test_labels_of_unlabeled_images_do_not_matter_but_their_image_does(make_set):
    assert len(evaluate(make_set(spoil=having(records.TRUE_LABEL, 9)), "unlabeled")) == 8
    spoilt = make_set(spoil=having(records.IMAGE, b"x"), name="other")
    with pytest.raises(InputError) as error:
        evaluate(spoilt, "unlabeled")
    assert_named(error, "`image/encoded`")


def test_the_image_of_a_cut_jpeg_is_named(make_set, encode, noise_image):
    cut = encode(noise_image(64, 64, 3), "JPEG")[:300]
    with pytest.raises(InputError, match="received 300 bytes: .*JPEG"):
        train(make_set(spoil=having(records.IMAGE, cut)))


@pytest.mark.parametrize("garbage", [b"\xff\xfe no example", b"plain text"])
@pytest.mark.parametrize("run", [train, evaluate])
def test_a_record_that_is_no_example_is_named(make_set, run, garbage):
    examples = make_set()
    replace_records(examples.files[1], lambda at, row: garbage if at == POSITION else row)
    expected = rf"{FILE}, record 1: expected a serialized tf.train.Example; received"
    with pytest.raises(InputError, match=expected):
        run(examples)


def test_pseudo_labeled_garbage_is_named(make_set):
    examples = make_set(pseudo_row)
    replace_records(examples.files[1], lambda at, row: b"\xff\xfe" if at == 1 else row)
    with pytest.raises(InputError, match=rf"{FILE}, record 1: expected a serialized"):
        train(examples, kind="pseudo_labeled")


@pytest.mark.parametrize("run", [train, evaluate])
def test_what_tensorflows_parser_alone_refuses_is_named(make_set, run):
    """An entry without a key: protobuf reads it, the pipeline's parser does not."""
    examples = make_set()
    entry = b"\n\x02\x12\x00"

    def spoil(position, row):
        if position != POSITION:
            return row
        features = tf.train.Example.FromString(row).features
        inner = features.SerializeToString(deterministic=True) + entry
        assert len(inner) >= 128  # So that its length takes two bytes.
        length = bytes([len(inner) & 0x7F | 0x80, len(inner) >> 7])
        spoilt = b"\n" + length + inner
        assert tf.train.Example.FromString(spoilt).features.feature[records.IMAGE]
        return spoilt

    replace_records(examples.files[1], spoil)
    with pytest.raises(InputError) as error:
        run(examples)
    assert_named(error, "that TensorFlow's parser reads")


def test_an_id_that_is_no_text_is_named(make_set):
    path = make_set(spoil=having(records.ID, b"\xff\xfe")).files[1]
    bad = bad_records.find_first([path], Contract("labeled", 3))
    assert (bad.position, bad.id) == (POSITION, "")
    assert "`image/id`: expected UTF-8; received b'\\xff\\xfe'" in bad.problem
    *_, (position, example), _, _ = records.numbered_examples(path)
    with pytest.raises(InputError, match=rf"{FILE}, record {POSITION}: expected .* UTF-8"):
        records.example_id(example, path, position)


def cut(path, count=10):
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content[:-count])


@pytest.mark.parametrize("run", [train, evaluate])
def test_a_truncated_file_is_named(make_set, run):
    examples = make_set()
    cut(examples.files[1])
    with pytest.raises(InputError, match=rf"{FILE}, record 3 and all after it: .*whole"):
        run(examples)


def test_a_flipped_bit_is_named(make_set):
    examples = make_set()
    with open(examples.files[1], "r+b") as file:
        file.seek(100)
        file.write(bytes([file.read(1)[0] ^ 1]))
    with pytest.raises(InputError, match=rf"{FILE}, record \d and all after it"):
        train(examples)


def test_a_bad_record_late_in_the_stream_is_found_from_where_reading_began(make_set):
    """The message costs what was read since the last report, not the whole set."""
    examples = make_set(spoil=having(records.IMAGE, b"x"))
    stream = stream_of(examples)
    order = [
        int(position) if path.numpy().decode().endswith(FILE) else -1
        for path, position, *_ in record_order.undecoded(
            stream, 1, 0, streams.HostShare()
        ).take(16)
    ]
    at = order.index(POSITION)
    again = order.index(POSITION, at + 1)
    assert len(train(examples, count=at, batch_size=1)) == at
    with pytest.raises(InputError) as error:
        train(examples, count=1, start=at, batch_size=1)
    assert_named(error, "image/encoded")
    # What is passed over is not decoded: a start behind it finds nothing wrong.
    good = again - at - 1
    assert good
    assert len(train(examples, count=good, start=at + 1, batch_size=1)) == good


def test_what_is_no_bad_record_stays_the_error_it_was(make_set):
    examples = make_set()
    with (
        pytest.raises(tf.errors.InvalidArgumentError, match="of the model"),
        pipeline.explained_training(stream_of(examples), 2, 0, 8),
    ):
        raise tf.errors.InvalidArgumentError(None, None, "of the model")


@pytest.mark.parametrize("claimed", [7, 9])
def test_another_number_of_records_than_on_record_is_refused(make_set, claimed):
    examples = dataclasses.replace(make_set(), examples_per_file=(claimed - 3, 3))
    with pytest.raises(InputError, match=rf"expected the {claimed} examples on record"):
        train(examples, count=24)


def test_files_that_became_empty_do_not_hang(make_set):
    examples = make_set()
    for path in examples.files:
        tf.io.TFRecordWriter(path).close()
    with pytest.raises(InputError, match="expected the 8 examples on record"):
        train(examples)


def test_a_host_without_any_record_is_refused(make_set):
    share = streams.HostShare(index=0, count=9)
    with pytest.raises(InputError, match="Host 0 of 9: expected at least one .* of 8"):
        pipeline.training_batches(stream_of(make_set()), 2, share=share)


# Skipping: as if the bad record had never been there.


def spoil_all_ways(make_set, make_row, case):
    """A set with record 5 spoilt in some way."""
    cases = {**LABELED, **PSEUDO_LABELED}
    if case in cases:
        return make_set(make_row, cases[case][0])
    examples = make_set(make_row)
    replace_records(examples.files[1], lambda at, row: b"\xff" if at == POSITION else row)
    return examples


@pytest.mark.parametrize("case", [*LABELED, "garbage"])
def test_skipped_records_leave_the_stream_of_a_set_without_them(make_set, case):
    clean = bad_records.without_bad(spoil_all_ways(make_set, labeled_row, case), "labeled")
    never = make_set(spoil=None, name="never")
    assert clean.num_examples == 7
    assert [bad.position for bad in clean.skipped] == [POSITION]
    unbroken = train(never, 20)
    assert train(clean, 20) == unbroken
    assert train(clean, 8, start=12) == unbroken[12:]  # In the second epoch.
    assert evaluate(clean) == evaluate(never)


@pytest.mark.parametrize("case", [*PSEUDO_LABELED, "garbage"])
def test_skipped_pseudo_labeled_records_take_their_copies_along(make_set, case):
    spoilt = spoil_all_ways(make_set, pseudo_row, case)
    clean = bad_records.without_bad(spoilt, "pseudo_labeled")
    never = make_set(pseudo_row, spoil=None, name="never")
    assert clean.num_examples == never.num_examples == 10
    unbroken = train(never, 20, kind="pseudo_labeled")
    assert train(clean, 20, kind="pseudo_labeled") == unbroken
    assert train(clean, 6, kind="pseudo_labeled", start=14) == unbroken[14:]


def test_hosts_share_what_is_left_exactly(make_set):
    spoilt = make_set(spoil=LABELED["no image file"][0])
    clean = bad_records.without_bad(spoilt, "labeled")
    labels = []
    for index, size in enumerate((3, 4)):
        share = streams.HostShare(index, 2)
        batches = pipeline.training_batches(stream_of(clean), 1, share=share)
        labels += [int(batch["label"][0]) for batch in batches.take(size)]
    assert sorted(labels) == sorted(i % 3 for i in range(8) if i != 5)


def test_the_readable_beginning_of_a_truncated_file_is_kept(make_set):
    examples = make_set()
    cut(examples.files[1])
    clean = bad_records.without_bad(examples, "labeled")
    assert clean.num_examples == 7
    assert clean.skipped[0].name == f"{FILE}:3 to the end"
    assert [id_ for id_, _ in evaluate(clean)] == [f"id{i}" for i in range(7)]
    assert len(train(clean, 20)) == 20
    found = list(records.numbered_examples(examples.files[1], clean.skipped))
    assert [position for position, _ in found] == [0, 1, 2]


def test_positions_and_so_names_stay_those_of_the_file(make_set):
    def no_id(index, noise_image):
        return without(records.ID)(labeled_row(index, noise_image))

    spoilt = make_set(no_id, LABELED["no image"][0])
    clean = bad_records.without_bad(spoilt, "labeled")
    assert [id_ for id_, _ in evaluate(clean)][4:] == [f"{FILE}:{i}" for i in (0, 2, 3)]


def test_a_set_of_bad_records_alone_is_refused(make_set):
    examples = make_set()
    for path in examples.files:
        replace_records(path, lambda at, row: b"\xff")
    with pytest.raises(
        InputError, match="one good record; all 8 are bad. The first: part-"
    ):
        bad_records.without_bad(examples, "labeled")


def test_the_report_counts_and_names_the_first_few(make_set):
    examples = make_set()
    for path in examples.files:
        replace_records(path, lambda at, row: b"\xff" if at else row)
    report = bad_records.report(bad_records.without_bad(examples, "labeled").skipped)
    assert report["count"] == 6
    assert len(report["first"]) == 5
    assert report["first"][0].startswith("part-00000-of-00002.tfrecord:1: expected a ser")


def test_the_fingerprint_tells_what_was_skipped(make_set):
    clean = make_set()
    bad = records.BadRecord(clean.files[0], 1, "", "", "")
    other = dataclasses.replace(bad, position=2)
    prints = {
        dataclasses.replace(clean, skipped=skipped).fingerprint()
        for skipped in ((), (bad,), (other,))
    }
    assert len(prints) == 3


# Data sets that scripts open.


def test_a_data_set_leaves_bad_records_out(make_set, tmp_path):
    make_set(spoil=LABELED["no image file"][0])
    dataset = f"tfrecord:{tmp_path}/spoilt"
    source = sources.open_source(dataset, class_names=CLASSES, skip_bad_records=True)
    assert source.labels.tolist() == [0, 1, 2, 0, 1, 0, 1]
    assert [record.id for record in source.read([4, 5])] == ["id4", "id6"]
    assert source.record_set().num_examples == 7
    assert source.record_set().skipped == source.skipped
    clean = make_set(spoil=None, name="never")
    never = sources.open_source(f"tfrecord:{clean.files[0].rsplit('/', 1)[0]}")
    assert source.digest(range(7)) != never.digest(range(7))


def test_unlabeled_data_keeps_records_without_labels(make_set, tmp_path):
    make_set(spoil=LABELED["no label"][0])
    dataset = f"tfrecord:{tmp_path}/spoilt"
    found = sources.open_source(dataset, labeled=False, skip_bad_records=True)
    assert len(found) == 8
    assert len(sources.open_source(dataset, skip_bad_records=True)) == 7


def test_a_record_without_an_image_is_a_bad_file_when_read(make_set, tmp_path):
    make_set(spoil=LABELED["no image"][0])
    source = sources.open_source(f"tfrecord:{tmp_path}/spoilt")
    found = [record.error for record in source.read(range(8))]
    assert found[5] == "the record has no `image/encoded`"
    assert np.count_nonzero([bool(error) for error in found]) == 1
