"""From photos to a store of vectors: the loop of common tutorials, `embed_catalog`, and the forward
pass alone.

python benchmarks/embedding.py --data DIR

The loop is `load_img`, `preprocess_input` and `model.predict`, photo by photo. `embed_catalog`
reads, decodes, computes and writes, by TensorFlow and, where OpenVINO is installed, by an export to
it. The forward pass alone has its pixels ready in memory. Weights are random, which costs the same
time. Ends with one JSON object.

With --overlap NAME and --weights FILE it also tells what engine and precision do to the neighbours.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from results import record

from lookalike.backbones import BACKBONES, build_encoder, load_backbone
from lookalike.embeddings import compile_encoder, embed_catalog
from lookalike.evaluation import confidence_interval, overlap_at_k, precision_at_k, rank
from lookalike.export import export_model, open_export
from lookalike.images import pixel_batches
from lookalike.similarity import exact_scores
from lookalike.sources import load_catalog

BATCH = 32
FEW = 2 * BATCH
ROUNDS = 3


def loop_rate(name: str, paths: list[str]) -> float:
    """Images a second of the loop that tutorials show."""
    base, preprocess = load_backbone(name, weights=None)
    size = base.input_shape[1:3]
    model = keras.Sequential([base, keras.layers.GlobalAveragePooling2D()])

    def vector(path):
        photo = keras.utils.load_img(path, target_size=size)
        pixels = keras.utils.img_to_array(photo)[None]
        return model.predict(preprocess(pixels), verbose=0)

    vector(paths[0])
    begin = time.perf_counter()
    for path in paths:
        vector(path)
    return len(paths) / (time.perf_counter() - begin)


def forward_rate(forward: Callable, pixels: np.ndarray, seconds: float) -> float:
    """Images a second on a batch in memory, over some seconds."""
    forward(pixels)
    count = 0
    begin = time.perf_counter()
    while time.perf_counter() < begin + seconds:
        forward(pixels)
        count += len(pixels)
    return count / (time.perf_counter() - begin)


def store_rate(encoder: keras.Model, forward: Callable, catalog: pd.DataFrame, count: int) -> float:
    """Images a second of `embed_catalog`: from the time that `count` photos more take than a few,
    so that what it takes to begin does not count.
    """
    times = []
    # The first run of all also loads what others find there.
    for photos in (FEW, FEW, FEW + count):
        with tempfile.TemporaryDirectory() as folder:
            store = Path(folder, "store")
            begin = time.perf_counter()
            embed_catalog(encoder, catalog.head(photos), store, forward=forward, batch_size=BATCH)
            times.append(time.perf_counter() - begin)
    return count / (times[2] - times[1])


def compiled(encoder: keras.Model, folder: str) -> dict[str, Callable]:
    """An encoder by TensorFlow and, where it is installed, by OpenVINO; its export is in `folder`
    for as long as it is used.
    """
    forwards = {"TensorFlow": compile_encoder(encoder)}
    if find_spec("openvino"):
        export = export_model(encoder, Path(folder, "openvino"), "openvino")
        forwards["OpenVINO"] = open_export(export)
    return forwards


def measure(name: str, catalog: pd.DataFrame, seconds: float) -> tuple[dict, dict]:
    """Of one backbone, images a second of each way, and ratios of them."""
    encoder = build_encoder(name, weights=None)
    pixels = next(pixel_batches(catalog["path"], encoder.input_shape[1:3], batch_size=BATCH))
    loop = loop_rate(name, catalog["path"].head(48).tolist())
    rates = {"loop": loop}
    ratios = {}
    with tempfile.TemporaryDirectory() as folder:
        for engine, forward in compiled(encoder, folder).items():
            # The machine is not equally fast all the time: the forward pass has its turn before and
            # after each round.
            alone = [forward_rate(forward, pixels, seconds / 2)]
            count = min(int(seconds * alone[0]), len(catalog) - FEW) // BATCH * BATCH
            stored = []
            for _ in range(ROUNDS):
                stored.append(store_rate(encoder, forward, catalog, count))
                alone.append(forward_rate(forward, pixels, seconds / 2))
            ours = "ours" if engine == "TensorFlow" else f"ours, {engine}"
            rates[f"forward, {engine}"] = np.median(alone)
            rates[ours] = np.median(stored)
            around = np.add(alone[:-1], alone[1:]) / 2
            ratios[f"{ours} / the same forward"] = np.median(stored / around)
            ratios[f"{ours} / loop"] = rates[ours] / loop
    return rates, ratios


def compare_backbones(names: list[str], data: Path, seconds: float) -> dict[str, dict]:
    """Measure backbones, write down a table, and tell the ratios."""
    catalog, _ = load_catalog("folder", data)
    catalog = catalog.sample(frac=1, random_state=0, ignore_index=True)
    rates = {}
    ratios = {}
    for name in names:
        rates[name], ratios[name] = measure(name, catalog, seconds)
    shown = pd.concat(
        [pd.DataFrame(rates).map("{:.1f}".format), pd.DataFrame(ratios).map("{:.2f}".format)]
    )
    record(
        "From files to a store of vectors",
        "python benchmarks/embedding.py --data DIR",
        shown.rename_axis("images/s, then ratios").reset_index(),
        f"In float32; batches of {BATCH}; medians of {ROUNDS} rounds.",
    )
    return {name: {what: round(share, 3) for what, share in ratios[name].items()} for name in names}


def in_bfloat16(name: str, weights: str) -> keras.Model:
    """An encoder whose backbone computes in bfloat16; weights and pooling stay in float32."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return build_encoder(name, weights=weights)
    finally:
        keras.config.set_dtype_policy("float32")


