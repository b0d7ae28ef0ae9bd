"""How good and how fast: Precision@10 and images/s of one backbone on a folder of photos.

python benchmarks/quality.py --data DIR --backbone MobileNetV2 --alpha 0.35 --weights FILE

Queries of one split search in another; where the folder has no such splits, every photo searches in
all others. With --train a head is trained on the gallery's photos, with --fine-tune the last layers
of the backbone too; vectors then come from the second-to-last layer, and no query photo has a say
in it. With --colour the colours of the photos count, too; then the change that they made in
Precision@10 stands beside its paired interval. The last line printed is one JSON object. Its
`recall_at_1` is the Recall@1 of metric learning: the share of queries whose nearest image is of
their kind; its `colour_distance` is how far, in CIELAB, the mean colours of the ten nearest lie
from that of the query.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from results import backbone_name

from lookalike.backbones import backbone_row, build_encoder, embedding_encoder, load_backbone
from lookalike.colour import join, mean_colour
from lookalike.embeddings import embed_catalog, embed_images
from lookalike.encoder_fingerprint import encoder_fingerprint
from lookalike.evaluation import Ranking, chance, paired_change, precision_at_k, rank, unseen
from lookalike.images import FITS
from lookalike.machine import describe_machine
from lookalike.pooling import LAYERS
from lookalike.similarity import METRICS, normalise
from lookalike.sources import load_catalog
from lookalike.splits import label_names, split_by_product
from lookalike.training import build_classifier, train


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="a folder of photos, or a zip of one"
    )
    parser.add_argument("--backbone", default="auto", help="a name, such as MobileNetV2-0.35")
    parser.add_argument("--alpha", type=float, help="width multiplier of MobileNetV2")
    parser.add_argument(
        "--weights", default="auto", help="a file, auto, or none for random weights"
    )
    parser.add_argument("--pooling", default="gem", choices=LAYERS)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--fit", default="resize", choices=FITS)
    parser.add_argument("--metric", default="cosine", choices=METRICS)
    parser.add_argument("--colour", type=float, default=0.0, help="the weight of colours, 0 to 1")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--gallery-split", default="train")
    parser.add_argument("--query-split", default="validation")
    parser.add_argument("--train", action="store_true", help="train a head on the gallery split")
    parser.add_argument(
        "--fine-tune",
        action="store_true",
        help="train a head, then the last layers of the backbone",
    )
    parser.add_argument("--epochs", type=int, help="of the last phase of training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not 0 <= options.colour <= 1 or (options.colour and options.metric != "cosine"):
        parser.error("--colour is a weight from 0 to 1, and joins the cosine alone")
    return options


def train_on_gallery(name: str, catalog: pd.DataFrame, options: argparse.Namespace) -> tuple:
    """A classifier trained on the gallery, the rows of the queries that it did not see there, its
    accuracy on them, and the seconds it took.
    """
    start = time.monotonic()
    sides = catalog["split"].map({options.gallery_split: "train", options.query_split: "test"})
    known = catalog.assign(split=sides)
    for split in (options.gallery_split, options.query_split):
        if not (catalog["split"] == split).any():
            raise SystemExit(
                f"No photo is in the split {split}; "
                f"there are {sorted(set(catalog['split'].dropna()))}."
            )
    labels = label_names(known)
    row, _ = backbone_row(name)
    keras.utils.set_random_seed(options.seed)
    base, preprocess = load_backbone(name, options.weights, image_size=options.image_size)
    classifier = build_classifier(base, preprocess, len(labels))
    epochs = {} if options.epochs is None else {"epochs": options.epochs}
    phases = {"head": {} if options.fine_tune else epochs}
    if options.fine_tune:
        after = {"after": row.unfreeze_after, "learning_rate": row.learning_rate}
        phases["fine"] = {"epochs": 12, "views": 5} | after | epochs
    with tempfile.TemporaryDirectory() as folder:
        for phase, settings in phases.items():
            train(classifier, known, Path(folder, phase), **settings, seed=options.seed)
    seconds = time.monotonic() - start
    no_list = pd.DataFrame(columns=["image_id", "other_id"])
    rows = unseen(known, known.loc[known["split"] == "train", "sha256"], no_list)
    queries = known.iloc[rows][lambda photos: photos["label"].isin(labels)]
    predicted = embed_images(classifier, queries["path"].to_list(), fit=options.fit).argmax(axis=1)
    accuracy = float((predicted == queries["label"].map(labels.index)).mean())
    return classifier, rows, accuracy, seconds


def mean_colours(photos: np.ndarray) -> np.ndarray:
    """`mean_colour` of photos [n, height, width, 3]: [n, 3]."""
    return np.stack([mean_colour(pixels) for pixels in photos])


def colour_distance(ranking: Ranking, means: np.ndarray) -> float:
    """How far the mean colours of the ten nearest lie from the query's, on average."""
    found = ranking.results[:, :10]
    away = np.linalg.norm(means[ranking.queries][:, None] - means[found], axis=2)
    return float(away[found >= 0].mean())


