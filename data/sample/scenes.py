"""Sets and photographs: what a product stands, lies or hangs before, and how the finished picture
is developed.
"""

import numpy as np
from PIL import Image

from painting import blur, linear, noise, product_coordinates, shifted

SIZE = 256
SUPERSAMPLE = 3
EXTENT = SIZE * SUPERSAMPLE
WHITE, PALE, SILVER, CREAM, SAND = (
    (242, 242, 240),
    (228, 228, 228),
    (196, 197, 198),
    (230, 224, 214),
    (208, 198, 182),
)
SKY, SAGE, ROSE, STONE, TAUPE = (
    (188, 196, 206),
    (200, 206, 196),
    (216, 204, 198),
    (150, 152, 156),
    (118, 112, 108),
)
SLATE, CLAY, NAVY, MOSS = (84, 88, 96), (172, 116, 96), (70, 92, 118), (98, 116, 92)
TONES = {
    "table": [
        WHITE,
        WHITE,
        WHITE,
        PALE,
        PALE,
        CREAM,
        CREAM,
        SAND,
        ROSE,
        SAGE,
        SILVER,
        SLATE,
        NAVY,
        CLAY,
    ],
    "desk": [WHITE, PALE, CREAM, SAND, SLATE, SLATE, TAUPE, TAUPE, STONE, NAVY, MOSS, CLAY],
    "wall": [WHITE, WHITE, PALE, PALE, SILVER, SKY, SAGE, ROSE, STONE, NAVY],
    "floor": [
        WHITE,
        PALE,
        PALE,
        SILVER,
        SILVER,
        SKY,
        SKY,
        SAGE,
        STONE,
        STONE,
        TAUPE,
        SLATE,
        NAVY,
        MOSS,
    ],
}
WOODS = {
    "table": [(206, 192, 170), (196, 160, 118), (150, 140, 128)],
    "desk": [(164, 122, 82), (122, 86, 58), (92, 70, 54)],
    "wall": [(206, 192, 170), (164, 122, 82), (150, 140, 128)],
    "floor": [(196, 160, 118), (206, 192, 170), (150, 140, 128), (122, 86, 58)],
}
SURFACES = {
    "table": [
        "paper",
        "paper",
        "plaster",
        "planks",
        "planks",
        "linen",
        "carpet",
        "tiles",
        "marble",
    ],
    "desk": ["paper", "plaster", "planks", "planks", "planks", "linen", "marble"],
    "wall": ["paper", "paper", "plaster", "plaster", "planks", "bricks"],
    "floor": ["paper", "plaster", "planks", "planks", "carpet", "tiles", "marble"],
}
SWEEP_SHARE, PROP_SHARE, WINDOW_SHARE = 0.45, 0.45, 0.14


def texture(kind, setting, view, x, y):
    """Tone and light of one surface over its own coordinates; about one picture width is 1."""
    tones = (WOODS if kind == "planks" else TONES)[setting]
    tone = np.array(tones[view.integers(len(tones))]) * view.uniform(0.9, 1.03)
    tone = np.clip(tone * view.uniform(0.985, 1.015, 3), 0, 250)
    slow, fine = noise(view, 3), noise(view, 45)
    value = 1 + 0.04 * slow(x, y)
    if kind == "plaster":
        value += 0.05 * noise(view, 14)(x, y) + 0.04 * fine(x, y)
    elif kind == "linen":
        value += 0.06 * fine(x, y * 8) + 0.06 * fine(x * 8, y) + 0.05 * noise(view, 5, 3)(x, y)
    elif kind == "carpet":
        value += 0.16 * noise(view, 90)(x, y) + 0.12 * fine(x * 1.3, y)
    elif kind == "marble":
        veins = noise(view, 2.2)(x + 0.3 * slow(x, y), y) + 0.5 * noise(view, 7)(x, y)
        value += 0.05 * noise(view, 9)(x, y) - 0.22 * np.exp(-((veins / 0.05) ** 2))
    elif kind == "tiles":
        size = view.uniform(1.6, 3.2)
        across, along = (x * size) % 1 - 0.5, (y * size + 0.3) % 1 - 0.5
        joint = np.exp(-((np.maximum(np.abs(across), np.abs(along)) - 0.5) ** 2) * 9000)
        shades = view.uniform(0.95, 1.04, (16, 16))
        shade = shades[
            np.floor(x * size).astype(int) % 16, np.floor(y * size + 0.3).astype(int) % 16
        ]
        value = value * shade - 0.28 * joint
    elif kind == "bricks":
        row = np.floor(y * 9)
        column = x * 3.4 + 0.5 * (row % 2)
        joint = np.maximum(
            np.abs(column % 1 - 0.5) - 0.47, (np.abs((y * 9) % 1 - 0.5) - 0.43) * 0.4
        )
        shade = view.uniform(0.86, 1.08, (16, 16))[
            row.astype(int) % 16, np.floor(column).astype(int) % 16
        ]
        value *= shade * (1 + 0.06 * fine(x, y)) * (1 - 0.25 / (1 + np.exp(-joint * 300)))
    elif kind == "planks":
        boards = view.uniform(4, 8)
        if view.random() < 0.5:
            x, y = y, x
        board = np.floor(y * boards + 4)
        shades = view.uniform(0.78, 1.12, 16)[board.astype(int) % 16]
        grain = noise(view, 60)(x * 0.08 + board * 3, y) + 0.7 * noise(view, 24)(
            x * 0.12 + board * 5, y
        )
        joint = np.exp(-((np.abs((y * boards) % 1 - 0.5) - 0.5) ** 2) * 3000)
        value *= shades * (1 + 0.16 * grain) * (1 - 0.55 * joint)
    return (linear(tone) * value[..., None]).astype(np.float32)


