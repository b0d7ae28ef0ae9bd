"""The table of backbones, and encoders built from them: preprocessing inside, vectors out."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras

from lookalike.pooling import pooling_layer
from lookalike.vgg16_slim import SLIM_SHA256, slim_weights, vgg16_slim
from lookalike.workspace import Choice, file_hash, plain_path

VGG16_WEIGHTS = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
VGG16_ADDRESS = (
    f"https://storage.googleapis.com/tensorflow/keras-applications/vgg16/{VGG16_WEIGHTS}"
)


class WeightsUnavailableError(RuntimeError):
    """Pretrained weights are neither in Keras' cache nor to be downloaded; the message says what to
    do.
    """


@dataclass(frozen=True)
class Backbone:
    """One row of the table: how to build a network, feed it, how large, and behind which layer
    fine-tuning begins.
    """

    constructor: Callable[..., keras.Model]
    preprocess: Callable
    image_size: int
    unfreeze_after: str


_apps = keras.applications
BACKBONES = {
    "VGG16": Backbone(_apps.VGG16, _apps.vgg16.preprocess_input, 224, "block4_pool"),
    "ResNet50": Backbone(_apps.ResNet50, _apps.resnet50.preprocess_input, 224, "conv4_block6_out"),
    "MobileNetV2": Backbone(
        _apps.MobileNetV2, _apps.mobilenet_v2.preprocess_input, 224, "block_5_add"
    ),
    # EfficientNetV2 rescales inside; VGG16Slim takes its pixels as VGG16 does.
    "EfficientNetV2B0": Backbone(
        _apps.EfficientNetV2B0, _apps.efficientnet_v2.preprocess_input, 224, "block5e_add"
    ),
    "VGG16Slim": Backbone(vgg16_slim, _apps.vgg16.preprocess_input, 128, "block4_pool"),
}


def choose_backbone(backbone: str) -> Choice:
    """Resolve `backbone`: "auto" is VGG16 where its ImageNet weights are cached or to be had, else
    VGG16Slim.
    """
    if backbone != "auto":
        _row(split_width(backbone)[0])
        return Choice("backbone", backbone, "as asked")
    cache = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models" / VGG16_WEIGHTS
    if cache.is_file():
        return Choice("backbone", "VGG16", "its ImageNet weights are in Keras' cache")
    try:
        urllib.request.urlopen(
            urllib.request.Request(VGG16_ADDRESS, method="HEAD"), timeout=5
        ).close()
    except OSError as error:
        why = getattr(error, "reason", error)
        return Choice(
            "backbone",
            "VGG16Slim",
            f"bundled; the ImageNet weights of VGG16 cannot be reached ({why})",
        )
    return Choice("backbone", "VGG16", "its ImageNet weights can be downloaded")


def split_width(name: str) -> tuple[str, float | None]:
    """A backbone's name and its width multiplier: "MobileNetV2-0.35" is "MobileNetV2", 0.35."""
    row, _, width = name.partition("-")
    try:
        return row, float(width) if width else None
    except ValueError:
        return name, None


def _row(name: str) -> Backbone:
    if name not in BACKBONES:
        raise ValueError(f"Unknown backbone {name!r}; choose one of {', '.join(BACKBONES)}.")
    return BACKBONES[name]


