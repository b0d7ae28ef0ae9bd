"""Teach a classifier the labels of a catalogue: its head first, then the last layers of its
backbone.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from lookalike.backbones import frozen_and_trainable
from lookalike.encoder_fingerprint import encoder_fingerprint
from lookalike.machine import progress
from lookalike.training_data import Batches, augmented_features, augmented_photos
from lookalike.workspace import written_aside

# What proved itself.
FINE_TUNING = {"unfreeze_after": "auto", "learning_rate": 1e-3, "epochs": 12, "views": 8}
SIDES = ("train", "validation")
SCRATCH = "features-"
RARE = 10  # labels are weighted where one has this many times the photos of another


class TooFewLabelsError(ValueError):
    """A catalogue that has nothing to teach: its train photos are not of two kinds at least."""


def train(
    classifier: keras.Model,
    catalog: pd.DataFrame,
    folder: str | Path,
    *,
    unfreeze_after: str = "",
    epochs: int = 30,
    learning_rate: float = 2e-3,
    views: int = 4,
    cached: bool | str = "auto",
    batch_size: int = 32,
    label_smoothing: float = 0.1,
    class_weight: str | None = "auto",
    patience: int = 8,
    precision: str = "auto",
    seed: int = 0,
) -> pd.DataFrame:
    """Train a classifier, in place, on the train photos of a catalogue; the weights of its best
    epoch are kept.

    What stays frozen always answers the same. So with `cached` it is computed once for each of
    `views` augmented views of each photo, and only the rest is trained, on another view each epoch.
    Otherwise photos are augmented anew each epoch and run through the whole network, which a fast
    GPU affords. A killed run goes on where it was.

    Parameters
    ----------
    catalog
        With `label` and `split`; without validation photos all epochs are run and the last is kept.
    folder
        Keeps `history.csv` and the state of training, after each epoch.
    unfreeze_after
        Empty: train the head alone. "auto" or a layer's name: the backbone too, behind that layer.
    learning_rate
        Reached after the first epoch; it then falls to zero as a cosine (Loshchilov and Hutter,
        "SGDR", ICLR 2017).
    cached
        "auto" is True where there is no GPU.
    label_smoothing
        Probability that is given to all labels alike (Szegedy et al., "Rethinking the Inception
        Architecture", CVPR 2016).
    class_weight
        "balanced" lets photos of rare labels count more; "auto" does so where one label has ten
        times another's photos.
    patience
        Epochs without a better validation loss after which training stops.
    precision
        "float32" or "mixed_float16"; "auto" is the second on a GPU.

    Returns
    -------
    DataFrame, one row an epoch: `epoch`, `accuracy`, `loss`, `val_accuracy`, `val_loss`, `seconds`.

    Raises
    ------
    ValueError
        If there are too few photos or labels to learn from, the classifier has others, or
        `class_weight` is unknown.
    """
    if class_weight not in (None, "auto", "balanced"):
        raise ValueError(f"class_weight is 'auto', 'balanced' or None, not {class_weight!r}.")
    labels = label_names(catalog)
    rows = {
        split: catalog[(catalog["split"] == split) & catalog["label"].isin(labels)]
        for split in SIDES
    }
    _check(classifier, rows["train"], labels)
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    cached = not on_gpu if cached == "auto" else cached
    precision = ("mixed_float16" if on_gpu else "float32") if precision == "auto" else precision
    lower, upper = frozen_and_trainable(classifier, unfreeze_after)
    model = upper if cached else classifier
    options = [
        unfreeze_after,
        epochs,
        learning_rate,
        views,
        cached,
        batch_size,
        label_smoothing,
        class_weight,
    ]
    options += [precision, seed]
    asked = [
        encoder_fingerprint(classifier),
        *options,
        *catalog[["image_id", "label", "split"]].astype(str).to_numpy(),
    ]
    patience = patience if len(rows["validation"]) else epochs
    state = _State(Path(folder), hashlib.sha256(str(asked).encode()).hexdigest(), patience)
    targets = {
        split: np.eye(len(labels))[part["label"].map(labels.index)] for split, part in rows.items()
    }
    weights = {
        "train": _weights(targets["train"], class_weight),
        "validation": np.ones(len(rows["validation"])),
    }
    keras.utils.set_random_seed(seed)
    with _precision(model, precision):
        steps = -(-len(rows["train"]) // batch_size)
        cosine = keras.optimizers.schedules.CosineDecay(
            learning_rate / 20,
            max(1, epochs - 1) * steps,
            warmup_target=learning_rate,
            warmup_steps=steps,
        )
        model.compile(
            keras.optimizers.Adam(cosine),
            keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing),
            weighted_metrics=["accuracy"],
        )
        done = state.restore(model)
        if done < epochs and not state.stopped:
            with tempfile.TemporaryDirectory(
                dir=folder, prefix=SCRATCH, ignore_cleanup_errors=True
            ) as scratch:
                batches = {}
                for split, part in rows.items():
                    count = 1 if split != "train" else views if cached else epochs
                    take = augmented_photos(
                        part["path"].to_list(), classifier.input_shape[1:3], seed
                    )
                    if cached:
                        take = augmented_features(
                            lower, take, len(part), count, Path(scratch, split)
                        )
                    # Keras counts the epochs of validation otherwise after a kill.
                    shuffled = split == "train"
                    parts = take, targets[split], weights[split]
                    batches[split] = Batches(*parts, count, batch_size, seed, done, shuffled)
                state.bar = progress(
                    total=epochs, initial=done, description="Training", unit="epochs"
                )
                held_out = batches["validation"] if len(rows["validation"]) else None
                steps = {
                    "initial_epoch": done,
                    "epochs": epochs,
                    "callbacks": [state],
                    "shuffle": False,
                    "verbose": 0,
                }
                model.fit(batches["train"], validation_data=held_out, **steps)
                state.bar.close()
        if state.best:
            model.set_weights(state.best)
    return pd.DataFrame(state.history)


def label_names(catalog: pd.DataFrame, *, splits: Sequence[str] = ("train",)) -> list[str]:
    """The labels of the train photos, sorted: the order of a classifier's outputs.

    Raises
    ------
    TooFewLabelsError
        If there are fewer than two, or one of `splits` has no photo of them.
    """
    labels = sorted(catalog.loc[catalog["split"] == "train", "label"].dropna().unique())
    if len(labels) < 2:
        found = f"all are labelled {labels[0]!r}" if labels else "none has a label"
        raise TooFewLabelsError(
            f"There must be kinds to tell apart; of the train photos {found}. Put the photos of two kinds at "
            "least into a folder each, and split them with split_by_product or 01_data.ipynb."
        )
    if missing := set(splits) - set(catalog.loc[catalog["label"].isin(labels), "split"]):
        raise TooFewLabelsError(
            f"No photo is in the split {min(missing)!r}: there are too few of each kind to share out."
        )
    return labels


def _check(classifier: keras.Model, rows: pd.DataFrame, labels: list[str]) -> None:
    """Say in words what would else fail deep inside."""
    if classifier.output_shape[-1] != len(labels):
        raise ValueError(
            f"The classifier has {classifier.output_shape[-1]} outputs; the labels are {labels}."
        )
    counts = rows["label"].value_counts()
    if counts.min() < 5:
        rare = ", ".join(f"{label} ({count})" for label, count in counts[counts < 5].items())
        warnings.warn(
            f"Few photos to learn from: {rare}. Add some, or leave those labels out.", stacklevel=3
        )


def _weights(targets: np.ndarray, class_weight: str | None) -> np.ndarray:
    """What each photo counts, 1 on average."""
    counts = targets.sum(axis=0)
    if class_weight == "balanced" or (
        class_weight == "auto" and counts.max() >= RARE * counts.min()
    ):
        return targets @ (len(targets) / (len(counts) * counts))
    return np.ones(len(targets))


@contextmanager
def _precision(model: keras.Model, name: str) -> Iterator[None]:
    """Let the layers compute in another precision while training; their weights stay float32."""
    layers = [
        layer
        for layer in model._flatten_layers()
        if layer.dtype_policy.name == "float32" and name != "float32"
    ]
    # Float16 would lose small numbers.
    layers = [layer for layer in layers if layer.name not in ("pooling", "label")]
    for layer in layers:
        layer.dtype_policy = name
    try:
        yield
    finally:
        for layer in layers:
            layer.dtype_policy = "float32"


class _State(keras.callbacks.Callback):
    """After each epoch: the history, early stopping, and on disk all that it takes to go on after a
    kill.
    """

    def __init__(self, folder: Path, identity: str, patience: int):
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"{SCRATCH}*"):  # by a run that was killed
            shutil.rmtree(left)
        self.file = folder / "state.npz"
        self.identity = identity
        self.patience = patience
        self.history = []
        self.best = []

    def restore(self, model: keras.Model) -> int:
        """Take up what an earlier run of the same training left; tell how many epochs it has done."""
        model.optimizer.build(model.trainable_variables)
        self.variables = [*model.variables, *model.optimizer.variables]
        if self.file.is_file():
            with np.load(self.file, allow_pickle=False) as saved:
                if str(saved["identity"]) == self.identity:
                    self.history = json.loads(str(saved["history"]))
                    self.best = [saved[f"best-{number}"] for number in range(len(model.weights))]
                    for number, variable in enumerate(self.variables):
                        variable.assign(saved[f"variable-{number}"])
                    self._write_history()
        return len(self.history)

    @property
    def stopped(self) -> bool:
        """Whether patience is at its end."""
        return self._waited() >= self.patience

    def _waited(self) -> int:
        losses = [row.get("val_loss", -row["epoch"]) for row in self.history]
        return len(losses) - 1 - int(np.argmin(np.nan_to_num(losses, nan=np.inf))) if losses else 0

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        seconds = round(time.monotonic() - self.start, 3)
        measured = {name: float(value) for name, value in logs.items()}
        self.history.append({"epoch": epoch + 1, **measured, "seconds": seconds})
        if self._waited() == 0:
            self.best = self.model.get_weights()
        arrays = {
            f"variable-{number}": variable.numpy() for number, variable in enumerate(self.variables)
        }
        arrays |= {f"best-{number}": array for number, array in enumerate(self.best)}
        with written_aside(self.file) as aside, open(aside, "wb") as stream:
            np.savez(stream, identity=self.identity, history=json.dumps(self.history), **arrays)
        self._write_history()
        self.bar.set_postfix_str(
            ", ".join(f"{name} {value:.3f}" for name, value in logs.items() if "accuracy" in name)
        )
        self.bar.update()
        self.model.stop_training = self.stopped

    def _write_history(self) -> None:
        with written_aside(self.file.with_name("history.csv")) as aside:
            pd.DataFrame(self.history).to_csv(aside, index=False)
