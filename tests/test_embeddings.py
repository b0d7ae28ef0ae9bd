import json
import os
import pickle
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conftest import make_catalog, write_photo
from lookalike import compiled_encoder, embeddings
from lookalike.backbones import build_classifier, build_encoder, embedding_encoder
from lookalike.embedding_store import check_encoder, export_pickle, open_store
from lookalike.embeddings import embed_catalog, embed_images
from lookalike.encoder_fingerprint import encoder_fingerprint
from lookalike.images import ImageError, load_image


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
    """The same graph for all runs that would make the same: to compile it takes longer than the
    run.
    """
    forwards, compile_encoder = {}, embeddings.compile_encoder

    def kept(encoder, **options):
        key = (encoder_fingerprint(encoder), *options.items())
        if key not in forwards or options.get("engine") == "openvino":
            forwards[key] = compile_encoder(encoder, **options)
        return forwards[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embeddings, "compile_encoder", kept)
        yield


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
        np.testing.assert_allclose(
            store.vectors[row], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max()
        )
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text())
    assert manifest["encoder"] == encoder.name
    assert (manifest["n"], manifest["dim"], manifest["schema"]) == (12, 128, 1)
    assert (manifest["precision"], manifest["pooling"]) == ("float32", "GeneralizedMeanPooling2D")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "store"]


def test_second_run_computes_nothing_and_changes_no_byte(encoder, catalog, tmp_path, computed):
    embed_catalog(encoder, catalog, tmp_path / "store")
    before = {
        name: (tmp_path / "store" / name).read_bytes()
        for name in ("vectors.npy", "catalog.csv", "manifest.json")
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


def test_changed_content_is_computed_renamed_and_repeated_content_is_not(
    encoder, tmp_path, computed
):
    catalog = make_catalog(tmp_path / "photos", 6)
    embed_catalog(encoder, catalog, tmp_path / "store")
    computed.clear()
    paths = catalog["path"].tolist()
    write_photo(tmp_path / "photos" / "002.png", seed=99)
    shutil.copy(paths[0], tmp_path / "photos" / "copy.png")
    os.rename(paths[5], tmp_path / "photos" / "renamed.png")
    changed = (
        make_catalog(tmp_path / "unused", 6)
        .iloc[[2, 0, 5]]
        .assign(image_id=["002.png", "copy.png", "renamed.png"])
    )
    changed["path"] = [str(tmp_path / "photos" / name) for name in changed["image_id"]]
    store = embed_catalog(encoder, changed, tmp_path / "store")
    assert sum(computed) == 1
    assert store.catalog["image_id"].tolist() == ["002.png", "copy.png", "renamed.png"]
    np.testing.assert_allclose(
        store.vectors, embed_images(encoder, changed["path"].tolist()), rtol=1e-4, atol=1e-5
    )


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


def test_a_failed_update_leaves_the_old_store(encoder, tmp_path):
    catalog = make_catalog(tmp_path / "photos", 6)
    embed_catalog(encoder, catalog.iloc[:5], tmp_path / "store")
    (tmp_path / "photos" / "005.png").write_bytes(b"broken")
    with pytest.raises(ImageError, match=r"005\.png"):
        embed_catalog(encoder, catalog, tmp_path / "store")
    assert len(open_store(tmp_path / "store").vectors) == 5


def test_missing_store_and_foreign_folder_and_empty_catalogue_say_what_to_do(
    encoder, catalog, tmp_path
):
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


def test_another_store_inside_the_folder_is_left_whole(encoder, catalog, tmp_path):
    embed_catalog(encoder, catalog, tmp_path / "store")
    inner = embed_catalog(encoder, catalog.iloc[:3], tmp_path / "store" / "inner").vectors.tolist()
    os.symlink(tmp_path / "gone", tmp_path / "store" / "link")
    embed_catalog(encoder, catalog.iloc[:5], tmp_path / "store")
    assert open_store(tmp_path / "store" / "inner").vectors.tolist() == inner
    assert (tmp_path / "store" / "link").is_symlink()


def test_an_encoder_of_another_name_is_the_same_encoder(encoder, catalog, tmp_path, computed):
    embed_catalog(encoder, catalog, tmp_path / "store")
    computed.clear()
    renamed = keras.Model(encoder.input, encoder.output, name="renamed")
    assert embed_catalog(renamed, catalog, tmp_path / "store").manifest["encoder"] == "renamed"
    assert computed == []


@pytest.mark.parametrize("nested", [False, True])
def test_a_sequence_of_layers_can_be_an_encoder_or_stand_in_one(catalog, tmp_path, nested):
    image = keras.Input((8, 8, 3))
    encoder = keras.Sequential([image, keras.layers.AveragePooling2D(4), keras.layers.Flatten()])
    encoder = keras.Model(image, keras.layers.Rescaling(2)(encoder(image))) if nested else encoder
    encoder.save(tmp_path / "encoder.keras")
    store = embed_catalog(encoder, catalog, tmp_path / "store")
    blocks = [
        load_image(path, 8).reshape(2, 4, 2, 4, 3).mean(axis=(1, 3)).ravel()
        for path in catalog["path"]
    ]
    np.testing.assert_allclose(store.vectors, np.stack(blocks) * (1 + nested), rtol=1e-5)
    check_encoder(store, keras.models.load_model(tmp_path / "encoder.keras", safe_mode=True))


def test_an_encoder_that_learned_since_answers_anew(catalog):
    classifier = build_classifier(build_encoder("VGG16Slim", weights=None, image_size=32), 3, dim=8)
    trained = embedding_encoder(classifier)
    paths = catalog["path"].tolist()
    pixels = np.stack([load_image(path, 32) for path in paths]).astype(np.float32)
    before = embed_images(trained, paths)
    np.testing.assert_allclose(before, trained(pixels), rtol=1e-5, atol=1e-5 * np.abs(before).max())
    classifier.compile(keras.optimizers.Adam(0.1), "categorical_crossentropy", run_eagerly=True)
    classifier.train_on_batch(pixels, np.eye(3)[[0, 1, 2] * 4])
    after = embed_images(trained, paths)
    assert np.abs(after - before).max() > 0.1 * np.abs(before).max()
    np.testing.assert_allclose(after, trained(pixels), rtol=1e-5, atol=1e-5 * np.abs(after).max())


# --- Precision and engine
# ------------------------------------------------------------------------------------------


class Interruption(Exception):
    pass


def interrupt(encoder, catalog, folder, batches, **options):
    """Embed in batches of four, and fail after so many."""
    compile_encoder = embeddings.compile_encoder

    def failing(encoder, **options):
        forward, left = compile_encoder(encoder, **options), [None] * batches

        def fail(pixels):
            if not left:
                raise Interruption
            left.pop()
            return forward(pixels)

        return fail

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interruption):
        patch.setattr(embeddings, "compile_encoder", failing)
        embed_catalog(encoder, catalog, folder, batch_size=4, **options)


