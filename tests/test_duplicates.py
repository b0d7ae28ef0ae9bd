import os
import shutil
from itertools import combinations
from pathlib import Path

import imagehash
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance

from conftest import CLOTHING, write_photo
from lookalike import duplicates
from lookalike.catalog import load_catalog
from lookalike.duplicates import find_near_duplicates, perceptual_hash
from lookalike.images import ImageError
from lookalike.sources import LESSON_LABELS, MORE_LABELS

COLUMNS = ["image_id", "other_id", "step", "score"]


@pytest.fixture(scope="module")
def sample():
    return load_catalog("sample", labels=LESSON_LABELS + MORE_LABELS)[0]


@pytest.fixture(scope="module")
def forty(sample):
    """Forty pictures of all seven labels."""
    return sample.iloc[::12].head(40)


def listed(paths):
    """A catalogue of files, each its own product."""
    return pd.DataFrame({"image_id": [path.name for path in paths], "path": [str(path) for path in paths]})


def beside(catalog, folder, suffix, write):
    """The catalogue and a second version of each of its pictures, elsewhere, with another name and label."""
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
    return lambda path, file: ImageEnhance.Brightness(Image.open(path)).enhance(factor).save(file, quality=90)


def turn_hue(path, file):
    """Red to green, green to blue, blue to red; greys stay."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    Image.fromarray(pixels[..., [2, 0, 1]]).save(file)


# --- The hash ----------------------------------------------------------------------------------------------------


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


# --- What is a copy ----------------------------------------------------------------------------------------------


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
    coloured = sample[sample["label"].isin(["bag", "shoe", "t-shirt"]) & ~sample["colour"].isin(neutral)]
    assert len(coloured) > 100
    both = beside(coloured, tmp_path, ".png", turn_hue)
    assert pairs_of(find_near_duplicates(both)) == []
    # The hash alone, which has no colours, takes most of them for copies.
    by_hash = set(pairs_of(find_near_duplicates(both, min_correlation=-1)))
    assert len(by_hash & set(expected_pairs(both))) > len(coloured) / 2


def test_different_faint_prints_on_cloth_of_one_strong_colour_are_no_copies(tmp_path):
    """Their thumbnails are all but equal, as the colour prevails; the hash, which is of the grey alone, differs."""
    for number in range(10):
        path = write_photo(tmp_path / f"{number}.png", number)
        faint = (np.asarray(Image.open(path)) // 20).astype(np.uint8)
        Image.fromarray(faint + np.array([200, 30, 30], np.uint8)).save(path)
    catalog = listed(sorted(tmp_path.iterdir()))
    assert pairs_of(find_near_duplicates(catalog)) == []
    assert len(find_near_duplicates(catalog, max_distance=64)) == 45


BLANK = ["red", "maroon", "#c00000", "pink", "lime", "blue", "#808081", "white", "black", "grey", "yellow", "orange"]


def test_blank_images_of_different_colours_are_no_copies(tmp_path):
    for number, colour in enumerate(BLANK):
        Image.new("RGB", (40, 30), colour).save(tmp_path / f"{number:02}.png")
    assert pairs_of(find_near_duplicates(listed(sorted(tmp_path.iterdir())))) == []


def test_blank_files_are_copies_where_they_are_the_same_file(tmp_path):
    for name, colour in {"1.png": "red", "2.png": "white", "3.png": "red", "4.png": "white"}.items():
        Image.new("RGB", (40, 30), colour).save(tmp_path / name)
    found = find_near_duplicates(listed(sorted(tmp_path.iterdir())))
    assert pairs_of(found) == [("1.png", "3.png"), ("2.png", "4.png")]
    assert set(found["step"]) == {"content"}


@pytest.mark.skipif(not CLOTHING.is_dir(), reason="the clothing photos are not beside the project")
def test_one_photo_in_two_folders_of_the_clothing_is_found():
    catalog, _ = load_catalog("folder", CLOTHING)
    found = find_near_duplicates(catalog)
    label = catalog.set_index("image_id")["label"]
    spans = found[(found["image_id"].map(label) == "shorts") & (found["other_id"].map(label) == "skirt")]
    assert len(spans) == 1
    pair = spans.iloc[0]
    assert pair["image_id"].startswith("train/shorts/6075b4a5-")
    assert pair["other_id"].startswith("train/skirt/637a56e4-")
    assert pair["score"] >= 0.985


# --- The table of pairs ------------------------------------------------------------------------------------------


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
    """Random pictures: five of their own, the others nearer or farther versions of them, and two the same file."""
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
        small = [np.asarray(images[index].resize((16, 16), Image.Resampling.BOX)).ravel() for index in (one, other)]
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
    assert dict(zip(found[COLUMNS[:3]].itertuples(index=False, name=None), found["score"], strict=True)) == (
        pytest.approx(expected)
    )
    assert len(found) == len(expected) >= 2
    place = {image_id: index for index, image_id in enumerate(thirty["image_id"])}
    assert all(place[one] < place[other] for one, other in pairs_of(found))
    assert found["step"].is_monotonic_increasing  # "content" comes before "perceptual hash"
    assert all(group["score"].is_monotonic_decreasing for _, group in found.groupby("step"))
    assert found.index.tolist() == list(range(len(found)))
    # A catalogue of many blocks, the last of them not full.
    for block in (3, 7, 29):
        monkeypatch.setattr(duplicates, "BLOCK", block)
        pd.testing.assert_frame_equal(find_near_duplicates(thirty, **thresholds), found)


def test_the_thresholds_divide_the_pairs(thirty):
    """Or the double loop would prove nothing: each stricter one leaves some of the pairs."""
    counts = [len(find_near_duplicates(thirty, max_distance=bits, min_correlation=-1)) for bits in (0, 2, 8, 20, 64)]
    assert counts == sorted(set(counts))
    counts = [len(find_near_duplicates(thirty, max_distance=64, min_correlation=least)) for least in (0.985, 0.9, 0.5)]
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
