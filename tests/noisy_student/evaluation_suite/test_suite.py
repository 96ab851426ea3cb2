"""Benchmarks on a user's own images: counted once, resumed, kept, on any strategy."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

from data import corruptions, images, records
from data.errors import InputError
from data.evaluation_input import EvaluationInput, evaluation_batches
from data.records import Record, RecordSet
from noisy_student.evaluation import evaluation, flip_rate
from noisy_student.evaluation.attacks import Attack
from noisy_student.evaluation_suite import (
    calibration,
    corrupted_shards,
    outcomes,
    own_corruptions,
    registry,
    stability,
    suite,
)
from noisy_student.evaluation_suite.evaluated_model import EvaluatedModel
from noisy_student.evaluation_suite.registry import BenchmarkOptions
from noisy_student.models import model_files

from .conftest import SIZE, color_network, color_of, save

COUNT = 11


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Directory of a network of ten classes."""
    return save(color_network(10), tmp_path_factory.mktemp("ten"))


@pytest.fixture
def ten(model, cpu):
    return EvaluatedModel(model, cpu, batch_size=4)


def written(directory, seed=0):
    """Images near the colors of classes, some nearer to the next one."""
    generator = np.random.default_rng(seed)
    rows = []
    for k in range(COUNT):
        noise = generator.normal(0, 9, (40, 36, 3)) + generator.normal(0, 8, 3)
        pixels = np.clip(np.array(color_of(k % 10)) + noise, 0, 255).astype(np.uint8)
        rows.append(Record(f"id{k:02d}", images.encode_png(pixels), k % 10))
    path = os.path.join(directory, records.shard_name("test", 0, 1))
    records.write_shard(path, map(records.image_example, rows))
    return RecordSet((path,), (COUNT,), tuple(map(str, range(10))))


@pytest.fixture(scope="module")
def record_set(tmp_path_factory):
    return written(tmp_path_factory.mktemp("own"))


@pytest.fixture
def few(monkeypatch):
    """Three corruptions, none of which has to be compiled."""
    names = ("fog", "contrast", "pixelate")
    monkeypatch.setattr(own_corruptions.OwnCorruptions, "parts", names)
    return names


def opened(name, record_set, **options):
    options = {"corruption_workers": 1, **options}
    return registry.open_own(name, "tfrecord:own", record_set, BenchmarkOptions(**options))


def run(name, record_set, ten, directory, **options):
    benchmark = opened(name, record_set, **options)
    return suite.run(benchmark, ten, str(directory), ["the", "command"])


def test_test_is_the_accuracy_of_training(ten, record_set, tmp_path):
    expected = evaluation.accuracy_on(ten.predictor, record_set, ten.info, "test")
    found = run("test", record_set, ten, tmp_path)
    assert found["results"]["images"] == COUNT
    assert 0 < found["results"]["top_1"] < 1
    for key in ("top_1", "top_5"):
        assert found["results"][key] == pytest.approx(expected[key])
    of_class = dict(enumerate(expected["per_class_accuracy"]))
    assert found["results"]["per_class_accuracy"] == {
        str(k): v for k, v in of_class.items()
    }


def test_a_result_says_what_it_is_of(ten, record_set, tmp_path):
    found = run("test", record_set, ten, tmp_path)
    assert json.loads((tmp_path / "test.json").read_text()) == found
    assert found["model"]["weights_sha256"] == ten.info.weights_sha256
    assert found["data"]["dataset"] == "tfrecord:own"
    assert found["data"]["fingerprint"].startswith(record_set.fingerprint())
    assert found["command"] == ["the", "command"]
    assert found["timing"]["seconds"] >= 0
    low, high = found["intervals"]["top_1"]
    assert low <= found["results"]["top_1"] <= high
    assert (tmp_path / "test.png").exists()
    rows = outcomes.read(str(tmp_path / "test/test.parquet"))
    assert rows["id"].tolist() == [f"id{k:02d}" for k in range(COUNT)]


def test_a_finished_benchmark_is_not_run_again(ten, record_set, tmp_path, monkeypatch):
    first = run("fgsm", record_set, ten, tmp_path, epsilons="1,3")
    monkeypatch.setattr(EvaluatedModel, "attacked", None)
    assert run("fgsm", record_set, ten, tmp_path, epsilons="1,3") == first


