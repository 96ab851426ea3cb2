"""A trained model as a SavedModel that takes image files."""

import dataclasses
import os
import shutil

import tensorflow as tf

from data import augmentation, files
from noisy_student import model_files
from noisy_student.manifest import Stage

SAVED_MODEL = "saved_model"


class ImageClassifier(tf.Module):
    """Image files or pixels to probabilities; the crop is inside.

    Signatures (all outputs have one row an image):
        serving_default: image_bytes, string `[N]`: JPEG, PNG, GIF or BMP files.
        images: uint8 `[N, H, W, 3]`.
      Both give probabilities float32 `[N, C]`, class_name string `[N]`, and
      confidence float32 `[N]`.
        class_names: no input; class_names string `[C]`.
    """

    def __init__(self, model, info: model_files.ModelInfo):
        super().__init__()
        self._model, self._info = model, info
        self._class_names = tf.constant(info.class_names)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def from_bytes(self, image_bytes):
        return self._classify(
            image_bytes,
            lambda encoded: augmentation.clean(
                encoded, self._info.image_size, self._info.crop
            ),
        )

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "images")])
    def from_images(self, images):
        return self._classify(
            images,
            lambda image: augmentation.clean_pixels(
                image, self._info.image_size, self._info.crop
            ),
        )

    @tf.function(input_signature=[])
    def class_names(self):
        return {"class_names": self._class_names}

    def _classify(self, inputs, preprocess):
        size = self._info.image_size
        images = tf.map_fn(
            preprocess, inputs, fn_output_signature=tf.TensorSpec([size, size, 3])
        )
        probabilities = tf.nn.softmax(self._model(images, training=False))
        return {
            "probabilities": probabilities,
            "class_name": tf.gather(self._class_names, tf.argmax(probabilities, -1)),
            "confidence": tf.reduce_max(probabilities, -1),
        }


def export(model: str, directory: str) -> str:
    """Writes `saved_model/` and copies of the model's files; returns `directory`.

    Args:
        model: Directory of a trained model.
        directory: Where the export goes.
    """
    info = model_files.load_info(model)
    stage = Stage(directory, "export", {"weights_sha256": info.weights_sha256})
    if stage.complete and tf.io.gfile.exists(stage.path(SAVED_MODEL)):
        return directory
    network, _ = model_files.load_model(model)
    classifier = ImageClassifier(network, info)
    _save(classifier, stage.path(SAVED_MODEL))
    for name in (model_files.MODEL, model_files.INFO):
        with files.atomic_path(stage.path(name)) as path:
            tf.io.gfile.copy(os.path.join(model, name), path, overwrite=True)
    stage.finish(results=dataclasses.asdict(info))
    print(f"Exported {model} to {stage.path(SAVED_MODEL)}.")
    return directory


def _save(classifier: ImageClassifier, path: str) -> None:
    signatures = {
        "serving_default": classifier.from_bytes,
        "images": classifier.from_images,
        "class_names": classifier.class_names,
    }
    if not files.is_local(path):
        tf.saved_model.save(classifier, path, signatures=signatures)
        return
    temporary = path + files.TEMPORARY_SUFFIX
    tf.saved_model.save(classifier, temporary, signatures=signatures)
    shutil.rmtree(path, ignore_errors=True)
    os.rename(temporary, path)
