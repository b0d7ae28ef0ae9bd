import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_archives import killed

from lookalike import training
from lookalike.backbones import build_classifier, build_encoder, frozen_and_trainable
from lookalike.encoder_fingerprint import encoder_fingerprint
from lookalike.images import load_image
from lookalike.saving import load_model, save_model
from lookalike.training import TooFewLabelsError, label_names, train

COLUMNS = ["epoch", "accuracy", "loss", "val_accuracy", "val_loss", "seconds"]


def write_colours(folder, count, held_out=0):
    """A catalogue of reddish and bluish photos in turn, the last `held_out` of them for validation."""
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


def fresh(n_labels=2, seed=0, size=32):
    """A classifier with a backbone of its own, since fine-tuning changes it: the bundled one, on
    small photos.
    """
    return build_classifier(
        build_encoder("VGG16Slim", image_size=size), n_labels, dim=32, seed=seed
    )


def equal(one, other):
    return all(
        np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True)
    )


def read_history(folder):
    return pd.read_csv(folder / "history.csv")


def pixels_of(rows, size=32):
    return np.stack([load_image(path, (size, size)) for path in rows["path"]]).astype(np.float32)


# --- What is learned
# -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cached", [True, False])
def test_two_colours_are_learned_by_the_head_alone(colours, tmp_path, cached):
    classifier = fresh()
    backbone = classifier.layers[-5]
    assert isinstance(backbone, keras.Model)
    before = backbone.get_weights()
    history = train(
        classifier, colours, tmp_path, epochs=12, learning_rate=1e-2, cached=cached, batch_size=5
    )
    assert list(history.columns) == COLUMNS
    assert history["epoch"].tolist() == list(range(1, len(history) + 1))
    assert history["val_accuracy"][history["val_loss"].idxmin()] == 1
    pd.testing.assert_frame_equal(read_history(tmp_path), history, rtol=1e-12)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.csv", "state.npz"]
    assert all(np.array_equal(a, b) for a, b in zip(backbone.get_weights(), before, strict=True))
    held_out = colours[colours["split"] == "validation"]
    predicted = classifier(pixels_of(held_out)).numpy().argmax(axis=1)
    assert [label_names(colours)[index] for index in predicted] == held_out["label"].tolist()


@pytest.mark.parametrize("cached", [True, False])
def test_the_same_seed_gives_the_same_weights_to_the_bit_and_another_seed_others(
    colours, tmp_path, cached
):
    trained = []
    for number, seed in enumerate((1, 1, 2)):
        trained.append(fresh())
        folder = tmp_path / str(number)
        train(trained[-1], colours, folder, epochs=2, cached=cached, batch_size=8, seed=seed)
    assert equal(trained[0], trained[1])
    assert not equal(trained[0], trained[2])


@pytest.mark.parametrize("cached", [True, False])
def test_the_best_epoch_is_kept_and_its_loss_is_that_of_smoothed_labels(colours, tmp_path, cached):
    classifier = fresh()
    options = {
        "epochs": 8,
        "learning_rate": 0.1,
        "label_smoothing": 0.2,
        "cached": cached,
        "batch_size": 8,
    }
    history = train(classifier, colours, tmp_path, **options)
    losses = history["val_loss"]
    assert losses.idxmin() < len(losses) - 1, "here training is meant to get worse again"
    held_out = colours[colours["split"] == "validation"]
    probabilities = classifier(pixels_of(held_out)).numpy().astype(float)
    targets = np.array(
        [[0.9, 0.1] if label == "blue" else [0.1, 0.9] for label in held_out["label"]]
    )
    loss = -(targets * np.log(probabilities)).sum(axis=1).mean()
    # Cached features have 16 bits.
    assert loss == pytest.approx(losses.min(), rel=1e-2 if cached else 1e-4)


def test_training_stops_where_patience_ends(colours, tmp_path):
    history = train(
        fresh(), colours, tmp_path, epochs=9, learning_rate=0.0, patience=2, batch_size=10
    )
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["val_loss"].nunique() == 1


def test_without_validation_photos_all_epochs_are_run_and_the_last_is_kept(colours, tmp_path):
    alone = colours[colours["split"] == "train"]
    classifier, longer = fresh(), fresh()
    history = train(
        classifier, alone, tmp_path, epochs=4, learning_rate=0.2, patience=1, batch_size=10
    )
    assert list(history.columns) == ["epoch", "accuracy", "loss", "seconds"]
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    _, upper = frozen_and_trainable(classifier)
    with np.load(tmp_path / "state.npz") as state:
        last = [state[f"variable-{number}"] for number in range(len(upper.variables))]
    for variable, saved in zip(upper.variables, last, strict=True):
        if "seed" not in variable.path:
            np.testing.assert_array_equal(variable.numpy(), saved)
    assert not equal(classifier, longer)


