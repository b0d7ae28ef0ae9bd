"""Draw the sample catalogue: synthetic product photographs with known attributes.

The catalogue stands in for a shop's photographs where none can be shipped. Every product has a colour, a
pattern and a shape that are true of its pictures, so that a recommendation can be checked against what was
drawn. Colour and pattern are dealt out separately within each label, so neither says which label it is.

    python make_sample.py [--seed 0] [--out DIR] [--sheet FILE]

Only needed to draw the pictures again. The committed files were drawn with Python 3.11, skia-python 144.1,
numpy 2.4.6 and pillow 13.0.0; other versions may give slightly different bytes.
"""

import argparse
import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import skia
from PIL import Image

PRODUCTS_PER_LABEL = 16
VIEWS_PER_PRODUCT = 3
SIZE = 256
SUPERSAMPLE = 3
JPEG_QUALITY = 88

SHAPES = {
    "watch": ["round", "square", "tonneau"],
    "t-shirt": ["crew", "v-neck", "polo"],
    "bicycle": ["road", "mountain", "step-through"],
    "shoe": ["sneaker", "boot", "loafer"],
}
PATTERNS = ["plain", "stripes", "dots", "checks"]
COLOURS = {
    "black": (30, 30, 33),
    "white": (236, 235, 230),
    "grey": (128, 130, 134),
    "red": (182, 30, 38),
    "blue": (32, 74, 164),
    "green": (36, 116, 66),
    "yellow": (232, 184, 36),
    "brown": (112, 68, 38),
}
METALS = [(205, 207, 211), (205, 207, 211), (216, 174, 98), (84, 86, 90), (218, 166, 146)]
TONES = [
    (240, 240, 238),
    (240, 240, 238),
    (222, 222, 222),
    (196, 197, 198),
    (230, 224, 214),
    (208, 198, 182),
    (188, 196, 206),
    (200, 206, 196),
    (216, 204, 198),
    (150, 152, 156),
    (118, 112, 108),
    (84, 88, 96),
]
WOODS = [(196, 160, 118), (164, 122, 82), (122, 86, 58), (206, 192, 170), (150, 140, 128), (92, 70, 54)]
BACKDROPS = ["paper", "paper", "paper", "plaster", "planks", "planks", "linen", "carpet", "tiles"]


class Material(NamedTuple):
    """How a surface answers the light: highlight, its tightness, mirror share, grain, fullness of edges."""

    specular: float
    gloss: float
    mirror: float
    grain: float
    fullness: float = 1.0


CLOTH = Material(0.02, 4, 0.0, 0.06, 0.45)
LEATHER = Material(0.26, 16, 0.02, 0.04, 0.8)
RUBBER = Material(0.08, 8, 0.0, 0.05, 0.8)
ENAMEL = Material(0.55, 40, 0.10, 0.0)
METAL = Material(0.50, 50, 0.72, 0.02)
DIAL = Material(0.15, 20, 0.10, 0.0)
FLAT = Material(0.0, 1, 0.0, 0.0)


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


@dataclass
class Picture:
    """The product layer being painted: its place, its light, its premultiplied linear colour and alpha."""

    matrix: np.ndarray
    light: np.ndarray
    colour: np.ndarray
    alpha: np.ndarray

    @property
    def pixel(self):
        """Pixels per product unit, near enough for heights and blurs."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:2, :2]))))

    def moved(self, *rows):
        """The same layer seen through a further local affine transformation."""
        return replace(self, matrix=self.matrix @ np.array([*rows, (0, 0, 1)], float))


# Numbers and textures


def linear(colour):
    """Light intensity of an 8-bit display colour; shading is computed in light, not in display values."""
    return (np.asarray(colour, float) / 255) ** 2.2


STEEL, DARK, TAN, WICKER = linear([(196, 198, 202), (28, 28, 30), (180, 134, 86), (120, 92, 62)])


def box_blur(values, radius, axis):
    """Running mean along one axis, edges continued."""
    width = [(0, 0)] * values.ndim
    width[axis] = (radius + 1, radius)
    total = np.cumsum(np.pad(values, width, mode="edge"), axis=axis, dtype=np.float64)
    ahead = np.take(total, range(2 * radius + 1, total.shape[axis]), axis)
    behind = np.take(total, range(total.shape[axis] - 2 * radius - 1), axis)
    return ((ahead - behind) / (2 * radius + 1)).astype(np.float32)


def blur(values, radius):
    """Nearly Gaussian blur whose reach is about `radius` pixels: two running means on each axis."""
    step = max(1, round(radius / 2))
    for axis in (0, 1, 0, 1):
        values = box_blur(values, step, axis)
    return values


def noise(random, frequency, stretch=1.0):
    """A smooth random field over product coordinates in -1..1, `stretch` times longer along v."""
    table = random.random((64, 64)).astype(np.float32) * 2 - 1

    def field(u, v):
        x, y = u * frequency + 17.3, v * frequency / stretch + 31.7
        column, row = np.floor(x).astype(int), np.floor(y).astype(int)
        x, y = x - column, y - row
        x, y = x * x * (3 - 2 * x), y * y * (3 - 2 * y)
        left, right, top, bottom = column % 64, (column + 1) % 64, row % 64, (row + 1) % 64
        upper = table[top, left] * (1 - x) + table[top, right] * x
        lower = table[bottom, left] * (1 - x) + table[bottom, right] * x
        return upper * (1 - y) + lower * y

    return field


def folds(random, count, reach, depth):
    """Relief of laid cloth: slow swells and `count` bent creases inside the box of half size `reach`."""
    swell, wrinkle = noise(random, 2.2, 1.8), noise(random, 7, 1.5)
    creases = [
        (
            *random.uniform(-1, 1, 2) * reach,
            random.normal(1.35, 0.55),
            random.uniform(0.15, 0.5),
            random.uniform(0.014, 0.045),
            random.uniform(-0.8, 0.8),
            random.choice([-1, 1]),
        )
        for _ in range(count)
    ]

    def relief(u, v):
        height = 0.06 * swell(u, v) + 0.010 * wrinkle(u, v)
        for x, y, angle, length, width, bend, sign in creases:
            along = (u - x) * np.cos(angle) + (v - y) * np.sin(angle)
            across = (v - y) * np.cos(angle) - (u - x) * np.sin(angle) + bend * along**2
            height += sign * 0.45 * width * np.exp(-((across / width) ** 2) - (along / length) ** 2)
        return height * depth

    return relief


def grained(random, frequency, depth):
    """Relief of leather or rubber: fine pores over slow unevenness."""
    pores, slow = noise(random, frequency), noise(random, 4)
    return lambda u, v: depth * pores(u, v) + 0.010 * slow(u, v)


def surface(product, random, period):
    """Colour of the patterned surface as a function of product coordinates; the main colour prevails."""
    main = linear(np.clip(np.array(COLOURS[product.colour]) * random.uniform(0.975, 1.025, 3) + 2, 0, 255))
    main *= random.uniform(0.85, 1.12)
    pale, dark = linear([(240, 236, 224), (24, 26, 34)])
    luminous = main.mean() > 0.17
    second = dark if luminous else pale
    tinted = random.random() < 0.35
    if tinted and main.max() > 1.5 * main.min():  # a tint would take over beside black, white or grey
        second = linear((40, 50, 90) if luminous else (232, 206, 140))
    period = period * random.uniform(0.8, 1.3)
    angle = random.choice([0.0, 0.0, np.pi / 2, np.pi / 4]) + random.normal(0, 0.02)
    duty = random.uniform(0.26, 0.42)

    def colour(u, v):
        across = (u * np.sin(angle) + v * np.cos(angle)) / period
        along = (u * np.cos(angle) - v * np.sin(angle)) / period
        if product.pattern == "stripes":
            share = (across % 1 < duty) * 1.0
        elif product.pattern == "dots":
            along = along + 0.5 * (np.floor(across) % 2)
            share = (np.hypot(across % 1 - 0.5, along % 1 - 0.5) < 0.18 + duty * 0.3) * 1.0
        elif product.pattern == "checks":
            share = 0.5 * (across % 1 < duty) + 0.5 * (along % 1 < duty)
        else:
            share = np.zeros_like(u)
        return main + (second - main) * share[..., None]

    colour.main, colour.second = main, second
    return colour


# Paths


def polygon(points):
    """A closed path with straight sides."""
    path = skia.Path()
    path.moveTo(*map(float, points[0]))
    for point in points[1:]:
        path.lineTo(*map(float, point))
    path.close()
    return path


def segments(pairs):
    """One path of separate straight strokes."""
    path = skia.Path()
    for start, end in pairs:
        path.moveTo(*map(float, start))
        path.lineTo(*map(float, end))
    return path


def curve(*runs, close=False):
    """A path that is smooth within each run of points and has a corner where one run meets the next."""
    path = skia.Path()
    path.moveTo(*map(float, runs[0][0]))
    for points in runs:
        points = np.array(points, float)
        padded = np.vstack([points[:1], points, points[-1:]])
        for before, start, end, after in zip(padded, padded[1:], padded[2:], padded[3:]):
            leave, arrive = start + (end - before) / 6, end - (after - start) / 6
            path.cubicTo(*leave.tolist(), *arrive.tolist(), *end.tolist())
    if close:
        path.close()
    return path


def mirrored(points):
    """The same points on the other side of u = 0, walked the other way round."""
    return [(-x, y) for x, y in reversed(points)]


def disc(x, y, radius):
    """A circle as a path."""
    path = skia.Path()
    path.addCircle(float(x), float(y), float(radius))
    return path


def rounded(x, y, half_width, half_height, corner):
    """A rounded rectangle around its centre."""
    path = skia.Path()
    box = skia.Rect.MakeLTRB(x - half_width, y - half_height, x + half_width, y + half_height)
    path.addRoundRect(box, float(corner), float(corner))
    return path


# Painting


def coverage(picture, path, width, dash, box):
    """Antialiased coverage of a filled path, or of its stroke, inside the pixel box."""
    left, top, right, bottom = box
    canvas_surface = skia.Surface(right - left, bottom - top)
    canvas = canvas_surface.getCanvas()
    canvas.translate(-left, -top)
    canvas.concat(skia.Matrix.MakeAll(*picture.matrix.ravel().tolist()))
    brush = skia.Paint(AntiAlias=True, Color=skia.ColorWHITE)
    if width:
        brush.setStyle(skia.Paint.kStroke_Style)
        brush.setStrokeWidth(width)
        brush.setStrokeJoin(skia.Paint.kRound_Join)
        brush.setStrokeCap(skia.Paint.kButt_Cap if dash else skia.Paint.kRound_Cap)
    if dash:
        brush.setPathEffect(skia.DashPathEffect.Make(list(dash), 0))
    canvas.drawPath(path, brush)
    return canvas_surface.toarray()[..., 3].astype(np.float32) / 255


def pixel_box(picture, path, margin):
    """The path's bounds in pixels, widened by `margin` product units and cut to the picture."""
    bounds = path.getBounds().makeOutset(margin, margin)
    bounds = skia.Matrix.MakeAll(*picture.matrix.ravel().tolist()).mapRect(bounds)
    limit = picture.alpha.shape[0]
    left, top = max(0, int(bounds.left()) - 2), max(0, int(bounds.top()) - 2)
    return left, top, min(limit, int(bounds.right()) + 3), min(limit, int(bounds.bottom()) + 3)


