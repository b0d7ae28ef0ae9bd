"""The script that trained the bundled network, run for a moment on a few photos with a teacher of
random weights.
"""

import importlib.util
import json
import re
import shutil
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
from lookalike.vgg16_slim import vgg16_slim

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


def views_of(script, pictures, labels=None, form=(0.08, 0.0), seed=(0, 1), size=32):
    labels = np.eye(len(pictures), dtype=np.float32) if labels is None else labels
    views, labels = script.random_views(pictures, labels, np.array(seed), size, form)
    return np.asarray(views), np.asarray(labels)


def test_crops_are_pieces_of_their_own_picture_and_half_of_them_mirrored(script):
    """Every other picture gets brighter to the right, the rest downwards."""
    ramp = np.broadcast_to(np.linspace(60, 160, 64)[:, None, None], (64, 64, 3))
    pictures = np.stack([ramp.swapaxes(0, 1), ramp.swapaxes(0, 1)[::-1]] * 150).astype(np.uint8)
    pictures[1::2] = ramp
    views, _ = views_of(script, pictures)
    across = np.ptp(views.mean(axis=(1, 3)), axis=1)
    down = np.ptp(views.mean(axis=(2, 3)), axis=1)
    assert (across[::2] > 5).all() and (down[::2] < 1).all()
    assert (down[1::2] > 5).all() and (across[1::2] < 1).all()
    rises = views[::2, 0, -1, 0] > views[::2, 0, 0, 0]
    assert 0.35 < rises.mean() < 0.65
    # Upside down is no way that a product is shown.
    assert (views[1::2, -1, 0, 0] > views[1::2, 0, 0, 0]).all()
    assert across[::2].max() > 4 * across[::2].min()


def test_mixed_views_carry_both_labels_in_their_share_of_the_picture(script):
    """Each picture is of one grey, so a view tells by its mean how much of which it holds."""
    pictures = np.broadcast_to(np.arange(40, 140)[:, None, None, None], (100, 8, 8, 3))
    pure, _ = views_of(script, pictures.astype(np.uint8))
    mixed, shares = views_of(script, pictures.astype(np.uint8), form=(0.08, 0.3))
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    expected = shares @ pure.mean(axis=(1, 2))
    np.testing.assert_allclose(mixed.mean(axis=(1, 2)), expected, atol=1e-2)
    changed = np.diag(shares) < 1
    assert changed.mean() == pytest.approx(0.3, abs=0.12)
    # In a box, or all over.
    in_a_box = np.ptp(mixed[..., 0], axis=(1, 2))[changed] > 0.1
    assert 0.2 < in_a_box.mean() < 0.8


def test_views_are_the_same_for_the_same_seed(script):
    pictures = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8)
    views, again, other = (
        views_of(script, pictures, seed=seed, size=96)[0] for seed in ((0, 1), (0, 1), (0, 2))
    )
    np.testing.assert_array_equal(views, again)
    assert np.abs(views - other).mean() > 1
    assert views.shape == (8, 96, 96, 3)


def test_another_light_leaves_the_colour(script):
    """The channel that leads still leads, by half of its lead at least."""
    colours = np.repeat(np.uint8([[150, 40, 40], [40, 150, 40], [40, 40, 150]]), 100, axis=0)
    views, _ = views_of(script, np.broadcast_to(colours[:, None, None], (300, 4, 4, 3)))
    lit = views[:, 0, 0]
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
    encoder = build_encoder("VGG16Slim", weights=None)
    encoder.get_layer("vgg16_slim").set_weights(script.folded(student, pixels).get_weights())
    vectors = embed_images(encoder, pixels)
    alive = features.std(axis=0) > 1e-3
    assert alive.sum() > 10
    np.testing.assert_allclose(vectors[:, alive].std(axis=0), 1, rtol=1e-3)
    expected = features[:, alive] / features[:, alive].std(axis=0)
    np.testing.assert_allclose(vectors[:, alive], expected, rtol=1e-3, atol=1e-3)


