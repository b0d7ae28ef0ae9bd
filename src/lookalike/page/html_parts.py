"""Answers of the service as HTML: thumbnails, heat maps and hills inside it, so that no file need
ever be asked for.
"""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Collection
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader
from PIL import Image

from lookalike.explain import Explanation
from lookalike.images import ImageError, load_image
from lookalike.page.service import KINDS, Comparison, Photo, Service
from lookalike.plots import PALETTE

ASSETS = Path(__file__).parent
SIDE = 200  # pixels of a thumbnail
SCORES = {"cosine": "cosine similarity", "euclidean": "Euclidean distance"}
HELD = 2000  # thumbnails that are kept, 10 kB each
# bars of a hill, and what they are drawn in
HILL = 50
WIDTH = 400
HEIGHT = 38
GONE = np.full((SIDE, SIDE, 3), 221, np.uint8)
TOLD = {
    "same product": "two photos of one product",
    "same label": "two products of one label",
    "other": "two products that share no label",
}
VERDICTS = {
    "copy": "the same photo",
    "variant": "the same but for its colours, or for one place",
    "copy in grey or variant": "the same photo in grey, or the same thing in other colours",
    "stamped copy or variant": "the same photo with a stamp, or another print",
}


def data_url(pixels: np.ndarray, kind: str = "JPEG") -> str:
    """Uint8 pixels [height, width, 3] as a `data:` URL; as a PNG they stay what they are."""
    stream = io.BytesIO()
    # Each kind takes the option that is its own.
    Image.fromarray(pixels).save(stream, kind, quality=85, compress_level=1)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def heat_map(pixels: np.ndarray, places: np.ndarray) -> np.ndarray:
    """A map [h, w] laid over a grey photo uint8 [height, width, 3], dark to bright; uint8 of the
    photo's shape.
    """
    low = min(places.min(), 0)
    high = places.max()
    scaled = Image.fromarray(((places - low) / ((high - low) or 1)).astype(np.float32))
    heat = np.asarray(scaled.resize(pixels.shape[1::-1], Image.Resampling.BICUBIC)).clip(0, 1)
    grey = pixels.mean(axis=2, keepdims=True) / 2 + 64
    return (0.4 * grey + 0.6 * matplotlib.colormaps["inferno"](heat)[..., :3] * 255).astype(
        np.uint8
    )


def _share(share: float) -> str:
    """A share, 0 to 1, as it is told: "all" and "none" are neither rounded to nor from."""
    return {0: "none", 1: "all"}.get(share) or f"{min(max(share, 0.01), 0.99):.0%}"


