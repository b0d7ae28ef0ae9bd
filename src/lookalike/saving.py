"""A model and its card to disk and back."""

import json
import os
import tempfile
from pathlib import Path

import keras

from lookalike import pooling  # noqa: F401, registers a layer that models may hold
from lookalike.backbones import build_encoder, choose_backbone, embedding_encoder
from lookalike.encoder_fingerprint import encoder_fingerprint
from lookalike.workspace import Choice


def save_model(model, file, card):
    """Write a model as `.keras`, and beside it, as `.json`, a card of what it was made from; whole
    or not at all.

    Layers that were trained in half precision are written in float32, and no optimizer is.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    bare = keras.Model(model.input, model.output, name=model.name)  # without its optimizer
    plain = keras.models.clone_model(bare, clone_function=_in_float32, recursive=True)
    plain.set_weights(model.get_weights())
    card = card | {"fingerprint": encoder_fingerprint(plain)}
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        aside = Path(scratch, file.name)
        aside_card = aside.with_suffix(".json")
        plain.save(aside)
        aside_card.write_text(text, encoding="utf-8")
        os.replace(aside, file)
        os.replace(aside_card, file.with_suffix(".json"))


def _in_float32(layer):
    config = layer.get_config()
    if "dtype" in config:  # a step of the preprocessing has none
        config["dtype"] = "float32"
    return layer.__class__.from_config(config)


def load_model(file, *, after="02_transfer_learning.ipynb", known=None, backbone="auto"):
    """Read a model and its card, in Keras' safe mode.

    Parameters
    ----------
    after
        The notebook that writes it, for the messages.
    known, backbone
        If given, photos with `label`, `split` and `sha256`, and a backbone, that the model must
        have been made with.

    Raises
    ------
    FileNotFoundError, ValueError
        If it is not there, does not open, has another card, or was made from something else; what
        has changed since is said.
    """
    file = Path(file)
    card_file = file.with_suffix(".json")
    if not file.is_file() or not card_file.is_file():
        raise FileNotFoundError(f"No model with its card at {file}. Run {after} first.")
    try:
        model = keras.models.load_model(file, safe_mode=True)
    except Exception as error:  # Keras raises all kinds
        raise ValueError(
            f"{file} does not open in safe mode. Run {after} again. Keras says: {error}"
        ) from None
    card = json.loads(card_file.read_text(encoding="utf-8"))
    if card["fingerprint"] != encoder_fingerprint(model):
        raise ValueError(f"{file} and its card do not belong together. Run {after} again.")
    changes = [] if known is None else _changes(card, backbone, known)
    if changes:
        raise ValueError(
            f"The model is not of this catalogue as it is now: {'; '.join(changes)}. "
            f"Run {after} again."
        )
    return model, card


def _changes(card, backbone, known):
    """What has changed since a model was made."""
    changes = []
    if backbone not in ("auto", card["backbone"]):
        changes.append(f"the backbone was {card['backbone']}, and now is {backbone}")
    classes = sorted({*known.loc[known["split"] == "train", "label"]})
    if classes != sorted(card["labels"]):
        changes.append(f"the classes were {card['labels']}, and now are {classes}")
    for split in ("train", "test"):
        photos = {*known.loc[known["split"] == split, "sha256"]}
        if count := len({*card[f"{split}_sha256"]} ^ photos):
            changes.append(f"{count} {split} photos were others")
    return changes


def open_encoder(folder, catalogue, backbone="auto", **options):
    """The encoder for a catalogue: of the model that was trained on it, if there is one, else the
    backbone as it comes.

    Parameters
    ----------
    folder
        That of all models; in it each catalogue that 03_fine_tuning.ipynb has run on has its own.
    backbone
        As `choose_backbone` takes it; a trained model of another is not used.
    options
        For `build_encoder`.

    Returns
    -------
    The encoder, and why it is this one. What is raised is that of `load_model` and `build_encoder`.
    """
    file = Path(folder, catalogue, "model_recommendation.keras")
    reason = "no model is trained on this catalogue yet"
    if file.is_file():
        model, card = load_model(file, after="03_fine_tuning.ipynb")
        if backbone in ("auto", card["backbone"]):
            encoder = embedding_encoder(model)
            reason = "trained on this catalogue by 03_fine_tuning.ipynb"
            return encoder, Choice("encoder", encoder.name, reason)
        reason = f"the model trained on this catalogue is a {card['backbone']}"
    choice = choose_backbone(backbone)
    encoder = build_encoder(choice.value, **options)
    return encoder, Choice("encoder", encoder.name, f"{reason}; {choice.reason}")
