"""Training on cached halves against the plain path: seconds an epoch and accuracy, same data, same
machine, one run.

python benchmarks/training.py --data DIR --backbone VGG16 --weights none --photos 96 --epochs 2
python benchmarks/training.py --data DIR --backbone MobileNetV2 --alpha 0.35 --weights FILE --image-size 192
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import pandas as pd
from results import record

from lookalike.backbones import build_classifier, build_encoder
from lookalike.embeddings import embed_images
from lookalike.sources import load_catalog
from lookalike.training import FINE_TUNING, label_names, train


def main() -> None:
    """Fine-tune twice from the same trained head, and write down both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="a folder of photos with the splits train and validation",
    )
    parser.add_argument("--backbone", default="VGG16Slim")
    parser.add_argument("--alpha", type=float)
    parser.add_argument(
        "--weights", default="auto", help="a file, auto, or none for random weights"
    )
    parser.add_argument("--image-size", type=int)
    parser.add_argument(
        "--photos", type=int, default=0, help="only so many train photos; 0 is all of them"
    )
    parser.add_argument("--epochs", type=int, default=FINE_TUNING["epochs"])
    parser.add_argument("--views", type=int, default=FINE_TUNING["views"])
    options = parser.parse_args()
    catalog, _ = load_catalog("folder", options.data)
    catalog["split"] = catalog["split"].replace("validation", "test")
    if options.photos:
        drawn = catalog[catalog["split"] == "train"].sample(options.photos, random_state=0)
        kept = catalog["label"].isin(drawn["label"]) & (catalog["split"] == "test")
        catalog = pd.concat([drawn, catalog[kept].head(options.photos)], ignore_index=True)
    labels, queries = label_names(catalog), catalog[catalog["split"] == "test"]
    rows = []
    for way in ("cached halves", "plain path"):
        weights = None if options.weights == "none" else options.weights
        encoder = build_encoder(
            options.backbone, weights=weights, alpha=options.alpha, image_size=options.image_size
        )
        classifier = build_classifier(encoder, len(labels))
        fine = FINE_TUNING | {
            "epochs": options.epochs,
            "views": options.views,
            "cached": way == "cached halves",
        }
        with tempfile.TemporaryDirectory() as folder:
            train(classifier, catalog, Path(folder, "head"), views=2, cached=True)
            begin = time.monotonic()
            seconds = train(classifier, catalog, Path(folder, "fine"), **fine)["seconds"]
            total = time.monotonic() - begin
        # The first epoch also compiles the graph; it is left out where there are others.
        epoch = seconds.iloc[1:].mean() if len(seconds) > 1 else seconds.mean()
        predicted = embed_images(classifier, queries["path"].to_list()).argmax(axis=1)
        rows.append((way, epoch, total, (predicted == queries["label"].map(labels.index)).mean()))
    table = pd.DataFrame(rows, columns=["way", "epoch", "total", "accuracy"])
    shown = pd.DataFrame(
        {
            "way": table["way"],
            "seconds an epoch": table["epoch"].map("{:.1f}".format),
            "ratio": (table["epoch"] / table["epoch"].iloc[1]).map("{:.2f}".format),
            f"seconds for {options.epochs} epochs, frozen half included": table["total"].map(
                "{:.0f}".format
            ),
            "accuracy": table["accuracy"].map("{:.3f}".format),
        }
    )
    if options.weights == "none":  # speed alone: what random weights learn says nothing
        shown = shown.drop(columns="accuracy")
    network = " ".join(filter(None, [options.backbone, str(options.alpha or "")]))
    name = f"Fine-tuning {network}: cached halves and the plain path"
    arguments = [
        f"--{key.replace('_', '-')} {value}"
        for key, value in vars(options).items()
        if value and key != "data"
    ]
    arguments = [
        text if "weights" not in text or "none" in text else "--weights FILE" for text in arguments
    ]
    count = int((catalog["split"] == "train").sum())
    others = "." if options.weights == "none" else f", {len(queries):,} others for the accuracy."
    note = f"{count:,} train photos{others}"
    record(name, f"python benchmarks/training.py --data DIR {' '.join(arguments)}", shown, note)


if __name__ == "__main__":
    main()