def chosen(view, setting):
    """One kind of surface for a setting."""
    return SURFACES[setting][view.integers(len(SURFACES[setting]))]


def prop(scene, view, columns, rows, light):
    """A board, a cloth or a sheet of paper under the product, with its own shadow."""
    angle, reach = view.normal(0, 0.25), view.uniform(0.28, 0.6, 2)
    x, y = columns - 0.5 - view.uniform(-0.3, 0.3), rows - 0.5 - view.uniform(-0.3, 0.3)
    across, along = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    outside = np.maximum(np.abs(across) - reach[0], np.abs(along) - reach[1])
    shifted = np.maximum(
        np.abs(across + 0.012 * light[0]) - reach[0], np.abs(along + 0.012 * light[1]) - reach[1]
    )
    scene *= (1 - 0.45 / (1 + np.exp(shifted / 0.006)))[..., None]
    inside = 1 / (1 + np.exp(np.clip(outside * 900, -50, 50)))[..., None]
    kind = ["paper", "linen", "planks", "marble"][view.integers(4)]
    return scene * (1 - inside) + texture(kind, "table", view, across, along) * inside


def room(view, columns, rows):
    """A floor that runs back to a wall; with a paper sweep the two are one."""
    horizon = view.uniform(0.30, 0.62)
    depth = 1 / (np.clip(rows - horizon, 0, None) + 0.16)
    sweep = view.random() < SWEEP_SHARE
    x, y = (columns - view.uniform(0.3, 0.7)) * depth * 0.55 + 0.5, depth * view.uniform(0.5, 0.8)
    floor = texture("paper" if sweep else chosen(view, "floor"), "floor", view, x, y)
    below = 1 / (
        1
        + np.exp(
            np.clip((horizon - rows) / (view.uniform(0.03, 0.1) if sweep else 0.0015), -50, 50)
        )
    )
    if sweep:
        wall = floor.mean((0, 1)) * view.uniform(0.72, 1.12) * (1 + 0.1 * rows[..., None])
    else:
        wall = texture(chosen(view, "wall"), "wall", view, columns, rows)
        wall *= view.uniform(0.75, 1.0)
        if view.random() < 0.5:
            skirting = (rows > horizon - view.uniform(0.03, 0.07))[..., None]
            wall = np.where(skirting, linear((228, 226, 220)) * view.uniform(0.5, 0.95), wall)
        floor *= 1 - 0.35 * np.exp(-np.clip(rows - horizon, 0, None) / 0.03)[..., None]
    return wall * (1 - below[..., None]) + floor * below[..., None]


def backdrop(view, setting, light):
    """An empty set, chosen apart from the product; the light falls off across it."""
    rows, columns = np.mgrid[0:EXTENT, 0:EXTENT].astype(np.float32) / EXTENT
    if setting == "floor":
        scene = room(view, columns, rows)
    else:
        turn = view.normal(0, 0.06) + (0 if setting == "wall" else view.choice([0, 0, 0.5]))
        x, y = (
            columns * np.cos(turn) + rows * np.sin(turn),
            rows * np.cos(turn) - columns * np.sin(turn),
        )
        scene = texture(chosen(view, setting), setting, view, x, y)
        if setting != "wall" and view.random() < PROP_SHARE:
            scene = prop(scene, view, columns, rows, light)
    scene *= (1 + 0.35 * ((columns - 0.5) * light[0] + (rows - 0.5) * light[1]))[..., None]
    softness = view.uniform(0.5, 5.0) if setting in ("wall", "floor") else 1.0
    return blur(scene, softness)


