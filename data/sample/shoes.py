"""Shoes: sneakers, boots and loafers, one or a pair, from the side, from the front corner or from
above.
"""

from itertools import pairwise

import numpy as np

from painting import CLOTH, DARK, LEATHER, METAL, METALS, RUBBER, TAN, Pose, linear, surface
from solids import (
    Sheet,
    arc_length,
    ball,
    grid,
    moved,
    plain,
    profile,
    smooth,
    stack,
    tube,
    wrinkles,
)

POSES = [
    Pose("side", "floor", (0.55, 0.88), 0.01, elevation=(7, 16), yaw=(-14, 14), mirror=True),
    Pose("corner", "floor", (0.55, 0.86), 0.01, elevation=(16, 32), yaw=(-62, -18), mirror=True),
    Pose("pair", "floor", (0.60, 0.90), 0.01, elevation=(20, 40), yaw=(-75, 25), mirror=True),
    Pose("above", "table", (0.60, 0.90), 0.15, elevation=(72, 88), yaw=(40, 140)),
    Pose("detail", "floor", (1.10, 1.35), 0.02, elevation=(18, 40), yaw=(-70, -10), mirror=True),
]
# Height of the upper's top edge and half width of its opening along the shoe, heel -1 to toe 1.
EDGES = {
    "sneaker": [
        (-1.0, 0.60),
        (-0.85, 0.58),
        (-0.6, 0.46),
        (-0.35, 0.55),
        (-0.2, 0.61),
        (0.0, 0.52),
        (0.3, 0.40),
        (0.6, 0.33),
        (0.85, 0.27),
        (1.0, 0.16),
    ],
    "boot": [
        (-1.0, 0.62),
        (-0.6, 0.64),
        (-0.3, 0.66),
        (-0.1, 0.60),
        (0.1, 0.50),
        (0.35, 0.40),
        (0.6, 0.34),
        (0.85, 0.28),
        (1.0, 0.16),
    ],
    "loafer": [
        (-1.0, 0.46),
        (-0.8, 0.42),
        (-0.5, 0.32),
        (-0.25, 0.33),
        (-0.05, 0.46),
        (0.1, 0.44),
        (0.4, 0.33),
        (0.7, 0.26),
        (0.9, 0.20),
        (1.0, 0.11),
    ],
}
OPENINGS = {
    "sneaker": [
        (-1.0, 0.20),
        (-0.6, 0.21),
        (-0.3, 0.18),
        (-0.15, 0.12),
        (0.1, 0.085),
        (0.30, 0.06),
        (0.36, 0.0),
        (1, 0.0),
    ],
    "boot": [(-1.0, 0.16), (-0.5, 0.16), (-0.25, 0.08), (-0.15, 0.0), (1, 0.0)],
    "loafer": [(-1.0, 0.20), (-0.5, 0.22), (-0.2, 0.16), (-0.06, 0.06), (-0.03, 0.0), (1, 0.0)],
}


