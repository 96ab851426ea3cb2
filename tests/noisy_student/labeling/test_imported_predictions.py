"""Predictions made elsewhere become the same files, or are refused by name."""

import os
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from data import records, soft_labels
from data.errors import InputError
from data.images import encode_png
from data.records import BadRecord, Record, RecordSet
from noisy_student.balancing.balancing import balance
from noisy_student.config import SelectionConfig
from noisy_student.labeling import (
    imported_predictions,
    imported_rows,
    prediction_files,
)
from noisy_student.labeling.imported_predictions import import_predictions
from noisy_student.labeling.predictions import read_index
from noisy_student.stages.manifest import read_manifest

CLASSES = ("cat", "dog", "owl")
IMAGES = 12


@pytest.fixture
def unlabeled(tmp_path):
    """12 images in 3 shards; every fourth has no truth, the others the class 1."""
    image, paths = encode_png(np.zeros([2, 2, 3], np.uint8)), []
    for shard, numbers in enumerate(np.split(np.arange(IMAGES), 3)):
        path = str(tmp_path / "images" / records.shard_name("unlabeled", shard, 3))
        rows = [Record(f"image{n}", image, 1 if n % 4 else -1) for n in numbers]
        records.write_shard(path, map(records.image_example, rows))
        paths.append(path)
    return RecordSet(tuple(paths), (4, 4, 4), CLASSES)


@pytest.fixture
def predicted():
    """(ids, probabilities): of all 12 images and one more, in another order."""
    generator = np.random.default_rng(0)
    order = generator.permutation(IMAGES + 1)
    rows = generator.dirichlet(np.ones(3), IMAGES + 1).astype(np.float32)
    return [f"image{n}" for n in order], rows[order]


def write_parquet(path, ids, probabilities, value_type=None, **options):
    lists = pa.array(list(probabilities), pa.list_(value_type or pa.float32()))
    pq.write_table(pa.table({"id": ids, "probabilities": lists}), path, **options)
    return str(path)


def write_npz(path, ids, probabilities, save=np.savez):
    save(path, id=np.array(ids, str), probabilities=probabilities)
    return str(path)


def imported(source, unlabeled, directory, **options):
    """By id: (label, confidence, probabilities)."""
    import_predictions(str(source), unlabeled, CLASSES, str(directory), **options)
    manifest = read_manifest(str(directory))
    label_format = soft_labels.parse_format(manifest["identity"]["label_format"])
    found = {}
    for name in manifest["shards"]:
        for example in records.read_shard(os.path.join(directory, name)):
            feature = example.features.feature
            found[feature[records.ID].bytes_list.value[0].decode()] = (
                feature[records.LABEL].int64_list.value[0],
                feature[records.CONFIDENCE].float_list.value[0],
                soft_labels.decode(feature, label_format, 3),
            )
    return found


def refused(source, unlabeled, tmp_path, text):
    """The import is refused with these words, before a shard is written."""
    with pytest.raises(InputError, match=re.compile(text, re.S)) as error:
        import_predictions(str(source), unlabeled, CLASSES, str(tmp_path / "out"))
    assert not tf.io.gfile.glob(str(tmp_path / "out" / "*.tfrecord"))
    return str(error.value)


def half(path, ids, probabilities):
    return write_parquet(path, ids, probabilities.astype(np.float16), pa.float16())


def compressed(path, ids, probabilities):
    return write_npz(path, ids, probabilities, np.savez_compressed)


def small_groups(path, ids, probabilities):
    return write_parquet(path, ids, probabilities, row_group_size=2)


def fixed_size(path, ids, probabilities):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(probabilities.reshape(-1)), 3)
    binary = pa.array([id_.encode() for id_ in ids])
    pq.write_table(pa.table({"id": binary, "probabilities": lists, "x": lists}), path)
    return str(path)


