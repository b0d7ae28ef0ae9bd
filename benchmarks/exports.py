"""Exports of three encoders: size, speed, and how true they are to Keras, on photos of the
reader's.

python benchmarks/exports.py --data PHOTOS --weights mobilenet_v2_0.35_224_notop.weights.h5
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from results import record

from lookalike.backbones import build_encoder
from lookalike.export import compare_exports, export_model, open_export
from lookalike.export.formats import FORMATS
from lookalike.images import pixel_batches
from lookalike.machine import progress
from lookalike.sources import load_catalog

CALIBRATION = 200  # photos of the train split


def main() -> None:
    """Measure the three, one after the other, and write down one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data",
        required=True,
        help="photos in folders train and validation, or in folders by label",
    )
    parser.add_argument(
        "--weights", required=True, help="of MobileNetV2 of alpha 0.35, without its top"
    )
    parser.add_argument(
        "--resnet-photos", type=int, default=1000, help="for the slowest of the three"
    )
    options = parser.parse_args()
    encoders = {
        "VGG16Slim": build_encoder("VGG16Slim"),
        "MobileNetV2 0.35": build_encoder("MobileNetV2-0.35", weights=options.weights),
        "ResNet50, random weights": build_encoder("ResNet50", weights=None),
    }
    catalog, _ = load_catalog("folder", options.data)
    splits = sorted(catalog["split"].unique(), key=["train", "validation", "test"].index)
    tables = []
    for name, encoder in encoders.items():
        share = min(1, options.resnet_photos / len(catalog)) if "ResNet" in name else 1
        some = catalog.groupby("split").sample(frac=share, random_state=0).reset_index(drop=True)
        size = encoder.input_shape[1:3]
        bar = progress(some["path"], total=len(some), description=f"Reading for {name}")
        pixels = np.concatenate(list(pixel_batches(bar, size)))
        train = pixels[
            np.flatnonzero(some["split"] == splits[0])[:: max(1, len(some) // CALIBRATION)]
        ]
        with tempfile.TemporaryDirectory() as folder:
            runs, megabytes = {}, {}
            for one in FORMATS:
                place = export_model(encoder, Path(folder, one), one, photos=train)
                runs[one] = open_export(place)
                files = [file for file in place.rglob("*") if file.is_file()]
                sizes = [file.stat().st_size for file in files if file.name != "card.json"]
                megabytes[one] = sum(sizes) / 1e6
            rules = {"gallery_split": splits[0], "query_split": splits[1]}
            table, quality = compare_exports(encoder, runs, pixels, some, **rules)
            table.insert(0, "MB", pd.Series(megabytes))
        interval = [
            f"{low:.3f} to {high:.3f}"
            for low, high in zip(quality["low"], quality["high"], strict=True)
        ]
        changes = zip(quality["change"], quality["change low"], quality["change high"], strict=True)
        table["Precision@10"], table["interval"] = quality["value"].round(3), interval
        table["change"] = [
            "" if np.isnan(a) else f"{a:+.4f} ({low:+.4f} to {high:+.4f})"
            for a, low, high in changes
        ]
        table.insert(0, "encoder", name)
        tables.append(table.reset_index(names="format"))
    table = pd.concat(tables)
    table = table.assign(
        **{column: table[column].round(1) for column in ("MB", "ms a photo", "photos/s")}
    )
    table = table.round({"least cosine": 6, "median cosine": 6, "same top 10": 4, "overlap": 4})
    note = (
        "Intervals of changes hold together for the seven exports of an encoder. "
        "Calibrated on about 200 train photos."
    )
    record(
        "Exports",
        f"python benchmarks/exports.py --data PHOTOS --weights FILE ({len(catalog)} photos)",
        table,
        note,
    )


if __name__ == "__main__":
    main()
