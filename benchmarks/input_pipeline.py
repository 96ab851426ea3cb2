"""Images per CPU-second of RandAugment alone and of the whole training input.

    python -m benchmarks.input_pipeline --output=docs/results/input_pipeline.json

Photos of 500 x 375 pixels to 224 x 224, one thread. Contestants take turns within
a process; what counts is processor time of all its threads.

* RandAugment, 2 operations: ours (`reference` mode), tf-models-official's, and
  Pillow's operations in a `numpy_function`.
* The whole input (decode, crop, resize, flip, RandAugment, batch): ours, and a
  pipeline of the published shape: whole decode, Inception crop, bicubic, flip,
  tf-models-official's RandAugment, which like the published one wraps geometric
  operations in a fourth channel and has a branch for each operation.
"""

import random
import statistics
import time

import numpy as np
import tensorflow as tf
from absl import flags
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from benchmarks import results
from benchmarks.photos import photos
from data import augmentation, crops, randaugment
from tpu_scripts import setting_flags

_MAGNITUDES = flags.DEFINE_list("magnitudes", ["9", "27"], "RandAugment's M.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 224, "Side of the result in pixels.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Images in a batch.")
_BATCHES = flags.DEFINE_integer("batches", 16, "Batches a turn.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "How often each contestant's turn comes.")
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to write; empty: print only.")

_NUM_OPS = 2


def main():
    found = {}
    for magnitude in map(float, _MAGNITUDES.value):
        contests = {
            "RandAugment": _randaugment_contest(magnitude),
            "whole input": _input_contest(magnitude),
        }
        for name, contestants in contests.items():
            title = f"{name}, M = {magnitude:g}"
            found[title] = measure(contestants)
            _print(title, found[title])
    settings = results.settings(_IMAGE_SIZE, _BATCH_SIZE, _BATCHES, _ROUNDS)
    results.write(_OUTPUT.value, settings, ms=found)


def measure(contestants) -> dict[str, dict[str, float]]:
    """CPU-ms an image of each contestant: minimum and median over the rounds.

    Args:
        contestants: Endless data sets of batches by name.
    """
    turns = {name: [] for name in contestants}
    for _ in range(_ROUNDS.value + 1):
        for name, dataset in contestants.items():
            iterator = iter(dataset)
            next(iterator)  # Traced and started.
            began = time.process_time()
            for _ in range(_BATCHES.value):
                next(iterator)
            spent = time.process_time() - began
            turns[name].append(spent / _BATCHES.value / _BATCH_SIZE.value * 1e3)
    return {
        name: {"min": min(found[1:]), "median": statistics.median(found[1:])}
        for name, found in turns.items()
    }


def _print(title, found):
    first = next(iter(found.values()))
    print(f"{title}: CPU-ms an image, minimum and median; ratio to ours")
    for name, row in found.items():
        ratios = "  ".join(f"{row[key] / first[key]:5.2f}" for key in ("min", "median"))
        print(f"  {name:22s} {row['min']:7.3f} {row['median']:7.3f}   {ratios}")


def _randaugment_contest(magnitude: float) -> dict[str, tf.data.Dataset]:
    size = _IMAGE_SIZE.value
    cropped = [crops.center_crop(crops.decode(jpeg), size) for jpeg in photos()]
    images = tf.cast(tf.clip_by_value(tf.stack(cropped), 0.0, 255.0), tf.uint8)
    ours = randaugment.RandAugment(_NUM_OPS, magnitude, size, "reference")
    theirs, pillow = _tf_models_randaugment(magnitude), PillowRandAugment(magnitude)
    functions = {
        "ours": lambda i, image: ours(
            image, tf.random.stateless_uniform([_NUM_OPS, 4], [i, 0])
        ),
        "tf-models-official": lambda _, image: theirs(image),
        "Pillow": lambda _, image: tf.ensure_shape(
            tf.numpy_function(pillow, [image], tf.uint8), image.shape
        ),
    }
    return {name: _endless(images, each) for name, each in functions.items()}


def _input_contest(magnitude: float) -> dict[str, tf.data.Dataset]:
    size = _IMAGE_SIZE.value
    settings = augmentation.Augmentation(num_ops=_NUM_OPS, magnitude=magnitude)
    theirs = _tf_models_randaugment(magnitude)

    def published_shape(i, encoded):
        image = crops.inception_crop(crops.decode(encoded), size, [i, 0])
        image = tf.image.random_flip_left_right(image)
        image = tf.cast(tf.clip_by_value(image, 0.0, 255.0), tf.uint8)
        return theirs(image)

    def ours(i, encoded):
        return augmentation.augmented(encoded, size, settings, tf.stack([i, 0]))

    encoded = tf.constant(photos())
    return {
        "ours": _endless(encoded, ours),
        "published shape": _endless(encoded, published_shape),
    }


def _endless(values, function) -> tf.data.Dataset:
    dataset = tf.data.Dataset.from_tensor_slices(values).repeat().enumerate()
    dataset = dataset.map(function, num_parallel_calls=1).batch(_BATCH_SIZE.value)
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    options.autotune.enabled = False
    return dataset.with_options(options)


def _tf_models_randaugment(magnitude: float):
    from official.vision.ops import augment

    peer = augment.RandAugment(
        num_layers=_NUM_OPS, magnitude=magnitude, cutout_const=40, translate_const=100
    )
    return peer.distort


class PillowRandAugment:
    """The same operations with Pillow, which many pipelines call from Python."""

    def __init__(self, magnitude: float):
        self._strengths = randaugment.corrected_strengths(
            magnitude, 100, 40, _IMAGE_SIZE.value
        )
        self._random = random.Random(0)
        self._operations = self._all()

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        image = Image.fromarray(pixels)
        for _ in range(_NUM_OPS):
            image = self._random.choice(self._operations)(image)
        return np.asarray(image)

    def _all(self):
        s, sign = self._strengths, lambda: self._random.choice((-1, 1))
        lifted = [v + min(s.solarize_add, 255 - v) if v < 128 else v for v in range(256)]
        factor = s.enhance[-1]
        return [
            ImageOps.autocontrast,
            ImageOps.equalize,
            ImageOps.invert,
            lambda image: image.rotate(sign() * s.degrees, fillcolor=(128,) * 3),
            lambda image: ImageOps.posterize(image, 8 - s.posterize_shift),
            lambda image: ImageOps.solarize(image, s.solarize_threshold),
            lambda image: ImageEnhance.Color(image).enhance(factor),
            lambda image: ImageEnhance.Contrast(image).enhance(factor),
            lambda image: ImageEnhance.Brightness(image).enhance(factor),
            lambda image: ImageEnhance.Sharpness(image).enhance(factor),
            lambda image: _affine(image, 1, sign() * s.shear, 0, 0, 1, 0),
            lambda image: _affine(image, 1, 0, 0, sign() * s.shear, 1, 0),
            lambda image: _affine(image, 1, 0, sign() * s.translate, 0, 1, 0),
            lambda image: _affine(image, 1, 0, 0, 0, 1, sign() * s.translate),
            lambda image: image.point(lifted * 3),
            self._cutout,
        ]

    def _cutout(self, image):
        half = self._strengths.cutout
        x, y = (self._random.randrange(side) for side in image.size)
        square = (x - half, y - half, x + half - 1, y + half - 1)
        ImageDraw.Draw(image).rectangle(square, (128,) * 3)
        return image


def _affine(image, *matrix):
    return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=(128,) * 3)


if __name__ == "__main__":
    setting_flags.run(main)
