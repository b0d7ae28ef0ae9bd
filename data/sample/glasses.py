"""Glasses: thick coloured frames with clear or tinted lenses."""

import numpy as np

from painting import DIAL, ENAMEL, METAL, METALS, Material, Pose, linear, surface
from solids import Sheet, ball, grid, profile, smooth, stack, tube

POSES = [
    Pose("front", "floor", (0.70, 0.88), 0.01, elevation=(8, 22), yaw=(-18, 18)),
    Pose("corner", "floor", (0.70, 0.88), 0.01, elevation=(14, 34), yaw=(-52, 52)),
    Pose("above", "desk", (0.68, 0.86), 0.25, elevation=(40, 65), yaw=(-35, 35)),
]
LENS = Material(0.7, 60, 0.28, 0.0)
OUTLINES = {
    "round": [
        (0.0, 0.36),
        (0.26, 0.26),
        (0.37, 0.0),
        (0.26, -0.27),
        (0.0, -0.37),
        (-0.26, -0.27),
        (-0.37, 0.0),
        (-0.26, 0.26),
    ],
    "rectangular": [
        (0.0, 0.25),
        (0.30, 0.26),
        (0.41, 0.20),
        (0.41, 0.0),
        (0.36, -0.20),
        (0.25, -0.26),
        (0.0, -0.26),
        (-0.27, -0.25),
        (-0.37, -0.18),
        (-0.40, 0.0),
        (-0.39, 0.19),
        (-0.30, 0.24),
    ],
    "aviator": [
        (0.0, 0.28),
        (0.28, 0.29),
        (0.42, 0.20),
        (0.42, 0.0),
        (0.32, -0.24),
        (0.12, -0.38),
        (-0.10, -0.36),
        (-0.27, -0.20),
        (-0.36, 0.02),
        (-0.36, 0.20),
        (-0.25, 0.28),
    ],
}


def lens_outline(shape, side, tall, wide):
    """The closed edge of one lens in the frame's plane, as seen from the front."""
    points, steps = OUTLINES[shape], 80
    around = smooth([*points[-2:], *points, *points[:3]], (len(points) + 4) * steps + 1)
    closed = around[2 * steps : (len(points) + 2) * steps + 1]
    return closed * (side * wide, tall) + (side * 0.53, 0.42)


def curved(x, y):
    """A point of the front, bent round the face and leaning a little."""
    return stack(x, y, -0.10 * np.square(x) - 0.10 * y)


def patterned_tube(path, width, depth, coat, plane, up=(0, 1, 0)):
    """A rod whose pattern lies in the plane of the two given axes."""
    rod = tube(path, width, depth, np.zeros(3), ENAMEL, up=up, around=72)
    return rod._replace(colour=coat(rod.points[..., plane[0]], rod.points[..., plane[1]]))


def build(product, random, view, pose):
    """One pair with open temples, standing on the rims and the temples' ends."""
    coat = surface(product, random, 0.12)
    tall, wide, rim = (
        random.uniform(0.9, 1.1),
        random.uniform(0.94, 1.06),
        random.uniform(0.062, 0.085),
    )
    metal = linear(METALS[random.integers(len(METALS))])
    tints = linear([(30, 32, 34), (64, 48, 36), (40, 56, 50), (200, 208, 212), (206, 208, 206)])
    place = int(random.integers(len(tints)))
    tint, opacity = tints[place], 0.22 if place > 2 else random.uniform(0.72, 0.88)
    fade = random.uniform(0.0, 0.6)
    sheets = []
    for side in (-1, 1):
        edge = lens_outline(product.shape, side, tall, wide)
        path = curved(edge[:, 0], edge[:, 1])
        sheets.append(patterned_tube(path, rim, 0.035, coat, (0, 1), up=(0, 0, 1)))
        inward, _ = grid(160, len(edge), (0.0, 0.0), (1.0, 1.0))
        middle = edge.mean(0)
        flat = middle + (edge - middle) * inward[..., None]
        lens = curved(flat[..., 0], flat[..., 1]) + stack(0.0, 0.0, 0.05 * (1 - inward**2))
        light = 1 + fade * (0.4 - (flat[..., 1] - middle[1])) * (place < 3)
        sheets.append(Sheet(lens, tint * light[..., None], LENS, 0.0, opacity))
        corner = np.array((side * (0.53 + 0.42 * wide), 0.42 + 0.17 * tall))
        front = curved(*corner)
        length, drop = 1.75, 0.30
        temple = [
            front + (0, 0, 0.02),
            front + (side * 0.05, 0.0, -0.10),
            front + (side * 0.03, 0.0, -0.7),
            front + (-side * 0.01, -0.02, -length * 0.78),
            front + (-side * 0.03, -0.12, -length * 0.9),
            front + (-side * 0.06, -drop, -length),
        ]
        line = smooth(temple, 560)
        broad = profile(
            [(0, 0.085), (0.2, 0.07), (0.7, 0.055), (0.85, 0.06), (1, 0.05)], np.linspace(0, 1, 560)
        )
        sheets.append(patterned_tube(line, broad, 0.024, coat, (2, 1)))
        sheets.append(ball(line[-1], (0.024, 0.05, 0.03), coat.main, ENAMEL))
        sheets.append(ball(front + (0, 0, 0.035), (0.018, 0.012, 0.012), metal, METAL))
        pad = curved(side * 0.13, 0.30) + (0, 0, -0.07)
        sheets.append(ball(pad, (0.03, 0.07, 0.03), coat.main * 0.9, DIAL))
    high = 0.42 + (0.10 if product.shape != "aviator" else 0.0) * tall
    bridge = [
        curved(x, high + y)
        for x, y in ((-0.20, -0.03), (-0.1, 0.03), (0, 0.05), (0.1, 0.03), (0.20, -0.03))
    ]
    sheets.append(patterned_tube(smooth(bridge, 300), rim * 0.85, 0.035, coat, (0, 1)))
    if product.shape == "aviator":
        bar = [curved(x, 0.42 + 0.27 * tall) for x in (-0.36, -0.15, 0.15, 0.36)]
        sheets.append(patterned_tube(smooth(bar, 300), rim * 0.6, 0.03, coat, (0, 1)))
    low = min(float(sheet.points[..., 1].min()) for sheet in sheets)
    return [sheet._replace(points=sheet.points - (0, low, 0)) for sheet in sheets]
