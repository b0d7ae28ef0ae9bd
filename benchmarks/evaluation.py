"""How good and why: encoders compared, robustness to edits, cheap ways to be better, each with its
interval.

python benchmarks/evaluation.py --data DIR --backbone MobileNetV2 --alpha 0.35 --weights FILE

Queries of the split `validation` search in the split `train`; a folder without splits gets its own.
A head and the last layers of the backbone are trained on the gallery alone. The cheap ways are
first compared among the gallery's own photos, which gives the choice; the queries then judge what
was chosen.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import pandas as pd
from quality import train_on_gallery
from results import backbone_name, colours_of, record

from lookalike.backbones import BACKBONES, WeightsUnavailableError, build_encoder, embedding_encoder
from lookalike.embeddings import compile_encoder
from lookalike.evaluation import as_text, compare
from lookalike.images import pixel_batches
from lookalike.metrics import precision_at_k
from lookalike.rankings import rank
from lookalike.sources import load_catalog
from lookalike.splits import split_by_product
from lookalike.studies import measure_robustness, measure_stages, try_variants
from lookalike.studies.experiments import embed_quickly
from lookalike.studies.network_stages import stage_encoder
from lookalike.studies.photo_edits import EDITS

K = 10
FREE = ("average pooling", "max pooling", "generalized mean", "Euclidean distance")
SPLITS = {"gallery_split": "train", "query_split": "validation"}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a folder of photos with labels")
    parser.add_argument("--backbone", default="auto", help="a name, such as MobileNetV2-0.35")
    parser.add_argument("--alpha", type=float, help="width multiplier of MobileNetV2")
    parser.add_argument("--weights", default="auto", help="a file, or auto")
    parser.add_argument("--epochs", type=int, help="of fine-tuning")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Train, embed, compare, record."""
    options = parse_arguments()
    name = title = backbone_name(options)
    build = partial(build_encoder, name, weights=options.weights)
    given = {"--backbone": name, "--weights": options.weights != "auto" and "FILE"}
    given |= {"--epochs": options.epochs, "--seed": options.seed}
    command = f"python benchmarks/evaluation.py --data DIR {' '.join(f'{a} {b}' for a, b in given.items() if b)}"
    catalog, _ = load_catalog("folder", options.data.expanduser())
    if catalog["split"].isna().all():
        catalog = split_by_product(catalog, fractions=(0.85, 0.15, 0), seed=options.seed)
    catalog = catalog[catalog["split"].isin(SPLITS.values())].reset_index(drop=True)

    encoders = {"untrained": build(weights=None, seed=options.seed), title: build()}
    missing = []
    for other in [other for other in BACKBONES if other != name]:
        try:
            encoders[other] = build_encoder(other)
        except WeightsUnavailableError:
            missing.append(other)
    phases = {"head trained": (True, False), "fine-tuned": (False, True)}
    for what, (head, fine) in phases.items():
        vars(options).update(SPLITS, train=head, fine_tune=fine, fit="resize", image_size=None)
        encoders[what] = embedding_encoder(train_on_gallery(name, catalog, options)[0])
    vectors = {"colour histogram": colours_of(catalog["path"])}
    vectors |= {what: embed_quickly(one, catalog["path"]) for what, one in encoders.items()}
    rankings = {what: rank(one, catalog, K, **SPLITS) for what, one in vectors.items()}
    compared = compare(rankings, K, reference=title)
    table = as_text(compared, K)
    table.insert(
        0, "P@5", [f"{precision_at_k(one.relevant, 5).mean():.3f}" for one in rankings.values()]
    )
    table["dim"] = [one.shape[1] for one in vectors.values()]
    table["million weights"] = pd.Series(
        {what: f"{one.count_params() / 1e6:.2f}" for what, one in encoders.items()}
    )
    speeds = {}
    for what, one in encoders.items():
        pixels = next(pixel_batches(catalog["path"], one.input_shape[1:3]))
        forward = compile_encoder(one)
        # The first call prepares the graph.
        forward(pixels)
        begun = time.perf_counter()
        forward(pixels)
        speeds[what] = f"{len(pixels) / (time.perf_counter() - begun):.0f}"
    table["images/s"] = pd.Series(speeds)
    per_product = len(catalog) / catalog["product_id"].nunique()
    table["MB, 1,000 products"] = [
        f"{one.shape[1] * 4 * per_product / 1000:.1f}" for one in vectors.values()
    ]
    chance = compared["chance"].iloc[0]
    counts = catalog["split"].value_counts()
    note = f"{counts['validation']:,} queries among {counts['train']:,} photos; guessing has {chance:.3f}."
    note += f" Changes are against {title}, on the same queries; all intervals of changes together hold at 95 %."
    note += f" Left out for want of weights: {', '.join(missing)}." if missing else ""
    if "VGG16Slim" in encoders:
        note += " VGG16Slim may have learnt with the labels of these very photos (models/README.md): no fair comparison."
    record(
        f"Encoders compared: {title}", command, table.fillna("").reset_index(names="encoder"), note
    )

    stages = []
    for what in (title, "fine-tuned"):
        staged, parts = stage_encoder(encoders[what])
        everything = embed_quickly(staged, catalog["path"])
        each = {stage: everything[:, columns] for stage, columns in parts.items()}
        stages.append(measure_stages(each, catalog, (), K, **SPLITS).assign(encoder=what))
    stages = pd.concat(stages)
    stages["told"] = [
        f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f})" for row in stages.itertuples()
    ]
    shown = stages.pivot_table(
        index="stage", columns="encoder", values="told", aggfunc="first", sort=False
    )
    record(
        f"What each stage knows of the kind: {title}",
        command,
        shown.reset_index(),
        f"Precision@{K}.",
    )

    edited = measure_robustness(
        encoders[title], vectors[title], catalog, K, seed=options.seed, **SPLITS
    )
    precision, overlap = (
        edited[edited["measure"] == one].reset_index(drop=True)
        for one in ("Precision@k", "overlap")
    )
    shown = precision[["edit", "unit"]].copy()
    as_it_was = precision["strength"] == [EDITS[edit].unchanged for edit in precision["edit"]]
    shown["strength"] = precision["strength"].map("{:g}".format).mask(as_it_was, "unedited")
    shown[f"P@{K}"] = [
        f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f})" for row in precision.itertuples()
    ]
    changes = precision[["change", "change low", "change high"]].to_numpy()
    shown["change"] = [
        f"{change:+.3f} ({low:+.3f} to {high:+.3f})" if change else ""
        for change, low, high in changes
    ]
    shown["overlap"] = [
        f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f})" for row in overlap.itertuples()
    ]
    note = f"{title} as it comes; edited queries among unedited photos. Overlap: of the unedited query's {K} nearest, "
    record(
        f"Robustness to edits: {title}",
        command,
        shown,
        note + "the share that is found again. Intervals of 95 %.",
    )

    gallery = catalog[catalog["split"] == "train"].reset_index(drop=True)
    choosing, judging = (
        try_variants(build, photos, K, seed=options.seed, **splits)
        for photos, splits in ((gallery, {}), (catalog, SPLITS))
    )
    chosen = as_text(compare(choosing, K), K).drop(columns="95 % interval")
    judged = as_text(compare(judging, K), K).drop(columns="95 % interval").add_prefix("queries: ")
    best = compare({way: choosing[way] for way in FREE}, K)["value"].idxmax()
    alone = as_text(compare({way: judging[way] for way in ("average pooling", best)}, K), K).iloc[
        -1
    ]
    note = f"First the {counts['train']:,} photos of the gallery, each asking all others; then the "
    note += f"{counts['validation']:,} queries. All intervals of changes in a column together hold at 95 %. "
    note += f"Of the ways that cost no time and cut nothing off ({', '.join(FREE)}) the gallery's best is {best}; "
    note += f"it alone on the queries: {alone['change'] or 'it is the plain one'} ({alone['of the change']})."
    record(
        f"Cheap ways to be better: {title}",
        command,
        chosen.join(judged).reset_index(names="way"),
        note,
    )


if __name__ == "__main__":
    main()
