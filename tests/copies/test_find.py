import shutil
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import ALL_LABELS, PROJECT, write_photo
from lookalike.catalog import check_photos
from lookalike.copies import SIDE_ARRAYS, CopyIndex, find, find_near_duplicates
from lookalike.copies.find import closest_pairs
from lookalike.embeddings import embed_catalog
from lookalike.images import ImageError, load_image
from lookalike.machine import parallel_map
from lookalike.sources import load_catalog

sys.path.append(str(PROJECT / "benchmarks"))
from planted import plant_copies

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


@pytest.fixture(scope="module")
def store(fourteen, encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fourteen") / "store"
    return embed_catalog(encoder, fourteen, folder, side_arrays=SIDE_ARRAYS)


@pytest.fixture(scope="module")
def index(store, encoder):
    return CopyIndex(store, encoder)


# --- A new photo

KINDS = ["resize 50 %", "JPEG 20", "PNG", "crop 20 %", "rotation 10°", "mirrored", "greyscale"]
KINDS += ["watermark", "border", "screenshot"]
# Framed, and in large parts stamped or cut, not each: the encoder is small and untrained.
HARD = ("border", "screenshot", "watermark", "crop 20 %")


@pytest.fixture(scope="module")
def looked_up(fourteen, index, tmp_path_factory):
    """Copies of every fifth photo, and what is found of each."""
    copies = plant_copies(fourteen[::5], tmp_path_factory.mktemp("planted"), kinds=KINDS)
    return copies.assign(found=[*parallel_map(index.look_up, copies["path"])])


@pytest.mark.parametrize("kind", KINDS)
def test_the_original_of_a_copy_is_found_and_no_other_photo(kind, looked_up):
    copies = looked_up[looked_up["kind"] == kind]
    assert copies["found"].map(len).sum() >= len(copies) - (kind in HARD)
    for copy in copies.itertuples():
        assert copy.found["image_id"].tolist() == [copy.copy_of][: len(copy.found)]
        assert copy.found.columns.tolist() == ["image_id", *TOLD]
        assert copy.found["step"].isin(["perceptual hash", "embedding"]).all()


def test_a_path_its_bytes_and_pixels_find_the_same(looked_up, index):
    row = looked_up[looked_up["kind"] == "PNG"].iloc[0]
    for photo in (row["path"], Path(row["path"]).read_bytes(), load_image(row["path"])):
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


# --- Pairs


def test_in_a_catalogue_alone_what_was_resized_or_saved_anew_is_found(fourteen, tmp_path):
    kinds = ("resize 50 %", "JPEG 50", "mirrored", "crop 20 %")
    both, originals = with_copies(fourteen[::4], tmp_path, kinds)
    found = CopyIndex(both).pairs()
    pairs = {*map(frozenset, pairs_of(found))}
    cut = zip(both["image_id"][:4], both["image_id"][7::4], strict=True)
    cut = {*map(frozenset, cut)}
    expected = {frozenset(pair) for pair in originals.items() if len({*pair}) == 2} - cut
    assert len(pairs & expected) >= 11  # of 12: a hash of few details may change by more
    assert len(pairs & cut) <= 1
    assert pairs <= families(originals)
    assert set(found["step"]) == {"perceptual hash"}


@pytest.fixture(scope="module")
def family(fourteen, encoder, tmp_path_factory):
    """A store of the fourteen and copies of three of them: it, the originals, and the pairs."""
    folder = tmp_path_factory.mktemp("family")
    kinds = ("crop 10 %", "rotation 10°", "mirrored", "greyscale")
    both, originals = with_copies(fourteen.iloc[[0, 4, 12]], folder / "copies", kinds)
    others = fourteen.drop([0, 4, 12])[[*both]]
    both = pd.concat([both, others], ignore_index=True)
    store = embed_catalog(encoder, both, folder / "store", side_arrays=SIDE_ARRAYS)
    return store, originals, CopyIndex(store).pairs()


def test_in_a_store_copies_are_paired_with_the_original_and_each_other(family):
    store, originals, found = family
    pairs = {*map(frozenset, pairs_of(found))}
    assert pairs <= families(originals)
    assert len(pairs) >= 0.8 * len(families(originals))
    assert set().union(*pairs) == set(originals)
    grey = found["verdict"] == "copy in grey or variant"
    grey = pd.concat([found["image_id"][grey], found["other_id"][grey]]).value_counts()
    assert (grey >= 3).sum() == 3
    assert set(found["step"]) == {"embedding", "perceptual hash"}
    # Once each, in the order of the catalogue, best first.
    place = {image_id: row for row, image_id in enumerate(store.catalog["image_id"])}
    assert all(place[one] < place[other] for one, other in pairs_of(found))
    assert len({*pairs_of(found)}) == len(found)
    assert found["difference"].is_monotonic_increasing
    assert found.columns.tolist() == ["image_id", "other_id", *TOLD]


def test_views_and_look_alikes_of_the_sample_are_no_copies(sample, store, monkeypatch):
    assert "copy" not in set(CopyIndex(sample.head(200)).pairs()["verdict"])
    monkeypatch.setattr(find, "N_CANDIDATES", 13)  # of the store, all others
    assert "copy" not in set(find_near_duplicates(store)["verdict"])


def test_identical_files_are_paired_with_the_first_alone(tmp_path):
    first = write_photo(tmp_path / "b0.png", 1, 128)
    write_photo(tmp_path / "a.png", 2)
    for number in (1, 2):
        shutil.copyfile(first, tmp_path / f"b{number}.png")
    Image.open(first).save(tmp_path / "c.bmp")  # the same picture in another file
    found = CopyIndex(listed(sorted(tmp_path.iterdir()))).pairs()
    expected = {("b0.png", "b1.png"): "content", ("b0.png", "b2.png"): "content"}
    expected[("b0.png", "c.bmp")] = "perceptual hash"
    assert dict(zip(pairs_of(found), found["step"], strict=True)) == expected
    assert len(found) == 3
    assert set(found["verdict"]) == {"copy"}
    assert (found["difference"] == 0).all()


# --- Odd catalogues


def test_no_photo_is_read_to_open_the_index_of_a_store_with_hashes(fourteen, encoder, tmp_path):
    (tmp_path / "photos").mkdir()
    photos = [Path(shutil.copy(path, tmp_path / "photos")) for path in fourteen["path"].head(3)]
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


def test_a_photo_that_is_gone_is_warned_of_and_left_out(tmp_path):
    photo = write_photo(tmp_path / "a.png", 1, 100)
    for side in (120, 150):
        Image.open(photo).resize((side, side)).save(tmp_path / f"b{side}.png")
    index = CopyIndex(listed(sorted(tmp_path.iterdir())))
    (tmp_path / "b120.png").unlink()
    with pytest.warns(UserWarning, match=r"b120.*No such file.*compared with no other photo"):
        assert pairs_of(index.pairs()) == [("a.png", "b150.png")]
    assert set(index.look_up(load_image(photo))["image_id"]) == {"a.png", "b150.png"}


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
        rows = rows[random.integers(5 if kind == "ties" else 1, size=count) % count]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows, 0.1


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["random", "ties", "equal", "hashes"]),
    st.integers(1, 30),
    st.integers(0, 99),
    st.sampled_from([1, 2, 5, 40]),
    st.sampled_from([4, 11, 64]),
)
def test_the_closest_pairs_are_those_of_brute_force(kind, count, seed, k, block):
    rows, least = spread(kind, count, seed)
    similarity = find._bits_alike if kind == "hashes" else np.inner
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(find, "BLOCK", block)
        pairs = closest_pairs(rows, similarity, k, least)
    assert pairs.shape == (len(pairs), 2)
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    scores = np.float64(similarity(rows, rows))
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
