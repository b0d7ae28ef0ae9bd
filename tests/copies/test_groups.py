import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageOps
from scipy.sparse.csgraph import connected_components

from conftest import write_photo
from lookalike.catalog import check_photos
from lookalike.copies import CopyIndex, group_copies
from lookalike.copies.differences import Comparison
from lookalike.images import ImageError

COLUMNS = ["keep", "drop", "step", "difference", "why"]
OTHERS = ("variant", "copy in grey or variant", "stamped copy or variant")


class Invented:
    """An index of files, and what its photos are to each other: {pair of names: Comparison}."""

    def __init__(self, names, paths, told):
        sizes = [Path(path).stat().st_size for path in paths]
        self.catalog = pd.DataFrame({"image_id": names, "path": map(str, paths), "bytes": sizes})
        self.rows, self.told = pd.Index(names), told

    def compare(self, one, other):
        return self.told.get(frozenset([one, other]), Comparison(""))

    def pairs(self, names, step="embedding"):
        """A table of what is told of pairs of names."""
        rows = [(*pair, step, *self.compare(*pair)) for pair in names]
        return pd.DataFrame(rows, columns=["image_id", "other_id", "step", *Comparison._fields])


def textured(side=100):
    """A photo of fine random colours, with no margin."""
    coarse = np.random.default_rng(0).integers(0, 256, (side // 4, side // 4, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.NEAREST)


# --- Any pairs


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Six files, best first: of each size one of more bytes and one of less."""
    folder = tmp_path_factory.mktemp("pool")
    files = [folder / f"{side}.{form}" for side in (48, 32, 16) for form in ("bmp", "png")]
    for file in files:
        textured(int(file.stem)).save(file)
    return files


def any_case(data, pool):
    """An index of up to nine photos, pairs as one would give them, and how good each photo is."""
    count = data.draw(st.integers(1, 7))
    names = [f"photo {number}" for number in data.draw(st.permutations(range(count)))]
    good = [data.draw(st.integers(0, 5)) for _ in names]
    told, named, content = {}, [], []
    for one, other in combinations(names, 2):
        kind = data.draw(st.sampled_from(["copy", "copy", "", *OTHERS]))
        if kind:
            told[frozenset([one, other])] = Comparison(kind, data.draw(st.integers(0, 3)) / 2)
            # Some copies of copies are no candidates.
            named += [(one, other)] * data.draw(st.sampled_from([0, 1, 1]))
    for number in range(data.draw(st.integers(0, 2))):  # and some identical files
        row = data.draw(st.integers(0, count - 1))
        first, again = names[row], f"again {number}"
        told |= {pair ^ {first, again}: one for pair, one in told.items() if first in pair}
        told[frozenset([first, again])] = Comparison("copy", 0.0)
        names.append(again)
        good.append(good[row])
        content.append((first, again))
    index = Invented(names, [pool[place] for place in good], told)
    pairs = pd.concat([index.pairs(named), index.pairs(content, "content")], ignore_index=True)
    places = zip(names, good, strict=True)
    return index, pairs, {name: (place, row) for row, (name, place) in enumerate(places)}


def parts(pairs, names):
    """Which photos hang together by pairs of copies: {name: number}."""
    pairs = pairs[pairs["verdict"] == "copy"]
    linked = pd.crosstab(pairs["image_id"], pairs["other_id"])
    linked = linked.reindex(index=names, columns=names, fill_value=0)
    return dict(zip(names, connected_components(linked.to_numpy(float))[1], strict=True))


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_pairs_are_grouped_around_the_best(pool, data):
    """The same rule, slowly: the best that is left is kept, and its copies among those that hang
    together with it go.
    """
    index, pairs, quality = any_case(data, pool)
    part, expected, left = parts(pairs, [*quality]), {}, sorted(quality, key=quality.get)
    step = {frozenset(pair[:2]): pair[2] for pair in pairs.itertuples(index=False)}
    while left:
        keep, *left = left
        for drop in [one for one in left if part[one] == part[keep]]:
            pair = frozenset([keep, drop])
            if index.compare(keep, drop).verdict == "copy":
                one, other = quality[keep][0], quality[drop][0]
                why = "first" if one == other else "finer" if one // 2 == other // 2 else "larger"
                named = step.get(pair, "copy of a copy")
                why = "identical" if named == "content" else why
                expected[drop] = (keep, named, index.told[pair].difference, why)
                left.remove(drop)

    groups = group_copies(pairs, index)
    assert groups.columns.tolist() == COLUMNS
    assert {row[1]: (row[0], *row[2:]) for row in groups.itertuples(index=False)} == expected
    assert len(groups) == len(expected)  # each goes once
    assert groups["keep"].map(index.rows.get_loc).is_monotonic_increasing
    # What is kept does not go, and of those kept no two are copies.
    kept = {*quality} - {*groups["drop"]}
    assert kept >= {*groups["keep"]}
    for pair in combinations(kept, 2):
        assert index.compare(*pair).verdict != "copy" or part[pair[0]] != part[pair[1]]


# --- What is better


def decision(folder, first, second):
    """Which of two pictures is kept of a pair, and why; the same in either order."""
    files = [folder / "first.png", folder / "second.png"]
    for file, image in zip(files, (first, second), strict=True):
        image.save(file)
    told = {frozenset(["first", "second"]): Comparison("copy", 1.0)}
    kept = set()
    for way in (1, -1):
        index = Invented(["first", "second"][::way], files[::way], told)
        groups = group_copies(index.pairs([("first", "second")]), index)
        kept.add((*groups["keep"], *groups["why"]))
    assert len(kept) == 1
    return kept.pop()


SMOOTH = textured().filter(ImageFilter.GaussianBlur(3))  # of fewer bytes
ROOM = {"frame": 30, "bars above": (0, 60, 0, 60), "a bar": (0, 0, 0, 60), "thin frame": 8}


@pytest.mark.parametrize(
    "first, second, expected",
    [
        (SMOOTH, textured(80), ("first", "larger")),
        (textured(104), SMOOTH, ("second", "finer")),
        (SMOOTH.resize((110, 110)), textured(), ("first", "larger")),
        (Image.new("L", (3, 200)), Image.new("L", (6, 200)), ("second", "larger")),
    ],
)
def test_the_larger_is_kept_and_of_equals_the_one_of_more_bytes(first, second, expected, tmp_path):
    assert decision(tmp_path, first, second) == expected


@pytest.mark.parametrize("room", ROOM.values(), ids=ROOM)
def test_a_margin_of_one_colour_does_not_count_as_size(room, tmp_path):
    colour = "#3060c0"
    framed = ImageOps.expand(textured().resize((90, 90)), room, colour)
    assert decision(tmp_path, framed, textured()) == ("second", "larger")
    larger = ImageOps.expand(textured().resize((120, 120)), room, colour)
    assert decision(tmp_path, larger, textured()) == ("first", "larger")


# --- From files to groups


def indexed(folder):
    """An index of the files of a folder, by their names."""
    names = sorted(path.name for path in folder.iterdir())
    rows = pd.DataFrame({"image_id": names, "path": [str(folder / name) for name in names]})
    return CopyIndex(check_photos(rows.assign(product_id=None, label=None, split=None))[0])


def test_one_photo_in_many_sizes_is_one_group_and_the_largest_stays(tmp_path):
    original = Image.open(write_photo(tmp_path / "400.png", 1, size=400))
    for side in (50, 333, 100, 250, 200):
        original.resize((side, side), Image.Resampling.LANCZOS).save(tmp_path / f"{side}.png")
    shutil.copyfile(tmp_path / "50.png", tmp_path / "50 again.png")
    write_photo(tmp_path / "another.png", 2)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    index = indexed(tmp_path)
    pairs = index.pairs()
    groups = group_copies(pairs, index)
    assert set(groups["keep"]) == {"400.png"}
    assert {*groups["drop"]} == {path.name for path in before} - {"400.png", "another.png"}
    assert set(groups["why"]) == {"larger"}
    assert set(pairs["step"]) == {"perceptual hash", "content"}
    # Nothing is changed on disk or in the table.
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}
    pd.testing.assert_frame_equal(pairs, index.pairs())


def test_of_identical_files_the_first_is_kept(tmp_path):
    for number in range(3):
        write_photo(tmp_path / f"{number}.png", 1)
    index = indexed(tmp_path)
    groups = group_copies(index.pairs(), index)
    assert groups["keep"].tolist() == ["0.png"] * 2
    assert groups["drop"].tolist() == ["1.png", "2.png"]
    assert set(groups["why"]) == {"identical"}


def test_a_photo_that_is_gone_is_named(tmp_path):
    files = [write_photo(tmp_path / f"{number}.png", 1, 40 + number) for number in range(3)]
    index = indexed(tmp_path)
    pairs = index.pairs()
    files[1].unlink()
    with pytest.raises(ImageError, match=r"1\.png: No such file"):
        group_copies(pairs, index)