def test_a_killed_benchmark_goes_on_after_its_last_part(
    ten, record_set, tmp_path, capsys, few
):
    class Killed(BaseException):
        pass

    whole = run("corruptions", record_set, ten, tmp_path / "whole")
    benchmark, parts = opened("corruptions", record_set), []
    run_part = benchmark.run

    def dying(part, model, title):
        if len(parts) == 2:
            raise Killed
        parts.append(part)
        return run_part(part, model, title)

    benchmark.run = dying
    with pytest.raises(Killed):
        suite.run(benchmark, ten, str(tmp_path / "killed"), [])
    done = sorted(os.listdir(tmp_path / "killed/corruptions"))
    assert [name for name in done if name.endswith(".parquet")] == sorted(
        f"{part}.parquet" for part in parts
    )
    again = opened("corruptions", record_set)
    seen = []
    rest = again.run
    again.run = lambda part, model, title: (seen.append(part), rest(part, model, title))[1]
    found = suite.run(again, ten, str(tmp_path / "killed"), [])
    assert seen == [name for name in few if name not in parts]
    assert found["results"] == whole["results"]
    assert "2 of 3 parts are done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [({"seed": 1}, "seed"), ({"corruption_shorter_side": 33}, "shorter_side")],
)
def test_other_settings_are_refused_in_the_same_place(
    ten, record_set, tmp_path, change, message, few
):
    _interrupted(opened("corruptions", record_set), ten, tmp_path, after=1)
    with pytest.raises(InputError, match=message):
        run("corruptions", record_set, ten, tmp_path, **change)


def test_what_has_finished_nothing_is_in_nobodys_way(ten, record_set, tmp_path, few):
    _interrupted(opened("corruptions", record_set), ten, tmp_path, after=0)
    run("corruptions", record_set, ten, tmp_path, seed=1)


def _interrupted(benchmark, ten, directory, after):
    left, whole = iter(range(after)), benchmark.run

    def dying(part, model, title):
        if next(left, None) is None:
            raise RuntimeError("interrupted")
        return whole(part, model, title)

    benchmark.run = dying
    with pytest.raises(RuntimeError, match="interrupted"):
        suite.run(benchmark, ten, str(directory), [])


def test_other_images_are_refused_in_the_same_place(ten, record_set, tmp_path):
    run("test", record_set, ten, tmp_path)
    other = written(str(tmp_path / "other"), seed=1)
    with pytest.raises(InputError, match="data_fingerprint"):
        run("test", other, ten, tmp_path)
    sample = run("test", record_set, ten, tmp_path / "sample", sample=5)
    assert sample["results"]["images"] == 5


# Corruptions.


def test_corrupted_images_are_those_of_the_library_once_each(
    ten, record_set, tmp_path, few
):
    found = run("corruptions", record_set, ten, tmp_path, seed=3)
    rows = outcomes.read(str(tmp_path / "corruptions/fog.parquet"))
    assert len(rows["id"]) == 5 * COUNT
    assert rows["id"].tolist() == [f"id{k:02d}" for k in range(COUNT) for _ in range(5)]
    assert rows["severity"].tolist() == [1, 2, 3, 4, 5] * COUNT
    predicted = []
    for _, example in records.numbered_examples(record_set.files[0]):
        pixels = tf.io.decode_png(
            example.features.feature[records.IMAGE].bytes_list.value[0]
        )
        id_ = example.features.feature[records.ID].bytes_list.value[0].decode()
        for severity in corruptions.SEVERITIES:
            changed = corruptions.corrupted(pixels.numpy(), "fog", severity, 3, id_)
            predicted.append(_predicted(ten, changed))
    assert rows["predicted"].tolist() == predicted
    errors = found["results"]["errors"]
    assert list(errors) == list(few)
    assert found["results"]["error"] == pytest.approx(np.mean(list(errors.values())))


def _predicted(ten, pixels):
    from data import augmentation

    image = augmentation.clean_pixels(tf.constant(pixels), ten.info.image_size, "inception")
    return int(ten.predictor(image.numpy()[None]).argmax())


def test_kept_images_give_the_same_result_and_are_made_once(
    ten, record_set, tmp_path, monkeypatch, few
):
    monkeypatch.setattr(own_corruptions.OwnCorruptions, "parts", few[:1])
    expected = run("corruptions", record_set, ten, tmp_path / "anew")
    kept = str(tmp_path / "kept")
    found = run("corruptions", record_set, ten, tmp_path / "1", corrupted_dir=kept)
    assert found["results"] == expected["results"]
    monkeypatch.setattr(own_corruptions.OwnCorruptions, "corrupted", lambda *_: iter(()))
    again = run("corruptions", record_set, ten, tmp_path / "2", corrupted_dir=kept)
    assert again["results"] == expected["results"]
    with pytest.raises(InputError, match="seed"):
        corrupted_shards.CorruptedShards(kept, {"data_fingerprint": "f", "seed": 9})


