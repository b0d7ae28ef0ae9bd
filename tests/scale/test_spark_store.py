"""Vectors in Parquet: parts are the rows of one array, or refused.

`tests/stores/schema_2` is kept as the first edition wrote it, and must open for ever.
"""

import json
import random
import shutil
import sys

import keras
import numpy as np
import pytest

from conftest import PROJECT, skip_without
from lookalike.embeddings import check_encoder, open_store
from lookalike.scale import open_spark_store
from lookalike.scale.spark_store import read_parts
from lookalike.workspace import file_hash

skip_without("pyarrow")
KEPT = PROJECT / "tests" / "stores"
VECTORS = [[255, 0, 0, 0, 0, 255], [255] * 6, [0, 255, 0, 0, 0, 0]]
IDS = ["red-blue.png", "white.png", "shoe/green-black.png"]
PART = "vectors.parquet/part-00001.parquet"
ONES = [[1.0] * 6]


@pytest.fixture
def store(tmp_path):
    return shutil.copytree(KEPT / "schema_2", tmp_path / "store")


def edit(folder, **changes):
    """Change a manifest by hand."""
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))
    return manifest


def replace(folder, content):
    """Put another part in a store, and its checksum in the manifest, as one would who means
    harm.
    """
    (folder / PART).write_bytes(content)
    edit(folder, checksums=edit(folder)["checksums"] | {PART: file_hash(folder / PART)})


def table_of(columns):
    """A Parquet file of columns, as bytes."""
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), sink := pyarrow.BufferOutputStream())
    return sink.getvalue().to_pybytes()


def floats(vectors):
    import pyarrow

    return pyarrow.array(vectors, pyarrow.list_(pyarrow.float32()))


def parts_of(tmp_path, *parts, key="row"):
    """Files with a part each, of (name, vector)."""
    files = [tmp_path / f"part-{number}.parquet" for number in range(len(parts))]
    for file, rows in zip(files, parts, strict=True):
        names, vectors = zip(*rows, strict=True)
        file.write_bytes(table_of({"image_id": names, key: names, "vector": floats(vectors)}))
    return files


# --- Stores of the first edition
# -----------------------------------------------------------------


def test_a_store_that_was_written_long_ago_opens(store):
    opened = open_spark_store(store)
    assert opened.vectors.tolist() == VECTORS
    assert opened.vectors.dtype == np.float32
    assert opened.catalog["image_id"].tolist() == IDS
    assert opened.catalog["split"].fillna("none").tolist() == ["train", "none", "test"]
    assert [len(key) for key in opened.manifest["content_hashes"]] == [64, 64, 64]
    image = keras.Input((8, 8, 3))
    halves = keras.layers.Flatten()(keras.layers.AveragePooling2D((4, 8))(image))
    check_encoder(opened, keras.Model(image, halves, name="halves"))


def test_each_door_names_the_other_or_what_is_missing(store, tmp_path):
    with pytest.raises(ValueError, match=r"store cannot be opened: .*lookalike\.scale"):
        open_store(store)
    with pytest.raises(ValueError, match="its schema is 1"):
        open_spark_store(KEPT / "schema_1")
    with pytest.raises(FileNotFoundError, match="No embeddings at"):
        open_spark_store(tmp_path / "nothing")


def test_a_changed_or_missing_part_is_refused_and_pyarrow_asked_for(store, monkeypatch):
    content = (store / PART).read_bytes()
    (store / PART).write_bytes(content[:-1] + b"?")
    with pytest.raises(ValueError, match=f"{store} cannot be opened: {PART} has been changed"):
        open_spark_store(store)
    (store / PART).unlink()
    with pytest.raises(ValueError, match=PART):
        open_spark_store(store)
    (store / PART).write_bytes(content)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        open_spark_store(store)


@pytest.mark.parametrize(
    "changes",
    [{"dim": 10**15}, {"dim": 5}, {"n": 2}, {"n": 10**30}, {"n": "3"}, {"n": None}, {"schema": 1}],
    ids=str,
)
def test_the_manifest_of_other_parts_is_refused_without_making_room_for_them(store, changes):
    edit(store, **changes)
    with pytest.raises(ValueError, match=str(store)):
        open_spark_store(store)