def test_a_loss_that_is_no_number_is_never_the_best(tmp_path):
    state = training._State(tmp_path, "", patience=2)
    for losses, waited in (
        ([0.5, np.nan], 1),
        ([0.5, 0.4, np.nan, np.nan], 2),
        ([np.nan, 0.5], 0),
        ([np.nan] * 3, 2),
    ):
        state.history = [
            {"epoch": number + 1, "val_loss": loss} for number, loss in enumerate(losses)
        ]
        assert state._waited() == waited, losses
        assert state.stopped == (waited >= 2)


@pytest.mark.parametrize(
    ("cut", "cached"), [("auto", True), ("block4_pool", False), ("block5_conv2", True)]
)
def test_fine_tuning_changes_what_lies_behind_the_cut_and_nothing_else(
    colours, tmp_path, cut, cached
):
    classifier = fresh()
    before = {weight.path: weight.numpy() for weight in classifier.weights}
    options = {"epochs": 3, "learning_rate": 1e-3, "cached": cached, "batch_size": 8}
    train(classifier, colours, tmp_path, unfreeze_after=cut, **options)
    after = {weight.path: weight.numpy() for weight in classifier.weights}
    changed = {
        path.split("/")[-2] for path, value in after.items() if (value != before[path]).any()
    }
    convolutions = (
        {"block5_conv3"}
        if cut == "block5_conv2"
        else {"block5_conv1", "block5_conv2", "block5_conv3"}
    )
    assert changed == {"embedding", "label", *convolutions}


@pytest.mark.parametrize("cached", [True, False])
def test_half_precision_leaves_every_layer_in_float32(colours, tmp_path, cached):
    classifier = fresh()
    options = {
        "epochs": 10,
        "learning_rate": 3e-3,
        "cached": cached,
        "unfreeze_after": "auto",
        "batch_size": 5,
    }
    history = train(classifier, colours, tmp_path, precision="mixed_float16", **options)
    assert history["val_accuracy"][history["val_loss"].idxmin()] == 1
    assert {layer.dtype_policy.name for layer in classifier._flatten_layers()} == {"float32"}
    assert {weight.dtype for weight in classifier.weights} == {"float32"}
    held_out = pixels_of(colours[colours["split"] == "validation"])
    whole = classifier(held_out).numpy()
    assert whole.dtype == np.float32
    np.testing.assert_allclose(classifier.predict(held_out, verbose=0), whole, atol=1e-6)


# --- Weights of photos
# ---------------------------------------------------------------------------------------------


def test_balanced_weights_are_those_computed_by_hand():
    targets = np.eye(2)[[0, 0, 0, 1]]
    np.testing.assert_allclose(training._weights(targets, "balanced"), [4 / 6, 4 / 6, 4 / 6, 4 / 2])
    np.testing.assert_array_equal(training._weights(targets, None), np.ones(4))
    np.testing.assert_array_equal(training._weights(targets, "auto"), np.ones(4))
    three = training._weights(np.eye(3)[[0, 1, 1, 2, 2, 2]], "balanced")
    np.testing.assert_allclose(three, [2, 1, 1, 2 / 3, 2 / 3, 2 / 3])


def test_auto_balances_from_ten_times_as_many_photos_on():
    nine, ten = (np.eye(2)[[0] * count + [1]] for count in (9, 10))
    np.testing.assert_array_equal(training._weights(nine, "auto"), np.ones(10))
    np.testing.assert_allclose(training._weights(ten, "auto"), [11 / 20] * 10 + [11 / 2])
    assert training._weights(ten, "auto").mean() == pytest.approx(1)


# --- Once and again
# ------------------------------------------------------------------------------------------------


def test_what_is_trained_is_not_trained_again(colours, tmp_path):
    options = {"epochs": 3, "batch_size": 8, "patience": 1, "unfreeze_after": "auto"}
    first, second = fresh(), fresh()
    history = train(first, colours, tmp_path, **options)
    written = (tmp_path / "state.npz").stat().st_mtime_ns
    pd.testing.assert_frame_equal(
        train(second, colours, tmp_path, **options), history, check_exact=True
    )
    assert (tmp_path / "state.npz").stat().st_mtime_ns == written
    assert equal(first, second)
    np.testing.assert_array_equal(first(pixels_of(colours[:3])), second(pixels_of(colours[:3])))


