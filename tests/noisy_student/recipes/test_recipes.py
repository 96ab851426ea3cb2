"""Every recipe against the paper's numbers in docs/paper_tables.json."""

import json
import os
import re

import pytest

from data.errors import InputError
from noisy_student import recipes
from noisy_student.config import SelectionConfig, TrainingConfig
from noisy_student.recipes import imagenet

PAGE = os.path.join(os.path.dirname(__file__), "../../../docs/paper_tables.json")


@pytest.fixture(scope="module")
def tables():
    with open(PAGE) as file:
        return json.load(file)["tables"]


def cell(tables, path):
    table, _, rest = path.partition("/")
    row, _, column = rest.rpartition("/")
    return tables[table]["rows"][row][column]


@pytest.mark.parametrize("name", recipes.names())
def test_numbers_are_those_of_the_cited_cells(tables, name):
    for number in recipes.find(name).paper:
        assert cell(tables, number.cell) == number.value, number.cell


def test_every_cell_of_the_ablations_has_a_recipe(tables):
    cited = {p.cell for name in recipes.names() for p in recipes.find(name).paper}
    wanted = {
        f"{table}/{row}/{column}"
        for table in ("b0_to_b7", "table_6", "study_2", "study_3", "study_7")
        for row, cells in tables[table]["rows"].items()
        for column in cells
        if column not in ("params_M", "teacher") and not column.endswith("_v1")
    }
    # What the baselines of studies 2 and 3 are is in the table of sizes.
    wanted -= {"study_2/baseline/top_1", "study_3/baseline/top_1"}
    assert wanted <= cited


@pytest.mark.parametrize("number", range(8))
def test_settings_of_the_published_scripts(tables, number):
    config = imagenet.same_size(number)
    published = tables["published_scripts"]["rows"][f"B{number}"]
    training = config.student_training
    assert training.unlabeled_ratio == published["unlabeled_ratio"]
    assert training.train_ratio == published["train_ratio"]
    magnitude = config.augmentation.magnitude if config.augmentation.num_ops else None
    assert magnitude == published["magnitude"]
    assert training.total_steps(1_281_167) == pytest.approx(
        109_474 * published["train_ratio"], abs=1
    )
    assert (
        config.student.resolution
        == (tables["architectures"]["rows"][f"B{number}"]["train_resolution"])
    )


def test_defaults_are_the_papers(tables):
    paper = {key: row["value"] for key, row in tables["hyperparameters"]["rows"].items()}
    training, selection = TrainingConfig(), SelectionConfig()
    assert training.batch_size == paper["labeled_batch_size"]
    assert training.base_learning_rate == paper["base_learning_rate_per_256"]
    assert training.base_learning_rate * 2048 / 256 == paper["learning_rate_at_2048"]
    assert training.duration == f"{paper['epochs_large']} epochs"
    assert training.warmup == f"{paper['warmup_epochs']} epochs"
    assert training.decay_interval == f"{paper['decay_epochs_at_350']} epochs"
    assert training.ema_decay == paper["ema_decay"]
    assert training.weight_decay == paper["weight_decay"]
    assert training.label_smoothing == paper["label_smoothing"]
    assert selection.min_confidence == paper["min_confidence"]
    assert paper["images_per_class"] == imagenet.IMAGES_PER_CLASS
    assert paper["distinct_pseudo_labeled_images"] == imagenet.UNLABELED


def test_the_chain_of_l2(tables):
    third = recipes.load("imagenet-l2-generation_3")
    ratios = [third.training_of(g).unlabeled_ratio for g in (1, 2, 3)]
    rows = tables["table_7"]["rows"]
    assert ratios == [rows[str(g)]["unlabeled_ratio"] for g in (1, 2, 3)]
    assert third.teacher.variant == "efficientnet-b7"
    assert third.student.resolution == 475
    recipe = recipes.find("imagenet-l2-generation_3")
    assert recipe.fixres.image_size == 800
    # Generations before are the same trainings: the chain is made once.
    second = recipes.load("imagenet-l2-generation_2")
    assert second.training_of(2) == third.training_of(2)


@pytest.mark.parametrize("name", recipes.names())
def test_recipes_open_with_what_people_ask(name):
    text = recipes.find(name).opening()
    assert re.search(r"python -m tpu_scripts\.(iterate|reproduce|train) --recipe", text)
    assert "Hardware: " in text
    assert "Cost: " in text


@pytest.mark.parametrize("scale", recipes.scales())
def test_tables_name_rows_and_cells_that_there_are(tables, scale):
    for table in recipes.tables(scale).values():
        rows = {row.row for row in table.rows}
        for claim in table.claims:
            assert {claim.better, claim.worse} <= rows, (table.name, claim.text)
        for row in table.rows:
            assert recipes.find(row.name) is row
            for number in table.paper_numbers(row):
                assert cell(tables, number.cell) == number.value, number.cell
            if row.teacher_recipe:
                recipes.find(row.teacher_recipe)
        assert set(table.paper) <= rows


@pytest.mark.parametrize("name", recipes.names())
def test_a_teacher_of_another_recipe_is_the_network_that_it_trains(name):
    recipe = recipes.find(name)
    if recipe.teacher_recipe:
        other = recipes.find(recipe.teacher_recipe)
        role = "teacher" if other.role == "teacher" else "student"
        assert recipe.config.teacher == getattr(other.config, role)


def test_teachers_of_study_4_are_the_papers(tables):
    for row, cells in tables["study_4"]["rows"].items():
        teacher, student = row.lower().split(" to ")
        recipe = recipes.find(f"imagenet-{teacher}-to_{student}")
        numbers = recipes.find(recipe.teacher_recipe).paper
        assert cells["teacher"] in [number.value for number in numbers]


def test_a_run_that_is_not_all_of_a_recipe_is_refused():
    others = ("imagenet-b0-student_of_l2", "imagenet-l2-generation_1", "imagenet-b0")
    for name in others:
        with pytest.raises(InputError, match=f"Run: .*reproduce --recipes={name}"):
            recipes.load_run(name)
    assert recipes.load_run("imagenet-b0-student") == recipes.load("imagenet-b0-student")


def test_an_unknown_scale_or_recipe_is_refused():
    with pytest.raises(InputError, match="`scale`: expected fashion_mnist or imagenet"):
        recipes.tables("mnist")
    with pytest.raises(InputError, match="Did you mean imagenet-b4-student"):
        recipes.find("imagenet-b4-studnet")
