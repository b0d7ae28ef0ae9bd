"""Exact search: ours, faiss's flat index, scikit-learn's, and the matrix product alone.

python benchmarks/search.py

All have the same normalised vectors ready, search for the 10 nearest by cosine, and take turns in
one run. Ends with one JSON object.
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
from results import record
from sklearn.neighbors import NearestNeighbors

from lookalike.colour import join
from lookalike.similarity import normalise, top_k, vector_lengths

K = 10
# Run by a Python that has imported nothing else.
MAPPED = """
import sys
import time

import numpy as np

from lookalike.similarity import top_k


def memory(name):
    kib = open("/proc/self/status").read().split(f"{name}:")[1].split()[0]
    return int(kib) * 1024 / 1e6


before = memory("VmRSS")
file_before = memory("RssFile")
mapped = np.load(sys.argv[1], mmap_mode="r")
found, _ = top_k(mapped[123], mapped, 10)
assert found[0, 0] == 123
begin = time.perf_counter()
top_k(mapped[456], mapped, 10)
seconds = time.perf_counter() - begin
print(before, memory("VmHWM") - before, memory("RssFile") - file_before, seconds)
"""


def memory(name: str) -> float:
    """MB that this process holds: "VmRSS" now, "VmHWM" at its peak since `forget_peak`."""
    kib = Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]
    return int(kib) * 1024 / 1e6


def forget_peak() -> None:
    """Let the peak memory of this process begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_memory(run: Callable) -> float:
    """MB that a call takes at its peak: as the system counts or as NumPy does, which also sees what
    was held and free before.
    """
    held = memory("VmRSS")
    forget_peak()
    run()
    grown = memory("VmHWM") - held
    tracemalloc.start()
    run()
    counted = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return max(grown, counted)


def compare(
    n: int, dim: int, n_queries: int, rounds: int, random: np.random.Generator
) -> tuple[list[dict], dict[str, float]]:
    """Of each way a row for the table, and the median time over rounds in which all take turns."""
    vectors = normalise(random.standard_normal((n, dim), np.float32))
    queries = normalise(random.standard_normal((n_queries, dim), np.float32))
    lengths = vector_lengths(vectors)
    colours = normalise(random.random((n, 108), np.float32))
    joined, asked = join(vectors, colours), join(queries, colours[:n_queries], 0.2)
    both = {"metric": "product", "lengths": np.full(n, 2**0.5)}
    flat = faiss.IndexFlatIP(dim)
    flat.add(vectors)
    witness = NearestNeighbors(n_neighbors=K, metric="cosine", algorithm="brute").fit(vectors)
    ways = {
        "Lookalike": lambda: top_k(queries, vectors, K, lengths=lengths)[0],
        "Lookalike, lengths measured anew": lambda: top_k(queries, vectors, K)[0],
        "colours joined": lambda: top_k(asked, joined, K, **both)[0],
        "faiss flat": lambda: flat.search(queries, K)[1],
        "scikit-learn": lambda: witness.kneighbors(queries)[1],
        "matrix product alone": lambda: queries @ vectors.T,
    }
    times = {way: [] for way in ways}
    for way in [*ways] * rounds:
        # No way finds the threads of the one before still busy, and each its own awake.
        time.sleep(0.1)
        ways[way]()
        for _ in range(3):
            begin = time.perf_counter()
            ways[way]()
            times[way].append(time.perf_counter() - begin)
    seconds = {way: statistics.median(each) for way, each in times.items()}
    theirs = ways["faiss flat"]()
    rows = [
        {
            "vectors": f"{n:,} x {dim}",
            "queries": n_queries,
            "way": way,
            "ms": f"{seconds[way] * 1000:.1f}",
            "ratio to faiss": f"{seconds[way] / seconds['faiss flat']:.2f}",
            "peak memory, MB": f"{peak_memory(run):.1f}",
            "same as faiss": f"{np.mean(run() == theirs):.2%}" if "Lookalike" in way else "",
        }
        for way, run in ways.items()
    ]
    return rows, seconds


def from_disk(n: int, dim: int, random: np.random.Generator) -> str:
    """What one query among vectors on disk takes, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "vectors.npy")
        mapped = np.lib.format.open_memmap(file, "w+", np.float32, (n, dim))
        for start in range(0, n, 50_000):
            rows = mapped[start : start + 50_000]
            rows[:] = random.standard_normal(rows.shape, np.float32)
        mapped.flush()
        command = [sys.executable, "-c", MAPPED, str(file)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    python, grown, pages, seconds = map(float, printed.split())
    return (
        f"{n:,} x {dim} ({n * dim * 4 / 1e6:.0f} MB) mapped from disk, in the system's cache: one "
        f"query in {seconds * 1000:.0f} ms, lengths measured anew. Beyond the {python:.0f} MB of "
        f"Python and NumPy it takes {grown:.0f} MB at its peak, of them {pages:.0f} MB pages of "
        "the file, which the system takes back when it needs them."
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
    rows = []
    told = {"faiss flat": {}, "scikit-learn": {}}
    for n in options.sizes:
        for n_queries in options.queries:
            found, seconds = compare(n, options.dim, n_queries, options.repeats, random)
            rows += found
            for other, ratios in told.items():
                ratio = seconds["Lookalike"] / seconds[other]
                ratios[f"{n:,} x {options.dim}, {n_queries}"] = round(ratio, 3)
    note = (
        "`Lookalike` has measured the vectors' lengths before, as an open store does. `colours "
        "joined` searches vectors with the 108 numbers of a colour histogram beside them. `matrix "
        "product alone` keeps every score, and chooses nothing."
    )
    if options.mapped:
        note += "\n\n" + from_disk(options.mapped, 128, random)
    title = "Exact search for the 10 nearest"
    record(title, "python benchmarks/search.py", pd.DataFrame(rows), note)
    print(json.dumps({f"time relative to {other}": ratios for other, ratios in told.items()}))


if __name__ == "__main__":
    main()
