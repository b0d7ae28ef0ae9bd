"""What a page, or any server, asks of a store: alike, compared, to one's taste, already there."""

import tempfile
import threading
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from lookalike.colour import colour_histogram
from lookalike.copies import CopyIndex
from lookalike.embeddings import check_encoder, embed_images
from lookalike.explain import explain
from lookalike.images import fitted, load_image
from lookalike.recommend import recommend
from lookalike.similarity import exact_scores

N_PAIRS = 5_000
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

    def __init__(self, store, encoder, copies=None):
        check_encoder(store, encoder)
        self.store = store
        self.encoder = encoder
        self.catalog = store.catalog
        self.fit = store.manifest["fit"]
        self.paths = self.catalog.set_index("image_id")["path"]
        # One photo of each product, in an order that is always the same.
        self.mixed = self.catalog.sample(frac=1, random_state=0)
        self.mixed = self.mixed.drop_duplicates("product_id")
        self.copies = copies or CopyIndex(store, encoder)
        self.pair_scores = pair_scores(store)
        self.lock = threading.Lock()
        self.folder = tempfile.TemporaryDirectory()
        # Measures the vectors and compiles the encoder, before anyone waits.
        self.similar(np.zeros((9, 9, 3), np.uint8), colour=0.5)

    def vector(self, photo):
        """The embedding [dim] of a photo."""
        if isinstance(photo, str):
            return self.store.vectors[self.paths.index.get_loc(photo)]
        return embed_images(self.encoder, [photo], fit=self.fit)[0]

    def similar(self, photo, k=12, *, colour=0.0):
        """The k photos most alike, as `recommend` returns them."""
        query = photo
        if not isinstance(photo, str):
            pixels = fitted(photo, self.encoder.input_shape[1:3], fit=self.fit)
            query = np.append(self.vector(pixels), colour_histogram(pixels))
        return recommend(self.store, query, k, colour=colour)

    def taste(self, liked, disliked=(), k=12, *, colour=0.0):
        """Products, other than those named, to the taste of one who likes some, dislikes others."""
        return recommend(
            self.store, liked, k, disliked=disliked, other_products=True, colour=colour
        )

    def compare(self, first, second):
        """The cosine of two photos, and of each kind of pair in the catalogue the share, 0 to 1,
        that is less alike.
        """
        vectors = [[self.vector(photo)] for photo in (first, second)]
        score = exact_scores(*vectors, "cosine").item()
        pairs = self.pair_scores.items()
        return score, {kind: np.mean(scores < score) for kind, scores in pairs}

    def why(self, first, second):
        """Where the cosine of two photos comes from, as `explain` tells."""
        pair = (first, second)
        pair = [self.paths[one] if isinstance(one, str) else one for one in pair]
        return explain(self.encoder, *pair, fit=self.fit)

    def thumbnail(self, image_id):
        """A file with a small picture of an image, made when it is first asked for."""
        file = Path(self.folder.name, f"{self.paths.index.get_loc(image_id)}.jpg")
        with self.lock:
            if not file.exists():
                pixels = load_image(self.paths[image_id], THUMBNAIL, fit="letterbox")
                Image.fromarray(pixels).save(file, quality=85)
        return file


def pair_scores(store):
    """Cosines of pairs drawn from a catalogue, in random order each photo with the next ten of
    its product, of its label, or of all.

    Returns
    -------
    For two photos of the "same product", of other products of the "same label", and of "other"
    products and labels, as far as there are such pairs: at most 5,000 cosines.
    """
    products = store.catalog["product_id"].to_numpy()
    # Without a label a photo is like none else.
    labels = store.catalog["label"].fillna(store.catalog["product_id"]).to_numpy()
    rows = pd.Series(np.random.default_rng(0).permutation(len(products)))
    kinds = {"same product": products, "same label": labels, "other": np.zeros(len(rows))}
    before = []
    drawn = {}
    for kind, groups in kinds.items():
        grouped = rows.groupby(groups[rows])
        following = [grouped.shift(-step) for step in range(1, 11)]
        following = pd.concat(following).dropna()
        first = rows[following.index].to_numpy()
        second = following.to_numpy(int)
        is_new = np.ones(len(first), bool)
        for others in before:
            is_new &= others[first] != others[second]
        before.append(groups)
        if is_new.any():
            first = store.vectors[first[is_new][:N_PAIRS]]
            second = store.vectors[second[is_new][:N_PAIRS]]
            drawn[kind] = exact_scores(first, second, "cosine")
    return drawn