@pytest.mark.parametrize(
    ("name", "write", "error"),
    [
        ("a.parquet", write_parquet, 0),
        ("a.parquet", small_groups, 0),
        ("a.parquet", fixed_size, 0),
        ("a.parquet", half, 2**-11),
        ("a.npz", write_npz, 0),
        ("a.npz", compressed, 0),
    ],
)
@pytest.mark.parametrize(("block_bytes", "group_bytes"), [(2**25, 2**29), (36, 50)])
def test_every_kind_of_file_is_joined_by_id(
    name,
    write,
    error,
    block_bytes,
    group_bytes,
    unlabeled,
    predicted,
    tmp_path,
    monkeypatch,
):
    monkeypatch.setattr(prediction_files, "_BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(imported_predictions, "_GROUP_BYTES", group_bytes)
    source = write(tmp_path / name, *predicted)
    found = imported(source, unlabeled, tmp_path / "out")
    assert sorted(found) == sorted(f"image{n}" for n in range(IMAGES))
    for id_, row in zip(*predicted, strict=True):
        if id_ in found:
            label, confidence, probabilities = found[id_]
            np.testing.assert_allclose(probabilities, row, rtol=error, atol=0)
            assert (label, confidence) == (row.argmax(), probabilities.max())


def test_the_output_is_a_finished_labeling(unlabeled, predicted, tmp_path):
    source = write_parquet(tmp_path / "a.parquet", *predicted)
    found = imported(source, unlabeled, tmp_path / "out", label_format="top_1")
    manifest = read_manifest(str(tmp_path / "out"))
    assert manifest["stage"] == "label"
    identity = manifest["identity"]
    assert list(identity["imported_sha256"]) == ["a.parquet"]
    assert "teacher_sha256" not in identity
    assert (identity["images"], identity["label_format"]) == (IMAGES, "top_1")
    results = manifest["results"]
    truth = [found[f"image{n}"][0] == 1 for n in range(IMAGES) if n % 4]
    assert results["accuracy"] == np.mean(truth)
    assert (results["images"], results["unknown_predictions"]) == (IMAGES, 1)
    for path in unlabeled.files:  # In the order of the images.
        ids = read_index(str(tmp_path / "out" / os.path.basename(path))).ids
        images = records.read_shard(path)
        assert ids == [x.features.feature[records.ID].bytes_list.value[0] for x in images]


@pytest.mark.parametrize("label_format", ["float16", "top_2"])
def test_balancing_copies_soft_labels_of_every_format(
    label_format, unlabeled, predicted, tmp_path
):
    source = write_parquet(tmp_path / "a.parquet", *predicted)
    imported(source, unlabeled, tmp_path / "out", label_format=label_format)
    selection = SelectionConfig(min_confidence=0.4, images_per_class=5)
    directory = str(tmp_path / "balanced")
    balanced = balance(unlabeled, str(tmp_path / "out"), directory, selection, seed=0)
    parsed = soft_labels.parse_format(label_format)
    assert soft_labels.format_of_set(balanced) == parsed
    rows = dict(zip(*predicted, strict=True))
    kept = [x for path in balanced.files for x in records.read_shard(path)]
    assert kept
    for example in kept:
        feature = example.features.feature
        id_ = feature[records.ID].bytes_list.value[0].decode()
        expected = soft_labels.encode(rows[id_], parsed)
        written = tf.train.Example.FromString(records.serialize(expected)).features.feature
        for key in expected:
            assert feature[key] == written[key]


def test_several_files_are_one_import_and_may_move(unlabeled, predicted, tmp_path):
    ids, rows = predicted
    for directory in ("here", "there"):
        os.makedirs(tmp_path / directory / "x")
        write_npz(tmp_path / directory / "x/a.npz", ids[:5], rows[:5])
        write_parquet(tmp_path / directory / "x/b.parquet", ids[5:], rows[5:])
    found = imported(tmp_path / "here/*/*", unlabeled, tmp_path / "out")
    assert len(found) == IMAGES
    before = os.stat(tmp_path / "out/manifest.json").st_mtime_ns
    imported(tmp_path / "there/x/*", unlabeled, tmp_path / "out")
    assert os.stat(tmp_path / "out/manifest.json").st_mtime_ns == before
    write_npz(tmp_path / "there/x/a.npz", ids[:5], rows[[1, 0, 2, 3, 4]])
    with pytest.raises(InputError, match=r"imported_sha256\.a\.npz"):
        imported(tmp_path / "there/x/*", unlabeled, tmp_path / "out")


def test_an_interrupted_import_makes_what_is_missing(
    unlabeled, predicted, tmp_path, monkeypatch
):
    source = write_parquet(tmp_path / "a.parquet", *predicted)
    written, whole = [], imported_predictions.write_predictions

    def dying(stage, predicted, label_format):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(predicted.shard)
        return whole(stage, predicted, label_format)

    monkeypatch.setattr(imported_predictions, "write_predictions", dying)
    with pytest.raises(KeyboardInterrupt):
        imported(source, unlabeled, tmp_path / "out")
    monkeypatch.setattr(imported_predictions, "write_predictions", whole)
    before = {name: os.stat(tmp_path / "out" / name).st_mtime_ns for name in written}
    found = imported(source, unlabeled, tmp_path / "out")
    assert found.keys() == imported(source, unlabeled, tmp_path / "fresh").keys()
    for name in written:
        assert os.stat(tmp_path / "out" / name).st_mtime_ns == before[name]
    fresh, again = (
        read_manifest(str(tmp_path / "fresh")),
        read_manifest(str(tmp_path / "out")),
    )
    assert (fresh["shards"], fresh["results"]) == (again["shards"], again["results"])


def test_skipped_images_need_no_prediction(unlabeled, predicted, tmp_path):
    ids, rows = predicted
    source = write_parquet(
        tmp_path / "a.parquet",
        [id_ for id_ in ids if id_ != "image5"],
        rows[np.array(ids) != "image5"],
    )
    bad = BadRecord(unlabeled.files[1], 1, "image5", "no image", "")
    left = RecordSet(unlabeled.files, (4, 3, 4), CLASSES, skipped=(bad,))
    assert len(imported(source, left, tmp_path / "out")) == IMAGES - 1


def test_ids_of_one_hash_are_told_apart(unlabeled, predicted, tmp_path, monkeypatch):
    def weak(ids):
        return np.array([len(id_) for id_ in ids], np.uint64)

    source = write_parquet(tmp_path / "a.parquet", *predicted)
    expected = imported(source, unlabeled, tmp_path / "expected")
    monkeypatch.setattr(imported_rows, "hash_ids", weak)
    monkeypatch.setattr(imported_rows, "AT_ONCE", 3)
    found = imported(source, unlabeled, tmp_path / "out")
    assert {id_: row[:2] for id_, row in found.items()} == {
        id_: row[:2] for id_, row in expected.items()
    }
    # One prediction alone has the hash of another image: no match by hash is enough.
    ids, rows = predicted
    kept = [n for n, id_ in enumerate(ids) if id_ not in ("image10", "image11")]
    kept = [n for n in kept if ids[n] != "image12"] + [ids.index("image12")]
    source = write_parquet(tmp_path / "b.parquet", [ids[n] for n in kept], rows[kept])
    refused(source, unlabeled, tmp_path / "other", "2 of 12 images have none.*image10")


def changed(predicted, row, values):
    ids, rows = predicted
    rows = [list(map(float, each)) for each in rows]
    rows[row] = values
    return ids, rows


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.5, float("nan"), 0.5], "1 row.*finite probabilities; received NaN"),
        ([0.5, None, 0.5], "1 row.*finite probabilities; received NaN"),
        ([0.5, float("inf"), 0.5], "finite probabilities; received NaN or infinity"),
        ([1.1, -0.1, 0.0], "probabilities of 0 or more.*received -0.1"),
        ([0.5, 0.3, 0.198], "sum to 1 within 0.001 .*received 0.998"),
        ([0.5, 0.5], "expected 3 probabilities.*received 2"),
        ([0.25] * 4, "expected 3 probabilities.*received 4"),
        (None, "expected 3 probabilities.*received 0"),
    ],
)
def test_rows_that_are_no_distribution_are_refused(
    values, text, unlabeled, predicted, tmp_path
):
    source = write_parquet(tmp_path / "a.parquet", *changed(predicted, 7, values))
    id_ = predicted[0][7]
    message = refused(source, unlabeled, tmp_path, text)
    assert f"a.parquet row 7 (id b'{id_}')" in message
    assert "Mend what wrote these files" in message


