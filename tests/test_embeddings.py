import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from conftest import make_catalog, write_photo
from lookalike import embeddings
from lookalike.catalog import read_catalog
from lookalike.embeddings import embed_catalog, embed_images
from lookalike.images import ImageError, load_image
from lookalike.stores import check_encoder, export_pickle, open_store


@pytest.fixture
def computed(monkeypatch):
    """The number of images in each forward pass that a test causes, padding not counted."""
    counts = []
    compile_encoder = embeddings.compile_encoder

    def counting(encoder, **options):
        forward = compile_encoder(encoder, **options)

        def count(pixels):
            counts.append(int(np.any(pixels, axis=(1, 2, 3)).sum()))
            return forward(pixels)

        return count

    monkeypatch.setattr(embeddings, "compile_encoder", counting)
    return counts


def test_store_holds_a_vector_a_row_and_says_how_it_was_made(encoder, catalog, tmp_path):
    store = embed_catalog(encoder, catalog, tmp_path / "store", batch_size=5)
    assert store.vectors.shape == (12, 128)
    assert store.vectors.dtype == np.float32
    assert isinstance(store.vectors, np.memmap)
    pd.testing.assert_frame_equal(store.catalog.fillna(""), catalog.fillna(""), check_dtype=False)
    for row, path in enumerate(catalog["path"]):
        expected = encoder(load_image(path, 32)[None].astype(np.float32)).numpy()[0]
        np.testing.assert_allclose(store.vectors[row], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text())
    assert manifest["encoder"] == encoder.name
    assert (manifest["n"], manifest["dim"], manifest["schema"]) == (12, 128, 1)
    assert (manifest["precision"], manifest["pooling"]) == ("float32", "GlobalAveragePooling2D")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "store"]


def test_second_run_computes_nothing_and_changes_no_byte(encoder, catalog, tmp_path, computed):
    embed_catalog(encoder, catalog, tmp_path / "store")
    before = {
        name: (tmp_path / "store" / name).read_bytes() for name in ("vectors.npy", "catalog.csv", "manifest.json")
    }
    computed.clear()
    embed_catalog(encoder, catalog, tmp_path / "store")
    assert computed == []
    for name, content in before.items():
        assert (tmp_path / "store" / name).read_bytes() == content


def test_three_added_images_are_three_computed(encoder, tmp_path, computed):
    catalog = make_catalog(tmp_path / "photos", 12)
    embed_catalog(encoder, catalog.iloc[:9], tmp_path / "store", batch_size=4)
    computed.clear()
    store = embed_catalog(encoder, catalog, tmp_path / "store", batch_size=4)
    assert sum(computed) == 3
    fresh = embed_catalog(encoder, catalog, tmp_path / "fresh", batch_size=4)
    np.testing.assert_array_equal(store.vectors, fresh.vectors)


def test_changed_content_is_computed_renamed_and_repeated_content_is_not(encoder, tmp_path, computed):
    catalog = make_catalog(tmp_path / "photos", 6)
    embed_catalog(encoder, catalog, tmp_path / "store")
    computed.clear()
    paths = catalog["path"].tolist()
    write_photo(tmp_path / "photos" / "002.png", seed=99)
    shutil.copy(paths[0], tmp_path / "photos" / "copy.png")
    os.rename(paths[5], tmp_path / "photos" / "renamed.png")
    changed = (
        make_catalog(tmp_path / "unused", 6).iloc[[2, 0, 5]].assign(image_id=["002.png", "copy.png", "renamed.png"])
    )
    changed["path"] = [str(tmp_path / "photos" / name) for name in changed["image_id"]]
    store = embed_catalog(encoder, changed, tmp_path / "store")
    assert sum(computed) == 1
    assert store.catalog["image_id"].tolist() == ["002.png", "copy.png", "renamed.png"]
    np.testing.assert_allclose(store.vectors, embed_images(encoder, changed["path"].tolist()), rtol=1e-4, atol=1e-5)


