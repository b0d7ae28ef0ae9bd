"""Train VGG16Slim, the small bundled encoder, by letting a network with ImageNet weights teach it.

python models/train_vgg16_slim.py --data DIR DIR --drawn DIR DIR --teacher FILE --out DIR

Teacher and student look at the same views, random pieces of pictures. The student learns
`direction`, where the teacher's vector points; `relation`, which views of the batch the teacher
finds alike; and `label`, what the folder says. Interrupted, the same command goes on after the last
whole epoch. At the end the student sees nearly whole photos and learns their labels by cosine, as
it will be used; it forgets other things over that, so its weights go only a part of that way.

Sources: Beyer and others, "Knowledge distillation: a good teacher is patient and consistent", CVPR
2022; Asano and Saeed, "The augmented image prior", ICLR 2023; Fang and others, "SEED", ICLR 2021;
Wortsman and others, "Robust fine-tuning of zero-shot models", CVPR 2022.
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

EPOCHS, FINISH, STEPS, BATCH = 60, 8, 190, 64
# Sides of views, up to which share of the training (Tan and Le, "EfficientNetV2", ICML 2021).
SIZES = ((0.4, 64), (0.8, 96), (1.0, 128))
STORED_SIZE, TEACHER_SIZE = 224, 160  # sides of pictures in memory, and of the teacher's views
PIECES, WHOLE = (0.08, 0.2), (0.35, 0.0)  # least share of a picture seen, share of mixed views
DRAWN_SHARE = 0.15  # of views; the photos' folders share the rest equally
TEMPERATURE, SHARPNESS = 0.1, 20.0  # the teacher's cosines are divided, the student's multiplied
PART_OF_THE_WAY = 0.4  # chosen on validation photos, see README.md


def load_pictures(photos: list[Path], drawn: list[Path]):
    """Pictures, uint8; labels, float32 [n, n_labels], 0 for drawn ones; and chances to be seen."""
    catalogs = [load_catalog("folder", folder)[0] for folder in (*photos, *drawn)]
    catalog = pd.concat(catalogs, ignore_index=True)
    folder = np.repeat(np.arange(len(catalogs)), [len(one) for one in catalogs])
    catalog.loc[folder >= len(photos), "label"] = None
    labels = pd.get_dummies(catalog["label"], dtype=np.float32).to_numpy()
    shares = [(1 - DRAWN_SHARE) / len(photos) for _ in photos]
    shares += [DRAWN_SHARE / len(drawn) for _ in drawn]
    chances = np.array(shares)[folder] / np.bincount(folder)[folder]
    pictures = np.concatenate(list(pixel_batches(catalog["path"], STORED_SIZE)))
    return pictures, labels, chances.astype(np.float32)


def random_views(pictures, labels, seed, size: int, form: tuple[float, float] = PIECES):
    """Crop, light and mix a batch of pictures: views, float32, 0 to 255, and labels in proportion;
    equal for an equal `seed`, int32 [2]. Light changes as light does: a colour stays that colour.
    """
    smallest, share_mixed = form
    seeds = iter(tf.unstack(tf.random.split(seed, 16)))

    def uniform(low, high, *shape):
        return tf.random.stateless_uniform((len(pictures), *shape), next(seeds), low, high)

    area, aspect = uniform(smallest, 1), tf.exp(uniform(-0.3, 0.3))
    height, width = (tf.minimum(tf.sqrt(one), 1) for one in (area * aspect, area / aspect))
    top, left = uniform(0, 1) * (1 - height), uniform(0, 1) * (1 - width)
    flip = tf.where(uniform(0, 1) < 0.5, width, 0)
    boxes = tf.stack([top, left + flip, top + height, left + width - flip], axis=1)
    views = tf.image.crop_and_resize(pictures, boxes, tf.range(len(pictures)), (size, size))
    mean = tf.reduce_mean(views, axis=(1, 2), keepdims=True)
    views = mean + (views - mean) * tf.exp(uniform(-0.3, 0.3, 1, 1, 1))
    grey = tf.reduce_mean(views, axis=3, keepdims=True)
    views = grey + (views - grey) * uniform(0.75, 1.25, 1, 1, 1)
    warmth = uniform(-0.1, 0.1, 1, 1, 1) * [1.0, 0.0, -1.0]
    views = tf.clip_by_value(views * tf.exp(warmth + uniform(-0.35, 0.35, 1, 1, 1)), 0, 255)
    # Some are mixed with the next one (Zhang, "mixup", ICLR 2018; Yun, "CutMix", ICCV 2019).
    share, kind = uniform(0, 1, 1, 1, 1), uniform(0, 1, 1, 1, 1)
    y, x = uniform(0, 1, 1, 1, 1), uniform(0, 1, 1, 1, 1)
    place, reach = tf.linspace(0.0, 1.0, size), tf.sqrt(share) / 2
    box = (tf.abs(place[:, None, None] - y) < reach) & (tf.abs(place[None, :, None] - x) < reach)
    mask = tf.where(kind < share_mixed / 2, tf.cast(box, tf.float32), share)
    mask = tf.where(kind < share_mixed, mask, 0.0)
    portion = tf.reduce_mean(mask, axis=(1, 2))
    views += mask * (tf.roll(views, 1, axis=0) - views)
    return views, labels + portion * (tf.roll(labels, 1, axis=0) - labels)


def lesson(pictures, labels, chances, teacher, seed: int, first: int, form=PIECES):
    """Batch by batch, from number `first` on: views for the student, and what it has to learn."""
    steps = EPOCHS * STEPS
    pictures, labels = tf.constant(pictures), tf.constant(labels)

    def draw(number):
        numbers = tf.stack([seed, tf.cast(number, tf.int32)])
        drawn = tf.random.stateless_categorical(tf.math.log(chances)[None], BATCH, numbers)[0]
        chosen = tf.gather(pictures, drawn), tf.gather(labels, drawn)
        return number, *random_views(*chosen, numbers, TEACHER_SIZE, form)

    sides = tf.constant([side for _, side in SIZES])
    ends = tf.constant([round(share * steps) for share, _ in SIZES[:-1]], tf.int64)

    def example(number, views, label, mean=0.0):
        # The square root tames the few large features.
        target = tf.sqrt(teacher(views / 127.5 - 1, training=False)) - mean
        size = sides[tf.math.count_nonzero(number >= ends)]
        small = tf.image.resize(views, (size, size), antialias=True)
        pixels = keras.applications.vgg16.preprocess_input(small)
        return pixels, {"direction": target, "relation": target, "label": label}

    afterwards = tf.data.Dataset.range(steps, steps + 16).map(draw).map(example)
    mean = tf.reduce_mean([learnt["direction"] for _, learnt in afterwards], axis=(0, 1))
    batches = tf.data.Dataset.counter(first).map(draw)
    return batches.map(lambda *one: example(*one, mean)).prefetch(2)


def build_student(n_labels: int, n_taught: int, dtype: str = "mixed_bfloat16") -> keras.Model:
    """VGG16Slim with batch normalisation after each convolution; bfloat16 is a sixth faster."""
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
    return with_heads(image, x, n_labels, n_taught)


def with_heads(image, places, n_labels: int, n_taught: int, by_cosine: bool = False):
    """A model from views to what the losses compare; pooled as in use, heads to be thrown away."""
    features = pooling_layer("gem")(places)
    scaled = layers.BatchNormalization(center=False, scale=False)(features)
    direction, label = layers.Dense(n_taught)(scaled), scaled
    if by_cosine:
        # Source: Zhai and Wu, "Classification is a strong baseline for deep metric learning", 2019.
        label = layers.Rescaling(SHARPNESS)(layers.UnitNormalization()(features))
    norm = keras.constraints.UnitNorm(axis=0) if by_cosine else None
    label = layers.Dense(n_labels, use_bias=not by_cosine, kernel_constraint=norm)(label)
    return keras.Model(image, {"direction": direction, "relation": features, "label": label})


def relation_loss(taught, features):
    """How differently the student, its features at one spread, ranks the batch: KL divergence."""
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


def teach(student: keras.Model, batches, rate, label_weight: float, **options) -> None:
    """Fit a student to its batches."""
    losses = {"direction": "cosine_similarity", "relation": relation_loss, "label": label_loss}
    weights = {"direction": 1.0, "relation": 1.0, "label": label_weight}
    adam = keras.optimizers.Adam(rate, global_clipnorm=5.0)
    student.compile(adam, losses, weights, jit_compile=False)
    student.fit(batches, steps_per_epoch=STEPS, shuffle=False, **options)


def folded(student: keras.Model, photos) -> keras.Model:
    """VGG16Slim with the student's normalisation folded in, each feature at one spread."""
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
    last = network.get_layer("block5_conv3")
    last.set_weights([one / np.where(spread > 1e-6, spread, 1) for one in last.get_weights()])
    return network


