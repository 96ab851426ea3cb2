"""Published benchmarks read from small trees in exactly their authors' layouts."""

import dataclasses
import json

import numpy as np
import pytest

from data.errors import InputError
from noisy_student.evaluation_suite import imagenet_classes, labeled, registry, suite
from noisy_student.evaluation_suite.imagenet_classes import imagenet_a_classes, wordnet_ids
from noisy_student.evaluation_suite.registry import BenchmarkOptions
from noisy_student.models import model_files

from .conftest import color_network, color_of, save, write_image, write_tree

PARTIAL = BenchmarkOptions(allow_partial=True)


def result_of(name, dataset, evaluated, tmp_path, **options):
    benchmark = registry.open_imagenet(
        name, dataset, BenchmarkOptions(allow_partial=True, **options), evaluated.info
    )
    return suite.run(benchmark, evaluated, str(tmp_path / "results"), ["command"])


def test_classes_are_imagenets_in_alphabetic_order():
    names = wordnet_ids()
    assert len(names) == 1000
    assert names[0] == "n01440764"  # Tench.
    assert list(names) == sorted(names)
    of_a = imagenet_a_classes()
    assert len(of_a) == 200
    assert (np.diff(of_a) > 0).all()
    labels = imagenet_classes.validation_labels()
    assert len(labels) == 50_000
    assert labels["ILSVRC2012_val_00000001.JPEG"] == 65
    assert np.bincount(list(labels.values())).tolist() == [50] * 1000


def test_imagenet_in_class_folders(evaluated, tmp_path):
    shown = [(0, 0), (0, 7), (7, 7), (500, 500), (999, 999)]
    dataset = write_tree(tmp_path / "val", shown)
    found = result_of("imagenet", dataset, evaluated, tmp_path)
    assert found["results"]["top_1"] == pytest.approx(4 / 5)
    assert found["results"]["images"] == 5
    assert found["results"]["per_class_accuracy"] == {"0": 0.5, "7": 1, "500": 1, "999": 1}
    assert found["results"]["confusions"] == [{"label": "0", "predicted": "7", "images": 1}]
    assert found["missing"] == ["images: 5 of 50,000"]
    assert (tmp_path / "results/imagenet.png").exists()  # The one that is wrong.


def test_imagenet_as_published_without_class_folders(evaluated, tmp_path):
    labels = imagenet_classes.validation_labels()
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 77, 50_000)]
    for name in names:
        write_image(str(tmp_path / "val" / name), color_of(labels[name]))
    found = result_of("imagenet", f"folder:{tmp_path}/val", evaluated, tmp_path)
    assert found["results"]["top_1"] == 1
    write_image(str(tmp_path / "val" / "cat.jpg"), (0, 0, 0))
    with pytest.raises(InputError, match="received also cat.jpg"):
        registry.open_imagenet(
            "imagenet", f"folder:{tmp_path}/val", PARTIAL, evaluated.info
        )


def test_real_counts_any_of_an_images_classes_and_leaves_out_images_without(
    evaluated, tmp_path
):
    labels = imagenet_classes.validation_labels()
    for number in (1, 2, 3, 4):
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        write_image(str(tmp_path / "val" / name), color_of(labels[name]))
    real = [[] for _ in range(50_000)]
    real[0] = [3, labels["ILSVRC2012_val_00000001.JPEG"]]
    real[1] = [labels["ILSVRC2012_val_00000002.JPEG"] ^ 1]  # Another class is right.
    real[3] = [labels["ILSVRC2012_val_00000004.JPEG"]]
    (tmp_path / "real.json").write_text(json.dumps(real))
    dataset, path = f"folder:{tmp_path}/val", str(tmp_path / "real.json")
    found = result_of("imagenet_real", dataset, evaluated, tmp_path, real_labels=path)
    assert found["results"] == {"top_1": pytest.approx(2 / 3), "images": 3}
    for options, message in (
        (PARTIAL, "`real_labels`: expected the file real.json"),
        (BenchmarkOptions(real_labels=str(tmp_path / "no.json")), "expected JSON"),
    ):
        with pytest.raises(InputError, match=message):
            registry.open_imagenet("imagenet_real", dataset, options, evaluated.info)
    (tmp_path / "real.json").write_text("[[1], [2]]")
    with pytest.raises(InputError, match="a list of 50,000 lists"):
        result_of("imagenet_real", dataset, evaluated, tmp_path, real_labels=path)


def test_v2_has_three_sets_whose_folders_are_numbers(evaluated, tmp_path):
    # As text, 10 comes before 2: labels by place in the sorted list would be wrong.
    shown = {
        "imagenetv2-matched-frequency-format-val": [(2, 2), (10, 10), (999, 999)],
        "imagenetv2-threshold0.7-format-val": [(2, 2), (10, 3)],
        "imagenetv2-top-images-format-val": [(100, 3)],
    }
    for folder, pairs in shown.items():
        write_tree(tmp_path / "v2" / folder, pairs, str)
    found = result_of("imagenet_v2", f"folder:{tmp_path}/v2", evaluated, tmp_path)
    shares = {k: v for k, v in found["results"].items() if k.endswith("top_1")}
    assert shares == {
        "matched_frequency/top_1": 1,
        "threshold_0.7/top_1": 0.5,
        "top_images/top_1": 0,
    }


