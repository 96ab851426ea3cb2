"""What --dry_run says is what a run then does."""

import dataclasses
import os

import pytest
import tensorflow as tf

from data.errors import InputError
from noisy_student.config import ModelConfig
from noisy_student.planning import cost, plan_text, run_plan
from noisy_student.preparation.preparation import prepare
from noisy_student.training.training_loop import LoopOptions
from tpu_scripts import plan_flags

TINY = ModelConfig(width=0.1, depth=0.1, image_size=32)


def graph_of(function):
    return tf.function(function).get_concrete_function(tf.TensorSpec([10])).graph


def test_peak_counts_what_lives_together():
    # x is the caller's; 40 bytes each: a; a and b; then b and c, a being used up.
    assert cost._peak_bytes(graph_of(lambda x: (x + 1.0) * 2.0)) == 80

    def kept(x):
        a = x + 1.0
        b = tf.reshape(a, [5, 2])  # The same memory.
        c = tf.exp(a)
        return tf.reduce_sum(b), tf.exp(tf.exp(c))

    # Two of 40 bytes, and the sum: a is gone once its reshaped self has been summed up.
    assert cost._peak_bytes(graph_of(kept)) == 84


def test_a_forward_pass_of_the_published_b0():
    parameters, multiply_adds = cost.forward_cost(ModelConfig(), 1000)
    assert parameters == 5_288_548
    assert multiply_adds == pytest.approx(0.39e9, rel=0.02)  # EfficientNet paper.


@pytest.mark.slow
def test_state_of_the_published_b0():
    found = cost.network_cost(ModelConfig(), 1000, rows=2)
    assert (found.parameters, found.multiply_adds) == cost.forward_cost(ModelConfig(), 1000)
    # Weights, their average, two slots; 42,016 moving statistics and their average.
    assert found.state_bytes == 4 * (4 * 5_288_548 + 2 * 42_016)


@pytest.mark.slow
def test_activations_grow_with_rows_and_shrink_with_precision_and_remat():
    def step_bytes(rows, **model):
        return cost.network_cost(dataclasses.replace(TINY, **model), 10, rows).step_bytes

    few, many = step_bytes(64), step_bytes(128)
    assert many == pytest.approx(2 * few, rel=0.05)
    assert step_bytes(128, precision="mixed_bfloat16") == pytest.approx(many / 2, rel=0.15)
    assert step_bytes(128, remat=True) < 0.95 * many  # Of few, small blocks.


def test_frozen_layers_are_no_parameters():
    whole, part = (cost.network_cost(TINY, 10, 8, blocks) for blocks in (-1, 5))
    assert part.parameters < whole.parameters
    assert part.step_bytes < whole.step_bytes
    assert part.multiply_adds == whole.multiply_adds


@pytest.fixture(scope="module")
def tiny_plan(cpu):
    from tests.conftest import tiny_config

    return run_plan.plan_run(tiny_config(), cpu)


def test_counts_are_those_of_the_run(tiny_plan, finished_run, prepared):
    _, summary = finished_run
    found = {each.name: each for each in tiny_plan.sets}
    assert {name: each.images for name, each in found.items()} == summary["images"]
    assert {each.shards for each in tiny_plan.sets} == {3}
    size = sum(os.path.getsize(path) for path in prepared.unlabeled.files)
    assert found["unlabeled"].bytes == pytest.approx(size, rel=0.05)
    teacher, student, control = tiny_plan.trainings
    for planned, done in (
        (teacher, summary["generations"][0]),
        (student, summary["generations"][1]),
        (control, summary["generations"][1]["control"]),
    ):
        assert planned.job.total_steps == done["steps"]
        assert planned.cost.parameters == done["parameters"]
    assert student.images == 3 * teacher.images


def test_label_sizes_are_about_those_on_disk(tiny_plan, finished_run):
    generation = os.path.join(finished_run[0], "generation_1")

    def size(stage, ends):
        directory = os.path.join(generation, stage)
        names = [name for name in os.listdir(directory) if name.endswith(ends)]
        return sum(os.path.getsize(os.path.join(directory, name)) for name in names)

    (labeling,) = tiny_plan.labelings
    written = size("predictions", (".tfrecord", ".parquet"))
    assert labeling.prediction_bytes == pytest.approx(written, rel=0.1)
    assert size("balanced", ".tfrecord") < labeling.pseudo_labeled_bytes


