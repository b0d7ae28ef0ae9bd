"""How quick the page is, for one visitor and for many at once, and whether it keeps memory.

python benchmarks/page.py
python benchmarks/page.py --data DIR --backbone MobileNetV2 --alpha 0.35 --weights FILE

The page runs in a process of its own, on the same cores as its visitors. A search is one question
over HTTP, from the request to the end of the answer; each answer is compared with what the handlers
give without a server. Every visitor has a session, and asks again as soon as there is an answer.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import secrets
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import requests
from results import backbone_name, record

from lookalike.backbones import build_encoder
from lookalike.embeddings import EmbeddingStore, embed_catalog, open_store
from lookalike.images import load_image
from lookalike.page import Service, build_app
from lookalike.page.handlers import Handlers
from lookalike.page.html_parts import data_url
from lookalike.page.server import AT_ONCE
from lookalike.sources import load_catalog

METRICS = ("cosine", "euclidean")


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
    return parser.parse_args()


def serve(folder: Path, encoder_options: dict, addresses) -> None:
    """Serve the page until killed, and tell its address."""
    page = build_app(open_store(folder), build_encoder(**encoder_options))
    addresses.put(page.launch(prevent_thread_lock=True, quiet=True)[1])
    time.sleep(3600)


class Visitor:
    """Asks the page as a browser does, by its queue, in a session of its own."""

    def __init__(self, address: str):
        self.address, self.session = address, {"session_hash": secrets.token_hex(8)}
        dependencies = requests.get(f"{address}config", timeout=60).json()["dependencies"]
        self.numbers = {one["api_name"]: one["id"] for one in dependencies}

    def ask(self, handler: str, *values) -> list:
        """The outputs of one handler."""
        question = {"data": values, "fn_index": self.numbers[handler]} | self.session
        requests.post(
            f"{self.address}gradio_api/queue/join", json=question, timeout=60
        ).raise_for_status()
        source = f"{self.address}gradio_api/queue/data"
        with requests.get(source, params=self.session, stream=True, timeout=60) as answer:
            told = (
                json.loads(line[5:]) for line in answer.iter_lines() if line.startswith(b"data:")
            )
            return next(one for one in told if one["msg"] == "process_completed")["output"]["data"]


def shown(html: str) -> list[tuple[str, str]]:
    """The images of a gallery in order, each with its score."""
    found = re.findall(r'class="lk-photo" data-event="search" data-id="([^"]*)"', html)
    return list(zip(found, re.findall(r'class="lk-score"[^>]*>([^<]*)<', html), strict=True))


def timed(function, *values) -> tuple[float, object]:
    """Milliseconds, and what came of it."""
    begin = time.perf_counter()
    result = function(*values)
    return 1000 * (time.perf_counter() - begin), result


def questions(store: EmbeddingStore, count: int) -> list[tuple]:
    """Different ones: uploads cut from the catalogue's photos and photos of it in turn, both
    metrics, different k.
    """
    catalog, asked = store.catalog, []
    for number in range(count):
        image = catalog.iloc[number * 7 % len(catalog)]
        upload = {"data": data_url(load_image(image["path"], 200)[10:])}
        asked.append(
            (
                ({"id": image["image_id"]}, upload)[number % 2],
                4 + number % 9,
                METRICS[number // 2 % 2],
                "",
            )
        )
    return asked


def main() -> None:
    """Serve, ask, record."""
    options = parse_arguments()
    catalog, _ = load_catalog(
        *(("folder", options.data.expanduser()) if options.data else ("sample",))
    )
    encoder_options = {"name": backbone_name(options), "weights": options.weights}
    encoder, addresses = (
        build_encoder(**encoder_options),
        multiprocessing.get_context("spawn").Queue(),
    )
    with tempfile.TemporaryDirectory() as folder:
        store = embed_catalog(encoder, catalog, Path(folder, "store"))
        server = multiprocessing.get_context("spawn").Process(
            target=serve, args=(store.folder, encoder_options, addresses), daemon=True
        )
        server.start()
        try:
            measure(
                options,
                store,
                Handlers(Service(store, encoder)),
                addresses.get(timeout=600),
                server.pid,
            )
        finally:
            server.kill()
            server.join()


def measure(
    options: argparse.Namespace,
    store: EmbeddingStore,
    handlers: Handlers,
    address: str,
    server: int,
) -> None:
    """One visitor, many, and many more; the table of it."""
    asked = questions(store, options.visitors)
    expected = [shown(handlers.find(*one)[0]) for one in asked]
    alone = [timed(handlers.find, *one)[0] for one in asked]
    visitors = [Visitor(address) for _ in asked]
    for one in asked:
        visitors[0].ask("find", *one)  # every thumbnail is made once
    single = [timed(visitors[0].ask, "find", *one)[0] for one in asked]

    def visit(number: int, count: int) -> list[tuple[float, bool]]:
        """Milliseconds of each of a visitor's searches, and whether its answer was the expected
        one.
        """
        places = [(number + step) % len(asked) for step in range(count)]
        answers = [(place, *timed(visitors[number].ask, "find", *asked[place])) for place in places]
        return [(took, shown(html) == expected[place]) for place, took, (html, _) in answers]

    def crowd(count: int) -> list[tuple[float, bool]]:
        """All visitors at once."""
        with ThreadPoolExecutor(len(visitors)) as pool:
            visits = pool.map(visit, range(len(visitors)), [count] * len(visitors))
            return [one for answers in visits for one in answers]

    begin = time.perf_counter()
    answers = crowd(options.searches)
    seconds = time.perf_counter() - begin
    many, wrong = [took for took, _ in answers], sum(not right for _, right in answers)
    process, held = psutil.Process(server), []
    for _ in range(3):
        wrong += sum(not right for _, right in crowd(options.requests // len(visitors)))
        held.append(f"{process.memory_info().rss / 1e6:.0f}")
    rows = [
        ("handlers, no server", alone, 1000 / np.mean(alone)),
        ("one visitor", single, 1000 / np.mean(single)),
    ]
    rows.append((f"{options.visitors} at once", many, len(many) / seconds))
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
        f"{len(store.catalog):,} photos, {handlers.service.encoder.name}; half of the searches with uploads. {len(many)} "
        f"searches of {options.visitors} visitors at once, {AT_ONCE} answered at a time, then three times "
        f"{options.requests:,} more; answered other than without a server: {wrong}. Resident memory of the server "
        f"after each of the three: {', '.join(held)} MB."
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
