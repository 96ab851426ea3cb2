"""Images that an evaluation reads where they lie: all of them, once, in order."""

import numpy as np
import pytest
from PIL import Image

from data import encoded_images, evaluation_input, images, records, sources
from data.errors import InputError
from data.evaluation_input import EvaluationInput
from data.records import Record, RecordSet
from tests import sample_photos


@pytest.fixture
def folder(tmp_path):
    """24 photos in two class folders, `folder:…`."""
    for number, picture in enumerate(sample_photos.pictures()):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sample_photos.jpeg(picture))
    return f"folder:{tmp_path}/photos"


def of_folder(folder):
    return encoded_images.of_source(folder, sources.open_source(folder))


def rows_of(found):
    return list(found.read().as_numpy_iterator())


def test_a_folder_is_read_as_its_source_reads_it(folder):
    source = sources.open_source(folder)
    expected = list(source.read(range(len(source))))
    rows = rows_of(of_folder(folder))
    assert len(rows) == of_folder(folder).count == 24
    assert [row["id"].decode() for row in rows] == [record.id for record in expected]
    assert [row["label"] for row in rows] == [record.label for record in expected]
    assert [row["encoded"] for row in rows] == [record.image for record in expected]


def test_a_source_without_files_is_read_too():
    found = encoded_images.of_source("digits:test", sources.open_source("digits:test"))
    rows = rows_of(found)
    assert len(rows) == found.count == 500
    assert rows[3]["id"] == b"digits/test/000003"


def grey_png(value):
    return images.encode_png(np.full((12, 10, 3), value, np.uint8))


@pytest.fixture
def record_set(tmp_path):
    """Nine labeled records in two files; stored labels start at 1."""
    paths = []
    for shard, ids in enumerate((range(5), range(5, 9))):
        paths.append(str(tmp_path / records.shard_name("test", shard, 2)))
        rows = [Record(f"id{k}", grey_png(20 * k), k % 3 + 1) for k in ids]
        records.write_shard(paths[-1], map(records.image_example, rows))
    return RecordSet(tuple(paths), (5, 4), ("a", "b", "c"), label_offset=1)


def test_records_give_the_batches_of_evaluation_input(record_set):
    found = encoded_images.of_records(record_set)
    stream = EvaluationInput(record_set, image_size=8, crop="inception", kind="labeled")
    expected = evaluation_input.evaluation_batches(stream, 4).as_numpy_iterator()
    batches = encoded_images.cropped_batches(found, 8, "inception", 4)
    for batch, other in zip(batches.as_numpy_iterator(), expected, strict=True):
        for key in ("image", "label", "id"):
            np.testing.assert_array_equal(batch[key], other[key])
    whole = list(encoded_images.decoded(found).as_numpy_iterator())
    assert [row["image"].shape for row in whole] == [(12, 10, 3)] * 9
    assert [row["image"][0, 0, 0] for row in whole] == [20 * k for k in range(9)]


def test_a_sample_keeps_the_order_and_is_another_set(record_set):
    found = encoded_images.of_records(record_set)
    all_ids = [row["id"] for row in rows_of(found)]
    drawn = encoded_images.sampled(found, 4, seed=1)
    ids = [row["id"] for row in rows_of(drawn)]
    assert len(ids) == drawn.count == 4
    assert ids == [id_ for id_ in all_ids if id_ in ids]
    assert ids == [row["id"] for row in rows_of(encoded_images.sampled(found, 4, 1))]
    samples = set()
    for other in range(6):
        rows = rows_of(encoded_images.sampled(found, 4, other))
        samples.add(tuple(row["id"] for row in rows))
    assert len(samples) > 3
    assert drawn.fingerprint != found.fingerprint
    assert encoded_images.sampled(found, 0, 1) is found
    assert encoded_images.sampled(found, 9, 1) is found


def test_fingerprints_tell_sets_apart(folder, record_set, tmp_path):
    import dataclasses

    before = of_folder(folder).fingerprint
    assert of_folder(folder).fingerprint == before
    Image.new("RGB", (9, 9)).save(tmp_path / "photos/a/99.png")
    assert of_folder(folder).fingerprint != before
    other = dataclasses.replace(record_set, label_offset=0)
    prints = {encoded_images.of_records(r).fingerprint for r in (record_set, other)}
    assert len(prints) == 2


def test_a_file_that_cannot_be_read_is_named(folder, tmp_path):
    (tmp_path / "photos/b/07.jpg").write_bytes(b"no image")
    found = of_folder(folder)
    batches = encoded_images.cropped_batches(found, 8, "inception", 4)
    expected = r"b/07.jpg: .*unknown format.*Get the file"
    with pytest.raises(InputError, match=expected), found.explained():
        list(batches.as_numpy_iterator())


def test_a_bad_record_is_named(record_set):
    broken = [
        {**records.image_example(Record("bad", b"no image", 1))},
        records.image_example(Record("other", b"no image", 7)),
    ]
    records.write_shard(record_set.files[1], broken)
    found = encoded_images.of_records(record_set)
    with pytest.raises(InputError, match="record 0 .'bad'."), found.explained():
        list(encoded_images.decoded(found).as_numpy_iterator())
