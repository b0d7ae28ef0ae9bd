"""The script that trained the bundled network, run for a moment on a few photos with a teacher of
random weights.
"""

import importlib.util
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
    """Eight photos of cups and plates, four of a nut, six drawn pictures in a folder of a name."""
    for number in range(8):
        write_photo(
            tmp_path / "crockery" / ("cup" if number % 2 else "plate") / f"{number}.png", number
        )
    for number in range(4):
        write_photo(tmp_path / "food" / "nut" / f"{number}.png", 50 + number)
    for number in range(6):
        write_photo(tmp_path / "drawn" / "hat" / f"{number}.png", 100 + number)
    return tmp_path


def test_photos_of_each_folder_come_as_often_and_drawn_pictures_have_no_label(script, folders):
    pictures, labels, chances = script.load_pictures(
        [folders / "crockery", folders / "food"], [folders / "drawn"]
    )
    assert pictures.shape == (18, script.STORED_SIZE, script.STORED_SIZE, 3)
    np.testing.assert_array_equal(labels.sum(axis=0), [4, 4, 4])
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


def test_labels_cost_what_keras_says_and_none_costs_nothing(script):
    random = np.random.default_rng(0)
    scores = random.normal(size=(5, 3)).astype(np.float32)
    labels = random.dirichlet([1, 1, 1], 5).astype(np.float32)
    expected = keras.losses.categorical_crossentropy(labels, scores, from_logits=True)
    np.testing.assert_allclose(script.label_loss(labels, scores), expected, rtol=1e-5)
    np.testing.assert_array_equal(script.label_loss(0 * labels, scores), 0)


def test_views_are_the_same_for_the_same_seed_and_keep_the_sum_of_labels(script):
    pictures = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8)
    labels = np.eye(4, dtype=np.float32)[np.arange(8) % 4]
    views, mixed = script.random_views(pictures, labels, np.array([0, 1]), 96)
    again, _ = script.random_views(pictures, labels, np.array([0, 1]), 96)
    other, _ = script.random_views(pictures, labels, np.array([0, 2]), 96)
    np.testing.assert_array_equal(views, again)
    assert np.abs(views - other).mean() > 1
    assert views.shape == (8, 96, 96, 3)
    assert (np.min(views) >= 0) and (np.max(views) <= 255)
    np.testing.assert_allclose(np.sum(mixed, axis=1), 1, rtol=1e-5)


def test_another_light_leaves_the_colour(script):
    """The channel that leads still leads, by half of its lead at least."""
    colours = np.float32([[150, 40, 40], [40, 150, 40], [40, 40, 150]])
    views = np.broadcast_to(np.repeat(colours, 200, axis=0)[:, None, None], (600, 4, 4, 3))

    def uniform(low, high, *shape):
        return tf.random.uniform((600, *shape), low, high)

    tf.random.set_seed(0)
    lit = np.asarray(script.other_light(views, uniform))[:, 0, 0].reshape(3, 200, 3)
    assert np.ptp(lit.sum(axis=2), axis=1).min() > 60
    for channel, of_channel in enumerate(lit):
        others = np.delete(of_channel, channel, axis=1).max(axis=1)
        before = 40 / 150
        assert ((1 - others / of_channel[:, channel]) > (1 - before) / 2).all()


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
    backup = folders / "killed.weights.backup" / "training_metadata.json"
    while not backup.exists():
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (folders / "killed.weights.h5").exists()
    after = subprocess.run(
        command("killed.weights.h5", 4), check=True, capture_output=True, text=True
    )
    assert "Epoch 1/4" not in after.stdout
    assert "64 views seen" in after.stdout
    logs = [pd.read_csv(folders / f"{name}.weights.csv") for name in ("whole", "killed")]
    assert logs[1]["epoch"].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(logs[0]["loss"], logs[1]["loss"], rtol=0.02)
    trained = build_encoder("VGG16Slim", weights=folders / "killed.weights.h5")
    vectors = trained(np.random.default_rng(0).random((2, 128, 128, 3)).astype(np.float32) * 255)
    assert np.isfinite(vectors).all()
    assert np.ptp(vectors) > 0
