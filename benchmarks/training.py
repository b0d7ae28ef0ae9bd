"""Training on cached halves against the plain path: seconds an epoch and accuracy, same data, same
machine, one run.

python benchmarks/training.py --data DIR --backbone VGG16 --weights none --photos 96 --epochs 2
python benchmarks/training.py --data DIR --backbone MobileNetV2-0.35 --weights FILE
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import keras
import pandas as pd
from results import backbone_name, record

from lookalike.backbones import backbone_row, load_backbone
from lookalike.embeddings import embed_images
from lookalike.sources import load_catalog
from lookalike.splits import label_names
from lookalike.training import build_classifier, train


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
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--views", type=int, default=5)
    options = parser.parse_args()
    catalog, _ = load_catalog("folder", options.data)
    catalog["split"] = catalog["split"].replace("validation", "test")
    if options.photos:
        drawn = catalog[catalog["split"] == "train"].sample(options.photos, random_state=0)
        kept = catalog["label"].isin(drawn["label"]) & (catalog["split"] == "test")
        catalog = pd.concat([drawn, catalog[kept].head(options.photos)], ignore_index=True)
    labels, queries = label_names(catalog), catalog[catalog["split"] == "test"]
    network = backbone_name(options)
    row, _ = backbone_row(network)
    weights = None if options.weights == "none" else options.weights
    rows = []
    for way in ("cached halves", "plain path"):
        base, preprocess = load_backbone(network, weights, image_size=options.image_size)
        keras.utils.set_random_seed(0)
        classifier = build_classifier(base, preprocess, len(labels))
        fine = {"after": row.unfreeze_after, "learning_rate": row.learning_rate}
        fine |= {"views": options.views, "once": way == "cached halves"}
        with tempfile.TemporaryDirectory() as folder:
            train(classifier, catalog, Path(folder, "head"), views=2, epochs=8, once=True)
            begin = time.monotonic()
            train(classifier, catalog, Path(folder, "fine"), epochs=options.epochs, **fine)
            total = time.monotonic() - begin
        predicted = embed_images(classifier, queries["path"].to_list()).argmax(axis=1)
        rows.append((way, total, (predicted == queries["label"].map(labels.index)).mean()))
    table = pd.DataFrame(rows, columns=["way", "total", "accuracy"])
    shown = pd.DataFrame(
        {
            "way": table["way"],
            f"seconds for {options.epochs} epochs, frozen half included": table["total"].round(),
            "ratio": (table["total"] / table["total"].iloc[1]).map("{:.2f}".format),
            "accuracy": table["accuracy"].map("{:.3f}".format),
        }
    )
    if options.weights == "none":  # speed alone: what random weights learn says nothing
        shown = shown.drop(columns="accuracy")
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