def test_what_else_lies_in_the_folder_stays_there(encoder, catalog, tmp_path):
    store = embed_catalog(encoder, catalog.iloc[:3], tmp_path / "store")
    (store.folder / "notes.txt").write_text("mine")
    embed_catalog(encoder, catalog, tmp_path / "store")
    assert (store.folder / "notes.txt").read_text() == "mine"


def test_another_encoder_or_fit_starts_anew(encoder, other_encoder, catalog, tmp_path, computed):
    embed_catalog(encoder, catalog, tmp_path / "store")
    computed.clear()
    embed_catalog(encoder, catalog, tmp_path / "store", fit="letterbox")
    assert sum(computed) == 12
    store = embed_catalog(other_encoder, catalog, tmp_path / "store", fit="letterbox")
    assert sum(computed) == 24
    assert store.manifest["encoder"] == other_encoder.name


SLOW_RUN = """
import sys, time
import pandas as pd
from lookalike import embeddings
from lookalike.backbones import build_encoder
from lookalike.catalog import read_catalog

compile_encoder = embeddings.compile_encoder
def slow(encoder, **options):
    forward = compile_encoder(encoder, **options)
    return lambda pixels: (time.sleep(0.15), forward(pixels))[1]
embeddings.compile_encoder = slow
encoder = build_encoder("VGG16Slim", weights=None, image_size=32)
embeddings.embed_catalog(encoder, read_catalog(sys.argv[1]), sys.argv[2], batch_size=4)
"""


