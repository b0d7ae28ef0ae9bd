"""Copies in groups, each around the photo to keep; a table of what could go and why, and nothing is
ever deleted.
"""

from __future__ import annotations

from collections import defaultdict

import cv2
import numpy as np
import pandas as pd
from PIL import Image
from scipy.cluster.hierarchy import DisjointSet

from lookalike.copies.hashing import inner_box
from lookalike.images import load_image
from lookalike.machine import parallel_map, progress

SHARP = 128  # pixels of the longer side, at which sharpness is measured
ALIKE = 0.85  # times the area or the sharpness of another: too near to count


def group_copies(pairs: pd.DataFrame, catalog: pd.DataFrame) -> pd.DataFrame:
    """Which photo of each group of copies to keep, and which could be removed.

    Photos are gone through from the best down: the largest, not counting margins of one colour; of
    equally large ones the sharpest (variance of the Laplacian, here as a part of the photo's own;
    Pech-Pacheco et al., ICPR 2000); then the first of the catalogue. What differs by less than 15 %
    counts as equal. Each that is not yet in a group is kept and takes to it those of its own copies
    that are free. So every member is a copy of the one that is kept, and a chain, A like B and B
    like C, never brings A to C. Identical files are one. A stamp may count as sharpness, and an
    enlarged copy is larger: look before you remove anything.

    Parameters
    ----------
    pairs
        As `find_near_duplicates` gives them, at least `image_id`, `other_id`, `step` and `score`.
    catalog
        With `image_id` and `path`, of all photos of the pairs.

    Returns
    -------
    DataFrame, a row a photo that could go, group by group in the order of the catalogue: `keep` and
    `drop`, both an `image_id`; `step` and `score` of their pair (of identical files, that of the
    one they are identical to); `why` the other was kept: "identical", "larger", "sharper" or
    "first".

    Raises
    ------
    ValueError
        If a pair has a photo that the catalogue has not.
    ImageError
        If a photo cannot be read.
    """
    place = {name: row for row, name in enumerate(catalog["image_id"])}
    unknown = sorted({*pairs["image_id"], *pairs["other_id"]} - set(place))
    if unknown:
        raise ValueError(
            f"{unknown[0]} is in a pair, but not in the catalogue; find pairs of this catalogue."
        )
    same = pairs[pairs["step"] == "content"]
    first_of = dict(zip(same["other_id"], same["image_id"], strict=True))
    beside: dict[str, dict[str, tuple[str, float]]] = defaultdict(dict)
    for photo, other, step, score in pairs[["image_id", "other_id", "step", "score"]].itertuples(
        index=False
    ):
        if step != "content":
            photo, other = first_of.get(photo, photo), first_of.get(other, other)
            beside[photo][other] = beside[other][photo] = (step, score)
    names = sorted(beside, key=place.get)
    paths = [catalog["path"].iloc[place[name]] for name in names]
    bar = (
        progress(parallel_map(_quality, paths), total=len(names), description="Comparing copies")
        if names
        else ()
    )
    quality = dict(zip(names, bar, strict=True))
    # What hangs together, be it by a chain: groups are made within these.
    clusters = DisjointSet(beside)
    for photo in beside:
        for other in beside[photo]:
            clusters.merge(photo, other)
    kept: dict[str, str] = {}
    ranks: dict[str, tuple] = {}
    for cluster in clusters.subsets():
        ranks |= {name: (*rank, place[name]) for name, rank in _ranks(cluster, quality).items()}
        for name in sorted(cluster, key=ranks.get):
            if name not in kept:
                kept |= {mate: name for mate in (name, *beside[name]) if mate not in kept}
    rows = []
    for name, keep in kept.items():
        if name != keep:
            larger, sharper = (
                mine < other for mine, other in zip(ranks[keep][:2], ranks[name][:2], strict=True)
            )
            reason = "larger" if larger else "sharper" if sharper else "first"
            rows.append((keep, name, *beside[name][keep], reason))
    of_file = {drop: (keep, step, score, why) for keep, drop, step, score, why in rows}
    for name, first in first_of.items():
        keep, step, score, why = of_file.get(first, (first, "content", 1.0, "identical"))
        rows.append((keep, name, step, score, why))
    rows.sort(key=lambda row: (place[row[0]], -row[3], place[row[1]]))
    return pd.DataFrame(rows, columns=["keep", "drop", "step", "score", "why"])


def _ranks(names: set[str], quality: dict[str, tuple[float, float]]) -> dict[str, tuple[int, int]]:
    """For each photo its rank by area and, among equals, by sharpness; 0 is best, and what is
    nearly equal is equal.
    """
    ranks: dict[str, list[int]] = {name: [] for name in names}
    for what in (0, 1):
        rank = 0
        before = None
        for name in sorted(names, key=lambda name: (*ranks[name], -quality[name][what])):
            group = tuple(ranks[name])
            value = quality[name][what]
            if before is None or group != before[0]:
                rank, before = 0, (group, value)
            elif value < ALIKE * before[1]:
                rank, before = rank + 1, (group, value)
            ranks[name].append(rank)
    return {name: tuple(rank) for name, rank in ranks.items()}


def _quality(path: str) -> tuple[float, float]:
    """The area of a photo in pixels, without margins, and its sharpness, whatever its contrast."""
    image = Image.fromarray(load_image(path))
    left, top, right, bottom = inner_box(image, deep=True)
    image = image.crop((left, top, right, bottom))
    image.thumbnail((SHARP, SHARP), Image.Resampling.BILINEAR)
    lab = cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2LAB).astype(np.float32)
    edges, spread = (
        plane.var(axis=(0, 1)).sum() for plane in (cv2.Laplacian(lab, cv2.CV_32F), lab)
    )
    return float((right - left) * (bottom - top)), float(edges / max(spread, 1))
