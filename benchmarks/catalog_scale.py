"""A catalogue of many files: time and memory of reading it, and of finding the copies in it, at two
sizes.

python benchmarks/catalog_scale.py [--images 50000]
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from lookalike.copies import CopyIndex
from lookalike.machine import parallel_map, progress
from lookalike.sources import load_catalog

COPY_EVERY = 100  # each hundredth image is the one before it, saved anew


def write_images(folder: Path, count: int) -> None:
    """Photos of smooth random colours, 160 x 120 pixels, ten labels, a hundredth of them copies."""
    random = np.random.default_rng(0)
    for number in progress(range(count), total=count, description="Writing photos"):
        if number % COPY_EVERY or not number:
            coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
            image = coarse.resize((160, 120), Image.Resampling.BICUBIC)
        path = folder / f"label-{number % 10}" / f"{number:06}.jpg"
        path.parent.mkdir(exist_ok=True)
        image.save(path, quality=85 if number % COPY_EVERY else 60)


def read_plainly(path: str) -> None:
    """What a catalogue needs of a file at least: its hash, and whether Pillow can open it."""
    data = Path(path).read_bytes()
    hashlib.sha256(data).hexdigest()
    Image.open(io.BytesIO(data)).load()


def measure(folder: str) -> None:
    """Read and compare in this process, and print seconds, peak memory in bytes, and what was
    found.
    """
    files = sorted(map(str, Path(folder).rglob("*.jpg")))
    start = time.perf_counter()
    for _ in parallel_map(read_plainly, files):
        pass
    plain = time.perf_counter() - start
    start = time.perf_counter()
    catalog, rejected = load_catalog("folder", folder)
    read = time.perf_counter()
    copies = CopyIndex(catalog).pairs()
    compared = time.perf_counter()
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = [len(catalog), len(rejected), len(copies)]
    print("\n" + json.dumps([plain, read - start, compared - read, peak, *counts]))


def main() -> None:
    """Measure a tenth and the whole, each in a process of its own, and write down both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return
    rows = []
    for count in (options.images // 10, options.images):
        with tempfile.TemporaryDirectory() as folder:
            write_images(Path(folder), count)
            child = [sys.executable, __file__, "--measure", folder]
            output = subprocess.run(child, check=True, capture_output=True, text=True).stdout
        rows.append((count, *json.loads(output.splitlines()[-1])))
    columns = ["images", "plain", "reading", "comparing", "peak", "catalogue", "rejected", "copies"]
    table = pd.DataFrame(rows, columns=columns)
    growth = (table["peak"][1] - table["peak"][0]) / (table["images"][1] - table["images"][0])
    shown = pd.DataFrame(
        {
            "images": table["images"].map("{:,}".format),
            "reading, images/s": (table["images"] / table["reading"]).map("{:,.0f}".format),
            "of the rate of a plain loop": (table["plain"] / table["reading"]).round(2),
            "finding copies, images/s": (table["images"] / table["comparing"]).map(
                "{:,.0f}".format
            ),
            "peak memory, MB": (table["peak"] / 1e6).map("{:,.0f}".format),
            "copies found / planted": [
                f"{copies:,} / {(count - 1) // COPY_EVERY:,}"
                for copies, count in zip(table["copies"], table["images"], strict=True)
            ],
        }
    )
    from results import record

    note = (
        f"Between the two sizes each further image costs {growth:,.0f} bytes; "
        "the rest is Python and TensorFlow."
    )
    record(
        "A catalogue of many files",
        f"python benchmarks/catalog_scale.py --images {options.images}",
        shown,
        note,
    )


if __name__ == "__main__":
    main()
