"""How good and why: encoders compared, robustness to edits, cheap ways to be better, each with its
interval.

python benchmarks/evaluation.py --data DIR --backbone MobileNetV2 --alpha 0.35 --weights FILE

Queries of the split `validation` search in the split `train`; a folder without splits gets its own.
A head and the last layers of the backbone are trained on the gallery alone, as is the logistic
regression that they must beat. The cheap ways are first compared among the gallery's own photos,
which gives the choice; the queries then judge what was chosen.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from quality import colour_distance, mean_colours, train_on_gallery
from results import as_text, backbone_name, colours_of, record
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lookalike.backbones import build_encoder, embedding_encoder
from lookalike.colour import join
from lookalike.embeddings import embed_images
from lookalike.evaluation import chance, rank
from lookalike.images import pixel_batches
from lookalike.similarity import normalise
from lookalike.sources import load_catalog
from lookalike.splits import split_by_product
from lookalike.studies import compare, measure_edits, try_variants
from lookalike.studies.network_stages import stage_encoder
from lookalike.studies.photo_edits import EDITS

K = 10
COLOUR = 0.2  # the weight of colours that 05 takes
FAIR = "logistic regression"
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


def logits(features: np.ndarray, catalog: pd.DataFrame) -> np.ndarray:
    """What a logistic regression, fitted to the gallery, says of each class, as vectors."""
    taught = ((catalog["split"] == "train") & catalog["label"].notna()).to_numpy()
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    regression.fit(features[taught], catalog["label"][taught])
    return regression.predict_log_proba(features)


def compare_encoders(name: str, catalog: pd.DataFrame, options: argparse.Namespace) -> tuple:
    """Vectors of all ways, the two trained encoders, and the rows of the queries."""
    encoders = {"untrained": build_encoder(name, weights=None, seed=options.seed)}
    encoders[name] = build_encoder(name, weights=options.weights)
    phases = {"head trained": (True, False), "fine-tuned": (False, True)}
    for what, (head, fine) in phases.items():
        vars(options).update(SPLITS, train=head, fine_tune=fine, fit="resize", image_size=None)
        classifier, rows, *_ = train_on_gallery(name, catalog, options)
        encoders[what] = embedding_encoder(classifier)
    vectors = {"colour histogram": colours_of(catalog["path"])}
    vectors |= {what: embed_images(one, catalog["path"]) for what, one in encoders.items()}
    vectors[FAIR] = logits(vectors[name], catalog)
    return vectors, encoders, rows


def main() -> None:
    """Train, embed, compare, record."""
    options = parse_arguments()
    name = backbone_name(options)
    given = {"--backbone": name, "--weights": options.weights != "auto" and "FILE"}
    given |= {"--epochs": options.epochs, "--seed": options.seed}
    flags = " ".join(f"{flag} {value}" for flag, value in given.items() if value)
    command = f"python benchmarks/evaluation.py --data DIR {flags}"
    catalog, _ = load_catalog("folder", options.data.expanduser())
    if catalog["split"].isna().all():
        catalog = split_by_product(catalog, fractions=(0.85, 0.15, 0), seed=options.seed)
    catalog = catalog[catalog["split"].isin(SPLITS.values())].reset_index(drop=True)
    title = f"{name}, {options.data.name}"

    vectors, encoders, rows = compare_encoders(name, catalog, options)
    rules = {"queries": rows, **SPLITS}
    rankings = {what: rank(one, catalog, K, **rules) for what, one in vectors.items()}
    parts = normalise(vectors["fine-tuned"]), vectors["colour histogram"]
    asked = join(*parts, COLOUR)
    rankings["fine-tuned + colour"] = rank(join(*parts), catalog, K, query_vectors=asked, **rules)
    table = as_text(compare(rankings, K, reference=FAIR), K)
    means = np.concatenate([mean_colours(some) for some in pixel_batches(catalog["path"], 64)])
    table["colour distance"] = [f"{colour_distance(one, means):.2f}" for one in rankings.values()]
    found = rankings[name]
    n_gallery = (catalog["split"] == "train").sum()
    guessing = chance(found.n_relevant, found.n_gallery).mean()
    note = f"{len(rows):,} queries among {n_gallery:,} photos; guessing has {guessing:.3f}. "
    note += f"Changes are against {FAIR} on the frozen features, on the same queries; all "
    note += f"intervals of changes together hold at 95 %. Colour has the weight {COLOUR}."
    record(f"Encoders compared: {title}", command, table.reset_index(names="encoder"), note)

    stages = {}
    for what in (name, "fine-tuned"):
        staged, parts = stage_encoder(encoders[what])
        everything = embed_images(staged, catalog["path"])
        each = {stage: rank(everything[:, at], catalog, K, **rules) for stage, at in parts.items()}
        compared = as_text(compare(each, K, reference=list(each)[-1]), K)
        stages[what] = compared[f"P@{K}"] + " (" + compared["95 % interval"] + ")"
    shown = pd.DataFrame(stages).reset_index(names="stage")
    record(f"What each stage knows of the kind: {title}", command, shown, f"Precision@{K}.")

    edited = measure_edits(encoders[name], vectors[name], catalog, K, **rules)
    shown = edited[["edit", "strength"]].astype(str)
    shown.insert(1, "unit", [EDITS[edit].unit for edit in edited["edit"]])
    shown[f"P@{K}"] = edited["precision"].map("{:.3f}".format)
    ends = edited[["change", "low", "high"]].to_numpy()
    shown["change"] = [f"{change:+.3f} ({low:+.3f} to {high:+.3f})" for change, low, high in ends]
    shown["overlap"] = edited["overlap"].map("{:.3f}".format)
    note = f"{name} as it comes; edited queries among unedited photos. Overlap: of the unedited "
    note += f"query's {K} nearest, the share that is found again. Intervals of 95 %."
    record(f"Robustness to edits: {title}", command, shown, note)

    build = partial(build_encoder, name, weights=options.weights)
    gallery = catalog[catalog["split"] == "train"].reset_index(drop=True)
    choosing, judging = try_variants(build, gallery, K), try_variants(build, catalog, K, **rules)
    chosen = as_text(compare(choosing, K), K).drop(columns="95 % interval")
    judged = as_text(compare(judging, K), K).drop(columns="95 % interval").add_prefix("queries: ")
    best = compare({way: choosing[way] for way in FREE}, K)["value"].idxmax()
    alone = compare({way: judging[way] for way in ("average pooling", best)}, K)
    alone = as_text(alone, K).iloc[-1]
    note = f"First the {n_gallery:,} photos of the gallery, each asking all others; then the "
    note += f"{len(rows):,} queries. All intervals of changes in a column together hold at 95 %. "
    note += f"Of the ways that cost no time and cut nothing off ({', '.join(FREE)}) the gallery's "
    note += f"best is {best}; it alone on the queries: {alone['change'] or 'it is the plain one'} "
    note += f"({alone['of the change']})."
    both = chosen.join(judged).reset_index(names="way")
    record(f"Cheap ways to be better: {title}", command, both, note)


if __name__ == "__main__":
    main()
