"""Wrist watches, laid open or closed to a ring."""

import numpy as np

from painting import (
    CLOTH,
    DARK,
    DIAL,
    ENAMEL,
    FLAT,
    LEATHER,
    METAL,
    METALS,
    RUBBER,
    Pose,
    curve,
    disc,
    grained,
    linear,
    paint,
    polygon,
    rounded,
    segments,
    surface,
)

POSES = [
    Pose("open", "desk", (0.55, 0.98), 0.5, (0.94, 1.0)),
    Pose("ring", "desk", (0.70, 1.06), 0.4, (0.90, 1.0)),
    Pose("close", "desk", (1.20, 1.60), 0.6, (0.88, 1.0)),
]


def draw_strap(picture, product, random, view, pose):
    """A watch strap, laid open or closed to a ring; returns the picture moved to where the case
    sits.
    """
    strap = surface(product, random, 0.10)
    half, taper = random.uniform(0.15, 0.21), random.uniform(0.78, 1.0)
    material = [LEATHER, RUBBER, CLOTH][random.integers(3)]
    relief, stitched = grained(random, 55, 0.0005), random.random() < 0.6
    thread = linear((225, 215, 195)) if random.random() < 0.5 else strap.main * 0.5
    metal, turn, radius = (
        linear(METALS[random.integers(len(METALS))]),
        random.uniform(0.42, 0.62),
        0.62,
    )
    lining = linear((150, 116, 84)) if random.random() < 0.5 else strap.main * 0.6
    if pose.name == "ring":
        squeeze, swing = np.cos(turn), np.sin(turn) * view.choice([-1, 1])
        angles = np.linspace(-np.pi / 2, np.pi / 2, 25)

        def band(direction):
            centre, rise = direction * radius * np.cos(angles) * swing, radius * np.sin(angles)
            left, right = centre - half * squeeze, centre + half * squeeze
            return polygon(
                np.column_stack([np.append(left, right[::-1]), np.append(rise, rise[::-1])])
            )

        def unrolled(u, v):
            angle = np.arcsin(np.clip(v / radius, -0.999, 0.999))
            return strap((u - radius * np.cos(angle) * swing) / squeeze, radius * angle)

        def bulge(direction):
            return lambda u, v: (
                relief(u, v)
                + direction * 0.9 * squeeze * np.sqrt(np.clip(radius**2 - v**2, 1e-3, None))
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
    paint(
        picture,
        rounded(0, -0.82, width, 0.075, 0.03),
        metal,
        METAL,
        0.030,
        rounding=0.014,
        lift=0.012,
    )
    paint(
        picture,
        segments([((0, -0.82), (0, -0.90))]),
        metal,
        METAL,
        0.022,
        rounding=0.01,
        lift=0.006,
    )
    return picture, strap, half, metal


def draw(picture, product, random, view, pose):
    """A wrist watch: strap, case by shape, bezel, dial with marks, hands and a reflecting glass."""
    picture, strap, half, metal = draw_strap(picture, product, random, view, pose)
    size, bezel = half * random.uniform(1.55, 1.95), random.uniform(0.022, 0.05)
    aspect, corner = random.uniform(1.0, 1.18), random.uniform(0.15, 0.4)
    faces = [strap.main, *linear([(240, 238, 230), (20, 21, 24), (200, 202, 204)])]
    face = faces[random.integers(len(faces))]
    ink = linear((25, 25, 28)) if face.mean() > 0.2 else linear((232, 230, 220))
    marks, bars = int(random.choice([4, 12, 12, 12])), random.random() < 0.6
    hours, minutes = random.uniform(0, 2 * np.pi, 2)
    sunburst = random.uniform(0, 0.35)
    dials, ticks, date = (
        int(random.choice([0, 0, 1, 2, 3])),
        random.random() < 0.6,
        random.random() < 0.5,
    )
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
    paint(
        picture,
        rounded(size + 0.02, 0, 0.03, crown_size, 0.008),
        metal,
        METAL,
        rounding=0.012,
        lift=0.01,
    )
    if pushers:
        for side in (-1, 1):
            pusher = rounded(size * 0.92, side * size * 0.42, 0.035, 0.018, 0.006)
            paint(picture, pusher, metal, METAL, rounding=0.01)

    def dome(u, v):
        return -0.35 * (u**2 + v**2) / size

    paint(picture, outline(0), metal, METAL, rounding=0.035, relief=dome, lift=0.025)
    paint(
        picture, outline(bezel), metal * 0.8, METAL, rounding=0.02, relief=lambda u, v: -dome(u, v)
    )
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
            paint(
                picture,
                disc(*at(angle, reach - 0.02), 0.014),
                ink,
                ENAMEL,
                rounding=0.008,
                lift=0.004,
            )
    for number in range(dials):
        spot = at(np.pi + (number - (dials - 1) / 2) * np.pi / 2, size * 0.42)
        paint(picture, disc(*spot, size * 0.17), face * 0.6 + 0.03, DIAL, rounding=0.01)
        paint(picture, disc(*spot, size * 0.17), metal, METAL, 0.006)
        paint(
            picture,
            segments([(spot, np.add(spot, at(number * 2.2 + 1, size * 0.13)))]),
            ink,
            FLAT,
            0.008,
        )
    if date:
        paint(
            picture,
            rounded(size * 0.55, 0, 0.028, 0.02, 0.003),
            linear((235, 235, 230)),
            FLAT,
            lift=0.004,
        )
        numeral = segments([((size * 0.54, -0.008), (size * 0.56, 0.008))])
        paint(picture, numeral, DARK, FLAT, 0.007)
    for angle, reach, width in (
        (hours, 0.46, 0.024),
        (minutes, 0.70, 0.017),
        (minutes * 7, 0.74, 0.005),
    ):
        hand = segments([(at(angle, -0.05), at(angle, size * reach))])
        paint(picture, hand, ink, ENAMEL, width, rounding=0.006, lift=0.010)
    paint(picture, disc(0, 0, 0.018), metal, METAL, rounding=0.012, lift=0.006)
    lean = view.uniform(-0.3, 0.3)
    for offset, width in ((-0.45, 0.22), (0.0, 0.06)):
        x = size * (offset + lean)
        glare = segments([((x - size, size), (x + size * 0.6, -size))])
        paint(
            picture,
            glare,
            np.ones(3),
            FLAT,
            size * width,
            clip=inner,
            opacity=view.uniform(0.06, 0.22),
        )
    return None