def way_of(store):
    return store.manifest["precision"], store.manifest["engine"]


def said(capsys):
    return [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("precision = ")
    ]


AUTO = {"precision": "auto", "engine": "auto"}


def test_in_bfloat16_a_store_is_another_of_the_same_encoder(encoder, catalog, tmp_path, computed):
    exact = np.array(embed_catalog(encoder, catalog, tmp_path / "store").vectors)
    assert way_of(open_store(tmp_path / "store")) == ("float32", "tensorflow")
    computed.clear()
    store = embed_catalog(encoder, catalog, tmp_path / "store", precision="bfloat16")
    assert sum(computed) == 12
    assert way_of(store) == way_of(open_store(tmp_path / "store")) == ("bfloat16", "tensorflow")
    assert store.manifest["fingerprint"] == encoder_fingerprint(encoder)
    check_encoder(store, encoder)
    queries = embed_images(encoder, catalog["path"].tolist())
    np.testing.assert_allclose(queries, exact, rtol=1e-5, atol=1e-5 * np.abs(exact).max())
    lengths = np.linalg.norm(queries, axis=1) * np.linalg.norm(store.vectors, axis=1)
    assert ((queries * store.vectors).sum(axis=1) / lengths).min() > 0.999
    assert np.abs(store.vectors - exact).max() > 1e-4 * np.abs(exact).max()
    computed.clear()
    embed_catalog(encoder, catalog, tmp_path / "store", precision="bfloat16")
    assert computed == []


def test_auto_says_in_one_line_what_it_took_and_stays_with_it(
    encoder, catalog, tmp_path, computed, capsys
):
    store = embed_catalog(encoder, catalog.iloc[:6], tmp_path / "store", **AUTO)
    assert way_of(store) == ("float32", "tensorflow")
    [line] = said(capsys)
    assert line.startswith("precision = float32 by tensorflow: images/s here: ")
    assert line.endswith("; 6 photos take seconds, no need to compare more")
    assert sum(computed) == 6
    for rows, new in ((catalog.iloc[:6], 0), (catalog, 6)):
        computed.clear()
        store = embed_catalog(encoder, rows, tmp_path / "store", **AUTO)
        assert way_of(store) == ("float32", "tensorflow")
        assert said(capsys) == ["precision = float32 by tensorflow: as in the store that is there"]
        assert sum(computed) == new


