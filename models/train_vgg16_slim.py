"""Train VGG16Slim, the small bundled encoder, by letting a network with ImageNet weights teach it.

python models/train_vgg16_slim.py --data DIR DIR --drawn DIR DIR --teacher FILE --out FILE

Teacher and student look at the same views: random crops of any picture, in another light, perhaps
two of them mixed. From each batch the student learns

- `direction`: where the teacher's vector points, through a linear map that is thrown away;
- `relation`: which views of the batch the teacher finds alike, by cosine of its own vectors;
- `label`: what is on a photo, as its folder says; the first two teach without labels, too.

Interrupted, the same command goes on after the last whole epoch.

Sources: Beyer and others, "Knowledge distillation: a good teacher is patient and consistent", CVPR
2022; Asano and Saeed, "The augmented image prior", ICLR 2023; Fang and others, "SEED", ICLR 2021.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import layers, ops
from keras.callbacks import BackupAndRestore, CSVLogger
from keras.optimizers.schedules import CosineDecay

from lookalike.backbones import build_encoder
from lookalike.embeddings import embed_images
from lookalike.images import pixel_batches
from lookalike.pooling import pooling_layer
from lookalike.sources import load_catalog
from lookalike.vgg16_slim import vgg16_slim

EPOCHS, STEPS, BATCH = 60, 190, 64
# Up to which share of the training the student sees views of which side: small ones are fast, and
# teach the most part. Source: Tan and Le, "EfficientNetV2", ICML 2021 (progressive learning).
SIZES = ((0.4, 64), (0.8, 96), (1.0, 128))
STORED_SIZE = 224  # pictures wait in memory at this side, as uint8
TEACHER_SIZE = 160  # where the teacher ranks nearly as well as at 224
SMALLEST_CROP = 0.08  # share of the picture's area
MIXED_SHARE = 0.2  # of views, with another view all over or in a box
DRAWN_SHARE = 0.15  # of views; the photos' folders share the rest equally
TEMPERATURE = 0.1  # of the teacher's cosines: the smaller, the more only the nearest views count
SHARPNESS = 20.0  # factor of the student's cosines, which lie closer together


def load_pictures(photos: list[Path], drawn: list[Path]):
    """Pictures, uint8 [n, STORED_SIZE, STORED_SIZE, 3]; their labels, float32 [n, n_labels], 0
    throughout for a drawn one; and how likely each is the next one seen, float32 [n].
    """
    catalogs = [load_catalog("folder", folder)[0] for folder in (*photos, *drawn)]
    catalog = pd.concat(catalogs, ignore_index=True)
    folder = np.repeat(np.arange(len(catalogs)), [len(one) for one in catalogs])
    catalog.loc[folder >= len(photos), "label"] = None
    labels = pd.get_dummies(catalog["label"], dtype=np.float32).to_numpy()
    shares = [(1 - DRAWN_SHARE) / len(photos) for _ in photos]
    shares += [DRAWN_SHARE / len(drawn) for _ in drawn]
    chances = np.array(shares)[folder] / np.bincount(folder)[folder]
    pictures = np.concatenate(list(pixel_batches(catalog["path"], STORED_SIZE)))
    n_photos = int(labels.sum())
    print(f"{n_photos:,} photos of {labels.shape[1]} labels, {len(labels) - n_photos:,} drawn")
    return pictures, labels, chances.astype(np.float32)


def random_crops(pictures, size: int, uniform):
    """A piece of each picture, half of them mirrored, at side `size`; float32, 0 to 255."""
    area, aspect = uniform(SMALLEST_CROP, 1), tf.exp(uniform(-0.3, 0.3))
    height = tf.minimum(tf.sqrt(area * aspect), 1)
    width = tf.minimum(tf.sqrt(area / aspect), 1)
    top, left = uniform(0, 1) * (1 - height), uniform(0, 1) * (1 - width)
    # Of a mirrored piece the right side comes first.
    mirrored = tf.where(uniform(0, 1) < 0.5, width, 0)
    boxes = tf.stack([top, left + mirrored, top + height, left + width - mirrored], axis=1)
    return tf.image.crop_and_resize(pictures, boxes, tf.range(len(pictures)), (size, size))


def other_light(views, uniform):
    """Brighter or darker, harder or softer, warmer or colder: what light does, and no other hue."""
    mean = tf.reduce_mean(views, axis=(1, 2), keepdims=True)
    views = mean + (views - mean) * tf.exp(uniform(-0.3, 0.3, 1, 1, 1))
    grey = tf.reduce_mean(views, axis=3, keepdims=True)
    views = grey + (views - grey) * uniform(0.75, 1.25, 1, 1, 1)
    warmth = uniform(-0.1, 0.1, 1, 1, 1) * [1.0, 0.0, -1.0]
    return tf.clip_by_value(views * tf.exp(warmth + uniform(-0.35, 0.35, 1, 1, 1)), 0, 255)


def mixed(views, labels, uniform):
    """Some views mixed with the next one of the batch, and their labels in the same proportion."""
    # Sources: Zhang and others, "mixup", ICLR 2018; Yun and others, "CutMix", ICCV 2019.
    share, kind = uniform(0, 1, 1, 1, 1), uniform(0, 1, 1, 1, 1)
    row, column = uniform(0, 1, 1, 1, 1), uniform(0, 1, 1, 1, 1)
    place, reach = tf.linspace(0.0, 1.0, views.shape[1]), tf.sqrt(share) / 2
    box = tf.abs(place[:, None, None] - row) < reach
    box &= tf.abs(place[None, :, None] - column) < reach
    mask = tf.where(kind < MIXED_SHARE / 2, tf.cast(box, tf.float32), share)
    mask = tf.where(kind < MIXED_SHARE, mask, 0.0)
    portion = tf.reduce_mean(mask, axis=(1, 2))
    views += mask * (tf.roll(views, 1, axis=0) - views)
    return views, labels + portion * (tf.roll(labels, 1, axis=0) - labels)


def random_views(pictures, labels, seed, size: int):
    """Crop, light and mix a batch of pictures; equal for an equal `seed`, int32 [2]."""
    seeds = iter(tf.unstack(tf.random.split(seed, 16)))

    def uniform(low, high, *shape):
        return tf.random.stateless_uniform((len(pictures), *shape), next(seeds), low, high)

    views = other_light(random_crops(pictures, size, uniform), uniform)
    return mixed(views, labels, uniform)


def lesson(pictures, labels, chances, teacher: keras.Model, seed: int, first: int):
    """Batch by batch, from number `first` on: views for the student, and what it has to learn."""
    steps = EPOCHS * STEPS
    pictures, labels = tf.constant(pictures), tf.constant(labels)
    chances = tf.math.log(chances)[None]

    def draw(number):
        numbers = tf.stack([seed, tf.cast(number, tf.int32)])
        drawn = tf.reshape(tf.random.stateless_categorical(chances, BATCH, numbers), [BATCH])
        chosen = tf.gather(pictures, drawn), tf.gather(labels, drawn)
        return number, *random_views(*chosen, numbers, TEACHER_SIZE)

    def taught(views):
        # The square root tames the few large features.
        return tf.sqrt(teacher(views / 127.5 - 1, training=False))

    sides = tf.constant([side for _, side in SIZES])
    ends = tf.constant([round(share * steps) for share, _ in SIZES[:-1]], tf.int64)
    afterwards = tf.data.Dataset.range(steps, steps + 16).map(draw)
    mean = tf.reduce_mean([taught(views) for _, views, _ in afterwards], axis=(0, 1))

    def teach(number, views, label):
        target = taught(views) - mean
        size = sides[tf.math.count_nonzero(number >= ends)]
        small = tf.image.resize(views, (size, size), antialias=True)
        pixels = keras.applications.vgg16.preprocess_input(small)
        return pixels, {"direction": target, "relation": target, "label": label}

    return tf.data.Dataset.counter(first).map(draw).map(teach).prefetch(2)


def build_student(n_labels: int, n_taught: int, dtype: str = "mixed_bfloat16") -> keras.Model:
    """VGG16Slim with batch normalisation after each convolution, and heads that are thrown away."""
    # bfloat16 is about a sixth faster than float32 on processors that have it.
    policy = keras.DTypePolicy(dtype)
    image = x = keras.Input((None, None, 3))
    for layer in vgg16_slim().layers[1:]:
        if isinstance(layer, layers.MaxPooling2D):
            x = layers.MaxPooling2D(2, dtype=policy)(x)
            continue
        form = layer.get_config() | {"use_bias": False, "activation": None, "dtype": policy}
        x = layers.Conv2D(**form)(x)
        name = layer.name.replace("conv", "norm")
        x = layers.BatchNormalization(momentum=0.98, dtype=policy, name=name)(x)
        x = layers.ReLU(dtype=policy)(x)
    # Pooled as in use; the heads see the features at one scale.
    features = pooling_layer("gem")(x)
    scaled = layers.BatchNormalization(center=False, scale=False)(features)
    direction, label = layers.Dense(n_taught)(scaled), layers.Dense(n_labels)(scaled)
    return keras.Model(image, {"direction": direction, "relation": features, "label": label})


def relation_loss(taught, features):
    """How differently the student ranks the rest of the batch: a Kullback-Leibler divergence."""
    # At one scale, as the encoder is saved.
    features = features / (ops.std(features, axis=0) + 1e-6)
    itself = 1e4 * ops.eye(ops.shape(features)[0])

    def log_shares(vectors, sharpness):
        vectors = ops.normalize(vectors, axis=1)
        return ops.log_softmax(vectors @ ops.transpose(vectors) * sharpness - itself)

    wanted = log_shares(taught, 1 / TEMPERATURE)
    return ops.sum(ops.exp(wanted) * (wanted - log_shares(features, SHARPNESS)), axis=1)


def label_loss(labels, scores):
    """Cross-entropy. Keras' own has no right gradient for drawn pictures, whose labels are 0."""
    return -ops.sum(labels * ops.log_softmax(scores), axis=1)


