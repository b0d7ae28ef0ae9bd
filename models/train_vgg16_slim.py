"""Train VGG16Slim, the small bundled encoder, by letting a network with ImageNet weights teach it.

python models/train_vgg16_slim.py --data DIR --teacher FILE [--drawn DIR ...] [--validation DIR] [--minutes 45]

The teacher is MobileNetV2 of width 0.35. It looks at the very view that the student looks at, a
random crop, recoloured, perhaps mixed with another one, and so tells what any piece of any picture
resembles, labelled or not. The student learns from three things, all of which act on the pooled
features that are compared in use:

- which direction the teacher's features have, through a linear map that is thrown away afterwards;
- how alike the teacher finds the views of a batch, which the cosines of the student's own features
  have to repeat;
- the labels of the photos.

Each convolution is trained with batch normalisation behind it, which is folded into its kernel and
bias at the end, and so is a factor for each feature that makes all of them vary equally over the
photos.

Sources: Beyer and others, "Knowledge distillation: a good teacher is patient and consistent", CVPR
2022 (same view for both, mixing, long training); Asano and Saeed, "The augmented image prior:
distilling 1000 classes by extrapolating from a single image", ICLR 2023 (small crops of few
pictures teach much beyond them).
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from lookalike.backbones import build_encoder
from lookalike.embeddings import embed_images
from lookalike.images import pixel_batches
from lookalike.metrics import precision_at_k
from lookalike.rankings import rank
from lookalike.sources import load_catalog
from lookalike.vgg16_slim import vgg16_slim

STORED_SIZE = 224  # photos wait in memory at this side, as uint8
STUDENT_SIZE = 128  # side of a view
TEACHER_SIZE = (
    160  # views are enlarged to this for the teacher, which then ranks nearly as well as at 224
)
# Up to which share of the training the student sees views of which side: small ones are fast, and
# teach the most part. Source: Tan and Le, "EfficientNetV2: smaller models and faster training",
# ICML 2021 (progressive learning).
SIZES = ((0.35, 64), (0.75, 96), (1, STUDENT_SIZE))
BATCH = 64
LEARNING_RATE = 2e-3
WARM_UP = 0.02  # share of the training over which the learning rate rises
SMALLEST_CROP = 0.08  # share of the picture's area
# of views; half of them laid over each other, half pasted. More slows a short training down
MIXED_SHARE = 0.2
PHOTO_SHARE = 0.8  # of photos in a batch; the rest is drawn
RELATION_WEIGHT = 1.0  # beside 1 for the direction
TEMPERATURE = 0.1  # the smaller, the more only the nearest views count
LABEL_WEIGHT = 1.0  # teaches the labels at hand; the more, the less of all else
CHECKPOINT_SECONDS = 240


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="training photos, one folder a label"
    )
    parser.add_argument(
        "--teacher", type=Path, required=True, help="MobileNetV2 0.35 without top, .weights.h5"
    )
    parser.add_argument(
        "--drawn", type=Path, nargs="*", default=[], help="folders of more pictures, without labels"
    )
    parser.add_argument(
        "--validation", type=Path, help="photos that search among --data, only to measure"
    )
    parser.add_argument(
        "--epochs",
        type=int,
        help="at most so many times as many views as pictures; 60 without --minutes",
    )
    parser.add_argument(
        "--minutes", type=float, help="at most so long; the learning rate falls to end in time"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).with_name("vgg16_slim.weights.h5")
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint beside --out"
    )
    options = parser.parse_args(arguments)
    if options.epochs is None and options.minutes is None:
        options.epochs = 60
    return options


def load_pictures(photos: Path, drawn: list[Path]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What to learn from: photos with their labels, and drawn pictures without, of which the
    teacher alone tells.

    Returns
    -------
    pictures : uint8 [n, STORED_SIZE, STORED_SIZE, 3]
    labels : float32 [n, labels], 1 at the label of a photo, 0 throughout for a drawn picture
    chances : float64 [n], of getting into a batch: `PHOTO_SHARE` together for the photos
    """
    catalogs = [load_catalog("folder", folder)[0] for folder in (photos, *drawn)]
    counts = [len(catalogs[0]), sum(map(len, catalogs[1:]))]
    catalog = pd.concat(catalogs, ignore_index=True)
    pictures = np.concatenate(list(pixel_batches(catalog["path"], STORED_SIZE)))
    numbers, names = pd.factorize(catalogs[0]["label"])
    labels = np.zeros((len(catalog), len(names)), np.float32)
    labels[np.arange(len(numbers)), numbers] = 1
    print(f"{counts[0]:,} photos of {len(names)} labels, {counts[1]:,} drawn pictures")
    chances = np.repeat([PHOTO_SHARE / counts[0], (1 - PHOTO_SHARE) / max(1, counts[1])], counts)
    return pictures, labels, chances / chances.sum()


