"""Bad settings are refused before any work, by name and with a remedy."""

import dataclasses

import pytest

from data import settings
from data.errors import InputError
from noisy_student import config, recipes


def changed(settings, part, **values):
    new = dataclasses.replace(getattr(settings, part), **values)
    return dataclasses.replace(settings, **{part: new})


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_is_valid(name):
    config.check(recipes.load(name))


def test_config_survives_json(tiny):
    assert settings.from_dict(config.Config, dataclasses.asdict(tiny)) == tiny


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("selection", {"min_confidence": 1.2}, "min_confidence.*0 to 1.*1.2"),
        ("selection", {"min_confidence": -0.1}, "min_confidence.*-0.1"),
        ("teacher", {"variant": "efficientnet-b10"}, "efficientnet-b10.*Did you mean"),
        ("teacher", {"dropout_rate": 1.0}, "teacher_dropout_rate"),
        ("student", {"image_size": 4}, "student_image_size"),
        ("student", {"pixel_statistics": "mnist"}, "student_pixel_stat.*svhn.*'mnist'"),
        ("data", {"pool_imbalance": 0.5}, "pool_imbalance.*1 to .*0.5"),
        ("student_training", {"labeled_loss_weight": -1.0}, "labeled_loss_weight.*0 or m"),
        ("teacher", {"batch_norm_group_size": -2}, "teacher_batch_norm_group_size.*-2"),
        ("student", {"precision": "mixed_float16"}, "student_precision.*loss scaling"),
        ("student", {"precision": "float64"}, "student_precision.*float32 or mixed_b"),
        ("student_training", {"batch_size": 0}, "student_batch_size.*more than 0"),
        ("student_training", {"unlabeled_ratio": 0.0}, "unlabeled_ratio"),
        ("student_training", {"frozen_blocks": 2}, "student_frozen_blocks.*init_from_teac"),
        (
            "teacher_training",
            {"frozen_blocks": -2},
            "teacher_frozen_blocks.*-1 or more.*-2",
        ),
        ("teacher_training", {"softmax_temperature": 0.0}, "softmax_temperature"),
        ("teacher_training", {"final_base_learning_rate": 9.0}, "final_base_learning_rate"),
        ("student_training", {"schedule": "linear"}, "student_schedule.*or cosine.*linear"),
        (
            "student_training",
            {"loss_weighting": "sum"},
            "loss_weighting.*catenated.*sum",
        ),
        ("student_training", {"accumulation_steps": 0}, "accumulation_steps.*more than 0"),
        ("student_training", {"clip_gradient_norm": -1.0}, "clip_gradient_norm.*-1"),
        (
            "teacher_training",
            {"labeled_sample_probability": 0.0},
            "labeled_sample_probability.*to 1; received 0",
        ),
        ("teacher_training", {"duration": "0 steps"}, "teacher_duration.*more than 0"),
        ("student_training", {"warmup": "5"}, "student_warmup.*steps, epochs, im.*'5'"),
        ("student_training", {"decay_interval": "0 images"}, "student_decay_int.*than 0"),
        ("data", {"num_shards": -1}, "num_shards.*-1"),
        ("data", {"test_data": "", "holdout_fraction": 1.5}, "holdout_fraction.*1.5"),
        ("data", {"labels_per_class": 0}, "unlabeled_data.*neither"),
        ("data", {"unlabeled_data": "folder:x"}, "unlabeled_data.*both"),
    ],
)
def test_bad_settings_are_named(tiny, part, values, message):
    with pytest.raises(InputError, match=f"(?s){message}"):
        config.check(changed(tiny, part, **values))


def test_stopping_needs_validation_data(tiny):
    settings = changed(tiny, "data", validation_data="")
    with pytest.raises(InputError, match="stop_when_no_gain.*validation_data"):
        config.check(dataclasses.replace(settings, stop_when_no_gain=True))