def test_a_training_whose_history_was_lost_writes_it_again(colours, tmp_path):
    """As where the process was killed between the two files of its last epoch."""
    history = train(fresh(), colours, tmp_path, epochs=1)
    (tmp_path / "history.csv").unlink()
    train(fresh(), colours, tmp_path, epochs=1)
    pd.testing.assert_frame_equal(read_history(tmp_path), history, rtol=1e-12)


@pytest.mark.parametrize("changed", [{"epochs": 1}, {"precision": "mixed_float16"}], ids=str)
def test_other_options_start_anew(colours, tmp_path, changed):
    options = {"epochs": 2, "batch_size": 10, "views": 1, "seed": 0, "precision": "float32"}
    train(fresh(), colours, tmp_path, **options)
    before = (tmp_path / "state.npz").stat().st_mtime_ns
    again, alone = fresh(), fresh()
    history = train(again, colours, tmp_path, **{**options, **changed})
    expected = train(alone, colours, tmp_path / "alone", **{**options, **changed})
    assert equal(again, alone)
    pd.testing.assert_frame_equal(history[COLUMNS[:-1]], expected[COLUMNS[:-1]], check_exact=True)
    assert len(history) == {**options, **changed}["epochs"]
    assert (tmp_path / "state.npz").stat().st_mtime_ns > before


def test_other_labels_and_other_weights_start_anew(colours, tmp_path):
    train(fresh(), colours, tmp_path, epochs=1)
    identities = [str(np.load(tmp_path / "state.npz")["identity"])]
    turned = colours.assign(label=colours["label"].map({"red": "blue", "blue": "red"}))
    for classifier, catalog in (
        (fresh(), turned),
        (fresh(seed=1), turned),
        (fresh(seed=1), colours.iloc[1:]),
    ):
        train(classifier, catalog, tmp_path, epochs=1)
        identities.append(str(np.load(tmp_path / "state.npz")["identity"]))
    assert len(set(identities)) == 4


