import os
import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import imagehash
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from conftest import ALL_LABELS, CLOTHING, write_photo
from lookalike.copies import CopyIndex, find, find_near_duplicates, plant_copies
from lookalike.copies.find import STEPS
from lookalike.copies.hashing import perceptual_hash
from lookalike.embeddings import EmbeddingStore, embed_catalog
from lookalike.images import ImageError, load_image
from lookalike.sources import load_catalog

COLUMNS = ["image_id", "other_id", "step", "score"]


@pytest.fixture(scope="module")
def sample():
    return load_catalog("sample", labels=ALL_LABELS)[0]


@pytest.fixture(scope="module")
def forty(sample):
    """Forty pictures of all seven labels."""
    return sample.iloc[::12].head(40)


def listed(paths):
    """A catalogue of files, each its own product."""
    names = [path.name for path in paths]
    catalog = pd.DataFrame(
        {"image_id": names, "path": [str(path) for path in paths], "product_id": names}
    )
    return catalog.assign(label=None, split=None)


def beside(catalog, folder, suffix, write):
    """The catalogue and a second version of each of its pictures, elsewhere, with another name and
    label.
    """
    copies = []
    for number, path in enumerate(catalog["path"]):
        file = folder / "other" / f"copy {number:02}{suffix}"
        file.parent.mkdir(exist_ok=True)
        write(path, file)
        copies.append((f"other/{file.name}", str(file), f"copy {number}", "other"))
    copies = pd.DataFrame(copies, columns=["image_id", "path", "product_id", "label"])
    return pd.concat([catalog, copies], ignore_index=True)


def pairs_of(found):
    return list(zip(found["image_id"], found["other_id"], strict=True))


def expected_pairs(both):
    half = len(both) // 2
    return list(zip(both["image_id"][:half], both["image_id"][half:], strict=True))


def save_smaller(path, file):
    with Image.open(path) as image:
        image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS).save(file)


def save_again(**options):
    return lambda path, file: Image.open(path).save(file, **options)


def save_brighter(factor):
    return lambda path, file: (
        ImageEnhance.Brightness(Image.open(path)).enhance(factor).save(file, quality=90)
    )