@pytest.mark.parametrize(
    "asked", [AUTO, {"precision": "auto"}, {"precision": "bfloat16", "engine": "auto"}], ids=str
)
def test_auto_keeps_the_way_of_the_store_that_is_there(
    encoder, catalog, tmp_path, computed, capsys, asked
):
    embed_catalog(encoder, catalog.iloc[:9], tmp_path / "store", precision="bfloat16")
    computed.clear()
    store = embed_catalog(encoder, catalog, tmp_path / "store", **asked)
    assert sum(computed) == 3
    assert way_of(store) == ("bfloat16", "tensorflow")
    assert said(capsys) == ["precision = bfloat16 by tensorflow: as in the store that is there"]


def test_auto_chooses_where_the_store_is_not_what_was_asked_for(
    encoder, other_encoder, catalog, tmp_path, capsys
):
    embed_catalog(encoder, catalog, tmp_path / "store", precision="bfloat16")
    for other, asked in (
        (encoder, {"precision": "float32", "engine": "auto"}),
        (other_encoder, AUTO),
    ):
        store = embed_catalog(other, catalog, tmp_path / "store", **asked)
        assert way_of(store) == ("float32", "tensorflow")
        assert "images/s here" in said(capsys)[0]
        embed_catalog(encoder, catalog, tmp_path / "store", precision="bfloat16")


def test_a_name_that_is_asked_for_says_nothing(encoder, catalog, tmp_path, capsys):
    embed_catalog(encoder, catalog, tmp_path / "store", precision="bfloat16")
    assert said(capsys) == []


def test_auto_goes_on_as_the_interrupted_run_began(encoder, catalog, tmp_path, computed, capsys):
    interrupt(encoder, catalog, tmp_path / "store", 2, precision="bfloat16")
    computed.clear()
    store = embed_catalog(encoder, catalog, tmp_path / "store", batch_size=4, **AUTO)
    assert sum(computed) == 4
    assert way_of(store) == ("bfloat16", "tensorflow")
    assert len(said(capsys)) == 1


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_interrupted_run_is_finished_to_the_same_bytes_in_any_precision(
    encoder, catalog, tmp_path, precision
):
    interrupt(encoder, catalog, tmp_path / "store", 1, precision=precision)
    interrupt(encoder, catalog, tmp_path / "store", 1, precision=precision)
    for name in ("store", "undisturbed"):
        embed_catalog(encoder, catalog, tmp_path / name, batch_size=4, precision=precision)
    files = [tmp_path / name / "vectors.npy" for name in ("store", "undisturbed")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_what_a_run_in_another_precision_left_is_not_mixed_in(encoder, catalog, tmp_path, computed):
    interrupt(encoder, catalog, tmp_path / "store", 2, precision="bfloat16")
    computed.clear()
    store = embed_catalog(encoder, catalog, tmp_path / "store", batch_size=4)
    assert sum(computed) == 12
    np.testing.assert_allclose(
        store.vectors, embed_images(encoder, catalog["path"].tolist()), rtol=1e-4, atol=1e-5
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "store"]


@pytest.mark.parametrize(
    "wrong", [{"precision": "float64"}, {"engine": "onnx"}, AUTO | {"engine": "onnx"}], ids=str
)
def test_an_unknown_precision_or_engine_costs_no_work_that_was_done(
    encoder, catalog, tmp_path, computed, wrong
):
    interrupt(encoder, catalog, tmp_path / "store", 2)
    with pytest.raises(ValueError, match="float32, bfloat16, float16"):
        embed_catalog(encoder, catalog, tmp_path / "store", batch_size=4, **wrong)
    computed.clear()
    embed_catalog(encoder, catalog, tmp_path / "store", batch_size=4)
    assert sum(computed) == 4


def test_openvino_that_is_not_installed_is_refused_and_leaves_the_store(
    encoder, catalog, tmp_path, monkeypatch
):
    embed_catalog(encoder, catalog, tmp_path / "store")
    monkeypatch.setattr(compiled_encoder.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install openvino"):
        embed_catalog(encoder, catalog, tmp_path / "store", engine="openvino")
    assert way_of(open_store(tmp_path / "store")) == ("float32", "tensorflow")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "store"]


def test_a_store_from_before_there_were_engines_is_still_good(
    encoder, catalog, tmp_path, computed, capsys
):
    store = embed_catalog(encoder, catalog, tmp_path / "store")
    manifest = {key: value for key, value in store.manifest.items() if key != "engine"}
    for asked, new in (({}, 0), (AUTO, 0), ({"precision": "bfloat16"}, 12)):
        (tmp_path / "store" / "manifest.json").write_text(json.dumps(manifest))
        computed.clear()
        store = embed_catalog(encoder, catalog, tmp_path / "store", **asked)
        assert sum(computed) == new
        assert way_of(store) == (
            asked.get("precision", "float32").replace("auto", "float32"),
            "tensorflow",
        )
    assert said(capsys) == ["precision = float32 by tensorflow: as in the store that is there"]


# --- Any history
# ---------------------------------------------------------------------------------------------------

KINDS = ("add", "change", "rename", "remove", "repeat", "embed", "interrupt")
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 9)), min_size=4, max_size=14)
PIXELS = keras.Input((8, 8, 3))
TINY = keras.Model(
    PIXELS, keras.layers.Flatten()(keras.layers.AveragePooling2D(4)(PIXELS)), name="tiny"
)


