"""Draw the sample catalogue: synthetic product photographs with known attributes.

The catalogue stands in for a shop's photographs where none can be shipped. Every product has a
colour, a pattern and a shape that are true of its pictures, so that a recommendation can be checked
against what was drawn.

    python make_sample.py [--seed 0] [--out DIR] [--sheet FILE] [--labels shoe hat] [--products 40]

Only needed to draw the pictures again. The committed files were drawn with Python 3.11, skia-python
144.1, numpy 2.4.6 and pillow 13.0.0; other versions may give slightly different bytes. Another seed
draws other products.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image

import bags
import bicycles
import glasses
import hats
import shoes
import solids
import t_shirts
import watches
from catalogue import PRODUCTS, SHAPES, deal
from painting import Picture
from scenes import EXTENT, backdrop, cast_shadow, develop, placement

VIEWS_PER_PRODUCT = 3
JPEG_QUALITY = 85
SHEET_TILE, SHEET_COLUMNS, SHEET_QUALITY = 60, 18, 48
FLAT = {"bicycle": bicycles, "t-shirt": t_shirts, "watch": watches}
SOLID = {"bag": bags, "glasses": glasses, "hat": hats, "shoe": shoes}


def photograph(product, seed, view_number):
    """One finished view of a product as an 8-bit RGB image.

    One random stream belongs to the product and gives every view the same article, another to this
    view.
    """
    key = [seed, sorted(SHAPES).index(product.label), product.number]
    random, view = np.random.default_rng(key), np.random.default_rng([*key, 1 + view_number])
    light = np.array(
        (view.choice([-1, 1]) * view.uniform(0.35, 0.7), -view.uniform(0.4, 0.75), 0.75)
    )
    light = (light / np.linalg.norm(light)).astype(np.float32)
    family = FLAT.get(product.label) or SOLID[product.label]
    pose = family.POSES[view.integers(len(family.POSES))]
    scene, strength = backdrop(view, pose.setting, light), view.uniform(0.75, 1.0)
    if product.label in SOLID:
        colour, alpha, shadow = solids.render(
            family.build(product, random, view, pose), pose, view, light, EXTENT
        )
        shadow = strength * shadow
    else:
        blank = np.zeros((EXTENT, EXTENT), np.float32)
        picture = Picture(placement(pose, view), light, np.stack([blank] * 3, -1), blank)
        ground = family.draw(picture, product, random, view, pose)
        colour, alpha, shadow = (
            picture.colour,
            picture.alpha,
            cast_shadow(picture, ground, strength),
        )
    scene *= 1 - shadow[..., None]
    return develop(scene * (1 - alpha[..., None]) + colour, view)


def draw(out, seed=0, labels=tuple(PRODUCTS), products=None):
    """Write every view and catalog.csv below `out`; return the paths written, in the catalogue's
    order.
    """
    rows = []
    for label in sorted(labels):
        (out / label).mkdir(parents=True, exist_ok=True)
        for product in deal(label, products or PRODUCTS[label], seed):
            for view_number in range(VIEWS_PER_PRODUCT):
                image_id = f"{label}/{product.name}-{view_number}.jpg"
                photograph(product, seed, view_number).save(
                    out / image_id, quality=JPEG_QUALITY, optimize=True
                )
                rows.append(
                    [image_id, product.name, label, product.colour, product.pattern, product.shape]
                )
    rows.sort()
    with open(out / "catalog.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["image_id", "product_id", "label", "colour", "pattern", "shape"])
        writer.writerows(rows)
    return [out / row[0] for row in rows]


def write_sheet(paths, file):
    """All pictures side by side."""
    lines = -(-len(paths) // SHEET_COLUMNS)
    sheet = Image.new("RGB", (SHEET_COLUMNS * SHEET_TILE, lines * SHEET_TILE), "white")
    for index, path in enumerate(paths):
        tile = Image.open(path).resize((SHEET_TILE, SHEET_TILE), Image.Resampling.LANCZOS)
        sheet.paste(tile, (index % SHEET_COLUMNS * SHEET_TILE, index // SHEET_COLUMNS * SHEET_TILE))
    sheet.save(file, quality=SHEET_QUALITY, optimize=True, progressive=True)


def main():
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="another seed, other products")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet to this JPEG")
    parser.add_argument("--labels", nargs="+", choices=sorted(PRODUCTS), default=sorted(PRODUCTS))
    parser.add_argument(
        "--products", type=int, help="products a label (default: as many as the sample has)"
    )
    arguments = parser.parse_args()
    paths = draw(arguments.out, arguments.seed, arguments.labels, arguments.products)
    if arguments.sheet:
        write_sheet(paths, arguments.sheet)


if __name__ == "__main__":
    main()
