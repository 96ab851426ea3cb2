"""Storage that fails now and then: waited for, counted, given up in the end."""

import os

import pytest
import tensorflow as tf

from data import files, records, storage_errors
from data.storage_errors import MOST_IN_A_ROW, StorageErrors


def failure(kind=tf.errors.UnavailableError):
    return kind(None, None, "503: try again")


@pytest.fixture
def waits(monkeypatch):
    """Seconds that were waited, instead of waiting."""
    seconds = []
    monkeypatch.setattr(storage_errors.time, "sleep", seconds.append)
    return seconds


@pytest.mark.parametrize("kind", storage_errors.PASSING)
def test_work_begins_again_after_longer_and_longer_waits(kind, waits, capsys):
    errors, left = StorageErrors("student"), [failure(kind)] * 3

    def work():
        if left:
            raise left.pop()
        return "done"

    assert errors.retry(work) == "done"
    assert (errors.count, waits) == (3, [1, 2, 4])
    said = capsys.readouterr().out.splitlines()
    assert said[0] == (
        "student: storage failed (503: try again); goes on from what is finished in 1 s, "
        "attempt 2 of 6."
    )


def test_reason_is_what_failed_and_not_where_in_the_program(waits, capsys):
    message = (
        "Graph execution error:\n\nDetected at node while/Next\n  File train.py\n"
        "/data/a.tfrecord; Input/output error\n\t [[{{node while/Next}}]] [Op:__inference]"
    )
    left = [tf.errors.UnknownError(None, None, message)]
    StorageErrors("student").retry(lambda: raise_(left) if left else None)
    said = capsys.readouterr().out
    assert "storage failed (/data/a.tfrecord; Input/output error);" in said


def raise_(errors):
    raise errors.pop()


def test_errors_without_progress_come_to_an_end(waits):
    errors = StorageErrors("student")

    def work():
        raise failure()

    with pytest.raises(tf.errors.UnavailableError):
        errors.retry(work)
    assert errors.count == MOST_IN_A_ROW
    assert waits == [1, 2, 4, 8, 16]


def test_a_row_ends_where_more_is_finished(waits):
    errors, finished = StorageErrors("student"), []

    def work():
        finished.append(1)
        if len(finished) < 3 * MOST_IN_A_ROW:
            raise failure()

    errors.retry(work, lambda: len(finished))
    assert errors.count == 3 * MOST_IN_A_ROW - 1
    assert set(waits) == {1}


def test_other_errors_are_raised_at_once(waits):
    def work():
        raise tf.errors.NotFoundError(None, None, "no such file")

    with pytest.raises(tf.errors.NotFoundError):
        StorageErrors("student").retry(work)
    assert not waits


def test_records_go_on_where_reading_failed(waits, tmp_path, monkeypatch):
    """Every third batch of records cannot be read at first."""
    path = str(tmp_path / "images.tfrecord")
    records.write_shard(path, [{records.ID: f"{n}".encode()} for n in range(20)])
    monkeypatch.setattr(records, "_READ_TOGETHER", 2)
    whole, calls = records.untuned, []

    class Failing:
        def __init__(self, dataset):
            self._dataset = whole(dataset)

        def as_numpy_iterator(self):
            for element in self._dataset.as_numpy_iterator():
                calls.append(element)
                if len(calls) % 3 == 0:
                    raise failure()
                yield element

    monkeypatch.setattr(records, "untuned", Failing)
    ids = [records.example_id(row, path, 0) for row in records.read_shard(path)]
    assert ids == [f"{n}" for n in range(20)]
    assert len(waits) > 2


def test_json_is_read_in_the_end(waits, tmp_path, monkeypatch):
    path = str(tmp_path / "manifest.json")
    files.write_json(path, {"complete": True})
    whole, left = tf.io.gfile.GFile, [failure(tf.errors.UnknownError)]

    def failing(*arguments):
        if left:
            raise left.pop()
        return whole(*arguments)

    monkeypatch.setattr(files.tf.io.gfile, "GFile", failing)
    assert files.read_json(path) == {"complete": True}
    assert waits == [1]
    assert os.path.exists(path)