class Last:
    """The body every part of one shoe is fitted to."""

    def __init__(self, shape, random):
        tall = random.uniform(0.92, 1.1)
        edge = [(x, y * tall) for x, y in EDGES[shape]]
        self.edge = lambda x: profile(edge, x)
        self.opening = lambda x: np.interp(x, *np.array(OPENINGS[shape]).T)
        low, high = {"sneaker": (3.6, 4.6), "boot": (3.4, 4.6), "loafer": (2.4, 3.4)}[shape]
        self.blunt = random.uniform(low, high)
        self.wide = random.uniform(0.93, 1.08)
        self.heel = {"sneaker": 0.04, "boot": 0.13, "loafer": 0.11}[shape] * random.uniform(
            0.6, 1.3
        )
        self.sole = {"sneaker": 0.15, "boot": 0.11, "loafer": 0.05}[shape] * random.uniform(
            0.8, 1.3
        )

    def width(self, x):
        """Half width at the sole."""
        base = profile(
            [
                (-1.0, 0.27),
                (-0.6, 0.27),
                (-0.2, 0.26),
                (0.1, 0.30),
                (0.4, 0.36),
                (0.7, 0.36),
                (1.0, 0.34),
            ],
            x,
        )
        end = np.clip(1 - np.abs(x) ** np.where(x > 0, self.blunt, 5.0), 0, None)
        return self.wide * base * np.sqrt(end)

    def middle(self, x):
        """Where the middle runs: feet are bent inwards."""
        return 0.07 * np.square(x) * (x > 0) - 0.03 * np.cos(1.5 * x)

    def ground(self, x):
        """Height of the top of the sole, raised at the heel and sprung at the toe."""
        share = np.clip((0.30 - x) / 0.75, 0, 1)
        return (
            self.sole
            + self.heel * share**2 * (3 - 2 * share)
            + 0.06 * np.clip((x - 0.5) / 0.5, 0, 1) ** 2
        )

    def wall(self, x, rise, side, inset=0.0):
        """A point of the upper: `rise` runs from the sole (0) to its top edge or ridge (1)."""
        width = np.clip(self.width(x) - inset, 0, None)
        opening = np.minimum(self.opening(x), 0.8 * width)
        round_side = 0.45 + 0.30 * np.clip((x + 0.2) / 0.6, 0, 1)
        z = opening + (width - opening) * np.cos(rise * np.pi / 2) ** round_side
        height = (self.edge(x) - inset) * np.sin(rise * np.pi / 2) ** 0.85
        toe = np.clip((x - 0.8) / 0.2, 0, 1)
        lean = 0.07 * np.clip((-x - 0.6) / 0.4, 0, 1) * np.sin(np.clip(height, 0, 0.6) * 2.4)
        y = self.ground(x) + height * (1 - 0.25 * toe**2) + (0.02 if inset else 0)
        return stack(x * (1 - inset * 0.6) + lean, y, side * z + self.middle(x))


def soft_step(distance, width=0.008):
    """0 to 1 across an edge."""
    return 1 / (1 + np.exp(-np.clip(distance / width, -40, 40)))


def stitches(distance, along):
    """A seam's dashes beside a panel edge."""
    return np.exp(-(((distance - 0.024) / 0.006) ** 2)) * (along / 0.036 % 1 < 0.62)


def panels(shape, look, x, across, from_top):
    """Where pieces of trim are sewn on: for each the distance inside its edge.

    `across` is the way up from the sole, `from_top` the way down from the top edge.
    """
    pieces = []
    if shape == "sneaker":
        pieces.append(np.minimum(0.13 - from_top, np.minimum(x + 0.36, 0.42 - x)))
        if look["cap"]:
            pieces.append(x - look["cap"] - 0.25 * (across - 0.25) ** 2)
        for number in range(look["bands"]):
            pieces.append(0.028 - np.abs(x + 0.34 - 0.12 * number + 0.35 * across))
    if look["counter"]:
        pieces.append(-0.60 - 0.35 * (across - 0.15) - x)
    if shape == "loafer":
        pieces.append(0.085 - np.abs(x - 0.06 - 0.25 * (from_top - 0.2) ** 2))
    return pieces


