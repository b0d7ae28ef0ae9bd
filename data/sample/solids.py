"""Solid products: bent sheets and tubes in space, seen by a distant camera and lit with their own
shadows.

World coordinates are x to the right, y up from the ground, z towards a viewer in front. A sheet is
a dense grid of points; every point is shaded, then the nearest one wins each pixel.
"""

from typing import NamedTuple

import numpy as np

from painting import Material, blur, lit, noise, speckled

SHADOW_MAP = 420


class Sheet(NamedTuple):
    """A grid of points (rows, columns, 3), its colour there and a relief along its normals."""

    points: np.ndarray
    colour: np.ndarray
    material: Material
    relief: np.ndarray | float = 0.0
    opacity: float = 1.0


class Solid(NamedTuple):
    """What the camera saw: premultiplied colour, alpha, and how dark the ground gets."""

    colour: np.ndarray
    alpha: np.ndarray
    shadow: np.ndarray


# Shapes


def grid(rows, columns, start=(0.0, 0.0), stop=(1.0, 1.0)):
    """Two parameters over a grid: the first runs down the rows, the second along the columns."""
    return np.meshgrid(
        np.linspace(start[0], stop[0], rows), np.linspace(start[1], stop[1], columns), indexing="ij"
    )


def smooth(points, count):
    """`count` points along a curve through the given ones."""
    points = np.array(points, float)
    padded = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    place = np.linspace(0, len(points) - 1, count)
    index = np.minimum(place.astype(int), len(points) - 2)
    t = (place - index)[:, None]
    before, start, end, after = (padded[index + step] for step in range(4))
    bend = 2 * before - 5 * start + 4 * end - after
    twist = -before + 3 * start - 3 * end + after
    return 0.5 * (2 * start + (end - before) * t + bend * t**2 + twist * t**3)


def profile(points, x):
    """A smooth function given by its values (x, y) at some places."""
    curve = smooth(points, 400)
    return np.interp(x, curve[:, 0], curve[:, 1])


def length(vectors):
    """Length of each vector."""
    return np.sqrt(np.einsum("...k,...k->...", vectors, vectors))


def arc_length(points, axis):
    """Distance walked along one axis of a grid of points."""
    steps = length(np.diff(points.astype(np.float32), axis=axis))
    start = np.zeros_like(np.take(steps, [0], axis))
    return np.concatenate([start, np.cumsum(steps, axis=axis)], axis=axis)


def stack(x, y, z):
    """Points from three coordinates that may be broadcast against each other."""
    return np.stack(np.broadcast_arrays(x, y, z), -1).astype(np.float32)


def tube(path, width, depth, colour, material, up=(0, 1, 0), around=48, relief=0.0):
    """An oval rod along a path; `width` is its half size towards `up`, `depth` its half size
    across.
    """
    path = np.asarray(path, float)
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    side = np.cross(along, np.array(up, float))
    side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-9
    top = np.cross(side, along)
    angle = np.linspace(0, 2 * np.pi, around)[None, :, None]
    width, depth = (np.broadcast_to(value, len(path))[:, None, None] for value in (width, depth))
    points = (
        path[:, None] + width * np.cos(angle) * top[:, None] + depth * np.sin(angle) * side[:, None]
    )
    return plain(points, colour, material, relief)


def plain(points, colour, material, relief=0.0, opacity=1.0):
    """A sheet of one colour."""
    return Sheet(points, np.broadcast_to(colour, points.shape), material, relief, opacity)


def box(angle, width, depth, power):
    """Outline of a box with round corners, a superellipse; power 1 is an ellipse."""
    cosine, sine = np.cos(angle), np.sin(angle)
    reach = (np.abs(cosine) ** (2 * power) + np.abs(sine) ** (2 * power)) ** (-0.5 / power)
    return width * cosine * reach, depth * sine * reach


def ball(centre, radii, colour, material):
    """An ellipsoid."""
    down, around = grid(60, 90, (0.0, 0.0), (np.pi, 2 * np.pi))
    unit = stack(np.sin(down) * np.cos(around), np.cos(down), np.sin(down) * np.sin(around))
    return plain(np.array(centre) + unit * radii, colour, material)


def moved(sheets, turn=0.0, shift=(0, 0, 0), roll=0.0, mirror=False):
    """The same sheets rolled about x, turned about y (radians), mirrored in z and shifted."""
    cosine, sine = np.cos(turn), np.sin(turn)
    matrix = np.array([(cosine, 0, sine), (0, 1, 0), (-sine, 0, cosine)])
    cosine, sine = np.cos(roll), np.sin(roll)
    matrix = (
        matrix
        @ np.array([(1, 0, 0), (0, cosine, -sine), (0, sine, cosine)])
        @ np.diag([1, 1, -1 if mirror else 1])
    )
    return [sheet._replace(points=sheet.points @ matrix.T + shift) for sheet in sheets]


