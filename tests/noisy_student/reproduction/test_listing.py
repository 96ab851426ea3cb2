import pytest

from noisy_student import recipes
from noisy_student.planning.cost import forward_cost
from noisy_student.reproduction import listing


def test_tables_rows_and_costs_are_listed():
    text = listing.as_text("fashion_mnist", ["6"])
    assert "--scale=fashion_mnist --table=6: Noise ablation (table 6)" in text
    assert "--table=7" not in text
    row = next(line for line in text.splitlines() if line.startswith("without_noise"))
    assert row.split()[1:4] == ["83.2", "/", "84.3"]
    assert "0.13 M" in row


def test_the_cost_of_a_row_is_that_of_all_that_it_needs():
    """Of generation 2: teacher, two labelings, two students; 3 forward passes a step."""
    recipe = recipes.find("fashion_mnist-generation_2")
    images, operations = listing.cost(recipe)
    assert images == 1_000 * (64 + 2 * 128)
    _, adds = forward_cost(recipe.config.student, 10)
    assert operations == pytest.approx(2 * adds * (3 * images + 2 * 54_000))


def test_a_chain_counts_its_teachers_recipe(monkeypatch):
    monkeypatch.setattr(listing, "forward_cost", lambda *_: (1, 1.0))
    chain, alone = (
        listing.cost(recipes.find(name))
        for name in ("imagenet-b0-student_of_l2", "imagenet-l2-generation_3")
    )
    training = recipes.load("imagenet-b0-student_of_l2").student_training
    own = training.total_steps(1_281_167) * 2 * 4096
    assert chain[0] == alone[0] + own
    assert chain[1] == alone[1] + 2 * (3 * own + 81_000_000)
