import shutil
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from conftest import ALL_LABELS, PROJECT, write_photo
from lookalike.catalog import check_photos
from lookalike.copies import SIDE_ARRAYS, CopyIndex, find, find_near_duplicates
from lookalike.copies.find import closest_pairs
from lookalike.embeddings import EmbeddingStore, embed_catalog
from lookalike.images import ImageError, load_image
from lookalike.machine import parallel_map
from lookalike.sources import load_catalog

sys.path.append(str(PROJECT / "benchmarks"))
from planted import COPIES, plant_copies

TOLD = ["step", "verdict", "difference", "colour", "n_matches"]


@pytest.fixture(scope="module")
def sample():
    return load_catalog("sample", labels=ALL_LABELS)[0]


@pytest.fixture(scope="module")
def fourteen(sample):
    """Two products of each label, whose photos lie in a folder of their own."""
    return sample.groupby("label").nth([0, 3]).sort_values("image_id", ignore_index=True)


def listed(paths):
    """A catalogue of files, each its own product."""
    rows = pd.DataFrame({"image_id": [path.name for path in paths], "path": map(str, paths)})
    return check_photos(rows.assign(product_id=None, label=None, split=None))[0]


def with_copies(catalog, folder, kinds):
    """The catalogue and copies of its photos, and of each photo the original."""
    planted = plant_copies(catalog, folder, kinds=kinds)
    copies = listed([*map(Path, planted["path"])])
    both = pd.concat([catalog, copies], ignore_index=True)[[*copies]]
    names = [*catalog["image_id"], *planted["copy_of"]]
    return both, dict(zip(both["image_id"], names, strict=True))


def pairs_of(found):
    return list(zip(found["image_id"], found["other_id"], strict=True))


def families(originals):
    """All pairs of photos of one original."""
    pairs = combinations(originals, 2)
    return {frozenset(pair) for pair in pairs if originals[pair[0]] == originals[pair[1]]}


def in_order(store, rows):
    """The same store, its rows in another order."""
    side_arrays = {name: array[rows] for name, array in store.side_arrays.items()}
    catalog = store.catalog.iloc[rows].reset_index(drop=True)
    return replace(store, vectors=store.vectors[rows], catalog=catalog, side_arrays=side_arrays)


def at_angles(catalog, *degrees):
    """A store of vectors in the plane, whose cosine is that of the angle between them."""
    vectors = np.column_stack([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))])
    manifest = {"encoder": "by hand", "fingerprint": "0" * 16, "fit": "resize", "image_size": 128}
    return EmbeddingStore(Path("by hand"), np.float32(vectors), catalog, manifest, {})