def finish(network: keras.Model, material: tuple, widths: tuple[int, int]) -> None:
    """Teach the network as it will be used, with what `lesson` takes, and go a part of that way."""
    keras.utils.set_random_seed(material[-1] + 1)
    keras.config.set_dtype_policy("mixed_bfloat16")
    other = vgg16_slim()
    keras.config.set_dtype_policy("float32")
    before = network.get_weights()
    other.set_weights(before)
    student = with_heads(other.input, other.output, *widths, by_cosine=True)
    rate = CosineDecay(1e-5, FINISH * STEPS, warmup_target=7e-4, warmup_steps=100)
    teach(student, lesson(*material, EPOCHS * STEPS + 16, WHOLE), rate, 2.0, epochs=FINISH)
    pairs = zip(before, other.get_weights(), strict=True)
    network.set_weights([old + PART_OF_THE_WAY * (new - old) for old, new in pairs])


def main(arguments: list[str] | None = None) -> None:
    """Load, teach, finish, save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--data", type=Path, nargs="+", required=True, help="photos, one folder a label")
    add("--drawn", type=Path, nargs="*", default=[], help="more pictures, without labels")
    add("--teacher", type=Path, required=True, help="MobileNetV2 0.35 without top, .weights.h5")
    add("--epochs", type=int, default=EPOCHS, help="fewer end early, unfinished")
    add("--seed", type=int, default=0)
    add("--out", type=Path, required=True, help="a folder for the weights and the log")
    options = parser.parse_args(arguments)
    pictures, labels, chances = load_pictures(options.data, options.drawn)
    teacher = keras.applications.MobileNetV2(
        (None, None, 3), alpha=0.35, include_top=False, weights=str(options.teacher), pooling="avg"
    )
    material = pictures, labels, chances, teacher, options.seed
    widths = labels.shape[1], teacher.output_shape[1]
    keras.utils.set_random_seed(options.seed)
    student = build_student(*widths)
    options.out.mkdir(parents=True, exist_ok=True)
    backup, log = options.out / "backup", options.out / "log.csv"
    done = len(pd.read_csv(log)) if backup.exists() and log.exists() else 0
    if done:
        print(f"Going on after {done} epochs; delete {backup} to begin anew.")
    # Two of them, since a kill may leave the newer one half written; and then the line in the log.
    kept = BackupAndRestore(backup, double_checkpoint=True, delete_checkpoint=False)
    callbacks = [kept, CSVLogger(log, append=done > 0)]
    rate = CosineDecay(2e-5, EPOCHS * STEPS, warmup_target=2e-3, warmup_steps=STEPS)
    batches = lesson(*material, done * STEPS)
    teach(student, batches, rate, 1.0, epochs=options.epochs, callbacks=callbacks)
    network = folded(student, pictures[labels.any(axis=1)])
    if options.epochs == EPOCHS:
        finish(network, material, widths)
    network.save_weights(options.out / "vgg16_slim.weights.h5")
    shutil.rmtree(backup)


if __name__ == "__main__":
    main()
