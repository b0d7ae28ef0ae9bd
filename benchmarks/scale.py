"""Search engines compared: exact, FAISS (flat, HNSW, IVF-PQ) and Milvus Lite on the same vectors,
over sizes.

python benchmarks/scale.py [--data PHOTOS] [--sizes 10000 100000 1000000]

The vectors are resampled from those of real photos; the queries, from photos that were held out.
Ends with one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from results import colours_of, record

from lookalike.backbones import build_encoder
from lookalike.colour import join
from lookalike.embeddings import EmbeddingStore, embed_images
from lookalike.scale import index_store
from lookalike.scale.indexes import LEAST
from lookalike.scale.shared import INDEXED, indexed
from lookalike.similarity import normalise, top_k, vector_lengths
from lookalike.sources import load_catalog

KINDS = ["exact", "flat", "hnsw", "ivfpq", "milvus"]
QUERIES, K = 500, 10
COLOURED, LARGEST = ("hnsw", "ivfpq"), 100_000  # what is tried with colours, and up to which size
WEIGHTS = (0, 0.2)
ROUNDING = 1e-5  # of a product; so near to the tenth is as good as the tenth
NEIGHBOURS = 10
# With these, nearest neighbours are as far as those of real photos.
NOISE = 0.5
ROWS = 1 << 16  # at a time


def resampled(vectors: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """As many vectors as one likes, float32 [n, dim], shaped like real ones [m, dim].

    Each is a real vector, moved by a random share of the way to one of its 10 nearest (SMOTE:
    Chawla and others, JAIR 2002), plus noise half as long as that way. So clusters stay: of 3,409
    photos of clothing, as many resampled vectors are at a median cosine distance of 0.056 from
    their nearest, the real ones at 0.071, and white noise of the same mean and spread at 0.197.
    """
    count, dim = vectors.shape
    itself = np.arange(count)[:, None]
    near, _ = top_k(vectors, vectors, NEIGHBOURS, metric="euclidean", exclude=itself)
    random = np.random.default_rng(seed)
    made = np.empty((n, dim), np.float32)
    for start in range(0, n, ROWS):
        block = made[start : start + ROWS]
        source = random.integers(count, size=len(block))
        target = near[source, random.integers(NEIGHBOURS, size=len(block))]
        step = vectors[target] - vectors[source]
        spread = NOISE * np.linalg.norm(step, axis=1, keepdims=True) / np.sqrt(dim)
        block[:] = vectors[source] + random.random((len(block), 1), np.float32) * step
        block += spread * random.standard_normal(block.shape, np.float32)
    return made


def resampled_parts(
    vectors: np.ndarray, colours: np.ndarray, n: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and colours of n photos; both parts of one stay together, each of length 1 again."""
    made = resampled(join(normalise(vectors), colours), n, seed)
    return normalise(made[:, : vectors.shape[1]]), normalise(made[:, vectors.shape[1] :])


def nearest(vectors: np.ndarray, count: int = 1000) -> float:
    """Median cosine distance of a vector to its nearest."""
    some = vectors[:count]
    own = list(np.arange(len(some))[:, None])
    return float(np.median(1 - top_k(some, vectors, 1, exclude=own)[1]))


def recall(found: np.ndarray, tenth: np.ndarray, queries: np.ndarray, gallery: np.ndarray) -> float:
    """The share of the 10 nearest that was found: ids [q, 10], of which none may be there twice,
    whose product with the query is not below the tenth of exact search [q].
    """
    hits = 0
    for ids, least, query in zip(found, tenth, queries, strict=True):
        products = gallery[np.unique(ids[ids >= 0])] @ query
        hits += np.count_nonzero(products >= least - ROUNDING)
    return float(hits / found.size)


@contextmanager
def built(kind: str, store: EmbeddingStore) -> Iterator[tuple[Callable, float, float]]:
    """What searches a store, the seconds that it took to make, and its MB on disk."""
    if kind == "exact":
        gallery = indexed(store)
        # Measured once, as a store does.
        options = {"metric": "product", "lengths": vector_lengths(gallery)}
        yield lambda queries: top_k(queries, gallery, K, **options)[0], 0, gallery.nbytes / 1e6
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{kind}.db" if kind == "milvus" else kind)
        begin = time.perf_counter()
        index = index_store(store, kind, path if kind == "milvus" else "")
        seconds = time.perf_counter() - begin
        index.save(path)
        files = [path, *path.rglob("*")]
        size = sum(file.stat().st_size for file in files if file.is_file())
        yield lambda queries: index.search(queries, K)[0], seconds, size / 1e6
        index.close()