def turn_hue(path, file):
    """Red to green, green to blue, blue to red; greys stay."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    Image.fromarray(pixels[..., [2, 0, 1]]).save(file)


# --- The hash
# ----------------------------------------------------------------------------------------------------


def by_imagehash(image):
    return int(str(imagehash.phash(image)), 16)


def test_the_hash_is_that_of_imagehash_on_the_sample(sample):
    for path in sample["path"].iloc[::3]:
        with Image.open(path) as image:
            assert perceptual_hash(image) == by_imagehash(image), path


def odd_images():
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (60, 40, 3), np.uint8)
    return {
        "one pixel": Image.new("RGB", (1, 1), "red"),
        "one white pixel": Image.new("L", (1, 1), 255),
        "one row": Image.fromarray(pixels[:1]),
        "one column": Image.fromarray(pixels[:, :1]),
        "greyscale": Image.fromarray(pixels[..., 0]),
        "black": Image.new("RGB", (40, 40)),
        "tall": Image.fromarray(pixels).resize((9, 700)),
        "wide": Image.fromarray(pixels).resize((700, 9)),
        "32 x 32": Image.fromarray(pixels[:32, :32]),
        "stripes": Image.fromarray(np.tile(pixels[:1], (40, 1, 1))),
        "alike on both sides": Image.fromarray(np.concatenate([pixels, pixels[:, ::-1]], axis=1)),
        "palette": Image.fromarray(pixels).convert("P"),
        "black and white": Image.fromarray(pixels).convert("1"),
    }


@pytest.mark.parametrize("name", odd_images())
def test_the_hash_is_that_of_imagehash_on_odd_images(name):
    image = odd_images()[name]
    assert perceptual_hash(image) == by_imagehash(image)
    assert 0 <= perceptual_hash(image) < 2**64


# --- What is a copy
# ----------------------------------------------------------------------------------------------


def test_an_identical_file_is_found_whatever_its_name_and_label(forty, tmp_path):
    both = beside(forty, tmp_path, ".jpg", shutil.copyfile)
    found = find_near_duplicates(both)
    assert found.columns.tolist() == COLUMNS
    assert pairs_of(found) == expected_pairs(both)
    assert set(found["step"]) == {"content"}
    assert set(found["score"]) == {1.0}


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        (".jpg", save_smaller),
        (".jpg", save_again(quality=75)),
        (".jpg", save_again(quality=50)),
        (".png", save_again()),
        (".webp", save_again()),
        (".jpg", save_brighter(0.8)),
    ],
    ids=["half the size", "quality 75", "quality 50", "PNG", "WebP", "darker"],
)
def test_an_altered_copy_is_found_and_nothing_else(suffix, write, forty, tmp_path):
    both = beside(forty, tmp_path, suffix, write)
    found = find_near_duplicates(both)
    assert sorted(pairs_of(found)) == sorted(expected_pairs(both))
    assert set(found["step"]) == {"perceptual hash"}
    assert found["score"].between(0.985, 1 + 1e-12).all()


def test_nearly_every_brighter_copy_is_found(forty, tmp_path):
    """Not each: where light parts turn white, what they showed is gone."""
    both = beside(forty, tmp_path, ".jpg", save_brighter(1.1))
    found = pairs_of(find_near_duplicates(both))
    assert set(found) <= set(expected_pairs(both))
    assert len(found) >= 0.95 * len(forty)


def test_other_views_and_look_alikes_are_no_copies(sample):
    assert len(sample) == 492
    assert sample["product_id"].nunique() == 164
    found = find_near_duplicates(sample)
    assert found.columns.tolist() == COLUMNS
    assert len(found) == 0


def test_the_same_drawing_in_another_hue_is_no_copy(sample, tmp_path):
    neutral = ["black", "white", "grey"]
    coloured = sample[
        sample["label"].isin(["bag", "shoe", "t-shirt"]) & ~sample["colour"].isin(neutral)
    ]
    assert len(coloured) > 100
    both = beside(coloured, tmp_path, ".png", turn_hue)
    assert pairs_of(find_near_duplicates(both)) == []
    # The hash alone, which has no colours, takes most of them for copies.
    by_hash = set(pairs_of(find_near_duplicates(both, min_correlation=-1)))
    assert len(by_hash & set(expected_pairs(both))) > len(coloured) / 2


def test_different_faint_prints_on_cloth_of_one_strong_colour_are_no_copies(tmp_path):
    """Their thumbnails are all but equal, as the colour prevails; the hash, which is of the grey
    alone, differs.
    """
    for number in range(10):
        path = write_photo(tmp_path / f"{number}.png", number)
        faint = (np.asarray(Image.open(path)) // 20).astype(np.uint8)
        Image.fromarray(faint + np.array([200, 30, 30], np.uint8)).save(path)
    catalog = listed(sorted(tmp_path.iterdir()))
    assert pairs_of(find_near_duplicates(catalog)) == []
    assert len(find_near_duplicates(catalog, max_distance=64)) == 45


BLANK = [
    "red",
    "maroon",
    "#c00000",
    "pink",
    "lime",
    "blue",
    "#808081",
    "white",
    "black",
    "grey",
    "yellow",
    "orange",
]


def test_blank_images_of_different_colours_are_no_copies(tmp_path):
    for number, colour in enumerate(BLANK):
        Image.new("RGB", (40, 30), colour).save(tmp_path / f"{number:02}.png")
    assert pairs_of(find_near_duplicates(listed(sorted(tmp_path.iterdir())))) == []


def test_blank_files_are_copies_where_they_are_the_same_file(tmp_path):
    for name, colour in {
        "1.png": "red",
        "2.png": "white",
        "3.png": "red",
        "4.png": "white",
    }.items():
        Image.new("RGB", (40, 30), colour).save(tmp_path / name)
    found = find_near_duplicates(listed(sorted(tmp_path.iterdir())))
    assert pairs_of(found) == [("1.png", "3.png"), ("2.png", "4.png")]
    assert set(found["step"]) == {"content"}


@pytest.mark.soak
@pytest.mark.skipif(not CLOTHING.is_dir(), reason="the clothing photos are not beside the project")
def test_one_photo_in_two_folders_of_the_clothing_is_found():
    catalog, _ = load_catalog("folder", CLOTHING)
    found = find_near_duplicates(catalog)
    label = catalog.set_index("image_id")["label"]
    spans = found[
        (found["image_id"].map(label) == "shorts") & (found["other_id"].map(label) == "skirt")
    ]
    assert len(spans) == 1
    pair = spans.iloc[0]
    assert pair["image_id"].startswith("train/shorts/6075b4a5-")
    assert pair["other_id"].startswith("train/skirt/637a56e4-")
    assert pair["score"] >= 0.985


# --- The table of pairs
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 9])
def test_identical_files_are_paired_with_the_first_alone(count, tmp_path):
    first = write_photo(tmp_path / "b0.png", 1)
    write_photo(tmp_path / "a.png", 2)
    for number in range(1, count):
        shutil.copyfile(first, tmp_path / f"b{number}.png")
    Image.open(first).save(tmp_path / "c.bmp")  # the same picture in another file
    found = find_near_duplicates(listed(sorted(tmp_path.iterdir())))
    expected = [("b0.png", f"b{number}.png") for number in range(1, count)]
    assert pairs_of(found) == [*expected, ("b0.png", "c.bmp")]
    assert found["step"].tolist() == ["content"] * (count - 1) + ["perceptual hash"]
    assert found["score"].tolist() == pytest.approx([1] * count)


@pytest.fixture(scope="module")
def thirty(tmp_path_factory):
    """Random pictures: five of their own, the others nearer or farther versions of them, and two
    the same file.
    """
    folder = tmp_path_factory.mktemp("thirty")
    random = np.random.default_rng(0)
    paths = []
    for number in range(28):
        path = write_photo(folder / f"{number:02}.png", number % 5)
        if number >= 5:
            pixels = np.asarray(Image.open(path)).astype(float)
            coarse = Image.fromarray(random.integers(0, 256, (4, 4, 3), np.uint8))
            other = np.asarray(coarse.resize((40, 40), Image.Resampling.BICUBIC))
            share = random.uniform(0, 0.4)
            Image.fromarray(((1 - share) * pixels + share * other).astype(np.uint8)).save(path)
        paths.append(path)
    for original in (3, 11):
        paths.append(folder / f"again {original}.png")
        shutil.copyfile(paths[original], paths[-1])
    random.shuffle(paths)
    return listed(paths)


def by_brute_force(catalog, max_distance, min_correlation):
    """The same pairs, each image with each later one: (image_id, other_id, step) -> score."""
    images = [Image.open(path).convert("RGB") for path in catalog["path"]]
    contents = [Path(path).read_bytes() for path in catalog["path"]]
    firsts = [contents.index(content) for content in contents]
    pairs = {}
    for one, other in combinations(range(len(images)), 2):
        names = (catalog["image_id"][one], catalog["image_id"][other])
        if firsts[other] == one:
            pairs[(*names, "content")] = 1.0
        if firsts[one] != one or firsts[other] != other:
            continue  # the first stands for all
        distance = (by_imagehash(images[one]) ^ by_imagehash(images[other])).bit_count()
        small = [
            np.asarray(images[index].resize((16, 16), Image.Resampling.BOX)).ravel()
            for index in (one, other)
        ]
        score = np.corrcoef(*small)[0, 1]
        if distance <= max_distance and score >= min_correlation:
            pairs[(*names, "perceptual hash")] = score
    return pairs


@pytest.mark.parametrize("max_distance", [0, 2, 8, 20, 64])
@pytest.mark.parametrize("min_correlation", [-1, 0.5, 0.9, 0.985])
def test_pairs_are_those_of_a_double_loop(thirty, max_distance, min_correlation, monkeypatch):
    thresholds = {"max_distance": max_distance, "min_correlation": min_correlation}
    found = find_near_duplicates(thirty, **thresholds)
    expected = by_brute_force(thirty, **thresholds)
    assert dict(
        zip(found[COLUMNS[:3]].itertuples(index=False, name=None), found["score"], strict=True)
    ) == (pytest.approx(expected))
    assert len(found) == len(expected) >= 2
    place = {image_id: index for index, image_id in enumerate(thirty["image_id"])}
    assert all(place[one] < place[other] for one, other in pairs_of(found))
    assert found["step"].is_monotonic_increasing  # "content" comes before "perceptual hash"
    assert all(group["score"].is_monotonic_decreasing for _, group in found.groupby("step"))
    assert found.index.tolist() == list(range(len(found)))
    # A catalogue of many blocks, the last of them not full.
    for block in (3, 7, 29):
        monkeypatch.setattr(find, "BLOCK", block)
        pd.testing.assert_frame_equal(find_near_duplicates(thirty, **thresholds), found)


def test_the_thresholds_divide_the_pairs(thirty):
    """Or the double loop would prove nothing: each stricter one leaves some of the pairs."""
    counts = [
        len(find_near_duplicates(thirty, max_distance=bits, min_correlation=-1))
        for bits in (0, 2, 8, 20, 64)
    ]
    assert counts == sorted(set(counts))
    counts = [
        len(find_near_duplicates(thirty, max_distance=64, min_correlation=least))
        for least in (0.985, 0.9, 0.5)
    ]
    assert counts == sorted(set(counts))


def test_the_index_of_the_catalogue_does_not_matter(thirty):
    found = find_near_duplicates(thirty)
    other_index = thirty.set_index(pd.Index([7] * len(thirty)))
    pd.testing.assert_frame_equal(find_near_duplicates(other_index), found)


def test_an_empty_catalogue_has_no_pairs(sample):
    for catalog in (sample.head(0), listed([])):
        found = find_near_duplicates(catalog)
        assert found.columns.tolist() == COLUMNS
        assert len(found) == 0


def test_one_image_has_no_pairs(tmp_path):
    assert len(find_near_duplicates(listed([write_photo(tmp_path / "1.png", 1)]))) == 0


def test_a_photo_that_vanished_is_named(tmp_path):
    paths = [write_photo(tmp_path / f"{number}.png", number) for number in range(5)]
    os.remove(paths[3])
    with pytest.raises(ImageError, match=r"3\.png.*No such file"):
        find_near_duplicates(listed(paths))


# --- The third step, of a store
# ----------------------------------------------------------------------------------

STEPS_OF_ONE = ["image_id", "step", "score"]
# That leave nothing to the hash, or little.
CHANGES = ("crop 10 %", "rotation 5°", "mirrored", "border", "greyscale")


def by_hand(catalog, vectors):
    """A store of vectors that were chosen, so that they alone say which photos are candidates."""
    manifest = {"encoder": "by hand", "fingerprint": "0" * 16, "fit": "resize"}
    return EmbeddingStore(Path("by hand"), np.asarray(vectors, np.float32), catalog, manifest, {})


def at_angles(*degrees):
    """Unit vectors in the plane, whose cosine similarity is that of the angle between them."""
    return np.column_stack([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))])


def copied(catalog, folder, kinds):
    """The catalogue and copies of its photos, and {image_id: the original's} of all of them."""
    planted = plant_copies(catalog, folder, kinds=kinds)
    originals = dict.fromkeys(catalog["image_id"]) | dict(
        zip(planted["image_id"], planted["copy_of"], strict=True)
    )
    both = pd.concat([catalog, planted[catalog.columns]], ignore_index=True)
    return both, {image_id: original or image_id for image_id, original in originals.items()}


def unordered(found):
    return {frozenset(pair) for pair in pairs_of(found)}


def within(groups):
    """All pairs of each group."""
    return {frozenset(pair) for group in groups for pair in combinations(group, 2)}


@pytest.fixture(scope="module")
def four(sample):
    """A bag, a bicycle, a pair of glasses and a hat."""
    return sample.groupby("label").head(1).head(4).reset_index(drop=True)


@pytest.fixture(scope="module")
def index(four, encoder, tmp_path_factory):
    """An index of the four, of which every one is a candidate."""
    return CopyIndex(embed_catalog(encoder, four, tmp_path_factory.mktemp("four") / "store"))


@pytest.fixture(scope="module")
def planted(four, encoder, tmp_path_factory):
    """The four and three copies of each: the store, the original of each photo, and what is found
    with the defaults.
    """
    folder = tmp_path_factory.mktemp("planted")
    both, originals = copied(four, folder / "copies", ("crop 10 %", "mirrored", "greyscale"))
    store = embed_catalog(encoder, both, folder / "store")
    return store, originals, find_near_duplicates(store)


@pytest.mark.parametrize("kind", CHANGES)
def test_a_photo_that_was_changed_is_looked_up(kind, four, index, encoder, tmp_path):
    copies = plant_copies(four, tmp_path, kinds=[kind])
    by_path = {
        copy: index.look_up(path, encoder)
        for copy, path in zip(copies["copy_of"], copies["path"], strict=True)
    }
    assert {original: table["image_id"].tolist() for original, table in by_path.items()} == {
        original: [original] for original in four["image_id"]
    }
    scores = pd.concat(by_path.values())
    assert scores.columns.tolist() == STEPS_OF_ONE
    assert (scores["step"] == "alignment").sum() >= 2
    assert scores["score"].between(0.85, 1).all()
    # The pixels say the same as the file, in any layout of memory.
    pixels = np.asfortranarray(load_image(copies["path"][1]))
    pixels.setflags(write=False)
    assert index.look_up(pixels, encoder)["image_id"].tolist() == [four["image_id"][1]]


@pytest.mark.parametrize("kind", ["resize 50 %", "JPEG 50", "WebP"])
def test_a_photo_that_the_hash_knows_is_looked_up_without_an_encoder(kind, four, index, tmp_path):
    for copy in plant_copies(four, tmp_path, kinds=[kind]).to_dict("records"):
        table = index.look_up(copy["path"])
        assert table["image_id"].tolist() == [copy["copy_of"]]
        assert table["step"].tolist() == ["perceptual hash"]
        assert 0.985 <= table["score"][0] <= 1


def test_without_an_encoder_or_a_store_the_third_step_is_left_out(four, index, encoder, tmp_path):
    turned = plant_copies(four, tmp_path, kinds=["rotation 5°"])["path"][3]
    assert index.look_up(turned, encoder)["image_id"].tolist() == [four["image_id"][3]]
    for table in (index.look_up(turned), CopyIndex(four).look_up(turned, encoder)):
        assert len(table) == 0
        assert table.columns.tolist() == STEPS_OF_ONE


def test_identical_files_are_looked_up_by_content_all_of_them(four, encoder, tmp_path):
    path = Path(four["path"][0])
    again = shutil.copyfile(path, tmp_path / "again.jpg")
    with Image.open(path) as image:
        image.save(tmp_path / "anew.png")
    new = listed([again, tmp_path / "anew.png"])
    catalog = pd.concat([four[new.columns], new], ignore_index=True)
    third = CopyIndex(embed_catalog(encoder, catalog, tmp_path / "store"))
    elsewhere = shutil.copyfile(path, tmp_path / "upload")  # whatever its name
    for photo in (path, str(path), elsewhere):
        table = third.look_up(photo, encoder)
        assert table["image_id"].tolist() == [four["image_id"][0], "again.jpg", "anew.png"]
        assert table["step"].tolist() == ["content", "content", "perceptual hash"]
        # A JPEG is decoded at a half of its size.
        assert table["score"].tolist() == pytest.approx([1, 1, 1], abs=1e-3)
        assert table.index.tolist() == [0, 1, 2]


def test_a_new_photo_is_a_copy_of_none(sample, index, encoder):
    for number in (5, 100, 200, 490):
        for photo in (sample["path"][number], load_image(sample["path"][number])):
            table = index.look_up(photo, encoder)
            assert len(table) == 0
            assert table.columns.tolist() == STEPS_OF_ONE


def test_an_encoder_that_is_not_the_stores_is_refused_naming_both(index, encoder, other_encoder):
    with pytest.raises(ValueError, match=rf"{encoder.name} \(.*{other_encoder.name} \("):
        index.look_up(index.paths[0], other_encoder)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((40, 30), np.uint8),
        np.zeros((40, 30, 4), np.uint8),
        np.zeros((40, 30, 3)),
        np.zeros((0, 30, 3), "u1"),
    ],
    ids=["grey", "with transparency", "fractions", "none"],
)
def test_what_are_no_pixels_is_refused(pixels, index, encoder):
    for with_encoder in (None, encoder):
        with pytest.raises(ValueError, match="Pixels must be a uint8 array"):
            index.look_up(pixels, with_encoder)


