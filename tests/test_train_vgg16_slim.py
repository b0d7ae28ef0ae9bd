"""The script that trained the bundled network, run for a moment on a few photos with a teacher of
random weights.
"""

import importlib.util
import re
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from conftest import PROJECT, write_photo
from lookalike.backbones import build_encoder
from lookalike.embeddings import embed_images

SCRIPT = PROJECT / "models" / "train_vgg16_slim.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("train_vgg16_slim", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folders(tmp_path):
    """Eight photos of crockery, four of food, six drawn pictures; of two kinds each."""
    kinds = {"crockery": ("cup", "plate"), "food": ("fig", "nut"), "drawn": ("cap", "hat")}
    for (folder, (one, other)), count in zip(kinds.items(), (8, 4, 6), strict=True):
        for number in range(count):
            kind = other if number % 2 else one
            write_photo(tmp_path / folder / kind / f"{number}.png", 10 * count + number)
    return tmp_path


def test_photos_of_each_folder_come_as_often_and_drawn_pictures_have_no_label(script, folders):
    pictures, labels, chances = script.load_pictures(
        [folders / "crockery", folders / "food"], [folders / "drawn"]
    )
    assert pictures.shape == (18, script.STORED_SIZE, script.STORED_SIZE, 3)
    np.testing.assert_array_equal(labels.sum(axis=0), [4, 2, 2, 4])
    np.testing.assert_array_equal(labels.sum(axis=1), [1] * 12 + [0] * 6)
    assert chances.sum() == pytest.approx(1)
    assert chances[:8].sum() == pytest.approx(chances[8:12].sum())
    assert chances[12:].sum() == pytest.approx(script.DRAWN_SHARE)


def test_the_relation_of_equal_features_costs_nothing_and_of_others_something(script, monkeypatch):
    monkeypatch.setattr(script, "SHARPNESS", 1 / script.TEMPERATURE)
    random = np.random.default_rng(0)
    target, other = random.normal(size=(2, 16, 8)).astype(np.float32)
    target /= target.std(axis=0)
    scale = np.arange(1, 9, dtype=np.float32)
    np.testing.assert_allclose(script.relation_loss(target, scale * target), 0, atol=1e-5)
    assert np.mean(script.relation_loss(target, other)) > 0.1


def test_labels_cost_what_keras_says_and_none_moves_nothing(script):
    random = np.random.default_rng(0)
    scores = tf.constant(random.normal(size=(5, 3)), tf.float32)
    labels = random.dirichlet([1, 1, 1], 5).astype(np.float32)
    expected = keras.losses.categorical_crossentropy(labels, scores, from_logits=True)
    np.testing.assert_allclose(script.label_loss(labels, scores), expected, rtol=1e-5)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        loss = script.label_loss(0 * labels, scores)
    np.testing.assert_array_equal(loss, 0)
    np.testing.assert_array_equal(tape.gradient(loss, scores), 0)


def uniform(low, high, *shape):
    return tf.random.uniform((300, *shape), low, high, seed=0)


def test_crops_are_pieces_of_their_own_picture_and_half_of_them_mirrored(script):
    """Of pictures that get brighter to the right, each by one level of its own of blue."""
    ramp = np.broadcast_to(np.linspace(0, 255, 64, dtype=np.uint8), (300, 64, 64))
    own = np.broadcast_to(np.arange(300) % 256, (64, 64, 300)).transpose(2, 0, 1)
    pictures = np.stack([ramp, 0 * ramp, own.astype(np.uint8)], axis=3)
    crops = np.asarray(script.random_crops(pictures, 32, uniform))
    np.testing.assert_allclose(crops[..., 2], own[:, :32, :32], atol=1e-3)
    steps = crops[:, 0, -1, 0] - crops[:, 0, 0, 0]
    assert 0.4 < (steps < 0).mean() < 0.6
    assert 0.2 < np.abs(steps).min() / 255 < 0.3  # of a side, of the root of 0.08
    assert np.abs(steps).max() / 255 > 0.95


def test_mixed_views_carry_both_labels_in_their_share_of_the_picture(script):
    """Each picture has one brightness of its own, and the label tells it."""
    brightness = np.arange(300, dtype=np.float32)
    views = np.broadcast_to(brightness[:, None, None, None], (300, 16, 16, 3))
    labels = np.eye(300, dtype=np.float32)
    mixed, shares = script.mixed(views, labels, uniform)
    np.testing.assert_allclose(np.sum(shares, axis=1), 1, rtol=1e-5)
    expected = np.asarray(shares) @ brightness
    np.testing.assert_allclose(np.mean(mixed, axis=(1, 2, 3)), expected, rtol=1e-3, atol=1e-3)
    changed = np.diag(shares) < 1
    assert changed.mean() == pytest.approx(script.MIXED_SHARE, abs=0.07)
    # In a box, or all over.
    assert (np.ptp(mixed, axis=(1, 2, 3))[changed] > 0).mean() == pytest.approx(0.5, abs=0.2)