OPTIONS = {"epochs": 20, "batch_size": 2, "unfreeze_after": "block5_conv2", "patience": 20}
RUN = f"""
import sys
import pandas as pd
from lookalike.backbones import build_classifier, build_encoder
from lookalike.saving import save_model
from lookalike.training import train
catalog, folder, cached = pd.read_csv(sys.argv[1]), sys.argv[2], sys.argv[3] == "True"
classifier = build_classifier(build_encoder("VGG16Slim", image_size=32), 2, dim=32)
print("ready", flush=True)
train(classifier, catalog, folder, cached=cached, **{OPTIONS})
while True:  # the same model again and again, with a card that tells which
    for number in range(1000):
        save_model(classifier, folder + ".keras", {{"number": number}})
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize(
    ("cached", "kills"),
    [
        (True, 2),
        pytest.param(True, 10, marks=pytest.mark.soak),
        pytest.param(False, 10, marks=pytest.mark.soak),
    ],
)
def test_a_training_killed_at_any_moment_goes_on_and_ends_as_if_nothing_had_happened(
    tmp_path, cached, kills
):
    """It goes on after the last epoch that was finished; the model that was saved before it opens
    all the time.
    """
    (tmp_path / "photos").mkdir()
    catalog = write_colours(tmp_path / "photos", 28, held_out=8)
    catalog.to_csv(tmp_path / "catalog.csv", index=False)
    folder, draw, done = tmp_path / "model", random.Random(4), pd.DataFrame(columns=COLUMNS)
    save_model(fresh(seed=1), tmp_path / "model.keras", {"number": -1})
    for number in range(kills):
        after = draw.uniform(0, 12 if number == kills - 1 else 4)
        assert killed(RUN, tmp_path / "catalog.csv", folder, cached, after=after)
        _, card = load_model(tmp_path / "model.keras")
        if (folder / "history.csv").is_file():
            history = read_history(folder)
            pd.testing.assert_frame_equal(history.iloc[: len(done)], done) if len(done) else None
            done = history
        assert (card["number"] == -1) == (card["fingerprint"] == encoder_fingerprint(fresh(seed=1)))
        assert card["number"] == -1 or len(done) == 20
    whole, resumed = fresh(), fresh()
    history = train(resumed, catalog, folder, cached=cached, **OPTIONS)
    pd.testing.assert_frame_equal(read_history(folder).iloc[: len(done)], done) if len(
        done
    ) else None
    expected = train(whole, catalog, tmp_path / "whole", cached=cached, **OPTIONS)
    assert equal(whole, resumed)
    pd.testing.assert_frame_equal(history[COLUMNS[:-1]], expected[COLUMNS[:-1]], rtol=1e-12)
    assert history["epoch"].tolist() == list(range(1, 21))
    # Nothing of the killed runs.
    assert sorted(path.name for path in folder.iterdir()) == ["history.csv", "state.npz"]


# --- What cannot be learned
# ----------------------------------------------------------------------------------------


def test_too_few_labels_are_refused_with_what_to_do(colours, tmp_path):
    what_to_do = ".*two kinds at least into a folder each.*split_by_product or 01_data"
    cases = {
        "none has a label": colours.assign(label=None),
        "all are labelled 'red'": colours[colours["label"] == "red"],
        "none has a label" + what_to_do: colours.assign(split="test"),
        "none has a label.*kinds": colours.assign(split=None),
        "none has a label.*at least": colours.assign(label=np.nan),
        "none has a label.*folder": colours.iloc[:0],
        "all are labelled 'blue'" + what_to_do: colours[
            (colours["label"] == "blue") | (colours["split"] != "train")
        ],
    }
    for words, catalog in cases.items():
        with pytest.raises(TooFewLabelsError, match=words):
            train(fresh(), catalog, tmp_path / "model")
    assert issubclass(TooFewLabelsError, ValueError)
    assert not (tmp_path / "model").exists()


def test_a_classifier_for_another_number_of_labels_is_refused(colours, tmp_path):
    with pytest.raises(ValueError, match=re.escape("3 outputs; the labels are ['blue', 'red']")):
        train(fresh(3), colours, tmp_path)


@pytest.mark.parametrize("wrong", ["Balanced", "none", "", {"red": 2}, True], ids=str)
def test_an_unknown_weight_of_labels_is_refused_before_anything_is_written(
    colours, tmp_path, wrong
):
    with pytest.raises(
        ValueError, match=re.escape(f"class_weight is 'auto', 'balanced' or None, not {wrong!r}.")
    ):
        train(fresh(), colours, tmp_path / "model", class_weight=wrong)
    assert not (tmp_path / "model").exists()


def test_a_layer_that_is_not_there_is_refused(colours, tmp_path):
    with pytest.raises(ValueError, match="no layer 'block9_pool'"):
        train(fresh(), colours, tmp_path, unfreeze_after="block9_pool")


def test_a_label_with_few_photos_is_warned_of_and_named(colours, tmp_path):
    few = pd.concat([colours, colours[:1].assign(label="rare one")], ignore_index=True)
    with pytest.warns(UserWarning, match=r"Few photos to learn from: rare one \(1\)\.") as caught:
        history = train(fresh(3), few, tmp_path, epochs=1)
    assert caught[0].filename == __file__
    assert np.isfinite(history["loss"]).all()


def test_two_photos_in_all_are_enough_to_begin(colours, tmp_path):
    with pytest.warns(UserWarning, match=r"blue \(1\), red \(1\)|red \(1\), blue \(1\)"):
        history = train(fresh(), colours[:2], tmp_path, epochs=2)
    assert len(history) == 2


def test_labels_that_only_validation_has_are_ignored(colours, tmp_path):
    more = pd.concat(
        [colours, colours[-4:].assign(label="green"), colours[-2:].assign(label=None)],
        ignore_index=True,
    )
    plain, mixed = fresh(), fresh()
    history = train(plain, colours, tmp_path / "plain", epochs=2)
    with_more = train(mixed, more, tmp_path / "more", epochs=2)
    pd.testing.assert_frame_equal(history[COLUMNS[:-1]], with_more[COLUMNS[:-1]], check_exact=True)
    assert equal(plain, mixed)


def test_the_labels_are_those_of_the_train_photos_sorted(colours):
    assert label_names(colours) == ["blue", "red"]
    named = colours.assign(label=["pen", "cup", None] * 10)
    named.loc[named["split"] == "validation", "label"] = "shoe"
    assert label_names(named) == ["cup", "pen"]


# --- Models on disk
# ------------------------------------------------------------------------------------------------

RELOAD = """
import sys, warnings
warnings.simplefilter("error", UserWarning)
import keras, numpy as np
from lookalike import pooling  # its layer registers itself
model = keras.models.load_model(sys.argv[1], safe_mode=True)
np.save(sys.argv[3], model(np.load(sys.argv[2])).numpy())
"""


def test_a_saved_model_gives_the_same_outputs_in_a_new_process(colours, tmp_path):
    classifier = fresh()
    train(
        classifier, colours, tmp_path / "model", epochs=1, cached=False, precision="mixed_float16"
    )
    save_model(classifier, tmp_path / "classifier.keras", {"labels": ["blue", "red"]})
    pixels = pixels_of(colours[:5])
    np.save(tmp_path / "pixels.npy", pixels)
    files = [str(tmp_path / name) for name in ("classifier.keras", "pixels.npy", "outputs.npy")]
    process = subprocess.run([sys.executable, "-c", RELOAD, *files], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    np.testing.assert_allclose(np.load(tmp_path / "outputs.npy"), classifier(pixels), atol=1e-6)


def test_a_model_comes_back_with_its_card(tmp_path, recwarn):
    classifier = fresh()
    save_model(classifier, tmp_path / "photo.v1.keras", {"labels": ["Tücher", "red"], "seed": 0})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.v1.json", "photo.v1.keras"]
    model, card = load_model(tmp_path / "photo.v1.keras")
    assert equal(model, classifier)
    versions = {"tensorflow", "keras", "numpy"}
    assert card["keras"] == keras.__version__
    assert card["numpy"] == np.__version__
    assert {name: value for name, value in card.items() if name not in versions} == {
        "labels": ["Tücher", "red"],
        "seed": 0,
        "fingerprint": encoder_fingerprint(classifier),
        "input": [32, 32, 3],
    }
    assert "Tücher" in (tmp_path / "photo.v1.json").read_text(encoding="utf-8")
    assert not [warning for warning in recwarn if issubclass(warning.category, UserWarning)]


def test_a_missing_model_or_card_names_the_notebook_that_writes_it(tmp_path):
    file = tmp_path / "classifier.keras"
    with pytest.raises(
        FileNotFoundError, match=r"classifier\.keras\. Run 02_transfer_learning\.ipynb first"
    ):
        load_model(file)
    save_model(fresh(), file, {})
    file.with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError, match=r"Run 03_fine_tuning\.ipynb first"):
        load_model(file, after="03_fine_tuning.ipynb")


def test_the_card_of_another_model_is_refused(tmp_path):
    for seed in (0, 1):
        save_model(fresh(seed=seed), tmp_path / f"{seed}.keras", {})
    os.replace(tmp_path / "1.json", tmp_path / "0.json")
    with pytest.raises(
        ValueError, match=r"0\.keras and its card do not belong together\. Run 02_transfer"
    ):
        load_model(tmp_path / "0.keras")


def test_a_card_that_cannot_be_written_leaves_the_old_model(tmp_path):
    file = tmp_path / "classifier.keras"
    save_model(fresh(), file, {"seed": 0})
    before = Counter({path.name: path.read_bytes() for path in tmp_path.iterdir()})
    with pytest.raises(TypeError):
        save_model(fresh(seed=1), file, {"seed": object()})
    assert Counter({path.name: path.read_bytes() for path in tmp_path.iterdir()}) == before
    assert load_model(file)[1]["seed"] == 0


@pytest.mark.parametrize("renames", range(3))
def test_a_model_that_replaces_another_is_one_of_the_two_at_any_moment(
    tmp_path, monkeypatch, renames
):
    """Its files take their names one after the other; between any two of them the process may be
    killed.
    """
    file, replace, left = tmp_path / "classifier.keras", os.replace, [None] * renames
    save_model(fresh(), file, {"seed": 0})

    class Killed(BaseException):
        pass

    def killing(*names):
        if not left:
            raise Killed
        left.pop()
        replace(*names)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "replace", killing)
        save_model(fresh(seed=1), file, {"seed": 1})
    model, card = load_model(file)
    assert card["seed"] == (renames == 2)
    assert equal(model, fresh(seed=card["seed"]))
    save_model(fresh(seed=2), file, {"seed": 2})
    assert load_model(file)[1]["seed"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "classifier.json",
        "classifier.keras",
    ]


def test_a_split_without_photos_is_told_before_training():
    rows = pd.DataFrame({"label": ["a", "b", "c"], "split": ["train", "train", "test"]})
    assert label_names(rows) == ["a", "b"]
    with pytest.raises(TooFewLabelsError, match="No photo is in the split 'test'"):
        label_names(rows, splits=("train", "test"))  # a label that was never taught does not judge
