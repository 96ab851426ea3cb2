"""Splits never leak, bad images are listed and skipped, bad folders refused."""

import csv
import dataclasses
import os

import numpy as np
import pytest

from data import images, records
from data.errors import InputError
from noisy_student.config import DataConfig
from noisy_student.preparation.preparation import prepare, prepare_set


def picture(seed, size=12):
    pixels = np.random.default_rng(seed).integers(0, 256, [size, size, 3], dtype=np.uint8)
    return images.encode_png(pixels)


def write_tree(root, counts, start=0):
    """`counts` images for each class folder, all different."""
    for number, (name, count) in enumerate(counts.items()):
        folder = root / name
        folder.mkdir(parents=True)
        for i in range(count):
            (folder / f"{i}.png").write_bytes(picture(start + 1000 * number + i))
    return f"folder:{root}"


def contents(record_set):
    """(bytes, label) of every image."""
    return [
        (
            example.features.feature["image/encoded"].bytes_list.value[0],
            records.example_label(example),
        )
        for path in record_set.files
        for example in records.read_shard(path)
    ]


@pytest.fixture
def folders(tmp_path):
    unlabeled = tmp_path / "unlabeled"
    unlabeled.mkdir()
    for i in range(9):
        (unlabeled / f"{i}.png").write_bytes(picture(50_000 + i))
    return DataConfig(
        labeled_data=write_tree(tmp_path / "labeled", {"cat": 10, "dog": 5}),
        unlabeled_data=f"folder:{unlabeled}",
    )


def test_labels_per_class_splits_without_overlap(tmp_path, digits_data):
    data = prepare(digits_data, str(tmp_path), seed=0)
    labeled, unlabeled = contents(data.labeled), contents(data.unlabeled)
    labels = [label for _, label in labeled]
    assert np.bincount(labels).tolist() == [3] * 10
    assert len(labeled) + len(unlabeled) == 1000
    assert data.unlabeled.num_examples == 970
    assert data.validation.num_examples == 297
    ids = [
        {
            example.features.feature["image/id"].bytes_list.value[0]
            for path in part.files
            for example in records.read_shard(path)
        }
        for part in (data.labeled, data.unlabeled, data.validation, data.test)
    ]
    assert sum(map(len, ids)) == 1797 == len(set.union(*ids))


def test_split_depends_on_the_seed_and_the_test_set_does_not(tmp_path, digits_data):
    first = prepare(digits_data, str(tmp_path / "0"), seed=0)
    other = prepare(digits_data, str(tmp_path / "1"), seed=1)
    assert sorted(contents(first.labeled)) != sorted(contents(other.labeled))
    assert sorted(contents(first.test)) == sorted(contents(other.test))


def test_images_keep_their_bytes_and_classes(folders, tmp_path):
    config = dataclasses.replace(folders, holdout_fraction=0.2)
    data = prepare(config, str(tmp_path / "out"), seed=0)
    assert data.labeled.class_names == ("cat", "dog")
    cats = {picture(i) for i in range(10)}
    for content, label in contents(data.labeled) + contents(data.test):
        assert (content in cats) == (label == 0)
    assert {content for content, _ in contents(data.unlabeled)} == {
        picture(50_000 + i) for i in range(9)
    }


def test_holdout_takes_a_share_of_every_class(folders, tmp_path, capsys):
    data = prepare(folders, str(tmp_path / "out"), seed=0)
    assert np.bincount([label for _, label in contents(data.test)]).tolist() == [2, 1]
    assert np.bincount([label for _, label in contents(data.labeled)]).tolist() == [8, 4]
    assert "held out" in capsys.readouterr().out
    assert not set(contents(data.test)) & set(contents(data.labeled))