def test_a_photo_that_cannot_be_read_is_named(index, encoder, tmp_path):
    (tmp_path / "text.jpg").write_text("no photo")
    for name, reason in {"nothing.jpg": "No such file", "text.jpg": "not an image"}.items():
        for with_encoder in (None, encoder):
            with pytest.raises(ImageError, match=rf"{name}: {reason}"):
                index.look_up(tmp_path / name, with_encoder)


# --- Pairs in a store
# --------------------------------------------------------------------------------------------


def test_planted_copies_are_paired_with_their_original_and_with_each_other(planted):
    _, originals, found = planted
    groups = pd.Series(originals).groupby(originals).groups.values()
    assert [len(group) for group in groups] == [4] * 4
    assert unordered(found) == within(groups)
    assert (found["step"] == "alignment").sum() >= 20


def test_pairs_come_best_first_in_the_order_of_the_catalogue_and_once(planted):
    store, _, found = planted
    assert found.columns.tolist() == COLUMNS
    assert found.index.tolist() == list(range(len(found)))
    place = {image_id: row for row, image_id in enumerate(store.catalog["image_id"])}
    assert all(place[one] < place[other] for one, other in pairs_of(found))
    assert len(unordered(found)) == len(found)
    assert found["step"].map(STEPS.index).is_monotonic_increasing
    assert all(group["score"].is_monotonic_decreasing for _, group in found.groupby("step"))
    assert (found.loc[found["step"] == "alignment", "score"] >= 0.85).all()


