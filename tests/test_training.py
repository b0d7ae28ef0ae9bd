import random
import signal

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_archives import killed

from conftest import small_classifier, write_photo
from lookalike.backbones import embedding_encoder, inner_backbone
from lookalike.images import load_image
from lookalike.training import augmentation, backup_folder, photo_batches, train, unfreeze


def write_colours(folder, count, held_out=0):
    """A catalogue of reddish and bluish photos in turn, the last `held_out` for validation."""
    rows = []
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 30, (5, 5, 3), np.uint8)
        pixels[..., 2 * (number % 2)] += 200
        path = folder / f"{number:03}.png"
        Image.fromarray(pixels).resize((40, 40), Image.Resampling.BICUBIC).save(path)
        split = "validation" if number >= count - held_out else "train"
        rows.append((path.name, str(path), f"product-{number}", ("red", "blue")[number % 2], split))
    return pd.DataFrame(rows, columns=["image_id", "path", "product_id", "label", "split"])


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Twenty photos to learn from, ten to judge by."""
    return write_colours(tmp_path_factory.mktemp("colours"), 30, held_out=10)


def fresh(n_classes=2, seed=0, size=32):
    """The bundled network on small photos, with a head that knows nothing yet."""
    return small_classifier(n_classes, dim=32, weights="auto", size=size, seed=seed)


def pixels_of(rows, size=32):
    return np.stack([load_image(path, (size, size)) for path in rows["path"]]).astype(np.float32)


def some_pixels(count, size=32):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype(np.float32)


# --- The network


def test_a_classifier_ends_in_the_cosines_of_its_embedding_with_a_direction_for_each_class():
    classifier = small_classifier(3, dim=8)
    pixels = some_pixels(5)
    vectors = embedding_encoder(classifier)(pixels).numpy()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    classifier.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)
    classifier.train_on_batch(
        pixels, np.array([0, 1, 2, 0, 1])
    )  # after which kernels have length 1
    vectors = embedding_encoder(classifier)(pixels).numpy()
    kernel = classifier.layers[-1].kernel.numpy()
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 1, rtol=1e-5)
    powers = np.exp(8 * vectors @ kernel)
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(classifier(pixels), expected, rtol=1e-4)


def test_unfrozen_is_what_lies_behind_a_layer_but_batch_normalisation():
    base = keras.applications.MobileNetV2(
        alpha=0.35, include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    unfreeze(base, "block_15_add")
    learning = [layer.name for layer in base.layers if layer.trainable_weights]
    convolutions = ("expand", "depthwise", "project")
    assert learning == [*(f"block_16_{name}" for name in convolutions), "Conv_1"]
    unfreeze(base, "Conv_1")
    assert not base.trainable_weights


# --- Photos on their way


def test_batches_are_the_photos_in_order_with_the_places_of_their_labels(colours):
    pixels, kinds = zip(
        *photo_batches(colours, ["blue", "red"], (32, 32), batch_size=7), strict=True
    )
    assert [len(each) for each in kinds] == [7, 7, 7, 7, 2]
    np.testing.assert_array_equal(np.concatenate(pixels), pixels_of(colours))
    np.testing.assert_array_equal(np.concatenate(kinds), [1, 0] * 15)


def test_a_photo_with_any_name_is_read_and_a_broken_one_is_named(tmp_path):
    odd = write_photo(tmp_path / "naïve €.png", 0)
    rows = pd.DataFrame({"path": [str(odd)], "label": ["cup"]})
    [(pixels, _)] = photo_batches(rows, ["cup"], (16, 16))
    np.testing.assert_array_equal(pixels[0], load_image(odd, (16, 16)))
    (tmp_path / "broken.jpg").write_bytes(b"not a photo")
    rows["path"] = str(tmp_path / "broken.jpg")
    with pytest.raises(Exception, match=r"broken\.jpg"):
        list(photo_batches(rows, ["cup"], (16, 16)))


# --- Augmentation


def variants(pixels, count=60, seed=0):
    keras.utils.set_random_seed(seed)
    return np.asarray(augmentation()(np.stack([np.float32(pixels)] * count), training=True))


def test_a_photo_of_one_colour_stays_so_with_nothing_black_beyond_its_edge():
    for shade in variants(np.full((40, 40, 3), (190, 140, 100))):
        assert np.ptp(shade.reshape(-1, 3), axis=0).max() < 1
        red, green, blue = shade[0, 0]
        assert red > green > blue > 20


def test_half_of_the_variants_are_mirrored_and_none_is_upside_down():
    photo = np.zeros((60, 60, 3))
    photo[:20, :20] = 200  # a light corner, top left
    corners = []
    for one in variants(photo)[..., 0]:
        quarters = [one[:30, :30], one[:30, 30:], one[30:, :30], one[30:, 30:]]
        corners.append(int(np.argmax([quarter.sum() for quarter in quarters])))
    assert set(corners) == {0, 1}
    assert 15 < corners.count(0) < 45


# --- What is learned


def test_two_colours_are_learned_by_the_head_alone(colours, tmp_path):
    classifier = fresh()
    before = inner_backbone(classifier).get_weights()
    history = train(classifier, colours, tmp_path, epochs=12, learning_rate=1e-2)
    columns = {"epoch", "accuracy", "loss", "val_accuracy", "val_loss"}
    assert set(history.columns) == columns
    assert history["epoch"].tolist() == list(range(len(history)))
    assert history["val_accuracy"][history["val_loss"].idxmin()] == 1
    after = inner_backbone(classifier).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(after, before, strict=True))
    held_out = colours[colours["split"] == "validation"]
    predicted = classifier(pixels_of(held_out)).numpy().argmax(axis=1)
    assert [("blue", "red")[index] for index in predicted] == held_out["label"].tolist()


def test_the_same_seed_gives_the_same_result_and_another_seed_another(colours, tmp_path):
    answers = []
    for number, seed in enumerate((1, 1, 2)):
        classifier = fresh(seed=seed)
        train(classifier, colours, tmp_path / str(number), epochs=2, seed=seed)
        answers.append(classifier.predict(pixels_of(colours), verbose=0))
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-3)
    assert np.abs(answers[0] - answers[2]).max() > 1e-2


def test_the_best_epoch_is_kept_and_training_stops_where_patience_ends(colours, tmp_path):
    """Validation photos with the wrong labels: what is learnt makes their loss grow."""
    held_out = colours["split"] == "validation"
    wrong = colours["label"].map({"red": "blue", "blue": "red"})
    confused = colours.assign(label=colours["label"].where(~held_out, wrong))
    classifier = fresh()
    history = train(classifier, confused, tmp_path, epochs=30)
    losses = history["val_loss"]
    assert len(history) == losses.idxmin() + 1 + 5 < 30
    classifier.compile(loss="sparse_categorical_crossentropy")
    kinds = (confused["label"][held_out] == "red").to_numpy(int)
    loss = classifier.evaluate(pixels_of(colours[held_out]), kinds, verbose=0)
    assert loss == pytest.approx(losses.min(), rel=1e-3)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_fine_tuning_on_variants_changes_what_lies_behind_a_layer_alone(colours, tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    try:
        classifier = fresh()
        before = {weight.path: weight.numpy() for weight in classifier.weights}
        history = train(classifier, colours, tmp_path, after="block5_conv2", epochs=2, views=2)
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(history["loss"]).all()
    after = {weight.path: weight.numpy() for weight in classifier.weights}
    changed = {path.split("/")[-2] for path in after if (after[path] != before[path]).any()}
    assert {name for name in changed if name.startswith("block")} == {"block5_conv3"}
    assert len(changed) == 1 + 3  # layer normalisation and two dense layers


def test_a_layer_that_is_not_there_is_refused(colours, tmp_path):
    with pytest.raises(ValueError, match="No such layer: block9_pool"):
        train(fresh(), colours, tmp_path, after="block9_pool")


# --- Once and again


def test_what_another_training_left_is_removed_and_its_own_is_kept(colours, tmp_path):
    folder = tmp_path / "run"
    cases = [
        (colours, fresh()),
        (colours.assign(label=colours["label"].map({"red": "blue", "blue": "red"})), fresh()),
        (colours, fresh(seed=1)),
        (colours[1:], fresh(seed=1)),
    ]
    for rows, classifier in cases:
        backup = backup_folder(folder, rows, classifier)
        assert not any(folder.iterdir())
        backup.mkdir()
        (folder / "history.csv").write_text("epoch,loss\n0,1.0\n")
        assert backup_folder(folder, rows, classifier) == backup
        assert (folder / "history.csv").is_file()
    backup.rmdir()  # as Keras does where training has ended
    backup_folder(folder, rows, classifier)
    assert not (folder / "history.csv").exists()


def test_a_state_that_a_kill_has_left_empty_is_removed(colours, tmp_path):
    classifier = fresh()
    folder = tmp_path / "run"
    backup = backup_folder(folder, colours, classifier)
    backup.mkdir()
    (backup / "training_metadata.json").touch()
    assert backup_folder(folder, colours, classifier) == backup
    assert not any(folder.iterdir())


RUN = """
import sys
from pathlib import Path
import keras, pandas as pd
from lookalike.backbones import load_backbone
from lookalike.saving import save_model
from lookalike.training import build_classifier, train
catalog, folder = pd.read_csv(sys.argv[1]), sys.argv[2]
keras.utils.set_random_seed(0)
classifier = build_classifier(*load_backbone("VGG16Slim", image_size=32), 2, dim=32)
print("ready", flush=True)
options = {"epochs": 40, "after": "block5_conv2", "learning_rate": 1e-4}
train(classifier, catalog, Path(folder), **options)
while True:  # the same model again and again, with a card that tells which
    for number in range(1000):
        save_model(classifier, folder + ".keras", {"number": number})
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.soak)])
def test_a_training_killed_at_any_moment_goes_on_with_its_history(tmp_path, kills):
    """It goes on after the last epoch that was finished, and a model that is there opens."""
    from lookalike.saving import load_model, save_model

    (tmp_path / "photos").mkdir()
    catalog = write_colours(tmp_path / "photos", 28)  # all epochs are run without validation
    catalog.to_csv(tmp_path / "catalog.csv", index=False)
    folder, draw, done = tmp_path / "model", random.Random(4), pd.DataFrame({"epoch": []})
    save_model(fresh(seed=1), tmp_path / "model.keras", {"number": -1})
    finished = False
    for number in range(kills):
        after = draw.uniform(0, 6 if number == kills - 1 else 3)
        assert killed(RUN, tmp_path / "catalog.csv", folder, after=after)
        _, card = load_model(tmp_path / "model.keras")
        if card["number"] >= 0:
            finished = True
            break
        if (folder / "history.csv").is_file() and (folder / "history.csv").stat().st_size:
            history = pd.read_csv(folder / "history.csv")
            assert history["epoch"].tolist()[: len(done)] == done["epoch"].tolist()
            done = history
    if finished:
        history = pd.read_csv(folder / "history.csv")
    else:
        options = {"epochs": 40, "after": "block5_conv2", "learning_rate": 1e-4}
        history = train(fresh(), catalog, folder, **options)
    epochs = history["epoch"].tolist()
    # A kill between the state and the history of an epoch costs that line, and no more.
    assert epochs == sorted(set(epochs))
    assert epochs[-1] == 39
    assert len(epochs) >= 40 - kills
    assert epochs[: len(done)] == done["epoch"].tolist()
    assert [path.name for path in folder.iterdir()] == ["history.csv"]