def average_precision(relevant: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    """Precision [q] at the ranks of the relevant among the k results, averaged; NaN of none.

    Source: Manning, Raghavan, Schütze, "Introduction to Information Retrieval", 2008, section 8.4.
    """
    k = relevant.shape[1]
    total = (np.cumsum(relevant, axis=1) / np.arange(1, k + 1) * relevant).sum(axis=1)
    return total / np.where(n_relevant > 0, np.minimum(n_relevant, k), np.nan)


def main() -> None:
    """Train if asked, embed, rank, print."""
    options = parse_arguments()
    start = time.monotonic()
    print(describe_machine())
    name = backbone_name(options)
    options.weights = None if options.weights == "none" else options.weights
    data = options.data.expanduser()
    catalog, rejected = load_catalog("zip" if data.is_file() else "folder", data)
    if catalog["label"].isna().all():
        raise SystemExit(
            f"{data} has no labels to measure by; "
            "put the photos of each class into a folder of its own."
        )
    print(
        f"{len(catalog)} images of {catalog['label'].nunique()} labels, "
        f"{len(rejected)} files rejected"
    )
    encoder = build_encoder(
        name,
        weights=options.weights,
        pooling=options.pooling,
        image_size=options.image_size,
        seed=options.seed,
    )
    trained, rows = {}, None
    if options.train or options.fine_tune:
        if catalog["split"].isna().all():
            print(
                "The folder has no splits: of each label, 85 % of the products are the gallery, "
                "the others search."
            )
            catalog = split_by_product(catalog, fractions=(0.85, 0, 0.15), seed=options.seed)
            options.gallery_split, options.query_split = "train", "test"
        classifier, rows, accuracy, seconds = train_on_gallery(name, catalog, options)
        trained = {"accuracy": accuracy, "seconds_training": seconds}
        encoder = embedding_encoder(classifier)
    with tempfile.TemporaryDirectory() as folder:
        embedding_start = time.monotonic()
        side_arrays = {"mean_colours": mean_colours}
        store = embed_catalog(
            encoder, catalog, Path(folder) / "store", fit=options.fit, side_arrays=side_arrays
        )
        embedding_seconds = time.monotonic() - embedding_start
        splits = {"gallery_split": options.gallery_split, "query_split": options.query_split}
        if catalog["split"].isna().all():
            print("The folder has no splits: every image searches in all others.")
            splits = dict.fromkeys(splits)
        wanted = {"metric": options.metric, "queries": rows, **splits}
        plain = ranking = rank(store.vectors, store.catalog, max(10, options.k), **wanted)
        if options.colour:
            parts = normalise(store.vectors), store.side_arrays["colours"]
            asked = join(*parts, options.colour)
            ranking = rank(
                store.joined, store.catalog, max(10, options.k), query_vectors=asked, **wanted
            )
            both = [precision_at_k(one.relevant, 10) for one in (ranking, plain)]
            change, low, high = paired_change(*both, ranking.products)
            print(f"colour {options.colour}: Precision@10 {change:+.3f}", end="")
            print(f", 95 % interval {low:+.3f} to {high:+.3f}", end="")
            before = colour_distance(plain, store.side_arrays["mean_colours"])
            print(f"; colour distance without it {before:.2f}")
    for k in sorted({1, 5, 10, options.k}):
        print(f"Precision@{k} {precision_at_k(ranking.relevant, k).mean():.4f}")
    map_at_10 = average_precision(ranking.relevant[:, :10], ranking.n_relevant)
    result = {
        "precision_at_10": precision_at_k(ranking.relevant, 10).mean(),
        "recall_at_1": precision_at_k(ranking.relevant, 1).mean(),
        "map_at_10": np.nanmean(map_at_10),
        "chance": chance(ranking.n_relevant, np.maximum(ranking.n_gallery, 10)).mean(),
        "colour": options.colour,
        "colour_distance": colour_distance(ranking, store.side_arrays["mean_colours"]),
        "n_gallery": int(ranking.n_gallery.max()),
        "n_queries": len(ranking.relevant),
        "images_per_second": len(catalog) / embedding_seconds,
        "seconds": time.monotonic() - start,
        "encoder": f"{encoder.name} ({encoder_fingerprint(encoder)})",
        "metric": options.metric,
        **splits,
        **trained,
    }
    for name, value in result.items():
        if isinstance(value, float):
            result[name] = round(value, 4) if np.isfinite(value) else None
    print(json.dumps(result))


if __name__ == "__main__":
    main()
