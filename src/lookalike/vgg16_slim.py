"""VGG16Slim, the network of this project, whose weights are small enough to be bundled."""

import keras

from lookalike.workspace import project_root


def vgg16_slim(*, weights=None, input_shape=(128, 128, 3)):
    """VGG16's thirteen convolutions at quarter width, under the same layer names, for where VGG16
    itself cannot be had.

    Source of the architecture: Simonyan and Zisserman, "Very Deep Convolutional Networks for
    Large-Scale Image Recognition", ICLR 2015, configuration D.
    """
    image = x = keras.Input(input_shape, name="pixels")
    for block, (depth, width) in enumerate([(2, 16), (2, 32), (3, 64), (3, 128), (3, 128)], 1):
        for layer in range(1, depth + 1):
            x = keras.layers.Conv2D(
                width,
                3,
                padding="same",
                activation="relu",
                kernel_initializer="he_normal",
                name=f"block{block}_conv{layer}",
            )(x)
        x = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    model = keras.Model(image, x, name="vgg16_slim")
    if weights == "bundled":
        weights = project_root() / "models/vgg16_slim.weights.h5"
    if weights:
        model.load_weights(weights)
    return model