def test_a_bad_image_among_those_to_be_corrupted_is_named(ten, tmp_path):
    rows = [Record("a", images.encode_png(np.zeros((8, 8), np.uint8)), 1)]
    rows += [Record("b", b"no image", 1)]
    path = str(tmp_path / records.shard_name("test", 0, 1))
    records.write_shard(path, map(records.image_example, rows))
    broken = RecordSet((path,), (2,), tuple(map(str, range(10))))
    with pytest.raises(InputError, match="record 1 .'b'."):
        run("corruptions", broken, ten, tmp_path / "out")


# Stability, adversaries, calibration.


def whole_batch(record_set):
    stream = EvaluationInput(record_set, SIZE, "inception", "labeled")
    (batch,) = evaluation_batches(stream, 64)
    return batch


def test_frames_move_turn_and_brighten_as_they_say():
    size = 56  # A step is half a pixel.
    ramp = np.broadcast_to(
        np.arange(size, dtype=np.float32)[None, :, None], (size, size, 3)
    )
    moved = stability.sequence(tf.constant(ramp), "translate").numpy()
    for k in range(9):
        expected = np.clip(np.arange(size) + (k - 4) / 2, 0, size - 1)
        np.testing.assert_allclose(moved[k, 7, :, 0], expected, atol=1e-4)
    brighter = stability.sequence(tf.constant(ramp + 220), "brightness").numpy()
    np.testing.assert_allclose(brighter[8], np.minimum(ramp + 220 + 32, 255), atol=1e-4)
    np.testing.assert_allclose(brighter[0], ramp + 220 - 32, atol=1e-4)
    turned = stability.sequence(tf.constant(ramp), "rotate").numpy()
    np.testing.assert_allclose(turned[4], ramp, atol=1e-4)
    middle = (size - 1) / 2
    for k in (0, 3, 8):
        angle = np.deg2rad(2 * (k - 4))
        x, y = 30.0, 20.0
        expected = middle + np.cos(angle) * (x - middle) - np.sin(angle) * (y - middle)
        assert turned[k, 20, 30, 0] == pytest.approx(expected, abs=1e-3)


def test_flips_are_those_of_neighbouring_frames(ten, record_set, tmp_path):
    found = run("stability", record_set, ten, tmp_path)
    rows = outcomes.read(str(tmp_path / "stability/brightness.parquet"))
    assert rows["frame"].tolist() == list(range(9)) * COUNT
    classes = rows["predicted"].reshape(COUNT, 9)
    expected = flip_rate.flip_probability(classes, "brightness")
    assert found["results"]["brightness"] == pytest.approx(expected)
    assert expected > 0
    scores = outcomes.read(str(tmp_path / "stability/scores.parquet"))
    assert len(scores["id"]) == COUNT


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_attacked_images_are_those_of_the_attack(ten, record_set, tmp_path, name):
    found = run(name, record_set, ten, tmp_path, epsilons="0,2,8")
    network, _ = model_files.load_model(ten.directory)
    stream = evaluation.EvaluationInput(
        record_set, ten.info.image_size, "inception", "labeled"
    )
    (batch,) = evaluation.evaluation_input.evaluation_batches(stream, 64)
    for epsilon in (0, 2, 8):
        attack = Attack(network, epsilon, 1 if name == "fgsm" else 10)
        changed = attack(batch["image"], batch["label"])
        predicted = network(changed).numpy().argmax(-1)
        rows = outcomes.read(str(tmp_path / f"{name}/{epsilon}.parquet"))
        np.testing.assert_array_equal(rows["predicted"], predicted)
        right = np.mean(predicted == batch["label"].numpy())
        assert found["results"][f"epsilon_{epsilon}"] == pytest.approx(right)
    results = found["results"]
    assert results["epsilon_8"] < results["epsilon_2"] <= results["epsilon_0"]


@pytest.mark.parametrize("epsilons", ["", "a", "2,2", "-1", "300"])
def test_other_epsilons_are_refused(record_set, epsilons):
    with pytest.raises(InputError, match="`epsilons`: expected"):
        opened("fgsm", record_set, epsilons=epsilons)


