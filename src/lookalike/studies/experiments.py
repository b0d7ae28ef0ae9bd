"""Experiments on an encoder: what its stages know, what edits to a photo change, and which cheap
ways help.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

import keras
import numpy as np
import pandas as pd
from sklearn.preprocessing import normalize

from lookalike.embeddings import compile_encoder
from lookalike.evaluation import compare
from lookalike.images import fitted, load_image, pixel_batches
from lookalike.intervals import confidence_interval
from lookalike.machine import parallel_map, progress
from lookalike.metrics import chance_at_k, overlap_at_k, precision_at_k
from lookalike.rankings import Ranking, rank
from lookalike.studies.encoder_variants import expanded, mirrored, project
from lookalike.studies.photo_edits import EDITS, edit_photo, shrunk

EXPANDED = 3  # results that join the query in query expansion


def measure_robustness(
    encoder: keras.Model,
    vectors: np.ndarray,
    catalog: pd.DataFrame,
    k: int = 10,
    *,
    edits: Sequence[str] = tuple(EDITS),
    max_queries: int = 400,
    fit: str = "resize",
    batch_size: int = 32,
    seed: int = 0,
    **options,
) -> pd.DataFrame:
    """Let edited photos search among unedited ones, and tell what they still find.

    Parameters
    ----------
    vectors : array [n, dim]
        Of the whole catalogue, by this encoder, from photos fitted as `fit` says.
    edits
        Names of `EDITS`; each at all of its strengths, and at the one of no change.
    max_queries
        More are drawn down to that many.
    options
        For `rank`: splits, metric, by.

    Returns
    -------
    DataFrame, a row an edit, strength and measure: `edit`, `unit`, `strength`, `measure`
    ("Precision@k", or "overlap": the share of the unedited query's first k that is found again),
    `value`, `low`, `high` and `chance`; and what the edit changes, query by query: `change`,
    `change low`, `change high`.

    Raises
    ------
    ValueError
        If there is no such edit, or `rank` raises it.
    """
    unknown = [edit for edit in edits if edit not in EDITS]
    if unknown:
        raise ValueError(f"Unknown edit {unknown[0]!r}; choose among {', '.join(EDITS)}.")
    forward = compile_encoder(encoder)
    size = encoder.input_shape[1:3]
    rows = rank(vectors, catalog, k, **options).queries
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:max_queries])
    photos = list(parallel_map(lambda path: shrunk(load_image(path)), catalog["path"].iloc[rows]))
    asked = np.array(vectors)

    def searched(photos: Iterator[np.ndarray]) -> Ranking:
        batches = iter(lambda: list(islice(photos, batch_size)), [])
        asked[rows] = np.concatenate([forward(np.stack(batch)) for batch in batches])
        return rank(vectors, catalog, k, asking=rows, asked=asked, **options)

    # Read and made smaller as the edited ones are, or that would pass for an effect of the edits.
    unedited = searched(fitted(photo, size, fit=fit) for photo in photos)
    table = []
    steps = [
        (edit, strength)
        for edit in edits
        for strength in sorted({EDITS[edit].unchanged, *EDITS[edit].strengths})
    ]
    for edit, strength in progress(steps, description="Editing photos", unit="edits"):
        ranking = unedited
        if strength != EDITS[edit].unchanged:
            ranking = searched(_edited(photos, edit, strength, size, fit, seed))
        n_gallery = ranking.n_gallery[ranking.n_gallery > 0]
        precision = (
            precision_at_k(ranking.relevant, k),
            precision_at_k(unedited.relevant, k),
            chance_at_k(ranking, k).mean(),
        )
        overlap = overlap_at_k(ranking, unedited, k), 1, (k / n_gallery).clip(max=1).mean()
        for measure, (values, before, chance) in {
            "Precision@k": precision,
            "overlap": overlap,
        }.items():
            row = {"edit": edit, "unit": EDITS[edit].unit, "strength": strength, "measure": measure}
            row |= _mean_of(values, ranking.products) | {"chance": chance}
            change = _mean_of(values - before, ranking.products)
            table.append(
                row
                | {
                    f"change {name}".removesuffix(" value"): number
                    for name, number in change.items()
                }
            )
    return pd.DataFrame(table)


def _mean_of(values: np.ndarray, products: np.ndarray) -> dict[str, float]:
    """A mean and its interval, as columns of a table."""
    low, high = confidence_interval(values, products)
    return {"value": float(np.nanmean(values)), "low": low, "high": high}


def _edited(
    photos: list[np.ndarray], edit: str, strength: float, size, fit: str, seed: int
) -> Iterator[np.ndarray]:
    """The photos one after another, each with chances of its own, but the same at every strength."""

    def prepare(number: int) -> np.ndarray:
        return fitted(
            edit_photo(photos[number], edit, strength, seed=(seed, number)), size, fit=fit
        )

    return parallel_map(prepare, range(len(photos)))


def measure_stages(
    vectors: Mapping[str, np.ndarray],
    catalog: pd.DataFrame,
    columns: Sequence[str] = (),
    k: int = 10,
    **options,
) -> pd.DataFrame:
    """Precision@k of the kind and of other columns, for the vectors of each stage of a network.

    Parameters
    ----------
    vectors : {stage: array [n, dim]}
        As `stages.stage_encoder` tells them apart, the last to compare with; or of anything else.
    columns
        Of the catalogue, asked within the kind: whoever knows the kind would else seem to know all
        that goes with it.
    options
        For `rank`: splits, metric.

    Returns
    -------
    DataFrame, a row a column and stage: `asked`, `stage`, and what `compare` tells of it beside the
    last stage. What is raised is that of `rank`.
    """
    questions = {"kind": {"by": "label"}}
    questions |= {
        f"{column}, within the kind": {"by": column, "within": "label"} for column in columns
    }
    tables = []
    for asked, question in questions.items():
        rankings = {
            stage: rank(part, catalog, k, **question, **options) for stage, part in vectors.items()
        }
        table = compare(rankings, k, reference=list(vectors)[-1]).rename_axis("stage").reset_index()
        tables.append(table.assign(asked=asked))
    return pd.concat(tables, ignore_index=True)


def try_variants(
    build: Callable[..., keras.Model],
    catalog: pd.DataFrame,
    k: int = 10,
    *,
    gallery_split: str | None = None,
    query_split: str | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> dict[str, Ranking]:
    """The same photos in many ways: metrics, poolings, projections, mirror images, query expansion,
    sizes, shapes.

    Parameters
    ----------
    build
        Called with `pooling` and `image_size`, it builds the encoder: `build_encoder` with all else
        filled in.
    gallery_split, query_split
        As for `rank`. What is learnt from the vectors is learnt from the gallery alone.

    Returns
    -------
    {name: Ranking}, of the same queries; the first, "average pooling", by cosine, is what the
    others are one step from. `evaluation.compare` sets them side by side. What is raised is that of
    `rank` and `build`.
    """
    plain, gem, largest = (build(pooling=pooling) for pooling in ("avg", "gem", "max"))
    side = plain.input_shape[1]
    # About three and five quarters, in steps of 32.
    sizes = (side * 3 // 128 * 32, -(-side * 5 // 128) * 32)
    encoders = {"average pooling": (plain, "resize"), "max pooling": (largest, "resize")}
    encoders |= {"generalized mean": (gem, "resize"), "mirror image": (mirrored(plain), "resize")}
    encoders |= {
        f"{side} pixels": (build(pooling="avg", image_size=side), "resize")
        for side in sizes
        if side
    }
    encoders |= {"letterbox": (plain, "letterbox"), "central crop": (plain, "crop")}
    encoders |= {
        "generalized mean + mirror image": (mirrored(gem), "resize"),
        "generalized mean + crop": (gem, "crop"),
    }
    bar = progress(encoders.items(), total=len(encoders), description="Variants", unit="variants")
    vectors = {
        name: embed_quickly(encoder, catalog["path"], fit=fit, batch_size=batch_size)
        for name, (encoder, fit) in bar
    }
    base = vectors["average pooling"]
    gallery = (
        np.ones(len(catalog), bool)
        if gallery_split is None
        else (catalog["split"] == gallery_split).to_numpy()
    )
    # Of fewer photos than ten a direction, whitening learns their noise.
    dim = max(2, min(base.shape[1] // 2, gallery.sum() // 10))
    vectors |= {
        f"PCA to {dim}": project(base, gallery, dim, seed=seed),
        f"PCA to {dim}, whitened": project(base, gallery, dim, whiten=True, seed=seed),
    }
    splits = {"gallery_split": gallery_split, "query_split": query_split}
    found = {name: rank(array, catalog, k, **splits) for name, array in vectors.items()}
    steps = {"Euclidean distance": rank(base, catalog, k, metric="euclidean", **splits)}
    steps["Euclidean, length 1"] = rank(normalize(base), catalog, k, metric="euclidean", **splits)
    for name, start in (
        ("query expansion", "average pooling"),
        ("generalized mean + expansion", "generalized mean"),
    ):
        asked = expanded(vectors[start], found[start], EXPANDED)
        steps[name] = rank(vectors[start], catalog, k, asked=asked, **splits)
    return {"average pooling": found["average pooling"], **steps, **found}


def embed_quickly(
    encoder: keras.Model,
    paths: Sequence[str],
    *,
    fit: str = "resize",
    batch_size: int = 32,
    description: str = "",
) -> np.ndarray:
    """Vectors of photos for an experiment, kept nowhere: float32 [len(paths), dim]; with a bar if
    it is described.
    """
    forward = compile_encoder(encoder)
    bar = progress(paths, total=len(paths), description=description) if description else paths
    batches = pixel_batches(bar, encoder.input_shape[1:3], batch_size=batch_size, fit=fit)
    return np.concatenate([forward(pixels) for pixels in batches])
