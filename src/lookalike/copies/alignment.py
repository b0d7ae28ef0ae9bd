"""Whether one photo is a copy of another: lay it on the other by their details, and compare."""

from __future__ import annotations

import os
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from lookalike.images import as_image, decode, read_bytes

# Pixels of the longer side, at which details are looked for, and photos compared.
FINE = 256
COARSE = 192
# How many are kept, the strongest, and the contrast that each must have.
KEYPOINTS = 400
CONTRAST = 0.015
ROOT = 512  # the length of a descriptor: its 128 numbers fit into bytes then
NEAREST = 0.8  # times the distance to the second nearest: a match must be nearer (Lowe's ratio)
# matches that a placement needs, and how far from it they may lie
AGREEING = 6
PIXELS_OFF = 1.5
LARGEST_SCALE = 5.0  # beyond, one photo would be a spot on the other
OVERLAP = 0.4  # of the smaller of the two, as they lie, must lie on the other at least
# Pixels; the last is the width of a neighbourhood, an eighth of the photo.
BLUR = 1.125
EDGE = 5
WINDOW = 25
# grey levels of spread; distance from grey in CIELAB
CONTRASTY = 8.0
COLOURED = 6.0
# what compression adds to a photo, about two grey levels, squared: it counts as agreement of
# neither
NOISE = 4.0
WORST = 5  # percent of the neighbourhoods

# A mirrored photo has the keypoints of the photo, mirrored: of each descriptor's 4 x 4 cells the
# rows change places, and its 8 directions are counted the other way round.
MIRRORED = np.arange(128).reshape(4, 4, 8)[::-1][:, :, -np.arange(8) % 8].ravel()


@dataclass(frozen=True, eq=False)
class Keypoints:
    """What a photo is laid on others by: few `pixels`, `points` [n, 2] (x, y) in them, SIFT
    `descriptors` [n, 128].
    """

    pixels: np.ndarray
    points: np.ndarray
    descriptors: np.ndarray


@dataclass(frozen=True, eq=False)
class Alignment:
    """Where one photo lies on another, and how well they agree there.

    `matrix` [2, 3] takes x, y of the first (mirrored, if `mirrored`) to those of the other, in
    their `Keypoints`; `n_agreeing` matches of details say so, 0 if it was only tried. `agreement`
    is in [-1, 1].
    """

    matrix: np.ndarray
    mirrored: bool
    n_agreeing: int
    agreement: float


def detect_keypoints(photo: str | os.PathLike | np.ndarray) -> Keypoints:
    """The details of a photo: SIFT keypoints (Lowe, IJCV 2004).

    Parameters
    ----------
    photo
        A path, or uint8 pixels [height, width, 3].

    Raises
    ------
    ImageError
        If a file cannot be read as an image.
    ValueError
        If pixels are not uint8 [height, width, 3], or there are none.
    """
    is_array = isinstance(photo, np.ndarray)
    image = as_image(photo) if is_array else decode(read_bytes(photo), photo, FINE)[0]
    fine, coarse = (_sized(image, side) for side in (FINE, COARSE))
    # OpenCV's objects are not for several threads at once, and cost nothing to make. Precise, or
    # all keypoints would lie a quarter of a pixel aside, and twice that where one photo is
    # mirrored.
    sift = cv2.SIFT_create(
        nfeatures=KEYPOINTS, contrastThreshold=CONTRAST, enable_precise_upscale=True
    )
    keypoints, descriptors = sift.detectAndCompute(cv2.cvtColor(fine, cv2.COLOR_RGB2GRAY), None)
    points = np.array([keypoint.pt for keypoint in keypoints]).reshape(-1, 2)
    points = (points + 0.5) * (np.array(coarse.shape[1::-1]) / fine.shape[1::-1]) - 0.5
    descriptors = np.empty((0, 128), np.float32) if descriptors is None else descriptors
    # The root of a descriptor tells more (Arandjelović and Zisserman, CVPR 2012), and has length 1
    # if its sum is 1.
    root = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1))
    return Keypoints(
        coarse, points.astype(np.float32), (ROOT * root).round().clip(0, 255).astype(np.uint8)
    )


