"""The SavedModel answers in a process that knows only TensorFlow; reruns lose nothing."""

import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

from data import images, sources
from data.errors import InputError
from noisy_student.export.export import export
from noisy_student.export.folder_prediction import predict_folder
from noisy_student.export.tflite import Converter, TFLiteOptions
from noisy_student.models import model_files
from noisy_student.stages.manifest import read_manifest

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

FRESH_KERAS = """
    import sys
    import numpy as np
    import keras
    import efficientnet
    assert not {"noisy_student", "data"} & set(sys.modules)
    model = keras.saving.load_model(sys.argv[1], compile=False)
    logits = model(np.load(sys.argv[2]), training=False)
    np.save(sys.argv[3], logits)
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


def test_keras_file_gives_the_same_logits_in_a_fresh_process(exported, tmp_path):
    crops = np.random.default_rng(0).uniform(0, 255, [5, 16, 16, 3]).astype(np.float32)
    np.save(tmp_path / "crops.npy", crops)
    script = tmp_path / "elsewhere.py"  # Its folder is the first on sys.path.
    script.write_text(textwrap.dedent(FRESH_KERAS))
    os.symlink(os.path.abspath("efficientnet"), tmp_path / "efficientnet")
    paths = (f"{exported}/model.keras", tmp_path / "crops.npy", tmp_path / "logits.npy")
    run = subprocess.run(
        [sys.executable, script, *paths], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    model, _ = model_files.load_model(exported)
    logits = np.load(tmp_path / "logits.npy")
    np.testing.assert_allclose(logits, model(crops, training=False), atol=1e-6)
    assert logits.std() > 1e-3  # Not all the same, whatever goes in.


@pytest.fixture
def copied(exported, tmp_path):
    """An export to change."""
    return str(shutil.copytree(exported, tmp_path / "export"))


def _times(directory):
    return {
        os.path.join(root, name): os.stat(os.path.join(root, name)).st_mtime_ns
        for root, _, names in os.walk(directory)
        for name in names
    }


def test_formats_are_added_and_nothing_is_made_twice(copied, finished_run):
    student = os.path.join(finished_run[0], "generation_1/student")
    before = _times(copied)
    export(student, copied, TFLiteOptions(("float32",)))
    export(student, copied, TFLiteOptions(("float32", "float16")))
    with_both = _times(copied)
    new = {os.path.relpath(path, copied) for path in set(with_both) - set(before)}
    assert new == {"model_float32.tflite", "model_float16.tflite"}
    changed = {os.path.relpath(p, copied) for p in before if with_both[p] != before[p]}
    assert changed == {"manifest.json", "MODEL.md"}
    assert set(read_manifest(copied)["shards"]) == new

    for options in (TFLiteOptions(("float32",)), None):
        export(student, copied, options)
        assert _times(copied) == with_both


def test_lost_file_is_made_again_and_the_others_stay(copied, finished_run):
    student = os.path.join(finished_run[0], "generation_1/student")
    export(student, copied, TFLiteOptions(("float32", "float16")))
    before = _times(copied)
    os.remove(f"{copied}/model_float32.tflite")
    os.remove(f"{copied}/model.keras")
    export(student, copied, TFLiteOptions(("float32",)))
    after = _times(copied)
    assert set(after) == set(before)
    kept = ("saved_model/saved_model.pb", "model_float16.tflite")
    for path in (os.path.join(copied, name) for name in kept):
        assert after[path] == before[path]
    model_files.load_model(copied)


def test_formats_finished_before_a_kill_are_kept(copied, finished_run, monkeypatch):
    student = os.path.join(finished_run[0], "generation_1/student")
    convert = Converter.convert

    def killed(self, name, images):
        if name == "float16":
            raise KeyboardInterrupt
        return convert(self, name, images)

    monkeypatch.setattr(Converter, "convert", killed)
    with pytest.raises(KeyboardInterrupt):
        export(student, copied, TFLiteOptions(("float32", "float16")))
    made = os.stat(f"{copied}/model_float32.tflite").st_mtime_ns
    monkeypatch.undo()
    export(student, copied, TFLiteOptions(("float32", "float16")))
    assert os.stat(f"{copied}/model_float32.tflite").st_mtime_ns == made
    assert len(read_manifest(copied)["shards"]) == 2


def test_int8_of_other_images_is_refused(copied, finished_run):
    student = os.path.join(finished_run[0], "generation_1/student")
    export(student, copied, TFLiteOptions(("int8",), "digits:pool", 20))
    facts = read_manifest(copied)["shards"]["model_int8.tflite"]
    assert facts["representative"]["dataset"] == "digits:pool"
    assert facts["agreement"]["images"] == 20
    before = _times(copied)
    with pytest.raises(InputError, match=r"representative_data.*digits:pool.*digits:test"):
        export(student, copied, TFLiteOptions(("int8",), "digits:test", 20))
    export(student, copied, TFLiteOptions(("int8",), "digits:pool", 20))
    assert _times(copied) == before


def test_unknown_representative_data_leaves_no_directory(finished_run, tmp_path):
    options = TFLiteOptions(("int8",), "photos")
    with pytest.raises(InputError, match=r"Unknown data set.*'photos'"):
        export(f"{finished_run[0]}/generation_1/student", str(tmp_path / "out"), options)
    assert not (tmp_path / "out").exists()


def test_full_disk_leaves_nothing_of_a_saved_model(exported, tmp_path, monkeypatch):
    """TensorFlow leaves a file of another name at each attempt."""

    def save(_, path, signatures):
        os.makedirs(path)
        with open(os.path.join(path, "saved_model.pb.tmp"), "w") as file:
            file.write("half")
        raise tf.errors.ResourceExhaustedError(None, None, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tf.saved_model, "save", save)
    with pytest.raises(InputError, match="room for the SavedModel; received: No space"):
        export(exported, str(tmp_path / "export"))
    assert not list((tmp_path / "export").glob("saved_model*"))