def cast_shadow(picture, ground, strength):
    """How dark the set gets before a flat product that stands, or behind one that lies or hangs."""
    pixel, light = picture.pixel, picture.light
    if ground is None:
        near, far = (shifted(picture.alpha, -light[:2] * reach * pixel) for reach in (0.02, 0.08))
        return strength * np.maximum(
            0.70 * blur(near, 0.025 * pixel), 0.45 * blur(far, 0.12 * pixel)
        )
    u, v = product_coordinates(picture.matrix, (0, 0, EXTENT, EXTENT))

    def fallen(squash, start, fade):
        rise = (v - start) / squash
        spot = (
            np.stack([u + light[0] * rise * 0.5, ground - rise, np.ones_like(u)], -1)
            @ picture.matrix.T
        )
        x, y = (
            np.clip(spot[..., axis] / spot[..., 2], 0, EXTENT - 1).astype(int) for axis in (0, 1)
        )
        return np.where(rise >= 0, picture.alpha[y, x] * np.exp(-fade * np.abs(rise)), 0).astype(
            np.float32
        )

    far = blur(fallen(0.20, ground - 0.015, 0.9), 0.035 * pixel)
    near = blur(fallen(0.30, ground - 0.02, 12), 0.018 * pixel)
    return strength * np.clip(0.62 * far + 1.1 * near, 0, 0.9)


def placement(pose, view):
    """Where and how the camera sees a flat product: place, size, turn, and a little perspective."""
    scale = view.uniform(*pose.size) * EXTENT / 2
    turn = view.normal(0, 1) * pose.turn
    squeeze = view.uniform(*pose.squeeze)
    if pose.mirror and view.random() < 0.5:
        squeeze = -squeeze
    shift = np.eye(3)
    shift[:2, 2] = (0.5 + view.uniform(-0.03, 0.03, 2)) * EXTENT
    cosine, sine = scale * np.cos(turn), scale * np.sin(turn)
    body = np.array([(cosine * squeeze, -sine, 0), (sine * squeeze, cosine, 0), (0, 0, 1)])
    lens = np.array([(1, 0, 0), (0, 1, 0), (*view.normal(0, 0.035, 2), 1)])
    return shift @ body @ lens


def window(view, columns, rows):
    """Daylight through panes: darker round them and along their bars."""
    lean, size = view.uniform(-0.6, 0.6), view.uniform(0.35, 0.7)
    x = (columns + lean * rows + view.uniform(-0.4, 0.4)) / size
    y = (rows - 0.3 * lean * columns + view.uniform(-0.3, 0.3)) / size / 1.3
    bars = np.minimum(0.5 - np.abs(x % 1 - 0.5), 0.5 - np.abs(y % 1 - 0.5)) - 0.06
    panes = 1 / (1 + np.exp(-np.clip(bars / view.uniform(0.015, 0.04), -40, 40)))
    return 1 - view.uniform(0.15, 0.35) * (1 - panes)


def develop(scene, view):
    """The finished 8-bit picture: uneven light, exposure, white balance, lens blur, tone curve and
    noise.
    """
    rows, columns = np.mgrid[-1 : 1 : EXTENT * 1j, -1 : 1 : EXTENT * 1j].astype(np.float32)
    scene = scene * (1 - view.uniform(0.03, 0.14) * (rows**2 + columns**2))[..., None]
    if view.random() < WINDOW_SHARE:
        scene *= window(view, columns, rows)[..., None]
    elif view.random() < 0.35:
        turn, edge, soft = (
            view.uniform(0, 2 * np.pi),
            view.uniform(-0.5, 0.2),
            view.uniform(0.06, 0.3),
        )
        shaded = 1 / (1 + np.exp((edge - columns * np.cos(turn) - rows * np.sin(turn)) / soft))
        scene *= (1 - view.uniform(0.10, 0.28) * shaded)[..., None]
    scene *= view.uniform(0.98, 1.25) * (1 + view.normal(0, 0.02, 3)).astype(np.float32)
    scene = blur(scene, view.uniform(1.0, 3.4))
    scene = np.where(scene > 0.8, 0.8 + 0.2 * np.tanh((scene - 0.8) / 0.2), scene)
    display = np.clip(scene, 0, 1) ** (1 / 2.2) * 255
    small = Image.fromarray(display.round().astype(np.uint8)).resize(
        (SIZE, SIZE), Image.Resampling.LANCZOS
    )
    noisy = np.asarray(small) + view.normal(0, view.uniform(0.8, 2.0), (SIZE, SIZE, 1))
    return Image.fromarray(np.clip(noisy.round(), 0, 255).astype(np.uint8))
