"""The script that trained the bundled network, run for a moment on a few photos with a teacher of
random weights.
"""

import importlib.util
import re
import subprocess
import sys
import time

import keras
import numpy as np
import pandas as pd
import pytest

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


RUN = """
import runpy, sys
script = runpy.run_path({script!r})
names = script["main"].__globals__
names.update(EPOCHS=4, FINISH=1, STEPS=2, BATCH=8, SIZES=((0.5, 32), (1.0, 64)), TEACHER_SIZE=96)
script["main"](sys.argv[1:])
"""


@pytest.mark.soak
def test_a_killed_run_goes_on_and_leaves_weights_that_load(folders):
    teacher = folders / "teacher.weights.h5"
    network = keras.applications.MobileNetV2((96, 96, 3), 0.35, include_top=False, weights=None)
    network.save_weights(teacher)
    out = folders / "out"
    data = ["--data", folders / "crockery", folders / "food", "--drawn", folders / "drawn"]
    rest = ["--teacher", teacher, "--epochs", 4, "--out", out]
    code = RUN.format(script=str(SCRIPT))
    command = [str(word) for word in (sys.executable, "-c", code, *data, *rest)]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = out / "log.csv"
    while not log.exists() or len(log.read_text().splitlines()) < 3:  # of two epochs
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert not (out / "vgg16_slim.weights.h5").exists()
    after = subprocess.run(command, check=True, capture_output=True, text=True)
    assert re.search(r"Going on after [123] epochs; delete .*out.backup", after.stdout)
    assert not (out / "backup").exists()
    assert pd.read_csv(log)["epoch"].tolist() == [0, 1, 2, 3]
    trained = build_encoder("VGG16Slim", weights=out / "vgg16_slim.weights.h5")
    vectors = trained(np.random.default_rng(0).random((2, 128, 128, 3)).astype(np.float32) * 255)
    assert np.isfinite(vectors).all()
    assert np.ptp(vectors) > 0
