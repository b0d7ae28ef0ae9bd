"""How good and how fast: Precision@10 and images/s of one backbone on a folder of photos.

python benchmarks/quality.py --data DIR --backbone MobileNetV2 --alpha 0.35 --weights FILE

Queries of one split search in another; where the folder has no such splits, every photo searches in all others. The
last line printed is one JSON object. Its `recall_at_1` is the Recall@1 of metric learning: the share of queries whose
nearest image is of their kind.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from lookalike.backbones import BACKBONES, POOLINGS, build_encoder, choose_backbone, describe_encoder
from lookalike.catalog import load_catalog
from lookalike.embeddings import embed_catalog
from lookalike.evaluation import evaluate, rank
from lookalike.images import FITS
from lookalike.similarity import METRICS
from lookalike.workspace import describe_machine


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of photos, or a zip of one")
    parser.add_argument("--backbone", default="auto", choices=["auto", *BACKBONES])
    parser.add_argument("--alpha", type=float, help="width multiplier of MobileNetV2")
    parser.add_argument("--weights", default="auto", help="a file, auto, or none for random weights")
    parser.add_argument("--pooling", default="avg", choices=POOLINGS)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--fit", default="resize", choices=FITS)
    parser.add_argument("--metric", default="cosine", choices=METRICS)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--gallery-split", default="train")
    parser.add_argument("--query-split", default="validation")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Embed, rank, print."""
    options = parse_arguments()
    start = time.monotonic()
    print(describe_machine())
    choice = choose_backbone(options.backbone)
    print(choice)
    data = options.data.expanduser()
    catalog, rejected = load_catalog("zip" if data.is_file() else "folder", data)
    if catalog["label"].isna().all():
        raise SystemExit(f"{data} has no labels to measure by; put the photos of each kind into a folder of its own.")
    print(f"{len(catalog)} images of {catalog['label'].nunique()} labels, {len(rejected)} files rejected")
    encoder = build_encoder(
        choice.value,
        alpha=options.alpha,
        weights=None if options.weights == "none" else options.weights,
        pooling=options.pooling,
        image_size=options.image_size,
        seed=options.seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        embedding_start = time.monotonic()
        store = embed_catalog(encoder, catalog, Path(folder) / "store", fit=options.fit)
        embedding_seconds = time.monotonic() - embedding_start
        splits = {"gallery_split": options.gallery_split, "query_split": options.query_split}
        if catalog["split"].isna().all():
            print("The folder has no splits: every image searches in all others.")
            splits = dict.fromkeys(splits)
        ranking = rank(store.vectors, store.catalog, max(10, options.k), metric=options.metric, **splits)
    scores = evaluate(ranking, sorted({1, 5, 10, options.k}))
    print(scores.round(4).to_string())
    result = {
        "precision_at_10": scores.loc[10, "Precision@k"],
        "recall_at_1": scores.loc[1, "hit rate@k"],
        "map_at_10": scores.loc[10, "MAP@k"],
        "chance": scores.loc[10, "chance"],
        "n_gallery": int(ranking.n_gallery.max()),
        "n_queries": len(ranking.relevant),
        "images_per_second": len(catalog) / embedding_seconds,
        "seconds": time.monotonic() - start,
        "encoder": describe_encoder(encoder),
        "metric": options.metric,
        **splits,
    }
    for name, value in result.items():
        if isinstance(value, float):
            result[name] = round(value, 4) if np.isfinite(value) else None
    print(json.dumps(result))


if __name__ == "__main__":
    main()
