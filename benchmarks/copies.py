"""Near-duplicates: which edited copies are found, which variants are taken for copies, and what all
pairs cost beside the bare half matrix product.

python benchmarks/copies.py --data DIR --backbone MobileNetV2 --alpha 0.35 --weights FILE
python benchmarks/copies.py --scale

Copies are made of validation photos (of all, if there are none) and looked up among all photos, by
the network as it came. Photos of which the catalogue itself has a copy are left out: a copy of one
is a copy of the other. The bounds of `copies.differences` were chosen on copies of 140 photos of
three catalogues, clothing and grocery among them.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image
from planted import plant_copies
from results import backbone_name, record
from search import forget_peak, memory
from sklearn.metrics import precision_recall_curve

from lookalike.backbones import build_encoder
from lookalike.copies import SIDE_ARRAYS, CopyIndex
from lookalike.copies.alignment import detect_keypoints
from lookalike.copies.differences import compare
from lookalike.copies.find import BLOCK, closest_pairs
from lookalike.embeddings import embed_catalog, embed_images
from lookalike.images import load_image
from lookalike.machine import parallel_map, progress
from lookalike.sources import load_catalog
from lookalike.studies.photo_edits import background, shrunk

FOUND = ("copy", "copy in grey or variant", "stamped copy or variant")
PRECISION = 0.999
TURNS = (42, 85, 127)  # degrees of hue
VISIBLE = 5.0  # distance in CIELAB, on average over what was turned, from which it is seen
ROWS, DIM, LEAST = 100_000, 512, 0.5
ROUNDS = 2


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a folder of photos")
    parser.add_argument("--backbone", default="auto", help="a name, such as MobileNetV2-0.35")
    parser.add_argument("--alpha", type=float, help="width multiplier of MobileNetV2")
    parser.add_argument("--weights", default="auto", help="a file, or auto")
    parser.add_argument("--photos", type=int, default=400, help="how many are copied, at most")
    parser.add_argument("--turned", type=int, default=50, help="how many get another hue")
    parser.add_argument("--scale", action="store_true", help="all pairs of 100,000 vectors")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def measure_copies(options: argparse.Namespace) -> None:
    """Look planted copies up, and tell which are found; then turn hues."""
    name = backbone_name(options)
    encoder = build_encoder(name, weights=options.weights)
    catalog, _ = load_catalog("folder", options.data.expanduser())
    given = {"--backbone": name, "--weights": options.weights != "auto" and "FILE"}
    given = " ".join(f"{option} {value}" for option, value in given.items() if value)
    command = f"python benchmarks/copies.py --data DIR {given}"
    with tempfile.TemporaryDirectory() as folder:
        store = embed_catalog(encoder, catalog, Path(folder, "s"), side_arrays=SIDE_ARRAYS)
        index = CopyIndex(store, encoder)
        start = time.perf_counter()
        own = index.pairs()
        took = time.perf_counter() - start
        alone = catalog[~catalog["image_id"].isin({*own["image_id"], *own["other_id"]})]
        judged = alone[alone["split"] == "validation"]
        judged = judged if len(judged) else alone
        photos = judged.sample(min(options.photos, len(judged)), random_state=options.seed)
        copies = plant_copies(photos, Path(folder, "copies"), seed=options.seed)
        found = look_up(index, copies)
        vectors = embed_images(encoder, copies["path"].tolist())
    found["similarity"] = similarities(found, vectors, store)
    right = found["image_id"] == found["copy_of"]
    called = found["verdict"].isin(FOUND)
    precision, _, bounds = precision_recall_curve(right, found["similarity"])
    enough = np.flatnonzero(precision[:-1] >= PRECISION)
    least = bounds[enough[0]] if len(enough) else np.inf
    what = {
        "found": right & called,
        "copy": right & (found["verdict"] == "copy"),
        "called variant": right & (found["verdict"] == "variant"),
        "named by its hash": right & (found["step"] == "perceptual hash"),
        "named at all": right,
        "similarity alone": right & (found["similarity"] >= least),
        "wrong": ~right & called,
    }
    table = pd.DataFrame({key: rows.groupby(found["kind"]).sum() for key, rows in what.items()})
    table = table.reindex(copies["kind"].unique())
    shares = [key for key in what if key != "wrong"]
    table[shares] = table[shares].div(copies["kind"].value_counts(), axis=0)
    table.loc["all"] = [*table[shares].mean(), table["wrong"].sum()]
    shown = table.reset_index().map(lambda one: f"{one:.3f}" if isinstance(one, float) else one)
    shown["wrong"] = shown["wrong"].astype(float).astype(int)
    pairs = "; ".join(
        f"{row.image_id} and {row.other_id} ({row.difference:.1f})"
        for row in own[own["verdict"] == "copy"].itertuples()
    )
    note = (
        f"{len(photos)} photos, {len(copies):,} copies, looked up among {len(catalog):,}; of "
        f"{called.sum():,} pairs that are called copies, with the two doubtful names, "
        f"{(right & called).sum():,} are right, a precision of "
        f"{(right & called).sum() / called.sum():.4f}. Similarity alone: at the lowest threshold "
        f"that has {PRECISION} on these very copies, {least:.3f}. All pairs of the catalogue took "
        f"{took:.0f} s: {own['verdict'].value_counts().to_dict()}. Its own copies, with the "
        f"difference in lightness: {pairs or 'none'}."
    )
    record(f"Copies found: {name}, {options.data.name}", command, shown, note)
    measure_turns(options, command, alone)


def look_up(index: CopyIndex, copies: pd.DataFrame) -> pd.DataFrame:
    """Every candidate of every copy: what `CopyIndex.candidates` tells, and of which copy."""
    bar = progress(copies["path"], description="Looking copies up")
    tables = parallel_map(index.candidates, bar)
    keys = ["kind", "copy_of"]
    named = [table.assign(row=row, **copies[keys].iloc[row]) for row, table in enumerate(tables)]
    return pd.concat(named, ignore_index=True)


def similarities(found, vectors, store) -> np.ndarray:
    """The cosine of each copy and its candidate."""
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (vectors, store.vectors)]
    others = pd.Index(store.catalog["image_id"]).get_indexer(found["image_id"])
    return (unit[0][found["row"]] * unit[1][others]).sum(axis=1)


def turn_hue(pixels: np.ndarray, degrees: float, share: np.ndarray | float = 1.0) -> np.ndarray:
    """A photo with its hue turned in CIELAB, wholly or in part; lightness stays."""
    lab = cv2.cvtColor(np.float32(pixels) / 255, cv2.COLOR_RGB2LAB)
    angle = np.deg2rad(degrees)
    a, b = lab[..., 1].copy(), lab[..., 2].copy()
    lab[..., 1] = np.cos(angle) * a - np.sin(angle) * b
    lab[..., 2] = np.sin(angle) * a + np.cos(angle) * b
    turned = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).clip(0, 1) * 255
    share = np.broadcast_to(share, pixels.shape[:2])[..., None]
    return np.uint8((turned * share + pixels * (1 - share)).round())


def measure_turns(options: argparse.Namespace, command: str, alone: pd.DataFrame) -> None:
    """Turn the hue of whole photos and of what is not background, and see what is called a copy."""
    photos = alone.sample(min(options.turned, len(alone)), random_state=options.seed + 1)

    def judge(path: str) -> list[dict]:
        pixels = shrunk(load_image(path))
        rows = []
        for part, share in {"photo": 1.0, "product": 1 - background(pixels)}.items():
            for degrees in TURNS:
                stream = io.BytesIO()
                Image.fromarray(turn_hue(pixels, degrees, share)).save(stream, "JPEG", quality=90)
                turned = load_image(stream.getvalue())
                told = compare(detect_keypoints(turned), detect_keypoints(pixels))
                labs = [
                    cv2.cvtColor(np.float32(side) / 255, cv2.COLOR_RGB2LAB)
                    for side in (turned, pixels)
                ]
                distance = np.linalg.norm(labs[0] - labs[1], axis=2)
                moved = (distance * share).sum() / max(
                    np.sum(np.broadcast_to(share, distance.shape)), 1
                )
                rows.append({"turned": f"{part}, {degrees}°", "moved": moved, **told._asdict()})
        return rows

    bar = progress(photos["path"], description="Turning hues")
    told = pd.DataFrame([row for rows in parallel_map(judge, bar) for row in rows])
    groups = told.groupby("turned", sort=False)
    copy, seen = told["verdict"] == "copy", told["moved"] >= VISIBLE
    table = pd.DataFrame(
        {
            "photos": groups.size(),
            "called copy": copy.groupby(told["turned"]).sum(),
            "of these, turn seen": (copy & seen).groupby(told["turned"]).sum(),
            "turn seen": seen.groupby(told["turned"]).sum(),
            "called variant": (told["verdict"] == "variant").groupby(told["turned"]).sum(),
        }
    )
    note = (
        f"Called a copy: {copy.mean():.3f} of all, {copy[seen].mean():.3f} of those whose colours "
        f"move by at least {VISIBLE} in CIELAB on average over what was turned; the others have "
        "next to no colour. Turned photos were saved as JPEG of quality 90."
    )
    record(f"Hues turned: {options.data.name}", command, table.reset_index(), note)


def measure_scale() -> None:
    """The nearest of clustered vectors, and the products of the same blocks alone."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((ROWS // 10, DIM), np.float32)
    vectors = np.repeat(centres, 10, axis=0) + 0.35 * random.standard_normal(
        (ROWS, DIM), np.float32
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    random.shuffle(vectors)
    buffer = np.empty((BLOCK, BLOCK), np.float32)

    def bare() -> None:
        for first in range(0, ROWS, BLOCK):
            rows = vectors[first : first + BLOCK]
            for second in range(first, ROWS, BLOCK):
                others = vectors[second : second + BLOCK]
                np.matmul(rows, others.T, out=buffer[: len(rows), : len(others)])

    ways = {
        "the products alone": bare,
        f"5 best of each above {LEAST}": lambda: closest_pairs(vectors, np.inner, 5, LEAST),
    }
    times = {way: [] for way in ways}
    peaks, counts = {}, {}
    for _ in range(ROUNDS):
        for way, work in ways.items():
            forget_peak()
            start = time.perf_counter()
            result = work()
            times[way].append(time.perf_counter() - start)
            peaks[way] = memory("VmHWM")
            counts[way] = "" if result is None else f"{len(result):,}"
    base = min(times["the products alone"])
    rows = [
        (way, f"{min(each):.1f}", f"{min(each) / base:.2f}", f"{peaks[way]:.0f}", counts[way])
        for way, each in times.items()
    ]
    table = pd.DataFrame(rows, columns=["", "seconds", "ratio", "MB resident at most", "pairs"])
    note = (
        f"{ROWS:,} x {DIM} in groups of ten; the best of {ROUNDS} rounds. Memory is that of the "
        "whole process."
    )
    record("All pairs of 100,000 vectors", "python benchmarks/copies.py --scale", table, note)


if __name__ == "__main__":
    arguments = parse_arguments()
    if arguments.data:
        measure_copies(arguments)
    if arguments.scale:
        measure_scale()
