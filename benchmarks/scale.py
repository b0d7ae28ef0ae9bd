"""Search engines compared: exact, FAISS (flat, HNSW, IVF-PQ) and Milvus Lite on the same vectors,
over sizes.

python benchmarks/scale.py [--data PHOTOS] [--sizes 10000 100000 1000000]

The vectors are resampled from those of real photos; the queries, from photos that were held out.
Ends with one JSON object.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import pandas as pd
from results import record

from lookalike.backbones import build_encoder
from lookalike.embeddings import embed_images
from lookalike.scale.indexes import KINDS, measure, resampled
from lookalike.similarity import top_k
from lookalike.sources import load_catalog

QUERIES, K = 500, 10


def nearest(vectors: np.ndarray, count: int = 1000) -> float:
    """Median cosine distance of a vector to its nearest."""
    own = list(np.arange(count)[:, None])
    return float(np.median(1 - top_k(vectors[:count], vectors, 1, exclude=own)[1]))


def main() -> None:
    """Measure, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="", help="a folder of photos; else the sample")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    parser.add_argument(
        "--milvus", type=int, default=100_000, help="the largest size at which Milvus Lite is tried"
    )
    options = parser.parse_args()
    catalog, _ = load_catalog("folder" if options.data else "sample", options.data)
    real = embed_images(build_encoder("VGG16Slim"), catalog["path"].tolist())
    order = np.random.default_rng(0).permutation(len(real))
    held_out, kept = real[order[: len(real) // 5]], real[order[len(real) // 5 :]]
    queries = resampled(held_out, QUERIES, seed=1)
    rows, near = [], nearest(resampled(kept, len(kept)), min(1000, len(kept)))
    for size in options.sizes:
        vectors = resampled(kept, size)
        exact = top_k(queries, vectors, K)[1]
        for kind in options.kinds:
            if kind != "milvus" or size <= options.milvus:
                rows.append(measure(kind, vectors, queries, K, exact=exact))
                print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    formats = {
        "build_s": "{:.1f}",
        "ms_per_query": "{:.2f}",
        "queries_per_s": "{:.0f}",
        "recall": "{:.3f}",
    }
    shown = table.assign(
        **{
            name: table[name].map(text.format)
            for name, text in (formats | {"MB": "{:.0f}"}).items()
        }
    )
    note = (
        f"Vectors of {real.shape[1]} numbers by VGG16Slim, resampled from {len(kept)} photos; "
        f"{QUERIES} queries, from {len(held_out)} others. As many resampled as there are real ones "
        f"lie at a median cosine distance of {near:.3f} from their nearest, the real ones at "
        f"{nearest(kept, min(1000, len(kept))):.3f}. "
        "`ms_per_query`: median of queries one at a time; `queries_per_s`: all at once; `recall`: "
        "at 10, by cosine, against exact search; `MB`: of the index, on disk for Milvus Lite."
    )
    command = f"python benchmarks/scale.py{' --data PHOTOS' if options.data else ''}"
    command += f" --kinds {' '.join(options.kinds)}" if tuple(options.kinds) != KINDS else ""
    record("Search at scale: the engines", command, shown, note)
    largest = table[table["vectors"] == max(options.sizes)].set_index("kind")
    print(
        json.dumps(
            {name: largest[name].round(3).to_dict() for name in ("ms_per_query", "recall", "MB")}
        )
    )


if __name__ == "__main__":
    main()
