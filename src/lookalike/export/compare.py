"""How large, how quick and how true exports are: their vectors, what they find, and how good that
is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from lookalike.embeddings import Forward, compile_encoder
from lookalike.evaluation import compare, overlap_at_k, rank
from lookalike.export.formats import CARD, open_export
from lookalike.machine import progress
from lookalike.similarity import exact_scores

SINGLE = 24  # photos that are timed one by one


def compare_exports(
    model: keras.Model,
    exports: Mapping[str, str | Path],
    pixels: np.ndarray,
    catalog: pd.DataFrame,
    *,
    k: int = 10,
    batch_size: int = 32,
    **rules: object,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How large, how fast and how true exports of an encoder are, beside the Keras model itself.

    Parameters
    ----------
    exports
        A name for each folder that `export_model` wrote.
    pixels : uint8 [n, height, width, 3], the photos of the catalogue
    catalog : DataFrame of n rows, with labels
    rules
        For `rank`: which photos ask and which answer.

    Returns
    -------
    table : DataFrame, a row a way
        `MB` on disk; `ms a photo`, one at a time, the median; `photos/s` in batches; the `least
        cosine` to the vectors of Keras and the `median cosine`; `same top k`, the share of queries
        with the same photos among the first k; `overlap`, the share of the first k that agree.
    quality : DataFrame, as `compare` returns it, of Precision@k; changes are against Keras

    What is raised is that of `open_export` and `rank`.
    """
    rows = {}
    rankings = {}
    reference = None
    batches = np.split(pixels, range(batch_size, len(pixels), batch_size))
    for name in progress(
        ["keras", *exports], total=1 + len(exports), description="Comparing", unit="ways"
    ):
        forward = compile_encoder(model) if name == "keras" else open_export(exports[name])
        vectors, many = _timed(forward, batches)
        _, single = _timed(forward, list(pixels[:SINGLE, None]))
        reference = vectors if reference is None else reference
        rankings[name] = rank(vectors, catalog, k, **rules)
        cosines = exact_scores(vectors, reference, "cosine")
        overlap = overlap_at_k(rankings[name].results, rankings["keras"].results, k)
        files = Path(exports[name]).rglob("*") if name != "keras" else ()
        size = (
            sum(file.stat().st_size for file in files if file.is_file() and file.name != CARD)
            or np.nan
        )
        rows[name] = {
            "MB": size / 1e6,
            "ms a photo": 1000 * np.median(single),
            "photos/s": len(pixels) / sum(many),
        }
        rows[name] |= {"least cosine": cosines.min(), "median cosine": np.median(cosines)}
        rows[name] |= {f"same top {k}": np.mean(overlap == 1), "overlap": overlap.mean()}
    return pd.DataFrame.from_dict(rows, orient="index"), compare(rankings, k)


def _timed(forward: Forward, batches: Sequence[np.ndarray]) -> tuple[np.ndarray, list[float]]:
    """All vectors, and the seconds that each batch took, without what a first call prepares."""
    forward(batches[0])
    vectors = []
    times = []
    for batch in batches:
        start = time.perf_counter()
        vectors.append(forward(batch))
        times.append(time.perf_counter() - start)
    return np.concatenate(vectors), times
