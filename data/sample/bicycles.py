"""Bicycles from the drive side."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import skia

from painting import (
    CLOTH,
    DARK,
    ENAMEL,
    LEATHER,
    METAL,
    RUBBER,
    STEEL,
    TAN,
    WICKER,
    Pose,
    curve,
    disc,
    folds,
    paint,
    polygon,
    rounded,
    segments,
    surface,
)

POSES = [
    Pose("side", "floor", (0.66, 0.89), 0.01, (0.90, 1.0), mirror=True),
    Pose("far", "floor", (0.45, 0.70), 0.01, (0.70, 1.0), mirror=True),
    Pose("turned", "floor", (0.72, 0.92), 0.015, (0.50, 0.80), mirror=True),
    Pose("detail", "floor", (1.40, 1.90), 0.02, (0.80, 1.0), mirror=True),
]


def draw_wheel(picture, hub, radius, tyre, wall, spokes, knobbly):
    """A spoked bicycle wheel: tread, side wall, rim, crossing spokes and hub."""
    if knobbly:
        paint(picture, disc(*hub, radius + 0.004), DARK, RUBBER, 0.022, dash=(0.022, 0.016))
    paint(picture, disc(*hub, radius - tyre / 2), DARK, RUBBER, tyre, rounding=tyre / 2)
    paint(picture, disc(*hub, radius - tyre * 0.75), wall, RUBBER, tyre * 0.4, rounding=tyre * 0.2)
    paint(picture, disc(*hub, radius - tyre - 0.012), STEEL * 0.8, METAL, 0.026, rounding=0.012)
    angles = np.arange(spokes) * 2 * np.pi / spokes
    lean = np.where(np.arange(spokes) % 2, 1.2, -1.2)
    outer = np.array(hub) + (radius - tyre - 0.02) * np.column_stack(
        [np.cos(angles), np.sin(angles)]
    )
    inner = np.array(hub) + 0.032 * np.column_stack([np.cos(angles + lean), np.sin(angles + lean)])
    paint(picture, segments(zip(inner, outer, strict=True)), STEEL, METAL, 0.0065, rounding=0.003)
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
        bar(
            picture,
            [neck + (-0.01, -0.03), (0.20, 0.08), (0.06, 0.23), bracket],
            coat,
            ENAMEL,
            tube * 1.15,
        )
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
        bar(
            picture,
            [neck, neck * 0.4 + front * 0.6 + (-0.015, 0), front],
            coat,
            ENAMEL,
            tube * 0.75,
        )
    bar(picture, [head, neck], coat, ENAMEL, tube * 1.25)
    for hub in (rear, front):
        paint(picture, disc(*hub, 0.018), STEEL, METAL, rounding=0.012, lift=0.006)


def draw_bag(picture, bicycle, random):
    """A bag in the bicycle's colour and pattern: in the frame, or on a rear rack where the frame is
    open.
    """
    cloth, bracket, seat = folds(random, 6, (0.4, 0.3), 0.6), bicycle.bracket, bicycle.seat
    if bicycle.shape == "step-through":
        bar(
            picture,
            [(-0.86, -0.20), (-0.38, -0.20), seat + (0.02, 0.06)],
            STEEL * 0.5,
            METAL,
            0.022,
        )
        bag = rounded(-0.63, 0.02, 0.17, 0.19, 0.05)
        paint(picture, bag, bicycle.coat, CLOTH, rounding=0.035, relief=cloth, lift=0.02)
        flap = segments([((-0.79, -0.11), (-0.47, -0.11))])
        paint(picture, flap, bicycle.coat.main * 0.6, CLOTH, 0.014, clip=bag)
        return
    corners = [seat + (0.075, 0.07), bicycle.head + (-0.07, 0.10), bicycle.neck + (-0.09, 0.04)]
    corners += [
        corners[2] * 0.38 + bracket * 0.62 + (-0.01, -0.05),
        bracket * 0.55 + seat * 0.45 + (0.06, 0.0),
    ]
    paint(picture, polygon(corners), bicycle.coat, CLOTH, rounding=0.03, relief=cloth, lift=0.012)
    paint(
        picture,
        segments([(corners[0] + (0.03, 0.035), corners[1] + (-0.03, 0.03))]),
        DARK,
        CLOTH,
        0.008,
    )


def draw_crank(picture, bicycle, arm):
    """One crank arm and its pedal."""
    bar(picture, [bicycle.bracket, bicycle.bracket + arm], STEEL, METAL, 0.028)
    pedal = rounded(*(bicycle.bracket + arm), 0.055, 0.015, 0.008)
    paint(picture, pedal, DARK, RUBBER, rounding=0.01, lift=0.008)


def draw_transmission(picture, bicycle, ring, arm):
    """Sprockets, chain, chain ring with its arms, and the near crank."""
    rear, bracket = bicycle.rear, bicycle.bracket
    paint(
        picture, disc(*rear, 0.048), STEEL * 0.5, METAL, 0.022, dash=(0.012, 0.008), rounding=0.006
    )
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
    paint(
        picture,
        segments([(bracket, tip) for tip in tips]),
        STEEL * 0.8,
        METAL,
        0.016,
        rounding=0.007,
    )
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
        bend = [
            clamp,
            clamp + (0.10, 0.0),
            clamp + (0.135, 0.06),
            clamp + (0.10, 0.13),
            clamp + (0.02, 0.15),
        ]
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
    wires += [
        (head + (0.06, -0.14 + 0.055 * k), head + (0.34, -0.14 + 0.055 * k)) for k in range(5)
    ]
    paint(picture, segments(wires), WICKER, LEATHER, 0.012, clip=polygon(corners), rounding=0.005)
    paint(picture, polygon(corners), WICKER, LEATHER, 0.018, rounding=0.008)


def draw(picture, product, random, view, pose):
    """A whole bicycle; returns the ground below its wheels."""
    if pose.name == "detail":
        picture = picture.moved((1, 0, view.uniform(-0.3, 0.3)), (0, 1, 0))
    coat, shape = surface(product, random, 0.10), product.shape
    radius = random.uniform(0.395, 0.43) - (0.02 if shape == "step-through" else 0)
    tyre = {"road": 0.032, "mountain": 0.075, "step-through": 0.048}[shape] * random.uniform(
        0.85, 1.15
    )
    tube = {"road": 0.040, "mountain": 0.054, "step-through": 0.048}[shape] * random.uniform(
        0.9, 1.2
    )
    spokes, wall = (
        int(random.choice([20, 24, 28, 32])),
        [DARK, DARK, TAN, coat.main][random.integers(4)],
    )
    grip = [DARK, DARK, TAN * 0.5][random.integers(3)]
    reach, rise, drop = (
        random.uniform(-0.02, 0.04),
        random.uniform(-0.04, 0.04),
        random.uniform(0.02, 0.14),
    )
    crank, ring, twin = (
        random.uniform(0, 2 * np.pi),
        random.uniform(0.07, 0.10),
        random.random() < 0.5,
    )
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
            paint(
                picture,
                disc(*hub, 0.075),
                STEEL * 0.7,
                METAL,
                0.022,
                dash=(0.03, 0.008),
                rounding=0.006,
            )
    draw_crank(picture, bicycle, -arm)
    draw_frame(picture, bicycle, twin)
    if shape == "step-through" and guards:
        for hub, start, sweep in ((bicycle.rear, 175, 170), (bicycle.front, 190, 130)):
            guard, reach = skia.Path(), radius + 0.03
            guard.addArc(
                skia.Rect.MakeLTRB(*(hub - reach).tolist(), *(hub + reach).tolist()), start, sweep
            )
            paint(picture, guard, coat, ENAMEL, 0.026, rounding=0.012, lift=0.01)
    draw_bag(picture, bicycle, random)
    draw_transmission(picture, bicycle, ring, arm)
    draw_saddle(picture, bicycle)
    draw_handlebar(picture, bicycle)
    if shape == "step-through" and basket:
        draw_basket(picture, head)
    return 0.24 + radius
