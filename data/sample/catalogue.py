"""What the sample catalogue holds: labels, attributes and how they are dealt to the products."""

from typing import NamedTuple

import numpy as np

PRODUCTS = {
    "bag": 12,
    "bicycle": 32,
    "glasses": 12,
    "hat": 12,
    "shoe": 32,
    "t-shirt": 32,
    "watch": 32,
}
SHAPES = {
    "bag": ["tote", "backpack", "handbag"],
    "bicycle": ["road", "mountain", "step-through"],
    "glasses": ["round", "rectangular", "aviator"],
    "hat": ["cap", "brimmed", "beanie"],
    "shoe": ["sneaker", "boot", "loafer"],
    "t-shirt": ["crew", "v-neck", "polo"],
    "watch": ["round", "square", "tonneau"],
}
PATTERNS = ["plain", "stripes", "dots", "checks"]
COLOURS = ["black", "white", "grey", "red", "blue", "green", "yellow", "brown"]


class Product(NamedTuple):
    """One article of the catalogue and the attributes its pictures must show."""

    label: str
    number: int
    colour: str
    pattern: str
    shape: str

    @property
    def name(self):
        return f"{self.label}-{self.number:02d}"


def deal(label, count, seed):
    """`count` products of one label.

    Every pair of attributes is spread as evenly as `count` allows, so none of them tells another;
    32 products hold each colour in each pattern once. Which values meet and in which order is
    shuffled.
    """
    random = np.random.default_rng([seed, sorted(SHAPES).index(label)])
    colours, patterns, shapes = (
        random.permutation(values).tolist() for values in (COLOURS, PATTERNS, SHAPES[label])
    )
    rows = []
    for number in range(count):
        turn, pattern = divmod(number, len(patterns))
        colour, shape = (turn + 2 * pattern) % len(colours), (turn + pattern) % len(shapes)
        rows.append((colours[colour], patterns[pattern], shapes[shape]))
    return [
        Product(label, number, *rows[place])
        for number, place in enumerate(random.permutation(count))
    ]
