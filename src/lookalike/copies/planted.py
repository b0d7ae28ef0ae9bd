"""Copies as shops meet them: resized, saved anew, cut, turned, stamped, framed; planted to see
which are found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont, ImageOps

from lookalike.images import load_image, photo_facts
from lookalike.machine import parallel_map, progress
from lookalike.studies.photo_edits import EDITS
from lookalike.workspace import written_aside

STAMP = "SAMPLE"
OPACITY = 110  # of 255, of a watermark
Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def _edited(edit: str, strength: float) -> Change:
    return lambda image, random: EDITS[edit].change(image, strength, random)


def _resized(percent: float) -> Change:
    def change(image: Image.Image, _: np.random.Generator) -> Image.Image:
        return image.resize(
            [max(1, round(side * percent / 100)) for side in image.size], Image.Resampling.LANCZOS
        )

    return change


def _watermarked(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Four lines of white, see-through writing over the whole photo."""
    mask = Image.new("L", image.size)
    draw = ImageDraw.Draw(mask)
    font = ImageFont.load_default(max(8, image.width // 6))
    for line in range(4):
        left = int(random.integers(image.width // 3 + 1))
        draw.text((left, (line + 0.2) * image.height / 4), STAMP, font=font, fill=OPACITY)
    return Image.composite(Image.new("RGB", image.size, "white"), image, mask)


def _framed(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """A border of any colour, a tenth of the shorter side."""
    colour = tuple(int(channel) for channel in random.integers(256, size=3))
    return ImageOps.expand(image, max(1, round(0.1 * min(image.size))), colour)


def _screenshot(image: Image.Image, _: np.random.Generator) -> Image.Image:
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


def _as_it_is(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return image


# The change, and how the file is written; most are saved anew as JPEG, as they would be in life.
JPEG, PNG = (".jpg", {"quality": 90}), (".png", {})
COPIES: dict[str, tuple[Change, tuple[str, dict]]] = {
    "resize 150 %": (_resized(150), JPEG),
    "resize 50 %": (_resized(50), JPEG),
    "resize 25 %": (_resized(25), JPEG),
    "JPEG 50": (_as_it_is, (".jpg", {"quality": 50})),
    "JPEG 20": (_as_it_is, (".jpg", {"quality": 20})),
    "PNG": (_as_it_is, PNG),
    "WebP": (_as_it_is, (".webp", {"quality": 60})),
    "GIF": (_as_it_is, (".gif", {})),
    "crop 5 %": (_edited("crop", 5), JPEG),
    "crop 10 %": (_edited("crop", 10), JPEG),
    "crop 20 %": (_edited("crop", 20), JPEG),
    "brightness 0.7": (_edited("brightness", 0.7), JPEG),
    "brightness 1.3": (_edited("brightness", 1.3), JPEG),
    "contrast 0.7": (_edited("contrast", 0.7), JPEG),
    "contrast 1.4": (_edited("contrast", 1.4), JPEG),
    "mirrored": (lambda image, _: ImageOps.mirror(image), JPEG),
    "rotation 5°": (_edited("rotation", 5), JPEG),
    "rotation 10°": (_edited("rotation", 10), JPEG),
    "watermark": (_watermarked, JPEG),
    "border": (_framed, JPEG),
    "greyscale": (lambda image, _: image.convert("L"), JPEG),
    "screenshot": (_screenshot, JPEG),
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
    what the file tells its own, `product_id` new too as for an upload, and `copy_of` and `kind`.

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
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)

    def plant(number: int) -> list[dict]:
        photo = catalog.iloc[number]
        image = Image.fromarray(load_image(photo["path"]))
        rows = []
        for place, kind in enumerate(kinds):
            change, (suffix, options) = COPIES[kind]
            file = folder / f"{number * len(kinds) + place:06}{suffix}"
            changed = change(image, np.random.default_rng((seed, number, list(COPIES).index(kind))))
            with written_aside(file) as aside:
                changed.save(aside, Image.registered_extensions()[suffix], **options)
            own = {"image_id": file.name, "path": str(file.absolute()), "product_id": file.stem}
            facts = photo_facts(file)
            own |= {name: facts[name] for name in catalog if name in facts}
            rows.append(photo.to_dict() | own | {"copy_of": photo["image_id"], "kind": kind})
        return rows

    bar = progress(
        parallel_map(plant, range(len(catalog))), total=len(catalog), description="Making copies"
    )
    columns = list(dict.fromkeys([*catalog, "image_id", "path", "product_id", "copy_of", "kind"]))
    return pd.DataFrame([row for rows in bar for row in rows], columns=columns)