def build_encoder(
    name: str,
    *,
    weights: str | Path | None = "auto",
    pooling: str = "gem",
    image_size: int | None = None,
    alpha: float | None = None,
    seed: int = 0,
) -> keras.Model:
    """Build an encoder: a frozen backbone with its own preprocessing in front and global pooling
    behind.

    Parameters
    ----------
    name
        A row of `BACKBONES`; a width multiplier of MobileNetV2 may follow it: `MobileNetV2-0.35`.
    weights
        "auto": ImageNet weights from Keras' cache or download, the bundled ones for VGG16Slim; a
        file; or None for random weights, drawn from Keras' global generator after setting it to
        `seed`.
    pooling
        "gem" (generalized mean), "avg" or "max" over the places of the last feature map.
    image_size
        Side of the square input in pixels; None is the size the backbone was trained at.
    alpha
        The same multiplier as a number; None is 1.0, or what the name says.

    Returns
    -------
    keras.Model, float32 RGB [batch, image_size, image_size, 3] in 0-255 to float32 [batch, dim],
    not normalised.

    Raises
    ------
    WeightsUnavailableError
        If ImageNet weights are neither cached nor to be downloaded.
    FileNotFoundError, ValueError
        If the weights file is missing or does not fit, or an option is unknown.
    """
    name, width = split_width(name)
    row = _row(name)
    if width and alpha not in (None, width):
        raise ValueError(f"{name}-{width} names its width; alpha={alpha} is another.")
    alpha = alpha or width
    pool = pooling_layer(pooling)
    if alpha is not None and name != "MobileNetV2":
        raise ValueError(f"alpha belongs to MobileNetV2; {name} has no width multiplier.")
    source = _weights_source(name, weights)
    if source is None:
        keras.utils.set_random_seed(seed)
    size = image_size or row.image_size
    backbone = _build_backbone(row, name, source, size, {} if alpha is None else {"alpha": alpha})
    backbone.trainable = False
    image = keras.Input((size, size, 3), name="image")
    places = backbone(row.preprocess(image), training=False)
    parts = [name, str(alpha or ""), pooling, "untrained" if source is None else ""]
    return keras.Model(image, pool(places), name="-".join(filter(None, parts)))


def _weights_source(name: str, weights: str | Path | None) -> str | None:
    """What the constructor is given: "imagenet", the path of a file that exists, or None for random
    weights.
    """
    if weights == "auto" and name == "VGG16Slim":
        weights = slim_weights()
        if weights.is_file() and file_hash(weights) != SLIM_SHA256:
            raise ValueError(
                f"{weights} is not the bundled file (its SHA-256 differs). Restore it, or name it as weights."
            )
    elif weights == "auto":
        weights = "imagenet"
    if weights is None or (weights == "imagenet" and name != "VGG16Slim"):
        return weights
    weights = plain_path(weights)
    if not Path(weights).is_file():
        raise FileNotFoundError(
            f"No weights file at {weights}. Leave weights='auto' to let Keras fetch ImageNet weights."
        )
    return weights


def _build_backbone(
    row: Backbone, name: str, source: str | None, size: int, options: dict
) -> keras.Model:
    try:
        return row.constructor(
            include_top=False, weights=source, input_shape=(size, size, 3), **options
        )
    except Exception as error:  # Keras raises a bare Exception where a download fails
        if source == "imagenet" and "fetch failure" in str(error):
            raise WeightsUnavailableError(
                f"The ImageNet weights of {name} are not in Keras' cache and could not be downloaded: {error}. "
                "Connect to the internet once, or pass weights='path/to/file.h5', or use VGG16Slim, which needs none."
            ) from None
        if source not in (None, "imagenet"):
            width = f" of alpha {options['alpha']}" if "alpha" in options else ""
            raise ValueError(
                f"The weights in {source} do not fit {name}{width}: {str(error).splitlines()[0][:200]} ... "
                "If they are of a narrower one, its width is part of the name: MobileNetV2-0.35."
            ) from None
        raise