def test_the_first_steps_say_the_same_as_of_the_catalogue_alone(planted):
    store, _, found = planted
    first = found[found["step"] != "alignment"].reset_index(drop=True)
    pd.testing.assert_frame_equal(find_near_duplicates(store.catalog), first, check_dtype=False)


def in_order(store, rows):
    """The same store, its rows in another order."""
    return replace(
        store, vectors=store.vectors[rows], catalog=store.catalog.iloc[rows].reset_index(drop=True)
    )


def turned_round(store):
    """The same store from the last row to the first."""
    return in_order(store, np.arange(len(store.catalog))[::-1])


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_pairs_do_not_depend_on_the_order_of_the_catalogue(seed, planted):
    store, _, found = planted
    rows = np.random.default_rng(seed).permutation(len(store.catalog))
    again = find_near_duplicates(turned_round(store) if seed is None else in_order(store, rows))
    scores = [
        {
            frozenset(pair): score
            for pair, score in zip(pairs_of(table), table["score"], strict=True)
        }
        for table in (found, again)
    ]
    assert scores[0] == pytest.approx(scores[1])


# Of all products of the sample, those whose views agree best when they are laid on each other: flat
# drawings, apart in scale, turn and ground.
FLAT = ["watch-08", "watch-19", "watch-20", "bicycle-10", "bicycle-22", "t-shirt-15", "t-shirt-23"]


