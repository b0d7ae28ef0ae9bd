"""Paint a product in relief: paths, textures, materials and the light on them.

Everything is computed in linear light. A flat family paints its parts one over another on a
`Picture`; each part is a path with a rounded edge and a relief, shaded and shadowing what lies
below. Solid families (see solids.py) use the materials, textures and the light only.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import skia

RGB = {
    "black": (30, 30, 33),
    "white": (236, 235, 230),
    "grey": (126, 128, 132),
    "red": (182, 30, 38),
    "blue": (32, 74, 164),
    "green": (36, 116, 66),
    "yellow": (232, 184, 36),
    "brown": (112, 68, 38),
}
METALS = [(205, 207, 211), (205, 207, 211), (216, 174, 98), (84, 86, 90), (218, 166, 146)]


class Material(NamedTuple):
    """How a surface answers the light: highlight, its tightness, mirror share, grain, fullness of
    edges.
    """

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


class Pose(NamedTuple):
    """One way to photograph a family; ranges are (low, high), angles of solids in degrees.

    The setting is a `table` or a `desk` seen from above, a `wall` to hang on or a `floor` with a
    wall behind it.
    """

    name: str
    setting: str
    size: tuple = (0.80, 0.98)
    turn: float = 0.0
    squeeze: tuple = (1.0, 1.0)
    mirror: bool = False
    elevation: tuple = (0, 0)
    yaw: tuple = (0, 0)


@dataclass
class Picture:
    """The product layer being painted: its place, its light, its premultiplied linear colour and
    alpha.
    """

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
    """Light intensity of an 8-bit display colour; shading is computed in light, not in display
    values.
    """
    return ((np.asarray(colour, float) / 255) ** 2.2).astype(np.float32)


STEEL, DARK, TAN, WICKER = linear([(196, 198, 202), (28, 28, 30), (180, 134, 86), (120, 92, 62)])


def box_blur(values, radius, axis):
    """Running mean along one axis, edges continued."""
    width = [(0, 0)] * values.ndim
    width[axis] = (radius + 1, radius)
    padded, count = np.pad(values, width, mode="edge"), 2 * radius + 1
    if count <= 7:  # a few sums are faster than a running one
        padded, extent = np.moveaxis(padded, axis, 0), values.shape[axis]
        total = sum(padded[1 + step : 1 + step + extent] for step in range(count))
    else:
        padded = np.moveaxis(np.cumsum(padded, axis=axis, dtype=np.float64), axis, 0)
        total = padded[count:] - padded[:-count]
    return np.moveaxis((total / count).astype(np.float32), 0, axis)


def blur(values, radius):
    """Nearly Gaussian blur whose reach is about `radius` pixels: two running means on each axis."""
    step = max(1, round(radius / 2))
    for axis in (0, 1, 0, 1):
        values = box_blur(values, step, axis)
    return values


def shifted(values, way):
    """The values moved by a way (right, down) in pixels, none where nothing moves in."""
    right, down = np.round(way).astype(int)
    rows, columns = values.shape
    result = np.zeros_like(values)
    result[max(down, 0) : rows + min(down, 0), max(right, 0) : columns + min(right, 0)] = values[
        max(-down, 0) : rows - max(down, 0), max(-right, 0) : columns - max(right, 0)
    ]
    return result


def noise(random, frequency, stretch=1.0):
    """A smooth random field over product coordinates in -1..1, `stretch` times longer along v."""
    table = random.random((64, 64)).astype(np.float32) * 2 - 1

    def field(u, v):
        x = np.asarray(u * frequency + 17.3, np.float32)
        y = np.asarray(v * frequency / stretch + 31.7, np.float32)
        left_edge, top_edge = np.floor(x), np.floor(y)
        column, row = left_edge.astype(np.int32), top_edge.astype(np.int32)
        x, y = x - left_edge, y - top_edge
        x, y = x * x * (3 - 2 * x), y * y * (3 - 2 * y)
        left, right, top, bottom = column & 63, (column + 1) & 63, row & 63, (row + 1) & 63
        upper = table[top, left] * (1 - x) + table[top, right] * x
        lower = table[bottom, left] * (1 - x) + table[bottom, right] * x
        return upper * (1 - y) + lower * y

    return field


def folds(random, count, reach, depth):
    """Relief of laid cloth: slow swells and `count` bent creases inside the box of half size
    `reach`.
    """
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
    """Colour of the patterned surface as a function of product coordinates; the main colour
    prevails.
    """
    main = linear(
        np.clip(np.array(RGB[product.colour]) * random.uniform(0.975, 1.025, 3) + 2, 0, 255)
    )
    main *= random.uniform(0.88, 1.12)
    pale, dark = linear([(240, 236, 224), (24, 26, 34)])
    second = dark if main.mean() > 0.17 else pale
    period = period * random.uniform(0.85, 1.3)
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
            bands = (across / 1.3 % 1 < duty) * 1.0 + (along / 1.3 % 1 < duty)
            share = np.choose(bands.astype(int), [0.0, 0.45, 1.0])
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
    """A path that is smooth within each run of points and has a corner where one run meets the
    next.
    """
    path = skia.Path()
    path.moveTo(*map(float, runs[0][0]))
    for points in runs:
        points = np.array(points, float)
        padded = np.vstack([points[:1], points, points[-1:]])
        for before, start, end, after in zip(
            padded[:-3], padded[1:-2], padded[2:-1], padded[3:], strict=True
        ):
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
    return (u / w).astype(np.float32), (v / w).astype(np.float32)


def studio(x, y, light):
    """What a mirror sees in the direction (x right, y down): bright ceiling, dark floor, two strip
    lights.
    """
    strip = np.exp(-(((x - 0.7 * light[0]) * 2.2 + y * 0.5) ** 2) * 6)
    rim = np.exp(-(((x + 0.9 * light[0]) * 2.0) ** 2) * 8)
    return 0.30 - 0.28 * np.tanh(2.5 * y) + 0.85 * strip + 0.35 * rim


def lit(albedo, normal, material, light, shadow=0.0):
    """Light leaving a surface: soft diffuse light, one highlight and a studio reflection.

    `normal` is (x right, y down, z to the camera); `shadow` is how much of the main light is kept
    away.
    """
    x, y, z = normal
    facing = np.clip(x * light[0] + y * light[1] + z * light[2], 0, None) / light[2]
    diffuse = 0.30 + 0.70 * np.clip(facing, 0, 1.55) * (1 - shadow) - 0.10 * y
    half = light + np.array((0, 0, 1), np.float32)
    half = half / np.linalg.norm(half)
    shine = np.clip(x * half[0] + y * half[1] + z * half[2], 0, 1) ** material.gloss
    shine = np.clip(shine - half[2] ** material.gloss * 0.8, 0, None) * (1 - shadow)
    mirrored = studio(2 * x * z, 2 * y * z, light)[..., None]
    clear_coat = albedo if material.mirror > 0.3 else np.float32(1)
    matt = albedo * diffuse[..., None] * (1 - material.mirror)
    return matt + mirrored * clear_coat * material.mirror + material.specular * shine[..., None]


def shade(albedo, height, material, light):
    """Light leaving a relief seen from above."""
    slope_y, slope_x = np.gradient(height)
    z = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
    return lit(albedo, (-slope_x * z, -slope_y * z, z), material, light)


def speckled(albedo, material, u, v):
    """The albedo with the material's grain; the fields are fixed, for grain belongs to the
    material.
    """
    if not material.grain:
        return albedo
    speckle = noise(np.random.default_rng(0), 70)(u, v) + noise(np.random.default_rng(1), 31)(u, v)
    return albedo * (1 + material.grain * speckle[..., None])


def paint(
    picture,
    path,
    colour,
    material,
    width=None,
    dash=None,
    clip=None,
    rounding=0.0,
    relief=None,
    lift=0.0,
    opacity=1.0,
):
    """Paint one part: fill or stroke it, round its edge, shade it and let it shadow what lies
    below.

    `colour` is linear RGB or a function of product coordinates; `rounding` is the width of the
    rounded edge, `relief` the height over product coordinates (a pattern is dragged along its
    slopes) and `lift` the height of the part above what it covers.
    """
    margin = (width or 0) + rounding + 2.5 * lift
    box = pixel_box(picture, path, margin)
    if box[2] - box[0] < 2 or box[3] - box[1] < 2:
        return
    area = (slice(box[1], box[3]), slice(box[0], box[2]))
    mask = coverage(picture, path, width, dash, box)
    if clip:
        mask *= coverage(picture, clip, None, None, box)
    pixel = picture.pixel
    if lift:
        shadow = blur(shifted(mask, -picture.light[:2] * lift * pixel), 1.2 * lift * pixel)
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
        u, v = u + 0.025 * np.clip(drag_u, -1, 1), v + 0.025 * np.clip(drag_v, -1, 1)
    albedo = colour(u, v) if callable(colour) else np.broadcast_to(colour, (*mask.shape, 3))
    albedo = speckled(albedo, material, u, v)
    mask = mask[..., None] * opacity
    shaded = shade(albedo, height, material, picture.light)
    picture.colour[area] = picture.colour[area] * (1 - mask) + shaded * mask
    picture.alpha[area] = picture.alpha[area] * (1 - mask[..., 0]) + mask[..., 0]