def build_wall(last, shape, look, creases, side):
    """One side of the upper with its panels, seams and creases, and the lining behind it."""
    around, rise = grid(620, 240, (-np.pi / 2, 0.0), (np.pi / 2, 1.0))
    x = np.sin(around)
    points = last.wall(x, rise, side)
    along, across = arc_length(points, 0), arc_length(points, 1)
    colour, relief = look["upper"](along + 0.3, across), np.zeros_like(x)
    for distance in panels(shape, look, x, across, across[:, -1:] - across):
        mask = soft_step(distance)
        colour = colour + (look["trim"] - colour) * mask[..., None]
        relief += 0.012 * mask
        if look["stitched"]:
            seam = stitches(distance, along + across)[..., None]
            colour = colour + (look["thread"] - colour) * seam
            relief -= 0.004 * seam[..., 0]
    if shape == "loafer":
        apron = np.hypot(
            (x - 0.25) / 0.58, (points[..., 2] - last.middle(x)) / (0.62 * last.width(0.4))
        )
        relief += 0.022 * np.exp(-(((apron - 1) / 0.035) ** 2)) * (x > 0.13)
        colour = (
            colour * (1 - 0.35 * np.exp(-(((apron - 1.06) / 0.03) ** 2)) * (x > 0.13))[..., None]
        )
    if shape == "boot":
        seam = np.abs(x - 0.16 - 0.5 * (across - 0.3) ** 2)
        colour = colour * (1 - 0.5 * np.exp(-((seam / 0.008) ** 2)))[..., None]
    flex = np.exp(-(((x - 0.32) / 0.16) ** 2)) * (rise > 0.2)
    relief += 0.006 * flex * np.sin(x * 60 + 5 * across) + creases(along, across)
    colour = colour * (1 - 0.30 * np.exp(-across / 0.025))[..., None]
    inner = last.wall(x[::2, ::2], rise[::2, ::2], side, 0.035)
    fade = np.clip(0.25 + 0.75 * rise[::2, ::2] ** 3, 0, 1)[..., None]
    return [
        Sheet(points, colour, look["material"], relief),
        Sheet(inner, look["lining"] * fade, CLOTH),
    ]


def build_upper(last, shape, look, creases):
    """Both walls, the padded or turned rim and the insole."""
    sheets = build_wall(last, shape, look, creases, -1) + build_wall(last, shape, look, creases, 1)
    if shape != "boot":
        x = np.linspace(-0.995, {"sneaker": -0.032, "loafer": -0.05}[shape], 140)
        for side in (-1, 1):
            rim = last.wall(x, np.ones_like(x), side)
            sheets.append(
                tube(rim, look["rim"], look["rim"] * 0.9, look["trim"] * 0.95, look["material"])
            )
    along, share = grid(220, 120, (-0.97, 0.0), (0.35, 1.0))
    z = (2 * share - 1) * (last.width(along) - 0.03) + last.middle(along)
    sheets.append(plain(stack(along, last.ground(along) + 0.05, z), look["lining"] * 0.45, CLOTH))
    return sheets


def build_sole(last, look, shape):
    """The side of the sole with its rim, and the tread edge."""
    angle, down = grid(1000, 50, (0.0, 0.0), (2 * np.pi, 1.0))
    x = np.cos(angle)
    bulge = (
        0.02
        + (0.035 if shape != "loafer" else 0.018) * np.sin(np.pi * np.clip(down, 0.0, 1.0)) ** 0.5
    )
    z = np.sign(np.sin(angle)) * (
        last.width(x) + bulge * np.abs(np.sin(angle)) ** 0.6
    ) + last.middle(x)
    top = last.ground(x) + 0.03
    waist = 0.0 if shape == "sneaker" else 1.0
    arch = waist * last.heel * soft_step(x + 0.36, 0.02) * np.clip((0.30 - x) / 0.66, 0, 1) ** 1.5
    spring = 0.05 * np.clip((x - 0.6) / 0.4, 0, 1) ** 2
    y = top + (arch + spring - top) * down
    points = stack(x * (1 + bulge), y, z)
    along = arc_length(points, 0)
    lines = np.exp(-(((down - 0.45) / 0.05) ** 2))
    ribs = np.sin(along * 110) * (down > 0.62) * (shape != "loafer")
    tint = look["sole"] * (1 - 0.35 * lines - 0.06 * ribs)[..., None]
    if shape != "sneaker":
        tint = np.where(
            (down < 0.3)[..., None] & (along / 0.05 % 1 < 0.5)[..., None], tint * 0.8, tint
        )
    sole = Sheet(points, tint, RUBBER, -0.006 * lines + 0.002 * ribs)
    share, across = grid(300, 90)
    x = np.sin((share - 0.5) * np.pi)
    rim = stack(
        x, last.ground(x) + 0.03, (2 * across - 1) * (last.width(x) + 0.03) + last.middle(x)
    )
    return [sole, plain(rim, look["sole"] * 0.9, RUBBER)]