def test_hours_follow_from_one_speed_by_multiply_adds(tiny_plan):
    teacher, student, control = tiny_plan.trainings
    speeds = {"teacher": 100.0}
    expected = teacher.images / 100 / 3600
    assert tiny_plan.hours(teacher, speeds) == pytest.approx(expected)
    assert tiny_plan.hours(student, speeds) == pytest.approx(3 * expected)
    (labeling,) = tiny_plan.labelings
    assert tiny_plan.hours(labeling, speeds) == pytest.approx(980 / 300 / 3600)
    # Its own speed comes first.
    speeds["student"] = 50.0
    assert tiny_plan.hours(student, speeds) == pytest.approx(student.images / 50 / 3600)
    assert tiny_plan.hours(control, speeds) == pytest.approx(expected)
    assert tiny_plan.hours(control, {}) is None


def test_text_has_every_number_asked_for(tiny_plan):
    text = plan_text.as_text(tiny_plan, {"teacher": 100.0}, LoopOptions(keep_checkpoints=3))
    for part in ("unlabeled", "980", "30", "multiply-adds", "GiB", "checkpoints", "labels"):
        assert part in text
    assert "teacher 100 images/s" in text
    assert "--measure" in plan_text.as_text(tiny_plan, {}, LoopOptions())


def test_checkpoints_of_finished_trainings_need_no_room_if_they_go(tiny_plan):
    largest = max(each.cost.state_bytes for each in tiny_plan.trainings)
    together = sum(each.times * each.cost.state_bytes for each in tiny_plan.trainings)
    assert together > 2 * largest
    for keep, size in ((False, 2 * largest), (True, 2 * together)):
        options = LoopOptions(keep_checkpoints=2, keep_finished=keep)
        text = plan_text.as_text(tiny_plan, {}, options)
        assert f"checkpoints {plan_text._size(size)}," in text


def test_an_online_teacher_has_no_labeling_but_work_in_training(tiny, cpu):
    online = run_plan.plan_run(
        dataclasses.replace(tiny, online_teacher=True, control=False), cpu
    )
    teacher, student = online.trainings
    assert online.labelings == []
    own = 3 * student.images * student.cost.multiply_adds
    labeled = student.job.total_steps * 40 * teacher.cost.multiply_adds
    assert student.multiply_adds == pytest.approx(own + labeled)


def test_parts_of_a_batch_need_less_memory(tiny_plan):
    student = tiny_plan.trainings[1]
    settings = dataclasses.replace(student.job.training, accumulation_steps=4)
    job = dataclasses.replace(student.job, training=settings)
    assert dataclasses.replace(student, job=job).memory < 0.6 * student.memory
    assert dataclasses.replace(student, replicas=4).memory < 0.6 * student.memory


@pytest.mark.slow
def test_the_speed_is_that_of_real_steps(tiny, cpu, tmp_path):
    speeds = run_plan.speeds_of_run(tiny, str(tmp_path / "data"), cpu)
    assert set(speeds) == {"teacher", "student"}
    assert all(1 < speed < 1e6 for speed in speeds.values())
    # The shards are the run's own.
    prepared = prepare(tiny.data, str(tmp_path / "data"), tiny.seed)
    assert prepared.unlabeled.num_examples == 980
    assert sorted(os.listdir(tmp_path)) == ["data"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"measure": True}, "`measure`: expected only together with --dry_run"),
        ({"images_per_second": 5.0}, "`images_per_second`: expected only together"),
        (
            {"dry_run": True, "measure": True, "images_per_second": 5.0},
            "expected none with --measure.*5",
        ),
    ],
)
def test_flags_that_do_not_go_together(monkeypatch, given, message):
    class Flags(dict):
        __getattr__ = dict.get

        def __getitem__(self, name):
            return type("Flag", (), {"value": self.get(name)})

    monkeypatch.setattr(plan_flags.flags, "FLAGS", Flags(given))
    with pytest.raises(InputError, match=message):
        plan_flags.dry_run()


def test_a_last_generation_of_another_ratio_is_planned_by_itself(tiny, cpu):
    config = dataclasses.replace(tiny, generations=3, last_unlabeled_ratio=4.0)
    _, student, last, _ = run_plan.plan_run(config, cpu).trainings
    assert (student.name, student.times, student.job.images_per_step) == ("student", 2, 60)
    assert (last.name, last.times, last.job.images_per_step) == ("last student", 1, 100)