def test_all_faults_of_all_files_are_counted(unlabeled, predicted, tmp_path):
    ids, rows = predicted
    write_npz(tmp_path / "a.npz", ids[:6], np.where(np.arange(6)[:, None] < 2, 9, rows[:6]))
    rows[6:9] = np.nan
    write_parquet(tmp_path / "b.parquet", [*ids[6:12], None], rows[6:])
    message = refused(tmp_path / "*.*", unlabeled, tmp_path, "no predictions")
    assert "2 row(s): expected probabilities that sum to 1" in message
    assert "3 row(s): expected finite" in message
    assert "1 row(s): expected an id; received none" in message


@pytest.mark.parametrize(("error", "fits"), [(4e-3, True), (6e-3, False)])
def test_half_floats_may_sum_to_a_little_more_or_less(
    error, fits, unlabeled, predicted, tmp_path
):
    ids, rows = predicted
    rows[:] = 0.5 + error, 0.25, 0.25
    source = write_npz(tmp_path / "a.npz", ids, rows.astype(np.float16))
    if fits:
        assert len(imported(source, unlabeled, tmp_path / "out")) == IMAGES
    else:
        refused(source, unlabeled, tmp_path, "13 row.*sum to 1 within 0.005")


def test_a_confidence_is_never_above_1(unlabeled, predicted, tmp_path):
    ids, rows = predicted
    rows[:] = 1.0009, 0, 0
    source = write_npz(tmp_path / "a.npz", ids, rows)
    found = imported(source, unlabeled, tmp_path / "out")
    assert {confidence for _, confidence, _ in found.values()} == {1.0}