@pytest.mark.parametrize("product", FLAT)
def test_whether_two_views_are_copies_does_not_depend_on_which_is_named_first(product, sample):
    views = sample[sample["product_id"] == product].reset_index(drop=True)
    store = by_hand(views, np.ones((3, 2)))
    assert unordered(find_near_duplicates(store)) == unordered(
        find_near_duplicates(turned_round(store))
    )


def test_other_views_and_look_alikes_in_a_store_are_no_copies(sample, encoder, tmp_path):
    """All views of a product of each label, and one of the next product: with the untrained encoder
    all are alike.
    """
    products = sample.drop_duplicates("product_id").groupby("label")["product_id"]
    first, second = set(products.nth(3)), set(products.nth(4))
    views = sample[sample["product_id"].isin(first)]
    some = pd.concat(
        [views, sample[sample["product_id"].isin(second)].drop_duplicates("product_id")]
    )
    assert len(views) == 21
    assert len(some) == 28
    index = CopyIndex(embed_catalog(encoder, some.reset_index(drop=True), tmp_path / "store"))
    found = index.pairs()
    assert found.columns.tolist() == COLUMNS
    assert len(found) == 0
    # Every photo was laid on some others: their vectors would not have kept them apart.
    vectors = index.store.vectors / np.linalg.norm(index.store.vectors, axis=1, keepdims=True)
    assert (vectors @ vectors.T).min() > 0.9


def test_a_catalogue_without_copies_gives_an_empty_table(encoder, catalog, tmp_path):
    found = find_near_duplicates(embed_catalog(encoder, catalog, tmp_path / "store"))
    assert found.columns.tolist() == COLUMNS
    assert len(found) == 0


def test_one_photo_in_several_encodings_is_joined_to_one_group(four, encoder, tmp_path):
    with Image.open(four["path"][1]) as image:
        for name in ("a.png", "b.bmp", "c.jpg", "d.webp", "e.gif", "f.tiff"):
            image.save(tmp_path / name)
        ImageOps.mirror(image).save(tmp_path / "g.png")
        image.rotate(90).save(tmp_path / "h.png")
    shutil.copyfile(tmp_path / "a.png", tmp_path / "i.png")
    catalog = listed(sorted(tmp_path.iterdir()))
    found = find_near_duplicates(embed_catalog(encoder, catalog, tmp_path / "store"))
    different = catalog["image_id"].head(8)
    assert unordered(found) == within([different]) | {frozenset({"a.png", "i.png"})}
    assert found["step"].value_counts().to_dict() == {
        "content": 1,
        "perceptual hash": 15,
        "alignment": 13,
    }


