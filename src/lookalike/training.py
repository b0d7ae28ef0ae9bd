"""Teach a classifier the kinds of a catalogue: its head, then the last layers of its backbone.

What is here is what notebooks 02 and 03 write out.
"""

import hashlib
import shutil

import keras
import pandas as pd
import tensorflow as tf
from keras import layers
from keras.optimizers.schedules import CosineDecay

from lookalike.backbones import inner_backbone
from lookalike.encoder_fingerprint import encoder_fingerprint
from lookalike.images import load_image
from lookalike.splits import class_weights, label_names


def photo_batches(rows, classes, size, *, batch_size=32, shuffle=False):
    """Photos as they are needed: batches of float32 pixels [b, height, width, 3] in 0-255, and of
    the places [b] of their labels in `classes`; with `shuffle` in another order each time.
    """

    def load(path, kind):
        read = tf.numpy_function(lambda path: load_image(path.decode(), size), [path], tf.uint8)
        return tf.cast(tf.ensure_shape(read, (*size, 3)), tf.float32), kind

    kinds = [classes.index(label) for label in rows["label"]]
    photos = tf.data.Dataset.from_tensor_slices((list(rows["path"]), kinds))
    photos = photos.shuffle(len(rows), seed=0) if shuffle else photos
    photos = photos.map(load, num_parallel_calls=tf.data.AUTOTUNE)
    return photos.batch(batch_size)


def backup_folder(folder, catalog, model):
    """Where in `folder` the state of a training is kept, so that it goes on after a kill; what
    another one, or one of other photos or weights, has left there is removed.
    """
    asked = encoder_fingerprint(model) + catalog[["image_id", "label", "split"]].to_csv()
    backup = folder / hashlib.sha256(asked.encode()).hexdigest()
    state = backup / "training_metadata.json"
    # A kill while Keras wrote the state leaves an empty file.
    unreadable = state.is_file() and not state.stat().st_size
    if unreadable or not backup.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    return backup


def augmentation():
    """Random variants of photos, float32 pixels in 0-255: mirrored or not, turned and zoomed a
    little, in another light. What comes in from beyond the edge is reflected.
    """
    return layers.Pipeline(
        [
            layers.RandomFlip("horizontal"),
            layers.RandomRotation(0.04, fill_mode="reflect"),
            layers.RandomZoom((-0.2, 0.1), fill_mode="reflect"),
            layers.RandomBrightness(0.2),
            layers.RandomContrast(0.2),
        ]
    )


def build_classifier(base, preprocess, n_classes, *, dim=256):
    """Put a head on a network: pooling, a dense layer whose outputs, at unit length, are the
    `embedding`, and a softmax of their cosines with a direction for each class.

    Source of this "normalised softmax": Zhai and Wu, "Classification is a Strong Baseline for Deep
    Metric Learning", BMVC 2019. The scale 8 was measured.

    Returns
    -------
    keras.Model, RGB 0-255 [batch, height, width, 3] to float32 probabilities [batch, n_classes].
    """
    photo = keras.Input(base.input_shape[1:], name="photo")
    places = base(preprocess(photo), training=False)
    x = layers.GlobalAveragePooling2D(name="features", dtype="float32")(places)
    x = layers.LayerNormalization()(x)
    x = layers.Dropout(0.1)(x)
    x = layers.Dense(dim, activation="relu")(x)
    x = layers.UnitNormalization(name="embedding")(x)
    x = layers.Rescaling(8)(x)
    outputs = layers.Dense(
        n_classes,
        use_bias=False,
        kernel_constraint=keras.constraints.UnitNorm(axis=0),
        activation="softmax",
        dtype="float32",
    )(x)
    return keras.Model(photo, outputs, name=f"{base.name}-classifier")


def rising_and_falling(rate, epochs, steps):
    """A learning rate that grows to `rate` through the first epoch of `steps` batches, and falls to
    zero as a cosine.

    Source: Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 2.2; Loshchilov and Hutter,
    "SGDR", ICLR 2017.
    """
    falling = max(1, epochs - 1) * steps
    return CosineDecay(rate / 20, falling, warmup_target=rate, warmup_steps=steps)


def unfreeze(base, after):
    """Let the layers behind `after` learn, but for BatchNormalization: its averages are of many
    more photos than ours.
    """
    base.trainable = True
    learning = False
    for layer in base.layers:
        layer.trainable = learning and not isinstance(layer, layers.BatchNormalization)
        learning |= layer.name == after


def train(
    classifier, catalog, folder, *, after="", learning_rate=2e-3, epochs=30, views=1, seed=0
):
    """Train a classifier, in place, on the train photos of a catalogue: its head, or with `after`
    the layers of its backbone behind that one, too.

    Parameters
    ----------
    folder
        Keeps `history.csv` and the state of training, from which a killed one goes on.
    learning_rate
        Of the first step; it falls to zero, as a cosine.
    views
        Photos are seen as they are, and then so many times less one as variants, in turn.

    Returns
    -------
    DataFrame, a row an epoch: `epoch`, `accuracy`, `loss`, and of validation photos `val_accuracy`,
    `val_loss`. These may end the training of a head early, and its best epoch is kept.

    Raises
    ------
    ValueError
        If there are too few kinds or photos, or the backbone has no layer of that name.
    """
    classes = label_names(catalog)
    known = catalog[catalog["label"].isin(classes)]
    taught = known[known["split"] == "train"]
    judging = known[known["split"] == "validation"]
    backup = backup_folder(folder, known, classifier)
    keras.utils.set_random_seed(seed)
    size = classifier.input_shape[1:3]
    photos = photo_batches(taught, classes, size, shuffle=True)
    lessons = photos
    if views > 1:
        augment = augmentation()

        def vary(pixels, kinds):
            # Half precision varies them in 16 bits.
            return tf.cast(augment(pixels, training=True), tf.float32), kinds

        lessons = photos.concatenate(photos.map(vary).repeat(views - 1))
    held_out = photo_batches(judging, classes, size) if len(judging) else None
    callbacks = [
        keras.callbacks.BackupAndRestore(backup, double_checkpoint=True),
        keras.callbacks.CSVLogger(folder / "history.csv", append=True),
    ]
    if after:
        model = classifier
        base = inner_backbone(classifier)
        unfreeze(base, base.get_layer(after).name)
    else:
        # What is frozen runs once.
        features = classifier.get_layer("features").output
        frozen = keras.Model(classifier.input, features)
        model = keras.Model(features, classifier.output)

        def run_frozen(pixels, kinds):
            return frozen(pixels, training=False), kinds

        lessons = lessons.map(run_frozen).cache()
        if held_out:
            held_out = held_out.map(run_frozen).cache()
            patience = keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True)
            callbacks.append(patience)
    model.compile(
        keras.optimizers.Adam(rising_and_falling(learning_rate, epochs, len(photos))),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(
        lessons.repeat(),
        steps_per_epoch=len(photos),
        epochs=epochs,
        validation_data=held_out,
        class_weight=class_weights(taught["label"], classes),
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    )
    return pd.read_csv(folder / "history.csv")
