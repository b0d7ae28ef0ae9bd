"""Hats: caps, brimmed hats and beanies."""

import numpy as np

from painting import CLOTH, DARK, Pose, noise, surface
from solids import Sheet, arc_length, ball, grid, plain, smooth, stack, tube, wrinkles

POSES = [
    Pose("front", "floor", (0.62, 0.80), 0.02, elevation=(10, 26), yaw=(-125, -55)),
    Pose("corner", "floor", (0.62, 0.80), 0.02, elevation=(14, 34), yaw=(-75, 20), mirror=True),
    Pose("side", "floor", (0.62, 0.80), 0.02, elevation=(8, 20), yaw=(-20, 20), mirror=True),
    Pose("above", "table", (0.64, 0.82), 0.3, elevation=(55, 85), yaw=(-180, 180)),
]


def lathe(outline, squash, rows=320, columns=860):
    """Angle and points of an outline (radius, height) turned about the upright axis; the seam is at
    the back.
    """
    angle, _ = grid(columns, rows, (-np.pi, 0.0), (np.pi, 1.0))
    curve = smooth(outline, rows)
    points = stack(curve[:, 0] * np.cos(angle), curve[:, 1], squash * curve[:, 0] * np.sin(angle))
    return angle, points


def build_cap(cloth, random):
    """Six sewn panels, a button and a stitched visor to the right (x)."""
    tall, flat = random.uniform(0.52, 0.66), random.uniform(0.8, 1.0)
    outline = [
        (0.60, 0.0),
        (0.61, 0.12),
        (0.58, 0.6 * tall),
        (0.42 * flat, 0.9 * tall),
        (0.2, tall),
        (0.001, tall + 0.01),
    ]
    angle, points = lathe(outline, 0.88)
    points[..., 0] += 0.05 * points[..., 1] * np.cos(angle)
    rise = arc_length(points, 1)
    radius = np.hypot(points[..., 0], points[..., 2] / 0.88)
    panel = np.floor(angle / (np.pi / 3))
    local = angle - (panel + 0.5) * np.pi / 3
    colour = cloth(radius * np.sin(local) + 0.37 * panel, rise)
    gap = radius * (np.pi / 6 - np.abs(local))
    seam = np.exp(-((gap / 0.010) ** 2))
    sewn = np.exp(-(((gap - 0.028) / 0.005) ** 2)) * (rise / 0.03 % 1 < 0.6)
    colour = colour * (1 - 0.4 * seam - 0.2 * sewn)[..., None]
    used = wrinkles(random, 4, 0.014)
    sheets = [Sheet(points, colour, CLOTH, used(angle * 0.6, rise) - 0.010 * seam)]
    sheets.append(plain(points[::3, ::3] * np.float32(0.96), cloth.main * 0.35, CLOTH))
    sheets.append(ball((0, tall + 0.01, 0), (0.04, 0.025, 0.04), cloth.main * 0.9, CLOTH))
    bend, reach, drop = (
        random.uniform(0.10, 0.35),
        random.uniform(0.44, 0.56),
        random.uniform(0.02, 0.10),
    )
    spread, out = grid(560, 300, (-1.25, 0.0), (1.25, 1.0))
    length = reach * np.cos(spread * 1.25) ** 0.7
    x, z = 0.57 * np.cos(spread) + length * out, 0.55 * np.sin(spread) * (1 + 0.06 * out)
    visor = stack(x, 0.05 - bend * z**2 * 2 * (0.3 + 0.7 * out) - drop * out**2, z)
    look = (
        cloth
        if random.random() < 0.5
        else (lambda u, v: np.broadcast_to(cloth.main * 0.85, (*u.shape, 3)))
    )
    rows = np.exp(-(((length * out / 0.055 % 1 - 0.5) / 0.10) ** 2))
    sheets.append(Sheet(visor, look(x, z) * (1 - 0.18 * rows)[..., None], CLOTH, -0.004 * rows))
    sheets.append(tube(visor[:, -1], 0.014, 0.014, cloth.main * 0.8, CLOTH))
    sheets.append(plain(visor[::2, ::2] - (0, 0.02, 0), cloth.main * 0.5, CLOTH))
    return sheets


