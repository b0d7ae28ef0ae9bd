"""Bags: totes, backpacks and handbags."""

import numpy as np

from painting import CLOTH, DARK, LEATHER, METAL, METALS, TAN, Pose, linear, surface
from solids import Sheet, arc_length, ball, box, grid, plain, profile, smooth, stack, tube, wrinkles

POSES = [
    Pose("front", "floor", (0.74, 0.90), 0.01, elevation=(5, 14), yaw=(-15, 15)),
    Pose("corner", "floor", (0.74, 0.90), 0.01, elevation=(8, 24), yaw=(-52, 52)),
    Pose("high", "floor", (0.70, 0.86), 0.01, elevation=(12, 30), yaw=(-35, 35)),
]


def shell(width, depth, height, power, relief):
    """Points of an upright body and distances round and up it; half width and depth are functions
    of its height.
    """
    angle, rise = grid(1000, 440, (0.0, 0.0), (2 * np.pi, 1.0))
    x, z = box(angle, width(rise), depth(rise), power)
    points = stack(x, height * rise, z)
    along, up = arc_length(points, 0), arc_length(points, 1)
    outward = stack(np.cos(angle), 0.0, np.sin(angle))
    return points + relief(along, up)[..., None] * outward, along, up


def strap(path, width, colour, material, up=(0, 0, 1)):
    """A flat band along a path."""
    return tube(smooth(path, 420), width, 0.014, colour, material, up=up, around=60)


def dashes(distance, along):
    """Stitches near an edge: where a seam is (0 to 1)."""
    return np.exp(-((distance / 0.006) ** 2)) * (along / 0.04 % 1 < 0.6)


def build_tote(cloth, material, trim, metal, random):
    """An open bag with two long handles."""
    tall, half = random.uniform(0.95, 1.2), random.uniform(0.46, 0.6)
    deep = random.uniform(0.10, 0.18)
    points, along, up = shell(
        lambda rise: half * (0.92 + 0.10 * rise),
        lambda rise: deep * (1.15 - 0.5 * rise),
        tall,
        2.6,
        wrinkles(random, 2.6, 0.022),
    )
    seam = dashes(tall - 0.07 - points[..., 1], along)
    side = np.exp(-((points[..., 2] / 0.012) ** 2))
    colour = cloth(along, up) * (1 - 0.35 * seam - 0.35 * side)[..., None]
    base = random.random() < 0.4
    relief = wrinkles(random, 6, 0.008)(along, up)
    if base:
        low = 1 / (1 + np.exp(np.clip((points[..., 1] - 0.24) / 0.004, -40, 40)))
        colour = colour + (trim - colour) * low[..., None]
        relief = relief + 0.01 * low
    sheets = [Sheet(points, colour, material, relief)]
    inner = points[::2, ::2] * (0.97, 1, 0.93) - (0, 0.005, 0)
    sheets.append(plain(inner, cloth.main * 0.45, CLOTH))
    sheets.append(tube(points[:, -1], 0.010, 0.010, cloth.main * 0.8, material))
    reach, apart = random.uniform(0.35, 0.75), half * random.uniform(0.42, 0.55)
    for front in (-1, 1):
        z = front * deep * 0.72
        lean = random.uniform(-0.06, 0.06)
        path = [
            (-apart, tall - 0.22, z + 0.03 * front),
            (-apart, tall, z + 0.02 * front),
            (-apart * 0.8 + lean, tall + reach * 0.7, z * 0.7),
            (lean, tall + reach, z * 0.4),
            (apart * 0.8 + lean, tall + reach * 0.7, z * 0.7),
            (apart, tall, z + 0.02 * front),
            (apart, tall - 0.22, z + 0.03 * front),
        ]
        sheets.append(strap(path, 0.045, trim, material, up=(1, 0.4, 0)))
        for x in (-apart, apart):
            sheets.append(
                ball((x, tall - 0.17, z + 0.045 * front), (0.018, 0.018, 0.012), metal, METAL)
            )
    return sheets