# Camera


def normals(points, relief):
    """Unit normals of a grid of points after its relief has been raised."""

    def cross(grid_points):
        x, y, z = np.moveaxis(np.gradient(grid_points, axis=0), -1, 0)
        right, up, near = np.moveaxis(np.gradient(grid_points, axis=1), -1, 0)
        normal = np.stack([y * near - z * up, z * right - x * near, x * up - y * right], -1)
        return normal / (length(normal)[..., None] + 1e-12)

    if np.ndim(relief) == 0:
        return cross(points)
    return cross(points + cross(points) * relief[..., None])


def nearest(x, y, depth, extent):
    """Which point each pixel shows, -1 for none: every point covers two by two pixels, the nearest
    is on top.
    """
    column, row = x.astype(int), y.astype(int)
    start, stop = depth.min(), depth.max()
    order = np.argsort(
        ((depth - start) * (65535 / max(stop - start, 1e-6))).astype(np.uint16), kind="stable"
    )
    column, row = column[order], row[order]
    shown = np.full((extent + 1, extent + 1), -1)
    inside = (column >= 0) & (column < extent) & (row >= 0) & (row < extent)
    column, row, order = column[inside], row[inside], order[inside]
    corners = [(row + down) * (extent + 1) + column + right for down in (0, 1) for right in (0, 1)]
    shown.ravel()[np.stack(corners, 1).ravel()] = np.repeat(order, 4)
    return shown[:extent, :extent]


class ShadowMap:
    """What the lamp sees, to ask how much of it is hidden from a point."""

    def __init__(self, points, direction, random):
        self.direction = direction
        self.across = np.cross(direction, (0.3, 1.0, 0.2))
        self.across /= np.linalg.norm(self.across)
        self.along = np.cross(direction, self.across)
        x, y, depth = points @ self.across, points @ self.along, points @ direction
        self.corner = np.array([x.min(), y.min()])
        self.pixel = max(np.ptp(x), np.ptp(y)) * 1.02 / SHADOW_MAP
        column, row = (
            (value - start) / self.pixel for value, start in zip((x, y), self.corner, strict=True)
        )
        shown = nearest(column, row, depth, SHADOW_MAP)
        self.depth = np.where(shown < 0, -np.inf, depth[shown])
        angle = np.arange(5) * 2 * np.pi / 5 + random.uniform(0, 1)
        self.taps = (
            np.column_stack([np.cos(angle), np.sin(angle)])
            * np.array([0.4, 1, 0.6, 1, 0.7])[:, None]
        )

    def hidden(self, points, softness, bias=0.03):
        """The share of the lamp hidden from each point."""
        x, y, depth = points @ self.across, points @ self.along, points @ self.direction
        total = np.zeros(x.shape, np.float32)
        for tap in self.taps * softness:
            column = ((x + tap[0] - self.corner[0]) / self.pixel).astype(int)
            row = ((y + tap[1] - self.corner[1]) / self.pixel).astype(int)
            inside = (column >= 0) & (column < SHADOW_MAP) & (row >= 0) & (row < SHADOW_MAP)
            stored = self.depth[np.clip(row, 0, SHADOW_MAP - 1), np.clip(column, 0, SHADOW_MAP - 1)]
            total += inside & (stored > depth + bias)
        return total / len(self.taps)


def camera(pose, view):
    """Rotation from the world to (x right, y down, z to the camera)."""
    yaw, elevation = (np.radians(view.uniform(*limits)) for limits in (pose.yaw, pose.elevation))
    if pose.mirror and view.random() < 0.5:
        yaw = np.pi - yaw
    roll = view.normal(0, 1) * pose.turn
    turn = np.array([(np.cos(yaw), 0, np.sin(yaw)), (0, 1, 0), (-np.sin(yaw), 0, np.cos(yaw))])
    cosine, sine = np.cos(elevation), np.sin(elevation)
    tilt = np.array([(1, 0, 0), (0, -cosine, sine), (0, sine, cosine)])
    spin = np.array([(np.cos(roll), -np.sin(roll), 0), (np.sin(roll), np.cos(roll), 0), (0, 0, 1)])
    return spin @ tilt @ turn


