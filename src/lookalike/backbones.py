"""The table of backbones, and encoders built from them: photo in, vector out, preprocessing inside."""

from __future__ import annotations

import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from lookalike.workspace import Choice, file_hash, project_root

POOLINGS = ("avg", "max")
VGG16_WEIGHTS = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
VGG16_ADDRESS = f"https://storage.googleapis.com/tensorflow/keras-applications/vgg16/{VGG16_WEIGHTS}"
SLIM_SHA256 = "84fbb2186b3f64bb37ebf7d3b56211c24689015eeb34f5b493fcbc949cb3931f"


class WeightsUnavailableError(RuntimeError):
    """Pretrained weights are neither in Keras' cache nor to be downloaded; the message says what to do."""


def vgg16_slim(
    *, include_top: bool = False, weights: str | Path | None = None, input_shape: tuple[int, int, int] = (128, 128, 3)
) -> keras.Model:
    """VGG16's thirteen convolutions at quarter width, under the same layer names, for where VGG16 itself cannot be had.

    Source of the architecture: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition", ICLR 2015, configuration D.

    Raises
    ------
    ValueError
        If `include_top` is true: there is no ImageNet classifier for this network.
    """
    if include_top:
        raise ValueError("VGG16Slim has no classifier of its own; use include_top=False.")
    image = x = keras.Input(input_shape, name="pixels")
    for block, (depth, width) in enumerate([(2, 16), (2, 32), (3, 64), (3, 128), (3, 128)], start=1):
        for layer in range(1, depth + 1):
            name = f"block{block}_conv{layer}"
            x = keras.layers.Conv2D(
                width, 3, padding="same", activation="relu", kernel_initializer="he_normal", name=name
            )(x)
        x = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    model = keras.Model(image, x, name="vgg16_slim")
    if weights is not None:
        model.load_weights(weights)
    return model


def _unchanged(pixels):
    return pixels


@dataclass(frozen=True)
class Backbone:
    """One row of the table: how to build a network, feed it, and at which image size it was trained."""

    constructor: Callable[..., keras.Model]
    preprocess: Callable
    image_size: int


BACKBONES = {
    "VGG16": Backbone(keras.applications.VGG16, keras.applications.vgg16.preprocess_input, 224),
    "ResNet50": Backbone(keras.applications.ResNet50, keras.applications.resnet50.preprocess_input, 224),
    "MobileNetV2": Backbone(keras.applications.MobileNetV2, keras.applications.mobilenet_v2.preprocess_input, 224),
    # EfficientNetV2 rescales inside; VGG16Slim takes its pixels as VGG16 does.
    "EfficientNetV2B0": Backbone(keras.applications.EfficientNetV2B0, _unchanged, 224),
    "VGG16Slim": Backbone(vgg16_slim, keras.applications.vgg16.preprocess_input, 128),
}


def slim_weights() -> Path:
    """Where the bundled weights of VGG16Slim lie."""
    return project_root() / "models" / "vgg16_slim.weights.h5"


def choose_backbone(backbone: str) -> Choice:
    """Resolve `backbone`: "auto" is VGG16 where its ImageNet weights are cached or to be had, else VGG16Slim."""
    if backbone != "auto":
        _row(backbone)
        return Choice("backbone", backbone, "as asked")
    cache = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models" / VGG16_WEIGHTS
    if cache.is_file():
        return Choice("backbone", "VGG16", "its ImageNet weights are in Keras' cache")
    try:
        urllib.request.urlopen(urllib.request.Request(VGG16_ADDRESS, method="HEAD"), timeout=5).close()
    except (urllib.error.URLError, OSError) as error:
        why = getattr(error, "reason", error)
        return Choice("backbone", "VGG16Slim", f"bundled; the ImageNet weights of VGG16 cannot be reached ({why})")
    return Choice("backbone", "VGG16", "its ImageNet weights can be downloaded")


def _row(name: str) -> Backbone:
    if name not in BACKBONES:
        raise ValueError(f"Unknown backbone {name!r}; choose one of {', '.join(BACKBONES)}.")
    return BACKBONES[name]