def product_coordinates(matrix, box):
    """Product coordinates u (right) and v (down) of each pixel in the box."""
    left, top, right, bottom = box
    x, y = np.meshgrid(np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5)
    back = np.linalg.inv(matrix)
    u, v, w = (row[0] * x + row[1] * y + row[2] for row in back)
    return u / w, v / w


def studio(x, y, light):
    """What a mirror sees in the direction (x right, y down): bright ceiling, dark floor, two strip lights."""
    strip = np.exp(-(((x - 0.7 * light[0]) * 2.2 + y * 0.5) ** 2) * 6)
    rim = np.exp(-(((x + 0.9 * light[0]) * 2.0) ** 2) * 8)
    return 0.30 - 0.28 * np.tanh(2.5 * y) + 0.85 * strip + 0.35 * rim


def shade(albedo, height, material, light):
    """Light leaving a surface with this relief: soft diffuse light, one highlight and a studio reflection."""
    slope_y, slope_x = np.gradient(height)
    z = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
    x, y = -slope_x * z, -slope_y * z
    facing = np.clip(x * light[0] + y * light[1] + z * light[2], 0, None) / light[2]
    diffuse = 0.30 + 0.70 * np.clip(facing, 0, 1.55) - 0.10 * y
    half = light + (0, 0, 1)
    half = half / np.linalg.norm(half)
    shine = np.clip(x * half[0] + y * half[1] + z * half[2], 0, 1) ** material.gloss
    shine -= half[2] ** material.gloss * 0.8
    mirrored = studio(2 * x * z, 2 * y * z, light)[..., None]
    clear_coat = albedo if material.mirror > 0.3 else np.ones(3)
    matt = albedo * diffuse[..., None]
    return (
        matt * (1 - material.mirror)
        + mirrored * clear_coat * material.mirror
        + material.specular * np.clip(shine, 0, None)[..., None]
    )


def paint(
    picture, path, colour, material, width=None, dash=None, clip=None, rounding=0.0, relief=None, lift=0.0, opacity=1.0
):
    """Paint one part: fill or stroke it, round its edge, shade it and let it shadow what lies below.

    `colour` is linear RGB or a function of product coordinates; `rounding` is the width of the rounded edge,
    `relief` the height over product coordinates (a pattern is dragged along its slopes) and `lift` the height
    of the part above what it covers.
    """
    margin = (width or 0) + rounding + 2.5 * lift
    box = pixel_box(picture, path, margin)
    if box[0] >= box[2] or box[1] >= box[3]:
        return
    area = (slice(box[1], box[3]), slice(box[0], box[2]))
    mask = coverage(picture, path, width, dash, box)
    if clip:
        mask *= coverage(picture, clip, None, None, box)
    pixel = picture.pixel
    if lift:
        shift = np.round(-picture.light[:2] * lift * pixel).astype(int)
        shadow = blur(np.roll(mask, (shift[1], shift[0]), (0, 1)), 1.2 * lift * pixel)
        picture.colour[area] *= 1 - 0.55 * shadow[..., None]
    height = np.zeros_like(mask)
    if rounding:
        inside = np.clip(2 * blur(mask, rounding * pixel) - 1, 0, 1)
        height += material.fullness * rounding * pixel * np.sqrt(1 - (1 - inside) ** 2)
    u, v = product_coordinates(picture.matrix, box)
    if relief:
        bump = relief(u, v) * pixel
        drag_v, drag_u = np.gradient(bump)
        height += bump
        u, v = u + 0.04 * np.clip(drag_u, -1, 1), v + 0.04 * np.clip(drag_v, -1, 1)
    albedo = colour(u, v) if callable(colour) else np.broadcast_to(colour, (*mask.shape, 3))
    if material.grain:
        # Two fixed fields: the grain belongs to the material, not to the product.
        speckle = noise(np.random.default_rng(0), 70)(u, v) + noise(np.random.default_rng(1), 31)(u, v)
        albedo = albedo * (1 + material.grain * speckle[..., None])
    mask = mask[..., None] * opacity
    shaded = shade(albedo, height, material, picture.light)
    picture.colour[area] = picture.colour[area] * (1 - mask) + shaded * mask
    picture.alpha[area] = picture.alpha[area] * (1 - mask[..., 0]) + mask[..., 0]


# Products: `random` belongs to the product and gives every view the same article, `view` belongs to one view.
# Each function returns the height of the ground the product stands on, or None where it lies or hangs.


