"""A model and its card to disk and back."""

from __future__ import annotations

import json
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

import keras

from lookalike import pooling  # noqa: F401, registers a layer that models may hold
from lookalike.backbones import build_encoder, choose_backbone, embedding_encoder, split_width
from lookalike.encoder_fingerprint import encoder_fingerprint
from lookalike.workspace import Choice


def save_model(model: keras.Model, file: str | Path, card: dict) -> None:
    """Write a model as `.keras`, and beside it, as `.json`, a card of what it was made from; whole
    or not at all.
    """
    file = Path(file)
    versions = {name: version(name) for name in ("tensorflow", "keras", "numpy")}
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        # Without the state of its optimizer.
        bare = keras.Model(model.input, model.output, name=model.name)
        bare.save(Path(scratch, file.name))
        card = {
            **card,
            "fingerprint": encoder_fingerprint(model),
            "input": list(model.input_shape[1:]),
            **versions,
        }
        Path(scratch, "card.json").write_text(
            json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        os.replace(Path(scratch, "card.json"), _next_card(file))
        os.replace(Path(scratch, file.name), file)
        os.replace(_next_card(file), file.with_suffix(".json"))


def _next_card(file: Path) -> Path:
    """Where the card of a model waits until the model is there; a kill between the two leaves it
    there.
    """
    return file.with_name(f".{file.stem}.json")


def load_model(
    file: str | Path, *, after: str = "02_transfer_learning.ipynb"
) -> tuple[keras.Model, dict]:
    """Read a model and its card, in Keras' safe mode; FileNotFoundError names the notebook that
    writes them.
    """
    file = Path(file)
    cards = [card for card in (file.with_suffix(".json"), _next_card(file)) if card.is_file()]
    if not file.is_file() or not cards:
        raise FileNotFoundError(f"No model with its card at {file}. Run {after} first.")
    try:
        model = keras.models.load_model(file, safe_mode=True)
    except Exception as error:  # Keras raises all kinds
        raise ValueError(
            f"{file} does not open in safe mode. Run {after} again. Keras says: {error}"
        ) from None
    fingerprint = encoder_fingerprint(model)
    for card in (json.loads(card.read_text(encoding="utf-8")) for card in cards):
        if card["fingerprint"] == fingerprint:
            return model, card
    raise ValueError(f"{file} and its card do not belong together. Run {after} again.")


def open_encoder(
    folder: str | Path, catalogue: str, backbone: str = "auto", **options
) -> tuple[keras.Model, Choice]:
    """The encoder for a catalogue: of the model that was trained on it, if there is one, else the
    backbone as it comes.

    Parameters
    ----------
    folder
        Where `model_recommendation.keras` lies, if 03_fine_tuning.ipynb has written one.
    catalogue
        The name that the model's card must give.
    backbone
        As `choose_backbone` takes it; a trained model of another, or of another `alpha`, is not
        used.
    options
        For `build_encoder`.

    Returns
    -------
    The encoder, and why it is this one. What is raised is that of `load_model` and `build_encoder`.
    """
    file = Path(folder, "model_recommendation.keras")
    reason = "no model is trained yet"
    if file.is_file():
        model, card = load_model(file, after="03_fine_tuning.ipynb")
        asked, width = split_width(backbone)
        taught, its_width = split_width(card["backbone"])
        its_width = its_width or card.get("alpha")
        same = asked in ("auto", taught) and (options.get("alpha") or width) in (None, its_width)
        if card["catalogue"] == catalogue and same:
            encoder = embedding_encoder(model)
            return encoder, Choice(
                "encoder", encoder.name, "trained on this catalogue by 03_fine_tuning.ipynb"
            )
        width = f" of alpha {its_width}" if its_width else ""
        reason = f"the trained model is a {taught}{width} for {card['catalogue']}"
    choice = choose_backbone(backbone)
    encoder = build_encoder(choice.value, **options)
    return encoder, Choice("encoder", encoder.name, f"{reason}; {choice.reason}")