def measured(kind: str, store: EmbeddingStore, queries: np.ndarray, tenth: np.ndarray) -> dict:
    """A row of the table."""
    with built(kind, store) as (search, seconds, size):
        search(queries[:1])
        single = []
        for query in queries:
            begin = time.perf_counter()
            search(query[None])
            single.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        found = search(queries)
        at_once = len(queries) / (time.perf_counter() - begin)
    return {
        "kind": kind,
        "vectors": len(store.vectors),
        "build, s": seconds,
        "ms a query": 1000 * float(np.median(single)),
        "queries/s": at_once,
        "recall": recall(found, tenth, queries, store.vectors),
        "MB": size,
    }


def recalls_with_colours(kind: str, store: EmbeddingStore, asking: tuple) -> dict[str, float]:
    """Recall at each weight of colour, of the one index that serves them all."""
    gallery, told = indexed(store), {}
    with built(kind, store) as (search, _, _):
        for weight in WEIGHTS:
            queries = join(asking[0] / (1 - INDEXED), asking[1] / INDEXED, weight)
            tenth = top_k(queries, gallery, K, metric="product")[1][:, -1]
            told[f"recall, w {weight}"] = recall(search(queries), tenth, queries, gallery)
    return told


def store_of(vectors: np.ndarray, **arrays: np.ndarray) -> EmbeddingStore:
    """A store in memory, of photos without names."""
    return EmbeddingStore(Path(), vectors, pd.DataFrame(index=range(len(vectors))), {}, arrays)


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
    paths = catalog["path"].tolist()
    real, colours = embed_images(build_encoder("VGG16Slim"), paths), colours_of(paths)
    order = np.random.default_rng(0).permutation(len(real))
    held_out, kept = order[: len(real) // 5], order[len(real) // 5 :]
    queries = normalise(resampled(real[held_out], QUERIES, seed=1))
    asking = resampled_parts(real[held_out], colours[held_out], QUERIES, seed=1)
    rows = []
    for size in options.sizes:
        store = store_of(normalise(resampled(real[kept], size)))
        tenth = top_k(queries, store.vectors, K, metric="product")[1][:, -1]
        coloured = None
        if size <= LARGEST:
            vectors, shares = resampled_parts(real[kept], colours[kept], size)
            coloured = store_of(vectors, colours=shares)
        for kind in options.kinds:
            if (kind == "milvus" and size > options.milvus) or (kind == "ivfpq" and size < LEAST):
                continue
            rows.append(measured(kind, store, queries, tenth))
            if coloured is not None and kind in COLOURED:
                rows[-1] |= recalls_with_colours(kind, coloured, asking)
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    told = table[table["vectors"] == max(options.sizes)].set_index("kind")
    told = {name: told[name].round(3).to_dict() for name in ("ms a query", "recall", "MB")}
    formats = {"build, s": "{:.1f}", "ms a query": "{:.2f}", "queries/s": "{:.0f}", "MB": "{:.0f}"}
    for name in table.columns.drop(["kind", "vectors"]):
        text = table[name].map(formats.get(name, "{:.3f}").format)
        table[name] = text.where(table[name].notna(), "")
    note = (
        f"Vectors of {real.shape[1]} numbers by VGG16Slim, resampled from {len(kept)} photos; "
        f"{QUERIES} queries, from {len(held_out)} others. As many resampled as there are real ones "
        "lie at a median cosine distance of "
        f"{nearest(resampled(real[kept], len(kept))):.3f} from their nearest, the real ones at "
        f"{nearest(real[kept]):.3f}. `ms a query`: median of queries one at a time; `queries/s`: "
        "all at once; `recall`: at 10, by cosine, against exact search; `w`: the same with colours "
        "beside the vectors, at that weight of colour; `MB`: on disk, of `exact` the vectors alone."
    )
    command = f"python benchmarks/scale.py{' --data PHOTOS' if options.data else ''}"
    command += f" --kinds {' '.join(options.kinds)}" if options.kinds != KINDS else ""
    record("Search at scale: the engines", command, table, note)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
