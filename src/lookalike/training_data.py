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
from PIL import Image, ImageEnhance

from lookalike.images import load_image
from lookalike.machine import parallel_map, progress

IN_MEMORY = 2_000_000_000  # bytes of cached features; what is larger goes to a file
LARGER = (
    1.15  # photos are decoded that much larger than they are fed, so that zooming in stays sharp
)
Take = Callable[[np.ndarray, np.ndarray], np.ndarray]  # numbers of views and of photos to a batch


def augment(pixels: np.ndarray, size: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """One random variant of a photo: mirrored or not, turned, zoomed and shifted a little, in
    another light.

    Up to 15 degrees, 80 to 110 % of its width, a tenth of its width aside, and 25 % of brightness,
    contrast and saturation; beyond its edge the photo is reflected. `pixels`, uint8, are best a
    little larger than `size`.
    """
    height, width = pixels.shape[:2]
    margin = max(height, width) // 3 + 1
    wide = Image.fromarray(
        np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")
    )
    angle = np.deg2rad(random.uniform(-15, 15))
    zoom = random.uniform(0.8, 1.1)
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn * [random.choice([-1, 1]) * width / size[1], height / size[0]]
    centre = margin + np.array([width, height]) * (0.5 + random.uniform(-0.1, 0.1, 2))
    corner = centre - turn @ [size[1] / 2, size[0] / 2]
    matrix = (*turn[0], corner[0], *turn[1], corner[1])
    photo = wide.transform(
        (size[1], size[0]), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        photo = change(photo).enhance(random.uniform(0.75, 1.25))
    return np.asarray(photo)


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
        self.take = take
        self.targets = targets
        self.weights = weights
        self.views = views
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
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
