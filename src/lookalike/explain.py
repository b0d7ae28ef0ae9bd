"""Why two photos are alike: the share of every pair of places in their cosine similarity."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import keras
import numpy as np

from lookalike.images import File, fitted
from lookalike.pooling import LAYERS, shares
from lookalike.transformers import WHOLE


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
    def query_map(self) -> np.ndarray:
        """What each place of the query adds to the score, [h, w]."""
        return self.pairs.sum(axis=(2, 3))

    @property
    def result_map(self) -> np.ndarray:
        """What each place of the result adds to the score, [h', w']."""
        return self.pairs.sum(axis=(0, 1))


def explain(
    encoder: keras.Model,
    query: File | np.ndarray,
    result: File | np.ndarray,
    *,
    fit: str = "resize",
) -> Explanation:
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
    pooling, steps = _pooling_and_head(encoder)
    size = encoder.input_shape[1:3]
    photos = [fitted(image, size, fit=fit) for image in (query, result)]
    maps = _until(encoder, pooling)(np.stack(photos).astype(np.float32), training=False)
    sums = []
    for features in np.asarray(maps):
        parts = shares(pooling, features.reshape(-1, features.shape[-1]))
        for layer in steps:
            whole = parts.sum(axis=0)
            weights, bias = [*layer.get_weights(), 1, 0][:2]
            if isinstance(layer, keras.layers.UnitNormalization):
                parts = parts / np.linalg.norm(whole)
            elif isinstance(layer, keras.layers.LayerNormalization):
                spread = np.sqrt(whole.var() + layer.epsilon)
                parts = (parts - parts.mean(axis=1, keepdims=True)) / spread * weights
            else:
                parts = parts @ weights.astype(np.float64)
            parts = parts + bias / len(parts)
            if getattr(layer, "activation", None) is keras.activations.relu:
                parts = parts * (parts.sum(axis=0) > 0)
        length = np.linalg.norm(parts.sum(axis=0))
        sums.append(parts / (length or 1))
    pairs = (sums[0] @ sums[1].T).reshape(2 * tuple(maps.shape[1:3]))
    return Explanation(float(np.clip(pairs.sum(), -1, 1)), pairs, *photos)


@functools.lru_cache(2)
def _until(encoder: keras.Model, pooling: keras.layers.Layer) -> keras.Model:
    """The encoder up to its pooling; made once, as a server explains a thousand times."""
    return keras.Model(encoder.input, pooling.input)


def _pooling_and_head(encoder: keras.Model) -> tuple[keras.layers.Layer, list[keras.layers.Layer]]:
    """The layer that pools over places, and what is behind it and changes a vector's direction."""
    operations = encoder.operations  # with the sums and products that are no layers
    places = [
        place for place, one in enumerate(operations) if isinstance(one, tuple(LAYERS.values()))
    ]
    if not places:
        raise ValueError(
            f"Only vectors pooled over places can be explained; {encoder.name} pools nothing."
        )
    before = operations[places[-1] - 1]
    if isinstance(before, keras.Model) and before.layers[-1].name == WHOLE:
        raise ValueError(
            f"{encoder.name} looks at a photo as a whole: there are no places to tell apart."
        )
    head = [
        one for one in operations[places[-1] + 1 :] if not isinstance(one, keras.layers.Dropout)
    ]
    scaling = (keras.layers.LayerNormalization, keras.layers.UnitNormalization)
    simple = (keras.activations.linear, keras.activations.relu)
    for one in head:
        is_sum = isinstance(one, keras.layers.Dense) and one.activation in simple
        if not is_sum and not isinstance(one, scaling):
            raise ValueError(
                f"{encoder.name} cannot be explained: its layer {one.name!r} is no sum over places."
            )
    return operations[places[-1]], head