def test_views_are_the_same_for_the_same_seed(script):
    pictures = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8)
    labels = np.eye(8, dtype=np.float32)
    views, again, other = (
        script.random_views(pictures, labels, np.array(seed), 96)[0]
        for seed in ([0, 1], [0, 1], [0, 2])
    )
    np.testing.assert_array_equal(views, again)
    assert np.abs(views - other).mean() > 1
    assert views.shape == (8, 96, 96, 3)


def test_another_light_leaves_the_colour(script):
    """The channel that leads still leads, by half of its lead at least."""
    colours = np.repeat(np.float32([[150, 40, 40], [40, 150, 40], [40, 40, 150]]), 100, axis=0)
    views = np.broadcast_to(colours[:, None, None], (300, 4, 4, 3))
    lit = np.asarray(script.other_light(views, uniform))[:, 0, 0]
    assert np.ptp(lit.sum(axis=1)) > 60
    leads = colours == 150
    lead = 1 - lit[~leads].reshape(300, 2).max(axis=1) / lit[leads]
    assert (lead > (1 - 40 / 150) / 2).all()


def test_the_encoder_sees_what_the_student_saw_each_feature_at_one_spread(script):
    keras.utils.set_random_seed(3)
    student = script.build_student(2, 5, dtype="float32")
    random = np.random.default_rng(0)
    for layer in student.layers:
        if "norm" in layer.name and layer.name.startswith("block"):
            layer.set_weights([random.uniform(0.5, 2, weight.shape) for weight in layer.weights])
    pixels = random.integers(0, 256, (12, 128, 128, 3)).astype(np.uint8)
    features = student.predict(
        keras.applications.vgg16.preprocess_input(pixels.astype(np.float32)), verbose=0
    )["relation"]
    encoder = script.encoder_of(student, pixels)
    vectors = embed_images(encoder, pixels)
    alive = features.std(axis=0) > 1e-3
    assert alive.sum() > 10
    np.testing.assert_allclose(vectors[:, alive].std(axis=0), 1, rtol=1e-3)
    expected = features[:, alive] / features[:, alive].std(axis=0)
    np.testing.assert_allclose(vectors[:, alive], expected, rtol=1e-3, atol=1e-3)


RUN = """
import runpy, sys
script = runpy.run_path({script!r})
names = script["main"].__globals__
names.update(EPOCHS=4, STEPS=2, BATCH=8, SIZES=((0.5, 32), (1.0, 64)), TEACHER_SIZE=96)
script["main"](sys.argv[1:])
"""


@pytest.mark.soak
def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(script, folders):
    teacher = folders / "teacher.weights.h5"
    keras.applications.MobileNetV2(
        (96, 96, 3), alpha=0.35, include_top=False, weights=None
    ).save_weights(teacher)

    def command(out, epochs):
        data = [folders / "crockery", folders / "food", "--drawn", folders / "drawn"]
        rest = ["--teacher", teacher, "--epochs", epochs, "--out", folders / out]
        words = [sys.executable, "-c", RUN.format(script=str(SCRIPT)), "--data", *data, *rest]
        return [str(word) for word in words]

    subprocess.run(command("whole.weights.h5", 4), check=True, capture_output=True)
    killed = subprocess.Popen(
        command("killed.weights.h5", 4), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    log = folders / "killed.weights.csv"
    while not log.exists() or len(log.read_text().splitlines()) < 3:  # of two epochs
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (folders / "killed.weights.h5").exists()
    assert not (folders / "whole.weights.backup").exists()
    after = subprocess.run(
        command("killed.weights.h5", 4), check=True, capture_output=True, text=True
    )
    assert re.search(r"Going on after [1-3] epochs; delete .*killed\.weights\.backup", after.stdout)
    assert "Epoch 1/4" not in after.stdout
    assert "64 views seen" in after.stdout
    logs = [pd.read_csv(folders / f"{name}.weights.csv") for name in ("whole", "killed")]
    assert logs[1]["epoch"].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(logs[0]["loss"], logs[1]["loss"], rtol=0.02)
    trained = build_encoder("VGG16Slim", weights=folders / "killed.weights.h5")
    vectors = trained(np.random.default_rng(0).random((2, 128, 128, 3)).astype(np.float32) * 255)
    assert np.isfinite(vectors).all()
    assert np.ptp(vectors) > 0
