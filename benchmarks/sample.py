"""How hard is the bundled sample: Precision@10 of its lesson's four kinds, by ever better encoders.

python benchmarks/sample.py [--mobilenet FILE]

Products that were held out search among all others, 70 to 30. The lines printed are the table in
data/sample/README.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from results import colours_of

from lookalike.backbones import build_encoder
from lookalike.embeddings import embed_images
from lookalike.evaluation import chance, precision_at_k, rank
from lookalike.sources import load_catalog
from lookalike.sources.load import LESSON_LABELS
from lookalike.splits import split_by_product


def main() -> None:
    """Embed the sample with each encoder and print one row each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--mobilenet", type=Path, help="ImageNet weights of MobileNetV2, alpha 0.35, without top"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    catalog, _ = load_catalog("sample", labels="watch, t-shirt, bicycle, shoe, bag, glasses, hat")
    catalog = split_by_product(catalog, fractions=(0.7, 0, 0.3), seed=options.seed)
    encoders = {
        "untrained VGG16Slim": build_encoder("VGG16Slim", weights=None, seed=options.seed),
        "VGG16Slim": build_encoder("VGG16Slim"),
    }
    if options.mobilenet:
        encoders["MobileNetV2 0.35, ImageNet"] = build_encoder(
            "MobileNetV2-0.35", weights=options.mobilenet
        )
    paths = catalog["path"].tolist()
    vectors = {"colour histogram": colours_of(paths)}
    vectors |= {name: embed_images(encoder, paths) for name, encoder in encoders.items()}
    lesson = catalog["label"].isin(LESSON_LABELS).to_numpy()
    rows = {}
    for name, of_encoder in vectors.items():
        for kinds, chosen in (("four labels", lesson), ("seven labels", lesson | True)):
            ranking = rank(
                of_encoder[chosen], catalog[chosen], 10, gallery_split="train", query_split="test"
            )
            guessing = chance(ranking.n_relevant, ranking.n_gallery).mean()
            rows.setdefault(name, {})[kinds] = precision_at_k(ranking.relevant, 10).mean()
            rows.setdefault("chance", {})[kinds] = guessing
    table = pd.DataFrame(rows).T
    print(table.sort_values("four labels").round(3).to_string())


if __name__ == "__main__":
    main()
