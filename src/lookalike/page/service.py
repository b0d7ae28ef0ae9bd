"""What a page, or any server, asks of a store: alike, compared, to one's taste, already there;
nothing is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd

from lookalike.copies import CopyIndex
from lookalike.embeddings import EmbeddingStore, check_encoder, embed_images
from lookalike.explain import Explanation, can_explain, explain
from lookalike.images import ImageError, fitted
from lookalike.page.uploads import UploadError, check_upload, decoded
from lookalike.recommend import recommend
from lookalike.similarity import exact_scores

Photo = str | np.ndarray  # an `image_id` of the store, or uint8 pixels [height, width, 3]
KINDS = ("same product", "same label", "other")
N_PAIRS = 5_000


@dataclass(frozen=True)
class Comparison:
    """Two photos: their cosine, how it ranks among the catalogue's pairs, and where it comes from.

    score : the cosine similarity, in [-1, 1]
    below : of each kind of pair in the catalogue, the share, 0 to 1, that is less alike
    why : None, if the encoder is one that cannot be explained
    """

    score: float
    below: dict[str, float]
    why: Explanation | None


class Service:
    """A store and the encoder that made it, ready to answer.

    Each method raises `UploadError`, whose message is for the one who asked, for a photo or product
    that cannot be had.

    Parameters
    ----------
    store, encoder
        The encoder is checked here, and not again at every search.
    copies
        Where uploads are looked up; without it, among the photos of the store, by its encoder.

    Raises
    ------
    ImageError
        If a photo of the catalogue cannot be read (any more).
    ValueError
        If the encoder is not the store's.
    """

    def __init__(
        self, store: EmbeddingStore, encoder: keras.Model, copies: CopyIndex | None = None
    ):
        check_encoder(store, encoder)
        self.store = store
        self.encoder = encoder
        self.catalog = store.catalog
        self.rows = {image_id: row for row, image_id in enumerate(self.catalog["image_id"])}
        self.labels = sorted(self.catalog["label"].dropna().unique())
        self.copies = copies or CopyIndex(store, encoder)
        self.explains = can_explain(encoder)
        self.pair_scores = pair_scores(store)
        self.find(next(iter(self.rows)), k=1)  # measures the vectors and
        # Compiles the encoder, before anyone waits for it.
        self.vector(self.fitted(self.catalog["path"].iloc[0]))

    def fitted(self, photo: str | bytes) -> np.ndarray:
        """A file, or its bytes, as the encoder sees it: uint8 [height, width, 3]."""
        return fitted(photo, self.encoder.input_shape[1:3], fit=self.store.manifest["fit"])

    def prepare(self, data: bytes) -> np.ndarray:
        """The bytes of an upload as the encoder sees them, uint8 [height, width, 3]; `UploadError`
        if it cannot.
        """
        check_upload(data)
        return decoded(lambda: self.fitted(data))

    def row(self, image_id: str) -> int:
        """The row of an image in the store; `UploadError` if it is not there.

        No file is ever looked for by name.
        """
        if image_id not in self.rows:
            raise UploadError("This product is not in the catalogue (any more). Choose another.")
        return self.rows[image_id]

    def vector(self, photo: Photo) -> np.ndarray:
        """The vector [dim] of a photo."""
        if isinstance(photo, str):
            return self.store.vectors[self.row(photo)]
        return embed_images(self.encoder, [photo], fit=self.store.manifest["fit"])[0]

    def find(
        self, photo: Photo, *, k: int = 12, metric: str = "cosine", label: str | Sequence[str] = ()
    ) -> pd.DataFrame:
        """The k photos most alike, of the given labels or of all, as `recommend` returns them."""
        if isinstance(photo, str):
            self.row(photo)  # else `recommend` would look for a file of that name
        else:
            photo = self.vector(photo)
        return recommend(
            self.store, photo, k, metric=metric, where={"label": label} if len(label) else None
        )

    def taste(
        self, liked: Sequence[str], disliked: Sequence[str] = (), *, k: int = 12
    ) -> pd.DataFrame:
        """Products, other than those named, to the taste of one who likes some, dislikes others."""
        for image_id in (*liked, *disliked):
            self.row(image_id)
        if not liked:
            raise UploadError("Like at least one product, and recommendations follow.")
        return recommend(self.store, list(liked), k, disliked=list(disliked), other_products=True)

    def compare(self, first: Photo, second: Photo) -> Comparison:
        """Two photos laid beside each other, and beside all pairs of the catalogue."""
        vectors = [self.vector(photo)[None] for photo in (first, second)]
        score = float(exact_scores(*vectors, "cosine")[0])
        below = {
            kind: np.searchsorted(scores, score) / len(scores)
            for kind, scores in self.pair_scores.items()
        }
        return Comparison(score, below, self.why(first, second))

    def why(self, first: Photo, second: Photo) -> Explanation | None:
        """Where the cosine of two photos comes from; None, if the encoder is one that cannot be
        explained.
        """
        if not self.explains:
            return None
        photos = [
            self.catalog["path"].iloc[self.row(photo)] if isinstance(photo, str) else photo
            for photo in (first, second)
        ]
        try:
            return explain(self.encoder, *photos, fit=self.store.manifest["fit"])
        except ImageError:
            raise UploadError(
                "The photo of this product is gone from its folder. Choose another."
            ) from None

    def check(self, data: bytes) -> pd.DataFrame:
        """What an uploaded file is a copy or a variant of, as `CopyIndex.look_up` returns it."""
        check_upload(data)
        return decoded(lambda: self.copies.look_up(data))


def pair_scores(
    store: EmbeddingStore, n_pairs: int = N_PAIRS, *, seed: int = 0
) -> dict[str, np.ndarray]:
    """Cosines of pairs drawn from a catalogue: two photos of one product, of one label, of
    different ones.

    Returns
    -------
    For each of `KINDS` of which there are pairs, at most `n_pairs` cosines, ascending, each of
    another pair. A pair of one label is of two products; where there are no labels, so is "other",
    and there is none of one label.
    """
    random = np.random.default_rng(seed)
    everyone = np.arange(len(store.catalog))
    products = pd.factorize(store.catalog["product_id"])[0]
    labels = pd.factorize(store.catalog["label"])[0]  # -1 where there is none
    # A product without label is like none else.
    labels = np.where(labels < 0, labels.max() + 1 + products, labels)
    groupings = (products, everyone), (labels, products), (np.zeros_like(everyone), labels)
    drawn = {}
    for kind, (within, apart) in zip(KINDS, groupings, strict=True):
        a, b = _draw(within, apart, n_pairs, random)
        # One product may have several labels.
        kept = (kind == "same product") | (products[a] != products[b])
        if kept.any():
            a, b = np.unique(np.sort(np.stack([a[kept], b[kept]]), axis=0), axis=1)
            drawn[kind] = np.sort(
                exact_scores(np.asarray(store.vectors[a]), np.asarray(store.vectors[b]), "cosine")
            )
    return drawn


def _draw(within, apart, n_pairs, random):
    """Pairs of rows, [2, at most n_pairs], of one group of `within` and of two of `apart`, each as
    likely as any other.
    """
    order = np.argsort(within, kind="stable")
    start = np.searchsorted(within[order], within)
    sizes = np.bincount(within)[within]
    weights = np.where(sizes > 1, sizes, 0)
    if not weights.any():
        return np.empty((2, 0), int)
    # Many more, as those of one group of `apart` are dropped.
    first = random.choice(len(within), 8 * n_pairs, p=weights / weights.sum())
    second = order[start[first] + random.integers(sizes[first])]
    kept = np.flatnonzero(apart[first] != apart[second])[:n_pairs]
    return np.stack([first[kept], second[kept]])