def draw_t_shirt(picture, product, random, view):
    """A T-shirt laid out or hung: back neck, sleeves, body, collar by shape, seams and stitched hems."""
    cloth = surface(product, random, 0.15)
    neck, shoulder, chest = random.uniform(0.15, 0.19), random.uniform(0.42, 0.50), random.uniform(0.40, 0.47)
    hem, length = chest + random.uniform(-0.03, 0.07), random.uniform(0.58, 0.78)
    sleeve, cuff = random.uniform(0.26, 0.44), random.uniform(0.25, 0.33)
    waist, drop, sag = random.uniform(0.0, 0.05), random.uniform(0.10, 0.15), random.uniform(0.0, 0.06)
    low, high = {"crew": (0.10, 0.16), "v-neck": (0.26, 0.38), "polo": (0.11, 0.13)}[product.shape]
    depth = random.uniform(low, high)
    rib = cloth.second if random.random() < 0.25 and product.pattern != "plain" else cloth.main * 0.92
    buttons, seam = int(random.integers(2, 4)), cloth.main * 0.62
    relief = folds(view, 16, (0.5, 0.7), view.uniform(0.75, 1.2))
    top, arm, bend = -0.66, -0.21, view.uniform(0.35, 1.05)

    nape = [(-neck, top), (0, top + 0.03), (neck, top)]
    inside = curve(nape, [nape[2], (0, top + depth + 0.12), nape[0]], close=True)
    paint(picture, inside, cloth.main * 0.42, CLOTH)
    paint(picture, curve(nape), rib * 0.7, CLOTH, 0.05, rounding=0.01)
    paint(picture, rounded(0, top + 0.085, 0.035, 0.02, 0.004), linear((225, 225, 220)), CLOTH)

    for side in (-1, 1):
        angle = bend + view.normal(0, 0.08)
        tip = np.array([shoulder + sleeve * np.cos(angle), top + drop + sleeve * np.sin(angle)])
        under = tip + cuff * np.array([-np.sin(angle - 0.15), np.cos(angle - 0.15)])
        under[0] = max(under[0], chest + 0.015)
        inward = np.array([np.cos(angle), np.sin(angle)]) * 0.035
        points = [(shoulder - 0.08, top + drop - 0.03), (shoulder, top + drop), tip, under, (chest - 0.03, arm)]
        outline = polygon([np.multiply(point, (side, 1)) for point in points])
        paint(picture, outline, cloth, CLOTH, rounding=0.05, relief=relief)
        stitches = segments([((tip - inward) * (side, 1), (under - inward) * (side, 1))])
        paint(picture, stitches, seam, CLOTH, 0.007, dash=(0.02, 0.008), clip=outline, opacity=0.7)

    neckline = [
        [
            (-neck, top),
            (-neck * 0.72, top + depth * 0.66),
            (0, top + depth),
            (neck * 0.72, top + depth * 0.66),
            (neck, top),
        ]
    ]
    if product.shape == "v-neck":
        slope = [(-neck, top), (-neck * 0.78, top + depth * 0.35), (0, top + depth)]
        neckline = [slope, mirrored(slope)]
    edge = [(neck, top), (shoulder, top + drop)]
    armhole = [edge[1], (shoulder - 0.035, top + drop + 0.13), (chest, arm)]
    flank = [armhole[2], (chest - waist, 0.15), (hem, length - sag)]
    hemline = [flank[2], (0, length + sag), (-hem, length - sag)]
    body = curve(
        *neckline, edge, armhole, flank, hemline, mirrored(flank), mirrored(armhole), mirrored(edge), close=True
    )
    paint(picture, body, cloth, CLOTH, rounding=0.06, relief=relief, lift=0.012)
    for rise in (0.05, 0.036):
        stitches = curve([(x, y - rise) for x, y in hemline])
        paint(picture, stitches, seam, CLOTH, 0.006, dash=(0.02, 0.008), clip=body, opacity=0.7)

    if product.shape != "polo":
        paint(picture, curve(*neckline), rib, CLOTH, 0.045, rounding=0.018, lift=0.006)
        return None
    placket = rounded(0, top + depth + 0.16, 0.045, 0.19, 0.01)
    paint(picture, placket, cloth, CLOTH, rounding=0.012, relief=relief, lift=0.012)
    for number in range(buttons):
        button = disc(0, top + depth + 0.05 + 0.1 * number, 0.014)
        paint(picture, button, linear((225, 222, 210)), ENAMEL, rounding=0.01, lift=0.006)
    for side in (-1, 1):
        flap = [
            (neck + 0.02, top - 0.035),
            (neck + 0.05, top + 0.08),
            (neck * 0.75, top + depth + 0.12),
            (0.01, top + depth + 0.02),
            (neck * 0.8, top + 0.05),
        ]
        paint(picture, curve(np.multiply(flap, (side, 1)), close=True), rib, CLOTH, rounding=0.02, lift=0.016)
    return None


def draw_strap(picture, product, random, view):
    """A watch strap, laid open or closed to a ring; returns the picture moved to where the case sits."""
    strap = surface(product, random, 0.085)
    half, taper = random.uniform(0.15, 0.21), random.uniform(0.78, 1.0)
    material = [LEATHER, RUBBER, CLOTH][random.integers(3)]
    relief, stitched = grained(random, 55, 0.0005), random.random() < 0.6
    thread = linear((225, 215, 195)) if random.random() < 0.5 else strap.main * 0.5
    metal, turn, radius = linear(METALS[random.integers(len(METALS))]), random.uniform(0.42, 0.62), 0.62
    lining = linear((150, 116, 84)) if random.random() < 0.5 else strap.main * 0.6
    if view.random() < 0.45:
        squeeze, swing = np.cos(turn), np.sin(turn) * view.choice([-1, 1])
        angles = np.linspace(-np.pi / 2, np.pi / 2, 25)

        def band(direction):
            centre, rise = direction * radius * np.cos(angles) * swing, radius * np.sin(angles)
            left, right = centre - half * squeeze, centre + half * squeeze
            return polygon([*zip(left, rise), *zip(right[::-1], rise[::-1])])

        def unrolled(u, v):
            angle = np.arcsin(np.clip(v / radius, -0.999, 0.999))
            return strap((u - radius * np.cos(angle) * swing) / squeeze, radius * angle)

        def bulge(direction):
            return lambda u, v: (
                relief(u, v) + direction * 0.9 * squeeze * np.sqrt(np.clip(radius**2 - v**2, 1e-3, None))
            )

        paint(picture, band(-1), lining * 0.75, material, rounding=0.012, relief=bulge(-1))
        paint(picture, band(1), unrolled, material, rounding=0.025, relief=bulge(1), lift=0.03)
        return picture.moved((squeeze, 0, radius * swing), (0, 1, 0)), strap, half, metal
    for side in (-1, 1):
        end = side * (0.95 if side > 0 else 0.80)
        outline = curve(
            [
                (-half, 0),
                (-half * (1 + taper) / 2, end / 2),
                (-half * taper, end * 0.93),
                (-half * 0.4, end),
                (half * 0.4, end),
                (half * taper, end * 0.93),
                (half * (1 + taper) / 2, end / 2),
                (half, 0),
            ],
            close=True,
        )
        paint(picture, outline, strap, material, rounding=0.03, relief=relief)
        if stitched:
            for edge in (-1, 1):
                seam = curve(
                    [
                        (edge * (half - 0.025), 0),
                        (edge * (half * (1 + taper) / 2 - 0.025), end / 2),
                        (edge * (half * taper - 0.03), end * 0.92),
                    ]
                )
                paint(picture, seam, thread, CLOTH, 0.010, dash=(0.026, 0.014), lift=0.004)
    for number in range(6):
        paint(picture, disc(0, 0.56 + 0.06 * number, 0.012), linear((12, 12, 12)), FLAT)
    width = half * taper + 0.03
    keeper = rounded(0, -0.60, width - 0.02, 0.028, 0.01)
    paint(picture, keeper, strap.main * 0.8, material, rounding=0.02, lift=0.01)
    paint(picture, rounded(0, -0.82, width, 0.075, 0.03), metal, METAL, 0.030, rounding=0.014, lift=0.012)
    paint(picture, segments([((0, -0.82), (0, -0.90))]), metal, METAL, 0.022, rounding=0.01, lift=0.006)
    return picture, strap, half, metal


