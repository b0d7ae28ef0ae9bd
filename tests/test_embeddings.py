"""The embedding store and what writes it; kills and full disks are in test_interruptions.py."""

import hashlib
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import conftest
from conftest import PROJECT, make_catalog, quick, small_classifier, write_photo
from lookalike import embeddings
from lookalike.backbones import build_encoder, embedding_encoder
from lookalike.catalog import check_photos, save_catalog
from lookalike.colour import colour_histograms
from lookalike.embeddings import compile_encoder, embed_catalog, embed_images, open_store
from lookalike.encoder_fingerprint import encoder_fingerprint
from lookalike.images import ImageError, content_hash, load_image
from lookalike.recommend import recommend
from test_saving import Payload

LAYERS = keras.layers
PIXELS = keras.Input((8, 8, 3))
FILES = {"vectors.npy", "catalog.csv", "manifest.json", "colours.npy"}


def pooled(pooling, name):
    """An encoder of 8 x 8 pixels to 12 numbers."""
    return keras.Model(PIXELS, LAYERS.Flatten()(pooling(PIXELS)), name=name)


TINY = pooled(LAYERS.AveragePooling2D(4), "tiny")
RENAMED = keras.Model(TINY.input, TINY.output, name="renamed")
OTHER = pooled(LAYERS.MaxPooling2D(4), "other")


def averages(pixels):
    """What `TINY` makes of pixels, without Keras."""
    blocks = np.float32(pixels).reshape(-1, 2, 4, 2, 4, 3)
    return blocks.mean(axis=(2, 4)).reshape(-1, 12)


SIDES = {"means": lambda it: it.mean(axis=(1, 2)), "red": lambda it: it[:, :, :, 0]}


class Counted:
    """A function of pixels that counts its photos, and is stopped after so many calls."""

    def __init__(self, function=averages, calls=1000):
        self.function, self.calls, self.photos = function, calls, 0

    def __call__(self, pixels):
        if self.calls == 0:
            raise KeyboardInterrupt
        self.calls -= 1
        self.photos += len(pixels)
        return self.function(pixels)


def computed(catalog, folder, encoder=TINY, **options):
    """Embed a catalogue, and tell of how many photos the vectors were computed."""
    forward = Counted()
    embed_catalog(encoder, catalog, folder, forward=forward, **options)
    return forward.photos


def expected(catalog):
    return averages(np.stack([load_image(path, 8) for path in catalog["path"]]))


def assert_close(vectors, others):
    assert (vectors.dtype, vectors.shape) == (np.float32, others.shape)
    np.testing.assert_allclose(vectors, others, rtol=0, atol=1e-5 * np.abs(others).max())


# --- What is written, and what is computed


def test_a_store_holds_a_vector_a_row_and_says_how_it_was_made(encoder, catalog, tmp_path):
    store = embed_catalog(encoder, catalog, tmp_path / "store", batch_size=5)
    pixels = np.stack([load_image(path, 64) for path in catalog["path"]])
    assert_close(store.vectors, encoder(np.float32(pixels)).numpy())
    assert isinstance(store.vectors, np.memmap)
    np.testing.assert_allclose(store.lengths, np.linalg.norm(store.vectors, axis=1), rtol=1e-6)
    told = catalog.assign(sha256=[content_hash(path) for path in catalog["path"]]).fillna("")
    pd.testing.assert_frame_equal(store.catalog[[*told]].fillna(""), told, check_dtype=False)
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text())
    assert manifest == store.manifest == open_store(tmp_path / "store").manifest
    assert (manifest["schema"], manifest["encoder"]) == (1, encoder.name)
    assert manifest["fingerprint"] == encoder_fingerprint(encoder)
    assert (manifest["image_size"], manifest["fit"], manifest["dim"]) == ([64, 64], "resize", 128)
    assert {*os.listdir(tmp_path / "store")} == FILES
    assert {*os.listdir(tmp_path)} == {"photos", "store"}


