"""Near-duplicates: which edited copies are found, and what all pairs cost beside the bare half
matrix product.

python benchmarks/copies.py --data DIR --backbone MobileNetV2 --alpha 0.35 --weights FILE
python benchmarks/copies.py --scale

Thresholds are chosen on copies of train photos, looked up among the train photos; what is told was
measured with them on copies of the validation photos, looked up among all photos. Photos of which
the catalogue itself has a copy are left out of both: a copy of one is a copy of the other.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from results import backbone_name, record
from search import forget_peak, memory

from lookalike.backbones import build_encoder
from lookalike.copies import CopyIndex, choose_threshold, plant_copies
from lookalike.copies.pairs import BLOCK, pairs_above
from lookalike.copies.thresholds import SIMILARITY, precision_recall, recall_by_kind, score_copies
from lookalike.embeddings import embed_catalog
from lookalike.sources import load_catalog
from lookalike.splits import split_by_product

PRECISION = 0.999
ROWS, DIM, ABOVE = 100_000, 512, 0.9
ROUNDS = 2


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a folder of photos")
    parser.add_argument("--backbone", default="auto", help="a name, such as MobileNetV2-0.35")
    parser.add_argument("--alpha", type=float, help="width multiplier of MobileNetV2")
    parser.add_argument("--weights", default="auto", help="a file, or auto")
    parser.add_argument(
        "--photos",
        type=int,
        default=400,
        help="how many are copied to measure, at most; a quarter as many to choose",
    )
    parser.add_argument(
        "--scale", action="store_true", help="all pairs of 100,000 vectors, in time and memory"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def measure_copies(options: argparse.Namespace) -> None:
    """Choose thresholds on some photos, tell what they find of others."""
    name = title = backbone_name(options)
    encoder = build_encoder(name, weights=options.weights)
    catalog, _ = load_catalog("folder", options.data.expanduser())
    if catalog["split"].isna().all():
        catalog = split_by_product(catalog, fractions=(0.85, 0.15, 0), seed=options.seed)
    given = {"--backbone": name, "--weights": options.weights != "auto" and "FILE"}
    given = " ".join(f"{option} {value}" for option, value in given.items() if value)
    command = f"python benchmarks/copies.py --data DIR {given}"
    with tempfile.TemporaryDirectory() as folder:
        train = catalog[catalog["split"] == "train"]
        stores = [
            embed_catalog(encoder, part, Path(folder, str(len(part)))) for part in (train, catalog)
        ]
        choosing, measuring = (CopyIndex(store) for store in stores)
        own = measuring.pairs()
        alone = catalog[~catalog["image_id"].isin({*own["image_id"], *own["other_id"]})]
        scores, copies = {}, {}
        for part, index in (("train", choosing), ("validation", measuring)):
            photos = alone[alone["split"] == part]
            count = options.photos if part == "validation" else options.photos // 4
            photos = photos.sample(min(count, len(photos)), random_state=options.seed)
            copies[part] = plant_copies(photos, Path(folder, part), seed=options.seed)
            scores[part] = score_copies(index, copies[part], encoder)
    found = scores["train"]
    thresholds = {"content": 1.0}
    for step in ("perceptual hash", "alignment"):
        thresholds[step] = choose_threshold(found, step, PRECISION)
    halfway = choose_threshold(found, SIMILARITY, PRECISION)
    low = precision_recall(found[found["step"] == SIMILARITY], len(copies["train"]))
    lowest = low.loc[low["precision"] >= PRECISION, "threshold"].min()
    default = {
        "content": 1.0,
        "perceptual hash": measuring.min_correlation,
        "alignment": measuring.min_agreement,
    }
    judged, told = scores["validation"], copies["validation"]
    table = recall_by_kind(judged, told, thresholds)
    table[SIMILARITY] = recall_by_kind(judged, told, {SIMILARITY: lowest})["together"]
    table["with the defaults"] = recall_by_kind(judged, told, default)["together"]
    table["false pairs"] = table.pop("false")
    right = {
        what: judged[judged["score"] >= judged["step"].map(limits).fillna(np.inf)].drop_duplicates(
            ["copy", "image_id"]
        )
        for what, limits in {
            "chosen": thresholds,
            "default": default,
            "alone": {SIMILARITY: lowest},
        }.items()
    }
    precision = {
        what: f"{one['right'].mean():.4f} of {len(one):,} pairs" for what, one in right.items()
    }
    pairs = "; ".join(
        f"{row.image_id} and {row.other_id} ({row.step}, {row.score:.3f})"
        for row in own.itertuples()
    )
    note = (
        f"{told['copy_of'].nunique()} validation photos, {len(told):,} copies, looked up among "
        f"{len(catalog):,}. Thresholds, chosen on {copies['train']['copy_of'].nunique()} train "
        f"photos for a precision of {PRECISION}: correlation {thresholds['perceptual hash']:.3f}, "
        f"agreement {thresholds['alignment']:.3f}; precision with them {precision['chosen']}. "
        f"Defaults: {measuring.min_correlation} and {measuring.min_agreement}; precision "
        f"{precision['default']}. Similarity alone: the lowest threshold with that precision on "
        f"the train photos, {lowest:.3f} (halfway to the median {halfway:.3f}); precision "
        f"{precision['alone']}. Columns of steps: what each finds by itself. The catalogue's own "
        f"photos have {len(own)} pairs of copies: {pairs}."
    )
    shown = table.reset_index().map(lambda one: f"{one:.3f}" if isinstance(one, float) else one)
    record(f"Copies found: {title}", command, shown, note)


def measure_scale() -> None:
    """All pairs above a threshold among clustered vectors, and the products of the same blocks
    alone.
    """
    random = np.random.default_rng(0)
    centres = random.standard_normal((ROWS // 10, DIM), np.float32)
    vectors = np.repeat(centres, 10, axis=0) + 0.35 * random.standard_normal(
        (ROWS, DIM), np.float32
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    buffer = np.empty((BLOCK, BLOCK), np.float32)

    def bare() -> None:
        for first in range(0, ROWS, BLOCK):
            rows = vectors[first : first + BLOCK]
            for second in range(first, ROWS, BLOCK):
                others = vectors[second : second + BLOCK]
                np.matmul(rows, others.T, out=buffer[: len(rows), : len(others)])

    ways = {
        "the products alone": bare,
        f"all pairs above {ABOVE}": lambda: pairs_above(vectors, ABOVE),
        "5 best of each above 0.5": lambda: pairs_above(vectors, 0.5, per_row=5),
    }
    times = {way: [] for way in ways}
    peaks = {}
    counts = {}
    for _ in range(ROUNDS):
        for way, work in ways.items():
            forget_peak()
            start = time.perf_counter()
            result = work()
            times[way].append(time.perf_counter() - start)
            peaks[way] = memory("VmHWM")
            counts[way] = f"{len(result[0]):,}" if result else ""
    base = min(times["the products alone"])
    rows = [
        (way, f"{min(each):.1f}", f"{min(each) / base:.2f}", f"{peaks[way]:.0f}", counts[way])
        for way, each in times.items()
    ]
    table = pd.DataFrame(rows, columns=["", "seconds", "ratio", "MB resident at most", "pairs"])
    note = (
        f"{ROWS:,} x {DIM} in groups of ten; the best of {ROUNDS} rounds. Memory is that of the "
        "whole process."
    )
    record("All pairs of 100,000 vectors", "python benchmarks/copies.py --scale", table, note)


if __name__ == "__main__":
    arguments = parse_arguments()
    if arguments.data:
        measure_copies(arguments)
    if arguments.scale:
        measure_scale()