def build_encoder(
    name: str,
    *,
    weights: str | Path | None = "auto",
    pooling: str = "avg",
    image_size: int | None = None,
    alpha: float | None = None,
    seed: int = 0,
) -> keras.Model:
    """Build an encoder: a frozen backbone with its own preprocessing in front and global pooling behind.

    Parameters
    ----------
    name
        A row of `BACKBONES`.
    weights
        "auto": ImageNet weights from Keras' cache or download, the bundled ones for VGG16Slim; a file; or None for
        random weights, drawn from Keras' global generator after setting it to `seed`.
    pooling
        "avg" or "max" over the places of the last feature map.
    image_size
        Side of the square input in pixels; None is the size the backbone was trained at.
    alpha
        Width multiplier of MobileNetV2; None is 1.0.

    Returns
    -------
    keras.Model, float32 RGB [batch, image_size, image_size, 3] in 0-255 to float32 [batch, dim], not normalised.

    Raises
    ------
    WeightsUnavailableError
        If ImageNet weights are neither cached nor to be downloaded.
    FileNotFoundError, ValueError
        If the weights file is missing or does not fit, or an option is unknown.
    """
    row = _row(name)
    if pooling not in POOLINGS:
        raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, not {pooling!r}.")
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
    pool = keras.layers.GlobalAveragePooling2D if pooling == "avg" else keras.layers.GlobalMaxPooling2D
    parts = [name, str(alpha or ""), pooling, "untrained" if source is None else ""]
    return keras.Model(image, pool(name="pooling", dtype="float32")(places), name="-".join(filter(None, parts)))


def _weights_source(name: str, weights: str | Path | None) -> str | None:
    """What the constructor is given: "imagenet", the path of a file that exists, or None for random weights."""
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
    if not Path(weights).is_file():
        raise FileNotFoundError(
            f"No weights file at {weights}. Leave weights='auto' to let Keras fetch ImageNet weights."
        )
    return str(weights)


def _build_backbone(row: Backbone, name: str, source: str | None, size: int, options: dict) -> keras.Model:
    try:
        return row.constructor(include_top=False, weights=source, input_shape=(size, size, 3), **options)
    except Exception as error:  # Keras raises a bare Exception where a download fails
        if source == "imagenet" and "fetch failure" in str(error):
            raise WeightsUnavailableError(
                f"The ImageNet weights of {name} are not in Keras' cache and could not be downloaded: {error}. "
                "Connect to the internet once, or pass weights='path/to/file.h5', or use VGG16Slim, which needs none."
            ) from None
        if source not in (None, "imagenet"):
            raise ValueError(f"The weights in {source} do not fit {name} {options or ''}: {error}") from error
        raise


# What a configuration says that decides no output, and what comes and goes between Keras releases.
_INDIFFERENT = {
    "name",
    "trainable",
    "dtype",
    "module",
    "registered_name",
    "build_config",
    "momentum",
    "renorm_momentum",
}
_INDIFFERENT |= {"sparse", "ragged", "optional", "autocast", "seed", "batch_shape", "batch_input_shape"}
_INDIFFERENT |= {f"{part}_initializer" for part in ("kernel", "bias", "beta", "gamma", "depthwise", "pointwise")}
_INDIFFERENT |= {"moving_mean_initializer", "moving_variance_initializer"}


def encoder_fingerprint(encoder: keras.Model) -> str:
    """A hash of architecture and weights, 16 hexadecimal digits; encoders of different fingerprint are not to be mixed.

    It survives saving, reloading and another process; names of layers and training settings do not count.
    """
    parts = [encoder.input_shape, _architecture(encoder.get_config(), {})]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    for array in encoder.get_weights():
        digest.update(str(array.shape).encode() + np.ascontiguousarray(array, np.float32).tobytes())
    return digest.hexdigest()[:16]


def _architecture(node: object, places: dict[str, int]) -> object:
    """A Keras configuration without what decides no output; layers are called by their place, not by their name."""
    if isinstance(node, (list, tuple)):
        return [_architecture(item, places) for item in node]
    if not isinstance(node, dict):
        return node
    if "layers" in node:  # a model, at any depth
        places = {layer["name"]: place for place, layer in enumerate(node["layers"])}
    kept = {}
    for key, value in node.items():
        if key in ("keras_history", "input_layers", "output_layers"):
            kept[key] = [places.get(part, part) if isinstance(part, str) else part for part in np.ravel(value).tolist()]
        elif key not in _INDIFFERENT and value is not None and value is not False:
            kept[key] = _architecture(value, places)
    return kept


def describe_encoder(encoder: keras.Model) -> str:
    """Name and fingerprint, as messages and manifests give them."""
    return f"{encoder.name} ({encoder_fingerprint(encoder)})"
