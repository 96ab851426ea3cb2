"""examples/serve.py, a process of its own, answers over HTTP what the SavedModel says."""

import asyncio
import concurrent.futures
import http.client
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data.images import checked_image_bytes
from examples import serve
from noisy_student.export.export import export
from noisy_student.models import model_files
from tests.sample_photos import jpeg, pictures

NAMES = ["grün", "red", "blue", "none"]
PHOTO = jpeg(pictures()[0])
MAX_REQUESTS = 16
OPTIONS = ("--max_megabytes=0.2", "--max_megapixels=1", f"--max_requests={MAX_REQUESTS}")


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    """Path of an exported network whose answers depend on the colors of an image."""
    initializer = keras.initializers.Orthogonal(seed=0)
    inputs = keras.Input((16, 16, 3))
    pooled = keras.layers.AveragePooling2D(8)(keras.layers.Rescaling(1 / 100)(inputs))
    dense = keras.layers.Dense(len(NAMES), kernel_initializer=initializer)
    network = keras.Model(inputs, dense(keras.layers.Flatten()(pooled)))
    directory = tmp_path_factory.mktemp("served")
    model_files.save_model(
        network,
        str(directory / "model"),
        class_names=NAMES,
        image_size=16,
        crop="inception",
        variant="efficientnet-b0",
    )
    return os.path.join(export(str(directory / "model"), str(directory)), "saved_model")


@pytest.fixture(scope="module")
def expected(saved_model):
    """File bytes to the probabilities of the SavedModel."""
    model = tf.saved_model.load(saved_model)
    classify = model.signatures["serving_default"]

    def probabilities(encoded):
        row = classify(image_bytes=tf.constant([encoded]))["probabilities"][0].numpy()
        return dict(zip(NAMES, row.tolist(), strict=True))

    probabilities.model = model
    return probabilities


class Server:
    """The example in a second process, on a port that it chooses."""

    def __init__(self, saved_model, log):
        self.log = log
        model = f"--model={saved_model}"
        command = [sys.executable, "examples/serve.py", model, "--port=0", *OPTIONS]
        with open(log, "wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file)
        while not (found := re.search(r"running on http://127.0.0.1:(\d+)", self.text())):
            assert self.process.poll() is None, self.text()
            time.sleep(0.1)
        self.port = int(found[1])

    def text(self):
        return self.log.read_text()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, method, path, body=None):
        """Status and JSON of the answer."""
        connection = self.connect()
        connection.request(method, path, body)
        return answer_of(connection)

    def hold(self, body):
        """A connection on which all but the last byte of a request was sent."""
        connection = self.connect()
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:-1])
        return connection


def answer_of(connection):
    response = connection.getresponse()
    content = json.loads(response.read())
    connection.close()
    return response.status, content


@pytest.fixture(scope="module")
def server(saved_model, tmp_path_factory):
    """The server; at its end SIGTERM stops it, after the request that it has."""
    server = Server(saved_model, tmp_path_factory.mktemp("server") / "log.txt")
    try:
        yield server
        assert_stops(server)
    finally:
        server.process.kill()
        server.process.wait()


def assert_stops(server):
    held = server.hold(PHOTO)
    assert server.ask("GET", "/health")[0] == 200  # By then the other one was read.
    server.process.send_signal(signal.SIGTERM)
    while "Shutting down" not in server.text():
        assert server.process.poll() is None
        time.sleep(0.05)
    held.send(PHOTO[-1:])
    assert answer_of(held)[0] == 200
    assert server.process.wait(timeout=60) in (0, -signal.SIGTERM)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))
    assert "Traceback" not in server.text()


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def assert_answers(server, body, probabilities):
    status, answer = server.ask("POST", "/predict?top=9", body)
    assert status == 200, answer
    ranking = sorted(probabilities, key=probabilities.get, reverse=True)
    assert [each["class_name"] for each in answer["top"]] == ranking
    found = [each["probability"] for each in answer["top"]]
    np.testing.assert_allclose(found, [probabilities[name] for name in ranking], atol=1e-6)
    assert (answer["class_name"], answer["confidence"]) == (ranking[0], found[0])