def test_smaller_student_is_refused_with_both_sizes(tiny):
    settings = changed(tiny, "teacher", width=0.5)
    with pytest.raises(InputError, match=r"at least the teacher's [\d,]+ .*--allow"):
        config.check(settings)
    config.check(dataclasses.replace(settings, allow_smaller_student=True))


def test_an_online_teacher_selects_nothing_and_has_no_noise(tiny):
    online = dataclasses.replace(tiny, online_teacher=True)
    with pytest.raises(InputError, match="`min_confidence`.*`online_teacher`.*0.05"):
        config.check(online)
    online = dataclasses.replace(online, selection=config.SelectionConfig())
    config.check(online)
    with pytest.raises(InputError, match="`noised_teacher`: expected false"):
        config.check(dataclasses.replace(online, noised_teacher=True))
    with pytest.raises(InputError, match="`label_format`: expected its default.*float16"):
        config.check(dataclasses.replace(online, label_format="float16"))


def test_label_formats_that_are_none_are_refused(tiny):
    config.check(dataclasses.replace(tiny, label_format="top_3"))
    with pytest.raises(InputError, match="`label_format`: .*'float8'"):
        config.check(dataclasses.replace(tiny, label_format="float8"))


def test_the_last_generation_can_have_another_ratio(tiny):
    run = dataclasses.replace(tiny, generations=3, last_unlabeled_ratio=4.0)
    assert [run.training_of(g).unlabeled_ratio for g in (1, 2, 3)] == [2, 2, 4]
    assert tiny.training_of(1) == tiny.student_training
    with pytest.raises(InputError, match="`last_unlabeled_ratio`: expected 0 or more"):
        config.check(dataclasses.replace(tiny, last_unlabeled_ratio=-1.0))


def test_unknown_recipe_names_near_ones():
    with pytest.raises(InputError, match="digit.*Did you mean digits"):
        recipes.load("digit")


def test_differences_name_nested_fields():
    old, new = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 5}, "e": 4}
    assert settings.differences(old, new) == ["a.c: 2 -> 5", "d: 3 -> None", "e: None -> 4"]


def test_total_steps_follow_from_epochs():
    training = config.TrainingConfig(batch_size=2048, duration="350 epochs")
    assert training.total_steps(1_281_167) == 218_949


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"selection": "best"}, r"selection.*top_k.*'best'"),
        ({"filter": "none", "min_confidence": 0.5}, "min_confidence.*filter=none"),
        ({"balance": "none", "images_per_class": 9}, "images_per_class.*balance=none"),
        ({"selection": "unchanged", "max_copies": 2}, "max_copies.*unchanged"),
        ({"max_confidence": 0.3}, r"max_confidence.*min_confidence.*\(0.3\)"),
        ({"pool_fraction": 0.0}, "pool_fraction"),
        ({"max_copies": -1}, "max_copies"),
    ],
)
def test_selections_that_cannot_work_are_refused(changes, message):
    with pytest.raises(InputError, match=f"(?s){message}"):
        config.check_selection(config.SelectionConfig(**changes))


def test_a_run_has_no_choice_to_keep(tiny):
    unchanged = config.SelectionConfig(selection="unchanged")
    with pytest.raises(InputError, match="selection.*unchanged"):
        config.check(dataclasses.replace(tiny, selection=unchanged))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "`seed`: expected 0 to 2147482; received -1"),
        ({"seed": 2_147_483}, "`seed`.*received 2147483"),
        ({"generations": 0}, "`generations`: expected 1 to 999; received 0"),
        ({"generations": 1000}, "`generations`.*received 1000"),
    ],
)
def test_seeds_and_generations_have_bounds(tiny, changes, message):
    with pytest.raises(InputError, match=message):
        config.check(dataclasses.replace(tiny, **changes))


def test_no_two_trainings_share_a_seed_and_draws_do_not_overflow():
    assert config.seed_of(3, 7) == 3007
    assert config.seed_of(config.run.MOST_SEED, 999) < 2**31
    with pytest.raises(InputError, match="`generation`: expected 0 to 999"):
        config.seed_of(0, 1000)
