"""In what two photos differ, of which one lies on the other: nothing, colours, a place, a stamp."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from lookalike.copies.alignment import Keypoints, correlation, lay

# Bounds, as benchmarks/copies.py measures them on copies and on variants.
MAX_DIFFERENCE = 3.5  # steps of lightness, of 100
# Distance of a* and b*: of 95 % of what is blurred by 12 pixels, of 99 % of what is by 4.
MAX_COLOURS = {12: (0.95, 3.6), 4: (0.99, 10.0)}
CORRELATED = 0.75  # greys of two photos; below, nothing more is measured
SAME_SHAPES = 0.97  # greys of one thing in two colours
SAME = 3.0  # steps of lightness that do not count
ALL_BUT_A_PLACE = 0.95  # of the pixels are the same
# A stamp has one ink, and leaves most pixels as they are.
OTHER_INK = 0.05
UNDER_STAMP = 0.8
COLOURLESS = 1.0  # mean distance from grey
WHITE_BALANCE = 1.25  # how far it moves one channel against another


class Comparison(NamedTuple):
    """How two photos differ. `verdict` is "copy", "variant", "copy in grey or variant", "stamped
    copy or variant", or "" for different photos.

    difference : in lightness, of 100, at the place where it is largest
    colour : 1 is what compression and scaling explain
    n_matches : details that say how one lies on the other
    """

    verdict: str
    difference: float = np.inf
    colour: float = np.inf
    n_matches: int = 0


def compare(photo: Keypoints, other: Keypoints) -> Comparison:
    """Lay a photo on another and say in what they differ beyond light, white balance and sharpness.

    A copy differs nowhere. A variant differs in one place alone, a number, an amount, a print, or
    has the same shapes in other colours. Which colours a grey photo had, and what is under a stamp
    that is all over it, nobody can tell.
    """
    # Whichever is named first.
    photo, other = sorted((photo, other), key=lambda side: (-len(side.points), side.pixels.sum()))
    placed = lay(photo, other)
    if placed is None:
        return Comparison("")
    first, second, inside, n_matches = placed
    greys = [blurred(grey(side), 1.5)[inside] for side in (first, second)]
    alike = correlation(*greys)
    if alike < CORRELATED:
        return Comparison("", n_matches=n_matches)

    colours = [np.linalg.norm(lab(side)[inside][:, 1:], axis=1) for side in (first, second)]
    chroma = np.mean(colours, axis=1)
    in_grey = chroma.min() < COLOURLESS <= chroma.max()
    if in_grey:
        first, second = (np.dstack([grey(side)] * 3) for side in (first, second))
    # In both directions: where one is blown out, nothing of the other can be expected.
    ways = [
        [lab(side) for side in _equally_sharp(in_same_light(one, two, inside), two, inside)]
        for one, two in ((first, second), (second, first))
    ]
    shifts = [_unexpected(*way) * inside for way in ways]
    # A palette of few colours shifts whole areas; a number is lighter than what is around it.
    edges = [np.abs(shift - blurred(shift, 4)) for shift in shifts]
    difference = cv2.blur(np.min(edges, axis=0) * inside, (5, 5)).max()
    colour = 0.0
    for radius, (share, bound) in MAX_COLOURS.items():
        turned = [blurred((one - two)[..., 1:] * inside[..., None], radius) for one, two in ways]
        distance = np.linalg.norm(turned, axis=3).min(axis=0)[inside]
        colour = max(colour, np.quantile(distance, share) / bound)

    changed = np.abs(shifts).min(axis=0) > SAME
    same = 1 - changed.sum() / inside.sum()
    lighter = (shifts[0][changed] > 0).sum() / max(changed.sum(), 1)
    if difference <= MAX_DIFFERENCE:
        verdict = "copy in grey or variant" if in_grey else "copy" if colour <= 1 else "variant"
    elif same >= ALL_BUT_A_PLACE:
        verdict = "variant"
    elif same >= UNDER_STAMP and not OTHER_INK < lighter < 1 - OTHER_INK:
        verdict = "stamped copy or variant"
    else:
        verdict = "variant" if n_matches and alike >= SAME_SHAPES else ""
    return Comparison(verdict, float(difference), float(colour), n_matches)


def in_same_light(photo: np.ndarray, other: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """A photo as it would be in the light of another, float32 [height, width, 3]: a gain for each
    channel, within what white balance changes, and one offset, as three in four pixels say.
    """
    told = np.flatnonzero(inside & ((other > 6) & (other < 249)).all(axis=2))
    # Some thousand pixels tell the light as well as all.
    told = told[:: len(told) // 4000 + 1]
    x, y = (np.float64(side.reshape(-1, 3)[told]) for side in (photo, other))
    if len(x) < 100:
        return np.float32(photo)
    equations = np.concatenate([np.eye(3) * x[:, :, None], np.ones((len(x), 3, 1))], axis=2)
    kept = np.ones(len(x), bool)
    for _ in range(5):
        left, right = equations[kept].reshape(-1, 4), y[kept].ravel()
        *gains, offset = np.linalg.lstsq(left, right)[0]
        error = np.abs(x * gains + offset - y).max(axis=1)
        kept = error <= np.quantile(error, 0.75)
    usual = np.median(gains)
    gains = np.clip(gains, usual / WHITE_BALANCE, usual * WHITE_BALANCE)
    return np.float32((photo * gains + offset).clip(0, 255))


def _equally_sharp(first, second, inside):
    """Both photos, the sharper one blurred until the edges of both are as strong."""
    sides = [blurred(np.float32(side), 1) for side in (first, second)]
    for _ in range(8):
        strength = [cv2.Laplacian(grey(side), cv2.CV_32F)[inside].std() for side in sides]
        sharper = int(np.argmax(strength))
        if strength[sharper] <= 1.1 * strength[1 - sharper]:
            break
        sides[sharper] = blurred(sides[sharper], 0.8)
    return sides


def _unexpected(expected, seen):
    """How much lighter each pixel is than what is expected within a pixel of it."""
    expected, seen, square = expected[..., 0], seen[..., 0], np.ones((3, 3))
    return seen - seen.clip(cv2.erode(expected, square), cv2.dilate(expected, square))


def blurred(pixels: np.ndarray, radius: float) -> np.ndarray:
    """Blurred by a Gaussian of so many pixels."""
    return cv2.GaussianBlur(pixels, (0, 0), radius)


def grey(pixels: np.ndarray) -> np.ndarray:
    """Without colours, [height, width]."""
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)


def lab(pixels: np.ndarray) -> np.ndarray:
    """0 to 255 in RGB as CIELAB: lightness 0 to 100, a*, b*."""
    return cv2.cvtColor(pixels / np.float32(255), cv2.COLOR_RGB2LAB)