def test_answers_are_those_of_the_saved_model(server, expected):
    photos = [jpeg(picture) for picture in pictures()[::6]]
    answers = [expected(photo) for photo in photos]
    assert np.ptp([row["grün"] for row in answers]) > 0.05
    for photo, probabilities in zip(photos, answers, strict=True):
        assert_answers(server, photo, probabilities)
    grey = encoded(pictures()[0].convert("L"))
    assert_answers(server, grey, expected(grey))


def unusual_files():
    picture = pictures()[3]
    transparent = picture.copy()
    transparent.putalpha(picture.convert("L"))
    deep = np.asarray(picture.convert("L")).astype(np.uint16) * 256 + 77
    yield "transparent", encoded(transparent)
    yield "grey and transparent", encoded(transparent.convert("LA"))
    yield "palette", encoded(picture.quantize(16))
    yield "transparent color", encoded(picture.quantize(16), transparency=2)
    yield "CMYK", encoded(picture.convert("CMYK"), "JPEG")
    yield "16 bits", encoded(Image.fromarray(deep))
    yield "bits", encoded(picture.convert("1"))
    yield "two frames", encoded(picture, save_all=True, append_images=[pictures()[4]])


UNUSUAL = dict(unusual_files())


@pytest.mark.parametrize("body", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_files_are_read_as_the_training_data_were(server, expected, body):
    stored = checked_image_bytes(body)
    assert stored != body
    assert_answers(server, body, expected(stored))


def test_health_names_the_classes(server, saved_model):
    health = {"status": "ok", "model": saved_model, "class_names": NAMES}
    for path in ("/health", "/"):
        assert server.ask("GET", path) == (200, health)


def test_requests_at_once_get_each_its_own_answer(server, expected):
    bodies = [jpeg(picture) for picture in pictures()[: MAX_REQUESTS - 1]]
    truncated = bodies[0][:500]
    with concurrent.futures.ThreadPoolExecutor(MAX_REQUESTS) as pool:
        bad = pool.submit(server.ask, "POST", "/predict", truncated)
        good = [pool.submit(assert_answers, server, b, expected(b)) for b in bodies]
        for each in good:
            each.result()
    assert bad.result()[0] == 400


def png_header(width, height):
    """A PNG file that promises pixels, and has none."""

    def chunk(name, content):
        rest = name + content
        return struct.pack(">I", len(content)) + rest + struct.pack(">I", zlib.crc32(rest))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", size) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def damaged(content):
    content = bytearray(content)
    content[len(content) // 2] ^= 0xFF
    return bytes(content)


BAD = {
    "empty": (b"", 400, "JPEG or PNG file; received none. Send the file itself"),
    "text": (b"no image", 415, r"received 8 bytes that start with b'no image'. Send"),
    "a GIF": (encoded(pictures()[0], "GIF"), 415, "b'GIF87a.*convert other formats"),
    "half a JPEG": (PHOTO[:1000], 400, "received 1,000 bytes that do not decode: .*again"),
    "damaged PNG": (damaged(encoded(pictures()[0])), 400, "do not decode: .*again"),
    "half a transparent PNG": (
        encoded(pictures()[0].convert("RGBA"))[:9000],
        400,
        "received 9,000 bytes that do not decode: .*again",
    ),
    "long": (bytes(200_001), 413, "at most 200,000 bytes; received 200,001. .*megabytes"),
    "bomb": (png_header(50_000, 50_000), 413, "1 million pixels; received 50000 x 50000"),
}


@pytest.mark.parametrize(("body", "status", "message"), BAD.values(), ids=BAD)
def test_bad_bodies_are_refused_with_what_to_do(server, body, status, message):
    found, answer = server.ask("POST", "/predict", body)
    assert (found, list(answer)) == (status, ["error"])
    assert re.search(message, answer["error"])


@pytest.mark.parametrize("top", ["0", "-1", "many", "", "1.5", "٣"])
def test_a_top_that_is_no_number_is_refused(server, top):
    path = "/predict?" + urllib.parse.urlencode({"top": top})
    status, answer = server.ask("POST", path, PHOTO)
    assert status == 400
    assert f"top: expected an integer of at least 1; received '{top}'" in answer["error"]


def test_other_addresses_are_refused(server):
    status, answer = server.ask("GET", "/predict")
    assert (status, answer["error"]) == (
        405,
        "address: expected POST /predict or GET /health; received GET /predict. Correct "
        "the address or the method.",
    )
    assert server.ask("POST", "/v1/models", PHOTO)[0] == 404


def test_a_body_that_is_too_long_is_not_waited_for(server):
    connection = server.connect()
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Length", str(10**12))
    connection.endheaders()
    assert answer_of(connection)[0] == 413

    connection = server.connect()
    connection.putrequest("POST", "/predict")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders(b"%x\r\n%b\r\n" % (200_001, bytes(200_001)))  # And no end.
    status, answer = answer_of(connection)
    assert status == 413
    assert "received more than 200,000" in answer["error"]


def test_requests_beyond_the_limit_are_refused_until_others_end(server):
    held = [server.hold(PHOTO) for _ in range(MAX_REQUESTS)]
    while (refused := server.ask("POST", "/predict", PHOTO))[0] == 200:
        pass  # The last of them may not have been read yet.
    assert refused[0] == 503
    assert f"at most {MAX_REQUESTS} requests at once" in refused[1]["error"]
    assert server.ask("GET", "/health")[0] == 200
    held[0].send(PHOTO[-1:])
    assert answer_of(held[0])[0] == 200
    for connection in held[1:]:
        connection.close()
    while server.ask("POST", "/predict", PHOTO)[0] == 503:
        time.sleep(0.05)
    assert server.ask("POST", "/predict", PHOTO)[0] == 200
    assert "Traceback" not in server.text()


def test_what_comes_during_a_call_is_in_the_next():
    sizes, begun, go_on = [], threading.Event(), threading.Event()

    def doubled(values):
        sizes.append(len(values))
        begun.set()
        assert go_on.wait(60)
        return [ValueError(value) if value == 5 else 2 * value for value in values]

    async def ask():
        batcher = serve.Batcher(doubled, batch_size=4)
        calls = asyncio.create_task(batcher.run())
        first = asyncio.create_task(batcher(0))
        await asyncio.to_thread(begun.wait, 60)
        others = [asyncio.create_task(batcher(value)) for value in range(1, 10)]
        await asyncio.sleep(0)
        others[2].cancel()
        go_on.set()
        outputs = await asyncio.gather(first, *others, return_exceptions=True)
        calls.cancel()
        return outputs

    outputs = asyncio.run(ask())
    assert sizes == [1, 4, 4, 1]
    assert isinstance(outputs.pop(5), ValueError)
    assert isinstance(outputs.pop(3), asyncio.CancelledError)
    assert outputs == [0, 2, 4, 8, 12, 14, 16, 18]


def test_a_bad_file_in_a_batch_spoils_no_other(saved_model, expected):
    other = jpeg(pictures()[12])
    found = serve.Model(saved_model).probabilities([PHOTO, PHOTO[:500], other])
    assert isinstance(found.pop(1), serve.Refused)
    rows = [list(expected(body).values()) for body in (PHOTO, other)]
    np.testing.assert_allclose(found, rows, atol=1e-6)


def test_other_directories_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"`model`: expected the directory of a SavedModel"
    ):
        serve.Model(str(tmp_path))
    tf.saved_model.save(tf.Module(), str(tmp_path / "other"))
    with pytest.raises(ValueError, match=r"lacks \['class_names', 'serving_default'\]"):
        serve.Model(str(tmp_path / "other"))
