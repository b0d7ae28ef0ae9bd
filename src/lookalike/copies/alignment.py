"""Lay one photo on another by their details."""

from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from lookalike.images import as_image, decode, read_bytes

SIDE = 256  # pixels of the longer side, at which photos are compared
NEAREST = 0.8  # times the distance to the second nearest: a match must be nearer (Lowe's ratio)
# Matches that a placement needs, and how far from it they may lie, in pixels.
AGREEING = 6
PIXELS_OFF = 2.0
SMALLEST = 0.04  # of the area of the other; smaller, one photo would be a spot on it
ALIKE = 0.95  # correlation of two photos of 16 x 16 pixels that are laid from edge to edge
OVERLAP = 0.4  # of the smaller of the two, as they lie, must lie on the other at least
EDGE = 9  # pixels; half of them are left out along the edges of what is laid
# A mirrored photo has the keypoints of the photo, mirrored: of each descriptor's 4 x 4 cells the
# rows change places, and its 8 directions are counted the other way round.
PLACES = np.arange(128).reshape(4, 4, 8)
MIRRORED = PLACES[::-1, :, -np.arange(8)].ravel()


class Keypoints(NamedTuple):
    """What a photo is laid on others by: few `pixels`, `points` [n, 2] (x, y) in them, SIFT
    `descriptors` [n, 128].
    """

    pixels: np.ndarray
    points: np.ndarray
    descriptors: np.ndarray

    @property
    def mirrored(self):
        """Those of the mirror image."""
        pixels = np.ascontiguousarray(self.pixels[:, ::-1])
        points = self.points.copy()
        points[:, 0] = pixels.shape[1] - 1 - points[:, 0]
        return Keypoints(pixels, points, self.descriptors[:, MIRRORED])


class Overlap(NamedTuple):
    """Two photos in one frame: the `pixels` of one where it lies on the `other` [height, width, 3],
    `inside`, where both are, and `n_matches`, the details that say so; 0 if it was laid from edge
    to edge.
    """

    pixels: np.ndarray
    other: np.ndarray
    inside: np.ndarray
    n_matches: int


def detect_keypoints(photo):
    """The details of a photo: SIFT keypoints (Lowe, IJCV 2004), with the roots of their descriptors
    (Arandjelović and Zisserman, CVPR 2012).

    Parameters
    ----------
    photo
        A path, the bytes of a file, or uint8 pixels [height, width, 3]; `ImageError` or
        `ValueError` if it is none.
    """
    if isinstance(photo, np.ndarray):
        image = as_image(photo)
    else:
        image, *_ = decode(read_bytes(photo), photo, SIDE)
    longer = max(image.size)
    size = [max(1, round(side * SIDE / longer)) for side in image.size]
    pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    # The 400 strongest details, however faint. Precise, or those of a mirrored photo would lie half
    # a pixel aside.
    sift = cv2.SIFT_create(nfeatures=400, contrastThreshold=0.015, enable_precise_upscale=True)
    found, descriptors = sift.detectAndCompute(grey, None)
    if not found:
        return Keypoints(pixels, np.empty((0, 2)), np.empty((0, 128)))
    points = cv2.KeyPoint_convert(found)
    total = descriptors.sum(axis=1, keepdims=True)
    descriptors /= np.maximum(total, 1)
    return Keypoints(pixels, points, np.sqrt(descriptors))


def lay(photo, other):
    """Lay a photo, or its mirror image, on another; None where it does not fit.

    Details that match propose a turn, a scale and a shift, and the one that most of them agree with
    wins (RANSAC; Fischler and Bolles, CACM 1981). Where there are too few, the photo is laid on the
    other from edge to edge, if the two are alike in small.
    """
    sides = photo, photo.mirrored
    fits = [_fit_details(side, other) for side in sides]
    counts = [n_matches for _, n_matches in fits]
    best = int(np.argmax(counts))
    n_matches = counts[best]
    if n_matches < AGREEING:
        fits = [_fit_edges(side, other) for side in sides]
        likeness = [alike for _, alike in fits]
        best = int(np.argmax(likeness))
        n_matches = 0
        if likeness[best] < ALIKE:
            return None
    matrix, _ = fits[best]
    pixels = sides[best].pixels
    ground = other.pixels
    # What is enlarged would be less sharp: the larger one is laid on the smaller.
    if _times_the_area(matrix) > 1:
        pixels, ground = ground, pixels
        matrix = cv2.invertAffineTransform(matrix)
    size = ground.shape[1::-1]
    moved = cv2.warpAffine(pixels, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    whole = np.ones(pixels.shape[:2], np.uint8)
    inside = cv2.warpAffine(whole, matrix, size)
    inside = cv2.erode(inside, np.ones((EDGE, EDGE))) > 0
    smaller = min(_times_the_area(matrix) * whole.size, inside.size)
    if inside.sum() < OVERLAP * smaller:
        return None
    return Overlap(moved, ground, inside, n_matches)


def _fit_details(photo, other):
    """The turn, scale and shift that most matches of details agree with, and how many do."""
    nothing = None, 0
    if min(len(photo.points), len(other.points)) < 2:
        return nothing
    matches = cv2.BFMatcher().knnMatch(photo.descriptors, other.descriptors, k=2)
    good = []
    for first, second in matches:
        if first.distance < NEAREST * second.distance:
            good.append(first)
    if len(good) < AGREEING:
        return nothing
    source = photo.points[[match.queryIdx for match in good]]
    target = other.points[[match.trainIdx for match in good]]
    matrix, agreeing = cv2.estimateAffinePartial2D(
        source, target, ransacReprojThreshold=PIXELS_OFF, confidence=0.999
    )
    if matrix is None or _times_the_area(matrix) < SMALLEST:
        return nothing
    # Many matches with one spot are one match.
    spots = target[agreeing.ravel() > 0].round()
    return matrix, len(np.unique(spots, axis=0))


def _fit_edges(photo, other):
    """The scales that lay one photo on the other from edge to edge, and how alike they are."""
    height, width, _ = photo.pixels.shape
    other_height, other_width, _ = other.pixels.shape
    scale = np.array([other_width / width, other_height / height])
    matrix = np.column_stack([np.diag(scale), (scale - 1) / 2])
    return matrix, correlation(_in_small(photo), _in_small(other))


def _in_small(photo):
    return cv2.resize(photo.pixels, (16, 16), interpolation=cv2.INTER_AREA)


def _times_the_area(matrix):
    return np.linalg.det(matrix[:, :2])


def correlation(first, other):
    """Pearson's, of two arrays of one size, in [-1, 1]; 0 if one of them has a single value."""
    with np.errstate(invalid="ignore"):
        matrix = np.corrcoef(first.ravel(), other.ravel())
    return np.nan_to_num(matrix[0, 1])