def training_network() -> keras.Model:
    """VGG16Slim with batch normalisation after each convolution: pixels of any size to pooled
    features.
    """
    image = keras.Input((None, None, 3))
    # About a fifth faster than float32 on processors that have it.
    policy = keras.DTypePolicy("mixed_bfloat16")
    x = image
    for layer in vgg16_slim().layers[1:]:
        if isinstance(layer, keras.layers.MaxPooling2D):
            x = keras.layers.MaxPooling2D(2, dtype=policy)(x)
            continue
        options = {"kernel_initializer": "he_normal", "dtype": policy, "name": layer.name}
        x = keras.layers.Conv2D(layer.filters, 3, padding="same", use_bias=False, **options)(x)
        x = keras.layers.BatchNormalization(
            momentum=0.98, dtype=policy, name=layer.name.replace("conv", "norm")
        )(x)
        x = keras.layers.ReLU(dtype=policy)(x)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D(dtype="float32")(x))


def throwaway_head(width: int) -> keras.Model:
    """A linear map of pooled features, normalised first: at the start they hardly differ from view
    to view.
    """
    normalise = keras.layers.BatchNormalization(center=False, scale=False)
    return keras.Sequential([keras.Input((128,)), normalise, keras.layers.Dense(width)])


def fold(student: keras.Model, network: keras.Model) -> None:
    """Write the student's convolutions, with their normalisation multiplied in, into a `vgg16_slim`
    network.
    """
    for layer in network.layers:
        if not isinstance(layer, keras.layers.Conv2D):
            continue
        kernel = student.get_layer(layer.name).get_weights()[0]
        normalisation = student.get_layer(layer.name.replace("conv", "norm"))
        scale, shift, mean, variance = normalisation.get_weights()
        factor = scale / np.sqrt(variance + normalisation.epsilon)
        layer.set_weights([kernel * factor, shift - mean * factor])


def check_folding(student: keras.Model, encoder: keras.Model, pixels: np.ndarray) -> float:
    """The largest difference between the student in float32 and the folded encoder, relative to the
    largest output.
    """
    exact = keras.models.clone_model(
        student,
        clone_function=lambda layer: type(layer).from_config(
            layer.get_config() | {"dtype": "float32"}
        ),
    )
    exact.set_weights(student.get_weights())
    expected = exact(
        keras.applications.vgg16.preprocess_input(tf.cast(pixels, tf.float32)), training=False
    ).numpy()
    difference = (
        np.abs(expected - encoder(pixels.astype(np.float32)).numpy()).max() / np.abs(expected).max()
    )
    assert difference < 1e-4, f"folding changed the features by {difference:.1e}"
    return difference


def equalise(encoder: keras.Model, photos: list[str]) -> None:
    """Scale the last convolution so that every feature varies equally over the training photos.

    In training the heads saw the features normalised; bare cosine would let those that vary most
    decide alone. A positive factor passes through ReLU, maximum and mean, so it can be folded into
    the convolution.
    """
    factor = 1 / np.maximum(embed_images(encoder, photos).std(axis=0), 1e-6)
    layer = encoder.get_layer("vgg16_slim").get_layer("block5_conv3")
    layer.set_weights([weight * factor for weight in layer.get_weights()])