def build_brimmed(cloth, random):
    """A crown with a pinch or a flat top, a wavy brim and, on some, a ribbon."""
    tall, top, wide = (
        random.uniform(0.40, 0.56),
        random.uniform(0.36, 0.48),
        random.uniform(0.86, 1.12),
    )
    slope, pinch = random.uniform(-0.20, 0.10), random.choice([0.0, 0.12, 0.16])
    outline = [
        (0.54, 0.0),
        (0.52, 0.15),
        (top + 0.02, tall * 0.86),
        (top - 0.06, tall),
        (0.2, tall + 0.01),
        (0.001, tall),
    ]
    angle, points = lathe(outline, 0.84)
    rise = arc_length(points, 1)
    high = np.clip((points[..., 1] / tall - 0.45) / 0.55, 0, 1) ** 2
    valley = np.exp(-((points[..., 2] / 0.13) ** 2)) - 0.35 * np.exp(
        -(((np.abs(points[..., 2]) - 0.24) / 0.12) ** 2)
    )
    points[..., 1] -= pinch * high * valley
    flat = points[..., 1] > tall * 0.9
    colour = np.where(
        flat[..., None], cloth(points[..., 0], points[..., 2]), cloth(angle * 0.5, rise)
    )
    ribbon = random.random() < 0.6
    used = wrinkles(random, 4, 0.010)(angle * 0.5, rise)
    if ribbon:
        tint = (
            cloth.second
            if random.random() < 0.5
            else DARK
            if cloth.main.mean() > 0.1
            else cloth.main * 3
        )
        band = 1 / (1 + np.exp(np.clip((rise - random.uniform(0.10, 0.16)) / 0.004, -40, 40)))
        colour = colour + (tint * 0.9 - colour) * band[..., None]
        used = used + 0.012 * band
    sheets = [Sheet(points, colour, CLOTH, used)]
    wave, curl = noise(random, 0.5), random.uniform(0.0, 0.10)
    angle, out = grid(1200, 220, (0.0, 0.0), (2 * np.pi, 1.0))
    reach = 0.53 + (wide - 0.53) * out
    x, z = reach * np.cos(angle), 0.88 * reach * np.sin(angle)
    level = 0.24 * max(-slope, 0) + 0.05
    lift = slope * out + curl * out**3 * np.square(np.sin(angle)) * 2
    brim = stack(x, level + lift + 0.07 * out * wave(np.cos(angle) + 3, np.sin(angle) + 3), z)
    brim[..., 1] -= level
    rows = np.exp(-(((out / 0.13 % 1 - 0.5) / 0.10) ** 2)) * (not ribbon)
    sheets.append(Sheet(brim, cloth(x, z) * (1 - 0.15 * rows)[..., None], CLOTH, -0.004 * rows))
    sheets.append(plain(brim[::2, ::2] - (0, 0.015, 0), cloth.main * 0.6, CLOTH))
    sheets.append(tube(brim[:, -1], 0.013, 0.013, cloth.main * 0.8, CLOTH))
    base = min(float(brim[..., 1].min()), 0.0)
    return [sheet._replace(points=sheet.points - (0, base, 0)) for sheet in sheets]


def build_beanie(cloth, random):
    """A knitted dome with a turned-up cuff and, on some, a pompom."""
    tall, ribs, cuff = (
        random.uniform(0.72, 0.95),
        int(random.integers(44, 64)),
        random.uniform(0.20, 0.30),
    )
    slack = wrinkles(random, 3, 0.03)
    outline = [
        (0.52, 0.02),
        (0.55, 0.25),
        (0.52, 0.55 * tall),
        (0.40, 0.80 * tall),
        (0.2, 0.96 * tall),
        (0.001, tall),
    ]
    angle, points = lathe(outline, 0.72)
    rise = arc_length(points, 1)
    knit = np.cos(angle * ribs) * (0.010 + 0.004 * np.cos(rise * 150))
    points += slack(angle * 0.5, rise)[..., None] * stack(np.cos(angle), 0.0, np.sin(angle))
    shade = (1 + 0.16 * np.cos(angle * ribs))[..., None]
    sheets = [Sheet(points, cloth(angle * 0.54, rise) * shade, CLOTH, knit)]
    outline = [(0.55, 0.0), (0.595, 0.02), (0.605, cuff * 0.5), (0.60, cuff - 0.02), (0.56, cuff)]
    angle, points = lathe(outline, 0.74)
    rise = arc_length(points, 1)
    knit = 0.014 * np.cos(angle * ribs * 1.3)
    points += 0.5 * slack(angle * 0.5, rise)[..., None] * stack(np.cos(angle), 0.0, np.sin(angle))
    shade = (1 + 0.18 * np.cos(angle * ribs * 1.3))[..., None]
    sheets.append(Sheet(points, cloth(angle * 0.58, -rise) * shade, CLOTH, knit))
    if random.random() < 0.5:
        down, around = grid(260, 420, (0.0, 0.0), (np.pi, 2 * np.pi))
        fluff = noise(random, 5)(around * 2, down * 3) + 0.6 * noise(random, 14)(
            around * 2, down * 3
        )
        radius = 0.17 * (1 + 0.16 * fluff)
        tuft = (
            stack(np.sin(down) * np.cos(around), np.cos(down), np.sin(down) * np.sin(around))
            * radius[..., None]
        )
        tint = (cloth.second if random.random() < 0.5 else cloth.main) * (
            1 + 0.3 * fluff[..., None]
        )
        sheets.append(Sheet(tuft + (0, tall + 0.10, 0), tint, CLOTH))
    return sheets


BUILD = {"cap": build_cap, "brimmed": build_brimmed, "beanie": build_beanie}


def build(product, random, view, pose):
    """One hat standing on its rim."""
    return BUILD[product.shape](surface(product, random, 0.2), random)
