"""How quick the page is, for one visitor and for many at once, and whether it keeps memory.

python benchmarks/page.py
python benchmarks/page.py --data DIR --backbone MobileNetV2-0.35 --weights FILE
python benchmarks/page.py --vectors 100000

The page runs in a process of its own, on the same cores as its visitors. Every visitor has sent a
photo, and searches with it again and again, by another number and colour each time; a
search is one question over HTTP, from the request to the end of the answer. Each answer is compared
with what the same functions give without a server. With `--vectors`, how long a page over so many
takes to open.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import secrets
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import requests
from PIL import Image
from results import backbone_name, record

from lookalike.backbones import build_encoder
from lookalike.copies import SIDE_ARRAYS
from lookalike.embeddings import embed_catalog, open_store
from lookalike.images import load_image
from lookalike.page import Service, build_app, launch_options
from lookalike.page.app import ranked
from lookalike.page.uploads import AT_ONCE, decode_upload
from lookalike.sources import load_catalog


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a folder of photos; else the sample")
    parser.add_argument("--backbone", default="auto", help="a name, such as MobileNetV2-0.35")
    parser.add_argument("--alpha", type=float, help="width multiplier of MobileNetV2")
    parser.add_argument("--weights", default="auto", help="a file, or auto")
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--searches", type=int, default=10, help="of each visitor")
    parser.add_argument("--requests", type=int, default=1000, help="over which memory is watched")
    parser.add_argument("--vectors", type=int, help="open a page over so many instead")
    return parser.parse_args()


def serve(folder: Path, encoder_options: dict, addresses) -> None:
    """Serve the page until killed, and tell its address."""
    service = Service(open_store(folder), build_encoder(**encoder_options))
    page = build_app(service)
    _, address, _ = page.launch(prevent_thread_lock=True, **launch_options(service))
    addresses.put(address)
    time.sleep(3600)


class Visitor:
    """Asks the page as a browser does, by its queue, in a session of its own."""

    def __init__(self, address: str, photo: bytes):
        self.api = f"{address}gradio_api/"
        self.session = {"session_hash": secrets.token_hex(8)}
        events = requests.get(f"{address}config", timeout=60).json()["dependencies"]
        self.number = next(one["id"] for one in events if one["api_name"] == "find")
        files = {"files": ("photo.png", photo)}
        self.path = requests.post(f"{self.api}upload", files=files, timeout=60).json()[0]

    def search(self, network: str, wish: dict) -> list[str]:
        """The captions of what the page finds."""
        photo = {"path": self.path, "meta": {"_type": "gradio.FileData"}}
        data = [photo, None, network, wish["k"], wish["colour"]]
        question = {"data": data, "fn_index": self.number} | self.session
        joined = requests.post(f"{self.api}queue/join", json=question, timeout=60)
        joined.raise_for_status()
        source = f"{self.api}queue/data"
        with requests.get(source, params=self.session, stream=True, timeout=60) as answer:
            lines = (line for line in answer.iter_lines() if b"process_completed" in line)
            tiles = json.loads(next(lines)[5:])["output"]["data"][0]
        return [tile["caption"] for tile in tiles]


def timed(function, *values) -> tuple[float, object]:
    """Milliseconds, and what came of it."""
    begin = time.perf_counter()
    result = function(*values)
    return 1000 * (time.perf_counter() - begin), result


def wishes(count: int) -> list[dict]:
    """Different ones."""
    return [{"k": 4 + number % 9, "colour": number % 5 / 4} for number in range(count)]


def photos_of(catalog: pd.DataFrame, count: int) -> list[bytes]:
    """Photos of the catalogue, cut a little, as PNG files."""
    files = []
    for number in range(count):
        pixels = load_image(catalog["path"].iloc[number * 7 % len(catalog)], 200)
        Image.fromarray(pixels[10:]).save(stream := io.BytesIO(), "PNG")
        files.append(stream.getvalue())
    return files


def main() -> None:
    """Serve, ask, record."""
    options = parse_arguments()
    encoder_options = {"name": backbone_name(options), "weights": options.weights}
    encoder = build_encoder(**encoder_options)
    source = ("folder", options.data.expanduser()) if options.data else ("sample",)
    catalog, _ = load_catalog(*source)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        if options.vectors:
            return open_many(options, encoder, catalog, Path(folder, "store"))
        store = embed_catalog(encoder, catalog, Path(folder, "store"), side_arrays=SIDE_ARRAYS)
        addresses = context.Queue()
        arguments = (store.folder, encoder_options, addresses)
        server = context.Process(target=serve, args=arguments, daemon=True)
        server.start()
        try:
            service = Service(store, encoder)
            measure(options, service, addresses.get(timeout=600), server.pid)
        finally:
            server.kill()
            server.join()


def open_many(options, encoder, catalog, folder) -> None:
    """Seconds from an open store of so many vectors to a page that is served."""
    many = catalog.iloc[np.arange(options.vectors) % len(catalog)].reset_index(drop=True)
    many["image_id"] = [f"{row}.jpg" for row in many.index]
    many["product_id"] = (many.index // 3).astype(str)
    store = embed_catalog(encoder, many, folder, side_arrays=SIDE_ARRAYS)
    begin = time.perf_counter()
    service = Service(store, encoder)
    page = build_app(service)
    page.launch(prevent_thread_lock=True, **launch_options(service))
    seconds = time.perf_counter() - begin
    page.close()
    table = pd.DataFrame({"photos": [f"{len(many):,}"], "seconds": [f"{seconds:.1f}"]})
    note = f"{encoder.name}, {store.vectors.shape[1]} dimensions, from an open store to the page."
    record("The page opens", f"python benchmarks/page.py --vectors {len(many)}", table, note)


def measure(options, service: Service, address: str, server: int) -> None:
    """One visitor, many, and many more; the table of it."""
    asked = wishes(options.visitors)
    network = service.encoder.name
    visitors = [Visitor(address, photo) for photo in photos_of(service.catalog, len(asked))]

    def alone(visitor, wish):
        tiles, _ = ranked(service, service.similar(decode_upload(visitor.path), **wish))
        return [caption for _, caption in tiles]

    expected = {}
    for number, visitor in enumerate(visitors):
        for place, wish in enumerate(asked):
            if place in {(number + step) % len(asked) for step in range(options.searches)}:
                expected[number, place] = alone(visitor, wish)
    without = [timed(alone, *one)[0] for one in zip(visitors, asked, strict=True)]
    # Every thumbnail is made once.
    for wish in asked:
        visitors[0].search(network, wish)
    single = [timed(visitors[0].search, network, wish)[0] for wish in asked]

    def visit(number: int, count: int) -> list[tuple[float, bool]]:
        """Milliseconds of each of a visitor's searches, and whether its answer was the expected
        one.
        """
        answers = []
        for step in range(count):
            place = (number + step % options.searches) % len(asked)
            took, captions = timed(visitors[number].search, network, asked[place])
            answers.append((took, captions == expected[number, place]))
        return answers

    def crowd(count: int) -> list[tuple[float, bool]]:
        """All visitors at once."""
        with ThreadPoolExecutor(len(visitors)) as pool:
            visits = pool.map(visit, range(len(visitors)), [count] * len(visitors))
            return [one for answers in visits for one in answers]

    begin = time.perf_counter()
    answers = crowd(options.searches)
    seconds = time.perf_counter() - begin
    many = [took for took, _ in answers]
    wrong = sum(not right for _, right in answers)
    process, held = psutil.Process(server), []
    for _ in range(3):
        wrong += sum(not right for _, right in crowd(options.requests // len(visitors)))
        held.append(f"{process.memory_info().rss / 1e6:.0f}")
    rows = [
        ("without a server", without, 1000 / np.mean(without)),
        ("one visitor", single, 1000 / np.mean(single)),
        (f"{options.visitors} at once", many, len(many) / seconds),
    ]
    table = pd.DataFrame(
        [
            (
                title,
                f"{np.median(took):.0f}",
                f"{np.percentile(took, 95):.0f}",
                f"{rate:.1f}",
                f"{rate / rows[0][2]:.2f}",
            )
            for title, took, rate in rows
        ],
        columns=["", "median ms", "p95 ms", "searches/s", "ratio"],
    )
    note = (
        f"{len(service.catalog):,} photos, {network}; each visitor asks with an upload. "
        f"{len(many)} searches of {options.visitors} visitors at once, {AT_ONCE} answered at a "
        f"time, then three times {options.requests:,} more; answered other than without a "
        f"server: {wrong}. Resident memory of the server after each of the three: "
        f"{', '.join(held)} MB."
    )
    data = " --data DIR" if options.data else ""
    given = {"--backbone": options.backbone != "auto" and backbone_name(options)}
    given |= {"--weights": options.weights != "auto" and "FILE"}
    command = (
        f"python benchmarks/page.py{data}{''.join(f' {a} {b}' for a, b in given.items() if b)}"
    )
    record("The page" + (" on a folder" if options.data else ""), command, table, note)


if __name__ == "__main__":
    main()
