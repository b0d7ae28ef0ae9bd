"""Experiments on an encoder: what edits to a photo change, and which cheap ways help."""

from contextlib import suppress

import numpy as np
import pandas as pd

from lookalike.evaluation import overlap_at_k, paired_change, precision_at_k, rank
from lookalike.images import load_image, pixel_batches
from lookalike.machine import parallel_map, progress
from lookalike.similarity import normalise
from lookalike.studies.encoder_variants import expanded, mirrored, project
from lookalike.studies.photo_edits import EDITS, edit_photo, shrunk

EXPANDED = 3  # results that join the query in query expansion


def _embed_quietly(encoder, photos, fit="resize"):
    """Vectors of photos for one step of an experiment: `embed_images` without a bar."""
    vectors = []
    for pixels in pixel_batches(photos, encoder.input_shape[1:3], fit=fit):
        vectors.append(encoder.predict_on_batch(np.float32(pixels)))
    return np.concatenate(vectors)


def measure_edits(encoder, vectors, catalog, k=10, **options):
    """Let edited photos search among unedited ones, and tell what they still find.

    Parameters
    ----------
    vectors : array [n, dim]
        Of the whole catalogue, by this encoder.
    options
        For `rank`: splits, metric, queries.

    Returns
    -------
    DataFrame, a row for each of `EDITS` at each of its strengths: `edit`, `strength`, `precision`
    at k; what the edit changes in it, query by query: `change`, `low`, `high`; and `overlap`, the
    share of the unedited query's first k that is found again. What is raised is that of `rank`.
    """
    rows = rank(vectors, catalog, k, **options).queries
    paths = catalog["path"].iloc[rows]
    photos = list(parallel_map(lambda path: shrunk(load_image(path)), paths))
    asked = np.array(vectors)

    def search(edited):
        asked[rows] = _embed_quietly(encoder, edited)
        return rank(vectors, catalog, k, query_vectors=asked, **options)

    unedited = search(photos)
    before = precision_at_k(unedited.relevant, k)
    table = []
    steps = [(name, strength) for name, edit in EDITS.items() for strength in edit.strengths]
    for name, strength in progress(steps, description="Editing photos", unit="edits"):
        # Chances of its own for each photo, but the same at every strength.
        found = search(
            edit_photo(photo, name, strength, seed=number)
            for number, photo in enumerate(photos)
        )
        precision = precision_at_k(found.relevant, k)
        change, low, high = paired_change(precision, before, found.products)
        overlap = overlap_at_k(found.results, unedited.results, k)
        row = {
            "edit": name,
            "strength": strength,
            "precision": precision.mean(),
            "change": change,
            "low": low,
            "high": high,
            "overlap": np.nanmean(overlap),
        }
        table.append(row)
    return pd.DataFrame(table)


def try_variants(build, catalog, k=10, **options):
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
    smaller = max(32, side * 3 // 128 * 32)
    larger = side * 5 // 128 * 32 + 32
    for other in (smaller, larger):
        # A network may take photos of one size alone.
        with suppress(ValueError):
            encoders[f"{other} pixels"] = build(pooling="avg", image_size=other), "resize"
    vectors = {}
    for name in progress(list(encoders), description="Variants", unit="variants"):
        encoder, fit = encoders[name]
        vectors[name] = _embed_quietly(encoder, catalog["path"], fit=fit)
    base = vectors["average pooling"]
    split = options.get("gallery_split")
    gallery = (catalog["split"] == split).to_numpy() | (split is None)
    # Of fewer photos than ten a direction, whitening learns their noise.
    most = gallery.sum() // 10
    dim = max(2, min(base.shape[1] // 2, most))
    vectors[f"PCA to {dim}"] = project(base, gallery, dim)
    vectors[f"PCA to {dim}, whitened"] = project(base, gallery, dim, whiten=True)
    found = {}
    for name, array in vectors.items():
        found[name] = rank(array, catalog, k, **options)
    asked = expanded(base, found["average pooling"], EXPANDED)
    found["query expansion"] = rank(base, catalog, k, query_vectors=asked, **options)
    options["metric"] = "euclidean"
    found["Euclidean distance"] = rank(base, catalog, k, **options)
    found["Euclidean, length 1"] = rank(normalise(base), catalog, k, **options)
    return found