@pytest.mark.parametrize("split", [None, 9])
def test_an_id_twice_is_refused(split, unlabeled, predicted, tmp_path):
    ids, rows = predicted
    ids = [*ids[:-1], ids[2]]
    if split:
        write_npz(tmp_path / "b.npz", ids[split:], rows[split:])
    write_parquet(tmp_path / "a.parquet", ids[:split], rows[:split])
    second = r"b\.npz row 3" if split else r"a\.parquet row 12"
    text = rf"1 row.*repeat.*'{ids[2]}' in .*a\.parquet row 2 and .*{second}"
    refused(tmp_path / "[ab].*", unlabeled, tmp_path, text)


def test_images_without_a_prediction_are_counted(unlabeled, predicted, tmp_path):
    ids, rows = predicted
    kept = [n for n, id_ in enumerate(ids) if id_ not in ("image3", "image9")]
    source = write_parquet(tmp_path / "a.parquet", [ids[n] for n in kept], rows[kept])
    refused(source, unlabeled, tmp_path, "2 of 12 images have none.* b.image3. of")


def test_mended_files_may_take_the_same_directory(unlabeled, predicted, tmp_path):
    broken = write_parquet(tmp_path / "a.parquet", *changed(predicted, 7, [0.5, 0.5]))
    refused(broken, unlabeled, tmp_path, "expected 3 probabilities")
    mended = write_parquet(tmp_path / "a.parquet", *predicted)
    assert len(imported(mended, unlabeled, tmp_path / "out")) == IMAGES


def test_predictions_of_other_images_alone_are_refused(unlabeled, predicted, tmp_path):
    ids, rows = predicted
    source = write_parquet(tmp_path / "a.parquet", [f"x/{id_}" for id_ in ids], rows)
    text = rf"none of 13 ids.*'x/{ids[0]}'.*'image0'.*`image/id`"
    refused(source, unlabeled, tmp_path, text)