def test_a_variant_of_v2_that_is_missing_is_named(evaluated, tmp_path):
    write_tree(tmp_path / "imagenetv2-top-images-format-val", [(1, 1)], str)
    with pytest.raises(InputError, match=r"missing: matched_frequency; threshold_0\.7"):
        registry.open_imagenet(
            "imagenet_v2", f"folder:{tmp_path}", BenchmarkOptions(), evaluated.info
        )


def test_a_takes_the_best_of_its_200_classes(evaluated, tmp_path):
    # The color of 7 is no class of A; of its classes 6 is nearest. 11 is one.
    shown = [(6, 6), (6, 7), (11, 11), (13, 11)]
    dataset = write_tree(tmp_path / "a", shown)
    found = result_of("imagenet_a", dataset, evaluated, tmp_path)
    assert found["results"]["top_1"] == pytest.approx(3 / 4)
    whole = result_of("imagenet", dataset, evaluated, tmp_path)
    assert whole["results"]["top_1"] == pytest.approx(2 / 4)
    with pytest.raises(InputError, match="the 200 classes of ImageNet-A.*label 7"):
        registry.open_imagenet(
            "imagenet_a", write_tree(tmp_path / "other", [(7, 7)]), PARTIAL, evaluated.info
        )


def test_r_takes_the_best_of_the_classes_in_its_data(evaluated, tmp_path):
    dataset = write_tree(tmp_path / "r", [(1, 2), (5, 5), (300, 301)])
    found = result_of("imagenet_r", dataset, evaluated, tmp_path)
    assert found["results"]["top_1"] == 1  # 2 is nearest to 1 among 1, 5, 300.
    assert "classes: 3 of 200" in found["missing"]


def test_sketch_is_read_from_class_folders(evaluated, tmp_path):
    dataset = write_tree(tmp_path / "sketch", [(8, 8), (9, 8)])
    found = result_of("imagenet_sketch", dataset, evaluated, tmp_path)
    assert found["results"]["top_1"] == 0.5
    assert found["results"]["top_5"] == 1


def test_without_leave_a_part_is_refused_before_anything_is_run(evaluated, tmp_path):
    dataset = write_tree(tmp_path / "val", [(0, 0)])
    with pytest.raises(
        InputError, match="`imagenet`: .*images: 1 of 50,000.*allow_partial"
    ):
        registry.open_imagenet("imagenet", dataset, BenchmarkOptions(), evaluated.info)


def test_other_class_folders_are_refused(evaluated, tmp_path):
    dataset = write_tree(tmp_path / "val", [(0, 0), (1, 1)], lambda label: f"cat{label}")
    with pytest.raises(InputError, match="received also cat0, cat1"):
        registry.open_imagenet("imagenet", dataset, PARTIAL, evaluated.info)


@pytest.mark.parametrize("name", ["imagenet_a", "imagenet_c", "imagenet_p"])
def test_models_of_other_classes_are_refused(name, tmp_path):
    directory = save(color_network(10), tmp_path)
    info = model_files.load_info(directory)
    with pytest.raises(InputError, match=f"1,000 classes for {name}.*one with 10"):
        registry.open_imagenet(name, "folder:x", PARTIAL, info)


def test_classes_in_another_order_are_refused(color_model, tmp_path):
    names = list(wordnet_ids())
    imagenet_classes.check_model("imagenet", _with_names(color_model, names))
    names[3], names[4] = names[4], names[3]
    with pytest.raises(InputError, match=f"received {names[3]} as class 3"):
        imagenet_classes.check_model("imagenet", _with_names(color_model, names))


def _with_names(directory, names):
    return dataclasses.replace(model_files.load_info(directory), class_names=names)


def test_a_file_that_is_no_image_is_named(evaluated, tmp_path):
    dataset = write_tree(tmp_path / "val", [(0, 0), (1, 1), (2, 2)])
    bad = next((tmp_path / "val" / wordnet_ids()[1]).iterdir())
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(InputError, match=f"can be read; {wordnet_ids()[1]}/{bad.name}"):
        result_of("imagenet", dataset, evaluated, tmp_path)


def test_mocked_tfds_data_sets_are_evaluated(evaluated, tmp_path):
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=6):
        found = result_of("imagenet_r", "tfds:imagenet_r:test", evaluated, tmp_path)
    assert found["results"]["images"] == 6


def test_mocked_real_labels_of_tfds_are_read(evaluated, tmp_path):
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=6):
        found = result_of(
            "imagenet_real", "tfds:imagenet2012_real:validation", evaluated, tmp_path
        )
    assert 0 <= found["results"]["images"] <= 6


def test_confusions_are_counted_and_sorted():
    table = {
        "label": np.array([0, 0, 1, 1, 1, 2]),
        "predicted": np.array([1, 0, 2, 2, 1, 2]),
    }
    assert labeled.confusions(table, "abc") == [
        {"label": "b", "predicted": "c", "images": 2},
        {"label": "a", "predicted": "b", "images": 1},
    ]