def build_laces(last, look, rows, shape):
    """Crossing laces and eyelets; on a sneaker also the tongue and a bow."""
    sheets, end = [], (-0.26 if shape == "sneaker" else -0.14)
    stops = np.linspace(0.27, end + 0.06, rows)
    if shape == "sneaker":
        along, across = grid(260, 120, (0.0, -1.0), (1.0, 1.0))
        x = 0.37 - along * 0.68
        lifts = ((-0.4, -0.2, 0.17), (-0.2, -0.2, 0.03), (0.1, 0.1, -0.01), (0.37, 0.37, -0.03))
        line = last.ground(x) + profile(
            [(place, last.edge(at) + lift) for place, at, lift in lifts], x
        )
        z = across * (0.10 + 0.07 * along)
        tongue = stack(x, line - 3.0 * z**2 * (1 - 0.4 * along), z + last.middle(x))
        padded = 0.02 * np.sqrt(np.clip(1 - across**4, 0, 1))
        sheets.append(plain(tongue, look["trim"], CLOTH, padded))

    def edge_point(x, side):
        half = max(float(last.opening(x)), 0.055) + 0.035
        return np.array(
            [x, float(last.ground(x) + last.edge(x)) - 0.015, side * half + float(last.middle(x))]
        )

    for start, stop in zip(stops, np.append(stops[1:], stops[-1]), strict=True):
        for side in (-1, 1):
            first, last_point = edge_point(start, side), edge_point(stop, -side)
            middle = (first + last_point) / 2 + (0, 0.035, 0)
            sheets.append(
                tube(
                    smooth([first, middle, last_point], 90),
                    0.012,
                    0.024,
                    look["lace"],
                    CLOTH,
                    around=30,
                )
            )
            sheets.append(
                ball(first + (0, 0.0, side * 0.012), (0.02, 0.014, 0.014), look["metal"], METAL)
            )
    if shape != "sneaker":
        return sheets
    knot = (edge_point(stops[-1], -1) + edge_point(stops[-1], 1)) / 2 + (0, 0.05, 0)
    for side in (-1, 1):
        loop = [
            knot,
            knot + (0.08, 0.06, 0.14 * side),
            knot + (0.16, -0.02, 0.22 * side),
            knot + (0.10, -0.03, 0.10 * side),
            knot,
        ]
        loose = [knot, knot + (-0.02, 0.02, 0.12 * side), knot + (0.04, -0.12, 0.26 * side)]
        for path in (loop, loose):
            sheets.append(tube(smooth(path, 140), 0.014, 0.020, look["lace"], CLOTH, around=30))
    return sheets