def test_a_store_of_one_photo_has_no_pairs_and_is_looked_up(four, encoder, tmp_path):
    index = CopyIndex(
        embed_catalog(encoder, four.tail(1).reset_index(drop=True), tmp_path / "store")
    )
    assert len(index.pairs()) == 0
    assert index.pairs().columns.tolist() == COLUMNS
    mirrored = load_image(four["path"][3])[:, ::-1]
    assert index.look_up(mirrored, encoder)["image_id"].tolist() == [four["image_id"][3]]
    assert len(index.look_up(four["path"][0], encoder)) == 0


def test_nothing_is_found_in_an_empty_catalogue(four, encoder):
    for catalog in (four.head(0), listed([])):
        index = CopyIndex(catalog)
        table = index.look_up(four["path"][0], encoder)
        assert len(table) == len(index.pairs()) == 0
        assert table.columns.tolist() == STEPS_OF_ONE


def test_a_file_that_is_listed_twice_is_a_pair(four, encoder, tmp_path):
    twice = pd.concat([four, four.head(1).assign(image_id="again")], ignore_index=True)
    index = CopyIndex(embed_catalog(encoder, twice, tmp_path / "store"))
    found = index.pairs()
    assert pairs_of(found) == [(four["image_id"][0], "again")]
    assert found["step"].tolist() == ["content"]
    assert index.look_up(four["path"][0], encoder)["image_id"].tolist() == [
        four["image_id"][0],
        "again",
    ]


def test_a_photo_of_a_store_that_vanished_is_named(encoder, catalog, tmp_path):
    store = embed_catalog(encoder, catalog, tmp_path / "store")
    index = CopyIndex(store)
    os.remove(catalog["path"][7])
    for work in (index.pairs, lambda: CopyIndex(store)):
        with pytest.raises(ImageError, match=r"007\.png: No such file"):
            work()


@pytest.mark.parametrize(
    "lay",
    [
        np.array,
        np.asfortranarray,
        lambda vectors: np.repeat(vectors, 2, axis=0)[::2],
        lambda vectors: vectors * 1e-3,
    ],
    ids=["in memory", "column by column", "every second row", "of other lengths"],
)
def test_the_vectors_may_lie_anywhere(lay, encoder, four, tmp_path):
    both, _ = copied(four.head(3), tmp_path / "copies", ["crop 20 %"])  # which only vectors name
    store = embed_catalog(encoder, both, tmp_path / "store")
    assert isinstance(store.vectors, np.memmap)
    found = find_near_duplicates(store)
    assert len(found) == 3
    assert len(find_near_duplicates(replace(store, vectors=np.zeros((6, 2))))) == 0
    vectors = lay(np.array(store.vectors))
    vectors.setflags(write=False)
    pd.testing.assert_frame_equal(find_near_duplicates(replace(store, vectors=vectors)), found)


