"""Copies in groups, each around the photo to keep; nothing is ever deleted."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import DisjointSet

from lookalike.copies.find import CopyIndex
from lookalike.copies.hashing import without_margins
from lookalike.images import load_image
from lookalike.machine import parallel_map, progress

LARGER = 1.15  # times the area of another; less counts as equal


def group_copies(pairs: pd.DataFrame, index: CopyIndex) -> pd.DataFrame:
    """Which photo of each group of copies to keep, and which could be removed.

    Photos are gone through from the best down: the largest, not counting margins of one colour; of
    about equally large ones that of the most bytes, a GIF last; then the first of the catalogue.
    Each that is not yet in a group is kept, and takes to it those of its own copies that are free.
    So a chain, A like B and B like C, never brings A to C. A stamp makes more bytes, and an
    enlarged copy is larger: look before you remove anything.

    Parameters
    ----------
    pairs
        As `index.pairs()` gives them; those that are not called "copy" are left out.
    index
        It lays copies of copies on the one that is kept.

    Returns
    -------
    DataFrame, a row a photo that could go: `keep` and `drop`, both an `image_id`; `step` and
    `difference` of their pair; and `why` the other was kept: "identical", "larger", "finer" (more
    bytes) or "first". `ImageError` if a photo cannot be read (any more).
    """
    pairs = pairs[pairs["verdict"] == "copy"]
    first_of, known, together = {}, {}, DisjointSet(pairs["image_id"])
    for pair in pairs.itertuples():
        if pair.step == "content":
            first_of[pair.other_id] = pair.image_id
            continue
        together.add(pair.other_id)
        together.merge(pair.image_id, pair.other_id)
        known[frozenset([pair.image_id, pair.other_id])] = pair
    names = sorted(together, key=index.rows.get_loc)
    files = index.catalog.iloc[index.rows.get_indexer(names)]
    bar = progress(files["path"], description="Looking for the largest")
    # In steps of 15 %, of which one cannot be told from the next.
    areas = [round(np.log(area) / np.log(LARGER)) for area in parallel_map(_area, bar)]
    # A GIF has many bytes and few colours.
    quality = {
        name: (area, not name.endswith(".gif"), size)
        for name, area, size in zip(names, areas, files["bytes"], strict=True)
    }
    names.sort(key=quality.get, reverse=True)

    kept_of = {}
    groups = []
    for keep in names:
        if keep in kept_of:
            continue
        kept_of[keep] = keep
        group = together.subset(keep)
        for drop in [name for name in names if name in group and name not in kept_of]:
            pair = known.get(frozenset([keep, drop])) or index.compare(keep, drop)
            if pair.verdict == "copy":
                kept_of[drop] = keep
                step = getattr(pair, "step", "copy of a copy")
                larger, *finer = np.greater(quality[keep], quality[drop])
                why = "larger" if larger else "finer" if any(finer) else "first"
                groups.append((keep, drop, step, pair.difference, why))
    for drop, first in first_of.items():
        groups.append((kept_of[first], drop, "content", 0.0, "identical"))
    groups.sort(key=lambda group: index.rows.get_loc(group[0]))
    return pd.DataFrame(groups, columns=["keep", "drop", "step", "difference", "why"])


def _area(path):
    """Of a photo without margins, in pixels."""
    return without_margins(load_image(path))[..., 0].size
