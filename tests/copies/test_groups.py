import shutil
from collections import defaultdict
from itertools import combinations, pairwise, permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageOps

from conftest import ALL_LABELS, write_photo
from lookalike.copies import find_near_duplicates, group_copies
from lookalike.copies.planted import COPIES
from lookalike.images import ImageError
from lookalike.sources import load_catalog

COLUMNS = ["keep", "drop", "step", "score", "why"]
STEPS = ("perceptual hash", "alignment")


def listed(paths):
    return pd.DataFrame(
        {"image_id": [path.name for path in paths], "path": [str(path) for path in paths]}
    )


def paired(*pairs, step="alignment"):
    """A table of pairs, the first of a higher score than the next."""
    rows = [(one, other, step, 0.99 - 0.01 * place) for place, (one, other) in enumerate(pairs)]
    return pd.DataFrame(rows, columns=["image_id", "other_id", "step", "score"])


def textured(side=100, seed=0):
    """A photo of fine random colours, with no margin."""
    coarse = np.random.default_rng(seed).integers(0, 256, (side // 4, side // 4, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.NEAREST)


def decision(folder, first, second):
    """Which of two pictures is kept of a pair, and why; the same in either order of the catalogue."""
    files = [folder / "first.png", folder / "second.png"]
    for file, image in zip(files, (first, second), strict=True):
        image.save(file)
    pairs, catalog = paired(("first.png", "second.png")), listed(files)
    (forth,), (back,) = (
        group_copies(pairs, one).to_dict("records") for one in (catalog, catalog[::-1])
    )
    assert forth == back
    return forth["keep"].removesuffix(".png"), forth["why"]


# --- Any pairs
# ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Six pictures, best first: of each size a sharp one and a blurred one."""
    folder = tmp_path_factory.mktemp("pool")
    files = []
    for side in (48, 32, 16):
        sharp = textured(side)
        for name, image in (
            ("sharp", sharp),
            ("blurred", sharp.filter(ImageFilter.GaussianBlur(1.5))),
        ):
            files.append(folder / f"{side} {name}.png")
            image.save(files[-1])
    return files


def any_case(data, pool):
    """A catalogue with files of the pool, pairs as `find_near_duplicates` gives them, and the place
    of each in it.
    """
    count = data.draw(st.integers(1, 9))
    names = [f"photo {number}" for number in data.draw(st.permutations(range(count)))]
    firsts = []  # of each, the one that it is identical to; most are their own
    for row in range(count):
        first = data.draw(st.integers(0, 2 * row + 1))
        firsts.append(firsts[first] if first < row else row)
    files = [data.draw(st.integers(0, len(pool) - 1)) for _ in range(count)]
    files = [files[first] for first in firsts]
    rows = [
        (names[first], names[row], "content", 1.0)
        for row, first in enumerate(firsts)
        if first != row
    ]
    for one, other in combinations(sorted(set(firsts)), 2):
        if data.draw(st.booleans()):
            step, score = (
                data.draw(st.sampled_from(STEPS)),
                data.draw(st.sampled_from([0.85, 0.9, 0.99, 1.0])),
            )
            rows.append((names[one], names[other], step, score))
    pairs = pd.DataFrame(rows, columns=["image_id", "other_id", "step", "score"])
    catalog = pd.DataFrame({"image_id": names, "path": [str(pool[file]) for file in files]})
    return (
        pairs,
        catalog,
        dict(zip(names, files, strict=True)),
        dict(zip(names, range(count), strict=True)),
    )


def by_hand(pairs, files, place):
    """The same rule, slowly: the best that is left is kept, and its copies among those that are
    left go.
    """
    content = pairs["step"] == "content"
    identical = dict(zip(pairs["other_id"][content], pairs["image_id"][content], strict=True))
    beside = defaultdict(dict)
    for one, other, step, score in pairs[~content].itertuples(index=False):
        beside[one][other] = beside[other][one] = (step, score)
    left, expected = set(beside), {}
    while left:
        best = min(left, key=lambda name: (files[name], place[name]))
        for mate in left & set(beside[best]):
            same_size, same = files[mate] // 2 == files[best] // 2, files[mate] == files[best]
            expected[mate] = (
                best,
                *beside[best][mate],
                "first" if same else "sharper" if same_size else "larger",
            )
        left -= {best, *beside[best]}
    expected |= {
        name: expected.get(first, (first, "content", 1.0, "identical"))
        for name, first in identical.items()
    }
    return expected


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_pairs_are_grouped_around_the_best(pool, data):
    pairs, catalog, files, place = any_case(data, pool)
    groups = group_copies(pairs, catalog)
    assert groups.columns.tolist() == COLUMNS
    found = {row[1]: (row[0], *row[2:]) for row in groups.itertuples(index=False)}
    assert found == by_hand(pairs, files, place)
    assert len(found) == len(groups)  # each goes once
    assert not set(groups["keep"]) & set(groups["drop"])
    order = [
        (place[keep], -score, place[drop])
        for keep, drop, _, score, _ in groups.itertuples(index=False)
    ]
    assert order == sorted(order)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_goes_is_a_copy_of_what_stays_and_of_what_stays_no_two_are_copies(pool, data):
    pairs, catalog, files, _ = any_case(data, pool)
    groups = group_copies(pairs, catalog)
    two = set(zip(pairs["image_id"], pairs["other_id"], strict=True))
    two |= {(other, one) for one, other in two}
    for keep, drop in zip(groups["keep"], groups["drop"], strict=True):
        identical = {
            first
            for first, other, step, _ in pairs.itertuples(index=False)
            if (other, step) == (drop, "content")
        }
        assert any((keep, one) in two or one == keep for one in {drop, *identical})
        assert files[keep] <= files[drop]
    stay = set(catalog["image_id"]) - set(groups["drop"])
    assert not [pair for pair in two if stay.issuperset(pair)]
    assert stay >= set(groups["keep"])
    assert stay >= set(catalog["image_id"]) - set(pairs["image_id"]) - set(pairs["other_id"])


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_order_and_the_sides_of_the_pairs_and_the_index_do_not_matter(pool, data):
    pairs, catalog, *_ = any_case(data, pool)
    groups = group_copies(pairs, catalog)
    shuffled = pairs.sample(frac=1, random_state=data.draw(st.integers(0, 99)))
    sides = shuffled["step"] != "content"
    shuffled.loc[sides, ["image_id", "other_id"]] = shuffled.loc[
        sides, ["other_id", "image_id"]
    ].to_numpy()
    other_index = catalog.set_index(pd.Index([7] * len(catalog)))
    pd.testing.assert_frame_equal(group_copies(shuffled, other_index), groups)


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_a_chain_is_not_one_group(order, tmp_path):
    """A like B, B like C, C like D, whichever is how large."""
    names = ["A.png", "B.png", "C.png", "D.png"]
    sizes = dict(zip(names, order, strict=True))
    files = [write_photo(tmp_path / name, 1, size=40 + 20 * sizes[name]) for name in names]
    chain = list(pairwise(names))
    groups = group_copies(paired(*chain), listed(files))
    found = list(zip(groups["keep"], groups["drop"], strict=True))
    assert set(found) <= {*chain, *(pair[::-1] for pair in chain)}
    assert all(sizes[keep] > sizes[drop] for keep, drop in found)
    assert len(found) == 2
    best = max(names, key=sizes.get)
    beside = [one if best == other else other for one, other in chain if best in (one, other)]
    assert sorted(groups["drop"][groups["keep"] == best]) == beside


def test_no_pairs_make_a_table_that_can_be_worked_with(pool):
    catalog = listed(pool)
    for empty in (
        paired(),
        find_near_duplicates(catalog.head(1)),
        paired().astype({"score": float}),
    ):
        for photos in (catalog, catalog.head(0)):
            groups = group_copies(empty, photos)
            assert groups.columns.tolist() == COLUMNS
            assert len(groups) == 0
            assert groups["score"].max() is np.nan or np.isnan(groups["score"].max())
            assert len(photos[~photos["image_id"].isin(groups["drop"])]) == len(photos)
            assert len(groups.merge(photos, left_on="drop", right_on="image_id")) == 0
            assert not (groups["score"] > 0.5).any()
            assert groups["why"].value_counts().sum() == 0


# --- From files to groups
# ----------------------------------------------------------------------------------------


def test_identical_files_are_one_group_and_the_first_stays(tmp_path):
    first = write_photo(tmp_path / "0.png", 1)
    for number in range(1, 6):
        shutil.copyfile(first, tmp_path / f"{number}.png")
    catalog = listed(sorted(tmp_path.iterdir())[::-1])
    groups = group_copies(find_near_duplicates(catalog), catalog)
    assert groups["keep"].tolist() == ["5.png"] * 5
    assert groups["drop"].tolist() == ["4.png", "3.png", "2.png", "1.png", "0.png"]
    assert set(groups[["step", "score", "why"]].itertuples(index=False, name=None)) == {
        ("content", 1.0, "identical")
    }


def test_one_photo_in_many_sizes_is_one_group_and_the_largest_stays(tmp_path):
    original = Image.open(write_photo(tmp_path / "400.png", 1, size=400))
    for side in (50, 333, 100, 250, 200):
        original.resize((side, side), Image.Resampling.LANCZOS).save(tmp_path / f"{side}.png")
    shutil.copyfile(tmp_path / "50.png", tmp_path / "50 again.png")
    write_photo(tmp_path / "another.png", 2)
    catalog = listed(sorted(tmp_path.iterdir()))
    groups = group_copies(find_near_duplicates(catalog), catalog)
    assert set(groups["keep"]) == {"400.png"}
    assert set(groups["drop"]) == {
        "100.png",
        "200.png",
        "250.png",
        "333.png",
        "50.png",
        "50 again.png",
    }
    assert set(groups["why"]) == {"larger"}
    assert groups["score"].is_monotonic_decreasing


def test_identical_files_go_with_the_one_they_are_identical_to(tmp_path):
    small = write_photo(tmp_path / "small.png", 1, size=40)
    shutil.copyfile(small, tmp_path / "again.png")
    large = write_photo(tmp_path / "large.png", 1, size=80)
    shutil.copyfile(large, tmp_path / "as large.png")
    pairs = pd.concat(
        [
            paired(
                ("small.png", "again.png"), ("large.png", "as large.png"), step="content"
            ).assign(score=1.0),
            paired(("small.png", "large.png"), step="perceptual hash"),
        ]
    )
    groups = group_copies(
        pairs, listed([small, tmp_path / "again.png", large, tmp_path / "as large.png"])
    )
    assert groups.to_numpy().tolist() == [
        ["large.png", "as large.png", "content", 1.0, "identical"],
        ["large.png", "small.png", "perceptual hash", 0.99, "larger"],
        ["large.png", "again.png", "perceptual hash", 0.99, "larger"],
    ]


# --- What is better
# ----------------------------------------------------------------------------------------------


def test_the_larger_is_kept_even_if_it_is_blurred(tmp_path):
    large, small = textured(100).filter(ImageFilter.GaussianBlur(3)), textured(80)
    assert decision(tmp_path, large, small) == ("first", "larger")
    assert decision(tmp_path, small, large) == ("second", "larger")


@pytest.mark.parametrize("radius", [0.5, 1, 3])
def test_of_two_of_one_size_the_sharper_is_kept(radius, tmp_path):
    sharp = textured()
    assert decision(tmp_path, sharp.filter(ImageFilter.GaussianBlur(radius)), sharp) == (
        "second",
        "sharper",
    )


def test_of_equally_good_ones_the_first_of_the_catalogue_is_kept(tmp_path):
    for suffix in ("png", "bmp", "tiff"):
        textured().save(tmp_path / f"photo.{suffix}")
    for files in permutations(sorted(tmp_path.iterdir())):
        names = [file.name for file in files]
        groups = group_copies(paired(*combinations(sorted(names), 2)), listed(files))
        assert groups["keep"].tolist() == names[:1] * 2
        assert set(groups["drop"]) == set(names[1:])
        assert set(groups["why"]) == {"first"}


ROOM = {
    "frame": (30, 30, 30, 30),
    "bars above and below": (0, 60, 0, 60),
    "bars at the sides": (60, 0, 60, 0),
}
ROOM |= {"a bar below": (0, 0, 0, 60), "a thin frame": (8, 8, 8, 8)}


@pytest.mark.parametrize("colour", ["white", "black", "#3060c0"])
@pytest.mark.parametrize("room", ROOM)
def test_a_margin_of_one_colour_does_not_count_as_size(room, colour, tmp_path):
    original = textured(100)
    framed = ImageOps.expand(original.resize((90, 90)), ROOM[room], colour)
    assert framed.width * framed.height > 100 * 100
    assert decision(tmp_path, framed, original) == ("second", "larger")
    larger = ImageOps.expand(original.resize((120, 120)), ROOM[room], colour)
    assert decision(tmp_path, larger, original) == ("first", "larger")


@pytest.fixture(scope="module")
def forty():
    """Forty pictures of all seven labels, most of them on a plain ground."""
    return load_catalog("sample", labels=ALL_LABELS)[0].iloc[::12].head(40)


def kept_against(forty, folder, change):
    """How often an original is kept rather than a changed version of it, and the reasons where not."""
    rows, pairs = [], []
    for number, path in enumerate(forty["path"]):
        image = Image.open(path).convert("RGB")
        image.save(folder / f"{number}.png")
        change(image, folder / f"{number} changed")
        rows += [(f"{name}", str(folder / name)) for name in (f"{number}.png", f"{number} changed")]
        pairs.append((f"{number} changed", f"{number}.png"))
    catalog = pd.DataFrame(rows, columns=["image_id", "path"])
    groups = group_copies(paired(*pairs), catalog)
    assert len(groups) == len(forty)
    lost = groups[groups["keep"].str.endswith("changed")]
    return 1 - len(lost) / len(groups), lost["why"].tolist()


@pytest.mark.parametrize("kind", ["border", pytest.param("screenshot", marks=pytest.mark.soak)])
def test_a_smaller_photo_in_a_frame_or_on_a_screen_is_not_kept(kind, forty, tmp_path):
    """Also if the photo has itself a plain ground, as products often have."""

    def change(image, file):
        small = image.resize([round(0.7 * side) for side in image.size], Image.Resampling.LANCZOS)
        COPIES[kind][0](small, np.random.default_rng(0)).save(file, "PNG")

    share, _ = kept_against(forty, tmp_path, change)
    assert share >= 0.9


@pytest.mark.parametrize(
    "quality", [20, *(pytest.param(one, marks=pytest.mark.soak) for one in (50, 90))]
)
def test_a_photo_saved_anew_is_hardly_ever_larger(quality, forty, tmp_path):
    _, why = kept_against(
        forty, tmp_path, lambda image, file: image.save(file, "JPEG", quality=quality)
    )
    assert why.count("larger") <= 0.1 * len(forty)


def test_a_photo_of_half_the_size_is_never_kept(forty, tmp_path):
    def halve(image, file):
        image.resize([side // 2 for side in image.size], Image.Resampling.LANCZOS).save(file, "PNG")

    assert kept_against(forty, tmp_path, halve) == (1, [])


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (3, 200), (200, 3), (1, 3000), (64, 64)])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA"])
def test_blank_and_tiny_photos_have_their_whole_area(size, mode, tmp_path):
    blank, grown = Image.new(mode, size), Image.new(mode, (2 * size[0], size[1]))
    assert decision(tmp_path, blank, grown) == ("second", "larger")


@pytest.mark.parametrize("size", [(1, 2), (2, 1), (3, 200), (200, 3), (1, 3000)])
def test_tiny_photos_that_are_not_blank_can_be_compared(size, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    grown = Image.fromarray(pixels).resize([2 * side for side in size], Image.Resampling.NEAREST)
    assert decision(tmp_path, Image.fromarray(pixels), grown) == ("second", "larger")


# --- Misuse
# ------------------------------------------------------------------------------------------------------


def test_a_photo_that_is_not_in_the_catalogue_is_named(pool):
    catalog = listed(pool)
    for pair in ((pool[0].name, "nowhere.png"), ("nowhere.png", pool[0].name)):
        for step in ("content", "alignment"):
            with pytest.raises(
                ValueError, match=r"nowhere\.png is in a pair, but not in the catalogue"
            ):
                group_copies(paired(pair, step=step), catalog)


def test_a_photo_that_vanished_or_is_damaged_is_named(tmp_path):
    files = [write_photo(tmp_path / f"{number}.png", number) for number in range(3)]
    pairs = paired(("0.png", "1.png"), ("1.png", "2.png"))
    files[2].write_bytes(b"no photo")
    with pytest.raises(ImageError, match=r"2\.png: not an image"):
        group_copies(pairs, listed(files))
    files[1].unlink()
    with pytest.raises(ImageError, match=r"1\.png: No such file"):
        group_copies(pairs, listed(files))


def test_nothing_is_changed_on_disk_or_in_the_tables(pool):
    catalog, pairs = (
        listed(pool),
        paired((pool[0].name, pool[1].name), (pool[1].name, pool[2].name)),
    )
    before = [
        (path, path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(pool[0].parent.iterdir())
    ]
    tables = catalog.copy(), pairs.copy()
    group_copies(pairs, catalog)
    assert [
        (path, path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(pool[0].parent.iterdir())
    ] == before
    for table, copy in zip((catalog, pairs), tables, strict=True):
        pd.testing.assert_frame_equal(table, copy)