def test_bad_files_are_listed_skipped_and_counted(folders, tmp_path, capsys):
    cat = tmp_path / "labeled" / "cat"
    (cat / "empty.jpg").write_bytes(b"")
    (cat / "cut.png").write_bytes(picture(7)[:60])
    (tmp_path / "unlabeled" / "text.jpg").write_text("hello")
    (cat / "gone.png").symlink_to(tmp_path / "nowhere.png")
    data = prepare(folders, str(tmp_path / "out"), seed=0)
    with open(tmp_path / "out" / "bad_files.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {row["path"]: row["reason"] for row in rows}
    assert set(found) == {"cat/empty.jpg", "cat/cut.png", "cat/gone.png", "text.jpg"}
    assert all(found.values())
    assert "4 unreadable" in capsys.readouterr().out
    assert data.unlabeled.num_examples == 9
    assert data.labeled.num_examples + data.test.num_examples == 15


def test_all_unlabeled_bad_is_an_error(folders, tmp_path):
    for path in (tmp_path / "unlabeled").iterdir():
        path.write_bytes(b"x")
    with pytest.raises(InputError, match=r"at least one readable.*all 9 are bad"):
        prepare(folders, str(tmp_path / "out"), seed=0)


def test_class_with_only_bad_images_is_an_error(folders, tmp_path):
    for path in (tmp_path / "labeled" / "dog").iterdir():
        path.write_bytes(b"x")
    with pytest.raises(InputError, match=r"every class; all of dog are bad"):
        prepare(folders, str(tmp_path / "out"), seed=0)


def test_mended_files_are_read_again(folders, tmp_path):
    paths = list((tmp_path / "labeled" / "dog").iterdir())
    contents_before = {path: path.read_bytes() for path in paths}
    for path in paths:
        path.write_bytes(b"x")
    with pytest.raises(InputError, match="all of dog are bad"):
        prepare(folders, str(tmp_path / "out"), seed=0)
    for path, content in contents_before.items():
        path.write_bytes(content)
    data = prepare(folders, str(tmp_path / "out"), seed=0)
    assert data.labeled.num_examples + data.test.num_examples == 15


def test_labels_of_unlabeled_images_of_other_classes_are_forgotten(folders, tmp_path):
    config = dataclasses.replace(folders, unlabeled_data="digits:test")
    data = prepare(config, str(tmp_path / "out"), seed=0)
    assert {label for _, label in contents(data.unlabeled)} == {-1}


def test_validation_of_other_classes_is_refused(folders, tmp_path):
    config = dataclasses.replace(folders, validation_data="digits:validation")
    with pytest.raises(InputError, match=r"\(cat, dog\).*received 0, 1, 2"):
        prepare(config, str(tmp_path / "out"), seed=0)


def test_test_classes_that_do_not_match_are_an_error(folders, tmp_path):
    test = write_tree(tmp_path / "test", {"cat": 2, "hound": 2}, start=9000)
    config = dataclasses.replace(folders, test_data=test)
    with pytest.raises(InputError, match=r"received also hound, and not dog"):
        prepare(config, str(tmp_path / "out"), seed=0)


def test_too_few_labels_name_the_class(folders, tmp_path):
    config = dataclasses.replace(
        folders, unlabeled_data="", labels_per_class=6, test_data=folders.labeled_data
    )
    with pytest.raises(InputError, match=r"at least 6.*received 5 of class 'dog'"):
        prepare(config, str(tmp_path / "out"), seed=0)


def test_one_class_is_an_error(folders, tmp_path):
    config = dataclasses.replace(
        folders, labeled_data=write_tree(tmp_path / "one", {"cat": 3})
    )
    with pytest.raises(InputError, match="at least two classes"):
        prepare(config, str(tmp_path / "out"), seed=0)


def test_rerun_writes_nothing(folders, tmp_path):
    first = prepare(folders, str(tmp_path / "out"), seed=0)
    before = [os.stat(path).st_mtime_ns for path in first.labeled.files]
    again = prepare(folders, str(tmp_path / "out"), seed=0)
    assert again == first
    assert [os.stat(path).st_mtime_ns for path in first.labeled.files] == before


def test_changed_folder_is_refused(folders, tmp_path):
    prepare(folders, str(tmp_path / "out"), seed=0)
    (tmp_path / "unlabeled" / "new.png").write_bytes(picture(1))
    with pytest.raises(InputError, match="images: 9 -> 10"):
        prepare(folders, str(tmp_path / "out"), seed=0)


def test_another_photo_in_place_of_one_is_noticed(folders, tmp_path):
    prepare(folders, str(tmp_path / "out"), seed=0)
    (tmp_path / "unlabeled" / "0.png").rename(tmp_path / "unlabeled" / "zzz.png")
    with pytest.raises(InputError, match="content: "):
        prepare(folders, str(tmp_path / "out"), seed=0)


def test_labels_beyond_the_classes_are_refused_for_one_set(folders, tmp_path):
    prepare(folders, str(tmp_path / "out"), seed=0)
    unlabeled = f"tfrecord:{tmp_path}/out/unlabeled"
    with pytest.raises(InputError, match="`data`: expected a label for every image"):
        prepare_set(unlabeled, str(tmp_path / "one"))


def test_tfrecord_sets_are_taken_where_they_lie(folders, tmp_path):
    first = prepare(folders, str(tmp_path / "out"), seed=0)
    config = DataConfig(
        labeled_data=f"tfrecord:{tmp_path}/out/labeled",
        unlabeled_data=f"tfrecord:{tmp_path}/out/unlabeled/*.tfrecord",
        test_data=f"tfrecord:{tmp_path}/out/test",
    )
    second = prepare(config, str(tmp_path / "again"), seed=0)
    assert second.labeled == first.labeled  # Class names too.
    assert second.unlabeled.files == first.unlabeled.files


def test_classes_of_the_truth_are_kept_for_unlabeled_class_folders(folders, tmp_path):
    config = dataclasses.replace(
        folders, unlabeled_data=write_tree(tmp_path / "u", {"dog": 3}, start=80_000)
    )
    data = prepare(config, str(tmp_path / "out"), seed=0)
    assert [label for _, label in contents(data.unlabeled)] == [1, 1, 1]
