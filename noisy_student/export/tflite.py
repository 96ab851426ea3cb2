"""A trained model as TensorFlow Lite files, for phones and small devices.

Input of every file is one image `[1, S, S, 3]` at the model's own size, pixels
in 0..255 *after* the evaluation crop; output are probabilities `[1, C]`.
Decoding image files and the crop's bicubic resizing are no TFLite builtins:
they stay with the caller, as `data.augmentation.clean` or the SavedModel do it.

| format          | weights | arithmetic | input   | output        |
|-----------------|---------|------------|---------|---------------|
| `float32`       | float32 | float32    | float32 | float32       |
| `float16`       | float16 | float32    | float32 | float32       |
| `dynamic_range` | int8    | int8 where a kernel exists | float32 | float32 |
| `int8`          | int8    | int8       | uint8   | uint8, p · 256 |

Only `int8` needs images, to learn the range of every activation.
"""

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

from data import augmentation, images, sources
from data.errors import InputError
from noisy_student.models.model_files import ModelInfo

WITHOUT_DATA = ("float32", "float16", "dynamic_range")
INT8 = "int8"
FORMATS = (*WITHOUT_DATA, INT8)


@dataclasses.dataclass(frozen=True)
class TFLiteOptions:
    """Which files to write.

    Attributes:
        formats: Some of `FORMATS`.
        representative_data: Data set string of unlabeled images like those the
            model will see; needed by `int8`.
        representative_images: How many of them to take; fewer if there are fewer.
    """

    formats: tuple[str, ...] = WITHOUT_DATA
    representative_data: str = ""
    representative_images: int = 100

    def __post_init__(self) -> None:
        for name in self.formats:
            if name not in FORMATS:
                raise InputError(
                    f"`tflite`: expected some of {', '.join(FORMATS)}; received {name!r}."
                )
        if INT8 in self.formats and not self.representative_data:
            raise InputError(
                "`representative_data`: expected a data set of images like those the "
                "model will see, for int8 of `tflite`; received none. Pass "
                "--representative_data=folder:DIR, or leave int8 out."
            )
        if self.representative_data and INT8 not in self.formats:
            raise InputError(
                "`representative_data`: expected only with int8 among `tflite`; received "
                f"{self.representative_data!r} with {', '.join(self.formats) or 'none'}. "
                "Add int8 to --tflite, or leave the data out."
            )
        if self.representative_images < 1:
            raise InputError(
                "`representative_images`: expected 1 or more; received "
                f"{self.representative_images}."
            )


def file_name(name: str) -> str:
    """The file that a format is written to."""
    return f"model_{name}.tflite"


class RepresentativeImages:
    """Evaluation crops of some images of a data set, drawn once and repeatably.

    Args:
        dataset: Data set string.
        count: How many images; all, where there are fewer.
        info: Gives size and crop.

    Raises:
        InputError: Unknown or empty data set.
    """

    def __init__(self, dataset: str, count: int, info: ModelInfo):
        self._source = sources.open_source(dataset, labeled=False)
        self._info = info
        order = np.random.default_rng(0).permutation(len(self._source))
        self._indices = np.sort(order[:count])
        self.identity = {
            "dataset": dataset,
            "images": len(self._indices),
            "content": self._source.digest(self._indices),
        }

    def __iter__(self) -> Iterator[np.ndarray]:
        """float32 `[1, S, S, 3]`, whole numbers 0..255; unreadable files are skipped.

        Raises:
            InputError: None can be read.
        """
        readable = 0
        for record in self._source.read(self._indices):
            try:
                encoded = images.checked_record(record).image
            except images.BadImage:
                continue
            readable += 1
            image = augmentation.clean(encoded, self._info.image_size, self._info.crop)
            yield as_uint8(image.numpy())[None].astype(np.float32)
        if not readable:
            raise InputError(
                f"`representative_data`: expected images in {self.identity['dataset']!r}; "
                f"none of the {len(self._indices)} drawn can be read."
            )


def as_uint8(image: np.ndarray) -> np.ndarray:
    """Float pixels as uint8: rounded, bicubic overshoot clipped."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


class Converter:
    """Makes the files of one model; the network is traced once.

    Args:
        model: Images to logits.
        image_size: Side S in pixels.
    """

    def __init__(self, model: keras.Model, image_size: int):
        model = _in_float32(model)
        shape = tf.TensorSpec([1, image_size, image_size, 3], tf.float32, "image")
        self._classify = tf.function(
            lambda image: tf.nn.softmax(model(image, training=False)),
            input_signature=[shape],
        )

    def convert(self, name: str, representative: RepresentativeImages | None) -> bytes:
        """The content of a file, with TFLite builtins alone.

        Args:
            name: One of `FORMATS`.
            representative: For `int8`.
        """
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [self._classify.get_concrete_function()], self._classify
        )
        if name != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if name == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if name == INT8:
            assert representative is not None  # `TFLiteOptions` sees to it.
            converter.representative_dataset = lambda: _calibration(representative)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.uint8
            converter.inference_output_type = tf.uint8
        with warnings.catch_warnings():
            # "Statistics for quantized inputs were expected": calibration has them.
            warnings.simplefilter("ignore", UserWarning)
            return converter.convert()

    def agreement(self, content: bytes, inputs: Iterable[np.ndarray]) -> dict:
        """How often a file names the class that the model names.

        Args:
            content: The file.
            inputs: Images `[1, S, S, 3]`.

        Returns:
            `images`, and `same_top_1`: how many of them.
        """
        classify = interpreter(content)
        same = [
            classify(image).argmax() == self._classify(image).numpy().argmax()
            for image in inputs
        ]
        return {"images": len(same), "same_top_1": int(sum(same))}


def interpreter(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """A function that runs a file in this process.

    It takes an image `[1, S, S, 3]`, pixels 0..255 of any type, and gives
    float32 probabilities `[1, C]`, those of `int8` in steps of 1/256.
    """
    with warnings.catch_warnings():
        # Its successor, ai_edge_litert, is a package of its own.
        warnings.simplefilter("ignore", UserWarning)
        runner = tf.lite.Interpreter(model_content=content)
    runner.allocate_tensors()
    inputs, outputs = runner.get_input_details()[0], runner.get_output_details()[0]
    is_uint8 = inputs["dtype"] == np.uint8

    def classify(image):
        image = as_uint8(image) if is_uint8 else np.asarray(image, np.float32)
        runner.set_tensor(inputs["index"], image)
        runner.invoke()
        probabilities = runner.get_tensor(outputs["index"])
        return probabilities / np.float32(256) if is_uint8 else probabilities

    return classify


def _calibration(representative: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """The images, two pixels of the first set to black and white.

    The input's range is then 0..255 exactly, so that a uint8 pixel is its own
    quantized value.
    """
    for number, image in enumerate(representative):
        if number == 0:
            image[0, 0, 0], image[0, 0, 1] = 0.0, 255.0
        yield [image]


def _in_float32(model: keras.Model) -> keras.Model:
    """The same network computing in float32: TFLite knows no bfloat16."""
    config = _float32_policies(model.get_config())
    if config == model.get_config():
        return model
    copy = model.__class__.from_config(config)
    copy.set_weights(model.get_weights())
    return copy


def _float32_policies(config):
    """A layer's config with every precision policy replaced by float32."""
    if isinstance(config, list | tuple):
        return type(config)(_float32_policies(value) for value in config)
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy":
        return {**config, "config": {"name": "float32"}}
    return {key: _float32_policies(value) for key, value in config.items()}