def _sized(image: Image.Image, side: int) -> np.ndarray:
    size = [max(1, round(length * side / max(image.size))) for length in image.size]
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def align(photo: Keypoints, other: Keypoints) -> Alignment:
    """Find where a photo lies on another, if it shows the same picture, and how well the two agree.

    Keypoints of both that match propose a turn, a scale and a shift (RANSAC; Fischler and Bolles,
    CACM 1981), of the photo and of its mirror image; the one that most matches agree with is taken.
    Where there are too few, the photo is laid on the other from edge to edge, mirrored if it is
    more alike so.

    Then the two are compared as if there were no difference in brightness and contrast. `agreement`
    is the mean of two correlations of their greys: over the whole overlap, and in the
    neighbourhoods that agree least, an eighth of the photo wide (the fifth percentile of those that
    have any contrast). So another print on the same shirt, or another shirt on the same floor, does
    not pass. If both have colours all over, it is at most the cosine of these (a* and b* of
    CIELAB); a thin thing of another colour on grey ground can pass. It is -1 if too little of the
    two overlaps.
    """
    mirror = Keypoints(
        np.ascontiguousarray(photo.pixels[:, ::-1]),
        np.array([photo.pixels.shape[1] - 1, 0], np.float32)
        + photo.points * np.array([-1, 1], np.float32),
        photo.descriptors[:, MIRRORED],
    )
    sides = ((photo, False), (mirror, True))
    found = [(*_fit(side, other), mirrored) for side, mirrored in sides]
    matrix, n_agreeing, mirrored = max(found, key=lambda fit: fit[1])
    if n_agreeing < AGREEING:
        height, width = photo.pixels.shape[:2]
        scale = np.array([other.pixels.shape[1] / width, other.pixels.shape[0] / height])
        matrix = np.column_stack([np.diag(scale), (scale - 1) / 2])
        n_agreeing = 0
        mirrored = _alike_in_small(mirror.pixels, other.pixels) > _alike_in_small(
            photo.pixels, other.pixels
        )
    pixels = (mirror if mirrored else photo).pixels
    # Enlarged, it would be less sharp than the other: compared in its own frame.
    if np.linalg.det(matrix[:, :2]) > 1:
        agreement = _agreement(other.pixels, pixels, cv2.invertAffineTransform(matrix))
    else:
        agreement = _agreement(pixels, other.pixels, matrix)
    return Alignment(matrix, mirrored, n_agreeing, agreement)


def agreement_of(first: Keypoints, other: Keypoints) -> float:
    """The agreement of two photos, whichever is named first: that with more details is laid on the
    other.
    """
    photo, ground = sorted(
        (first, other), key=lambda details: (-len(details.points), details.pixels.tobytes())
    )
    return align(photo, ground).agreement


def warp(photo: Keypoints, other: Keypoints, placement: Alignment) -> np.ndarray:
    """A photo where it lies on another, in the other's frame, the other pale around it: uint8
    [height, width, 3].
    """
    pixels = np.ascontiguousarray(photo.pixels[:, ::-1]) if placement.mirrored else photo.pixels
    pale = 255 - (255 - other.pixels) // 4
    size = other.pixels.shape[1::-1]
    return cv2.warpAffine(
        pixels, placement.matrix, size, dst=pale.copy(), borderMode=cv2.BORDER_TRANSPARENT
    )


