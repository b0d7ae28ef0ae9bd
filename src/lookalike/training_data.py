"""Photos in augmented views, and what the frozen half of a network makes of them, as batches for
training.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from lookalike.images import augment, load_image
from lookalike.workspace import parallel_map, progress

IN_MEMORY = 2_000_000_000  # bytes of cached features; what is larger goes to a file
LARGER = (
    1.15  # photos are decoded that much larger than they are fed, so that zooming in stays sharp
)
Take = Callable[[np.ndarray, np.ndarray], np.ndarray]  # numbers of views and of photos to a batch


def augmented_photos(paths: list[str], size: tuple[int, int], seed: int) -> Take:
    """Photos as pixels; view 0 is the photo itself, every other number one random variant, always
    the same.
    """
    larger = tuple(round(LARGER * side) for side in size)
    # One photo is often asked for several views in a row.
    load = functools.lru_cache(maxsize=256)(load_image)

    def view(pair: tuple[int, int]) -> np.ndarray:
        number, index = pair
        if number == 0:
            return load_image(paths[index], size)
        return augment(
            load(paths[index], larger), size, np.random.default_rng([seed, number, index])
        )

    def take(numbers: np.ndarray, indices: np.ndarray) -> np.ndarray:
        return np.stack(
            list(parallel_map(view, zip(numbers.tolist(), indices.tolist(), strict=True)))
        )

    return take


def augmented_features(lower: keras.Model, take: Take, count: int, views: int, file: Path) -> Take:
    """What the frozen half makes of each view of each photo, computed once; float16, in memory or
    in a file.
    """
    shape = (views, count, *lower.output_shape[1:])
    large = 2 * np.prod(shape, dtype=float) > IN_MEMORY
    store = (
        np.lib.format.open_memmap(file, "w+", np.float16, shape)
        if large
        else np.empty(shape, np.float16)
    )
    # Else a disk that becomes full kills the process that writes to a map.
    if large and hasattr(os, "posix_fallocate"):
        with open(file, "r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, store.offset + store.nbytes)
    compute = tf.function(
        lambda pixels: lower(tf.cast(pixels, tf.float32), training=False), reduce_retracing=True
    )
    with progress(
        total=views * count, description="Computing the frozen half", unit="views"
    ) as bar:
        for start in range(0, count, 64):
            indices = np.arange(start, min(start + 64, count))
            for number in range(views):
                store[number, indices] = compute(take(np.full(len(indices), number), indices))
                bar.update(len(indices))
    return lambda numbers, indices: store[numbers, indices].astype(np.float32)


class Batches(keras.utils.PyDataset):
    """Batches in another order each epoch, of another view of each photo."""

    def __init__(self, take, targets, weights, views, batch_size, seed, epoch, shuffled=True):
        super().__init__()
        self.take, self.targets, self.weights = take, targets, weights
        self.views, self.batch_size, self.seed, self.epoch = views, batch_size, seed, epoch
        self.shuffled = shuffled

    def __len__(self) -> int:
        return -(-len(self.targets) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        count = len(self.targets)
        order = (
            np.random.default_rng([self.seed, self.epoch]).permutation(count)
            if self.shuffled
            else np.arange(count)
        )
        begins = np.random.default_rng(self.seed).integers(self.views, size=count)
        indices = np.sort(order[index * self.batch_size : (index + 1) * self.batch_size])
        numbers = (begins[indices] + self.epoch) % self.views
        return self.take(numbers, indices), self.targets[indices], self.weights[indices]

    def on_epoch_end(self) -> None:
        self.epoch += 1