def ground_shadow(lamp, low, rotation, scale, offset, extent):
    """How dark the ground gets: the shadow thrown by the lamp and the dark where the product
    touches it.
    """
    x, y = np.meshgrid(np.arange(0, extent, 2) + 0.5, np.arange(0, extent, 2) + 0.5)
    back = np.linalg.inv(rotation[:2][:, [0, 2]])
    seen = (np.stack([x, y], -1) - offset) / scale @ back.T
    ground = stack(seen[..., 0], 0.0, seen[..., 1])
    thrown = lamp.hidden(ground, 0.09, 0.0)
    thrown = 0.5 * blur(thrown, 0.03 * scale / 2) + 0.5 * blur(thrown, 0.12 * scale / 2)
    touch = low * (1, 0, 1) @ rotation.T[:, :2] * scale + offset
    column, row = (touch / 2).astype(int).T
    contact = np.zeros_like(thrown)
    inside = (column >= 0) & (column < contact.shape[1]) & (row >= 0) & (row < contact.shape[0])
    contact[row[inside], column[inside]] = 1
    contact = np.clip(1.6 * blur(contact, 0.05 * scale / 2), 0, 1)
    shadow = np.clip(0.58 * thrown + 0.55 * contact * (1 - 0.4 * thrown), 0, 0.92)
    return np.repeat(np.repeat(shadow, 2, 0), 2, 1)[:extent, :extent]


def render(sheets, pose, view, light, extent):
    """Photograph the sheets: framed by their bounds, shaded, with shadows on themselves and on the
    ground.
    """
    rotation = camera(pose, view).astype(np.float32)
    seen = [sheet.points.reshape(-1, 3).astype(np.float32) @ rotation.T for sheet in sheets]
    low = np.min([points.min(0) for points in seen], 0)[:2]
    high = np.max([points.max(0) for points in seen], 0)[:2]
    scale = view.uniform(*pose.size) * extent / max(high - low)
    offset = extent * (0.5 + view.uniform(-0.03, 0.03, 2)) - scale * (low + high) / 2
    coarse = np.concatenate(
        [sheet.points[::2, ::2].reshape(-1, 3) for sheet in sheets if sheet.opacity == 1]
    )
    lamp = ShadowMap(coarse, light @ rotation, view)
    colour, alpha = (
        np.zeros((extent * extent, 3), np.float32),
        np.zeros(extent * extent, np.float32),
    )
    front = np.full(extent * extent, -np.inf, np.float32)
    for clear in (False, True):
        chosen = [number for number, sheet in enumerate(sheets) if (sheet.opacity < 1) == clear]
        if not chosen:
            continue
        x, y, depth = np.concatenate([seen[number] for number in chosen]).T
        shown = nearest(x * scale + offset[0], y * scale + offset[1], depth, extent).ravel()
        hit = np.flatnonzero(shown >= 0)
        hit = hit[depth[shown[hit]] > front[hit]]
        shown = shown[hit]
        front[hit] = depth[shown]
        start = 0
        for sheet in (sheets[number] for number in chosen):
            mine = (shown >= start) & (shown < start + len(sheet.points) * len(sheet.points[0]))
            pixels, points = hit[mine], shown[mine] - start
            rays = shaded(sheet, points, rotation, lamp, light)
            colour[pixels] = colour[pixels] * (1 - sheet.opacity) + rays * sheet.opacity
            alpha[pixels] = alpha[pixels] * (1 - sheet.opacity) + sheet.opacity
            start += len(sheet.points) * len(sheet.points[0])
    shadow = ground_shadow(lamp, coarse[coarse[:, 1] < 0.05], rotation, scale, offset, extent)
    return Solid(colour.reshape(extent, extent, 3), alpha.reshape(extent, extent), shadow)


def shaded(sheet, visible, rotation, lamp, light):
    """Light that the visible points of a sheet, given by their number, send to the camera."""
    points = sheet.points.reshape(-1, 3)[visible]
    normal = normals(sheet.points, sheet.relief).reshape(-1, 3)[visible] @ rotation.T
    normal *= np.where(normal[:, 2:] < 0, -1, 1)
    u, v = (arc_length(sheet.points, axis).ravel()[visible] for axis in (0, 1))
    albedo = speckled(sheet.colour.reshape(-1, 3)[visible], sheet.material, u, v)
    near_ground = 0.72 + 0.28 * np.clip(points[:, 1] / 0.3, 0, 1)
    return (
        lit(albedo, normal.T, sheet.material, light, 0.85 * lamp.hidden(points, 0.025))
        * near_ground[:, None]
    )


def wrinkles(random, frequency, depth):
    """A relief over surface coordinates: cloth or leather that has been used."""
    broad, fine = noise(random, frequency), noise(random, frequency * 2.7)
    return lambda u, v: depth * (broad(u, v) + 0.35 * fine(u, v))
