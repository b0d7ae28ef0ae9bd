"""Copies in groups, each around the photo to keep, and what copies make one product; nothing is
ever deleted.
"""

import math

import pandas as pd
from scipy.cluster.hierarchy import DisjointSet

from lookalike.copies.hashing import without_margins
from lookalike.images import load_image
from lookalike.machine import parallel_map, progress
from lookalike.splits import SPLITS

LARGER = 1.15  # times the area of another; less counts as equal


def group_copies(pairs, index):
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
    # Whatever hangs together by copies of copies.
    together = DisjointSet(pairs["image_id"])
    known = {}
    for pair in pairs.itertuples():
        together.add(pair.other_id)
        together.merge(pair.image_id, pair.other_id)
        known[pair.image_id, pair.other_id] = pair
        known[pair.other_id, pair.image_id] = pair
    quality = _quality(index, list(together))
    best_first = sorted(quality, key=quality.get, reverse=True)

    kept_of = {}
    groups = []
    for keep in best_first:
        if keep in kept_of:
            continue
        kept_of[keep] = keep
        group = together.subset(keep)
        for drop in best_first:
            if drop in kept_of or drop not in group:
                continue
            pair = known.get((keep, drop)) or index.compare(keep, drop)
            if pair.verdict == "copy":
                kept_of[drop] = keep
                step = getattr(pair, "step", "copy of a copy")
                why = _why(quality[keep], quality[drop], step)
                groups.append((keep, drop, step, pair.difference, why))
    groups.sort(key=lambda group: index.rows.get_loc(group[0]))
    return pd.DataFrame(groups, columns=["keep", "drop", "step", "difference", "why"])


def _quality(index, names):
    """By name, in the order of the catalogue, what is compared to find the better of two photos."""
    files = index.catalog[index.rows.isin(names)]
    bar = progress(files["path"], description="Looking for the largest")
    areas = parallel_map(_area, bar)
    quality = {}
    for name, area, size in zip(files["image_id"], areas, files["bytes"], strict=True):
        # In steps of 15 %, of which one cannot be told from the next.
        steps = round(math.log(area, LARGER))
        # A GIF has many bytes and few colours.
        quality[name] = steps, not name.endswith(".gif"), size
    return quality


def _area(path):
    """Of a photo without margins, in pixels."""
    return without_margins(load_image(path))[..., 0].size


def _why(kept, dropped, step):
    if step == "content":
        return "identical"
    if kept[0] > dropped[0]:
        return "larger"
    return "finer" if kept > dropped else "first"


def join_products(catalog, pairs):
    """The catalogue as it is to be split: products that share a copy are one, in one split.

    Where the splits of such products are named and differ, the first of train, validation and test
    is that of all, so that what is left for testing is new to the model. Variants make one product
    too, but without chains, which might join everything: each belongs to the first alone.

    Parameters
    ----------
    pairs
        As `find_near_duplicates` gives them: `image_id`, `other_id` and `verdict`.

    Returns
    -------
    A copy of the catalogue, with other values of `product_id` and `split`, for `split_by_product`.
    """
    product_of = dict(zip(catalog["image_id"], catalog["product_id"], strict=True))
    both = pairs[["image_id", "other_id"]].map(product_of.get)
    same = pairs["verdict"] == "copy"
    groups = DisjointSet(catalog["product_id"])
    for one, other in both[same].to_numpy():
        groups.merge(one, other)
    first = {name: min(groups.subset(name)) for name in groups}
    belongs_to = {}
    for one, other in sorted(map(sorted, both[~same].map(first.get).to_numpy())):
        if belongs_to.setdefault(one, one) == one:
            belongs_to.setdefault(other, one)
    products = catalog["product_id"].map(first)
    products = products.map(lambda name: belongs_to.get(name, name))

    copied = catalog["product_id"].isin([*both["image_id"], *both["other_id"]])
    copied = products.isin(products[copied])
    places = catalog["split"].map(SPLITS.index, na_action="ignore")
    earliest = places.groupby(products).transform("min").map(dict(enumerate(SPLITS)))
    split = catalog["split"].mask(copied & earliest.notna(), earliest)
    return catalog.assign(product_id=products, split=split)