def test_a_second_run_computes_nothing_and_changes_no_byte(catalog, tmp_path, monkeypatch):
    folder = embed_catalog(TINY, catalog, tmp_path / "store").folder
    before = {name: (folder / name).read_bytes() for name in FILES}
    monkeypatch.setattr(embeddings, "compile_encoder", None)
    embed_catalog(TINY, catalog, tmp_path / "store")
    assert {name: (folder / name).read_bytes() for name in FILES} == before


def test_new_and_changed_contents_are_computed_renamed_and_repeated_ones_are_not(tmp_path):
    photos = tmp_path / "photos"
    catalog = make_catalog(photos, 6)
    assert computed(catalog, tmp_path / "store", batch_size=4) == 6
    write_photo(photos / "002.png", seed=99)
    shutil.copy(photos / "000.png", photos / "copy.png")
    os.rename(photos / "005.png", photos / "renamed.png")
    for seed in (97, 98):
        write_photo(photos / f"{seed}.png", seed)
    names = ["98.png", "002.png", "000.png", "copy.png", "renamed.png", "97.png"]
    changed = catalog.assign(image_id=names, path=[str(photos / name) for name in names])
    assert computed(changed, tmp_path / "store", batch_size=4) == 3
    store = open_store(tmp_path / "store")
    assert store.catalog["image_id"].tolist() == names
    np.testing.assert_array_equal(store.vectors, expected(changed))


@pytest.mark.parametrize(
    ("behind", "seconds", "count"), [(b"B", 5, 1), (b"AA", 0, 1), (b"B", 0, 0)]
)
def test_a_file_of_the_size_and_time_of_the_catalogue_is_not_read(behind, seconds, count, tmp_path):
    photos = make_catalog(tmp_path / "photos", 3)
    file = Path(photos["path"][1])
    content = file.read_bytes()
    # What follows the end of a PNG is no part of its picture.
    file.write_bytes(content + b"A")
    catalog, _ = check_photos(photos)
    assert computed(catalog, tmp_path / "store") == 3
    time = file.stat().st_mtime_ns
    file.write_bytes(content + behind)
    os.utime(file, ns=(time, time + seconds * 10**9))
    assert computed(catalog, tmp_path / "store") == count


@pytest.mark.parametrize(
    ("encoder", "fit", "count"),
    [(TINY, "resize", 0), (RENAMED, "resize", 0), (TINY, "letterbox", 4), (OTHER, "resize", 4)],
)
def test_another_encoder_or_fit_starts_anew_and_says_so(encoder, fit, count, tmp_path, capsys):
    catalog = make_catalog(tmp_path / "photos", 4)
    computed(catalog, tmp_path / "store")
    assert computed(catalog, tmp_path / "store", encoder, fit=fit) == count
    told = "store is of another encoder or fit: all photos are embedded anew."
    assert (told in capsys.readouterr().out) == bool(count)
    store = open_store(tmp_path / "store")
    assert (store.manifest["encoder"], store.manifest["fit"]) == (encoder.name, fit)
    embeddings.check_encoder(store, encoder)
    other = TINY if encoder is OTHER else OTHER
    with pytest.raises(ValueError, match=rf"with {encoder.name}, the .* another, {other.name}, or"):
        recommend(store, catalog["path"][0], encoder=other)


def test_a_failed_update_leaves_the_old_store_and_keeps_what_was_computed(tmp_path):
    catalog = make_catalog(tmp_path / "photos", 6)
    computed(catalog.iloc[:2], tmp_path / "store")
    photo = Path(catalog["path"][5])
    content = photo.read_bytes()
    photo.write_bytes(b"broken")
    with pytest.raises(ImageError, match=r"005\.png"):
        computed(catalog, tmp_path / "store", batch_size=1)
    np.testing.assert_array_equal(open_store(tmp_path / "store").vectors, expected(catalog[:2]))
    photo.write_bytes(content)
    for file in (tmp_path / ".store.partial").iterdir():
        shutil.copy(file, file.with_name("again.npz"))
        os.truncate(file.with_name("again.npz"), 99)
    assert computed(catalog, tmp_path / "store", batch_size=1) == 1
    np.testing.assert_array_equal(open_store(tmp_path / "store").vectors, expected(catalog))