def draw_watch(picture, product, random, view):
    """A wrist watch: strap, case by shape, bezel, dial with marks, hands and a reflecting glass."""
    picture, strap, half, metal = draw_strap(picture, product, random, view)
    size, bezel = half * random.uniform(1.55, 1.95), random.uniform(0.022, 0.05)
    aspect, corner = random.uniform(1.0, 1.18), random.uniform(0.15, 0.4)
    faces = [strap.main, *linear([(240, 238, 230), (20, 21, 24), (200, 202, 204), (24, 36, 66)])]
    face = faces[random.integers(len(faces))]
    ink = linear((25, 25, 28)) if face.mean() > 0.2 else linear((232, 230, 220))
    marks, bars = int(random.choice([4, 12, 12, 12])), random.random() < 0.6
    hours, minutes = random.uniform(0, 2 * np.pi, 2)
    sunburst = random.uniform(0, 0.35)
    dials, ticks, date = int(random.choice([0, 0, 1, 2, 3])), random.random() < 0.6, random.random() < 0.5
    crown_size, pushers = random.uniform(0.022, 0.036), random.random() < 0.3

    def outline(inset):
        width, tall = size - inset, size * aspect - inset
        if product.shape == "round":
            return disc(0, 0, width)
        if product.shape == "square":
            return rounded(0, 0, width * 0.92, tall * 0.92, corner * width)
        return curve(
            [
                (-width * 0.62, -tall * 1.12),
                (-width * 0.95, -tall * 0.45),
                (-width, 0),
                (-width * 0.95, tall * 0.45),
                (-width * 0.62, tall * 1.12),
                (0, tall * 1.2),
                (width * 0.62, tall * 1.12),
                (width * 0.95, tall * 0.45),
                (width, 0),
                (width * 0.95, -tall * 0.45),
                (width * 0.62, -tall * 1.12),
                (0, -tall * 1.2),
                (-width * 0.62, -tall * 1.12),
            ],
            close=True,
        )

    def radius_at(angle, inset):
        if product.shape == "round":
            return size - inset
        width, tall = (0.92, 0.92 * aspect) if product.shape == "square" else (0.9, 1.15 * aspect)
        return min(
            (size * width - inset) / (abs(np.sin(angle)) + 1e-6),
            (size * tall - inset) / (abs(np.cos(angle)) + 1e-6),
            size * 1.2 * aspect - inset,
        )

    def at(angle, distance):
        return np.sin(angle) * distance, -np.cos(angle) * distance

    for side in (-1, 1):
        for lug in (-1, 1):
            reach = size * (0.96 if product.shape == "round" else 1.04)
            foot = [(lug * half * 0.98, side * size * 0.6), (lug * half * 0.98, side * reach)]
            paint(picture, segments([foot]), metal, METAL, 0.05, rounding=0.022, lift=0.012)
    paint(picture, rounded(size + 0.02, 0, 0.03, crown_size, 0.008), metal, METAL, rounding=0.012, lift=0.01)
    if pushers:
        for side in (-1, 1):
            pusher = rounded(size * 0.92, side * size * 0.42, 0.035, 0.018, 0.006)
            paint(picture, pusher, metal, METAL, rounding=0.01)

    def dome(u, v):
        return -0.35 * (u**2 + v**2) / size

    paint(picture, outline(0), metal, METAL, rounding=0.035, relief=dome, lift=0.025)
    paint(picture, outline(bezel), metal * 0.8, METAL, rounding=0.02, relief=lambda u, v: -dome(u, v))
    inner = outline(bezel + 0.02)

    def dial(u, v):
        angle = np.arctan2(v, u)
        rays = 1 + sunburst * (np.cos(2 * angle + 1) + 0.3 * np.cos(37 * angle))
        return face * rays[..., None]

    paint(picture, inner, dial, DIAL)
    paint(picture, inner, face * 0.25, FLAT, 0.02, clip=inner, opacity=0.6)
    for number in range(60 if ticks else 0):
        angle = number * np.pi / 30
        reach = radius_at(angle, bezel + 0.035)
        paint(picture, segments([(at(angle, reach - 0.012), at(angle, reach))]), ink, FLAT, 0.004)
    for number in range(marks):
        angle = number * 2 * np.pi / marks
        reach = radius_at(angle, bezel + 0.05)
        if bars:
            mark = segments([(at(angle, reach - 0.05), at(angle, reach))])
            paint(picture, mark, ink, ENAMEL, 0.016, rounding=0.006, lift=0.004)
        else:
            paint(picture, disc(*at(angle, reach - 0.02), 0.014), ink, ENAMEL, rounding=0.008, lift=0.004)
    for number in range(dials):
        spot = at(np.pi + (number - (dials - 1) / 2) * np.pi / 2, size * 0.42)
        paint(picture, disc(*spot, size * 0.17), face * 0.6 + 0.03, DIAL, rounding=0.01)
        paint(picture, disc(*spot, size * 0.17), metal, METAL, 0.006)
        paint(picture, segments([(spot, np.add(spot, at(number * 2.2 + 1, size * 0.13)))]), ink, FLAT, 0.008)
    if date:
        paint(picture, rounded(size * 0.55, 0, 0.028, 0.02, 0.003), linear((235, 235, 230)), FLAT, lift=0.004)
        numeral = segments([((size * 0.54, -0.008), (size * 0.56, 0.008))])
        paint(picture, numeral, DARK, FLAT, 0.007)
    for angle, reach, width in ((hours, 0.46, 0.024), (minutes, 0.70, 0.017), (minutes * 7, 0.74, 0.005)):
        hand = segments([(at(angle, -0.05), at(angle, size * reach))])
        paint(picture, hand, ink, ENAMEL, width, rounding=0.006, lift=0.010)
    paint(picture, disc(0, 0, 0.018), metal, METAL, rounding=0.012, lift=0.006)
    lean = view.uniform(-0.3, 0.3)
    for offset, width in ((-0.45, 0.22), (0.0, 0.06)):
        x = size * (offset + lean)
        glare = segments([((x - size, size), (x + size * 0.6, -size))])
        paint(picture, glare, np.ones(3), FLAT, size * width, clip=inner, opacity=view.uniform(0.06, 0.22))
    return None


def draw_wheel(picture, hub, radius, tyre, wall, spokes, knobbly):
    """A spoked bicycle wheel: tread, side wall, rim, crossing spokes and hub."""
    if knobbly:
        paint(picture, disc(*hub, radius + 0.004), DARK, RUBBER, 0.022, dash=(0.022, 0.016))
    paint(picture, disc(*hub, radius - tyre / 2), DARK, RUBBER, tyre, rounding=tyre / 2)
    paint(picture, disc(*hub, radius - tyre * 0.75), wall, RUBBER, tyre * 0.4, rounding=tyre * 0.2)
    paint(picture, disc(*hub, radius - tyre - 0.012), STEEL * 0.8, METAL, 0.026, rounding=0.012)
    angles = np.arange(spokes) * 2 * np.pi / spokes
    lean = np.where(np.arange(spokes) % 2, 1.2, -1.2)
    outer = np.array(hub) + (radius - tyre - 0.02) * np.column_stack([np.cos(angles), np.sin(angles)])
    inner = np.array(hub) + 0.032 * np.column_stack([np.cos(angles + lean), np.sin(angles + lean)])
    paint(picture, segments(zip(inner, outer)), STEEL, METAL, 0.0065, rounding=0.003)
    paint(picture, disc(*hub, 0.034), STEEL * 0.7, METAL, rounding=0.02)


class Bicycle(NamedTuple):
    """The joints and sizes of one bicycle, shared by the functions that paint its parts."""

    shape: str
    coat: Callable
    tube: float
    grip: np.ndarray
    rear: np.ndarray
    front: np.ndarray
    bracket: np.ndarray
    seat: np.ndarray
    head: np.ndarray
    neck: np.ndarray


def bar(picture, points, colour, material, width, lift=0.008):
    """A round bent tube through the points."""
    paint(picture, curve(points), colour, material, width, rounding=width / 2, lift=lift)