def build_backpack(cloth, material, trim, metal, random):
    """A domed body, a front pocket with zips, a loop and shoulder straps."""
    tall, half, deep = (
        random.uniform(1.15, 1.35),
        random.uniform(0.42, 0.52),
        random.uniform(0.24, 0.32),
    )
    dome = [
        (0.0, 0.90),
        (0.1, 1.0),
        (0.5, 1.0),
        (0.75, 0.95),
        (0.9, 0.72),
        (0.97, 0.42),
        (1.0, 0.01),
    ]
    used = wrinkles(random, 2.4, 0.022)
    points, along, up = shell(
        lambda rise: half * profile(dome, rise),
        lambda rise: deep * profile(dome, rise),
        tall,
        2.0,
        used,
    )
    fine = wrinkles(random, 7, 0.006)
    zip_at = np.abs(points[..., 2] - 0.08)
    line = np.exp(-((zip_at / 0.014) ** 2)) * (points[..., 1] > 0.45)
    piping = np.exp(-(((zip_at - 0.05) / 0.010) ** 2))
    colour = cloth(along, up) * (1 - 0.2 * piping)[..., None]
    colour = colour + (DARK - colour) * line[..., None]
    sheets = [Sheet(points, colour, material, fine(along, up) - 0.012 * line + 0.012 * piping)]
    pocket_tall, out = tall * random.uniform(0.42, 0.52), 0.14
    shape = [(0.0, 0.86), (0.12, 1.0), (0.6, 1.0), (0.85, 0.88), (0.96, 0.6), (1.0, 0.02)]
    points, along, up = shell(
        lambda rise: half * 0.80 * profile(shape, rise),
        lambda rise: out * profile(shape, rise),
        pocket_tall,
        2.4,
        used,
    )
    points += (0, 0.06, deep * 0.86)
    top = np.exp(-(((points[..., 1] - 0.06 - pocket_tall * 0.74) / 0.014) ** 2))
    colour = cloth(along, up) if random.random() < 0.6 else np.broadcast_to(trim, points.shape)
    colour = colour + (DARK - colour) * top[..., None]
    sheets.append(Sheet(points, colour, material, fine(along, up) - 0.012 * top))
    pull = np.array((half * 0.35, 0.06 + pocket_tall * 0.74, deep * 0.86 + out * 0.98))
    sheets.append(
        tube(
            smooth([pull, pull + (0.01, -0.05, 0.02), pull + (0.015, -0.11, 0.02)], 60),
            0.012,
            0.008,
            metal,
            METAL,
        )
    )
    loop = [
        (-0.10, tall - 0.04, -deep * 0.5),
        (-0.08, tall + 0.10, -deep * 0.5),
        (0.08, tall + 0.10, -deep * 0.5),
        (0.10, tall - 0.04, -deep * 0.5),
    ]
    sheets.append(strap(loop, 0.03, trim, material))
    for side in (-1, 1):
        path = [
            (side * 0.16, tall - 0.06, -deep * 0.6),
            (side * 0.26, tall - 0.02, -deep * 1.2),
            (side * (half - 0.08), tall * 0.6, -deep * 1.7),
            (side * (half + 0.05), tall * 0.25, -deep * 1.3),
            (side * (half - 0.06), 0.08, -deep * 0.7),
        ]
        sheets.append(strap(path, 0.065, trim, material, up=(1, 0, 0)))
    return sheets


