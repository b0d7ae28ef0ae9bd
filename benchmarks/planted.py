"""Copies as shops meet them: resized, saved anew, cut, turned, stamped, framed; planted to see
which are found.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont, ImageOps

from lookalike.catalog import FILE_COLUMNS
from lookalike.images import load_image
from lookalike.machine import parallel_map, progress
from lookalike.studies.photo_edits import EDITS

STAMP = "SAMPLE"
OPACITY = 110  # of 255, of a watermark


def _edited(edit, strength):
    return lambda image, random: EDITS[edit].change(image, strength, random)


def _resized(percent):
    return lambda image, _: ImageOps.scale(image, percent / 100, Image.Resampling.LANCZOS)


def _lit(gains):
    """The light of a lamp or of a cloudy day: a gain for red, green and blue."""
    return lambda image, _: Image.fromarray(np.uint8((image * np.array(gains)).clip(0, 255)))


def _plain(change):
    return lambda image, _: change(image)


def _watermarked(image, random):
    """Four lines of white, see-through writing over the whole photo."""
    mask = Image.new("L", image.size)
    draw = ImageDraw.Draw(mask)
    font = ImageFont.load_default(max(8, image.width // 6))
    for line in range(4):
        left = int(random.integers(image.width // 3 + 1))
        draw.text((left, (line + 0.2) * image.height / 4), STAMP, font=font, fill=OPACITY)
    return Image.composite(Image.new("RGB", image.size, "white"), image, mask)


def _framed(image, random):
    """A border of any colour, a tenth of the shorter side."""
    colour = tuple(int(channel) for channel in random.integers(256, size=3))
    return ImageOps.expand(image, max(1, round(0.1 * min(image.size))), colour)


def _screenshot(image, _):
    """As a telephone shows it: dark bars above and below, the time of day, a bar to swipe."""
    width, height = image.size
    tall = round(max(16 / 9 * width, 1.3 * height))
    screen = Image.new("RGB", (width, tall), (16, 16, 16))
    screen.paste(image, (0, (tall - height) // 2))
    draw = ImageDraw.Draw(screen)
    bar = max(8, tall // 60)
    draw.text((width // 20, bar // 2), "12:34", font=ImageFont.load_default(bar), fill="white")
    draw.rectangle((0.3 * width, tall - bar, 0.7 * width, tall - bar // 2), fill="white")
    return screen


# What is saved anew as something else than a JPEG, as Pillow takes it.
FORMATS = {"PNG": {}, "WebP": {"quality": 60}, "GIF": {}}
COPIES = {
    **{f"resize {percent} %": _resized(percent) for percent in (150, 50, 25)},
    **{f"JPEG {quality}": _edited("JPEG", quality) for quality in (50, 20)},
    **dict.fromkeys(FORMATS, _plain(Image.Image.copy)),
    **{f"crop {percent} %": _edited("crop", percent) for percent in (5, 10, 20)},
    **{f"brightness {factor}": _edited("brightness", factor) for factor in (0.7, 1.3)},
    **{f"contrast {factor}": _edited("contrast", factor) for factor in (0.7, 1.4)},
    "warm light": _lit([1.12, 1, 0.85]),
    "cold light": _lit([0.87, 1, 1.12]),
    **{f"rotation {degrees}°": _edited("rotation", degrees) for degrees in (5, 10)},
    "mirrored": _plain(ImageOps.mirror),
    "watermark": _watermarked,
    "border": _framed,
    "greyscale": _plain(ImageOps.grayscale),
    "screenshot": _screenshot,
}


def plant_copies(
    catalog: pd.DataFrame,
    folder: str | Path,
    *,
    kinds: Sequence[str] = tuple(COPIES),
    seed: int = 0,
) -> pd.DataFrame:
    """Write a copy of each kind of each photo of a catalogue.

    Parameters
    ----------
    catalog : DataFrame with `image_id`, `path` and whatever else
    folder
        Where the files go, whose names do not tell what they are copies of.
    kinds
        Names of `COPIES`.
    seed
        Decides what is left to chance: side, place and colour.

    Returns
    -------
    DataFrame, a row a copy, photo by photo: the columns of the catalogue, `image_id`, `path` and
    `product_id` new, what the file alone tells left out, and `copy_of` and `kind`.

    Raises
    ------
    ValueError
        If there is no such kind.
    ImageError
        If a photo cannot be read.
    """
    unknown = [kind for kind in kinds if kind not in COPIES]
    if unknown:
        raise ValueError(f"There is no copy {unknown[0]!r}; choose among {', '.join(COPIES)}.")
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)

    def plant(number):
        photo = catalog.iloc[number]
        image = Image.fromarray(load_image(photo["path"]))
        rows = []
        for place, kind in enumerate(kinds):
            form = kind if kind in FORMATS else "JPEG"
            file = folder / f"{number * len(kinds) + place:06}.{form.lower()}"
            random = np.random.default_rng((seed, number, list(COPIES).index(kind)))
            COPIES[kind](image, random).save(file, form, **FORMATS.get(kind, {"quality": 90}))
            own = {"image_id": file.name, "path": str(file), "product_id": file.stem}
            rows.append({**photo, **own, "copy_of": photo["image_id"], "kind": kind})
        return rows

    bar = progress(range(len(catalog)), description="Making copies")
    rows = [row for rows in parallel_map(plant, bar) for row in rows]
    columns = list(dict.fromkeys([*catalog, "image_id", "path", "product_id", "copy_of", "kind"]))
    return pd.DataFrame(rows, columns=[name for name in columns if name not in FILE_COLUMNS])