def draw_frame(picture, bicycle, twin):
    """Frame tubes, suspension or plain fork and head tube."""
    shape, coat, tube, _, rear, front, bracket, seat, head, neck = bicycle
    if shape == "step-through":
        bar(picture, [neck + (-0.01, -0.03), (0.20, 0.08), (0.06, 0.23), bracket], coat, ENAMEL, tube * 1.15)
        if twin:
            upper = [head + (0.0, 0.03), (0.12, 0.06), (-0.08, 0.16), bracket * 0.6 + seat * 0.4]
            bar(picture, upper, coat, ENAMEL, tube * 0.8)
    else:
        bar(picture, [seat + (0.01, 0.03), head + (0.01, 0.04)], coat, ENAMEL, tube * 0.9)
        bar(picture, [neck + (-0.01, -0.03), bracket], coat, ENAMEL, tube * 1.15)
    bar(picture, [bracket, seat], coat, ENAMEL, tube)
    bar(picture, [seat + (0, 0.03), rear], coat, ENAMEL, tube * 0.6)
    bar(picture, [bracket, rear], coat, ENAMEL, tube * 0.65)
    if shape == "mountain":
        crown = neck + (0.01, 0.05)
        bar(picture, [neck, crown], DARK, ENAMEL, 0.07)
        bar(picture, [crown, crown * 0.45 + front * 0.55], STEEL, METAL, 0.036)
        bar(picture, [crown * 0.5 + front * 0.5, front], coat.main * 0.8, ENAMEL, 0.054)
    else:
        bar(picture, [neck, neck * 0.4 + front * 0.6 + (-0.015, 0), front], coat, ENAMEL, tube * 0.75)
    bar(picture, [head, neck], coat, ENAMEL, tube * 1.25)
    for hub in (rear, front):
        paint(picture, disc(*hub, 0.018), STEEL, METAL, rounding=0.012, lift=0.006)


def draw_bag(picture, bicycle, random):
    """A bag in the bicycle's colour and pattern: in the frame, or on a rear rack where the frame is open."""
    cloth, bracket, seat = folds(random, 6, (0.4, 0.3), 0.6), bicycle.bracket, bicycle.seat
    if bicycle.shape == "step-through":
        bar(picture, [(-0.86, -0.20), (-0.38, -0.20), seat + (0.02, 0.06)], STEEL * 0.5, METAL, 0.022)
        bag = rounded(-0.63, 0.02, 0.17, 0.19, 0.05)
        paint(picture, bag, bicycle.coat, CLOTH, rounding=0.035, relief=cloth, lift=0.02)
        flap = segments([((-0.79, -0.11), (-0.47, -0.11))])
        paint(picture, flap, bicycle.coat.main * 0.6, CLOTH, 0.014, clip=bag)
        return
    corners = [seat + (0.075, 0.07), bicycle.head + (-0.07, 0.10), bicycle.neck + (-0.09, 0.04)]
    corners += [corners[2] * 0.38 + bracket * 0.62 + (-0.01, -0.05), bracket * 0.55 + seat * 0.45 + (0.06, 0.0)]
    paint(picture, polygon(corners), bicycle.coat, CLOTH, rounding=0.03, relief=cloth, lift=0.012)
    paint(picture, segments([(corners[0] + (0.03, 0.035), corners[1] + (-0.03, 0.03))]), DARK, CLOTH, 0.008)


def draw_crank(picture, bicycle, arm):
    """One crank arm and its pedal."""
    bar(picture, [bicycle.bracket, bicycle.bracket + arm], STEEL, METAL, 0.028)
    pedal = rounded(*(bicycle.bracket + arm), 0.055, 0.015, 0.008)
    paint(picture, pedal, DARK, RUBBER, rounding=0.01, lift=0.008)


def draw_transmission(picture, bicycle, ring, arm):
    """Sprockets, chain, chain ring with its arms, and the near crank."""
    rear, bracket = bicycle.rear, bicycle.bracket
    paint(picture, disc(*rear, 0.048), STEEL * 0.5, METAL, 0.022, dash=(0.012, 0.008), rounding=0.006)
    chain = [
        (rear + (0, -0.048), bracket + (0, -ring)),
        (bracket + (0, ring), rear + (0.03, 0.10)),
        (rear + (0.03, 0.10), rear + (0.05, 0.03)),
    ]
    paint(picture, segments(chain), DARK, METAL, 0.014, dash=(0.010, 0.004))
    paint(picture, disc(*bracket, ring), STEEL * 0.7, METAL, 0.018, rounding=0.008, lift=0.008)
    paint(picture, disc(*bracket, ring + 0.010), STEEL * 0.6, METAL, 0.010, dash=(0.010, 0.010))
    angles = np.arctan2(arm[1], arm[0]) + np.arange(5) * 2 * np.pi / 5
    tips = bracket + ring * np.column_stack([np.cos(angles), np.sin(angles)])
    paint(picture, segments([(bracket, tip) for tip in tips]), STEEL * 0.8, METAL, 0.016, rounding=0.007)
    draw_crank(picture, bicycle, arm)


def draw_saddle(picture, bicycle):
    """Seat post and saddle."""
    x, y = -0.31, min(bicycle.seat[1] - 0.10, -0.36)
    thick = 0.045 if bicycle.shape == "road" else 0.062
    bar(picture, [bicycle.seat, (x, y + 0.03)], STEEL, METAL, bicycle.tube * 0.6)
    saddle = curve(
        [
            (x - 0.14, y - 0.025),
            (x - 0.10, y - 0.045),
            (x, y - 0.03),
            (x + 0.13, y - 0.035),
            (x + 0.16, y - 0.02),
            (x + 0.05, y),
            (x - 0.06, y + thick - 0.02),
            (x - 0.13, y + thick - 0.025),
        ],
        close=True,
    )
    paint(picture, saddle, bicycle.grip, LEATHER, rounding=0.02, lift=0.01)


def draw_handlebar(picture, bicycle):
    """Drop, flat or swept-back bars with grips, brake lever and cable."""
    head, grip = bicycle.head, bicycle.grip
    if bicycle.shape == "road":
        clamp = head + (0.10, -0.085)
        bar(picture, [head, head + (-0.012, -0.06), clamp], DARK, ENAMEL, 0.034)
        bend = [clamp, clamp + (0.10, 0.0), clamp + (0.135, 0.06), clamp + (0.10, 0.13), clamp + (0.02, 0.15)]
        bar(picture, bend, grip, RUBBER, 0.034)
        bar(picture, [clamp + (0.10, -0.005), clamp + (0.15, -0.04)], DARK, RUBBER, 0.036)
        lever = [clamp + (0.145, -0.02), clamp + (0.165, 0.05), clamp + (0.14, 0.11)]
        bar(picture, lever, STEEL, METAL, 0.014)
    elif bicycle.shape == "mountain":
        clamp = head + (0.07, -0.08)
        bar(picture, [head, head + (-0.01, -0.05), clamp], DARK, ENAMEL, 0.042)
        bar(picture, [clamp + (0.03, 0.005), clamp, clamp + (-0.07, -0.035)], grip, RUBBER, 0.042)
        bar(picture, [clamp + (-0.01, 0.0), clamp + (0.06, 0.045)], DARK, METAL, 0.014)
    else:
        clamp = head + (-0.03, -0.17)
        bar(picture, [head, clamp], STEEL, METAL, 0.032)
        swept = [clamp + (0.03, 0.02), clamp + (0.0, -0.03), clamp + (-0.12, -0.01)]
        bar(picture, swept, STEEL, METAL, 0.026)
        bar(picture, [clamp + (-0.08, -0.02), clamp + (-0.17, 0.0)], grip, RUBBER, 0.040)
    cable = [clamp + (0.05, 0.0), clamp + (0.12, 0.10), bicycle.neck + (0.04, 0.02), bicycle.neck]
    paint(picture, curve(cable), DARK, RUBBER, 0.008)


def draw_basket(picture, head):
    """A wicker basket in front of the bars."""
    corners = [head + (0.06, -0.14), head + (0.34, -0.14), head + (0.31, 0.08), head + (0.09, 0.08)]
    wires = [(head + (0.06 + 0.04 * k, -0.14), head + (0.09 + 0.0314 * k, 0.08)) for k in range(8)]
    wires += [(head + (0.06, -0.14 + 0.055 * k), head + (0.34, -0.14 + 0.055 * k)) for k in range(5)]
    paint(picture, segments(wires), WICKER, LEATHER, 0.012, clip=polygon(corners), rounding=0.005)
    paint(picture, polygon(corners), WICKER, LEATHER, 0.018, rounding=0.008)