def test_what_cannot_be_embedded_says_what_to_do(catalog, tmp_path):
    with pytest.raises(FileExistsError, match="photos is not empty and is no store; choose"):
        computed(catalog, tmp_path / "photos")
    with pytest.raises(ValueError, match="catalogue is empty"):
        computed(catalog.iloc[:0], tmp_path / "store")
    with pytest.raises(ValueError, match="resize, letterbox, crop, not 'squeeze'"):
        computed(catalog, tmp_path / "store", fit="squeeze")
    with pytest.raises(FileNotFoundError, match=r"No embeddings at .*store.*04_"):
        open_store(tmp_path / "store")
    assert len(os.listdir(tmp_path / "photos")) == 12


def test_a_store_moves_with_its_photos_and_a_link_to_one_is_followed(tmp_path):
    catalog = make_catalog(tmp_path / "here" / "photos", 6)
    computed(catalog.iloc[:3], tmp_path / "here" / "embeddings" / "store")
    os.rename(tmp_path / "here", tmp_path / "there")
    folder = tmp_path / "there" / "embeddings" / "store"
    (tmp_path / "link").symlink_to(folder)
    photos = tmp_path / "there" / "photos"
    moved = catalog.assign(path=[str(photos / name) for name in catalog["image_id"]])
    assert open_store(folder).catalog["path"].tolist() == moved["path"][:3].tolist()
    assert computed(moved, tmp_path / "link") == 3
    np.testing.assert_array_equal(open_store(folder).vectors, expected(moved))


def test_splits_are_kept_where_a_catalogue_has_none(catalog, tmp_path):
    splits = ["train", "test", None, "validation"]
    embed_catalog(TINY, catalog.iloc[:4].assign(split=splits), tmp_path / "store")
    for encoder in (TINY, OTHER):
        store = embed_catalog(encoder, catalog.iloc[:0:-1], tmp_path / "store", forward=averages)
        kept = dict(zip(store.catalog["image_id"], store.catalog["split"].fillna(""), strict=True))
        assert {"001.png": "test", "003.png": "validation"}.items() <= kept.items()
        assert [*kept.values()].count("") == 9
    some = catalog.assign(split=["test"] + [None] * 11)
    store = embed_catalog(TINY, some, tmp_path / "store")
    assert store.catalog["split"].fillna("").tolist() == ["test"] + [""] * 11


def test_a_pickle_is_written_for_others(catalog, tmp_path):
    store = embed_catalog(TINY, catalog, tmp_path / "store", forward=averages)
    embeddings.export_pickle(store, tmp_path / "image_embeddings.pkl")
    content = pickle.loads((tmp_path / "image_embeddings.pkl").read_bytes())
    assert list(content) == catalog["image_id"].tolist()
    np.testing.assert_array_equal(np.stack([*content.values()]), store.vectors)


# --- Another way to compute them, and what is kept beside them


@pytest.mark.parametrize("wrong", [lambda it: averages(it)[1:], lambda it: averages(it).T, np.sum])
def test_a_forward_of_the_wrong_shape_is_refused_and_nothing_of_it_kept(wrong, catalog, tmp_path):
    computed(catalog.iloc[:3], tmp_path / "store")
    with pytest.raises(ValueError, match=r"forward makes \(.*\) of \(5, 8, 8, 3\)"):
        embed_catalog(TINY, catalog, tmp_path / "store", forward=wrong, batch_size=5)
    assert len(open_store(tmp_path / "store").vectors) == 3
    assert computed(catalog, tmp_path / "store") == 9


def test_a_store_of_one_forward_is_grown_by_another(catalog, tmp_path):
    twice = Counted(lambda pixels: np.float64(2 * averages(pixels)))
    embed_catalog(TINY, catalog.iloc[:4], tmp_path / "store", forward=twice)
    store = embed_catalog(TINY, catalog, tmp_path / "store")
    assert_close(store.vectors, expected(catalog) * np.where(np.arange(12) < 4, 2, 1)[:, None])


