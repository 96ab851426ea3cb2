"""Functions as users write them for --model_fn, good and bad ones."""

import keras
import tensorflow as tf

import efficientnet
from efficientnet.noise import Dropout


@keras.saving.register_keras_serializable(package="own_networks")
class Halved(keras.layers.Layer):
    def call(self, inputs):
        return inputs / 2


def small(num_classes, image_size):
    """Convolutions, batch norm and both kinds of dropout; unnamed layers."""
    images = keras.Input((image_size, image_size, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(images)
    x = keras.layers.Conv2D(6, 3, strides=2, use_bias=False)(x)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    x = Halved()(keras.layers.Activation("relu")(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = Dropout(0.1, name="own_dropout")(keras.layers.Dropout(0.1)(x))
    return keras.Model(images, keras.layers.Dense(num_classes)(x))


def sequential(num_classes, image_size):
    body = keras.Sequential(
        [
            keras.Input((image_size, image_size, 3)),
            keras.layers.Conv2D(4, 3, strides=4),
            keras.layers.BatchNormalization(),
        ]
    )
    return keras.Sequential(
        [
            keras.Input((image_size, image_size, 3)),
            body,
            keras.layers.Flatten(),
            keras.layers.Dense(num_classes),
        ]
    )


def resnet50(num_classes, image_size):
    return keras.applications.ResNet50(
        weights=None,
        classes=num_classes,
        input_shape=(image_size, image_size, 3),
        classifier_activation=None,
    )


def _dense(num_classes, image_size, *last):
    layers = [keras.layers.Flatten(), keras.layers.Dense(num_classes), *last]
    return keras.Sequential([keras.Input((image_size, image_size, 3)), *layers])


def with_softmax(num_classes, image_size):
    return _dense(num_classes, image_size, keras.layers.Softmax())


def with_softmax_operation(num_classes, image_size):
    model = _dense(num_classes, image_size)
    return keras.Model(model.inputs, keras.ops.softmax(model.outputs[0]))


def with_inner_sigmoid(num_classes, image_size):
    inner = _dense(num_classes, image_size, keras.layers.Activation("sigmoid"))
    images = keras.Input((image_size, image_size, 3))
    return keras.Model(images, inner(images))


def always_10(num_classes, image_size):
    return _dense(10, image_size)


def always_32(num_classes, image_size):
    return _dense(num_classes, 32)


def unnamed_noise(num_classes, image_size):
    return _dense(num_classes, image_size, Dropout(0.1))


def noise_of_one_name(num_classes, image_size):
    last = [Dropout(0.1, name="noise") for _ in range(2)]
    body = _dense(num_classes, image_size, last[0])
    return keras.Sequential([keras.Input((image_size, image_size, 3)), body, last[1]])


def nothing(num_classes, image_size):
    pass


def positional(classes):
    pass


def failing(num_classes, image_size):
    raise RuntimeError("no such weights")


def without_input(num_classes, image_size):
    return keras.Sequential([keras.layers.Dense(num_classes)])


class _Subclass(keras.Model):
    def call(self, inputs):
        return inputs


def subclass(num_classes, image_size):
    return _Subclass()


def random_constant(num_classes, image_size):
    """Draws from TensorFlow's generator while it is built."""
    model = _dense(num_classes, image_size)
    model.layers[-1].bias.assign(tf.random.normal([num_classes]))
    return model


def own_efficientnet(num_classes, image_size):
    return efficientnet.build_efficientnet(num_classes=num_classes, width=0.1, depth=0.1)


not_a_function = 3
