"""Training streams that resume exactly, and evaluation that misses nothing."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from data import augmentation as aug
from data import evaluation_input, images, pipeline, record_order, records, streams
from data.errors import InputError
from data.evaluation_input import EvaluationInput
from data.records import Record, RecordSet

CLASSES = tuple("abcdefghijk")
SHIFTS = aug.Augmentation(crop="pad", num_ops=0)  # 81 places times two mirrors.
SIZE = 32


@pytest.fixture(scope="module")
def pictures(noise_image):
    return [noise_image(SIZE, SIZE, 3, seed=seed) for seed in range(11)]


@pytest.fixture(scope="module")
def labeled(tmp_path_factory, pictures, write_records):
    """11 records in shards of the sizes given; label i belongs to picture i."""

    def make(*sizes, offset=0, ids=True):
        directory = tmp_path_factory.mktemp("labeled")
        rows = []
        for i, pixels in enumerate(pictures):
            row = records.image_example(
                Record(f"id{i}", images.encode_png(pixels), i + offset)
            )
            rows.append(row if ids else {k: row[k] for k in row if k != records.ID})
        paths = write_records(directory, rows, sizes)
        return RecordSet(paths, sizes, CLASSES, offset)

    return make


@pytest.fixture(scope="module")
def three_shards(labeled):
    return labeled(4, 4, 3)


@pytest.fixture(scope="module")
def pseudo_labeled(tmp_path_factory, pictures, write_records):
    """Pictures 0 to 3, to be repeated 1, 3, 2 and 4 times: 10 examples."""
    rows = [
        {
            records.IMAGE: images.encode_png(pictures[i]),
            records.ID: f"id{i}".encode(),
            records.LABEL: i,
            records.PROBABILITIES: [0.1 * i] * len(CLASSES),
            records.COPIES: copies,
        }
        for i, copies in enumerate((1, 3, 2, 4))
    ]
    paths = write_records(tmp_path_factory.mktemp("pseudo"), rows, (2, 2))
    return RecordSet(paths, (4, 6), CLASSES)


def _stream(examples, **changes):
    stream = streams.TrainingInput(examples, SIZE, SHIFTS, seed=5)
    return dataclasses.replace(stream, **changes)


def _examples(stream, count, start=0, share=streams.HostShare(), batch_size=1):
    """The first `count` examples as (label, image)."""
    batches = pipeline.training_batches(stream, batch_size, start, share)
    return [
        (int(label), image)
        for batch in itertools.islice(batches.as_numpy_iterator(), count // batch_size)
        for label, image in zip(batch["label"], batch["image"], strict=True)
    ]


def _labels(examples):
    return [label for label, _ in examples]


def _assert_same(found, expected):
    assert _labels(found) == _labels(expected)
    for (_, one), (_, two) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.fixture(scope="module")
def unbroken(three_shards):
    """Three epochs of the stream that the tests below start in the middle."""
    return _examples(_stream(three_shards), 33)


def test_training_batches_have_the_contracts_shapes_and_types(three_shards):
    batches = pipeline.training_batches(_stream(three_shards), 4)
    assert batches.element_spec == {
        "image": tf.TensorSpec([4, SIZE, SIZE, 3], tf.uint8),
        "label": tf.TensorSpec([4], tf.int32),
    }


def test_no_pipeline_waits_for_the_tuner_at_its_end(three_shards):
    training = pipeline.training_batches(_stream(three_shards), 4)
    evaluation = _evaluation(three_shards, 4)
    for batches in (training, evaluation, tf.data.Dataset.zip((training, training))):
        assert batches.options().autotune.enabled is False


def test_batches_change_the_order_and_nothing_else(three_shards, unbroken):
    found = _examples(_stream(three_shards), 33, batch_size=3)
    for epoch in (0, 11, 22):
        alone, batched = (dict(x[epoch : epoch + 11]) for x in (unbroken, found))
        assert sorted(batched) == list(range(11))
        for label in alone:
            np.testing.assert_array_equal(alone[label], batched[label])


@pytest.mark.parametrize(("start", "batch_size"), [(1, 1), (11, 1), (25, 1), (12, 3)])
def test_a_stream_started_later_continues_exactly(three_shards, start, batch_size):
    stream = _stream(three_shards)
    whole = _examples(stream, 33, batch_size=batch_size)
    found = _examples(stream, 33 - start, start, batch_size=batch_size)
    _assert_same(found, whole[start:])


def test_the_order_does_not_depend_on_tensorflows_seed(three_shards, unbroken):
    tf.random.set_seed(17)
    found = _examples(_stream(three_shards), 33)
    tf.random.set_seed(None)
    _assert_same(found, unbroken)


def test_batch_k_is_batch_0_of_a_stream_started_there_with_all_noise(three_shards):
    noise = aug.Augmentation(num_ops=1, magnitude=9, cutout=True)
    stream = _stream(three_shards, augmentation=noise)
    *_, fifth = pipeline.training_batches(stream, 4).take(6).as_numpy_iterator()
    # Batch 5 holds examples 20 to 23: the second epoch's last two, the third's first.
    batches = pipeline.training_batches(stream, 4, start_example=20)
    first = next(batches.as_numpy_iterator())
    np.testing.assert_array_equal(first["label"], fifth["label"])
    np.testing.assert_array_equal(first["image"], fifth["image"])


def test_a_set_larger_than_the_shuffle_buffer_is_read_once_an_epoch_and_resumes(
    three_shards, monkeypatch
):
    monkeypatch.setattr(record_order, "SHUFFLE_BUFFER", 4)
    whole = _examples(_stream(three_shards), 33)
    for epoch in (whole[:11], whole[11:22], whole[22:]):
        assert sorted(_labels(epoch)) == list(range(11))
    # With fewer than all records in the buffer, shards must change places too.
    firsts = {epoch[0][0] // 4 for epoch in (whole[:11], whole[11:22], whole[22:])}
    assert len(firsts) > 1
    _assert_same(_examples(_stream(three_shards), 17, 16), whole[16:])


def test_every_epoch_has_every_record_once_in_another_order(unbroken):
    orders = [tuple(_labels(unbroken[e : e + 11])) for e in (0, 11, 22)]
    assert all(sorted(order) == list(range(11)) for order in orders)
    assert len(set(orders)) == 3
    assert tuple(range(11)) not in orders


def test_the_order_mixes_shards(unbroken):
    first = [label // 4 for label in _labels(unbroken[:11])]
    changes = sum(a != b for a, b in itertools.pairwise(first))
    assert changes > 2  # Shards one after the other would change twice.


def test_each_epoch_draws_new_noise_for_a_record(unbroken):
    seen = collections.defaultdict(list)
    for label, image in unbroken:
        seen[label].append(image.tobytes())
    assert all(len(set(found)) == 3 for found in seen.values())


def test_another_seed_gives_another_order_and_other_noise(three_shards, unbroken):
    other = _examples(_stream(three_shards, seed=6), 11)
    assert sorted(_labels(other)) == list(range(11))
    assert _labels(other) != _labels(unbroken[:11])
    images_then = dict(unbroken[:11])
    assert not any(np.array_equal(image, images_then[i]) for i, image in other)


def test_noise_follows_the_record_and_not_its_place_or_label_offset(labeled, unbroken):
    found = dict(_examples(_stream(labeled(2, 9, offset=1)), 11))
    assert sorted(found) == list(range(11))  # The offset is subtracted.
    for label, image in unbroken[:11]:
        np.testing.assert_array_equal(found[label], image)


def test_records_without_ids_have_noise_of_their_own(labeled):
    stream = _stream(labeled(4, 4, 3, ids=False))
    found = _examples(stream, 22)
    assert sorted(_labels(found[:11])) == list(range(11))
    _assert_same(_examples(stream, 15, start=7), found[7:])


def test_records_differ_in_their_noise(encode, tmp_path, write_records, noise_image):
    encoded = encode(noise_image(SIZE, SIZE, 3))
    rows = [records.image_example(Record(f"id{i}", encoded, i)) for i in range(6)]
    examples = RecordSet(write_records(tmp_path, rows, (6,)), (6,), CLASSES)
    found = _examples(_stream(examples), 6)
    assert len({image.tobytes() for _, image in found}) == 6


def test_copies_are_repeated_have_noise_of_their_own_and_resume(pseudo_labeled):
    found = _examples(_stream(pseudo_labeled, kind="pseudo_labeled"), 20)
    for epoch in (found[:10], found[10:]):
        assert collections.Counter(_labels(epoch)) == {0: 1, 1: 3, 2: 2, 3: 4}
    assert len({image.tobytes() for _, image in found}) == 20
    assert _labels(found[:10]) != sorted(_labels(found[:10]))  # Copies are spread.
    _assert_same(
        _examples(_stream(pseudo_labeled, kind="pseudo_labeled"), 16, 4), found[4:]
    )


@pytest.mark.parametrize("replicas", [1, 2])
def test_no_step_has_two_copies_of_a_record(pseudo_labeled, replicas):
    stream = _stream(pseudo_labeled, kind="pseudo_labeled")
    share = streams.HostShare(replicas=replicas)
    found = _labels(_examples(stream, 60, share=share, batch_size=2 // replicas))
    for start in range(0, 60, 2):
        # At the seam of two epochs a record of each may meet.
        if start // 10 == (start + 1) // 10:
            assert len(set(found[start : start + 2])) == 2
    assert collections.Counter(found[:10]) == {0: 1, 1: 3, 2: 2, 3: 4}


@pytest.mark.parametrize("replicas", [1, 2])
def test_nor_do_they_meet_where_an_epoch_ends_within_a_step(
    tmp_path, write_records, replicas
):
    # 15 examples, 4 a step: the first of the second epoch completes a step of the first.
    rows = [
        {records.ID: f"id{i}".encode(), records.IMAGE: b"", records.COPIES: 3}
        for i in range(5)
    ]
    examples = RecordSet(write_records(tmp_path, rows, (5,)), (15,), CLASSES)
    stream = _stream(examples, kind="pseudo_labeled")
    share, batch = streams.HostShare(replicas=replicas), 4 // replicas
    found = pipeline.named_examples(stream, batch, 0, 12 * 15, share)
    for start in range(0, len(found), 4):
        step = [(example["id"], example["epoch"]) for example in found[start : start + 4]]
        assert len(set(step)) == 4


def test_pseudo_labeled_batches_carry_their_probabilities(pseudo_labeled):
    stream = _stream(pseudo_labeled, kind="pseudo_labeled")
    batches = pipeline.training_batches(stream, 5)
    assert batches.element_spec["probabilities"].shape == (5, len(CLASSES))
    for batch in batches.take(2).as_numpy_iterator():
        expected = 0.1 * np.stack([batch["label"]] * len(CLASSES), -1)
        np.testing.assert_allclose(batch["probabilities"], expected, rtol=1e-6)


def test_host_shares_are_disjoint_and_cover_every_epoch(three_shards, unbroken):
    sizes = (3, 4, 4)
    hosts = [
        _examples(_stream(three_shards), 2 * size, share=streams.HostShare(index, 3))
        for index, size in enumerate(sizes)
    ]
    for epoch in range(2):
        parts = [
            _labels(host[epoch * size : (epoch + 1) * size])
            for host, size in zip(hosts, sizes, strict=True)
        ]
        assert sorted(itertools.chain(*parts)) == list(range(11))
    # The noise does not depend on the number of hosts.
    images_alone = dict(unbroken[:11])
    for host, size in zip(hosts, sizes, strict=True):
        for label, image in host[:size]:
            np.testing.assert_array_equal(image, images_alone[label])


def test_host_shares_change_with_the_epoch(three_shards):
    share = streams.HostShare(0, 2)
    found = _labels(_examples(_stream(three_shards), 30, share=share))
    parts = {frozenset(found[start : start + 5]) for start in range(0, 30, 5)}
    assert len(parts) > 1


def test_a_host_continues_its_own_share_exactly(three_shards):
    share = streams.HostShare(0, 2)  # 5 of the 11 records.
    whole = _examples(_stream(three_shards), 14, share=share)
    _assert_same(_examples(_stream(three_shards), 7, 7, share), whole[7:])


def test_a_host_opens_only_the_files_of_its_part(labeled):
    examples = labeled(3, 3, 3, 2)
    first = streams.HostShare(0, 4)  # Examples 0 and 1 of an epoch's order.
    found = _labels(_examples(_stream(examples), 16, share=first))
    of_file = [label // 3 for label in found]
    epochs = [set(of_file[start : start + 2]) for start in range(0, 16, 2)]
    assert all(len(files) == 1 for files in epochs)
    assert len(set.union(*epochs)) > 1


def test_hosts_beyond_the_examples_are_refused(three_shards):
    share = streams.HostShare(0, 12)
    with pytest.raises(InputError, match=r"Host 0 of 12: .* received none of 11"):
        pipeline.training_batches(_stream(three_shards), 1, share=share)


def test_large_records_make_the_shuffle_buffer_smaller(three_shards, monkeypatch):
    assert record_order.shuffle_buffer(three_shards) == record_order.SHUFFLE_BUFFER
    monkeypatch.setattr(record_order, "SHUFFLE_BYTES", 20_000)  # Records of 3 KB.
    assert record_order.shuffle_buffer(three_shards) == 6


def test_host_shares_split_copies_too(pseudo_labeled):
    stream = _stream(pseudo_labeled, kind="pseudo_labeled")
    found = []
    for index in range(2):
        found += _examples(stream, 5, share=streams.HostShare(index, 2))
    assert collections.Counter(_labels(found)) == {0: 1, 1: 3, 2: 2, 3: 4}
    assert len({image.tobytes() for _, image in found}) == 10


def _evaluation(examples, batch_size, size=SIZE, crop="pad"):
    stream = EvaluationInput(examples, size, crop)
    return evaluation_input.evaluation_batches(stream, batch_size)


@pytest.mark.parametrize("batch_size", [4, 11])
def test_evaluation_has_every_record_once_in_order(three_shards, pictures, batch_size):
    batches = list(_evaluation(three_shards, batch_size).as_numpy_iterator())
    sizes = [len(batch["label"]) for batch in batches]
    assert sizes == [batch_size] * (11 // batch_size) + [11 % batch_size] * (
        11 % batch_size > 0
    )
    found = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    assert found["label"].tolist() == list(range(11))
    assert found["label"].dtype == np.int32
    assert found["id"].tolist() == [f"id{i}".encode() for i in range(11)]
    assert found["image"].dtype == np.float32
    np.testing.assert_array_equal(found["image"], np.stack(pictures))


def test_evaluation_of_photos_takes_the_centre_crop(three_shards, pictures):
    batches = _evaluation(three_shards, 11, size=24, crop="inception")
    (batch,) = batches.as_numpy_iterator()
    expected = [aug.clean_pixels(tf.constant(x), 24, "inception") for x in pictures]
    np.testing.assert_array_equal(batch["image"], np.stack(expected))


def test_evaluation_labels_have_the_offset_subtracted_and_unknown_stays(
    tmp_path, encode, noise_image, write_records
):
    encoded = encode(noise_image(8, 8, 3))
    rows = [
        records.image_example(Record(f"id{i}", encoded, label))
        for i, label in enumerate((1, -1, 5))
    ]
    paths = write_records(tmp_path, rows, (3,))
    batches = _evaluation(RecordSet(tuple(paths), (3,), CLASSES, label_offset=1), 8)
    (batch,) = batches.as_numpy_iterator()
    assert batch["label"].tolist() == [0, -1, 4]


def test_evaluation_names_records_without_ids_by_file_and_position(labeled):
    examples = labeled(9, 2, ids=False)
    (batch,) = _evaluation(examples, 20).as_numpy_iterator()
    names = [f"part-00000-of-00002.tfrecord:{i}" for i in range(9)]
    names += [f"part-00001-of-00002.tfrecord:{i}" for i in range(2)]
    assert batch["id"].tolist() == [name.encode() for name in names]


@pytest.mark.parametrize(
    ("batch_size", "noise"),
    [(1, None), (4, evaluation_input.InputNoise(aug.PRESETS["imagenet"], 1)), (5, None)],
)
def test_batches_by_file_end_with_blanks_where_files_end(labeled, batch_size, noise):
    examples = labeled(4, 0, 4, 3)
    stream = EvaluationInput(examples, 24, "inception", noise=noise)
    whole = evaluation_input.evaluation_batches(stream, 11)
    (expected,) = whole.as_numpy_iterator()
    by_file = evaluation_input.evaluation_batches(stream, batch_size, by_file=True)
    batches = by_file.as_numpy_iterator()
    first = 0
    for path, size in zip(examples.files, examples.examples_per_file, strict=True):
        for start in range(0, size + 1, batch_size):
            batch, count = next(batches), min(size - start, batch_size)
            assert set(batch["path"]) == {path.encode()}
            places = [*range(start, start + count), *[-1] * (batch_size - count)]
            assert batch["position"].tolist() == places
            for key in expected:
                of_file = expected[key][first + start :][:count]
                np.testing.assert_array_equal(batch[key][:count], of_file)
        first += size
    assert next(batches, None) is None


def test_an_empty_set_is_refused_by_name(three_shards):
    empty = RecordSet(("some/file.tfrecord",), (0,), CLASSES)
    with pytest.raises(InputError, match=r"`pseudo_labeled`.*some/file.tfrecord.*none"):
        streams.check_not_empty(empty, "pseudo_labeled")
    streams.check_not_empty(three_shards, "labeled")