def test_calibration_is_by_its_definitions(ten, record_set, tmp_path):
    found = run("calibration", record_set, ten, tmp_path)["results"]
    stream = evaluation.EvaluationInput(
        record_set, ten.info.image_size, "inception", "labeled"
    )
    (batch,) = evaluation.evaluation_input.evaluation_batches(stream, 64)
    labels = batch["label"].numpy()
    p = np.concatenate([ten.predictor(part) for part in np.split(batch["image"], COUNT)])
    assert found["nll"] == pytest.approx(
        -np.log(p[np.arange(COUNT), labels]).mean(), rel=1e-5
    )
    brier = ((p - np.eye(10)[labels]) ** 2).sum(-1).mean()
    assert found["brier"] == pytest.approx(brier, rel=1e-5)
    # Eleven images: a bin each.
    gaps = np.abs((p.argmax(-1) == labels) - p.max(-1))
    assert found["ece"] == pytest.approx(gaps.mean(), rel=1e-5)
    assert [row["count"] for row in found["bins"]] == [1] * COUNT


def test_bins_have_equal_mass_and_a_calibrated_model_has_no_error():
    confidences = np.random.default_rng(0).beta(8, 2, 30_007)
    right = np.random.default_rng(1).random(30_007) < confidences
    bins = calibration.equal_mass_bins(confidences, right)
    counts = [row["count"] for row in bins]
    assert len(bins) == 15
    assert max(counts) - min(counts) == 1
    assert calibration.ece_of(confidences, right) < 0.012
    assert calibration.ece_of(np.full(100, 0.9), np.arange(100) < 60) > 0.29


REPLICAS = """
    import json, sys
    import tensorflow as tf
    device = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        device, [tf.config.LogicalDeviceConfiguration()] * 3)
    from noisy_student import strategy
    from noisy_student.evaluation_suite import registry, suite
    from noisy_student.evaluation_suite.evaluated_model import EvaluatedModel
    from data import sources
    model, records, out = sys.argv[1:]
    three = EvaluatedModel(model, strategy.create_strategy("mirrored"), 4)
    assert three.predictor.batch_size == 6
    names = [str(k) for k in range(10)]
    found = sources.open_source("tfrecord:" + records, class_names=names).record_set()
    for name in ("test", "calibration", "pgd", "stability"):
        benchmark = registry.open_own(name, "x", found, registry.BenchmarkOptions())
        suite.run(benchmark, three, out, [])
"""


@pytest.mark.slow  # What replicas share is tested fast in test_evaluation.
def test_three_replicas_give_what_one_gives(model, ten, record_set, tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(REPLICAS), model]
    command += [os.path.dirname(record_set.files[0]), str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    for name in ("test", "calibration", "pgd", "stability"):
        expected = run(name, record_set, ten, tmp_path / "one")["results"]
        results = json.loads((tmp_path / f"{name}.json").read_text())["results"]
        for key, value in expected.items():
            if isinstance(value, float):
                assert results[key] == pytest.approx(value, rel=1e-5), (name, key)
            elif isinstance(value, int):
                assert results[key] == value


def test_images_of_the_same_id_all_count(ten, tmp_path, few):
    rows = []
    for k, color in enumerate((1, 1, 2, 7)):  # All are said to be of class 1.
        pixels = np.full((32, 32, 3), color_of(color), np.uint8)
        rows.append(Record("same" if k < 3 else "other", images.encode_png(pixels), 1))
    path = str(tmp_path / records.shard_name("test", 0, 1))
    records.write_shard(path, map(records.image_example, rows))
    examples = RecordSet((path,), (4,), tuple(map(str, range(10))))
    assert run("test", examples, ten, tmp_path)["results"]["top_1"] == 0.5
    for name, of in (("corruptions", "contrast"), ("stability", "rotate")):
        run(name, examples, ten, tmp_path)
        scores = outcomes.read(str(tmp_path / name / suite.SCORES))
        assert len(scores["id"]) == len(scores[of]) == 4
    assert run("corruptions", examples, ten, tmp_path)["results"]["images"] == 4


def test_unknown_names_are_refused():
    assert registry.in_order(["pgd", "test", "pgd"]) == ["test", "pgd"]
    with pytest.raises(InputError, match="`on`: expected names among test.*imagenet_q"):
        registry.in_order(["test", "imagenet_q"])
    with pytest.raises(InputError, match="received none"):
        registry.in_order([])
    with pytest.raises(InputError, match="`sample`: expected 0 to"):
        BenchmarkOptions(sample=-1)


def test_the_same_images_are_counted_under_another_name_once():
    columns = {
        "a": (np.array(["y", "x", "x"]), np.array([1.0, 2.0, 4.0])),
        "b": (np.array(["z"]), np.array([True])),
    }
    table = outcomes.by_id(columns)
    assert table["id"].tolist() == ["x", "y", "z"]
    np.testing.assert_array_equal(table["a"], [3.0, 1.0, np.nan])
    np.testing.assert_array_equal(table["b"], [np.nan, np.nan, 1.0])