def build_classifier(
    encoder: keras.Model, n_labels: int, *, dim: int = 256, dropout: float = 0.5, seed: int = 0
) -> keras.Model:
    """Put a head on an encoder: dropout, a dense layer `embedding` with ReLU, and a softmax over
    the labels.

    The encoder's weights are shared, and frozen until training unfreezes some of them.

    Returns
    -------
    keras.Model, the encoder's input to float32 probabilities [batch, n_labels].

    Raises ValueError if there are fewer than two labels.
    """
    if n_labels < 2:
        raise ValueError(
            f"A classifier needs two labels at least, not {n_labels}; add photos of another kind."
        )
    x = keras.layers.Dropout(dropout, seed=seed, name="dropout")(encoder.output)
    he = keras.initializers.HeUniform(seed)
    glorot = keras.initializers.GlorotUniform(seed + 1)
    x = keras.layers.Dense(dim, activation="relu", kernel_initializer=he, name="embedding")(x)
    x = keras.layers.Dense(
        n_labels, activation="softmax", kernel_initializer=glorot, dtype="float32", name="label"
    )(x)
    return keras.Model(encoder.input, x, name=f"{encoder.name}-classifier")


def embedding_encoder(classifier: keras.Model) -> keras.Model:
    """The classifier without its last layer: an encoder whose vectors are those of the layer
    `embedding`.
    """
    return keras.Model(
        classifier.input,
        classifier.get_layer("embedding").output,
        name=classifier.name.removesuffix("-classifier") + "-trained",
    )


def inner_backbone(model: keras.Model) -> keras.Model:
    """The backbone that an encoder or classifier has inside; ValueError if it has none."""
    models = (layer for layer in model.layers if isinstance(layer, keras.Model))
    # To a feature map.
    backbone = next(
        (model for model in models if len(getattr(model.output, "shape", ())) == 4), None
    )
    if backbone is None:
        raise ValueError(
            f"{model.name} has no backbone inside; build it with build_encoder or build_classifier."
        )
    return backbone


def backbone_row(model: keras.Model) -> Backbone:
    """The row of `BACKBONES` that a model's name begins with; ValueError if there is none."""
    return _row(model.name.split("-")[0])


def frozen_and_trainable(
    classifier: keras.Model, unfreeze_after: str = ""
) -> tuple[keras.Model, keras.Model]:
    """Cut a classifier in two models that share its layers: what stays frozen, and what is trained.

    Parameters
    ----------
    unfreeze_after
        The layer of the backbone after which training begins; "auto" is the one that its row of
        `BACKBONES` names. Empty: behind the pooling, so that only the head is trained.

    Returns
    -------
    Two keras.Models: pixels to the feature map after that layer (or the pooled vector), not
    trainable; and that to probabilities, trainable but for BatchNormalization, which stays in
    inference mode.

    Raises
    ------
    ValueError
        If the backbone has no layer of that name, or there is no backbone.
    """
    backbone = inner_backbone(classifier)
    place = classifier.layers.index(backbone)
    backbone.trainable = bool(unfreeze_after)
    if not unfreeze_after:
        pooling, *head = classifier.layers[place + 1 :]
        features = x = keras.Input(pooling.output.shape[1:])
        lower = keras.Model(classifier.input, pooling.output)
    else:
        row = backbone_row(classifier)
        head = classifier.layers[place + 1 :]
        cut = row.unfreeze_after if unfreeze_after == "auto" else unfreeze_after
        names = [layer.name for layer in backbone.layers]
        if cut not in names:
            raise ValueError(f"{backbone.name} has no layer {cut!r}; it has {', '.join(names)}.")
        for number, layer in enumerate(backbone.layers):
            # Keras lets the training=True of fit override a training=False given here, but not a
            # frozen layer.
            frozen = number <= names.index(cut) or isinstance(
                layer, keras.layers.BatchNormalization
            )
            layer.trainable = not frozen
        middle = backbone.get_layer(cut).output
        image = keras.Input(classifier.input_shape[1:])
        features = keras.Input(middle.shape[1:])
        lower = keras.Model(
            image, keras.Model(backbone.input, middle)(row.preprocess(image), training=False)
        )
        try:
            x = keras.Model(middle, backbone.output)(features, training=False)
        except ValueError:
            raise ValueError(
                f"{backbone.name} cannot be cut behind {cut!r}: others pass beside it, or none follow."
            ) from None
    for layer in head:
        x = layer(x)
    return lower, keras.Model(features, x)
