"""The script that trained the bundled network, run for a moment on a few photos with a teacher of
random weights.
"""

import importlib.util

import keras
import numpy as np
import pytest

from conftest import PROJECT, write_photo
from lookalike.backbones import build_encoder
from lookalike.embeddings import embed_images
from lookalike.encoder_fingerprint import encoder_fingerprint


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(
        "train_vgg16_slim", PROJECT / "models" / "train_vgg16_slim.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def photos(tmp_path):
    for number in range(8):
        write_photo(
            tmp_path / "photos" / ("cup" if number % 2 else "plate") / f"{number}.png", number
        )
        write_photo(tmp_path / "drawn" / f"{number}.png", 100 + number)
    return tmp_path


def test_drawn_pictures_count_as_asked_and_have_no_label(script, photos):
    pictures, labels, chances = script.load_pictures(photos / "photos", [photos / "drawn"])
    assert pictures.shape == (16, script.STORED_SIZE, script.STORED_SIZE, 3)
    np.testing.assert_array_equal(labels.sum(axis=1), [1] * 8 + [0] * 8)
    assert chances[:8].sum() == pytest.approx(script.PHOTO_SHARE)
    assert chances.sum() == pytest.approx(1)


def test_the_relation_of_equal_features_costs_nothing_and_of_others_something(script):
    random = np.random.default_rng(0)
    target = random.normal(size=(16, 8)).astype(np.float32)
    other = random.normal(size=(16, 8)).astype(np.float32)
    sharpness = np.float32(1 / script.TEMPERATURE)
    assert float(script.relation_loss(3 * target, target, sharpness)) == pytest.approx(0, abs=1e-5)
    assert float(script.relation_loss(other, target, sharpness)) > 0.1


@pytest.mark.soak
def test_drawn_pictures_move_the_classifier_nowhere(script, photos):
    """Their labels are all zero: they must not push on it, or nothing else learns beside them."""
    pictures, labels, _ = script.load_pictures(photos / "photos", [photos / "drawn"])
    teacher = photos / "teacher.weights.h5"
    keras.applications.MobileNetV2(
        (160, 160, 3), alpha=0.35, include_top=False, weights=None
    ).save_weights(teacher)
    drawn_only = np.repeat([0, 1 / 8], 8)
    trainer = script.Trainer(pictures, labels, drawn_only, teacher, seed=0)
    dense = trainer.classify.layers[-1]
    before = dense.get_weights()
    trainer.step(0, 0.5)
    for old, new in zip(before, dense.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_views_are_the_same_for_the_same_seed_and_keep_the_sum_of_labels(script):
    pictures = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8)
    labels = np.eye(4, dtype=np.float32)[np.arange(8) % 4]
    views, mixed = script.random_views(pictures, labels, np.array([0, 1]))
    again, _ = script.random_views(pictures, labels, np.array([0, 1]))
    other, _ = script.random_views(pictures, labels, np.array([0, 2]))
    np.testing.assert_array_equal(views, again)
    assert np.abs(views - other).mean() > 1
    assert views.shape == (8, script.STUDENT_SIZE, script.STUDENT_SIZE, 3)
    assert (np.min(views) >= 0) and (np.max(views) <= 255)
    np.testing.assert_allclose(np.sum(mixed, axis=1), 1, rtol=1e-5)


def test_equalised_features_vary_equally_and_keep_their_order(script, photos):
    encoder = build_encoder("VGG16Slim", weights=None, seed=3)
    paths = [str(path) for path in sorted(photos.rglob("*.png"))]
    before = embed_images(encoder, paths)
    script.equalise(encoder, paths)
    after = embed_images(encoder, paths)
    alive = before.std(axis=0) > 1e-3
    assert alive.sum() > 10
    np.testing.assert_allclose(after[:, alive].std(axis=0), 1, rtol=1e-3)
    np.testing.assert_allclose(
        after[:, alive], before[:, alive] / before[:, alive].std(axis=0), rtol=1e-3
    )


@pytest.mark.soak
def test_a_short_run_ends_in_weights_that_the_encoder_loads(script, photos, monkeypatch, capsys):
    monkeypatch.setattr(script, "BATCH", 8)
    monkeypatch.setattr(script, "SIZES", ((1, 64),))
    teacher = photos / "teacher.weights.h5"
    keras.applications.MobileNetV2(
        (160, 160, 3), alpha=0.35, include_top=False, weights=None
    ).save_weights(teacher)
    out = photos / "slim.weights.h5"
    options = [
        "--data",
        photos / "photos",
        "--drawn",
        photos / "drawn",
        "--validation",
        photos / "photos",
    ]
    script.main(
        [str(word) for word in (*options, "--teacher", teacher, "--epochs", 2, "--out", out)]
    )
    printed = capsys.readouterr().out
    assert "epoch 2" in printed
    assert "folding differs" in printed
    trained = build_encoder("VGG16Slim", weights=out)
    assert encoder_fingerprint(trained) != encoder_fingerprint(
        build_encoder("VGG16Slim", weights=None, seed=0)
    )
    vectors = trained(
        np.random.default_rng(0).random((2, 128, 128, 3)).astype(np.float32) * 255
    ).numpy()
    assert np.isfinite(vectors).all()
    assert np.ptp(vectors) > 0
