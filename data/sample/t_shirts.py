"""T-shirts, laid out or on a hanger."""

import numpy as np

from painting import (
    CLOTH,
    ENAMEL,
    METAL,
    STEEL,
    Pose,
    curve,
    disc,
    folds,
    linear,
    mirrored,
    paint,
    polygon,
    rounded,
    segments,
    surface,
)

POSES = [
    Pose("laid", "table", (0.95, 1.18), 0.14, (0.93, 1.0)),
    Pose("far", "table", (0.58, 0.92), 0.35, (0.90, 1.0)),
    Pose("hung", "wall", (0.72, 1.0), 0.03, (0.75, 1.0)),
    Pose("detail", "table", (1.40, 1.80), 0.25, (0.93, 1.0)),
]


def draw_hanger(picture, top, wood):
    """A wooden hanger with a steel hook."""
    arms = curve(
        [
            (-0.40, top + 0.16),
            (-0.15, top + 0.06),
            (0, top + 0.03),
            (0.15, top + 0.06),
            (0.40, top + 0.16),
        ]
    )
    paint(picture, arms, wood, ENAMEL, 0.05, rounding=0.024)
    hook = curve(
        [
            (0, top + 0.02),
            (0, top - 0.12),
            (0.045, top - 0.19),
            (0.02, top - 0.26),
            (-0.05, top - 0.24),
        ]
    )
    paint(picture, hook, STEEL, METAL, 0.020, rounding=0.009, lift=0.02)


def draw(picture, product, random, view, pose):
    """Back neck, sleeves, body, collar by shape, seams and stitched hems; nothing to stand on."""
    if pose.name == "detail":
        picture = picture.moved((1, 0, 0), (0, 1, 0.30))
    cloth = surface(product, random, 0.15)
    neck, shoulder, chest = (
        random.uniform(0.15, 0.19),
        random.uniform(0.42, 0.50),
        random.uniform(0.40, 0.47),
    )
    hem, length = chest + random.uniform(-0.03, 0.07), random.uniform(0.58, 0.78)
    sleeve, cuff = random.uniform(0.26, 0.44), random.uniform(0.25, 0.33)
    waist, drop, sag = (
        random.uniform(0.0, 0.05),
        random.uniform(0.10, 0.15),
        random.uniform(0.0, 0.06),
    )
    low, high = {"crew": (0.10, 0.16), "v-neck": (0.26, 0.38), "polo": (0.11, 0.13)}[product.shape]
    depth = random.uniform(low, high)
    rib = (
        cloth.second if random.random() < 0.25 and product.pattern != "plain" else cloth.main * 0.92
    )
    buttons, seam = int(random.integers(2, 4)), cloth.main * 0.62
    relief = folds(view, 16, (0.5, 0.7), view.uniform(0.75, 1.2))
    top, arm, bend = -0.66, -0.21, view.uniform(0.35, 1.05)

    nape = [(-neck, top), (0, top + 0.03), (neck, top)]
    inside = curve(nape, [nape[2], (0, top + depth + 0.12), nape[0]], close=True)
    paint(picture, inside, cloth.main * 0.42, CLOTH)
    paint(picture, curve(nape), rib * 0.7, CLOTH, 0.05, rounding=0.01)
    if pose.name == "hung":
        draw_hanger(picture, top, linear((190, 150, 105)))
    paint(picture, rounded(0, top + 0.085, 0.035, 0.02, 0.004), linear((225, 225, 220)), CLOTH)

    for side in (-1, 1):
        angle = bend + view.normal(0, 0.08)
        tip = np.array([shoulder + sleeve * np.cos(angle), top + drop + sleeve * np.sin(angle)])
        under = tip + cuff * np.array([-np.sin(angle - 0.15), np.cos(angle - 0.15)])
        under[0] = max(under[0], chest + 0.015)
        inward = np.array([np.cos(angle), np.sin(angle)]) * 0.035
        points = [
            (shoulder - 0.08, top + drop - 0.03),
            (shoulder, top + drop),
            tip,
            under,
            (chest - 0.03, arm),
        ]
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
        *neckline,
        edge,
        armhole,
        flank,
        hemline,
        mirrored(flank),
        mirrored(armhole),
        mirrored(edge),
        close=True,
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
        paint(
            picture,
            curve(np.multiply(flap, (side, 1)), close=True),
            rib,
            CLOTH,
            rounding=0.02,
            lift=0.016,
        )
    return None
