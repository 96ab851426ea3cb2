"""EfficientNet in four implementations: one training step and one inference each.

    python -m benchmarks.contestants ours efficientnet-b0 224 16

serves one of them to `benchmarks.model_step`: a line such as `train 3` on the
standard input runs three training steps, and the time they took comes back as a
line of JSON. A contestant that cannot be imported answers {"missing": …}.

A training step is the forward pass in training mode, softmax cross-entropy, all
gradients, the update of the batch-norm statistics and plain SGD on all weights.
"""

import json
import os
import resource
import sys
import time

NUM_CLASSES = 1000
LEARNING_RATE = 1e-3
DROPOUT_RATE = 0.2  # Also that of stochastic depth.


class TensorFlowContestant:
    """The two functions around any Keras model, of Keras 2 or 3."""

    def __init__(self, model, image_size: int, batch_size: int):
        import tensorflow as tf

        self._tf, self.model = tf, model
        generator = tf.random.Generator.from_seed(0)
        shape = (batch_size, image_size, image_size, 3)
        self._images = generator.uniform(shape, 0.0, 255.0)
        self._labels = generator.uniform((batch_size,), 0, NUM_CLASSES, tf.int32)
        self._train = tf.function(self._train_step)
        self._infer = tf.function(lambda images: model(images, training=False))

    def train(self) -> None:
        float(self._train(self._images, self._labels))

    def infer(self) -> None:
        self._infer(self._images).numpy()

    def _train_step(self, images, labels):
        tf, variables = self._tf, self.model.trainable_variables
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(
                    labels, self.model(images, training=True)
                )
            )
        gradients = tape.gradient(loss, variables)
        for variable, gradient in zip(variables, gradients, strict=True):
            variable.assign_sub(LEARNING_RATE * gradient)
        return loss


def ours(variant, image_size, batch_size):
    from efficientnet import build_efficientnet

    model = build_efficientnet(
        variant,
        num_classes=NUM_CLASSES,
        dropout_rate=DROPOUT_RATE,
        stochastic_depth_rate=DROPOUT_RATE,
        seed=0,
    )
    return TensorFlowContestant(model, image_size, batch_size)


def keras_applications(variant, image_size, batch_size):
    import keras

    model = getattr(keras.applications, f"EfficientNet{_short(variant).upper()}")(
        weights=None,
        input_shape=(image_size, image_size, 3),
        classes=NUM_CLASSES,
        classifier_activation=None,
    )
    return TensorFlowContestant(model, image_size, batch_size)


def tf_models_official(variant, image_size, batch_size):
    from official.vision.modeling import classification_model
    from official.vision.modeling.backbones import efficientnet

    backbone = efficientnet.EfficientNet(  # Its defaults are another network.
        _short(variant),
        se_ratio=0.25,
        stochastic_depth_drop_rate=DROPOUT_RATE,
        activation="swish",
        se_inner_activation="swish",
    )
    model = classification_model.ClassificationModel(
        backbone, NUM_CLASSES, dropout_rate=DROPOUT_RATE
    )
    return TensorFlowContestant(model, image_size, batch_size)


class timm:
    """PyTorch, eager, channels last."""

    def __init__(self, variant, image_size, batch_size):
        from benchmarks import without_torchvision

        without_torchvision.install()
        import timm as package
        import torch

        self._torch = torch
        generator = torch.Generator().manual_seed(0)
        shape = (batch_size, 3, image_size, image_size)
        self._images = torch.rand(shape, generator=generator)
        self._images = self._images.to(memory_format=torch.channels_last)
        self._labels = torch.randint(NUM_CLASSES, (batch_size,), generator=generator)
        model = package.create_model(
            f"tf_{variant.replace('-', '_')}",
            num_classes=NUM_CLASSES,
            drop_rate=DROPOUT_RATE,
            drop_path_rate=DROPOUT_RATE,
        )
        self.model = model.to(memory_format=torch.channels_last)
        self._optimizer = torch.optim.SGD(self.model.parameters(), LEARNING_RATE)

    def train(self) -> None:
        self.model.train()
        self._optimizer.zero_grad()
        logits = self.model(self._images)
        loss = self._torch.nn.functional.cross_entropy(logits, self._labels)
        loss.backward()
        self._optimizer.step()
        loss.item()

    def infer(self) -> None:
        self.model.eval()
        with self._torch.inference_mode():
            self.model(self._images).numpy()


CONTESTANTS = {
    "ours": ours,
    "tf-models-official": tf_models_official,
    "keras.applications": keras_applications,
    "timm": timm,
}


def _short(variant: str) -> str:
    return variant.removeprefix("efficientnet-")


def measure(function, steps: int) -> dict[str, float]:
    """Milliseconds a step: processor time of all threads, and elapsed time."""
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for _ in range(steps):
        function()
    after, ended = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    seconds = {
        "user": after.ru_utime - before.ru_utime,
        "sys": after.ru_stime - before.ru_stime,
        "wall": ended - began,
    }
    return {name: 1000 * value / steps for name, value in seconds.items()}


def serve(name, variant, image_size, batch_size) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # What libraries print must not get among the answers.
    try:
        contestant = CONTESTANTS[name](variant, int(image_size), int(batch_size))
    except (ImportError, AttributeError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        print(json.dumps({"missing": f"{type(error).__name__}: {reason}"}), file=answers)
        return
    print(json.dumps({}), file=answers)
    for request in sys.stdin:
        mode, steps = request.split()
        print(json.dumps(measure(getattr(contestant, mode), int(steps))), file=answers)


if __name__ == "__main__":
    serve(*sys.argv[1:])
