"""Vision transformers of keras-hub, as networks of the table of backbones."""

import keras

from lookalike.machine import require


def siglip2(weights=None, input_shape=(224, 224, 3)):
    """The vision tower of SigLIP 2, base size, without its text tower: [batch, height, width, 3] to
    [batch, 1, 1, 768].

    Source: Tschannen et al., "SigLIP 2: Multilingual Vision-Language Encoders with Improved
    Semantic Understanding, Localization, and Dense Features", 2025.
    """
    models = _keras_hub()
    if weights:
        tower = models.SigLIPBackbone.from_preset(weights).vision_encoder
    else:
        tower = models.SigLIPVisionEncoder(16, 768, 12, 12, 3072, image_shape=input_shape)
    size = tower.image_shape[0]
    if size != input_shape[0]:
        raise ValueError(f"it takes photos of {size} pixels, not {input_shape[0]}")
    # A preset has names of its own, and computes in float32, whatever Keras is set to.
    settings = tower.get_config() | {
        "name": "siglip2",
        "dtype": keras.config.dtype_policy().name,
    }
    ours = models.SigLIPVisionEncoder.from_config(settings)
    (pixels,) = ours.inputs
    # keras-hub counts one place too many, which only shows where the network is cut in two.
    places = ours.embedding(pixels)[:, : (size // ours.patch_size) ** 2]
    for block in ours.encoder_layers:
        places = block(places)
    whole = _one_place(pixels, ours.head(ours.post_layer_norm(places)), "siglip2")
    base = keras.models.clone_model(whole)  # of layers that stand in no other network
    base.set_weights(tower.get_weights())
    return base


def dinov2(weights=None, input_shape=(224, 224, 3)):
    """DINOv2, small: [batch, height, width, 3] to its class token, [batch, 1, 1, 384].

    Source: Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", TMLR 2024.
    """
    models = _keras_hub()
    options = {"image_shape": input_shape, "name": "dinov2"}
    if weights:
        network = models.DINOV2Backbone.from_preset(weights, **options)
    else:
        network = models.DINOV2Backbone(14, 12, 384, 6, 1536, **options)
    return _one_place(network.inputs[0], network.output[:, 0], "dinov2")


def _keras_hub():
    require("keras-hub")
    import keras_hub

    return keras_hub.models


def _one_place(pixels, vector, name):
    """A network whose vector is a feature map of a single place: what pools maps takes it, too."""
    place = keras.layers.Reshape((1, 1, vector.shape[-1]), name="whole_photo")(vector)
    return keras.Model(pixels, place, name=name)
