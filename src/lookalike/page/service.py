"""What a page, or any server, asks of a store: alike, compared, to one's taste, already there."""

from __future__ import annotations

import functools
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from PIL import Image

from lookalike.colour import colour_histogram
from lookalike.copies import CopyIndex
from lookalike.embeddings import EmbeddingStore, check_encoder, embed_images
from lookalike.explain import Explanation, explain
from lookalike.images import ImageError, fitted, load_image
from lookalike.page.uploads import UploadError
from lookalike.recommend import recommend
from lookalike.similarity import exact_scores, normalise

Photo = str | np.ndarray  # an `image_id` of the store, or uint8 pixels [height, width, 3]
KINDS = ("same product", "same label", "other")
N_PAIRS = 5_000
N_NEXT = 10
THUMBNAIL = 240  # pixels


class Service:
    """A store and the encoder that made it, ready to answer; nothing is kept.

    Parameters
    ----------
    store, encoder
        The encoder is checked here, and not again at every search: `ValueError` if it is not the
        store's.
    copies
        Where uploads are looked up; without it, among the photos of the store, by its encoder.
    """

    def __init__(
        self, store: EmbeddingStore, encoder: keras.Model, copies: CopyIndex | None = None
    ):
        check_encoder(store, encoder)
        self.store = store
        self.encoder = encoder
        self.catalog = store.catalog
        self.fit = store.manifest["fit"]
        self.rows = pd.Index(self.catalog["image_id"])
        self.labels = sorted(self.catalog["label"].dropna().unique())
        self.copies = copies or CopyIndex(store, encoder)
        self.has_colours = "colours" in store.side_arrays
        self.pair_scores = pair_scores(store)
        self.lock = threading.Lock()
        self.folder = tempfile.TemporaryDirectory()
        # Measures the vectors and compiles the encoder, before anyone waits.
        self.similar(self.rows[0], colour=0.5)
        self.vector(np.zeros((9, 9, 3), np.uint8))

    def row(self, image_id: str) -> int:
        """The row of an image in the store; `UploadError` if it is not there."""
        if image_id not in self.rows:
            raise UploadError("This product is not in the catalogue (any more). Choose another.")
        return self.rows.get_loc(image_id)

    def path(self, image_id: str) -> str:
        """The file of an image."""
        return self.catalog["path"].iloc[self.row(image_id)]

    def vector(self, photo: Photo) -> np.ndarray:
        """The vector of a photo; of one that is not in the store with its colours behind it."""
        if isinstance(photo, str):
            return self.store.vectors[self.row(photo)]
        size = self.encoder.input_shape[1:3]
        pixels = fitted(photo, size, fit=self.fit)
        vectors = embed_images(self.encoder, [pixels])
        return np.append(vectors[0], colour_histogram(pixels))

    def similar(
        self,
        photo: Photo,
        k: int = 12,
        *,
        metric: str = "cosine",
        colour: float = 0.0,
        label: str | Sequence[str] = (),
    ) -> pd.DataFrame:
        """The k photos most alike, of the given labels or of all, as `recommend` returns them;
        colour joins the cosine alone.
        """
        vector = self.vector(photo)
        return recommend(
            self.store,
            photo if isinstance(photo, str) else vector,
            k,
            metric=metric,
            colour=colour * (metric == "cosine" and self.has_colours),
            where={"label": label} if len(label) else None,
        )

    def taste(
        self,
        liked: Sequence[str],
        disliked: Sequence[str] = (),
        k: int = 12,
        *,
        colour: float = 0.0,
    ) -> pd.DataFrame:
        """Products, other than those named, to the taste of one who likes some, dislikes others."""
        for image_id in (*liked, *disliked):
            self.row(image_id)
        options = {"other_products": True, "colour": colour * self.has_colours}
        return recommend(self.store, liked, k, disliked=disliked, **options)

    def compare(self, first: Photo, second: Photo) -> tuple[float, dict[str, float]]:
        """The cosine of two photos, and of each kind of pair in the catalogue the share, 0 to 1,
        that is less alike.
        """
        dim = self.store.vectors.shape[1]
        vectors = [self.vector(photo)[None, :dim] for photo in (first, second)]
        score = float(exact_scores(*vectors, "cosine")[0])
        below = {}
        for kind, scores in self.pair_scores.items():
            below[kind] = np.mean(scores < score)
        return score, below

    def why(self, first: Photo, second: Photo) -> Explanation:
        """Where the cosine of two photos comes from."""
        pair = []
        for photo in (first, second):
            pair.append(self.path(photo) if isinstance(photo, str) else photo)
        try:
            return explain(self.encoder, *pair, fit=self.fit)
        except ImageError:
            raise UploadError("The photo of this product is gone. Choose another.") from None
        except ValueError:
            raise UploadError("This network's vectors are no sum over places: no map.") from None

    def thumbnail(self, image_id: str) -> Path:
        """A file with a small picture of an image, made when it is first asked for; grey if its
        photo is gone.
        """
        file = Path(self.folder.name, f"{self.row(image_id)}.jpg")
        with self.lock:
            if not file.exists():
                try:
                    pixels = load_image(self.path(image_id), THUMBNAIL, fit="letterbox")
                except ImageError:
                    pixels = np.full((THUMBNAIL, THUMBNAIL, 3), 221, np.uint8)
                Image.fromarray(pixels).save(file, quality=85)
        return file

    @functools.cached_property
    def mixed(self) -> pd.DataFrame:
        """The catalogue's rows, one of each product, labels in turn; always the same."""
        shuffled = self.catalog.sample(frac=1, random_state=0)
        shuffled = shuffled.drop_duplicates("product_id")
        turn = shuffled.groupby("label", dropna=False).cumcount()
        return shuffled.loc[turn.sort_values(kind="stable").index]


def pair_scores(store: EmbeddingStore, n_pairs: int = N_PAIRS) -> dict[str, np.ndarray]:
    """Cosines of pairs drawn from a catalogue, in random order each photo with the next ten of
    its product, of its label, or of all.

    Returns
    -------
    For two photos of the "same product", of other products of the "same label", and of "other"
    products and labels, as far as there are such pairs: at most `n_pairs` cosines, ascending.
    """
    products = store.catalog["product_id"]
    # Without a label a photo is like none else.
    labels = store.catalog["label"].fillna(products)
    everything = np.zeros(len(products))
    rows = pd.Series(np.random.default_rng(0).permutation(len(products)))
    drawn = {}
    for kind, groups in zip(KINDS, (products, labels, everything), strict=True):
        grouped = rows.groupby(np.asarray(groups)[rows])
        following = [grouped.shift(-step) for step in range(1, 1 + N_NEXT)]
        following = pd.concat(following).dropna()
        pairs = np.stack([rows[following.index], following.astype(int)])
        same_product, same_label = (
            np.equal(*names.to_numpy()[pairs]) for names in (products, labels)
        )
        kinds = np.select([same_product, same_label], KINDS[:2], KINDS[2])
        chosen = pairs[:, kinds == kind][:, :n_pairs]
        if chosen.size:
            first, second = map(normalise, store.vectors[chosen])
            cosines = (first * second).sum(axis=1)
            drawn[kind] = np.sort(cosines)
    return drawn