def compare_neighbours(name: str, data: Path, weights: str, seconds: float) -> None:
    """Write down what engine and precision do to the vectors, and to what validation photos find
    among train photos.
    """
    catalog, _ = load_catalog("folder", data)
    encoder = build_encoder(name, weights=weights)
    size = encoder.input_shape[1:3]
    pixels = next(pixel_batches(catalog["path"], size, batch_size=BATCH))
    rows = []
    plain = None
    with tempfile.TemporaryDirectory() as folder:
        forwards = {f"float32, {engine}": way for engine, way in compiled(encoder, folder).items()}
        forwards["bfloat16, TensorFlow"] = compile_encoder(in_bfloat16(name, weights))
        for way, forward in forwards.items():
            batches = pixel_batches(catalog["path"], size, batch_size=BATCH)
            vectors = np.concatenate([forward(batch) for batch in batches])
            ranking = rank(vectors, catalog, gallery_split="train", query_split="validation")
            scores = precision_at_k(ranking.relevant, 10)
            plain = plain or (vectors, ranking, scores)
            cosines = exact_scores(vectors, plain[0], "cosine")
            same = overlap_at_k(ranking.results, plain[1].results, 10)
            low, high = confidence_interval(scores - plain[2])
            rows.append(
                {
                    "way": way,
                    "images/s": f"{forward_rate(forward, pixels, seconds):.0f}",
                    "smallest cosine": f"{cosines.min():.5f}",
                    "same among the 10 nearest": f"{same.mean():.2%}",
                    "Precision@10": f"{scores.mean():.4f}",
                    "change, 95 % interval": f"{low:+.4f} to {high:+.4f}",
                }
            )
    record(
        f"What precision does to {name.replace('-', ' ')}",
        f"python benchmarks/embedding.py --data DIR --backbones --overlap {name} --weights FILE",
        pd.DataFrame(rows),
        "images/s of the forward pass alone, on pixels in memory.",
    )


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
    parser.add_argument("--overlap", metavar="NAME", help="such as MobileNetV2-0.35")
    parser.add_argument("--weights", default="auto", help="of that one")
    parser.add_argument("--seconds", type=float, default=8, help="that embedding takes, about")
    options = parser.parse_args()
    ratios = {}
    if options.backbones:
        ratios = compare_backbones(options.backbones, options.data, options.seconds)
    if options.overlap:
        compare_neighbours(options.overlap, options.data, options.weights, options.seconds)
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
