"""What a process still holds after many rounds of all that a shop does with its photos; run as a
script, that process.

A round builds a store, asks it, adds, changes and removes photos, opens it anew, changes an index
of each kind in memory, saves and opens it, reads a model, and opens an export.
"""

import ctypes
import gc
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from conftest import make_catalog, write_photo
from lookalike.backbones import build_encoder
from lookalike.embeddings import embed_catalog, embed_images, open_store
from lookalike.evaluation import rank
from lookalike.export import export_model, open_export
from lookalike.recommend import recommend, recommend_all
from lookalike.saving import load_model, save_model
from lookalike.scale import index_store, open_index
from lookalike.scale.shared import indexed
from lookalike.splits import split_by_product

ROUNDS = 20
GROWTH = 20e6  # bytes from round 5 on: caches that fill up take some 5 MB, and what is lost more


def all_that_a_shop_does(folder, number, encoder):
    catalog = make_catalog(folder / "photos", 50)
    first = embed_catalog(encoder, catalog[:40], folder / "store", batch_size=16)
    recommend(first, "000.png")
    # 5 changed, 10 gone, 10 new.
    for changed in range(10, 15):
        write_photo(folder / "photos" / f"{changed:03}.png", changed + 1000 * (number + 1))
    embed_catalog(encoder, catalog[10:], folder / "store", batch_size=16)
    store = open_store(folder / "store")
    # A store that was replaced can be read to the end.
    assert len(recommend(first, "000.png", 50)) == 39
    for metric in ("cosine", "euclidean"):
        recommend(store, "010.png", metric=metric, diversity=0.3)
        recommend_all(store, metric=metric)
    rank(store.vectors, split_by_product(store.catalog, seed=number), 5)
    for kind in ("flat", "hnsw"):
        index, vectors = index_store(store, kind), indexed(store)
        index.remove(range(5))
        index.add(range(3, 9), vectors[3:9], ["x"] * 6)
        index.save(folder / kind)
        opened = open_index(folder / kind)
        for label in (None, "x"):
            found = [one.search(vectors, 4, label=label)[0] for one in (index, opened)]
            np.testing.assert_array_equal(*found)
        recommend(store, "020.png", index=opened, colour=0.2)
        for one in (index, opened):
            one.close()
    model, _ = load_model(folder / "encoder.keras")
    embed_images(model, store.catalog["path"][:3].tolist())
    open_export(folder / "export")(np.zeros((3, 32, 32, 3), np.uint8))


def main(folder):
    encoder, process = build_encoder("VGG16Slim", weights=None, image_size=32), psutil.Process()
    save_model(encoder, folder / "encoder.keras", {})
    export_model(encoder, folder / "export", "saved_model")
    for number in range(ROUNDS):
        all_that_a_shop_does(folder, number, encoder)
        gc.collect()
        # Else what was freed is given back now and then, and the figure jumps.
        ctypes.CDLL(None).malloc_trim(0)
        files = [file.path for file in (*process.open_files(), *process.memory_maps())]
        held = {"files": sorted(path for path in files if str(folder) in path)}
        held |= {"descriptors": process.num_fds(), "threads": threading.active_count()}
        print(json.dumps({**held, "memory": process.memory_info().rss}), flush=True)


@pytest.mark.soak
@pytest.mark.skipif(sys.platform != "linux", reason="counts as Linux tells it")
def test_round_after_round_one_process_holds_no_more(tmp_path, capsys):
    command = [sys.executable, __file__, str(tmp_path)]
    alone = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=alone, check=True)
    held = [json.loads(line) for line in told.stdout.splitlines() if line.startswith("{")]
    # No file of a store stays open or mapped.
    assert [one["files"] for one in held] == [[]] * ROUNDS
    for what in ("descriptors", "threads"):
        assert held[-1][what] == held[0][what]
    megabytes = [round(one["memory"] / 1e6) for one in held]
    with capsys.disabled():
        print(f"\nMB after each of {ROUNDS} rounds: {megabytes}; {held[-1]}")
    assert held[-1]["memory"] - held[4]["memory"] < GROWTH


if __name__ == "__main__":
    main(Path(sys.argv[1]))