@pytest.fixture(scope="module")
def store(fourteen, encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fourteen") / "store"
    return embed_catalog(encoder, fourteen, folder, side_arrays=SIDE_ARRAYS)


@pytest.fixture(scope="module")
def index(store, encoder):
    return CopyIndex(store, encoder)


# --- A new photo


@pytest.fixture(scope="module")
def looked_up(fourteen, index, tmp_path_factory):
    """Copies of every third photo, and what is found of each."""
    copies = plant_copies(fourteen[::3], tmp_path_factory.mktemp("planted"))
    return copies.assign(found=[*parallel_map(index.look_up, copies["path"])])


@pytest.mark.parametrize("kind", COPIES)
def test_the_original_of_a_copy_is_found_and_no_other_photo(kind, looked_up):
    """Framed, and in large parts stamped or cut, not each: the encoder is small and untrained."""
    hard = kind in ("border", "screenshot", "watermark", "crop 20 %")
    copies = looked_up[looked_up["kind"] == kind]
    assert copies["found"].map(len).sum() >= len(copies) - hard
    for copy in copies.itertuples():
        assert copy.found["image_id"].tolist() == [copy.copy_of][: len(copy.found)]
        assert copy.found.columns.tolist() == ["image_id", *TOLD]
        assert copy.found["step"].isin(["perceptual hash", "embedding"]).all()


def test_a_path_its_bytes_and_pixels_find_the_same(looked_up, index):
    row = looked_up[looked_up["kind"] == "PNG"].iloc[0]
    pixels = np.asfortranarray(load_image(row["path"]))
    pixels.setflags(write=False)
    for photo in (Path(row["path"]), Path(row["path"]).read_bytes(), pixels):
        pd.testing.assert_frame_equal(index.look_up(photo), row["found"])


def test_identical_files_are_looked_up_by_content_all_of_them(fourteen, tmp_path):
    path = Path(fourteen["path"][0])
    Image.open(path).save(tmp_path / "anew.png")
    again = shutil.copyfile(path, tmp_path / "again.jpg")
    index = CopyIndex(listed([again, tmp_path / "anew.png", path]))
    elsewhere = shutil.copyfile(path, tmp_path / "upload")  # whatever its name
    for photo in (elsewhere, elsewhere.read_bytes()):
        table = index.look_up(photo)
        steps = dict(zip(table["image_id"], table["step"], strict=True))
        expected = {"again.jpg": "content", path.name: "content", "anew.png": "perceptual hash"}
        assert steps == expected
        assert table["verdict"].tolist() == ["copy"] * 3
        assert table["difference"].tolist() == pytest.approx([0, 0, 0], abs=0.1)


def test_without_an_encoder_hashes_alone_name_candidates(fourteen, store, looked_up):
    for index in (CopyIndex(store), CopyIndex(fourteen)):
        for kind, count in {"resize 50 %": 1, "mirrored": 1, "rotation 10°": 0}.items():
            table = index.look_up(looked_up[looked_up["kind"] == kind]["path"].iloc[1])
            assert table["step"].tolist() == ["perceptual hash"] * count
            assert table.columns.tolist() == ["image_id", *TOLD]


def test_candidates_are_all_that_a_photo_is_laid_on(sample, store, index, monkeypatch):
    """The most similar by vectors; a new photo is a copy of none of them."""
    path = sample["path"][200]
    vector = index.encoder.predict_on_batch(np.float32(load_image(path, 32))[None])[0]
    similar = store.vectors @ vector / store.lengths
    for count in (1, 3, 5, 50):
        monkeypatch.setattr(find, "N_CANDIDATES", count)
        table = index.candidates(path)
        best = store.catalog["image_id"][np.argsort(-similar)[:count]]
        assert set(table["image_id"][table["step"] == "embedding"]) == set(best)
        assert len(index.look_up(path)) == 0
        assert index.look_up(path).columns.tolist() == ["image_id", *TOLD]


def test_an_encoder_that_is_not_the_stores_is_refused_naming_both(store, encoder, other_encoder):
    with pytest.raises(ValueError, match=rf"{encoder.name} \(.*{other_encoder.name} \("):
        CopyIndex(store, other_encoder)


def test_a_photo_that_cannot_be_read_is_named(index, tmp_path):
    (tmp_path / "text.jpg").write_text("no photo")
    for name, reason in {"nothing.jpg": "No such file", "text.jpg": "not an image"}.items():
        with pytest.raises(ImageError, match=rf"{name}: {reason}"):
            index.look_up(tmp_path / name)
    with pytest.raises(ImageError, match="the photo: not an image"):
        index.look_up(b"no photo")
    with pytest.raises(ValueError, match="Pixels must be a uint8 array"):
        index.look_up(np.zeros((40, 30), np.uint8))


# --- Pairs


def test_in_a_catalogue_alone_what_was_resized_or_saved_anew_is_found(fourteen, tmp_path):
    kinds = ("resize 50 %", "JPEG 50", "brightness 1.3", "mirrored", "crop 20 %")
    both, originals = with_copies(fourteen[::2], tmp_path, kinds)
    found = CopyIndex(both).pairs()
    pairs = {*map(frozenset, pairs_of(found))}
    cut = zip(both["image_id"][:7], both["image_id"][11::5], strict=True)
    cut = {*map(frozenset, cut)}
    expected = {frozenset(pair) for pair in originals.items() if len({*pair}) == 2} - cut
    assert len(pairs & expected) >= 27  # of 28: a hash of few details may change by more
    assert len(pairs & cut) <= 1
    assert pairs <= families(originals)
    assert set(found["step"]) == {"perceptual hash"}


@pytest.fixture(scope="module")
def family(fourteen, encoder, tmp_path_factory):
    """A store of the fourteen and copies of four of them: it, the originals, and the pairs."""
    folder = tmp_path_factory.mktemp("family")
    kinds = ("crop 10 %", "rotation 10°", "mirrored", "greyscale")
    both, originals = with_copies(fourteen[::4], folder / "copies", kinds)
    others = fourteen.drop(fourteen.index[::4])[[*both]]
    both = pd.concat([both, others], ignore_index=True)
    store = embed_catalog(encoder, both, folder / "store", side_arrays=SIDE_ARRAYS)
    return store, originals, CopyIndex(store).pairs()


def test_in_a_store_copies_are_paired_with_the_original_and_each_other(family):
    store, originals, found = family
    pairs = {*map(frozenset, pairs_of(found))}
    assert pairs <= families(originals)
    assert len(pairs) >= 0.8 * len(families(originals))
    assert set().union(*pairs) == set(originals)
    grey = {name for name in originals if found_in(found, name) == {"copy in grey or variant"}}
    assert len(grey) == 4
    assert set(found["step"]) == {"embedding", "perceptual hash"}
    # Once each, in the order of the catalogue, best first.
    place = {image_id: row for row, image_id in enumerate(store.catalog["image_id"])}
    assert all(place[one] < place[other] for one, other in pairs_of(found))
    assert len({*pairs_of(found)}) == len(found)
    assert found["difference"].is_monotonic_increasing
    assert found.index.tolist() == list(range(len(found)))
    assert found.columns.tolist() == ["image_id", "other_id", *TOLD]


def found_in(found, name):
    """The verdicts of the pairs of one photo."""
    return set(found["verdict"][(found["image_id"] == name) | (found["other_id"] == name)])


def test_pairs_do_not_depend_on_the_order_of_the_catalogue(family):
    store, _, found = family
    rows = np.random.default_rng(0).permutation(len(store.catalog))
    again = CopyIndex(in_order(store, rows)).pairs()
    told = [
        {
            (frozenset(pair), verdict)
            for pair, verdict in zip(pairs_of(table), table["verdict"], strict=True)
        }
        for table in (found, again)
    ]
    assert told[0] == told[1]


def test_views_and_look_alikes_of_the_sample_are_no_copies(sample, store, monkeypatch):
    assert "copy" not in set(CopyIndex(sample).pairs()["verdict"])
    monkeypatch.setattr(find, "N_CANDIDATES", 13)  # of the store, all others
    assert "copy" not in set(find_near_duplicates(store)["verdict"])


@pytest.mark.parametrize("count", [2, 3, 9])
def test_identical_files_are_paired_with_the_first_alone(count, tmp_path):
    first = write_photo(tmp_path / "b0.png", 1, 128)
    write_photo(tmp_path / "a.png", 2)
    for number in range(1, count):
        shutil.copyfile(first, tmp_path / f"b{number}.png")
    Image.open(first).save(tmp_path / "c.bmp")  # the same picture in another file
    found = CopyIndex(listed(sorted(tmp_path.iterdir()))).pairs()
    expected = {("b0.png", f"b{number}.png"): "content" for number in range(1, count)}
    expected[("b0.png", "c.bmp")] = "perceptual hash"
    assert dict(zip(pairs_of(found), found["step"], strict=True)) == expected
    assert len(found) == count
    assert set(found["verdict"]) == {"copy"}
    assert (found["difference"] == 0).all()


@pytest.mark.parametrize("apart, others, count", [(55, 0, 5), (65, 0, 5), (55, 4, 5), (55, 4, 2)])
def test_vectors_name_those_nearest_that_are_similar_enough(
    apart, others, count, fourteen, tmp_path, monkeypatch
):
    """A cut photo, which no hash knows; others may be nearer to either of the two than they are."""
    both, _ = with_copies(fourteen.head(1), tmp_path, ["crop 20 %"])
    rows = pd.concat([both, fourteen[[*both]].iloc[5 : 5 + others]], ignore_index=True)
    degrees = [0, apart, -1, 1, apart - 1, apart + 1][: 2 + others]
    monkeypatch.setattr(find, "N_CANDIDATES", count)
    found = find_near_duplicates(at_angles(rows, *degrees))
    assert pairs_of(found) == [tuple(both["image_id"])] * (apart < 60 and others < count)


# --- Odd catalogues


def test_no_photo_is_read_to_open_the_index_of_a_store_with_hashes(fourteen, encoder, tmp_path):
    (tmp_path / "photos").mkdir()
    photos = [Path(shutil.copy(path, tmp_path / "photos")) for path in fourteen["path"]]
    folders = tmp_path / "with", tmp_path / "without"
    stores = [
        embed_catalog(encoder, listed(photos), folder, side_arrays=side_arrays)
        for folder, side_arrays in zip(folders, (SIDE_ARRAYS, {}), strict=True)
    ]
    hashes = CopyIndex(stores[1]).hashes
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    np.testing.assert_array_equal(CopyIndex(stores[0], encoder).hashes, hashes)
    with pytest.raises(ImageError, match=f"{photos[0].name}: No such file"):
        CopyIndex(stores[1])


def test_a_photo_that_is_gone_is_warned_of_and_left_out(family, encoder, tmp_path):
    store, originals, found = family
    gone = store.catalog["image_id"][5]  # a copy of the first
    catalog = store.catalog.assign(path=store.catalog["path"].where(store.catalog.index != 5, "x"))
    index = CopyIndex(replace(store, catalog=catalog), encoder)
    with pytest.warns(UserWarning, match="x: No such file.*compared with no other photo"):
        again = index.pairs()
        new = index.look_up(load_image(store.catalog["path"][5]))
    left = found[(found["image_id"] != gone) & (found["other_id"] != gone)]
    pd.testing.assert_frame_equal(again, left.reset_index(drop=True))
    assert gone not in set(new["image_id"])
    assert originals[gone] in set(found["image_id"])


def test_a_vector_that_is_not_finite_is_named_by_its_row(store):
    vectors = np.array(store.vectors)
    vectors[9, 2] = np.nan
    with pytest.raises(ValueError, match="row 9 holds NaN"):
        CopyIndex(replace(store, vectors=vectors)).pairs()


@pytest.mark.parametrize("count", [0, 1])
def test_an_empty_catalogue_and_one_photo_have_no_pairs(count, fourteen, store, encoder):
    tables = [CopyIndex(fourteen.head(count)).pairs()]
    if count:
        tables.append(CopyIndex(in_order(store, np.arange(1)), encoder).pairs())
    for found in tables:
        assert len(found) == 0
        assert found.columns.tolist() == ["image_id", "other_id", *TOLD]
        assert not (found["difference"] < 1).any()
    table = CopyIndex(fourteen.head(count)).look_up(fourteen["path"][0])
    assert table["image_id"].tolist() == fourteen["image_id"][:count].tolist()


# --- The closest pairs


def spread(kind, count, seed):
    """Rows, and a least similarity that some pairs exceed. Of float32: scores of float64 may be
    below what they are as float32, and are lost.
    """
    random = np.random.default_rng(seed)
    if kind == "hashes":  # some of them nearly alike: many ties
        rows = random.integers(0, 2**63, (4, 3), np.uint64)[random.integers(4, size=count)]
        return rows ^ (np.uint64(1) << random.integers(0, 64, (count, 3), np.uint64)), 56
    rows = random.normal(size=(100, 8)).astype(np.float32)[:count]
    if kind in ("ties", "equal"):
        rows = rows[random.integers(5 if kind == "ties" else 1, size=count) % max(count, 1)]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows, 0.1


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["random", "ties", "equal", "hashes"]),
    st.integers(0, 30),
    st.integers(0, 99),
    st.sampled_from([1, 2, 5, 40]),
    st.sampled_from([4, 11, 30, 64]),
    st.sampled_from([0, 20, find.WAITING]),
)
def test_the_closest_pairs_are_those_of_brute_force(kind, count, seed, k, block, waiting):
    rows, least = spread(kind, count, seed)
    similarity = find._bits_alike if kind == "hashes" else np.inner
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(find, "BLOCK", block)
        patch.setattr(find, "WAITING", waiting)
        pairs = closest_pairs(rows, similarity, k, least)
    assert pairs.dtype == np.int64
    assert pairs.shape == (len(pairs), 2)
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    scores = np.float64(similarity(rows, rows)) if count else np.empty((0, 0))
    np.fill_diagonal(scores, -np.inf)
    scores[scores < least] = -np.inf
    # Of equals, any: what is better than the last of a row is there, and nothing worse.
    last = np.sort(scores, axis=1)[:, -k] if k < count else np.full(count, -np.inf)
    there = np.zeros(scores.shape, bool)
    there[tuple(pairs.T)] = there[tuple(pairs.T[::-1])] = True
    for row in range(count):
        assert there[row, scores[row] > last[row] + 2e-6].all()
        assert there[row].sum() >= min(k, np.isfinite(scores[row]).sum())
    worst = np.minimum(*(last[side] for side in pairs.T)) if len(pairs) else 0
    assert (scores[tuple(pairs.T)] >= np.maximum(least, worst) - 2e-6).all()


@pytest.mark.parametrize("block", [7, 50, 64, 2048])
def test_the_closest_pairs_are_those_of_scikit_learn(block, monkeypatch):
    monkeypatch.setattr(find, "BLOCK", block)
    rows, _ = spread("random", 100, 0)
    near = NearestNeighbors(n_neighbors=3, metric="cosine").fit(rows).kneighbors()[1]
    expected = {tuple(sorted((row, int(one)))) for row in range(100) for one in near[row]}
    assert {tuple(pair) for pair in closest_pairs(rows, np.inner, 3, 1e-9).tolist()} == expected
