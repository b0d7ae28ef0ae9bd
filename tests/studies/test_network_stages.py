from itertools import pairwise

import keras
import numpy as np
import pytest

from conftest import quick, small_classifier
from lookalike.backbones import BACKBONES, build_encoder, embedding_encoder, inner_backbone
from lookalike.studies.encoder_variants import mirrored
from lookalike.studies.network_stages import stage_encoder

STAGES = {
    "VGG16": ["block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3"],
    "ResNet50": ["conv1_relu", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out"],
    "MobileNetV2": [
        "block_1_expand_relu",
        "block_3_expand_relu",
        "block_6_expand_relu",
        "block_13_expand_relu",
    ],
    "EfficientNetV2B0": [
        "block1a_project_activation",
        "block2b_add",
        "block4a_expand_activation",
        "block6a_expand_activation",
    ],
}
ENDS = {"VGG16": "block5_pool", "ResNet50": "conv5_block3_out", "MobileNetV2": "out_relu"}
STAGES = {name: [*stages, ENDS.get(name, "top_activation")] for name, stages in STAGES.items()}
STAGES["VGG16Slim"] = STAGES["VGG16"]


def photos(height, width=None, count=2, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, height, width or height, 3))
    return pixels.astype(np.float32)


def check(encoder, stages, columns, pixels):
    """Compare each part with the average of its layer's output, and the last with the encoder."""
    outputs = stages(pixels.copy()).numpy()
    assert outputs.dtype == np.float32
    assert outputs.shape[1] == stages.output_shape[1]
    ends = [0, *(one.stop for one in columns.values())]
    assert list(columns.values()) == [slice(*pair) for pair in pairwise(ends)]
    assert ends[-1] == outputs.shape[1]
    backbone = inner_backbone(encoder)
    names = {"vgg16_slim": "VGG16Slim"}
    name = encoder.name.split("-")[0]
    prepared = BACKBONES[names.get(name, name)].preprocess(pixels.copy())
    *names, last = columns
    assert last == "vector"
    for name in names:
        places = keras.Model(backbone.input, backbone.get_layer(name).output)(
            prepared, training=False
        ).numpy()
        expected = places.reshape(len(pixels), -1, places.shape[-1]).mean(axis=1)
        np.testing.assert_allclose(
            outputs[:, columns[name]], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
        )
    expected = encoder(pixels.copy(), training=False).numpy()
    np.testing.assert_allclose(
        outputs[:, columns["vector"]], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )


@pytest.mark.parametrize("name", quick(STAGES, "VGG16Slim", "MobileNetV2", "EfficientNetV2B0"))
def test_each_backbone_has_a_stage_for_each_size_of_its_maps_early_to_late(name):
    encoder = build_encoder(name, weights=None, image_size=64, pooling="avg")
    stages, columns = stage_encoder(encoder)
    assert list(columns) == [*STAGES[name], "vector"]
    sides = [inner_backbone(encoder).get_layer(one).output.shape[1] for one in STAGES[name]]
    assert sides == [64 // 2**step for step in range(7)][-len(sides) - 1 : -1]
    check(encoder, stages, columns, photos(64))


@pytest.mark.parametrize("name", ["VGG16Slim", "MobileNetV2"])
def test_an_input_so_small_that_the_last_map_is_one_place_has_the_same_stages(name):
    encoder = build_encoder(name, weights=None, image_size=32)
    assert inner_backbone(encoder).output.shape[1:3] == (1, 1)
    stages, columns = stage_encoder(encoder)
    assert list(columns) == [*STAGES[name], "vector"]
    check(encoder, stages, columns, photos(32))


def test_a_trained_encoder_has_the_same_stages_and_its_own_vector():
    encoder = embedding_encoder(small_classifier(size=64, dim=7))
    stages, columns = stage_encoder(encoder)
    assert columns["vector"] == slice(496, 503)
    check(encoder, stages, columns, photos(64))


def test_a_model_without_a_backbone_of_the_table_is_refused(encoder):
    bare = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3), keras.layers.Flatten()], name="bare"
    )
    with pytest.raises(ValueError, match="bare has no backbone inside"):
        stage_encoder(bare)
    for outer in (mirrored(encoder), stage_encoder(encoder)[0]):
        with pytest.raises(ValueError, match=f"{outer.name} has no backbone inside"):
            stage_encoder(outer)
