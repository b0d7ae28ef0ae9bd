"""The table of backbones, and encoders built from them: preprocessing inside, vectors out."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import requests

from lookalike.pooling import pooling_layer
from lookalike.transformers import dinov2, siglip2
from lookalike.vgg16_slim import vgg16_slim
from lookalike.workspace import Choice, plain_path

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
    """One row of the table: a network without its top, and what is known of it.

    constructor, preprocess
        What builds it, and what its pixels go through before.
    unfreeze_after, learning_rate
        Behind which layer fine-tuning begins, and its rate: measured, or 1e-5 as in Keras' own
        guide to transfer learning.
    image_size
        Side in pixels of the photos that it learnt from.
    pretrained
        What `weights="auto"` loads: ImageNet's, a preset of keras-hub, or what is bundled.
    pooling
        Which suits its maps: "avg" where values are below zero, which gem counts as zero; "none"
        where there is no map but a single vector.
    onnx
        Whether it can be exported as ONNX, too, which lacks `Erfc`, TensorFlow's way to GELU.
    """

    constructor: Callable[..., keras.Model]
    preprocess: Callable
    unfreeze_after: str
    learning_rate: float = 1e-5
    image_size: int = 224
    pretrained: str = "imagenet"
    pooling: str = "gem"
    onnx: bool = True


_apps = keras.applications
BACKBONES = {
    "VGG16": Backbone(_apps.VGG16, _apps.vgg16.preprocess_input, "block4_pool"),
    "ResNet50": Backbone(
        _apps.ResNet50, _apps.resnet50.preprocess_input, "conv4_block6_out", learning_rate=1e-4
    ),
    "MobileNetV2": Backbone(
        _apps.MobileNetV2,
        _apps.mobilenet_v2.preprocess_input,
        "block_2_add",
        learning_rate=1e-3,
    ),
    # These two and ConvNeXt scale their pixels inside.
    "EfficientNetV2B0": Backbone(
        _apps.EfficientNetV2B0,
        _apps.efficientnet_v2.preprocess_input,
        "block5e_add",
        learning_rate=1e-3,
    ),
    "EfficientNetV2S": Backbone(
        _apps.EfficientNetV2S, _apps.efficientnet_v2.preprocess_input, "block5i_add"
    ),
    "ConvNeXtTiny": Backbone(
        _apps.ConvNeXtTiny,
        _apps.convnext.preprocess_input,
        "convnext_tiny_downsampling_block_2",
        pooling="avg",
        onnx=False,
    ),
    # -1 to 1, as MobileNetV2.
    "SigLIP2": Backbone(
        siglip2,
        _apps.mobilenet_v2.preprocess_input,
        "siglip2_encoder_block_9",
        pretrained="siglip2_base_patch16_224",
        pooling="none",
    ),
    # By the mean and spread of ImageNet's colours, as DenseNet.
    "DINOv2": Backbone(
        dinov2,
        _apps.densenet.preprocess_input,
        "dinov2_embeddings",
        pretrained="dinov2_small",
        pooling="none",
        onnx=False,
    ),
    # As VGG16 itself.
    "VGG16Slim": Backbone(
        vgg16_slim,
        _apps.vgg16.preprocess_input,
        "block4_pool",
        image_size=128,
        learning_rate=1e-3,
        pretrained="bundled",
    ),
}


def choose_backbone(backbone):
    """Resolve `backbone`: "auto" is VGG16 where its ImageNet weights are cached or to be had, else
    VGG16Slim.
    """
    if backbone != "auto":
        backbone_row(backbone)
        return Choice("backbone", backbone, "as asked")
    cache = (
        Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models" / VGG16_WEIGHTS
    )
    if cache.is_file():
        return Choice("backbone", "VGG16", "its ImageNet weights are in Keras' cache")
    try:
        requests.head(VGG16_ADDRESS, timeout=5).raise_for_status()
    except requests.RequestException as error:
        reason = f"bundled; VGG16's ImageNet weights cannot be reached ({type(error).__name__})"
        return Choice("backbone", "VGG16Slim", reason)
    return Choice("backbone", "VGG16", "its ImageNet weights can be downloaded")


def backbone_row(name):
    """The row of a backbone, and the width that its name may add: "MobileNetV2-0.35"."""
    kind, _, width = name.partition("-")
    fits = not width or (kind == "MobileNetV2" and re.fullmatch(r"\d+(\.\d+)?", width))
    if kind not in BACKBONES or not fits:
        raise ValueError(
            f"Unknown backbone {name!r}; choose one of {', '.join(BACKBONES)}, "
            "or a narrow MobileNetV2 such as MobileNetV2-0.35."
        )
    return BACKBONES[kind], {"alpha": float(width)} if width else {}


def load_backbone(name, weights="auto", *, image_size=None):
    """A network of the table without its top, frozen, and the preprocessing that it needs.

    Parameters
    ----------
    name
        A row of `BACKBONES`; a width may follow MobileNetV2, as in `MobileNetV2-0.35`.
    weights
        "auto": those that the row names, from a cache or download, for VGG16Slim the bundled ones;
        a file, or of SigLIP2 and DINOv2 the folder of a preset; or None for random weights.
    image_size
        Side of the square input in pixels; None is the size the network was trained at.

    Returns
    -------
    keras.Model, preprocessed pixels [batch, image_size, image_size, 3] to a feature map, which of
    SigLIP2 and DINOv2 has a single place; and the function that makes these of RGB in 0-255.

    Raises
    ------
    WeightsUnavailableError
        If weights are neither cached nor to be downloaded.
    FileNotFoundError, ValueError
        If the weights file is missing or does not fit, or the name is unknown.
    ImportError
        If the row needs keras-hub, and it is not installed.
    """
    row, options = backbone_row(name)
    if row.constructor.__module__.startswith("keras"):
        options["include_top"] = False
    size = image_size or row.image_size
    weights = row.pretrained if weights == "auto" else weights
    given = weights not in (None, row.pretrained)
    if given and not Path(weights := plain_path(weights)).exists():
        raise FileNotFoundError(
            f"No weights at {weights}. Leave weights='auto' to take those that {name} comes with."
        )
    try:
        base = row.constructor(weights=weights, input_shape=(size, size, 3), **options)
    except ImportError:
        raise
    except Exception as error:  # Keras raises a bare Exception where a download fails
        said = str(error).partition("\n")[0][:200]
        if given:
            raise ValueError(
                f"The weights in {weights} do not fit {name}: {said} ... "
                "If they are of a narrower one, its width is part of the name: MobileNetV2-0.35."
            ) from None
        if weights and (isinstance(error, requests.ConnectionError) or "fetch failure" in said):
            raise WeightsUnavailableError(
                f"The weights of {name} are in no cache and could not be downloaded: {said}. "
                "Connect to the internet once, or pass weights='path/to/file.h5', or use "
                "VGG16Slim, which needs none."
            ) from None
        raise
    base.trainable = False
    return base, row.preprocess


def build_encoder(name, *, weights="auto", pooling=None, image_size=None, seed=0):
    """Build an encoder: a frozen backbone with its own preprocessing in front and global pooling
    behind.

    Parameters
    ----------
    name, weights, image_size
        As `load_backbone` takes them, which says what is raised; random weights are drawn from
        Keras' global generator after setting it to `seed`.
    pooling
        "gem" (generalized mean), "avg" or "max" over the places of the last feature map; None is
        what the row says. Of SigLIP2 and DINOv2, which give a single vector, none is asked for.

    Returns
    -------
    keras.Model, float32 RGB [batch, image_size, image_size, 3] in 0-255 to float32 [batch, dim],
    not normalised.
    """
    row, _ = backbone_row(name)
    # The average of a single place is that place.
    pooling = "avg" if row.pooling == "none" else pooling or row.pooling
    pool = pooling_layer(pooling)
    if weights is None:
        keras.utils.set_random_seed(seed)
    base, preprocess = load_backbone(name, weights, image_size=image_size)
    image = keras.Input(base.input_shape[1:], name="image")
    places = base(preprocess(image), training=False)
    untrained = "-untrained" if weights is None else ""
    return keras.Model(image, pool(places), name=f"{name}-{pooling}{untrained}")


def embedding_encoder(classifier):
    """The classifier without its last layer: an encoder whose vectors are those of the layer
    `embedding`.
    """
    return keras.Model(
        classifier.input,
        classifier.get_layer("embedding").output,
        name=classifier.name.removesuffix("-classifier") + "-trained",
    )


def inner_backbone(model):
    """The network to a feature map that an encoder or classifier has inside; ValueError if none."""
    for layer in model.layers:
        if isinstance(layer, keras.Model) and len(getattr(layer.output, "shape", ())) == 4:
            return layer
    raise ValueError(f"{model.name} has no backbone inside; build it with build_encoder.")
