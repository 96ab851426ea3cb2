"""What is kept of a class, by each rule, over shards of an index."""

import pathlib
import tempfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.id_hashes import hash_ids
from noisy_student.balancing import choosing, selection
from noisy_student.balancing.beam_runner import BeamRunner
from noisy_student.config import SelectionConfig
from noisy_student.config.selection import SELECTIONS
from noisy_student.labeling.predictions import Index, write_index

SEED = 3
GOLDEN = pathlib.Path(__file__).parents[2] / "golden" / "filter_reference.npz"


class Predictions:
    """Made-up predictions, in shards of an index."""

    def __init__(self, directory, labels, confidences, shards=3, ids=None):
        self.labels = np.asarray(labels, np.int32)
        self.confidences = np.asarray(confidences, np.float32)
        numbers = range(len(labels)) if ids is None else ids
        self.ids = [f"image{i}".encode() for i in numbers]
        self.id_hashes = hash_ids(self.ids)
        self.hashes = selection.mixed(self.id_hashes, SEED)
        self.paths = []
        for shard, rows in enumerate(np.array_split(np.arange(len(labels)), shards)):
            path = str(pathlib.Path(directory, f"part-{shard}.tfrecord"))
            ids = [self.ids[row] for row in rows]
            write_index(path, Index(ids, self.labels[rows], self.confidences[rows]))
            self.paths.append(path)

    def rule(self, images_per_class, classes, excluded=(), **settings):
        excluded = np.sort(np.array(excluded, np.uint64))
        return selection.Rule(
            SelectionConfig(**settings), images_per_class, classes, SEED, excluded
        )

    def choose(self, rule, directory):
        shards = choosing.Shards(self.paths, len(self.labels), BeamRunner(), str(directory))
        return choosing.choose(shards, rule)

    def copies(self, rule, chosen):
        index = Index(None, self.labels, self.confidences, self.id_hashes)
        rows = rule.eligible(index)
        copies = np.zeros(len(self.labels), np.int64)
        copies[rows] = chosen.copies_of(
            self.labels[rows], self.confidences[rows], self.hashes[rows]
        )
        return copies


@pytest.fixture
def predictions(tmp_path):
    """3,000 in 5 classes, the last empty, with many equal confidences."""
    generator = np.random.default_rng(0)
    labels = generator.choice(5, 3000, p=[0.6, 0.3, 0.09, 0.01, 0])
    return Predictions(tmp_path, labels, generator.integers(20, 101, 3000) / 100)