def test_side_arrays_are_computed_for_the_photos_that_lack_them(catalog, tmp_path, capsys):
    def grown(count, *names):
        """Which arrays there are then, which are left out, and how often each was computed."""
        rows, forward = catalog.iloc[:count], Counted()
        sides = {name: Counted(SIDES[name]) for name in names}
        embed_catalog(TINY, rows, tmp_path / "store", forward=forward, side_arrays=sides)
        store = open_store(tmp_path / "store")
        np.testing.assert_array_equal(store.vectors, expected(rows))
        pixels = np.stack([load_image(path, 8) for path in rows["path"]])
        for name, values in store.side_arrays.items():
            function = SIDES.get(name, colour_histograms)
            np.testing.assert_array_equal(values, function(pixels))
        lost = re.findall(r"(\w+) is left out.*ask for it in side_arrays", capsys.readouterr().out)
        assert "colours" in store.side_arrays
        return (
            sorted({*store.side_arrays} - {"colours"}),
            lost,
            forward.photos,
            *[sides[it].photos for it in names],
        )

    assert grown(6) == ([], [], 6)
    assert grown(6, "means") == (["means"], [], 0, 6)
    assert grown(6, "means", "red") == (["means", "red"], [], 0, 0, 6)
    assert grown(5) == (["means", "red"], [], 0)
    assert grown(6, "red", "means") == (["means", "red"], [], 1, 1, 1)
    assert grown(8, "red") == (["red"], ["means"], 2, 2)
    assert grown(8, "means", "red") == (["means", "red"], [], 0, 8, 0)


def test_an_interrupted_run_is_resumed_but_not_with_another_encoder(catalog, tmp_path):
    embed_catalog(TINY, catalog.iloc[:2], tmp_path / "store", forward=averages)
    for encoder in (OTHER, TINY, TINY):
        sides = {"means": Counted(SIDES["means"], calls=1)}
        with pytest.raises(KeyboardInterrupt):
            embed_catalog(encoder, catalog, tmp_path / "store", side_arrays=sides, batch_size=3)
        assert len(open_store(tmp_path / "store").vectors) == 2
    forward, sides = Counted(), {"means": Counted(SIDES["means"])}
    store = embed_catalog(TINY, catalog, tmp_path / "store", forward=forward, side_arrays=sides)
    assert (forward.photos, sides["means"].photos) == (6, 6)
    assert_close(store.vectors, expected(catalog))
    assert store.side_arrays["means"].shape == (12, 3)


# --- The first edition

HALVES = pooled(LAYERS.AveragePooling2D((4, 8)), "halves")


def test_a_store_of_the_first_edition_opens_and_is_replaced(tmp_path, catalog):
    folder = shutil.copytree(PROJECT / "tests/stores/schema_1", tmp_path / "store")
    store = open_store(folder)
    embeddings.check_encoder(store, HALVES)
    assert store.vectors.tolist() == [[255, 0, 0, 0, 0, 255], [255] * 6, [0, 255, 0, 0, 0, 0]]
    names = ["red-blue.png", "white.png", "shoe/green-black.png"]
    assert store.catalog["image_id"].tolist() == names
    catalog["image_id"] = [*names, *catalog["image_id"][3:]]
    store = embed_catalog(HALVES, catalog, folder)
    assert store.vectors.shape == (12, 6)
    assert store.catalog["split"].fillna("").tolist() == ["train", "", "test"] + [""] * 9


# --- Stores that were damaged, forged or are another program's


@pytest.fixture
def folder(tmp_path):
    """The folder of a store of three photos."""
    catalog = make_catalog(tmp_path / "photos", 3)
    return embed_catalog(TINY, catalog, tmp_path / "store", forward=averages).folder


def edit(folder, **changes):
    """Change a manifest by hand; ... takes a key out."""
    told = json.loads((folder / "manifest.json").read_text()) | changes
    told = {key: value for key, value in told.items() if value is not ...}
    (folder / "manifest.json").write_text(json.dumps(told))


