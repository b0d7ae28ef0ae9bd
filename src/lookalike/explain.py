"""Why two photos are alike: the share of every pair of places in their cosine similarity."""

from dataclasses import dataclass

import keras
import numpy as np

from lookalike.images import fitted
from lookalike.pooling import LAYERS, shares

ACTIVATIONS = (keras.activations.linear, keras.activations.relu)


@dataclass(frozen=True)
class Explanation:
    """A cosine similarity taken apart.

    score : the cosine, in [-1, 1]
    pairs : float64 [h, w, h', w'], what place (i, j) of the query and (i', j') of the result add;
        the sum is `score`
    query_pixels, result_pixels : uint8 [height, width, 3], the photos as the encoder saw them
    """

    score: float
    pairs: np.ndarray
    query_pixels: np.ndarray
    result_pixels: np.ndarray

    @property
    def query_map(self):
        """What each place of the query adds to the score, [h, w]."""
        return self.pairs.sum(axis=(2, 3))

    @property
    def result_map(self):
        """What each place of the result adds to the score, [h', w']."""
        return self.pairs.sum(axis=(0, 1))


def explain(encoder, query, result, *, fit="resize"):
    """Take the cosine of two photos apart into the places that it comes from.

    A pooled vector is a sum over places, so the product of two is a sum over pairs of places,
    exactly. Colours are no part of it: `recommend(colour=)` adds them to the score. Source:
    Stylianou, Souvenir, Pless, "Visualizing Deep Similarity Networks", WACV 2019.
    Ours is what follows for the layers of a trained head behind the pooling: the sum stays exact,
    but how it is shared out is a convention. Of a ReLU each place gets its part where the whole is
    positive, of a bias all get the same, and all are divided by the spread of the whole.

    Parameters
    ----------
    encoder
        Ends in global pooling, or in dense layers behind it.
    query, result
        Paths of photos, or uint8 pixels [height, width, 3] of any size.

    Raises
    ------
    ImageError
        If a file cannot be read as an image.
    ValueError
        If the encoder ends in something that is no sum over places.
    """
    pooling, head = _pooling_and_head(encoder)
    size = encoder.input_shape[1:3]
    photos = [fitted(image, size, fit=fit) for image in (query, result)]
    before = keras.Model(encoder.input, pooling.input)
    pixels = np.stack(photos).astype(np.float32)
    maps = np.asarray(before(pixels, training=False))
    height, width, channels = maps.shape[1:]
    sums = []
    for places in maps.reshape(2, height * width, channels):
        parts = shares(pooling, places)
        for layer in head:
            parts = _parts_behind(layer, parts)
        length = np.linalg.norm(parts.sum(axis=0))
        sums.append(parts / (length or 1))
    pairs = sums[0] @ sums[1].T
    pairs = pairs.reshape(height, width, height, width)
    score = np.clip(pairs.sum(), -1, 1)
    return Explanation(float(score), pairs, *photos)


def _pooling_and_head(encoder):
    """The layer that pools over places, and all that is behind it."""
    # With the sums and products that are no layers.
    operations = encoder.operations
    pooled = [isinstance(one, tuple(LAYERS.values())) for one in operations]
    if not any(pooled):
        raise ValueError(
            f"Only vectors pooled over places can be explained; {encoder.name} pools nothing."
        )
    last = np.flatnonzero(pooled)[-1]
    if operations[last].input.shape[1:3] == (1, 1):
        raise ValueError(
            f"{encoder.name} looks at a photo as a whole: there are no places to tell apart."
        )
    return operations[last], operations[last + 1 :]


def _parts_behind(layer, parts):
    """What each place [places, dim] gives to what a layer makes of their sum."""
    whole = parts.sum(axis=0)
    if isinstance(layer, keras.layers.Dropout):
        return parts
    if isinstance(layer, keras.layers.UnitNormalization):
        return parts / np.linalg.norm(whole)
    if isinstance(layer, keras.layers.LayerNormalization):
        weights, bias = layer.get_weights()
        spread = np.sqrt(whole.var() + layer.epsilon)
        parts = parts - parts.mean(axis=1, keepdims=True)
        return parts / spread * weights + bias / len(parts)
    if isinstance(layer, keras.layers.Dense) and layer.activation in ACTIVATIONS:
        weights, bias = [*layer.get_weights(), 0][:2]
        parts = parts @ np.float64(weights) + bias / len(parts)
        if layer.activation is keras.activations.relu:
            parts = parts * (parts.sum(axis=0) > 0)
        return parts
    raise ValueError(
        f"What ends in the layer {layer.name!r} cannot be explained: it is no sum over places."
    )
