"""Exact search: ours, faiss's flat index, scikit-learn's, and the matrix product alone; same
vectors, one run.

python benchmarks/search.py

Every way has its vectors ready, normalised, and searches for the 10 nearest by cosine. Ends with
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pandas as pd
import tensorflow as tf
from results import record
from sklearn.neighbors import NearestNeighbors

from lookalike.gallery_vectors import Gallery
from lookalike.similarity import top_k

K = 10
MAPPED = """
import sys, time
import numpy as np
from lookalike.similarity import top_k
from lookalike.gallery_vectors import Gallery
memory = lambda: int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1000
before = memory()
gallery = Gallery(np.load(sys.argv[1], mmap_mode="r"))
found = top_k(gallery.vectors[123], gallery, 10)[0]
begin = time.perf_counter()
top_k(gallery.vectors[456], gallery, 10)
print(before, memory(), time.perf_counter() - begin, found[0, 0])
"""


def peak_memory(run: Callable) -> float:
    """MB that a call takes at its peak beyond what was held before it: as the system (Linux) or as
    NumPy counts.
    """
    held = float(status("VmRSS"))
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    run()
    grown = (float(status("VmHWM")) - held) / 1000
    tracemalloc.start()
    run()
    counted = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return max(grown, counted)


def status(name: str) -> str:
    """A line of what the system knows of this process, in kB."""
    return Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]


def compare(
    n: int, dim: int, n_queries: int, repeats: int, random: np.random.Generator
) -> list[dict]:
    """Each way's median time over rounds in which all take turns, and its memory."""
    vectors, queries = (
        random.normal(size=(rows, dim)).astype(np.float32) for rows in (n, n_queries)
    )
    for rows in (vectors, queries):
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    gallery = Gallery(vectors)
    flat = faiss.IndexFlatIP(dim)
    flat.add(vectors)
    witness = NearestNeighbors(n_neighbors=K, metric="cosine", algorithm="brute").fit(vectors)
    ways = {
        "Lookalike": lambda: top_k(queries, gallery, K)[0],
        "faiss flat": lambda: flat.search(queries, K)[1],
        "scikit-learn": lambda: witness.kneighbors(queries)[1],
        "matrix product alone, NumPy": lambda: queries @ vectors.T,
        "matrix product alone, TensorFlow": lambda: tf.linalg.matmul(
            queries, vectors, transpose_b=True
        ).numpy(),
    }
    same = np.mean(ways["Lookalike"]() == ways["faiss flat"]())
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, run in ways.items():
            time.sleep(0.1)  # so that no way finds the threads of the one before still busy,
            run()  # and each its own awake
            for _ in range(3):
                begin = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - begin)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    return [
        {
            "vectors": f"{n:,} x {dim}",
            "queries": n_queries,
            "way": name,
            "ms": seconds[name] * 1000,
            "ratio to faiss": seconds[name] / seconds["faiss flat"],
            "peak memory, MB": peak_memory(run),
            "same as faiss": same if name == "Lookalike" else np.nan,
        }
        for name, run in ways.items()
    ]


def from_disk(n: int, dim: int, random: np.random.Generator) -> str:
    """What one query among vectors on disk takes, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "vectors.npy")
        mapped = np.lib.format.open_memmap(file, "w+", np.float32, (n, dim))
        for start in range(0, n, 50_000):
            mapped[start : start + 50_000] = random.normal(
                size=(len(mapped[start : start + 50_000]), dim)
            )
        mapped.flush()
        told = subprocess.run(
            [sys.executable, "-c", MAPPED, str(file)], capture_output=True, text=True, check=True
        )
    before, peak, seconds, first = map(float, told.stdout.split())
    assert first == 123
    told = f"{n:,} x {dim} ({n * dim * 4 / 1e6:.0f} MB) mapped from disk, in the system's cache: one query in "
    told += f"{seconds * 1000:.0f} ms. "
    return (
        told
        + f"The process takes {peak:.0f} MB at its peak, of them {before:.0f} MB for Python and TensorFlow."
    )


def main() -> None:
    """Measure, print, write down."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 256])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--mapped", type=int, default=1_000_000, help="vectors of 128 numbers on disk; 0 for none"
    )
    options = parser.parse_args()
    random = np.random.default_rng(0)
    rows = [
        row
        for n in options.sizes
        for n_queries in options.queries
        for row in compare(n, options.dim, n_queries, options.repeats, random)
    ]
    table = pd.DataFrame(rows)
    formats = {
        "ms": "{:.1f}",
        "ratio to faiss": "{:.2f}",
        "peak memory, MB": "{:.1f}",
        "same as faiss": "{:.2%}",
    }
    shown = table.assign(
        **{name: table[name].map(text.format) for name, text in formats.items()}
    ).replace("nan%", "")
    note = "Lookalike searches in a `Gallery` made before. `matrix product alone` keeps every score, and chooses nothing."
    if options.mapped:
        note += "\n\n" + from_disk(options.mapped, 128, random)
    record("Exact search for the 10 nearest", "python benchmarks/search.py", shown, note)
    ours = table[table["way"] == "Lookalike"]
    names = ours["vectors"] + ", " + ours["queries"].astype(str)
    told = {}
    for way in ("faiss flat", "scikit-learn"):
        ratios = ours["ms"].to_numpy() / table.loc[table["way"] == way, "ms"].to_numpy()
        told[f"time relative to {way}"] = dict(zip(names, ratios.round(3).tolist(), strict=True))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
