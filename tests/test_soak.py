"""What a process still holds after many rounds of all that a shop does with its photos; run as a
script, that process.

A round builds a store, asks it, adds, changes and removes photos, opens it anew, changes an index
of each kind in memory, saves and opens it, reads a model, and opens an export.
"""

import ctypes
import gc
import importlib.util
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image

GROWTH = 20e6  # bytes from round 5 on: caches that fill up take some 5 MB, and what is lost more


def all_that_a_shop_does(folder, number, encoder):
    from lookalike.embeddings import embed_catalog, embed_images, open_store
    from lookalike.evaluation import rank
    from lookalike.export import open_export
    from lookalike.recommend import recommend, recommend_all
    from lookalike.saving import load_model
    from lookalike.scale import index_store, open_index
    from lookalike.splits import split_by_product

    def embedded(seeds):
        rows = []
        for name, seed in seeds.items():
            coarse = Image.fromarray(
                np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
            )
            coarse.resize((40, 40), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
            rows.append(
                (f"{name}.png", str(folder / f"{name}.png"), f"{name}", "abc"[name % 3], None)
            )
        columns = ["image_id", "path", "product_id", "label", "split"]
        return embed_catalog(
            encoder, pd.DataFrame(rows, columns=columns), folder / "store", batch_size=16
        )

    first = embedded({name: name for name in range(40)})
    recommend(first, "0.png")
    # 5 changed, 10 gone, 10 new.
    embedded({name: name + 1000 * (number + 1) * (name < 15) for name in range(10, 50)})
    store = open_store(folder / "store")
    assert store.catalog["image_id"].tolist() == [f"{name}.png" for name in range(10, 50)]
    assert len(recommend(first, "0.png", 50)) == 39, (
        "a store that was replaced can be read to the end"
    )
    for metric in ("cosine", "euclidean"):
        recommend(store, "10.png", metric=metric, diversity=0.3)
        recommend_all(store, metric=metric)
    rank(store.vectors, split_by_product(store.catalog, seed=number), 5)
    for kind in ("flat", "hnsw") if importlib.util.find_spec("faiss") else ():
        index, vectors = index_store(store, kind), store.indexed()
        index.remove(range(5))
        index.add(range(3, 9), vectors[3:9], ["x"] * 6)
        index.save(folder / kind)
        opened = open_index(folder / kind)
        for label in (None, "x"):
            found = [one.search(vectors, 4, label=label)[0] for one in (index, opened)]
            np.testing.assert_array_equal(*found)
        recommend(store, "20.png", index=opened, colour=0.2)
        for one in (index, opened):
            one.close()
    model, _ = load_model(folder / "encoder.keras")
    paths = store.catalog["path"][:3].tolist()
    np.testing.assert_allclose(embed_images(model, paths), store.vectors[:3], rtol=1e-4, atol=1e-5)
    assert open_export(folder / "export")(np.zeros((3, 32, 32, 3), np.uint8)).shape == (3, 128)


def main(folder, rounds):
    from lookalike.backbones import build_encoder
    from lookalike.export import export_model
    from lookalike.saving import save_model

    encoder, process = build_encoder("VGG16Slim", weights=None, image_size=32), psutil.Process()
    save_model(encoder, folder / "encoder.keras", {})
    export_model(encoder, folder / "export", "saved_model")
    for number in range(rounds):
        all_that_a_shop_does(folder, number, encoder)
        gc.collect()
        # Else what was freed is given back now and then, and the figure jumps.
        ctypes.CDLL(None).malloc_trim(0)
        files = [file.path for file in (*process.open_files(), *process.memory_maps())]
        held = {"files": sorted(path for path in files if str(folder) in path)}
        held |= {"descriptors": process.num_fds(), "threads": threading.active_count()}
        print(json.dumps({**held, "memory": process.memory_info().rss}), flush=True)


@pytest.mark.skipif(
    sys.platform != "linux", reason="counts descriptors and maps as Linux tells them"
)
@pytest.mark.parametrize("rounds", [3, pytest.param(20, marks=pytest.mark.soak)])
def test_round_after_round_one_process_holds_no_more(rounds, tmp_path, capsys):
    told = subprocess.run(
        [sys.executable, __file__, str(tmp_path), str(rounds)], stdout=subprocess.PIPE, text=True
    )
    assert told.returncode == 0
    held = [json.loads(line) for line in told.stdout.splitlines() if line.startswith("{")]
    assert len(held) == rounds
    assert [one["files"] for one in held] == [[]] * rounds, (
        "no file of a store stays open or mapped"
    )
    for what in ("descriptors", "threads"):
        assert held[-1][what] == held[0][what]
    if rounds > 5:
        megabytes = [round(one["memory"] / 1e6) for one in held]
        with capsys.disabled():
            print(
                f"\n{rounds} rounds: MB after 1, 5, 10, 20: {[megabytes[at - 1] for at in (1, 5, 10, 20)]}, {held[-1]}"
            )
        assert held[-1]["memory"] - held[4]["memory"] < GROWTH


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