def draw_bicycle(picture, product, random, view):
    """A bicycle from the drive side; `view` changes nothing about it."""
    coat, shape = surface(product, random, 0.085), product.shape
    radius = random.uniform(0.395, 0.43) - (0.02 if shape == "step-through" else 0)
    tyre = {"road": 0.032, "mountain": 0.075, "step-through": 0.048}[shape] * random.uniform(0.85, 1.15)
    tube = {"road": 0.040, "mountain": 0.054, "step-through": 0.048}[shape] * random.uniform(0.9, 1.2)
    spokes, wall = int(random.choice([20, 24, 28, 32])), [DARK, DARK, TAN, coat.main][random.integers(4)]
    grip = [DARK, DARK, TAN * 0.5][random.integers(3)]
    reach, rise, drop = random.uniform(-0.02, 0.04), random.uniform(-0.04, 0.04), random.uniform(0.02, 0.14)
    crank, ring, twin = random.uniform(0, 2 * np.pi), random.uniform(0.07, 0.10), random.random() < 0.5
    guards, basket = random.random() < 0.7, random.random() < 0.5
    head = np.array((0.35 + reach * 0.6, -0.33 + rise * 0.5))
    seat = np.array((-0.26, -0.24 + rise + (drop if shape == "mountain" else 0)))
    bicycle = Bicycle(
        shape,
        coat,
        tube,
        grip,
        np.array((-0.53, 0.24)),
        np.array((0.53 + reach, 0.24)),
        np.array((-0.09, 0.28)),
        seat,
        head,
        head + (0.045, 0.14),
    )
    arm = np.array((np.cos(crank), np.sin(crank))) * (ring + 0.085)

    for hub in (bicycle.rear, bicycle.front):
        draw_wheel(picture, hub, radius, tyre, wall, spokes, shape == "mountain")
        if shape == "mountain":
            paint(picture, disc(*hub, 0.075), STEEL * 0.7, METAL, 0.022, dash=(0.03, 0.008), rounding=0.006)
    draw_crank(picture, bicycle, -arm)
    draw_frame(picture, bicycle, twin)
    if shape == "step-through" and guards:
        for hub, start, sweep in ((bicycle.rear, 175, 170), (bicycle.front, 190, 130)):
            guard, reach = skia.Path(), radius + 0.03
            guard.addArc(skia.Rect.MakeLTRB(*(hub - reach).tolist(), *(hub + reach).tolist()), start, sweep)
            paint(picture, guard, coat, ENAMEL, 0.026, rounding=0.012, lift=0.01)
    draw_bag(picture, bicycle, random)
    draw_transmission(picture, bicycle, ring, arm)
    draw_saddle(picture, bicycle)
    draw_handlebar(picture, bicycle)
    if shape == "step-through" and basket:
        draw_basket(picture, head)
    return 0.24 + radius


class Shoe(NamedTuple):
    """What the functions that paint a shoe's parts share: outline, surfaces and colours."""

    points: list
    body: skia.Path
    upper: Callable
    material: Material
    relief: Callable
    trim: np.ndarray
    thread: np.ndarray
    lace: np.ndarray
    metal: np.ndarray

    def panel(self, picture, outline, rounding=0.02):
        """A piece of trim sewn onto the upper."""
        paint(
            picture,
            outline,
            self.trim,
            self.material,
            clip=self.body,
            rounding=rounding,
            relief=self.relief,
            lift=0.008,
        )

    def stitch(self, picture, points):
        """A line of stitches on the upper."""
        paint(picture, curve(points), self.thread, CLOTH, 0.008, dash=(0.024, 0.012), clip=self.body)


def shoe_outline(shape, ground, random):
    """The side view of an upper with its heel left; the points where its opening starts and ends."""
    tall, toe = random.uniform(0.9, 1.12), random.uniform(-0.03, 0.05)
    if shape == "sneaker":
        points = [
            (-0.86, ground),
            (-0.90, 0.10),
            (-0.86, -0.12),
            (-0.84, -0.29 * tall),
            (-0.68, -0.25 * tall),
            (-0.44, -0.22 * tall),
            (-0.22, -0.38 * tall),
            (-0.12, -0.37 * tall),
            (0.06, -0.21 * tall),
            (0.30, -0.05),
            (0.56, 0.06 - toe),
            (0.77, 0.13 - toe),
            (0.89, 0.24),
            (0.91, ground),
        ]
        return points, 3, 6
    if shape == "boot":
        points = [
            (-0.84, ground),
            (-0.86, 0.14),
            (-0.80, -0.12),
            (-0.82, -0.45 * tall),
            (-0.84, -0.74 * tall),
            (-0.55, -0.72 * tall),
            (-0.24, -0.76 * tall),
            (-0.23, -0.48 * tall),
            (-0.16, -0.22),
            (0.10, -0.05),
            (0.42, 0.06),
            (0.67, 0.11 - toe),
            (0.85, 0.21),
            (0.90, ground),
        ]
        return points, 4, 6
    points = [
        (-0.86, ground),
        (-0.90, 0.18),
        (-0.87, -0.02),
        (-0.84, -0.11 * tall),
        (-0.60, -0.02),
        (-0.36, 0.04),
        (-0.14, -0.09 * tall),
        (-0.04, -0.13 * tall),
        (0.14, -0.05),
        (0.40, 0.06 - toe),
        (0.66, 0.13 - toe),
        (0.86, 0.22),
        (0.93, 0.32),
        (0.90, ground),
    ]
    return points, 3, 6


def draw_laces(picture, shoe, count):
    """Laces along the throat, each from an eyelet over the edge, and a bow's loose ends."""
    knots = [np.array(point) for point in shoe.points[6:10]]
    for number in range(count):
        place = (number + 0.6) / count * (len(knots) - 1)
        index, share = int(place), place % 1
        spot = knots[index] * (1 - share) + knots[index + 1] * share
        along = (knots[index + 1] - knots[index]) / np.linalg.norm(knots[index + 1] - knots[index])
        eyelet = spot + np.array((-along[1], along[0])) * 0.10
        paint(picture, disc(*eyelet, 0.014), shoe.metal, METAL, rounding=0.008)
        lace = curve([eyelet, (eyelet + spot) / 2 + along * 0.02, spot + along * 0.035])
        paint(picture, lace, shoe.lace, CLOTH, 0.032, rounding=0.014, lift=0.008)
    knot = knots[0] * 0.7 + knots[1] * 0.3
    for tip in ((-0.13, 0.10), (0.06, 0.15)):
        end = curve([knot, knot + np.array(tip) * (0.6, 0.2), knot + tip])
        paint(picture, end, shoe.lace, CLOTH, 0.024, rounding=0.011, lift=0.01)


def sneaker_upper(picture, shoe, sole, ground, random):
    """Lace stay, toe cap, side bands and laces."""
    cap, cap_at, bands = random.random() < 0.55, random.uniform(0.55, 0.68), int(random.integers(0, 4))
    for number in range(bands):
        x = -0.30 + 0.11 * number
        stripe = curve([(x + 0.10, -0.08 + 0.03 * number), (x + 0.04, 0.10), (x - 0.08, ground + 0.04)])
        paint(picture, stripe, shoe.trim, shoe.material, 0.05, clip=shoe.body, rounding=0.012, lift=0.004)
    stay = [np.array(point) for point in shoe.points[6:10]]
    under = [point + (-0.09, 0.15) for point in stay]
    shoe.panel(picture, curve(stay, [stay[-1], under[-1]], under[::-1], close=True), 0.015)
    shoe.stitch(picture, [point + (0.012, -0.02) for point in under])
    if cap:
        edge = [(cap_at + 0.02, -0.1), (cap_at - 0.05, 0.10), (cap_at + 0.03, ground + 0.05)]
        toe = curve(edge, [edge[-1], (1.0, ground + 0.05)], [(1.0, ground + 0.05), (1.0, -0.1)], close=True)
        colour = sole if sole.mean() > 0.3 else shoe.trim
        paint(picture, toe, colour, RUBBER, clip=shoe.body, rounding=0.10, lift=0.006)
    draw_laces(picture, shoe, 6)