def kill_in_the_middle(folder, catalog):
    """Embed in another process, kill it with SIGKILL after three batches of four, and tell how many rows it left."""
    embeddings.save_catalog(catalog, folder / "catalog.csv")
    rows = folder / ".store.partial" / "rows.f32"
    command = [sys.executable, "-c", SLOW_RUN, str(folder / "catalog.csv"), str(folder / "store")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (rows.is_file() and rows.stat().st_size >= 3 * 4 * 128 * 4):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = rows.stat().st_size // (4 * 128)
    assert 12 <= done < len(catalog)
    assert not (folder / "store").exists()
    with open(rows, "ab") as stream:
        stream.write(b"half a row")  # what a kill in the middle of a write leaves
    return done // 4 * 4


def test_a_run_killed_in_the_middle_is_finished_by_the_next(encoder, tmp_path, computed):
    catalog = make_catalog(tmp_path / "photos", 46)
    done = kill_in_the_middle(tmp_path, catalog)
    resumed = embed_catalog(encoder, read_catalog(tmp_path / "catalog.csv"), tmp_path / "store", batch_size=4)
    assert sum(computed) == 46 - done
    embed_catalog(encoder, catalog, tmp_path / "undisturbed", batch_size=4)
    files = [tmp_path / name / "vectors.npy" for name in ("store", "undisturbed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert resumed.catalog["image_id"].tolist() == catalog["image_id"].tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalog.csv", "photos", "store", "undisturbed"]


def test_a_killed_run_keeps_its_work_when_the_catalogue_has_changed_since(encoder, tmp_path, computed):
    catalog = make_catalog(tmp_path / "photos", 50)
    done = kill_in_the_middle(tmp_path, catalog.iloc[:46])
    changed = pd.concat([catalog.iloc[46:], catalog.iloc[2:46]])
    store = embed_catalog(encoder, changed, tmp_path / "store", batch_size=4)
    assert sum(computed) == 50 - done
    fresh = embed_catalog(encoder, changed, tmp_path / "fresh", batch_size=4)
    np.testing.assert_allclose(store.vectors, fresh.vectors, rtol=1e-5, atol=1e-5)


def test_a_failed_update_leaves_the_old_store(encoder, tmp_path):
    catalog = make_catalog(tmp_path / "photos", 6)
    embed_catalog(encoder, catalog.iloc[:5], tmp_path / "store")
    (tmp_path / "photos" / "005.png").write_bytes(b"broken")
    with pytest.raises(ImageError, match=r"005\.png"):
        embed_catalog(encoder, catalog, tmp_path / "store")
    assert len(open_store(tmp_path / "store").vectors) == 5


def test_a_store_whose_exchange_was_interrupted_is_put_back(encoder, catalog, tmp_path):
    embed_catalog(encoder, catalog, tmp_path / "store")
    os.rename(tmp_path / "store", tmp_path / ".store.previous")
    assert len(open_store(tmp_path / "store").vectors) == 12
    embed_catalog(encoder, catalog.iloc[:3], tmp_path / "store")
    shutil.copytree(tmp_path / "store", tmp_path / ".store.previous")  # killed before it was cleared away
    embed_catalog(encoder, catalog.iloc[:5], tmp_path / "store")
    assert len(open_store(tmp_path / "store").vectors) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "store"]


def test_a_changed_cut_or_newer_store_is_refused(encoder, catalog, tmp_path):
    embed_catalog(encoder, catalog, tmp_path / "store")
    for name in ("vectors.npy", "catalog.csv"):
        content = (tmp_path / "store" / name).read_bytes()
        for damaged in (content[:-7], content[:-1] + bytes([content[-1] ^ 1])):
            (tmp_path / "store" / name).write_bytes(damaged)
            with pytest.raises(ValueError, match=name):
                open_store(tmp_path / "store")
        (tmp_path / "store" / name).write_bytes(content)
    manifest = tmp_path / "store" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema": 2}))
    with pytest.raises(ValueError, match="schema 2"):
        open_store(tmp_path / "store")


def test_missing_store_and_foreign_folder_and_empty_catalogue_say_what_to_do(encoder, catalog, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No embeddings at .*nowhere"):
        open_store(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="photos is not empty"):
        embed_catalog(encoder, catalog, tmp_path / "photos")
    with pytest.raises(ValueError, match="empty"):
        embed_catalog(encoder, catalog.iloc[:0], tmp_path / "store")
    with pytest.raises(ValueError, match="resize, letterbox, crop"):
        embed_catalog(encoder, catalog, tmp_path / "store", fit="squeeze")


def test_another_encoder_is_refused_naming_both(encoder, other_encoder, catalog, tmp_path):
    store = embed_catalog(encoder, catalog, tmp_path / "store")
    check_encoder(store, encoder)
    with pytest.raises(ValueError, match=f"{encoder.name}.*{other_encoder.name}"):
        check_encoder(store, other_encoder)


@pytest.mark.parametrize("size", [32, 96])
def test_a_batch_and_a_single_image_give_the_same_vector(size, tmp_path):
    from lookalike.backbones import build_encoder

    encoder = build_encoder("MobileNetV2", alpha=0.35, weights=None, image_size=size)
    paths = make_catalog(tmp_path, 33)["path"].tolist()
    batch = embed_images(encoder, paths)
    single = np.concatenate([embed_images(encoder, [path]) for path in paths])
    scale = np.abs(batch).max(axis=1, keepdims=True)
    assert (np.abs(batch - single) / scale).max() < 1e-5
    pixels = embed_images(encoder, [load_image(path) for path in paths])
    np.testing.assert_array_equal(pixels, batch)
    assert embed_images(encoder, []).shape == (0, 1280)


def test_pickle_is_written_for_others(encoder, catalog, tmp_path):
    store = embed_catalog(encoder, catalog, tmp_path / "store")
    export_pickle(store, tmp_path / "image_embeddings.pkl")
    with open(tmp_path / "image_embeddings.pkl", "rb") as stream:
        content = pickle.load(stream)
    assert list(content) == catalog["image_id"].tolist()
    np.testing.assert_array_equal(np.stack(list(content.values())), store.vectors)


def test_store_moves_with_its_photos(encoder, tmp_path):
    catalog = make_catalog(tmp_path / "here" / "photos", 4)
    embed_catalog(encoder, catalog, tmp_path / "here" / "embeddings" / "store")
    os.rename(tmp_path / "here", tmp_path / "there")
    moved = open_store(tmp_path / "there" / "embeddings" / "store")
    for path in moved.catalog["path"]:
        load_image(path, 32)