def encoder_of(student: keras.Model, photos) -> keras.Model:
    """VGG16Slim, the student's normalisation folded in, and each feature divided by its spread over
    `photos`, without which those that vary most would decide alone.
    """
    encoder = build_encoder("VGG16Slim", weights=None)
    network = encoder.get_layer("vgg16_slim")
    for layer in network.layers:
        if isinstance(layer, layers.Conv2D):
            kernel = student.get_layer(layer.name).get_weights()[0]
            norm = student.get_layer(layer.name.replace("conv", "norm"))
            scale, shift, mean, variance = norm.get_weights()
            factor = scale / np.sqrt(variance + norm.epsilon)
            layer.set_weights([kernel * factor, shift - mean * factor])
    # A positive factor passes through ReLU, maximum and mean, so the last convolution takes it.
    spread = embed_images(encoder, photos).std(axis=0)
    spread = np.where(spread > 1e-6, spread, 1)
    last = network.get_layer("block5_conv3")
    last.set_weights([weight / spread for weight in last.get_weights()])
    return encoder


def main(arguments: list[str] | None = None) -> None:
    """Load, train, fold, save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--data", type=Path, nargs="+", required=True, help="photos, one folder a label")
    add("--drawn", type=Path, nargs="*", default=[], help="more pictures, without labels")
    add("--teacher", type=Path, required=True, help="MobileNetV2 0.35 without top, .weights.h5")
    add("--epochs", type=int, default=EPOCHS, help=f"end early; {EPOCHS} are the whole training")
    add("--seed", type=int, default=0)
    add("--out", type=Path, required=True, help="a name that ends in .weights.h5")
    options = parser.parse_args(arguments)
    if not options.out.name.endswith(".weights.h5"):
        parser.error(f"--out must end in .weights.h5, as Keras wants it: {options.out}")
    pictures, labels, chances = load_pictures(options.data, options.drawn)
    teacher = keras.applications.MobileNetV2(
        (None, None, 3), alpha=0.35, include_top=False, weights=str(options.teacher), pooling="avg"
    )
    keras.utils.set_random_seed(options.seed)
    student = build_student(labels.shape[1], teacher.output_shape[1])
    rate = CosineDecay(2e-5, EPOCHS * STEPS, warmup_target=2e-3, warmup_steps=STEPS)
    losses = {"direction": "cosine_similarity", "relation": relation_loss, "label": label_loss}
    student.compile(keras.optimizers.Adam(rate, global_clipnorm=5.0), losses, jit_compile=False)
    backup, log = options.out.with_suffix(".backup"), options.out.with_suffix(".csv")
    done = len(pd.read_csv(log)) if backup.exists() else 0
    if done:
        print(f"Going on after {done} epochs; delete {backup} to begin anew.")
    kept = BackupAndRestore(backup, double_checkpoint=True, delete_checkpoint=False)
    callbacks = [CSVLogger(log, append=done > 0), kept]
    batches = lesson(pictures, labels, chances, teacher, options.seed, done * STEPS)
    student.fit(
        batches, epochs=options.epochs, steps_per_epoch=STEPS, callbacks=callbacks, shuffle=False
    )
    encoder = encoder_of(student, pictures[labels.any(axis=1)])
    encoder.get_layer("vgg16_slim").save_weights(options.out)
    shutil.rmtree(backup)
    print(f"{options.epochs * STEPS * BATCH:,} views seen; saved {options.out}")


if __name__ == "__main__":
    main()