class HtmlParts:
    """What the page shows for what the service answers; every text in it is escaped."""

    def __init__(self, service: Service):
        self.service = service
        self.catalog = service.catalog
        environment = Environment(
            loader=FileSystemLoader(ASSETS), autoescape=True, trim_blocks=True, lstrip_blocks=True
        )
        self.parts = environment.get_template("page.html").module
        self.thumbnail = functools.lru_cache(HELD)(self._thumbnail)
        low = min((scores[0] for scores in service.pair_scores.values()), default=0.0)
        self.low = float(np.floor(min(low, 0.99) * 10) / 10)
        edges = np.linspace(self.low, 1, HILL + 1)
        self.hills = {
            kind: np.histogram(scores, edges)[0] for kind, scores in service.pair_scores.items()
        }

    def _thumbnail(self, row: int) -> str:
        try:
            return data_url(load_image(self.catalog["path"].iloc[row], SIDE, fit="letterbox"))
        except ImageError:  # its file went since the page was opened
            return data_url(GONE)

    def card(self, image_id: str, **facts) -> dict:
        """What is shown of an image of the catalogue: picture, label, product, and a name to read
        out.
        """
        row = self.service.row(image_id)
        image = self.catalog.iloc[row]
        label = image["label"] if pd.notna(image["label"]) else ""
        name = f"{label}, {image['product_id']}" if label else str(image["product_id"])
        shown = {
            "id": image_id,
            "picture": self.thumbnail(row),
            "label": label,
            "product": image["product_id"],
        }
        return shown | {"name": name} | facts

    def cards(self, table: pd.DataFrame) -> list[dict]:
        """A card for each row of a table of `recommend`."""
        scores = table["score"].map("{:.3f}".format)
        ranked = zip(table["image_id"], table["rank"], scores, strict=True)
        return [self.card(image_id, rank=rank, score=score) for image_id, rank, score in ranked]

    def photo(self, photo: Photo) -> dict:
        """What the photo field holds: HTML to show, and the `image_id` or the pixels to ask with
        again.
        """
        if isinstance(photo, str):
            card = self.card(photo)
            return {
                "id": photo,
                "html": self.parts.photo({"picture": card["picture"], "caption": card["name"]}),
            }
        html = self.parts.photo(
            {"picture": data_url(photo), "caption": "Your photo, as the encoder sees it"}
        )
        return {"data": data_url(photo, "PNG"), "html": html}

    def results(self, table: pd.DataFrame, metric: str) -> str:
        """The gallery of what was found."""
        if table.empty:
            return self.parts.empty("Nothing found: there is no other photo in this category.")
        title = f"{len(table)} most alike by {SCORES[metric]}"
        return self.parts.results(self.cards(table), title, SCORES[metric])

    def why(
        self, why: Explanation | None, names: tuple[str, str], title: str = "Why alike?"
    ) -> str:
        """Both photos, and where in them their score comes from."""
        if why is None:
            return self.parts.why([], title)
        sides = (
            (names[0], why.query_pixels, why.query_map),
            (names[1], why.result_pixels, why.result_map),
        )
        shown = [
            {"name": name, "picture": data_url(pixels), "heat": data_url(heat_map(pixels, places))}
            for name, pixels, places in sides
        ]
        return self.parts.why(shown, title)

    def comparison(self, found: Comparison) -> str:
        """The score, and where it lies among the pairs of the catalogue."""
        strips = []
        for number, kind in enumerate(KINDS):
            if kind in self.hills:
                counts = self.hills[kind]
                step = WIDTH / HILL
                heights = (HEIGHT * counts / counts.max()).round(1)
                bars = [
                    {"x": round(step * at, 2), "width": round(step, 2), "height": height}
                    for at, height in enumerate(heights)
                    if height
                ]
                whose = TOLD[kind] if self.service.labels or kind != "other" else "two products"
                pairs = f"{counts.sum():,} {'pairs' if counts.sum() > 1 else 'pair'}"
                sentence = f"More alike than {_share(found.below[kind])} of {pairs} of {whose}."
                strips.append(
                    {"sentence": sentence, "bars": bars, "colour": PALETTE[number], "low": self.low}
                )
        mark = WIDTH * (np.clip(found.score, self.low, 1) - self.low) / (1 - self.low)
        return self.parts.comparison(f"{found.score:.3f}", strips, round(float(mark), 1))

    def choices(
        self, page: int, liked: Collection[str], disliked: Collection[str], count: int = 12
    ) -> str:
        """Products to like or not: labels in turn, others on each page, and from the first again
        after the last.
        """
        order = self.mixed
        ids = [
            order[place % len(order)]
            for place in range(page * count, page * count + min(count, len(order)))
        ]
        return self.parts.choices([self.card(image_id) for image_id in ids], liked, disliked)

    @functools.cached_property
    def mixed(self) -> list[str]:
        """One image of each product, labels in turn, otherwise by chance but always the same."""
        shuffled = self.catalog.sample(frac=1, random_state=0).drop_duplicates("product_id")
        turn = shuffled.groupby("label", dropna=False).cumcount()
        return shuffled["image_id"].iloc[np.argsort(turn.to_numpy(), kind="stable")].tolist()

    def taste(
        self, table: pd.DataFrame | None, liked: list[str], disliked: list[str], sentence: str
    ) -> str:
        """What was liked and disliked, and what follows."""
        named = [
            ("You like", [*map(self.card, liked)]),
            ("Rather not", [*map(self.card, disliked)]),
        ]
        cards = [] if table is None else self.cards(table)
        return self.parts.taste(named, cards, liked, disliked, sentence, SCORES["cosine"])

    def copies(self, table: pd.DataFrame) -> str:
        """What an upload is a copy or a variant of."""
        rows = table.itertuples(index=False)
        cards = [self.card(row.image_id, why=VERDICTS[row.verdict]) for row in rows]
        same = (table["verdict"] == "copy").sum()
        of = "a photo" if same == 1 else f"{same} photos"
        sentence = "New: the catalogue has no copy of this photo."
        if same:
            sentence = f"Already there: a copy of {of} in the catalogue."
        elif cards:
            sentence = "No copy, but the catalogue has what may be a variant of it."
        return self.parts.copies(cards, sentence)

    def starts(self, count: int = 8) -> str:
        """Photos of the catalogue to start from, of different labels."""
        return self.parts.starts([self.card(image_id) for image_id in self.mixed[:count]])