class History:
    """A folder of photos that changes, its store, and by hand which contents are computed and which
    still to be.
    """

    def __init__(self, folder):
        self.folder, self.contents, self.names = folder, {}, 0
        self.kept, self.finished, self.computed = set(), set(), 0
        for seed in range(100, 106):
            self.put(seed)

    def put(self, seed, name=None):
        self.names += name is None
        name = name or f"{self.names}.png"
        write_photo(self.folder / "photos" / name, seed, 8)
        self.contents[name] = seed

    def step(self, kind, number):
        name = list(self.contents)[number % len(self.contents)]
        if kind == "add":
            self.put(200 + self.names)
        elif kind == "change":
            self.put(number, name)
        elif kind == "repeat":
            self.put(self.contents[name])
        elif kind == "rename":
            self.put(self.contents.pop(name))
        elif kind == "remove" and len(self.contents) > 1:
            self.contents.pop(name)
        elif kind in ("embed", "interrupt"):
            self.embed(1 + number % 2 if kind == "interrupt" else 100)

    def catalog(self):
        rows = [
            (name, str(self.folder / "photos" / name), name, "a", None) for name in self.contents
        ]
        return pd.DataFrame(rows, columns=["image_id", "path", "product_id", "label", "split"])

    def embed(self, batches=100):
        """Embed in batches of two, and fail where it comes to more batches than that."""
        todo = [
            seed
            for seed in dict.fromkeys(self.contents.values())
            if seed not in self.kept | self.finished
        ]
        self.computed, self.left = 0, batches
        if len(todo) > 2 * batches:
            with pytest.raises(Interruption):
                embed_catalog(TINY, self.catalog(), self.folder / "store", batch_size=2)
            self.finished |= set(todo[: 2 * batches])
            assert self.computed == 2 * batches
        else:
            embed_catalog(TINY, self.catalog(), self.folder / "store", batch_size=2)
            self.kept, self.finished = set(self.contents.values()), set()
            assert self.computed == len(todo)

    def forward(self, pixels):
        if self.left == 0:
            raise Interruption
        self.left -= 1
        self.computed += int(np.any(pixels, axis=(1, 2, 3)).sum())
        return TINY(pixels.astype(np.float32)).numpy()


def check_history(steps):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        history = History(Path(folder))
        patch.setattr(embeddings, "compile_encoder", lambda encoder, **options: history.forward)
        for step in steps:
            history.step(*step)
        history.embed()
        history.left = 100
        store = open_store(Path(folder, "store"))
        fresh = embed_catalog(TINY, history.catalog(), Path(folder, "fresh"), batch_size=2)
        np.testing.assert_allclose(
            store.vectors, fresh.vectors, rtol=1e-5, atol=1e-5 * np.abs(fresh.vectors).max()
        )
        pd.testing.assert_frame_equal(store.catalog, fresh.catalog)
        assert store.manifest["content_hashes"] == fresh.manifest["content_hashes"]
        assert store.catalog["image_id"].tolist() == list(history.contents)
        assert sorted(path.name for path in Path(folder).iterdir()) == ["fresh", "photos", "store"]


@settings(max_examples=8, deadline=None)
@given(steps=STEPS)
@example(steps=[("interrupt", 0), ("remove", 0), ("interrupt", 0), ("rename", 0), ("embed", 0)])
def test_after_any_history_a_store_is_as_one_made_anew_and_only_new_contents_were_computed(steps):
    check_history(steps)


@pytest.mark.soak
@settings(max_examples=200, deadline=None)
@given(steps=STEPS)
def test_after_any_of_many_histories_too(steps):
    check_history(steps)


def test_a_link_to_a_store_is_updated_where_it_leads(encoder, catalog, tmp_path):
    embed_catalog(encoder, catalog.iloc[:3], tmp_path / "store")
    (tmp_path / "link").symlink_to(tmp_path / "store")
    for count in (5, 8):
        embed_catalog(encoder, catalog.iloc[:count], tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert (
            len(open_store(tmp_path / "store").vectors)
            == len(open_store(tmp_path / "link").vectors)
            == count
        )
