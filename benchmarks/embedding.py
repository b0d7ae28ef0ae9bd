"""From files to a store: the loop of common tutorials, ours, and the forward pass alone; same
photos, one run.

python benchmarks/embedding.py --data DIR

The loop is `load_img`, `preprocess_input` and `model.predict`, photo by photo. Ours is
`embed_catalog`, which reads, decodes, computes and writes. The forward pass alone has its pixels
ready in memory, in each precision and engine that this machine has. Rates are those of a long run:
the time that more photos took, beyond that of a few. Weights are random, which costs the same time;
but with weights that mean something "auto" may refuse a precision whose vectors stray. With
--overlap and such weights it also measures what precision does to the neighbours, and what "auto"
takes. Ends with one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from results import record

from lookalike.backbones import BACKBONES, build_encoder
from lookalike.compiled_encoder import ENGINES, choose_engine, compile_encoder, has_openvino
from lookalike.embeddings import embed_catalog
from lookalike.images import pixel_batches
from lookalike.intervals import confidence_interval
from lookalike.metrics import precision_at_k
from lookalike.rankings import rank
from lookalike.similarity import top_k
from lookalike.sources import load_catalog

BATCH = 32
SECONDS = 8  # that the long run takes beyond the short one, about
ROUNDS = 3


def tutorial_rate(name: str, paths: list[str]) -> float:
    """Images a second of the loop that tutorials show."""
    row = BACKBONES[name]
    model = row.constructor(include_top=False, weights=None, pooling="avg")
    utils, size = keras.utils, (row.image_size, row.image_size)

    def vector(path: str) -> np.ndarray:
        pixels = utils.img_to_array(utils.load_img(path, target_size=size))[None]
        return model.predict(row.preprocess(pixels), verbose=0)

    vector(paths[0])
    begin = time.perf_counter()
    for path in paths:
        vector(path)
    return len(paths) / (time.perf_counter() - begin)


def all_ways() -> list[tuple[str, str]]:
    """Each precision and engine that can be had here, TensorFlow's first."""
    engines = ENGINES[: 1 + has_openvino()]
    return [(precision, engine) for engine in engines for precision in ("float32", "bfloat16")]


def forward_rate(encoder: keras.Model, pixels: np.ndarray, precision: str, engine: str) -> float:
    """Images a second of the compiled encoder on pixels in memory, over some seconds."""
    forward = compile_encoder(encoder, precision=precision, engine=engine, batch_size=len(pixels))
    forward(pixels)
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < SECONDS / 2:
        forward(pixels)
        count += len(pixels)
    return count / (time.perf_counter() - begin)


def store_rate(
    encoder: keras.Model, catalog: pd.DataFrame, n_long: int, way: dict[str, str]
) -> float:
    """Images a second of `embed_catalog`, from files to a store on disk, without what it takes to
    begin.
    """
    times = []
    # The first run of all also loads what others find there.
    for count in (2 * BATCH, 2 * BATCH, 2 * BATCH + n_long):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            embed_catalog(
                encoder, catalog.head(count), Path(folder, "store"), batch_size=BATCH, **way
            )
            times.append(time.perf_counter() - begin)
    return n_long / (times[2] - times[1])


def measure(name: str, catalog: pd.DataFrame) -> dict:
    """One backbone: the loop, the forward pass in each way, and ours in the fastest TensorFlow way
    and the fastest.
    """
    encoder = build_encoder(name, weights=None)
    pixels = next(pixel_batches(catalog["path"], encoder.input_shape[1:3], batch_size=BATCH))
    ways = all_ways()
    rates = {way: forward_rate(encoder, pixels, *way) for way in ways}
    best_tensorflow = max((way for way in ways if way[1] == "tensorflow"), key=rates.get)
    result = {
        "backbone": name,
        "loop": tutorial_rate(name, catalog["path"].head(48).tolist()),
        "forward": rates,
    }
    for what, way in (
        ("ours", best_tensorflow),
        ("ours, auto", choose_engine(encoder, pixels, 1_000_000)[:2]),
    ):
        n_long = min(
            int(SECONDS * rates[way]) // BATCH * BATCH, (len(catalog) - 2 * BATCH) // BATCH * BATCH
        )
        named = dict(zip(("precision", "engine"), way, strict=True))
        # The machine is not equally fast all the time: the forward pass is measured again before
        # and after each round.
        around = [forward_rate(encoder, pixels, *way)]
        stored = []
        for _ in range(ROUNDS):
            stored.append(store_rate(encoder, catalog, n_long, named))
            around.append(forward_rate(encoder, pixels, *way))
        ratios = [rate / np.mean(around[number : number + 2]) for number, rate in enumerate(stored)]
        result |= {what: np.median(stored), f"{what} way": " by ".join(way)}
        result[f"{what} / the same forward"] = np.median(ratios)
    return result


