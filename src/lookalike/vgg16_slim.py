"""VGG16Slim, the network of this project, whose weights are small enough to be bundled."""

import keras

from lookalike.workspace import project_root


def vgg16_slim(*, weights=None, input_shape=(128, 128, 3)):
    """VGG16 with a quarter of its filters, under the same layer names, for where VGG16 itself
    cannot be had.

    Source of the architecture: Simonyan and Zisserman, "Very Deep Convolutional Networks for
    Large-Scale Image Recognition", ICLR 2015, configuration D.
    """

    def quarter(layer):
        config = layer.get_config()
        if "filters" in config:
            config |= {"filters": config["filters"] // 4, "kernel_initializer": "he_normal"}
        return layer.from_config(config)

    full = keras.applications.VGG16(
        include_top=False, weights=None, input_shape=input_shape, name="vgg16_slim"
    )
    pixels = keras.Input(input_shape, name="pixels")
    model = keras.models.clone_model(full, pixels, clone_function=quarter)
    if weights == "bundled":
        weights = project_root() / "models/vgg16_slim.weights.h5"
    if weights:
        model.load_weights(weights)
    return model