def build_handbag(cloth, material, trim, metal, random):
    """A stiff trapezoid with a flap, a clasp and one arched handle."""
    tall, half, deep = (
        random.uniform(0.62, 0.8),
        random.uniform(0.55, 0.68),
        random.uniform(0.17, 0.25),
    )
    narrow = random.uniform(0.72, 0.95)
    outline = [(0.0, 0.94), (0.08, 1.0), (0.5, 0.9), (0.9, 0.55), (0.98, 0.35), (1.0, 0.02)]
    used = wrinkles(random, 2.2, 0.010)
    points, along, up = shell(
        lambda rise: half * (1 - (1 - narrow) * rise),
        lambda rise: deep * profile(outline, rise),
        tall,
        3.2,
        used,
    )
    edge = dashes(
        np.abs(points[..., 0]) - half * (1 - (1 - narrow) * points[..., 1] / tall) + 0.06, up
    )
    fine = wrinkles(random, 9, 0.004)
    sheets = [
        Sheet(points, cloth(along, up) * (1 - 0.3 * edge)[..., None], material, fine(along, up))
    ]
    drop, round_end = tall * random.uniform(0.45, 0.62), random.uniform(0.15, 0.6)
    across, down = grid(560, 400, (-1.0, 0.0), (1.0, 1.0))
    width = half * (narrow + 0.03)
    length = drop * (1 - round_end * np.abs(across) ** 3)
    y = tall + 0.012 - np.clip(down - 0.25, 0, 1) / 0.75 * length
    rise = np.clip(y / tall, 0, 1)
    front = deep * profile(outline, np.minimum(rise, 0.9)) + 0.025
    z = np.where(down < 0.25, -deep * 0.3 + (front + deep * 0.3) * down / 0.25, front)
    x = across * width * (1 + (1 - narrow) * (1 - rise) * 0.8)
    flap = stack(x, y, z)
    u, v = x, arc_length(flap, 1)
    border = np.minimum((1 - np.abs(across)) * width, (1 - down) * length / 0.75)
    seam = dashes(border - 0.03, u + v)
    look = cloth(u, -v) * (1 - 0.35 * seam)[..., None]
    sheets.append(
        Sheet(
            flap,
            look,
            material,
            fine(u, v) + 0.02 * np.sqrt(np.clip(1 - np.exp(-border / 0.02), 0, 1)),
        )
    )
    sheets.append(tube(flap[:, -1], 0.012, 0.012, trim, material))
    clasp_at = flap[280, -1]
    sheets.append(ball(clasp_at + (0, 0.03, 0.015), (0.07, 0.05, 0.025), metal, METAL))
    reach, apart = random.uniform(0.28, 0.5), half * narrow * random.uniform(0.55, 0.8)
    path = [
        (-apart, tall - 0.03, 0),
        (-apart * 0.95, tall + reach * 0.6, 0),
        (-apart * 0.5, tall + reach, 0),
        (apart * 0.5, tall + reach, 0),
        (apart * 0.95, tall + reach * 0.6, 0),
        (apart, tall - 0.03, 0),
    ]
    sheets.append(tube(smooth(path, 500), 0.032, 0.032, trim, material, up=(0, 0, 1)))
    for side in (-1, 1):
        ring = np.linspace(0, 2 * np.pi, 90)
        circle = np.column_stack(
            [side * apart + 0.05 * np.cos(ring), tall + 0.03 + 0.05 * np.sin(ring), 0 * ring]
        )
        sheets.append(tube(circle, 0.013, 0.013, metal, METAL, up=(0, 0, 1), around=30))
    return sheets


BUILD = {"tote": build_tote, "backpack": build_backpack, "handbag": build_handbag}


def build(product, random, view, pose):
    """One bag standing on its base."""
    cloth = surface(product, random, 0.2)
    material = (
        LEATHER
        if random.random() < {"tote": 0.3, "backpack": 0.3, "handbag": 0.85}[product.shape]
        else CLOTH
    )
    trim = [cloth.main * 0.65, cloth.main * 0.85, TAN * 0.6, DARK][
        random.integers(4 if product.pattern == "plain" else 2)
    ]
    metal = linear(METALS[random.integers(len(METALS))])
    return BUILD[product.shape](cloth, material, trim, metal, random)
