"""Lay one photo on another by their details."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from lookalike.images import File, as_image, decode, read_bytes

SIDE = 256  # pixels of the longer side, at which photos are compared
NEAREST = 0.8  # times the distance to the second nearest: a match must be nearer (Lowe's ratio)
# Matches that a placement needs, and how far from it they may lie, in pixels.
AGREEING = 6
PIXELS_OFF = 2.0
ALIKE = 0.95  # correlation of two photos of 16 x 16 pixels that are laid from edge to edge
OVERLAP = 0.4  # of the smaller of the two, as they lie, must lie on the other at least
EDGE = 9  # pixels; half of them are left out along the edges of what is laid
# A mirrored photo has the keypoints of the photo, mirrored: of each descriptor's 4 x 4 cells the
# rows change places, and its 8 directions are counted the other way round.
MIRRORED = np.arange(128).reshape(4, 4, 8)[::-1][:, :, -np.arange(8) % 8].ravel()


class Keypoints(NamedTuple):
    """What a photo is laid on others by: few `pixels`, `points` [n, 2] (x, y) in them, SIFT
    `descriptors` [n, 128].
    """

    pixels: np.ndarray
    points: np.ndarray
    descriptors: np.ndarray

    @property
    def mirrored(self) -> Keypoints:
        """Those of the mirror image."""
        points = [self.pixels.shape[1] - 1, 0] + self.points * [-1, 1]
        pixels = np.ascontiguousarray(self.pixels[:, ::-1])
        return Keypoints(pixels, np.float32(points), self.descriptors[:, MIRRORED])


class Overlap(NamedTuple):
    """Two photos in one frame: the `pixels` of one where it lies on the `other` [height, width, 3],
    `inside`, where both are, and `n_matches`, the details that say so; 0 if it was laid from edge
    to edge.
    """

    pixels: np.ndarray
    other: np.ndarray
    inside: np.ndarray
    n_matches: int


def detect_keypoints(photo: File | np.ndarray) -> Keypoints:
    """The details of a photo: SIFT keypoints (Lowe, IJCV 2004), with the roots of their descriptors
    (Arandjelović and Zisserman, CVPR 2012).

    Parameters
    ----------
    photo
        A path, the bytes of a file, or uint8 pixels [height, width, 3]; `ImageError` or
        `ValueError` if it is none.
    """
    is_array = isinstance(photo, np.ndarray)
    image = as_image(photo) if is_array else decode(read_bytes(photo), photo, SIDE)[0]
    size = [max(1, round(side * SIDE / max(image.size))) for side in image.size]
    pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    # The 400 strongest details, however faint. Precise, or those of a mirrored photo would lie half
    # a pixel aside.
    sift = cv2.SIFT_create(nfeatures=400, contrastThreshold=0.015, enable_precise_upscale=True)
    found, descriptors = sift.detectAndCompute(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), None)
    points = np.float32(cv2.KeyPoint_convert(found)).reshape(-1, 2)
    if descriptors is None:
        descriptors = np.empty((0, 128), np.float32)
    total = np.maximum(descriptors.sum(axis=1, keepdims=True), 1)
    return Keypoints(pixels, points, np.sqrt(descriptors / total))


def lay(photo: Keypoints, other: Keypoints) -> Overlap | None:
    """Lay a photo, or its mirror image, on another; None where it does not fit.

    Details that match propose a turn, a scale and a shift, and the one that most of them agree with
    wins (RANSAC; Fischler and Bolles, CACM 1981). Where there are too few, the photo is laid on the
    other from edge to edge, if the two are alike in small.
    """
    sides = photo, photo.mirrored
    fits = [_fit(side, other) for side in sides]
    best = int(np.argmax([n_matches for _, n_matches in fits]))
    matrix, n_matches = fits[best]
    if n_matches < AGREEING:
        small, *others = (
            cv2.resize(side.pixels, (16, 16), interpolation=cv2.INTER_AREA)
            for side in (other, *sides)
        )
        alike = [correlation(side, small) for side in others]
        best, n_matches = int(np.argmax(alike)), 0
        if alike[best] < ALIKE:
            return None
        scale = np.divide(other.pixels.shape[1::-1], photo.pixels.shape[1::-1])
        matrix = np.column_stack([np.diag(scale), (scale - 1) / 2])
    pixels = sides[best].pixels
    ground = other.pixels
    # What is enlarged would be less sharp: the larger one is laid on the smaller.
    if np.linalg.det(matrix[:, :2]) > 1:
        pixels, ground, matrix = ground, pixels, cv2.invertAffineTransform(matrix)
    size = ground.shape[1::-1]
    moved = cv2.warpAffine(pixels, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones(pixels.shape[:2], np.uint8), matrix, size)
    inside = cv2.erode(inside, np.ones((EDGE, EDGE))) > 0
    area = min(np.linalg.det(matrix[:, :2]) * pixels[..., 0].size, inside.size)
    if inside.sum() < max(OVERLAP * area, EDGE**2):
        return None
    return Overlap(moved, ground, inside, n_matches)


def _fit(photo, other):
    """The turn, scale and shift that most matches of details agree with, and how many do."""
    if min(len(photo.points), len(other.points)) < 2:
        return None, 0
    matches = cv2.BFMatcher().knnMatch(photo.descriptors, other.descriptors, k=2)
    good = [first for first, second in matches if first.distance < NEAREST * second.distance]
    if len(good) < AGREEING:
        return None, 0
    source = photo.points[[match.queryIdx for match in good]]
    target = other.points[[match.trainIdx for match in good]]
    matrix, agreeing = cv2.estimateAffinePartial2D(
        source, target, ransacReprojThreshold=PIXELS_OFF, confidence=0.999
    )
    # Smaller, one photo would be a spot on the other.
    if matrix is None or np.linalg.det(matrix[:, :2]) < 0.04:
        return None, 0
    # Many matches with one spot are one match.
    return matrix, len(np.unique(target[agreeing.ravel() > 0].round(), axis=0))


def correlation(first: np.ndarray, other: np.ndarray) -> float:
    """Pearson's, of two arrays of one size, in [-1, 1]; 0 if one of them has a single value."""
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.corrcoef(first.ravel(), other.ravel())[0, 1])
