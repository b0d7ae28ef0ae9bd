"""In what two photos differ, of which one lies on the other: nothing, colours, a place, a stamp."""

from typing import NamedTuple

import cv2
import numpy as np

from lookalike.copies.alignment import correlation, lay

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


def compare(photo, other):
    """Lay a photo on another and say in what they differ beyond light, white balance and sharpness.

    A copy differs nowhere. A variant differs in one place alone, a number, an amount, a print, or
    has the same shapes in other colours. Which colours a grey photo had, and what is under a stamp
    that is all over it, nobody can tell.
    """
    # Whichever is named first.
    photo, other = sorted((photo, other), key=_most_details)
    placed = lay(photo, other)
    if placed is None:
        return Comparison("")
    first, second, inside, n_matches = placed
    greys = [_blurred(_grey(side), 1.5)[inside] for side in (first, second)]
    alike = correlation(*greys)
    if alike < CORRELATED:
        return Comparison("", n_matches=n_matches)

    chroma = [_chroma(side, inside) for side in (first, second)]
    in_grey = min(chroma) < COLOURLESS <= max(chroma)
    if in_grey:
        first = np.dstack([_grey(first)] * 3)
        second = np.dstack([_grey(second)] * 3)
    # In both directions: where one is blown out, nothing of the other can be expected.
    ways = [
        _alike_but_for_things(first, second, inside),
        _alike_but_for_things(second, first, inside),
    ]
    shifts = [_unexpected(*way) * inside for way in ways]
    # A palette of few colours shifts whole areas; a number is lighter than what is around it.
    edges = [np.abs(shift - _blurred(shift, 4)) for shift in shifts]
    least = np.min(edges, axis=0) * inside
    places = cv2.blur(least, (5, 5))
    difference = float(places.max())
    colour = _colour_change(ways, inside)

    changed = np.abs(shifts).min(axis=0) > SAME
    same = 1 - changed.sum() / inside.sum()
    verdict = "variant"
    if difference <= MAX_DIFFERENCE:
        if in_grey:
            verdict = "copy in grey or variant"
        elif colour <= 1:
            verdict = "copy"
    elif same < ALL_BUT_A_PLACE:
        lighter = np.mean(shifts[0][changed] > 0)
        one_ink = not OTHER_INK < lighter < 1 - OTHER_INK
        if same >= UNDER_STAMP and one_ink:
            verdict = "stamped copy or variant"
        elif n_matches == 0 or alike < SAME_SHAPES:
            verdict = ""
    return Comparison(verdict, difference, colour, n_matches)


def _most_details(photo):
    return -len(photo.points), photo.pixels.sum()


def _chroma(pixels, inside):
    """How far the colours are from grey, on average."""
    colours = _lab(pixels)[inside][:, 1:]
    return np.linalg.norm(colours, axis=1).mean()


def _alike_but_for_things(photo, other, inside):
    """Both in CIELAB, the one in the light of the other, and equally sharp."""
    lit = in_same_light(photo, other, inside)
    return [_lab(side) for side in _equally_sharp(lit, other, inside)]


def _colour_change(ways, inside):
    """How far colours differ, where 1 is what compression and scaling explain."""
    change = 0.0
    for radius, (share, bound) in MAX_COLOURS.items():
        distances = []
        for one, two in ways:
            turned = (one - two)[..., 1:] * inside[..., None]
            turned = _blurred(turned, radius)
            distances.append(np.linalg.norm(turned, axis=2))
        distance = np.min(distances, axis=0)[inside]
        change = max(change, np.quantile(distance, share) / bound)
    return change


def in_same_light(photo, other, inside):
    """A photo as it would be in the light of another, float32 [height, width, 3]: a gain for each
    channel, within what white balance changes, and one offset, as three in four pixels say.
    """
    # Neither black nor blown out.
    seen = ((other > 6) & (other < 249)).all(axis=2)
    told = np.flatnonzero(inside & seen)
    # Some thousand pixels tell the light as well as all.
    told = told[:: len(told) // 4000 + 1]
    if len(told) < 100:
        return np.float32(photo)
    x = np.float64(photo.reshape(-1, 3)[told])
    y = np.float64(other.reshape(-1, 3)[told])
    own_gain = np.eye(3) * x[:, :, None]
    one_offset = np.ones((len(x), 3, 1))
    equations = np.concatenate([own_gain, one_offset], axis=2)
    kept = np.ones(len(x), bool)
    for _ in range(5):
        left = equations[kept].reshape(-1, 4)
        right = y[kept].ravel()
        *gains, offset = np.linalg.lstsq(left, right)[0]
        error = np.abs(x * gains + offset - y)
        error = error.max(axis=1)
        kept = error <= np.quantile(error, 0.75)
    usual = np.median(gains)
    gains = np.clip(gains, usual / WHITE_BALANCE, usual * WHITE_BALANCE)
    lit = photo * gains + offset
    return np.float32(lit.clip(0, 255))


def _equally_sharp(first, second, inside):
    """Both photos, the sharper one blurred until the edges of both are as strong."""
    sides = [_blurred(np.float32(side), 1) for side in (first, second)]
    for _ in range(8):
        edges = [cv2.Laplacian(_grey(side), cv2.CV_32F) for side in sides]
        strength = [edge[inside].std() for edge in edges]
        sharper = int(np.argmax(strength))
        if strength[sharper] <= 1.1 * strength[1 - sharper]:
            break
        sides[sharper] = _blurred(sides[sharper], 0.8)
    return sides


def _unexpected(expected, seen):
    """How much lighter each pixel is than what is expected within a pixel of it."""
    square = np.ones((3, 3))
    darkest = cv2.erode(expected[..., 0], square)
    lightest = cv2.dilate(expected[..., 0], square)
    lightness = seen[..., 0]
    return lightness - lightness.clip(darkest, lightest)


def _blurred(pixels, radius):
    """By a Gaussian of so many pixels."""
    return cv2.GaussianBlur(pixels, (0, 0), radius)


def _grey(pixels):
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)


def _lab(pixels):
    """0 to 255 in RGB as CIELAB: lightness 0 to 100, a*, b*."""
    return cv2.cvtColor(pixels / np.float32(255), cv2.COLOR_RGB2LAB)
