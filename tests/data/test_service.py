"""Batches from tf.data service workers: each example once, by whoever makes it."""

import collections
import dataclasses
import itertools
import select
import socket
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from data import augmentation as aug
from data import images, pipeline, records, service, service_workers, streams
from data.errors import InputError
from data.records import Record, RecordSet
from data.streams import HostShare

SERVICE = tf.data.experimental.service
CLASSES = tuple("abcdefghijk")
SIZE, COUNT = 32, 30
# 81 shifts, two mirrors and a square at one of 1,024 places: hardly ever twice.
NOISE = aug.Augmentation(crop="pad", num_ops=0, cutout=True)


# A process of its own: servers with unfinished tasks take a minute to stop.
SERVERS = """
import time
import tensorflow as tf
service = tf.data.experimental.service
dispatcher = service.DispatchServer(service.DispatcherConfig(protocol="grpc"))
config = service.WorkerConfig(dispatcher._address, protocol="grpc")
workers = [service.WorkerServer(config) for _ in range(2)]
print(dispatcher.target, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def address():
    """Of a dispatcher with two workers."""
    command = [sys.executable, "-c", SERVERS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as servers:
        assert select.select([servers.stdout], [], [], 120)[0]
        yield servers.stdout.readline().strip()
        servers.kill()


def start_worker(dispatcher):
    config = SERVICE.WorkerConfig(dispatcher._address, protocol="grpc")
    return SERVICE.WorkerServer(config)


@pytest.fixture(scope="module")
def labeled(tmp_path_factory, noise_image, write_records):
    rows = []
    for i in range(COUNT):
        encoded = images.encode_png(noise_image(SIZE, SIZE, 3, seed=i))
        rows.append(records.image_example(Record(f"id{i}", encoded, i % 11)))
    paths = write_records(tmp_path_factory.mktemp("labeled"), rows, (12, 11, 7))
    examples = RecordSet(paths, (12, 11, 7), CLASSES)
    return streams.TrainingInput(examples, SIZE, NOISE, seed=5)


@pytest.fixture(scope="module")
def pseudo_labeled(tmp_path_factory, noise_image, write_records):
    """Ten pictures, each one to four times: 23 examples."""
    copies = [1, 3, 2, 4, 1, 3, 2, 4, 1, 2]
    rows = [
        {
            records.IMAGE: images.encode_png(noise_image(SIZE, SIZE, 3, seed=i)),
            records.ID: f"id{i}".encode(),
            records.LABEL: i,
            records.PROBABILITIES: [0.1 * i] * len(CLASSES),
            records.COPIES: copies[i],
        }
        for i in range(10)
    ]
    paths = write_records(tmp_path_factory.mktemp("pseudo"), rows, (10,))
    examples = RecordSet(paths, (sum(copies),), CLASSES)
    return streams.TrainingInput(examples, SIZE, NOISE, 5, kind="pseudo_labeled")


def local_epochs(stream, epochs):
    """{image bytes: epoch} of what the pipeline in this process makes."""
    made, count = {}, stream.examples.num_examples
    batches = pipeline.training_batches(stream, 1).take(epochs * count)
    for number, batch in enumerate(batches.as_numpy_iterator()):
        made[batch["image"].tobytes()] = number // count
    assert len(made) == epochs * count
    return made


def served(address, stream, examples, batch_size=2, **options):
    batches = service.training_batches(address, stream, batch_size, **options)
    taken = itertools.islice(batches.as_numpy_iterator(), examples // batch_size)
    return [image.tobytes() for batch in taken for image in batch["image"]]


@pytest.mark.parametrize("kind", ["labeled", "pseudo_labeled"])
def test_every_example_of_an_epoch_comes_once_with_its_noise(kind, address, request):
    stream = request.getfixturevalue(kind)
    count = stream.examples.num_examples
    epoch_of = local_epochs(stream, 14)
    found = served(address, stream, 6 * count)
    assert len(set(found)) == len(found)
    epochs = collections.Counter(epoch_of[image] for image in found)
    assert [epochs[epoch] for epoch in range(3)] == [count] * 3
    assert found[:count] != sorted(found[:count], key=list(epoch_of).index)


def test_batches_have_the_shapes_and_types_of_the_local_ones(address, pseudo_labeled):
    local = pipeline.training_batches(pseudo_labeled, 4)
    assert service.training_batches(address, pseudo_labeled, 4).element_spec == (
        local.element_spec
    )


def test_hosts_share_no_example(address, labeled):
    epoch_of = local_epochs(labeled, 14)
    streams = [
        service.training_batches(address, labeled, 2, share=HostShare(index, 2))
        for index in (0, 1)
    ]
    batches = zip(*(stream.as_numpy_iterator() for stream in streams), strict=True)
    found, epochs = [], collections.Counter()
    # One of two workers can lag behind the other by epochs, not for ever.
    while any(epochs[epoch] < COUNT for epoch in range(3)):
        new = [image.tobytes() for batch in next(batches) for image in batch["image"]]
        found += new
        epochs.update(epoch_of.get(image) for image in new)
        assert len(found) < 200 * COUNT
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(("share", "epoch"), [(HostShare(), 3), (HostShare(1, 2), 6)])
def test_a_later_start_begins_with_its_epoch(address, labeled, share, epoch):
    epoch_of = local_epochs(labeled, 14)
    start = {"start_example": 3 * COUNT, "share": share}
    found = served(address, labeled, COUNT // 2, **start)
    assert min(epoch_of[image] for image in found) == epoch


@pytest.mark.parametrize(
    ("files", "examples", "expected"),
    [
        (1, 10, service.Cut(16, 16, 1)),
        (3, 15_000, service.Cut(6, 18, 1)),
        (100, 500_000, service.Cut(1, 100, 3)),  # 15,000 examples a piece.
        (1024, 1_281_167, service.Cut(1, 1024, 13)),
        (64, 300, service.Cut(1, 64, 4)),
    ],
)
def test_pieces_fit_the_shuffle_buffer_and_are_at_least_sixteen(files, examples, expected):
    counts = (examples, *[0] * (files - 1))  # Only their sum matters.
    made = service.cut(RecordSet(("x",) * files, counts, CLASSES))
    assert made == expected
    assert made.pieces >= service.PIECES


@pytest.mark.parametrize(
    "address",
    ["localhost:5050", "http://a:1", "grpc://a", "grpc://:1", "grpc://a:b", "grpc://a:1/x"],
)
def test_other_addresses_are_refused(address):
    with pytest.raises(InputError, match=r"`data_service`.*grpc://HOST:PORT; received.*"):
        service_workers.check_address("data_service", address)
    assert service_workers.check_address("x", "grpc://[::1]:5050") == ("::1", 5050)


def test_without_a_dispatcher_waiting_ends():
    with socket.socket() as silent:  # Takes connections and says nothing.
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"grpc://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(InputError, match=r"`data_service`.*no answer within 1 s"):
            service_workers.wait_for_workers("data_service", address, timeout=1)
        assert time.monotonic() - began < 5


def test_without_a_worker_waiting_ends():
    alone = SERVICE.DispatchServer(SERVICE.DispatcherConfig(protocol="grpc"))
    with pytest.raises(InputError, match=r"a worker at .* within 1 s; received none"):
        service_workers.wait_for_workers("data_service", alone.target, timeout=1)


def test_lost_workers_are_counted_and_told(capsys):
    own = SERVICE.DispatchServer(SERVICE.DispatcherConfig(protocol="grpc"))
    workers = [start_worker(own) for _ in range(2)]
    assert len(service_workers.wait_for_workers("data_service", own.target)) == 2
    with service_workers.Watch(own.target, interval=600) as watch:
        assert watch.take() == {"workers": 2, "lost": 0}
        workers.pop()._stop()
        assert watch.take(look=True) == {"workers": 1, "lost": 1}
        assert watch.take() == {"workers": 1, "lost": 0}
        workers.append(start_worker(own))
        assert watch.take(look=True) == {"workers": 2, "lost": 0}
    printed = capsys.readouterr().out
    assert "was lost, 1 left: training goes on" in printed
    assert "is there, 2 in all" in printed


def test_relative_paths_are_made_absolute(labeled):
    examples = dataclasses.replace(labeled.examples, files=("a/b", "gs://c/d"))
    first, second = service._absolute(examples).files
    assert first.startswith("/")
    assert first.endswith("/a/b")
    assert second == "gs://c/d"