def overlap(data: Path, backbone: str, options: dict) -> tuple[pd.DataFrame, str]:
    """What each precision does to the vectors, and which is taken: validation photos searching
    among train photos.
    """
    catalog, _ = load_catalog("folder", data)
    encoder = build_encoder(backbone, **options)
    splits = {"gallery_split": "train", "query_split": "validation"}
    is_query = (catalog["split"] == "validation").to_numpy()
    rows, reference = [], None
    for precision, engine in all_ways():
        with tempfile.TemporaryDirectory() as folder:
            vectors = np.array(
                embed_catalog(
                    encoder, catalog, Path(folder, "store"), precision=precision, engine=engine
                ).vectors
            )
        nearest = top_k(vectors[is_query], vectors[~is_query], 10)[0]
        scores = precision_at_k(rank(vectors, catalog, 10, **splits), 10)
        reference = reference or (nearest, scores, vectors)
        same = np.mean(
            [len(set(a) & set(b)) / 10 for a, b in zip(nearest, reference[0], strict=True)]
        )
        products = (vectors * reference[2]).sum(axis=1)
        cosine = products / np.linalg.norm(vectors, axis=1) / np.linalg.norm(reference[2], axis=1)
        low, high = confidence_interval(scores - reference[1])
        row = {"precision": precision, "engine": engine, "smallest cosine": f"{cosine.min():.5f}"}
        row |= {"same among the 10 nearest": f"{same:.2%}", "Precision@10": f"{scores.mean():.4f}"}
        rows.append(row | {"change, 95 % interval": f"{low:+.4f} to {high:+.4f}"})
    pixels = next(
        pixel_batches(catalog["path"].sample(BATCH, random_state=0), encoder.input_shape[1:3])
    )
    return pd.DataFrame(rows), f"`auto` takes: {choose_engine(encoder, pixels, 1_000_000)[2]}."


def main() -> None:
    """Measure, print, write down."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="a folder of photos, a thousand or more"
    )
    parser.add_argument(
        "--backbones", nargs="*", default=["VGG16", "ResNet50", "MobileNetV2"], choices=BACKBONES
    )
    parser.add_argument(
        "--overlap", default="", help="a backbone to compare the precisions of, with --weights"
    )
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--alpha", type=float)
    options = parser.parse_args()
    ratios = {}
    if options.backbones:
        catalog = (
            load_catalog("folder", options.data)[0]
            .sample(frac=1, random_state=0)
            .reset_index(drop=True)
        )
        rows = []
        for name in options.backbones:
            found = measure(name, catalog)
            forward = found["forward"]
            row = {"backbone": name, "loop": f"{found['loop']:.1f}"}
            row |= {f"forward, {' by '.join(way)}": f"{rate:.1f}" for way, rate in forward.items()}
            for what in ("ours", "ours, auto"):
                row[what] = f"{found[what]:.1f} ({found[f'{what} way']})"
            rows.append(row)
            ratios[name] = {
                "ours / the same forward": found["ours / the same forward"],
                "ours, auto / the same forward": found["ours, auto / the same forward"],
                "ours, auto / best TensorFlow forward": found["ours, auto"]
                / max(forward[way] for way in list(forward)[:2]),
                "ours / loop": found["ours"] / found["loop"],
                "ours, auto / loop": found["ours, auto"] / found["loop"],
            }
        table = pd.DataFrame(rows).set_index("backbone")
        shares = pd.DataFrame(ratios).map("{:.2f}".format).T
        shown = table.join(shares).T.rename_axis("images/s, then ratios").reset_index()
        record(
            "From files to a store of vectors",
            "python benchmarks/embedding.py --data DIR",
            shown,
            f"Batches of {BATCH}; medians of {ROUNDS} rounds.",
        )
    if options.overlap:
        chosen = {"weights": options.weights} | (
            {} if options.alpha is None else {"alpha": options.alpha}
        )
        name = " ".join(filter(None, [options.overlap, str(options.alpha or "")]))
        table, note = overlap(options.data, options.overlap, chosen)
        arguments = (
            f"--backbones --overlap {options.overlap} --weights FILE"
            + f" --alpha {options.alpha}" * bool(options.alpha)
        )
        record(
            f"What precision does to {name}",
            f"python benchmarks/embedding.py --data DIR {arguments}",
            table,
            note,
        )
    print(
        json.dumps(
            {
                name: {what: round(ratio, 3) for what, ratio in row.items()}
                for name, row in ratios.items()
            }
        )
    )


if __name__ == "__main__":
    main()