def test_a_finished_network_goes_a_part_of_the_way(script, monkeypatch):
    """From the weights before to what the last epochs would make of them."""
    keras.utils.set_random_seed(0)
    network = vgg16_slim()
    before, taught = network.get_weights(), []

    def teach(student, batches, rate, label_weight, **options):
        convolutions = [one for one in student.layers if isinstance(one, keras.layers.Conv2D)]
        for one in convolutions:
            one.set_weights([weight + 1 for weight in one.get_weights()])
        taught.extend(weight for one in convolutions for weight in one.get_weights())

    monkeypatch.setattr(script, "teach", teach)
    monkeypatch.setattr(script, "lesson", lambda *material: None)
    script.finish(network, (0,), (2, 5))
    assert keras.config.dtype_policy().name == "float32"
    for old, new, whole in zip(before, network.get_weights(), taught, strict=True):
        part = old + script.PART_OF_THE_WAY * (whole - old)
        np.testing.assert_allclose(new, part, rtol=1e-5, atol=1e-6)


RUN = """
import runpy, sys
script = runpy.run_path({script!r})
names = script["main"].__globals__
names.update(EPOCHS=4, FINISH=1, STEPS=2, BATCH=8, SIZES=((0.5, 32), (1.0, 64)), TEACHER_SIZE=96)
script["main"](sys.argv[1:])
"""


@pytest.mark.soak
def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(folders):
    teacher = folders / "teacher.weights.h5"
    keras.applications.MobileNetV2(
        (96, 96, 3), alpha=0.35, include_top=False, weights=None
    ).save_weights(teacher)

    def command(out, epochs=4):
        data = [folders / "crockery", folders / "food", "--drawn", folders / "drawn"]
        rest = ["--teacher", teacher, "--epochs", epochs, "--out", folders / out]
        words = [sys.executable, "-c", RUN.format(script=str(SCRIPT)), "--data", *data, *rest]
        return [str(word) for word in words]

    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for out, epochs in (("whole", 4), ("short", 2)):
        subprocess.run(command(out, epochs), check=True, **quiet)
    killed = subprocess.Popen(command("killed"), **quiet)
    log = folders / "killed" / "log.csv"
    while not log.exists() or len(log.read_text().splitlines()) < 3:  # of two epochs
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (folders / "killed" / "vgg16_slim.weights.h5").exists()
    # As if it had been while the newest backup was written, which goes before the line in the log.
    shutil.copytree(folders / "killed", folders / "half")
    backup, log = folders / "half" / "backup", folders / "half" / "log.csv"
    before = json.loads((backup / "training_metadata.json.bkp").read_text())["epoch"]
    log.write_text("".join(log.read_text().splitlines(keepends=True)[: 1 + before]))
    newest = backup / "latest.weights.h5"
    newest.write_bytes(newest.read_bytes()[:5000])
    logs = {}
    for out in ("killed", "half"):
        after = subprocess.run(command(out), check=True, capture_output=True, text=True)
        assert re.search(rf"Going on after [123] epochs; delete .*{out}.backup", after.stdout)
        assert "Epoch 1/4" not in after.stdout
        assert not (folders / out / "backup").exists()
        logs[out] = pd.read_csv(folders / out / "log.csv")
    whole, short = (pd.read_csv(folders / name / "log.csv") for name in ("whole", "short"))
    for log in logs.values():
        assert log["epoch"].tolist() == [0, 1, 2, 3]
        np.testing.assert_allclose(log["loss"], whole["loss"], rtol=0.02)
    # The schedule is that of the whole training.
    np.testing.assert_allclose(short["loss"], whole["loss"][:2], rtol=0.02)
    trained = build_encoder("VGG16Slim", weights=folders / "half" / "vgg16_slim.weights.h5")
    vectors = trained(np.random.default_rng(0).random((2, 128, 128, 3)).astype(np.float32) * 255)
    assert np.isfinite(vectors).all()
    assert np.ptp(vectors) > 0