@pytest.mark.parametrize("write", [write_parquet, write_npz, compressed])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_files_are_named(write, damage, unlabeled, tmp_path):
    ids = [f"image{n}" for n in range(5_000)]
    rows = np.random.default_rng(0).dirichlet(np.ones(3), 5_000).astype(np.float32)
    name = "a.parquet" if write is write_parquet else "a.npz"
    source = write(tmp_path / name, ids, rows)
    with open(source, "rb") as file:
        content = bytearray(file.read())
    if damage == "cut":
        del content[-100:]
    elif name == "a.parquet":
        content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    else:
        # In the last array's data, `probabilities`: rows would only be a little other.
        content[content.index(b"PK\x01\x02") - 40] ^= 1
    with open(source, "wb") as file:
        file.write(content)
    refused(source, unlabeled, tmp_path, rf"{name}: expected a whole Parquet or .npz file")


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"name": ["a"], "probabilities": [[1.0, 0, 0]]}, "`id` and.*received name, prob"),
        ({"id": ["a"], "probs": [[1.0, 0, 0]]}, "received id, probs.*Rename"),
        ({"id": [1], "probabilities": [[1.0, 0, 0]]}, "strings in `id`; received int64"),
        ({"id": ["a"], "probabilities": [1.0]}, "lists of floats.*received double"),
        ({"id": ["a"], "probabilities": [[1, 0, 0]]}, "lists of floats.*received list<"),
    ],
)
def test_parquet_of_other_columns_is_refused(table, text, unlabeled, tmp_path):
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", unlabeled, tmp_path, rf"a\.parquet: .*{text}")


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"ids": ["a"], "probabilities": np.eye(3)}, "received ids, probabilities"),
        ({"id": [1, 2, 3], "probabilities": np.eye(3)}, "`id`; received int64"),
        ({"id": np.array(["a"], object), "probabilities": np.eye(3)}, "not objects"),
        ({"id": ["a", "b", "c"], "probabilities": np.eye(3, dtype=int)}, "received int64"),
        (
            {"id": ["a", "b", "c"], "probabilities": np.eye(3)[:, :2]},
            r"\[3, 2\]",
        ),
        ({"id": ["a", "b"], "probabilities": np.eye(3)}, r"floats \[2, 3\].*\[3, 3\]"),
        (
            {"id": list("abc"), "probabilities": np.asfortranarray(np.eye(3))},
            "received Fortran order.*ascontiguousarray",
        ),
    ],
)
def test_npz_of_other_arrays_is_refused(arrays, text, unlabeled, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    refused(tmp_path / "a.npz", unlabeled, tmp_path, rf"a\.npz: .*{text}")


def test_paths_of_nothing_and_of_other_files_are_refused(unlabeled, tmp_path):
    refused(tmp_path / "*.parquet", unlabeled, tmp_path, "matches none")
    (tmp_path / "a.csv").write_text("id,probabilities")
    refused(tmp_path / "a.csv", unlabeled, tmp_path, r"end in \.parquet or \.npz")
    source = write_npz(tmp_path / "a.npz", [], np.zeros([0, 3]))
    with pytest.raises(InputError, match="hold none"):
        imported(source, unlabeled, tmp_path / "out")


def test_more_kept_classes_than_there_are_are_refused(unlabeled, predicted, tmp_path):
    source = write_parquet(tmp_path / "a.parquet", *predicted)
    with pytest.raises(InputError, match="at most 3"):
        imported(source, unlabeled, tmp_path / "out", label_format="top_4")


def test_files_on_other_file_systems_are_read(unlabeled, predicted, tmp_path):
    expected = None
    for write, name in ((write_parquet, "a.parquet"), (write_npz, "a.npz")):
        source = write(tmp_path / name, *predicted)
        remote = f"ram://{tmp_path.name}/{name}"
        tf.io.gfile.copy(source, remote)
        found = imported(remote, unlabeled, tmp_path / f"out_{name}")
        expected = expected or {id_: row[:2] for id_, row in found.items()}
        assert {id_: row[:2] for id_, row in found.items()} == expected


def test_a_runs_predictions_imported_give_the_same_balanced_set(
    finished_run, prepared, tmp_path
):
    work_dir, _ = finished_run
    own = os.path.join(work_dir, "generation_1/predictions")
    ids, rows = [], []
    for name in reversed(read_manifest(own)["shards"]):
        for example in records.read_shard(os.path.join(own, name)):
            feature = example.features.feature
            ids.append(feature[records.ID].bytes_list.value[0].decode())
            rows.append(list(feature[records.PROBABILITIES].float_list.value))
    source = write_parquet(tmp_path / "a.parquet", ids, rows)
    names = read_manifest(own)["identity"]["class_names"]
    directory = str(tmp_path / "predictions")
    import_predictions(source, prepared.unlabeled, names, directory)
    again, before = read_manifest(directory), read_manifest(own)
    assert again["shards"] == before["shards"]  # Their SHA-256 too.
    assert again["results"].items() >= before["results"].items()
    selection = SelectionConfig(min_confidence=0.05)
    balanced = [
        balance(prepared.unlabeled, path, str(tmp_path / name), selection, seed=0)
        for path, name in ((own, "own"), (directory, "imported"))
    ]
    assert balanced[0].examples_per_file == balanced[1].examples_per_file
    for one, other in zip(balanced[0].files, balanced[1].files, strict=True):
        with open(one, "rb") as first, open(other, "rb") as second:
            assert first.read() == second.read()