def test_photos_that_show_nothing_are_copies_of_none_but_the_same_file(encoder, tmp_path):
    sizes = [(1, 1), (40, 30), (1, 900), (900, 1), (2, 300)]
    for size in sizes:
        for colour in ("red", "white", "#808081"):
            Image.new("RGB", size, colour).save(
                tmp_path / f"{size[0]:03}x{size[1]:03} {colour}.png"
            )
    noise = np.random.default_rng(0).integers(0, 256, (900, 1, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise, a column.png")
    Image.fromarray(noise[:300].reshape(1, 300, 3)).save(tmp_path / "noise, a row.png")
    Image.fromarray(noise[:400, 0, 0].reshape(20, 20)).save(tmp_path / "noise, grey.png")
    shutil.copyfile(tmp_path / "001x001 red.png", tmp_path / "z.png")
    catalog = listed(sorted(tmp_path.glob("*.png")))
    index = CopyIndex(
        embed_catalog(encoder, catalog, tmp_path / "store"), n_candidates=19, min_similarity=-1
    )
    found = index.pairs()
    assert pairs_of(found) == [("001x001 red.png", "z.png")]
    for path in catalog["path"]:
        table = index.look_up(path, encoder)
        same = (
            [Path(path).name]
            if path[-5] != "z" and "001x001 red" not in path
            else ["001x001 red.png", "z.png"]
        )
        assert table["image_id"].tolist() == same
        assert set(table["step"]) == {"content"}
    assert len(index.look_up(np.full((1, 1, 3), 7, np.uint8), encoder)) == 0


# --- Which photos are laid on which
# ------------------------------------------------------------------------------


def test_a_new_photo_is_laid_on_the_candidates_that_are_most_similar(encoder, catalog, tmp_path):
    store = embed_catalog(encoder, catalog, tmp_path / "store")
    unit = np.array(store.vectors, np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    similarities = unit[4] @ unit.T
    order, sixth = np.argsort(-similarities, kind="stable"), np.sort(similarities)[-6]
    for options, count in (
        ({}, 5),
        ({"n_candidates": 1}, 1),
        ({"n_candidates": 3}, 3),
        ({"n_candidates": 50}, 12),
        ({"n_candidates": 12, "min_similarity": sixth - 1e-6}, 6),
        ({"min_similarity": 1.01}, 1),  # itself, which its hash names too
        ({"min_similarity": 1.01, "max_distance": -1}, 0),
    ):
        table = CopyIndex(store, **options).score(store.catalog["path"][4], store.vectors[4])
        laid = table[table["step"] == "alignment"]
        assert set(laid["image_id"]) == set(store.catalog["image_id"][order[:count]])
        assert laid["score"].is_monotonic_decreasing
        expected = dict(zip(store.catalog["image_id"], similarities, strict=True))
        assert dict(zip(laid["image_id"], laid["similarity"], strict=True)) == pytest.approx(
            {name: expected[name] for name in laid["image_id"]}, abs=1e-6
        )


def cropped_beside(sample, folder, *degrees):
    """A store of a bag, a part of it that no hash knows, and shoes; with vectors at angles."""
    shoes = sample[sample["label"] == "shoe"].drop_duplicates("product_id").head(len(degrees) - 2)
    both, _ = copied(sample.head(1), folder, ["crop 20 %"])
    return by_hand(pd.concat([both, shoes], ignore_index=True), at_angles(*degrees))


def test_pairs_below_the_least_similarity_are_not_tried(sample, tmp_path):
    store = cropped_beside(sample, tmp_path, 0, 50)
    cosine = np.cos(np.deg2rad(50))
    assert len(find_near_duplicates(store)) == 1
    assert len(find_near_duplicates(store, min_similarity=cosine - 1e-4)) == 1
    assert len(find_near_duplicates(store, min_similarity=cosine + 1e-4)) == 0
    apart = cropped_beside(sample, tmp_path, 0, 90)
    assert len(find_near_duplicates(apart)) == 0
    assert len(find_near_duplicates(apart, min_similarity=-1)) == 1


def test_more_candidates_find_a_copy_that_others_stand_before(sample, tmp_path):
    """Two shoes are nearer to each of both bags than the bags are to each other."""
    store = cropped_beside(sample, tmp_path, 0, 40, -1, 1, 39, 41)
    counts = {
        count: len(find_near_duplicates(store, n_candidates=count)) for count in (1, 2, 3, 5, 100)
    }
    assert counts == {1: 0, 2: 0, 3: 0, 5: 1, 100: 1}


def test_the_least_agreement_divides_the_pairs(planted):
    store, originals, found = planted
    laid = found[found["step"] == "alignment"].reset_index(drop=True)
    least = float(laid["score"].median())
    one = originals[laid["image_id"][0]]
    rows = [
        row for row, image_id in enumerate(store.catalog["image_id"]) if originals[image_id] == one
    ]
    part = replace(
        store, vectors=store.vectors[rows], catalog=store.catalog.iloc[rows].reset_index(drop=True)
    )
    expected = {
        frozenset(pair): score
        for pair, score in zip(pairs_of(laid), laid["score"], strict=True)
        if originals[pair[0]] == one and score >= least
    }
    stricter = find_near_duplicates(part, min_agreement=least)
    stricter = stricter[stricter["step"] == "alignment"]
    assert dict(
        zip(map(frozenset, pairs_of(stricter)), stricter["score"], strict=True)
    ) == pytest.approx(expected)
    assert 0 < len(expected) < 6
    everyone = find_near_duplicates(part, min_agreement=-1)
    assert unordered(everyone) == within([part.catalog["image_id"]])


def test_copies_of_copies_are_found_beyond_the_candidates(sample, tmp_path):
    """A chain, each most similar to the one before it: with one candidate each, all others are
    found through it.

    Hashes, which would name others, are left out: none differ in fewer than no bits.
    """
    kinds = ("rotation 5°", "mirrored", "crop 10 %", "greyscale", "crop 20 %", "rotation 10°")
    both, _ = copied(sample.head(1), tmp_path, kinds)
    far = sample[sample["label"] == "shoe"].drop_duplicates("product_id").head(2)
    store = by_hand(
        pd.concat([both, far], ignore_index=True), at_angles(0, 5, 11, 18, 26, 35, 45, 200, 210)
    )
    found = find_near_duplicates(store, n_candidates=1, max_distance=-1)
    assert unordered(found) == within([both["image_id"]])
    assert found["step"].tolist() == ["alignment"] * 21


def test_a_copy_that_the_hash_knows_leads_to_those_it_does_not(sample, tmp_path):
    """The cropped photo is near one of two copies alone."""
    both, _ = copied(sample.head(1), tmp_path, ["resize 50 %", "crop 20 %"])
    found = find_near_duplicates(by_hand(both, at_angles(0, 90, 180 - 1)), min_similarity=-0.5)
    assert len(found) == 2 + 1
    found = find_near_duplicates(by_hand(both, at_angles(0, 179, 100)))
    assert found["step"].tolist() == ["perceptual hash"]
    found = find_near_duplicates(by_hand(both, at_angles(0, 179, 20)))
    assert unordered(found) == within([both["image_id"]])
    assert found["step"].tolist() == ["perceptual hash", "alignment", "alignment"]


def test_copies_that_are_known_take_no_candidates_place(sample, tmp_path):
    """Five of the same bytes and five that the hash knows are nearer than the cropped photo."""
    kinds = ("resize 50 %", "JPEG 50", "PNG", "WebP", "contrast 0.7", "crop 20 %")
    both, _ = copied(sample.head(1), tmp_path, kinds)
    both = pd.concat(
        [both, *[both.head(1).assign(image_id=f"again {one}") for one in range(5)]],
        ignore_index=True,
    )
    store = by_hand(both, at_angles(0, 1, 2, 3, 4, 5, 30, 0, 0, 0, 0, 0))
    found = find_near_duplicates(store, n_candidates=1)
    assert unordered(found) == within([both["image_id"].head(7)]) | {
        frozenset({both["image_id"][0], f"again {one}"}) for one in range(5)
    }
    assert found["step"].value_counts().to_dict() == {
        "perceptual hash": 15,
        "alignment": 6,
        "content": 5,
    }


def test_zero_vectors_are_similar_to_none_and_do_not_hinder_the_other_steps(sample, tmp_path):
    both, _ = copied(sample.head(2), tmp_path, ["PNG", "crop 20 %"])
    found = find_near_duplicates(by_hand(both, np.zeros((6, 2))))
    first, second = both["image_id"][:2]
    assert unordered(found) == {
        frozenset({first, both["image_id"][2]}),
        frozenset({second, both["image_id"][4]}),
    }
    assert set(found["step"]) == {"perceptual hash"}


@pytest.mark.parametrize("kind", ["border", "screenshot", "mirrored"])
def test_hashes_name_candidates_that_vectors_do_not(kind, four, tmp_path):
    """Nothing but the hashes can: zero vectors are similar to none, and the hash of the photo as it
    is is far off.
    """
    both, originals = copied(four, tmp_path, [kind])
    groups = pd.Series(originals).groupby(originals).groups.values()
    store = by_hand(both, np.zeros((8, 2)))
    assert len(find_near_duplicates(both, min_correlation=-1)) == 0
    for block in (find.BLOCK, 3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(find, "BLOCK", block)
            found = find_near_duplicates(store)
        assert unordered(found) == within(groups)
        assert found["step"].tolist() == ["alignment"] * 4
    assert len(find_near_duplicates(store, max_distance=-1)) == 0
    index = CopyIndex(by_hand(four, np.zeros((4, 2))))
    for copy in both.tail(4).to_dict("records"):
        table = index.score(copy["path"], np.zeros(2))
        assert table["image_id"].tolist() == [originals[copy["image_id"]]]
        assert table["step"].tolist() == ["alignment"]
        assert table["score"].iloc[0] >= 0.85
        assert table["similarity"].tolist() == [0]


def test_of_several_that_hashes_name_those_of_the_fewest_bits_are_laid(four, tmp_path):
    """A photo in a frame, and a part of it in one: with one candidate each, the part is not tried."""
    with Image.open(four["path"][0]) as image:
        photo = image.convert("RGB")
    for name, one in {"as it is": photo, "part": ImageOps.crop(photo, 13)}.items():
        ImageOps.expand(one, 40, "red").save(tmp_path / f"{name}.png")
    catalog = listed([tmp_path / "part.png", tmp_path / "as it is.png"])
    for rows in (catalog, catalog[::-1].reset_index(drop=True)):
        store = by_hand(rows, np.zeros((2, 2)))
        for count, names in ((1, {"as it is.png"}), (2, {"as it is.png", "part.png"})):
            table = CopyIndex(store, n_candidates=count, max_distance=16).score(
                four["path"][0], np.zeros(2)
            )
            assert set(table["image_id"]) == names


@pytest.mark.parametrize("count", [0, -1])
def test_no_candidates_are_refused(count, four):
    for photos in (four, by_hand(four, np.ones((4, 2)))):
        with pytest.raises(ValueError, match=f"n_candidates must be at least 1, not {count}"):
            CopyIndex(photos, n_candidates=count)
        with pytest.raises(ValueError, match=f"n_candidates must be at least 1, not {count}"):
            find_near_duplicates(photos, n_candidates=count)


@pytest.mark.parametrize("same", [False, True], ids=["all different", "two of the same bytes"])
def test_a_vector_that_is_not_finite_is_named_by_its_row_in_the_store(same, catalog):
    if same:
        catalog.loc[2, "path"] = catalog["path"][1]
    vectors = np.ones((12, 4))
    vectors[9, 2] = np.nan
    with pytest.raises(ValueError, match="row 9 holds NaN"):
        find_near_duplicates(by_hand(catalog, vectors))


@settings(max_examples=100, deadline=None)
@given(
    st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8)).filter(lambda pair: pair[0] < pair[1])),
    st.data(),
)
def test_copies_of_copies_are_all_pairs_with_a_changed_row_between(copies, data):
    changed = data.draw(st.sets(st.integers(0, 8)))
    expected = {
        (one, other)
        for one, other in combinations(range(9), 2)
        for row in changed - {one, other}
        if {tuple(sorted((one, row))), tuple(sorted((row, other)))} <= copies
    }
    assert find._copies_of_copies(copies, changed) == expected