def random_views(
    pictures: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Crop, flip, recolour and mix a batch of uint8 pictures: float32 views 0-255 and mixed labels.

    A view is mixed with its neighbour in the batch either all over (Zhang and others, "mixup", ICLR
    2018) or by pasting a box (Yun and others, "CutMix", ICCV 2019).
    """
    count = pictures.shape[0]
    seeds = iter(tf.unstack(tf.random.split(seed, 16)))

    def uniform(low: float, high: float, *shape: int) -> tf.Tensor:
        return tf.random.stateless_uniform((count, *shape), next(seeds), low, high)

    area, aspect = uniform(SMALLEST_CROP, 1), tf.exp(uniform(-0.3, 0.3))
    height, width = tf.minimum(tf.sqrt(area * aspect), 1), tf.minimum(tf.sqrt(area / aspect), 1)
    top, left = uniform(0, 1) * (1 - height), uniform(0, 1) * (1 - width)
    flipped = uniform(0, 1) < 0.5
    first, last = tf.where(flipped, left + width, left), tf.where(flipped, left, left + width)
    boxes = tf.stack([top, first, top + height, last], axis=1)
    views = tf.image.crop_and_resize(pictures, boxes, tf.range(count), (STUDENT_SIZE, STUDENT_SIZE))

    # Saturation, contrast, brightness and tint are one matrix and one shift for each view, which
    # costs a fifth.
    saturation, contrast = uniform(0, 1.6, 1, 1), tf.exp(uniform(-0.5, 0.4, 1, 1))
    brightness, tint = tf.exp(uniform(-0.4, 0.4, 1, 1)), tf.exp(uniform(-0.15, 0.15, 1, 3))
    colours = (saturation * tf.eye(3) + (1 - saturation) / 3) * tint
    views = tf.reshape(views, (count, -1, 3))
    shift = tf.reduce_mean(views, axis=1, keepdims=True) @ colours * (brightness - contrast)
    views = tf.clip_by_value(views @ (colours * contrast) + shift, 0, 255)
    views = tf.reshape(views, (count, STUDENT_SIZE, STUDENT_SIZE, 3))

    share, kind = uniform(0, 1, 1, 1, 1), uniform(0, 1, 1, 1, 1)
    place = (tf.range(STUDENT_SIZE, dtype=tf.float32) + 0.5) / STUDENT_SIZE
    side, corner = tf.sqrt(share), uniform(0, 1, 2, 1, 1)
    rows = tf.abs(place[None, :, None, None] - corner[:, 0, None]) < side / 2
    columns = tf.abs(place[None, None, :, None] - corner[:, 1, None]) < side / 2
    box = tf.cast(rows & columns, tf.float32)
    mask = tf.where(kind < MIXED_SHARE / 2, box, tf.where(kind < MIXED_SHARE, share, 0.0))
    views += mask * (tf.roll(views, 1, axis=0) - views)
    portion = tf.reduce_mean(tf.broadcast_to(mask, tf.shape(box)), axis=(1, 2))
    return views, labels + portion * (tf.roll(labels, 1, axis=0) - labels)


def teacher_features(teacher: keras.Model, views: tf.Tensor) -> tf.Tensor:
    """What the teacher sees, under a square root: it tames the few large features, and ranks
    slightly better.
    """
    views = tf.image.resize(views, (TEACHER_SIZE, TEACHER_SIZE))
    return tf.sqrt(teacher(views / 127.5 - 1, training=False))


def relation_loss(features: tf.Tensor, target: tf.Tensor, sharpness: tf.Tensor) -> tf.Tensor:
    """How differently student and teacher rank the rest of a batch by cosine: mean Kullback-Leibler
    divergence.

    The student's cosines are multiplied by `sharpness`, which is learnt: what counts is their
    order, not their range. Source: Fang and others, "SEED: self-supervised distillation for visual
    representation", ICLR 2021, here within a batch and on the student's bare features.
    """
    itself = tf.eye(features.shape[0]) * 1e4

    def log_shares(vectors: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
        vectors = tf.math.l2_normalize(vectors, axis=1)
        return tf.nn.log_softmax(vectors @ tf.transpose(vectors) * factor - itself)

    wanted = log_shares(target, 1 / TEMPERATURE)
    return tf.reduce_mean(
        tf.reduce_sum(tf.exp(wanted) * (wanted - log_shares(features, sharpness)), axis=1)
    )


class Trainer:
    """The networks, the optimiser and the pictures, and one step of training with them."""

    def __init__(
        self,
        pictures: np.ndarray,
        labels: np.ndarray,
        chances: np.ndarray,
        teacher: Path,
        seed: int,
    ):
        """Pictures, labels and chances as `load_pictures` gives them."""
        self.pictures, self.labels, self.chances, self.seed = pictures, labels, chances, seed
        self.teacher = keras.applications.MobileNetV2(
            (TEACHER_SIZE, TEACHER_SIZE, 3),
            alpha=0.35,
            include_top=False,
            weights=str(teacher),
            pooling="avg",
        )
        keras.utils.set_random_seed(seed)
        self.student = training_network()
        self.translate, self.classify = throwaway_head(1280), throwaway_head(labels.shape[1])
        models = (self.student, self.translate, self.classify)
        self.weights = [weight for model in models for weight in model.trainable_variables]
        self.sharpness = tf.Variable(math.log(2 / TEMPERATURE), dtype=tf.float32)
        self.weights.append(self.sharpness)
        self.optimiser = keras.optimizers.Adam(LEARNING_RATE, global_clipnorm=5.0)
        self.optimiser.build(self.weights)
        self.mean = tf.Variable(tf.zeros(1280), trainable=False)
        self.mean.assign(
            tf.reduce_mean(
                [self._target(*self._batch(10**9 + step)) for step in range(16)], axis=(0, 1)
            )
        )

    def _batch(self, number: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        random = np.random.default_rng([self.seed, number])
        chosen = random.choice(len(self.pictures), BATCH, p=self.chances)
        return (
            tf.constant(self.pictures[chosen]),
            tf.constant(self.labels[chosen]),
            tf.constant([self.seed, number]),
        )

    @tf.function
    def _target(self, pictures: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return teacher_features(self.teacher, random_views(pictures, labels, seed)[0])

    @tf.function
    def _learn(
        self, pictures: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, size: int
    ) -> tf.Tensor:
        views, labels = random_views(pictures, labels, seed)
        target = teacher_features(self.teacher, views) - self.mean
        pixels = keras.applications.vgg16.preprocess_input(tf.image.resize(views, (size, size)))
        with tf.GradientTape() as tape:
            features = self.student(pixels, training=True)
            direction = 1 + tf.reduce_mean(
                keras.losses.cosine_similarity(target, self.translate(features, training=True))
            )
            relation = relation_loss(features, target, tf.exp(self.sharpness))
            # Written out: the gradient of TensorFlow's own cross-entropy is right only for labels
            # that add up to 1.
            shares = tf.nn.log_softmax(self.classify(features, training=True))
            label = -tf.reduce_mean(tf.reduce_sum(labels * shares, axis=1))
            loss = direction + RELATION_WEIGHT * relation + LABEL_WEIGHT * label
        self.optimiser.apply(tape.gradient(loss, self.weights), self.weights)
        return tf.stack([direction, relation, label])

    def step(self, number: int, progress: float) -> tf.Tensor:
        """Learn from the next batch, `progress` of the way through the training; the three losses."""
        rise = min(1, progress / WARM_UP)
        self.optimiser.learning_rate = (
            LEARNING_RATE * max(0.01, rise) * (1 + math.cos(math.pi * progress)) / 2
        )
        size = next(size for share, size in SIZES if progress < share)
        return self._learn(*self._batch(number), size)


def validation_catalog(gallery: Path, queries: Path) -> pd.DataFrame:
    """Photos that are searched in, as the split train, and photos that search, as the split
    validation.
    """
    sides = [load_catalog("folder", folder)[0] for folder in (gallery, queries)]
    catalog = pd.concat([sides[0].assign(split="train"), sides[1].assign(split="validation")])
    return catalog.assign(product_id=catalog["path"])


def measure(encoder: keras.Model, catalog: pd.DataFrame) -> float:
    """Mean Precision@10 of photos that were never trained on, searching among those that were."""
    batches = pixel_batches(catalog["path"], STUDENT_SIZE)
    vectors = np.concatenate([encoder(batch.astype(np.float32)) for batch in batches])
    return float(
        precision_at_k(
            rank(vectors, catalog, gallery_split="train", query_split="validation"), 10
        ).mean()
    )


def save_aside(network: keras.Model, file: Path) -> None:
    """Save weights under another name and rename, so that `file` is whole at any time."""
    aside = file.with_name(f"aside-{file.name}")
    network.save_weights(aside)
    os.replace(aside, file)


def train(options: argparse.Namespace, trainer: Trainer, encoder: keras.Model) -> None:
    """Run the training, print one line an epoch, and keep `--out` and a checkpoint up to date."""
    network = encoder.get_layer("vgg16_slim")
    validation = (
        None if options.validation is None else validation_catalog(options.data, options.validation)
    )
    done, seconds = tf.Variable(0, dtype=tf.int64), tf.Variable(0.0, dtype=tf.float64)
    checkpoint = tf.train.Checkpoint(
        models=[trainer.student, trainer.translate, trainer.classify],
        optimiser=trainer.optimiser,
        variables=[trainer.sharpness, trainer.mean, done, seconds],
    )
    manager = tf.train.CheckpointManager(
        checkpoint, str(options.out.with_suffix(".checkpoint")), max_to_keep=1
    )
    if options.resume and manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint)
        print(f"Resumed after {int(done)} steps and {float(seconds) / 60:.1f} minutes.")
    epoch_steps = max(1, len(trainer.pictures) // BATCH)
    steps = epoch_steps * options.epochs if options.epochs else math.inf
    limit = options.minutes * 60 if options.minutes else math.inf
    number, started, saved, losses = (
        int(done),
        time.monotonic() - float(seconds),
        time.monotonic(),
        [],
    )
    while (progress := max(number / steps, (time.monotonic() - started) / limit)) < 1:
        losses.append(trainer.step(number, progress))
        number += 1
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            saved = time.monotonic()
            done.assign(number)
            seconds.assign(saved - started)
            manager.save()
            fold(trainer.student, network)
            save_aside(network, options.out)
        if number % epoch_steps == 0:
            report = "direction {:.3f}, relation {:.3f}, label {:.3f}".format(
                *np.mean(losses, axis=0)
            )
            if validation is not None and number // epoch_steps % 10 == 0:
                fold(trainer.student, network)
                report += f", Precision@10 {measure(encoder, validation):.3f}"
            minutes = (time.monotonic() - started) / 60
            print(
                f"epoch {number // epoch_steps}, {minutes:.1f} min, {progress:.0%}: {report}",
                flush=True,
            )
            losses = []
    fold(trainer.student, network)
    difference = check_folding(
        trainer.student, encoder, trainer.pictures[:8, :STUDENT_SIZE, :STUDENT_SIZE]
    )
    equalise(encoder, load_catalog("folder", options.data)[0]["path"].tolist())
    save_aside(network, options.out)
    print(
        f"{number * BATCH:,} views seen; folding differs by {difference:.0e}; saved {options.out}"
    )
    if validation is not None:
        print(f"Precision@10 {measure(encoder, validation):.4f}")


def main(arguments: list[str] | None = None) -> None:
    """Load, train, save."""
    options = parse_arguments(arguments)
    trainer = Trainer(*load_pictures(options.data, options.drawn), options.teacher, options.seed)
    train(
        options, trainer, build_encoder("VGG16Slim", weights=None, pooling="avg", seed=options.seed)
    )


if __name__ == "__main__":
    main()