def boot_upper(picture, shoe, sole, ground, random):
    """Laces or an elastic side panel with a pull loop, and a seam over the toes."""
    shoe.stitch(picture, [(0.12, -0.08), (0.16, 0.10), (0.02, ground + 0.04)])
    if random.random() < 0.6:
        draw_laces(picture, shoe, 8)
        return
    back, top = shoe.points[4]
    loop = curve([(back + 0.04, top + 0.10), (back - 0.02, top - 0.02), (back + 0.02, top - 0.10), (back + 0.06, top)])
    paint(picture, loop, shoe.upper.main * 0.7, CLOTH, 0.03, rounding=0.012, lift=0.006)
    gore = curve([(-0.68, top - 0.1), (-0.63, -0.3), (-0.52, -0.06), (-0.41, -0.3), (-0.38, top - 0.1)], close=True)
    paint(picture, gore, DARK, CLOTH, clip=shoe.body, rounding=0.015, relief=lambda u, v: 0.002 * np.sin(u * 150))


def loafer_upper(picture, shoe, sole, ground, random):
    """The raised seam round the apron, the saddle strap and, on some, a buckle."""
    apron = [(0.02, -0.04), (0.22, 0.10), (0.55, 0.18), (0.78, 0.23), (0.88, 0.28)]
    ridge = shoe.upper.main * 0.6
    paint(picture, curve(apron), ridge, LEATHER, 0.022, clip=shoe.body, rounding=0.01, lift=0.01)
    shoe.stitch(picture, [(x, y + 0.03) for x, y in apron])
    front = [(0.08, -0.12), (0.13, 0.0), (0.11, 0.14), (0.05, ground + 0.05)]
    back = [front[-1], (-0.16, ground + 0.05), (-0.12, 0.1), (-0.14, -0.14)]
    shoe.panel(picture, curve(front, back, close=True), 0.03)
    if random.random() < 0.6:
        buckle = rounded(0.02, 0.0, 0.07, 0.025, 0.02)
        paint(picture, buckle, shoe.metal, METAL, 0.018, rounding=0.008, lift=0.01)


UPPERS = {"sneaker": sneaker_upper, "boot": boot_upper, "loafer": loafer_upper}


def draw_one_shoe(picture, product, random):
    """One shoe from the side: lining, heel, upper, trim by shape, collar, sole; returns its ground."""
    shape, floor = product.shape, 0.46
    upper = surface(product, random, 0.12)
    thick = {"sneaker": 0.12, "boot": 0.09, "loafer": 0.05}[shape] * random.uniform(0.85, 1.3)
    heel = {"sneaker": 0.0, "boot": 0.09, "loafer": 0.07}[shape] * random.uniform(0.7, 1.3)
    material = CLOTH if shape == "sneaker" and random.random() < 0.6 else LEATHER
    pores, creases = grained(random, 45, 0.0006), folds(random, 5, (0.7, 0.2), 0.25)
    soles = [linear((238, 236, 228)), DARK, TAN, linear((90, 60, 40))]
    sole = soles[random.integers(3) if shape == "sneaker" else random.integers(1, 4)]
    trim = [upper.main * 0.55, upper.second, upper.main * 0.8][random.integers(3)]
    if product.pattern != "plain":
        trim = upper.main * random.uniform(0.5, 0.9)
    thread = linear((228, 218, 196)) if random.random() < 0.5 else upper.main * 0.45
    lace = [linear((235, 233, 226)), DARK, upper.main][random.integers(3)]
    lining = [TAN, linear((60, 60, 62)), linear((214, 212, 206))][random.integers(3)]
    metal, counter = linear(METALS[random.integers(len(METALS))]), random.random() < 0.7
    ground = floor - thick

    def raised(x):
        share = np.clip((0.30 - x) / 0.7, 0, 1)
        return heel * share * share * (3 - 2 * share)

    def relief(u, v):
        return pores(u, v) + creases(u, v) - 0.30 * np.square(v - 0.12)

    points, rear, tongue = shoe_outline(shape, ground + 0.03, random)
    points = [(x, y - raised(x)) for x, y in points]
    body = curve(
        points[rear : tongue + 1],
        points[tongue:],
        [points[-1], (0.25, ground + 0.03), points[0]],
        points[: rear + 1],
        close=True,
    )
    shoe = Shoe(points, body, upper, material, relief, trim, thread, lace, metal)

    mouth = points[rear : tongue + 1]
    far = [mouth[0], *[(x + 0.05, y - 0.06) for x, y in mouth[1:-1]], mouth[-1]]
    paint(picture, curve(far, mouth[::-1], close=True), lining * 0.4, CLOTH, rounding=0.02)
    if heel:
        block = polygon(
            [(-0.85, floor - heel - thick * 0.6), (-0.38, floor - heel * 0.6 - thick), (-0.40, floor), (-0.84, floor)]
        )
        paint(picture, block, sole * 0.7, RUBBER, rounding=0.015, relief=lambda u, v: 0.0015 * np.sin(v * 160))
    paint(picture, body, upper, material, rounding=0.16, relief=relief)
    if counter:
        edge = [(-0.95, -0.10), (-0.72, -0.05), (-0.60, 0.14), (-0.54, ground + 0.04)]
        shoe.panel(picture, curve(edge, [edge[-1], (-0.95, ground + 0.04)], close=True))
        shoe.stitch(picture, [(x - 0.025, y + 0.02) for x, y in edge])
    UPPERS[shape](picture, shoe, sole, ground, random)
    paint(picture, curve(mouth), upper.main * 0.75, material, 0.035, rounding=0.016, lift=0.006)

    along = np.linspace(-0.86 + thick / 2, 0.92 - thick / 2, 12)
    spring = 0.04 * np.clip((along - 0.55) / 0.35, 0, 1) ** 2
    line = curve(list(zip(along, floor - thick / 2 - raised(along) - spring)))
    paint(
        picture,
        line,
        sole,
        RUBBER,
        thick,
        rounding=0.03,
        lift=0.01,
        relief=lambda u, v: 0.0012 * np.sin(u * 120) * (shape != "loafer"),
    )
    paint(picture, line, sole * 0.55, RUBBER, 0.010, dash=None if shape == "sneaker" else (0.02, 0.012))
    return floor


def draw_shoe(picture, product, random, view):
    """A shoe, in some views with its pair standing half behind it."""
    state = random.bit_generator.state
    scale = 0.88 if product.shape == "boot" else 1.0
    if view.random() < 0.4:
        aside = view.choice([-1, 1]) * view.uniform(0.08, 0.2)
        draw_one_shoe(picture.moved((scale * 0.92, 0, aside), (0, scale * 0.92, -0.05)), product, random)
        picture.colour *= 0.82
        random.bit_generator.state = state
    return scale * draw_one_shoe(picture.moved((scale, 0, 0), (0, scale, 0.06)), product, random) + 0.06


DRAW = {"watch": draw_watch, "t-shirt": draw_t_shirt, "bicycle": draw_bicycle, "shoe": draw_shoe}


# Photographs