def build_shaft(last, look, creases):
    """A boot's shaft with laces down its front or elastic in its sides."""
    tall = look["tall"]
    angle, rise = grid(700, 280, (0.0, 0.0), (2 * np.pi, 1.0))
    half = profile([(0.0, 0.44), (0.35, 0.36), (0.7, 0.35), (1.0, 0.37)], rise)
    middle = profile([(0.0, -0.52), (0.35, -0.60), (0.7, -0.62), (1.0, -0.61)], rise)
    depth = profile([(0.0, 0.225), (0.35, 0.215), (1.0, 0.25)], rise)
    along, across = np.cos(angle), np.sin(angle)
    base = last.ground(-0.5) + 0.36
    points = stack(
        middle + half * along,
        base + rise * (tall - base) + 0.03 * along * rise,
        depth * across - 0.02,
    )
    u, v = arc_length(points, 0), points[..., 1]
    colour, relief = look["upper"](u + 0.3, v), creases(u, v)
    if look["laced"]:
        edge = np.abs(points[..., 2] + 0.02) - 0.06
        mask = soft_step(-edge) * (along > 0)
        colour = colour + (look["trim"] * 0.6 - colour) * mask[..., None]
        relief -= 0.02 * mask
        seam = stitches(edge, v) * (along > 0)
        colour = colour + (look["thread"] - colour) * seam[..., None]
    else:
        gore = 0.15 + 0.12 * np.clip(rise - 0.25, 0, 1) - np.abs(along + 0.05)
        mask = soft_step(np.minimum(gore, (rise - 0.12) * 0.4))
        ribs = np.sin(points[..., 0] * 260)
        colour = colour + (DARK * (1 + 0.25 * ribs[..., None]) - colour) * mask[..., None]
        relief -= 0.010 * mask - 0.0015 * ribs * mask
    sheets = [Sheet(points, colour, look["material"], relief)]
    inner = points[::2, ::2].copy()
    inner[..., 0] += -0.05 * along[::2, ::2]
    inner[..., 2] *= 0.85
    sheets.append(Sheet(inner, look["lining"] * (0.2 + 0.7 * rise[::2, ::2, None] ** 3), CLOTH))
    rim = np.vstack([points[:, -1], points[:5, -1]])
    sheets.append(tube(rim, 0.022, 0.02, look["trim"], look["material"]))
    if look["laced"]:
        front = [
            (points[0, int(place), 0] + 0.01, points[0, int(place), 1])
            for place in np.linspace(26, 266, 6)
        ]
        for (x, y), (x_above, y_above) in pairwise(front):
            for side in (-1, 1):
                path = [
                    (x - 0.03, y, 0.085 * side - 0.02),
                    ((x + x_above) / 2 + 0.03, (y + y_above) / 2, -0.02),
                    (x_above - 0.03, y_above, -0.085 * side - 0.02),
                ]
                sheets.append(tube(smooth(path, 90), 0.024, 0.012, look["lace"], CLOTH, around=30))
                sheets.append(ball(path[0], (0.014, 0.018, 0.016), look["metal"], METAL))
    else:
        x, y, z = points[350, -1]
        loop = [
            (x + 0.02, y - 0.12, z),
            (x - 0.05, y, z),
            (x - 0.03, y + 0.10, z),
            (x + 0.03, y - 0.02, z),
        ]
        sheets.append(
            tube(smooth(loop, 120), 0.012, 0.035, look["trim"] * 0.7, CLOTH, up=(1, 0.2, 0))
        )
    return sheets


def build(product, random, view, pose):
    """One shoe, or its pair beside it; `view` only places them."""
    shape, last = product.shape, Last(product.shape, random)
    upper = surface(product, random, 0.17)
    soles = [linear((238, 236, 228)), linear((238, 236, 228)), DARK, TAN, linear((90, 60, 40))]
    trims = [upper.main * 0.6, upper.main * 0.8, upper.main]
    material = CLOTH if shape == "sneaker" and random.random() < 0.6 else LEATHER
    look = {
        "upper": upper,
        "material": material,
        "sole": soles[random.integers(4) if shape == "sneaker" else random.integers(2, 5)],
        "trim": trims[random.integers(len(trims))],
        "thread": linear((228, 218, 196)) if random.random() < 0.5 else upper.main * 0.45,
        "lace": [linear((235, 233, 226)), DARK, upper.main][random.integers(3)],
        "lining": [TAN, linear((70, 70, 72)), linear((214, 212, 206))][random.integers(3)],
        "metal": linear(METALS[random.integers(len(METALS))]),
        "cap": random.uniform(0.55, 0.7) if random.random() < 0.6 else None,
        "bands": int(random.integers(0, 4)),
        "counter": random.random() < 0.7,
        "stitched": random.random() < 0.8,
        "rim": random.uniform(0.026, 0.04) if shape == "sneaker" else 0.016,
        "tall": random.uniform(1.25, 1.65),
        "laced": random.random() < 0.6,
    }
    creases = wrinkles(random, 5, 0.007 if material is LEATHER else 0.010)
    shoe = build_sole(last, look, shape) + build_upper(last, shape, look, creases)
    if shape == "sneaker":
        shoe += build_laces(last, look, int(random.integers(5, 7)), shape)
    elif shape == "boot":
        shoe += build_shaft(last, look, creases)
        if look["laced"]:
            shoe += build_laces(last, look, 3, shape)
    if pose.name in ("side", "corner", "detail"):
        return shoe
    apart = view.uniform(0.40, 0.55)
    other = moved(shoe, view.normal(0, 0.12), (view.normal(0, 0.10), 0, -apart), mirror=True)
    return moved(shoe, view.normal(0, 0.12), (0, 0, apart)) + other
