"""From a feature map to one vector, and how much each place of the map gave to it."""

import keras
import numpy as np

LEAST = 1e-12  # what is less counts as this, so that roots have a slope


def gem(places, p=3.0):
    """The generalized mean of a feature map [batch, height, width, channels]: the p-th root of the
    mean p-th power over all places, of each channel; between their average (1) and maximum.

    Source: Radenović, Tolias, Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation",
    TPAMI 2019; 3 is where its training begins.
    """
    powers = keras.ops.maximum(places, LEAST) ** p
    return keras.ops.mean(powers, axis=(1, 2)) ** (1 / p)


@keras.saving.register_keras_serializable("lookalike")
class GeneralizedMeanPooling2D(keras.layers.Layer):
    """`gem` as a layer."""

    def __init__(self, p=3.0, **options):
        super().__init__(**options)
        self.p = float(p)

    def call(self, places):
        """[batch, height, width, channels] to [batch, channels]."""
        return gem(places, self.p)

    def get_config(self):
        """What the layer is made from."""
        return super().get_config() | {"p": self.p}


LAYERS = {
    "avg": keras.layers.GlobalAveragePooling2D,
    "max": keras.layers.GlobalMaxPooling2D,
    "gem": GeneralizedMeanPooling2D,
}


def pooling_layer(pooling):
    """The layer `pooling`, in float32; ValueError if there is none of that name."""
    if pooling not in LAYERS:
        raise ValueError(f"pooling must be one of {', '.join(LAYERS)}, not {pooling!r}.")
    return LAYERS[pooling](name="pooling", dtype="float32")


def shares(layer, places):
    """What each place gave to the pooled vector: float64 [places, channels], whose sum over places
    is that vector.

    Parameters
    ----------
    places : array [places, channels], the feature map of one photo
        Of a maximum all is owed to the places that reach it; of a generalized mean, to each by its
        p-th power.
    """
    places = places.astype(np.float64)
    if isinstance(layer, keras.layers.GlobalAveragePooling2D):
        return places / len(places)
    if isinstance(layer, keras.layers.GlobalMaxPooling2D):
        at_top = places == places.max(axis=0)
        return places * at_top / at_top.sum(axis=0)
    powers = np.maximum(places, LEAST) ** layer.p
    slope = powers.mean(axis=0) ** (1 / layer.p - 1)
    return powers / len(places) * slope