def forge(folder, name, content):
    """Put a file in a store, and its checksum in the manifest, as one would who means harm."""
    checksums = json.loads((folder / "manifest.json").read_text())["checksums"]
    edit(folder, checksums=checksums | {name: hashlib.sha256(content).hexdigest()})
    (folder / name).write_bytes(content)


def assert_refused(folder, words=""):
    """It does not open, nor is it written over; the message names the folder and what is wrong."""
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    catalog = make_catalog(folder.parent / "photos", 4)
    told = rf"(?s){folder} cannot be opened: .*{words}.*delete it and embed again"
    for use in (open_store, lambda folder: computed(catalog, folder)):
        with pytest.raises(ValueError, match=told):
            use(folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    shutil.rmtree(folder)
    assert computed(catalog, folder) == 4


@pytest.mark.parametrize("name", ["vectors.npy", "catalog.csv"])
@pytest.mark.parametrize("damage", [os.unlink, lambda file: file.write_bytes(b"?")])
def test_a_damaged_file_is_refused_by_name(name, damage, folder):
    damage(folder / name)
    assert_refused(folder, name)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"schema": 2}, r"lookalike\.scale"), ({"schema": ...}, "schema"), ({"dim": 5}, "3 photos")],
)
def test_a_manifest_that_does_not_go_with_its_files_is_refused(changes, words, folder):
    edit(folder, **changes)
    assert_refused(folder, words)


def npy(rows):
    stream = io.BytesIO()
    np.save(stream, rows, allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vectors.npy", b""),
        ("vectors.npy", npy(np.ones((3, 5), np.float32))),
        ("catalog.csv", b"image_id,path,product_id,label,split\na,a,a,a,\n"),
        ("manifest.json", b"[]"),
    ],
)
def test_a_file_that_was_made_up_is_refused_even_with_its_checksum(name, content, folder):
    forge(folder, name, content)
    assert_refused(folder)


@pytest.mark.parametrize("name", ["vectors.npy", "colours.npy"])
@pytest.mark.parametrize("form", [pickle.dumps, lambda one: npy(np.full((3, 12), one, object))])
def test_a_pickle_in_place_of_an_array_is_never_opened(form, name, folder, tmp_path):
    forge(folder, name, form(Payload(tmp_path / "mark")))
    assert_refused(folder)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ([5, 0, 4, 1, 3, 2], None),
        (None, None),
        ([2, 3, 4, 5, 6], "shop-tiny lacks 1 photos .* has 2 .*04_embeddings"),
        ([0, 1, 2, 3, 4, 7], "shop-tiny lacks 1 photos .* has 1 .*04_embeddings"),
    ],
)
def test_opening_a_store_warns_where_its_photos_are_not_those_of_today(kept, words, tmp_path):
    catalog, _ = check_photos(make_catalog(tmp_path / "photos", 8))
    # The same name, and another photo.
    catalog.loc[7, "image_id"] = "005.png"
    folder = tmp_path / "embeddings" / "shop-tiny"
    embed_catalog(TINY, catalog.iloc[:6], folder, forward=averages)
    if kept is not None:
        save_catalog(catalog.iloc[kept], tmp_path / "data" / "catalogs" / "shop" / "catalog.csv")
    with pytest.warns(UserWarning, match=words) if words else nullcontext():
        open_store(folder)


# --- Encoders


def test_photos_are_embedded_alike_however_they_are_given_and_in_whatever_batch(catalog):
    paths = catalog["path"].tolist()
    vectors = embed_images(TINY, paths)
    assert_close(vectors, expected(catalog))
    for photos in (map(load_image, paths), (Path(path).read_bytes() for path in paths)):
        assert_close(embed_images(TINY, [*photos]), vectors)