def backdrop(view, light):
    """An empty set of any tone and texture, chosen apart from the product; the light falls off across it."""
    extent = SIZE * SUPERSAMPLE
    rows, columns = np.mgrid[0:extent, 0:extent] / extent
    kind, angle = BACKDROPS[view.integers(len(BACKDROPS))], view.uniform(-0.08, 0.08)
    tones = WOODS if kind == "planks" else TONES
    tone = np.array(tones[view.integers(len(tones))]) * view.uniform(0.9, 1.04)
    tone *= view.uniform(0.985, 1.015, 3)
    slow, fine = noise(view, 3), noise(view, 45)
    value = 1 + 0.04 * slow(columns, rows)
    x, y = columns + angle * rows, rows - angle * columns
    if kind == "plaster":
        value += 0.05 * noise(view, 14)(columns, rows) + 0.04 * fine(columns, rows)
    elif kind == "linen":
        value += 0.06 * fine(x, y * 8) + 0.06 * fine(x * 8, y)
    elif kind == "carpet":
        value += 0.16 * noise(view, 90)(x, y) + 0.12 * fine(x * 1.3, y)
    elif kind == "tiles":
        across, along = (x * 2.6) % 1 - 0.5, (y * 2.6 + 0.3) % 1 - 0.5
        joint = np.exp(-((np.maximum(np.abs(across), np.abs(along)) - 0.5) ** 2) * 9000)
        value += 0.05 * slow(x * 3, y * 3) - 0.28 * joint
    elif kind == "planks":
        boards = view.uniform(4, 8)
        if view.random() < 0.5:
            x, y = y, x
        board = np.floor(y * boards + 4)
        shades = view.uniform(0.78, 1.12, 16)[board.astype(int) % 16]
        grain = noise(view, 60)(x * 0.08 + board * 3, y) + 0.7 * noise(view, 24)(x * 0.12 + board * 5, y)
        joint = np.exp(-((np.abs((y * boards) % 1 - 0.5) - 0.5) ** 2) * 3000)
        value *= shades * (1 + 0.16 * grain) * (1 - 0.55 * joint)
    horizon, edge = view.uniform(0.5, 0.75), view.uniform(0.04, 0.12)
    if view.random() < 0.6:
        value *= 1 + view.uniform(-0.20, 0.12) / (1 + np.exp((horizon - rows) / edge))
    value *= 1 + 0.35 * ((columns - 0.5) * light[0] + (rows - 0.5) * light[1])
    return (linear(np.clip(tone, 0, 250)) * value[..., None]).astype(np.float32)


def cast_shadow(picture, ground, strength):
    """How dark the set gets: on the floor before a standing product, or behind a lying or hanging one."""
    pixel, light = picture.pixel, picture.light
    if ground is None:
        shifts = [np.round(-light[:2] * reach * pixel).astype(int) for reach in (0.02, 0.08)]
        near, far = (np.roll(picture.alpha, (shift[1], shift[0]), (0, 1)) for shift in shifts)
        return strength * np.maximum(0.70 * blur(near, 0.025 * pixel), 0.45 * blur(far, 0.12 * pixel))
    extent = picture.alpha.shape[0]
    u, v = product_coordinates(picture.matrix, (0, 0, extent, extent))

    def fallen(squash, start, fade):
        rise = (v - start) / squash
        spot = np.stack([u + light[0] * rise * 0.5, ground - rise, np.ones_like(u)], -1) @ picture.matrix.T
        x, y = (np.clip(spot[..., axis] / spot[..., 2], 0, extent - 1).astype(int) for axis in (0, 1))
        return np.where(rise >= 0, picture.alpha[y, x] * np.exp(-fade * np.abs(rise)), 0).astype(np.float32)

    far = blur(fallen(0.20, ground - 0.015, 0.9), 0.035 * pixel)
    near = blur(fallen(0.30, ground - 0.02, 12), 0.018 * pixel)
    return strength * np.clip(0.62 * far + 1.1 * near, 0, 0.9)


def placement(label, view):
    """Where and how the camera sees the product: place, size, turn, and a little perspective."""
    standing = label in ("bicycle", "shoe")
    scale = view.uniform(0.80, 0.98) * SIZE * SUPERSAMPLE / 2
    turn = view.normal(0, {"watch": 0.3, "t-shirt": 0.12}.get(label, 0.02))
    squeeze = view.uniform(0.86, 1.0) if standing else view.uniform(0.94, 1.0)
    if label == "shoe" and view.random() < 0.35:
        squeeze = -squeeze
    if label == "t-shirt":
        scale *= 1.1
    shift = np.eye(3)
    shift[:2, 2] = (0.5 + view.uniform(-0.03, 0.03, 2)) * SIZE * SUPERSAMPLE
    cosine, sine = scale * np.cos(turn), scale * np.sin(turn)
    body = np.array([(cosine * squeeze, -sine, 0), (sine * squeeze, cosine, 0), (0, 0, 1)])
    lens = np.array([(1, 0, 0), (0, 1, 0), (*view.normal(0, 0.035, 2), 1)])
    return shift @ body @ lens


def photograph(product, seed, view_number):
    """One finished view of a product as an 8-bit RGB image."""
    key = [seed, sorted(SHAPES).index(product.label), product.number]
    random, view = np.random.default_rng(key), np.random.default_rng([*key, 1 + view_number])
    light = np.array((view.choice([-1, 1]) * view.uniform(0.35, 0.7), -view.uniform(0.4, 0.75), 0.75))
    light /= np.linalg.norm(light)
    extent = SIZE * SUPERSAMPLE
    layer = Picture(
        placement(product.label, view),
        light,
        np.zeros((extent, extent, 3), np.float32),
        np.zeros((extent, extent), np.float32),
    )
    scene = backdrop(view, light)
    ground = DRAW[product.label](layer, product, random, view)
    scene *= 1 - cast_shadow(layer, ground, view.uniform(0.75, 1.0))[..., None]
    scene = scene * (1 - layer.alpha[..., None]) + layer.colour
    rows, columns = np.mgrid[-1 : 1 : extent * 1j, -1 : 1 : extent * 1j]
    scene *= (1 - view.uniform(0.03, 0.14) * (rows**2 + columns**2))[..., None]
    if view.random() < 0.35:
        turn, edge, soft = view.uniform(0, 2 * np.pi), view.uniform(-0.5, 0.2), view.uniform(0.06, 0.3)
        shaded = 1 / (1 + np.exp((edge - columns * np.cos(turn) - rows * np.sin(turn)) / soft))
        scene *= (1 - view.uniform(0.12, 0.32) * shaded)[..., None]
    scene *= view.uniform(0.90, 1.18) * (1 + view.normal(0, 0.02, 3))
    blurred = view.uniform(1.0, 2.6)
    scene = np.stack([blur(scene[..., channel], blurred) for channel in range(3)], -1)
    scene = np.where(scene > 0.8, 0.8 + 0.2 * np.tanh((scene - 0.8) / 0.2), scene)
    display = np.clip(scene, 0, 1) ** (1 / 2.2) * 255
    small = Image.fromarray(display.round().astype(np.uint8)).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    noisy = np.asarray(small) + view.normal(0, view.uniform(0.8, 2.0), (SIZE, SIZE, 1))
    return Image.fromarray(np.clip(noisy.round(), 0, 255).astype(np.uint8))


# Catalogue


def dealt(values, count, random):
    """`count` values, each about equally often, in a shuffled order."""
    return [values[k % len(values)] for k in random.permutation(count)]


def catalogue(seed):
    """All products, their attributes dealt out separately within each label."""
    products = []
    for index, label in enumerate(sorted(SHAPES)):
        random = np.random.default_rng([seed, index])
        attributes = (list(COLOURS), PATTERNS, SHAPES[label])
        columns = [dealt(values, PRODUCTS_PER_LABEL, random) for values in attributes]
        products += [Product(label, number, *row) for number, row in enumerate(zip(*columns))]
    return products


def main():
    """Draw every view, write catalog.csv beside them and, if asked, a contact sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--sheet", type=Path, help="also write all pictures side by side to this PNG")
    arguments = parser.parse_args()

    rows, pictures = [], []
    for product in catalogue(arguments.seed):
        (arguments.out / product.label).mkdir(parents=True, exist_ok=True)
        for view_number in range(VIEWS_PER_PRODUCT):
            image_id = f"{product.label}/{product.name}-{view_number}.jpg"
            picture = photograph(product, arguments.seed, view_number)
            encoded = io.BytesIO()
            picture.save(encoded, "JPEG", quality=JPEG_QUALITY, optimize=True)
            (arguments.out / image_id).write_bytes(encoded.getvalue())
            pictures.append(picture)
            rows.append([image_id, product.name, product.label, *product[2:]])
    with open(arguments.out / "catalog.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["image_id", "product_id", "label", "colour", "pattern", "shape"])
        writer.writerows(sorted(rows))
    if arguments.sheet:
        across = 4 * VIEWS_PER_PRODUCT
        sheet = Image.new("RGB", (across * SIZE // 2, -(-len(pictures) // across) * SIZE // 2))
        for index, picture in enumerate(pictures):
            place = (index % across * SIZE // 2, index // across * SIZE // 2)
            sheet.paste(picture.resize((SIZE // 2, SIZE // 2), Image.Resampling.LANCZOS), place)
        sheet.save(arguments.sheet)


if __name__ == "__main__":
    main()