@pytest.mark.parametrize(
    "columns",
    [
        {"row": [1]},
        {"vector": ONES},
        {"row": [1], "vector": [1]},
        {"row": ["one"], "vector": ONES},
        {"row": [1.5], "vector": ONES},
        {"row": [[1]], "vector": ONES},
        *({"row": [1], "vector": [[wrong] * 6]} for wrong in ("x", None, {"a": 1}, [1.0], b"")),
        {"row": [1], "vector": [[1e300] * 6]},
        {"row": [1], "vector": ["123456"]},
    ],
    ids=str,
)
def test_a_part_that_was_made_up_is_refused(store, columns):
    replace(store, table_of(columns))
    with pytest.raises(ValueError, match=str(store)):
        open_spark_store(store)


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1" + bytes(99) + b"PAR1", b"\x80\x04K\x00."]
)
def test_what_is_no_parquet_is_refused_by_its_name(store, content):
    replace(store, content)
    with pytest.raises(ValueError, match=f"{PART} is no Parquet of vectors"):
        open_spark_store(store)


@pytest.mark.parametrize("rounds", [20, pytest.param(2000, marks=pytest.mark.soak)])
def test_a_part_of_damaged_bytes_is_refused_or_its_rows_are_whole(store, rounds):
    """With its checksum made right, so that pyarrow meets the bytes."""
    chance = random.Random(0)
    content = (store / PART).read_bytes()
    for _ in range(rounds):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        replace(store, damaged)
        try:
            assert open_spark_store(store).vectors.shape == (3, 6)
        except ValueError as error:
            assert "part-00001" in str(error) or "is missing" in str(error)


# --- Parts
# -----------------------------------------------------------------


@pytest.mark.parametrize(("key", "names"), [("row", [0, 1, 2]), ("path", ["b", "a", "ü\n%"])])
def test_parts_are_read_in_any_order_of_rows(tmp_path, key, names):
    first, second, third = zip(names, ([1, 2], [3, 4], [5, 6]), strict=True)
    files = parts_of(tmp_path, [third, first], [second], key=key)
    vectors = read_parts(files, key, names, 2)
    np.testing.assert_array_equal(vectors, [[1, 2], [3, 4], [5, 6]])
    assert (vectors.dtype, vectors.flags["C_CONTIGUOUS"]) == (np.float32, True)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, [1, 2])], "row 1 is missing"),
        ([(0, [1, 2]), (1, [1, 2]), (1, [1, 2])], "row 1 is there twice"),
        ([(0, [1, 2]), (2, [1, 2])], "row 2 is there twice, or none of them"),
        ([(0, [1, 2]), (-1, [1, 2])], "row -1 is there twice, or none of them"),
        ([(0, [1, 2]), (None, [1, 2])], "row None is there twice, or none of them"),
        ([(0, [1, 2]), (1, [1, 2, 3])], "row 1 is not 2 finite numbers"),
        ([(0, [1]), (1, [1, 2, 3])], "row 0 is not 2 finite numbers"),
        ([(0, [1, 2]), (1, None)], "row 1 is not 2 finite numbers"),
        ([(0, [1, 2]), (1, [1, None])], "row 1 is not 2 finite numbers"),
        ([(0, [1, np.nan]), (1, [1, 2])], "row 0 is not 2 finite numbers"),
        ([(0, [1, 2]), (1, [np.inf, 2])], "row 1 is not 2 finite numbers"),
    ],
)
@pytest.mark.parametrize("split", [False, True])
def test_parts_that_are_not_the_rows_of_one_array_are_refused(tmp_path, rows, message, split):
    files = parts_of(tmp_path, *([[row] for row in rows] if split else [rows]))
    with pytest.raises(ValueError, match=message):
        read_parts(files, "row", range(2), 2)


def test_no_part_at_all_is_refused():
    with pytest.raises(ValueError, match="row 0 is missing"):
        read_parts([], "row", range(1), 2)
