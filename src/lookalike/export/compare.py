"""How quick and how true exports are: their vectors, what they find, and how good that is."""

import time

import numpy as np
import pandas as pd

from lookalike.embeddings import compile_encoder
from lookalike.evaluation import overlap_at_k, rank
from lookalike.machine import progress
from lookalike.similarity import exact_scores

SINGLE = 16  # photos that are timed one by one


def compare_exports(model, runs, pixels, catalog, *, k=10, batch_size=32, **rules):
    """How fast and how true exports of an encoder are, beside the Keras model itself.

    Parameters
    ----------
    runs
        Opened exports by name: functions of pixels [n, height, width, 3] to vectors [n, dim].
    pixels : uint8 [n, height, width, 3], the photos of the catalogue
    catalog : DataFrame of n rows, with labels
    rules
        For `rank`: which photos ask and which answer.

    Returns
    -------
    table : DataFrame, a row a way, "keras" first
        `ms a photo`, one at a time, the median; `photos/s` in batches; the `least cosine` to the
        vectors of Keras and the `median cosine`; `same top k`, the share of queries with the same
        photos among the first k; `overlap`, the share of the first k that agree.
    rankings : dict of `Ranking` by way, for `studies.compare`
    """
    runs = {"keras": compile_encoder(model), **runs}
    batches = np.split(pixels, range(batch_size, len(pixels), batch_size))
    rows, vectors, rankings = {}, {}, {}
    for name in progress(runs, total=len(runs), description="Comparing", unit="ways"):
        vectors[name], many = _timed(runs[name], batches)
        _, single = _timed(runs[name], list(pixels[:SINGLE, None]))
        rankings[name] = rank(vectors[name], catalog, k, **rules)
        cosines = exact_scores(vectors[name], vectors["keras"], "cosine")
        overlap = overlap_at_k(rankings[name].results, rankings["keras"].results, k)
        rows[name] = {
            "ms a photo": 1000 * np.median(single),
            "photos/s": len(pixels) / sum(many),
            "least cosine": cosines.min(),
            "median cosine": np.median(cosines),
            f"same top {k}": np.mean(overlap == 1),
            "overlap": overlap.mean(),
        }
    return pd.DataFrame.from_dict(rows, orient="index"), rankings


def _timed(forward, batches):
    """All vectors, and the seconds that each batch took, without what a first call prepares."""
    forward(batches[0])
    vectors, times = [], []
    for batch in batches:
        start = time.perf_counter()
        vectors.append(forward(batch))
        times.append(time.perf_counter() - start)
    return np.concatenate(vectors), times
