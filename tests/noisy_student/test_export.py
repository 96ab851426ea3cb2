"""The SavedModel answers in a process that knows only TensorFlow."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

from data import images, sources
from noisy_student import model_files
from noisy_student.export import export
from noisy_student.prediction import predict_folder

FRESH = """
    import json, sys
    import tensorflow as tf
    assert not {"efficientnet", "noisy_student", "data"} & set(sys.modules)
    model = tf.saved_model.load(sys.argv[1])
    files = tf.constant([open(path, "rb").read() for path in sys.argv[2:]])
    out = model.signatures["serving_default"](image_bytes=files)
    pixels = tf.stack([tf.io.decode_image(f, channels=3) for f in files])
    same = model.signatures["images"](images=pixels)
    names = model.signatures["class_names"]()["class_names"].numpy()
    print(json.dumps({
        "probabilities": out["probabilities"].numpy().tolist(),
        "from_pixels": same["probabilities"].numpy().tolist(),
        "class_name": [n.decode() for n in out["class_name"].numpy()],
        "confidence": out["confidence"].numpy().tolist(),
        "class_names": [n.decode() for n in names],
    }))
"""


@pytest.fixture(scope="module")
def exported(finished_run):
    return os.path.join(finished_run[0], "export")


@pytest.fixture(scope="module")
def digit_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    for record in sources.open_source("digits:test").read(range(4)):
        (folder / f"{record.id[-6:]}.png").write_bytes(record.image)
    return folder


def test_fresh_process_gets_the_same_probabilities(exported, digit_files, finished_run):
    paths = sorted(str(path) for path in digit_files.iterdir())
    saved_model = os.path.join(exported, "saved_model")
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FRESH), saved_model, *paths],
        capture_output=True,
        text=True,
        check=False,
        cwd=str(digit_files),  # The project cannot be imported from here.
    )
    assert run.returncode == 0, run.stderr[-2000:]
    answer = json.loads(run.stdout.splitlines()[-1])

    from data.augmentation import clean

    model, info = model_files.load_model(exported)
    inputs = tf.stack(
        [clean(open(path, "rb").read(), info.image_size, info.crop) for path in paths]
    )
    expected = tf.nn.softmax(model(inputs)).numpy()
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-6)
    np.testing.assert_allclose(answer["from_pixels"], expected, atol=1e-6)
    assert answer["class_names"] == [str(digit) for digit in range(10)]
    assert answer["class_name"] == [str(row.argmax()) for row in expected]
    np.testing.assert_allclose(answer["confidence"], expected.max(-1), atol=1e-6)


def test_export_again_writes_nothing(exported, finished_run):
    path = os.path.join(exported, "saved_model", "saved_model.pb")
    before = os.stat(path).st_mtime_ns
    export(os.path.join(finished_run[0], "generation_1/student"), exported)
    assert os.stat(path).st_mtime_ns == before


def test_predict_writes_a_row_for_every_file(exported, digit_files, tmp_path):
    (digit_files / "broken.png").write_bytes(b"no image")
    photo = np.random.default_rng(0).integers(0, 255, [40, 60, 3], dtype=np.uint8)
    (digit_files / "larger.png").write_bytes(images.encode_png(photo))
    output = tmp_path / "out.csv"
    counts = predict_folder(
        os.path.join(exported, "saved_model"), str(digit_files), str(output), batch_size=3
    )
    assert counts == {"images": 6, "unreadable": 1}
    lines = output.read_text().splitlines()
    assert lines[0] == "file,class_name,confidence,top_5,error"
    rows = [line.split(",") for line in lines[1:]]
    assert [row[0] for row in rows] == sorted(path.name for path in digit_files.iterdir())
    for row in rows:
        if row[0] == "broken.png":
            assert row[1] == ""
            assert row[4]
        else:
            assert row[3].startswith(f"{row[1]} {row[2]}; ")
            assert len(row[3].split("; ")) == 5
            assert row[4] == ""
