"""Experiments on an encoder: what edits to a photo change, and which cheap ways help."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import keras
import numpy as np
import pandas as pd

from lookalike.evaluation import Ranking, overlap_at_k, paired_change, precision_at_k, rank
from lookalike.images import load_image, pixel_batches
from lookalike.machine import parallel_map, progress
from lookalike.similarity import normalise
from lookalike.studies.encoder_variants import expanded, mirrored, project
from lookalike.studies.photo_edits import EDITS, edit_photo, shrunk

EXPANDED = 3  # results that join the query in query expansion


def embed_quietly(encoder: keras.Model, photos: Iterable, *, fit: str = "resize") -> np.ndarray:
    """Vectors of photos for one step of an experiment: `embed_images` without a bar."""
    batches = pixel_batches(photos, encoder.input_shape[1:3], fit=fit)
    return np.concatenate([encoder.predict_on_batch(np.float32(pixels)) for pixels in batches])


def measure_edits(
    encoder: keras.Model,
    vectors: np.ndarray,
    catalog: pd.DataFrame,
    k: int = 10,
    *,
    edits: Sequence[str] = tuple(EDITS),
    fit: str = "resize",
    **options,
) -> pd.DataFrame:
    """Let edited photos search among unedited ones, and tell what they still find.

    Parameters
    ----------
    vectors : array [n, dim]
        Of the whole catalogue, by this encoder, from photos fitted as `fit` says.
    edits
        Names of `EDITS`; each at all of its strengths.
    options
        For `rank`: splits, metric, queries.

    Returns
    -------
    DataFrame, a row an edit and strength: `edit`, `strength`, `precision` at k; what the edit
    changes in it, query by query: `change`, `low`, `high`; and `overlap`, the share of the unedited
    query's first k that is found again. What is raised is that of `rank`.
    """
    rows = rank(vectors, catalog, k, **options).queries
    photos = list(parallel_map(lambda path: shrunk(load_image(path)), catalog["path"].iloc[rows]))
    asked = np.array(vectors)

    def search(edited: Iterable[np.ndarray]) -> Ranking:
        asked[rows] = embed_quietly(encoder, edited, fit=fit)
        return rank(vectors, catalog, k, query_vectors=asked, **options)

    def changed(edit: str, strength: float) -> Iterable[np.ndarray]:
        # Chances of its own for each photo, but the same at every strength.
        def change(number: int) -> np.ndarray:
            return edit_photo(photos[number], edit, strength, seed=number)

        return parallel_map(change, range(len(photos)))

    unedited = search(photos)
    before = precision_at_k(unedited.relevant, k)
    table = []
    steps = [(edit, strength) for edit in edits for strength in EDITS[edit].strengths]
    for edit, strength in progress(steps, description="Editing photos", unit="edits"):
        found = search(changed(edit, strength))
        precision = precision_at_k(found.relevant, k)
        change = paired_change(precision, before, found.products)
        overlap = np.nanmean(overlap_at_k(found.results, unedited.results, k))
        table.append([edit, strength, precision.mean(), *change, overlap])
    columns = ["edit", "strength", "precision", "change", "low", "high", "overlap"]
    return pd.DataFrame(table, columns=columns)


def try_variants(
    build: Callable[..., keras.Model], catalog: pd.DataFrame, k: int = 10, **options
) -> dict[str, Ranking]:
    """The same photos in many ways: metrics, poolings, projections, mirror images, query expansion,
    sizes, shapes.

    Parameters
    ----------
    build
        Called with `pooling` and `image_size`, it builds the encoder: `build_encoder` with all else
        filled in.
    options
        For `rank`: splits, queries. What is learnt from vectors is learnt from the gallery alone.

    Returns
    -------
    {name: Ranking}, of the same queries; the first, "average pooling", by cosine, is what the
    others are one step from. What is raised is that of `rank` and `build`.
    """
    plain = build(pooling="avg")
    side = plain.input_shape[1]
    encoders = {
        "average pooling": (plain, "resize"),
        "max pooling": (build(pooling="max"), "resize"),
        "generalized mean": (build(pooling="gem"), "resize"),
        "mirror image": (mirrored(plain), "resize"),
        "letterbox": (plain, "letterbox"),
        "central crop": (plain, "crop"),
    }
    # About three and five quarters, in steps of 32.
    for other in (max(32, side * 3 // 128 * 32), side * 5 // 128 * 32 + 32):
        with suppress(ValueError):  # a network may take photos of one size alone
            encoders[f"{other} pixels"] = build(pooling="avg", image_size=other), "resize"
    vectors = {}
    bar = progress(encoders.items(), total=len(encoders), description="Variants", unit="variants")
    for name, (encoder, fit) in bar:
        vectors[name] = embed_quietly(encoder, catalog["path"], fit=fit)
    base = vectors["average pooling"]
    split = options.get("gallery_split")
    gallery = (catalog["split"] == split).to_numpy() | (split is None)
    # Of fewer photos than ten a direction, whitening learns their noise.
    dim = max(2, min(base.shape[1] // 2, gallery.sum() // 10))
    vectors[f"PCA to {dim}"] = project(base, gallery, dim)
    vectors[f"PCA to {dim}, whitened"] = project(base, gallery, dim, whiten=True)
    found = {name: rank(array, catalog, k, **options) for name, array in vectors.items()}
    asked = expanded(base, found["average pooling"], EXPANDED)
    found["query expansion"] = rank(base, catalog, k, query_vectors=asked, **options)
    options["metric"] = "euclidean"
    found["Euclidean distance"] = rank(base, catalog, k, **options)
    found["Euclidean, length 1"] = rank(normalise(base), catalog, k, **options)
    return found
