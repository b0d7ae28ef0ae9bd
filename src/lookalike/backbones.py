"""The table of backbones, and encoders built from them: preprocessing inside, vectors out."""

from __future__ import annotations

import os
import re
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
    """One row of the table: how to build a network and feed it, and how large its photos are;
    behind which layer fine-tuning begins, and at which learning rate.
    """

    constructor: Callable[..., keras.Model]
    preprocess: Callable
    image_size: int
    unfreeze_after: str
    learning_rate: float


_apps = keras.applications
BACKBONES = {
    # The rate for VGG16 is that of Keras' own guide to transfer learning; the others were measured.
    "VGG16": Backbone(_apps.VGG16, _apps.vgg16.preprocess_input, 224, "block4_pool", 1e-5),
    "ResNet50": Backbone(
        _apps.ResNet50, _apps.resnet50.preprocess_input, 224, "conv4_block6_out", 1e-4
    ),
    "MobileNetV2": Backbone(
        _apps.MobileNetV2, _apps.mobilenet_v2.preprocess_input, 224, "block_2_add", 1e-3
    ),
    # EfficientNetV2 rescales inside; VGG16Slim takes its pixels as VGG16 does.
    "EfficientNetV2B0": Backbone(
        _apps.EfficientNetV2B0, _apps.efficientnet_v2.preprocess_input, 224, "block5e_add", 1e-3
    ),
    "VGG16Slim": Backbone(vgg16_slim, _apps.vgg16.preprocess_input, 128, "block4_pool", 1e-3),
}


def choose_backbone(backbone: str) -> Choice:
    """Resolve `backbone`: "auto" is VGG16 where its ImageNet weights are cached or to be had, else
    VGG16Slim.
    """
    if backbone != "auto":
        backbone_row(backbone)
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


def backbone_row(name: str) -> tuple[Backbone, dict]:
    """The row of a backbone, and the width that its name may add: "MobileNetV2-0.35"."""
    kind, _, width = name.partition("-")
    fits = not width or (kind == "MobileNetV2" and re.fullmatch(r"\d+(\.\d+)?", width))
    if kind not in BACKBONES or not fits:
        raise ValueError(
            f"Unknown backbone {name!r}; choose one of {', '.join(BACKBONES)}, "
            "or a narrow MobileNetV2 such as MobileNetV2-0.35."
        )
    return BACKBONES[kind], {"alpha": float(width)} if width else {}


def load_backbone(
    name: str, weights: str | Path | None = "auto", *, image_size: int | None = None
) -> tuple[keras.Model, Callable]:
    """A network of the table without its top, frozen, and the preprocessing that it needs.

    Parameters
    ----------
    name
        A row of `BACKBONES`; a width may follow MobileNetV2, as in `MobileNetV2-0.35`.
    weights
        "auto": ImageNet weights from Keras' cache or download, the bundled ones for VGG16Slim; a
        file; or None for random weights.
    image_size
        Side of the square input in pixels; None is the size the network was trained at.

    Returns
    -------
    keras.Model, preprocessed pixels [batch, image_size, image_size, 3] to a feature map; and the
    function that makes these of RGB in 0-255.

    Raises
    ------
    WeightsUnavailableError
        If ImageNet weights are neither cached nor to be downloaded.
    FileNotFoundError, ValueError
        If the weights file is missing or does not fit, or the name is unknown.
    """
    row, options = backbone_row(name)
    weights = _weights_source(name, weights)
    size = image_size or row.image_size
    options |= {"include_top": False, "weights": weights, "input_shape": (size, size, 3)}
    try:
        base = row.constructor(**options)
    except Exception as error:  # Keras raises a bare Exception where a download fails
        if weights == "imagenet" and "fetch failure" in str(error):
            raise WeightsUnavailableError(
                f"The ImageNet weights of {name} are not in Keras' cache and could not be "
                f"downloaded: {error}. Connect to the internet once, or pass "
                "weights='path/to/file.h5', or use VGG16Slim, which needs none."
            ) from None
        if weights in (None, "imagenet"):
            raise
        raise ValueError(
            f"The weights in {weights} do not fit {name}: {str(error).splitlines()[0][:200]} ... "
            "If they are of a narrower one, its width is part of the name: MobileNetV2-0.35."
        ) from None
    base.trainable = False
    return base, row.preprocess


def _weights_source(name: str, weights: str | Path | None) -> str | None:
    """What a constructor is given: "imagenet", a file that exists, or None for random weights."""
    if weights == "auto" and name == "VGG16Slim":
        weights = slim_weights()
        if weights.is_file() and file_hash(weights) != SLIM_SHA256:
            raise ValueError(
                f"{weights} is not the bundled file (its SHA-256 differs). "
                "Restore it, or name it as weights."
            )
    elif weights == "auto":
        return "imagenet"
    if weights is None or (weights == "imagenet" and name != "VGG16Slim"):
        return weights
    weights = plain_path(weights)
    if not Path(weights).is_file():
        raise FileNotFoundError(
            f"No weights file at {weights}. "
            "Leave weights='auto' to let Keras fetch ImageNet weights."
        )
    return weights


def build_encoder(
    name: str,
    *,
    weights: str | Path | None = "auto",
    pooling: str = "gem",
    image_size: int | None = None,
    seed: int = 0,
) -> keras.Model:
    """Build an encoder: a frozen backbone with its own preprocessing in front and global pooling
    behind.

    Parameters
    ----------
    name, weights, image_size
        As `load_backbone` takes them, which says what is raised; random weights are drawn from
        Keras' global generator after setting it to `seed`.
    pooling
        "gem" (generalized mean), "avg" or "max" over the places of the last feature map.

    Returns
    -------
    keras.Model, float32 RGB [batch, image_size, image_size, 3] in 0-255 to float32 [batch, dim],
    not normalised.
    """
    pool = pooling_layer(pooling)
    if weights is None:
        keras.utils.set_random_seed(seed)
    base, preprocess = load_backbone(name, weights, image_size=image_size)
    image = keras.Input(base.input_shape[1:], name="image")
    places = base(preprocess(image), training=False)
    untrained = "-untrained" if weights is None else ""
    return keras.Model(image, pool(places), name=f"{name}-{pooling}{untrained}")


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
    """The network to a feature map that an encoder or classifier has inside; ValueError if none."""
    for layer in model.layers:
        if isinstance(layer, keras.Model) and len(getattr(layer.output, "shape", ())) == 4:
            return layer
    raise ValueError(f"{model.name} has no backbone inside; build it with build_encoder.")