def _fit(photo: Keypoints, other: Keypoints) -> tuple[np.ndarray, int]:
    """The turn, scale and shift that most matches agree with, and their number; 0 if none is."""
    if len(photo.points) < 2 or len(other.points) < 2:
        return np.eye(2, 3), 0
    product = (
        photo.descriptors.astype(np.float32) @ other.descriptors.astype(np.float32).T / ROOT**2
    )
    everyone = np.arange(len(product))
    nearest = product.argmax(axis=1)
    distances = 2 - 2 * product[everyone, nearest]
    product[everyone, nearest] = -1
    rows = np.flatnonzero(distances < NEAREST**2 * (2 - 2 * product.max(axis=1)))
    if len(rows) < AGREEING:
        return np.eye(2, 3), 0
    source = photo.points[rows]
    target = other.points[nearest[rows]]
    matrix, agreeing = cv2.estimateAffinePartial2D(
        source,
        target,
        method=cv2.RANSAC,
        ransacReprojThreshold=PIXELS_OFF,
        maxIters=1000,
        confidence=0.999,
    )
    if matrix is None or not 1 / LARGEST_SCALE < np.hypot(*matrix[:, 0]) < LARGEST_SCALE:
        return np.eye(2, 3), 0
    # Many matches with one spot are one match.
    used = agreeing.ravel() > 0
    return matrix, min(len(np.unique(side[used].round(), axis=0)) for side in (source, target))


def _agreement(photo: np.ndarray, other: np.ndarray, matrix: np.ndarray) -> float:
    """How well a photo, laid on another by `matrix`, agrees with it; see `align`."""
    height, width = other.shape[:2]
    moved = cv2.warpAffine(photo, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.full(photo.shape[:2], 255, np.uint8), matrix, (width, height))
    inside = cv2.erode(inside, np.ones((EDGE, EDGE))) == 255
    area = abs(np.linalg.det(matrix[:, :2])) * photo.shape[0] * photo.shape[1]
    if inside.sum() < OVERLAP * min(area, inside.size) or inside.sum() < WINDOW:
        return -1.0
    greys = [cv2.cvtColor(side, cv2.COLOR_RGB2GRAY).astype(np.float32) for side in (moved, other)]
    first, second = (cv2.GaussianBlur(grey, (0, 0), BLUR) for grey in greys)
    covariance = np.cov(first[inside], second[inside], bias=True)
    whole = covariance[0, 1] / np.sqrt(np.prod(covariance.diagonal() + NOISE))
    agreement = (whole + _worst(first, second, inside)) / 2
    colours = [
        cv2.cvtColor(side, cv2.COLOR_RGB2LAB)[inside][:, 1:].astype(np.float32) - 128
        for side in (moved, other)
    ]
    if all(np.sqrt((side**2).sum(axis=1).mean()) > COLOURED for side in colours):
        agreement = min(agreement, _cosine(*colours))
    return float(agreement)


def _worst(first: np.ndarray, second: np.ndarray, inside: np.ndarray) -> float:
    """The correlation of greys in the neighbourhoods, around each pixel, where it is least; 1 if
    all are flat.
    """
    weight = inside.astype(np.float32)
    count = cv2.boxFilter(weight, -1, (WINDOW, WINDOW), borderType=cv2.BORDER_CONSTANT)

    def mean(values: np.ndarray) -> np.ndarray:
        total = cv2.boxFilter(values * weight, -1, (WINDOW, WINDOW), borderType=cv2.BORDER_CONSTANT)
        return total / np.maximum(count, 1e-6)

    means = mean(first), mean(second)
    spreads = [
        mean(side * side) - average**2 for side, average in zip((first, second), means, strict=True)
    ]
    together = mean(first * second) - means[0] * means[1]
    contrasty = inside & (count > 0.3) & (np.maximum(*spreads) > CONTRASTY**2)
    if not contrasty.any():
        return 1.0
    around = np.sqrt((spreads[0].clip(0) + NOISE) * (spreads[1].clip(0) + NOISE))
    return float(np.percentile((together / around)[contrasty], WORST))


def _alike_in_small(first: np.ndarray, second: np.ndarray) -> float:
    """The correlation of two photos of 16 x 16 pixels."""
    small = (
        cv2.resize(side, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32)
        for side in (first, second)
    )
    return _cosine(*(side - side.mean() for side in small))


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    """The cosine of two arrays as vectors; 0 if one of them is zero."""
    length = np.sqrt((first.astype(np.float64) ** 2).sum() * (second.astype(np.float64) ** 2).sum())
    return float((first * second).sum(dtype=np.float64) / length) if length else 0.0
