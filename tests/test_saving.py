from pathlib import Path

import numpy as np
import pytest

from lookalike.backbones import build_classifier, build_encoder, embedding_encoder
from lookalike.encoder_fingerprint import encoder_fingerprint
from lookalike.saving import load_model, open_encoder, save_model

FIRST_EDITION = Path(__file__).parent / "models" / "first_edition.keras"


@pytest.fixture
def trained(tmp_path):
    """A classifier for the catalogue `shop`, saved as notebook 03 does."""
    classifier = build_classifier(build_encoder("VGG16Slim", weights=None, image_size=32), 3, dim=7)
    save_model(
        classifier,
        tmp_path / "model_recommendation.keras",
        {"catalogue": "shop", "backbone": "VGG16Slim"},
    )
    return classifier


@pytest.mark.parametrize("backbone", ["auto", "VGG16Slim"])
def test_the_model_trained_on_a_catalogue_gives_its_second_to_last_layer(
    trained, tmp_path, backbone
):
    encoder, choice = open_encoder(tmp_path, "shop", backbone)
    assert encoder.output_shape == (None, 7)
    assert encoder.get_layer("embedding").get_weights()[0].shape == (128, 7)
    assert str(choice) == (
        "encoder = VGG16Slim-gem-untrained-trained: trained on this catalogue by 03_fine_tuning.ipynb"
    )


@pytest.mark.parametrize(
    ("catalogue", "backbone"), [("another shop", "VGG16Slim"), ("shop", "MobileNetV2")]
)
def test_a_model_of_another_catalogue_or_backbone_is_not_used_and_that_is_said(
    trained, tmp_path, catalogue, backbone
):
    encoder, choice = open_encoder(
        tmp_path, catalogue, backbone, weights=None, image_size=32, seed=0
    )
    expected = build_encoder(backbone, weights=None, image_size=32, seed=0)
    assert encoder_fingerprint(encoder) == encoder_fingerprint(expected)
    assert "the trained model is a VGG16Slim for shop" in choice.reason


@pytest.mark.parametrize(
    ("name", "alpha", "used"),
    [
        ("MobileNetV2", 0.35, True),
        ("MobileNetV2", None, True),
        ("MobileNetV2-0.35", None, True),
        ("auto", None, True),
        ("MobileNetV2", 1.0, False),
        ("MobileNetV2-0.5", None, False),
    ],
)
@pytest.mark.parametrize("card", [("MobileNetV2", 0.35), ("MobileNetV2-0.35", None)])
def test_a_model_of_another_width_is_not_used(tmp_path, name, alpha, used, card):
    classifier = build_classifier(
        build_encoder("MobileNetV2", weights=None, alpha=0.35, image_size=32), 3, dim=7
    )
    card = {"catalogue": "shop", "backbone": card[0], "alpha": card[1]}
    save_model(classifier, tmp_path / "model_recommendation.keras", card)
    encoder, choice = open_encoder(tmp_path, "shop", name, alpha=alpha, weights=None, image_size=32)
    assert encoder.name.endswith("-trained") == used
    assert used or "the trained model is a MobileNetV2 of alpha 0.35 for shop" in choice.reason


def test_without_a_trained_model_the_backbone_is_taken_as_it_comes(tmp_path):
    encoder, choice = open_encoder(tmp_path, "shop", "VGG16Slim", weights=None, image_size=32)
    assert encoder.output_shape == (None, 128)
    assert choice.reason == "no model is trained yet; as asked"


def test_a_model_of_the_first_edition_opens_and_gives_the_vectors_that_it_gave():
    classifier, card = load_model(FIRST_EDITION)
    gradient = np.linspace(0, 255, 32 * 32 * 3, dtype=np.float32).reshape(1, 32, 32, 3)
    vector = embedding_encoder(classifier).predict(gradient, verbose=0)[0]
    np.testing.assert_allclose(vector, card["embedding_of_a_gradient"], rtol=1e-4)
    assert classifier.get_layer("pooling").p == 3
    assert classifier.output_shape == (None, len(card["labels"]))