def test_a_sequence_of_layers_can_be_an_encoder(catalog, tmp_path):
    image = keras.Input((8, 8, 3))
    encoder = keras.Sequential([image, LAYERS.AveragePooling2D(4), LAYERS.Flatten()])
    encoder.save(tmp_path / "encoder.keras")
    store = embed_catalog(encoder, catalog, tmp_path / "store")
    assert_close(store.vectors, expected(catalog))
    loaded = keras.models.load_model(tmp_path / "encoder.keras", safe_mode=True)
    embeddings.check_encoder(store, loaded)


def vectors_of(encoder, pixels):
    return encoder(np.float32(pixels), training=False).numpy()


def test_an_encoder_that_learned_since_answers_anew_and_what_was_compiled_as_before(catalog):
    classifier = small_classifier()
    encoder = embedding_encoder(classifier)
    paths = catalog["path"].tolist()
    pixels = np.stack([load_image(path, 32) for path in paths])
    config, fingerprint = encoder.get_config(), encoder_fingerprint(encoder)
    before, forward = vectors_of(encoder, pixels), compile_encoder(encoder)
    for vectors in (forward(pixels), embed_images(encoder, paths), vectors_of(encoder, pixels)):
        assert_close(vectors, before)
    assert (encoder.get_config(), encoder_fingerprint(encoder)) == (config, fingerprint)
    classifier.compile(keras.optimizers.Adam(0.1), "categorical_crossentropy", run_eagerly=True)
    classifier.train_on_batch(np.float32(pixels), np.eye(3)[[0, 1, 2] * 4])
    learned = vectors_of(encoder, pixels)
    assert np.abs(learned - before).max() > 0.1 * np.abs(before).max()
    assert_close(embed_images(encoder, paths), learned)
    assert_close(compile_encoder(encoder)(pixels), learned)
    assert_close(forward(pixels), before)


@pytest.mark.parametrize("name", quick(conftest.ROWS, "VGG16Slim", "MobileNetV2"))
def test_compiled_an_encoder_gives_the_same_vectors_whatever_the_batch(name):
    encoder = build_encoder(name, weights=None, image_size=32)
    random = np.random.default_rng(0)
    # So that no two weights can be taken for each other.
    encoder.set_weights([it + random.uniform(0, 0.01, it.shape) for it in encoder.get_weights()])
    pixels = random.integers(0, 256, (5, 32, 32, 3), np.uint8)
    forward, vectors = compile_encoder(encoder), vectors_of(encoder, pixels)
    for count in (5, 1, 3):
        assert_close(forward(pixels[:count]), vectors[:count])


# --- Without a network's library

SERVER = """
import json, sys

class Blocked:
    def find_spec(name, *_):
        if name.split(".")[0] in sys.argv[4:]:
            raise ImportError(name)

sys.meta_path.insert(0, Blocked)
import numpy as np
from lookalike import catalog, colour, embeddings, images, recommend, similarity

store = embeddings.open_store(sys.argv[1])
blocks = np.float32(images.load_image(sys.argv[2], 8)).reshape(2, 4, 2, 4, 3)
vector = blocks.mean(axis=(1, 3)).ravel()
found = [recommend.recommend(store, query) for query in (sys.argv[3], store.vectors[3], vector)]
assert similarity.top_k(vector, store.vectors, 1)[0] == 3
assert recommend.recommend(store, sys.argv[3], colour=0.5)["score"][0] <= 1
print(json.dumps([table["image_id"].tolist() for table in found]))
"""
BLOCKED = ["tensorflow", "keras", "torch", "jax", "sklearn", "matplotlib", "cv2"]


def test_a_server_without_tensorflow_opens_a_store_and_recommends(catalog, tmp_path):
    store = embed_catalog(TINY, catalog, tmp_path / "store", forward=averages)
    command = [sys.executable, "-c", SERVER, str(store.folder), catalog["path"][3], "003.png"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "src")}
    told = subprocess.run([*command, *BLOCKED], env=environment, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    by_id, by_vector, by_photo = json.loads(told.stdout.splitlines()[-1])
    assert by_id == recommend(store, "003.png")["image_id"].tolist()
    assert by_vector == by_photo == ["003.png", *by_id[:4]]