def brute_force(limit, ranks, hashes):
    """Copies by the words of the rule, one image at a time."""
    order = sorted(range(len(hashes)), key=lambda i: (ranks[i], hashes[i]))
    kept = order[:limit]
    copies = dict.fromkeys(kept, limit // len(kept))
    for index in sorted(kept, key=lambda i: hashes[i])[: limit % len(kept)]:
        copies[index] += 1
    return [copies.get(i, 0) for i in range(len(hashes))]


@st.composite
def pools(draw):
    """Predictions in some order and partition: few, with ties and small classes."""
    count, classes = draw(st.integers(1, 50)), draw(st.integers(1, 4))
    some = {"min_size": count, "max_size": count}
    # The last one is what the sum of an imported prediction may be.
    level = st.sampled_from([0.1, 0.29, 0.3, 0.305, 0.31, 0.99, 1.0, 1.0000002])
    return {
        "labels": draw(st.lists(st.integers(0, classes - 1), **some)),
        "confidences": draw(st.lists(level, **some)),
        "ids": draw(st.permutations(range(count))),
        "shards": draw(st.integers(1, 5)),
        "classes": classes,
    }


FILTERS = [{"filter": "none"}, *({"min_confidence": low} for low in (0.0, 0.3, 0.305))]


@given(
    pools(),
    st.sampled_from(["top_k", "uniform"]),
    st.integers(1, 30),
    st.integers(0, 3),
    st.sampled_from(FILTERS),
)
def test_any_pool_gives_the_exact_number_that_brute_force_gives(
    pool, rule_name, images_per_class, max_copies, settings
):
    classes = pool.pop("classes")
    with tempfile.TemporaryDirectory() as directory:
        predictions = Predictions(directory, **pool)
        rule = predictions.rule(
            images_per_class,
            classes,
            selection=rule_name,
            max_copies=max_copies,
            **settings,
        )
        chosen = predictions.choose(rule, directory)
        copies = predictions.copies(rule, chosen)
    passing = predictions.confidences >= np.float32(settings.get("min_confidence", 0))
    assert not copies[~passing].any()
    for label in range(classes):
        rows = np.flatnonzero((predictions.labels == label) & passing)
        limit = min(images_per_class, len(rows) * (max_copies or images_per_class))
        ranks = -np.minimum(predictions.confidences[rows], 1) * (rule_name == "top_k")
        expected = brute_force(limit, ranks, predictions.hashes[rows]) if limit else []
        assert copies[rows].tolist() == expected
        assert copies[rows].sum() == limit
        assert chosen.eligible[label] == len(rows)


@given(pools(), st.integers(1, 30), st.sampled_from(FILTERS))
def test_reference_goes_down_in_steps_of_a_hundredth(pool, images_per_class, settings):
    classes = pool.pop("classes")
    with tempfile.TemporaryDirectory() as directory:
        predictions = Predictions(directory, **pool)
        rule = predictions.rule(
            images_per_class, classes, selection="reference", **settings
        )
        chosen = predictions.choose(rule, directory)
    minimum = float(np.float32(settings.get("min_confidence", 0)))
    for label in range(classes):
        here = predictions.confidences[predictions.labels == label].astype(np.float64)
        here = here[here >= minimum]
        steps = [step / 100 for step in range(100, -1, -1)]
        enough = [step for step in steps if (here >= step).sum() >= images_per_class]
        threshold = max([*enough[:1], minimum])
        found = float(chosen.confidence[label])
        assert threshold <= found <= np.nextafter(np.float32(threshold), np.float32(2))
        total = int((here >= threshold).sum())
        share = images_per_class / total if total else 0
        assert chosen.copies[label] == int(share)
        extra = chosen.extra_below[label] / 2**63
        assert extra == pytest.approx(share % 1, abs=1e-12)


@pytest.mark.parametrize("rule_name", ["top_k", "uniform"])
def test_copies_by_beam_equal_brute_force(predictions, tmp_path, rule_name, monkeypatch):
    monkeypatch.setattr(choosing, "WITHOUT_BEAM", 0)
    divided = Predictions(tmp_path, predictions.labels, predictions.confidences, shards=7)
    rule = divided.rule(200, 5, selection=rule_name)
    chosen = divided.choose(rule, tmp_path)
    copies = divided.copies(rule, chosen)
    passing = divided.confidences >= np.float32(0.3)
    for label in range(4):
        rows = np.flatnonzero((divided.labels == label) & passing)
        ranks = -divided.confidences[rows] if rule_name == "top_k" else np.zeros(len(rows))
        assert copies[rows].tolist() == brute_force(200, ranks, divided.hashes[rows])
        assert chosen.eligible[label] == len(rows)
    assert copies[~passing].sum() == 0
    assert chosen.eligible[4] == 0


def test_every_selection_has_its_rule():
    assert set(choosing._RULES) == set(SELECTIONS)


def test_copies_are_capped(predictions, tmp_path):
    rule = predictions.rule(200, 5, max_copies=3)
    copies = predictions.copies(rule, predictions.choose(rule, tmp_path))
    rare = predictions.labels == 3
    eligible = (rare & (predictions.confidences >= np.float32(0.3))).sum()
    assert 3 * eligible < 200
    assert copies[rare].sum() == 3 * eligible
    assert copies.max() == 3


@pytest.mark.parametrize("beam", [True, False])
def test_buckets_and_parts_of_the_pool(predictions, tmp_path, beam, monkeypatch):
    monkeypatch.setattr(choosing, "WITHOUT_BEAM", 0 if beam else 10_000)
    bucket = predictions.rule(200, 5, min_confidence=0.5, max_confidence=0.6)
    copies = predictions.copies(bucket, predictions.choose(bucket, tmp_path))
    low, high = np.float32(0.5), np.float32(0.6)
    inside = (predictions.confidences >= low) & (predictions.confidences < high)
    assert (copies[inside] > 0).any()
    assert not copies[~inside].any()

    every = {"filter": "none", "balance": "none"}
    half = predictions.rule(200, 5, pool_fraction=0.5, **every)
    chosen = predictions.choose(half, tmp_path)
    copies = predictions.copies(half, chosen)
    assert set(copies) == {0, 1}
    assert 1400 < copies.sum() < 1600
    assert copies.sum() == chosen.eligible.sum()
    quarter = predictions.rule(200, 5, pool_fraction=0.25, **every)
    fewer = predictions.copies(quarter, predictions.choose(quarter, tmp_path))
    assert (copies[fewer > 0] == 1).all()  # A smaller part lies in the larger one.


def test_excluded_images_are_not_kept(predictions, tmp_path):
    best = np.lexsort((predictions.hashes, -predictions.confidences))[:50]
    rule = predictions.rule(200, 5, excluded=predictions.id_hashes[best])
    copies = predictions.copies(rule, predictions.choose(rule, tmp_path))
    assert not copies[best].any()
    assert copies[predictions.labels == 0].sum() == 200


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    with np.load(GOLDEN) as stored:
        stored = dict(stored)
    probabilities = stored["probabilities"]
    directory = tmp_path_factory.mktemp("golden")
    labels, confidences = probabilities.argmax(1), probabilities.max(1)
    return stored, Predictions(directory, labels, confidences, shards=4), directory


@pytest.mark.parametrize("beam", [True, False])
def test_reference_has_the_published_thresholds_and_totals(golden, beam, monkeypatch):
    monkeypatch.setattr(choosing, "WITHOUT_BEAM", 0 if beam else 10_000)
    stored, predictions, directory = golden
    target, minimum = int(stored["target_per_class"]), float(stored["min_confidence"])
    rule = predictions.rule(target, 6, selection="reference", min_confidence=minimum)
    chosen = predictions.choose(rule, directory)
    rounded = stored["threshold"].astype(np.float32)
    assert ((chosen.confidence - rounded) <= np.spacing(rounded)).all()
    above = predictions.confidences >= chosen.confidence[predictions.labels]
    totals = np.bincount(predictions.labels[above], minlength=6)
    np.testing.assert_array_equal(totals, stored["total_above"])


def test_reference_draws_the_published_number_of_copies_on_average(golden):
    stored, predictions, directory = golden
    target, minimum = int(stored["target_per_class"]), float(stored["min_confidence"])
    rule = predictions.rule(target, 6, selection="reference", min_confidence=minimum)
    chosen = predictions.choose(rule, directory)
    drawn = []
    for seed in range(200):
        hashes = selection.mixed(predictions.id_hashes, seed)
        copies = chosen.copies_of(predictions.labels, predictions.confidences, hashes)
        drawn.append(np.bincount(predictions.labels, copies, minlength=6))
    drawn = np.array(drawn)
    # Of n images, each once more with probability p: the variance is n p (1 - p).
    share = target / stored["total_above"] % 1
    deviation = np.sqrt(stored["total_above"] * share * (1 - share) / 200)
    assert (np.abs(drawn.mean(0) - target) <= 4 * deviation + 1e-9).all()
    assert drawn.std(0).max() > 1  # A lottery, as published; never K exactly.


def test_reference_keeps_what_is_exactly_at_the_threshold(tmp_path):
    # 0.35 is more than its float32.
    predictions = Predictions(tmp_path, np.zeros(10), np.full(10, 0.35))
    rule = predictions.rule(10, 1, selection="reference", min_confidence=0.35)
    copies = predictions.copies(rule, predictions.choose(rule, tmp_path))
    assert copies.tolist() == [1] * 10


def test_hashes_are_splitmix64_of_seed_and_purpose():
    # The generator's first numbers from state 0, as its authors' program gives them.
    published = 0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F
    zero = np.zeros(1, np.uint64)
    found = [selection.mixed(zero, 0), selection.mixed(zero, 0, "pool")]
    found.append(selection.mixed(zero, 1))
    assert np.concatenate(found).tolist() == [number >> 1 for number in published]


def test_hashes_are_uniform():
    hashes = selection.mixed(np.arange(100_000, dtype=np.uint64), 0)
    counts = np.bincount(hashes >> 53, minlength=1024)
    expected = 100_000 / 1024
    statistic = ((counts - expected) ** 2 / expected).sum()  # Chi-squared, 1023 degrees.
    assert 840 < statistic < 1210
