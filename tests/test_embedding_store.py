"""Stores that were damaged, made to do harm or written long ago.

And what else could run a stranger's code.

`stores/schema_1` and `stores/schema_2` are kept as they were written, and must open for ever. They
were made by:

    STORES, image = Path("stores"), keras.Input((8, 8, 3))
    halves = keras.Model(image, keras.layers.Flatten()(keras.layers.AveragePooling2D((4, 8))(image)), name="halves")
    rows = [("red-blue.png", "p1", "two", "train"), ("white.png", "p2", "one", None)]
    rows += [("shoe/green-black.png", "p1", None, "test")]
    catalog = pd.DataFrame(rows, columns=["image_id", "product_id", "label", "split"])
    catalog.insert(1, "path", [str(STORES / "photos" / name) for name in catalog["image_id"]])
    for path, colours in zip(catalog["path"], ((255, 0, 0, 0, 0, 255), (255,) * 6, (0, 255, 0, 0, 0, 0))):
        pixels = np.repeat(np.uint8(colours).reshape(2, 1, 3), 4, axis=0).repeat(8, axis=1)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    store = embed_catalog(halves, catalog, STORES / "schema_1")
    recipe = {key: store.manifest[key] for key in list(store.manifest)[1 : list(store.manifest).index("n")]}
    hashes = store.manifest["content_hashes"]
    def write(fresh):
        names = ["vectors.parquet/part-00000.parquet", "vectors.parquet/part-00001.parquet"]
        for name, numbers in zip(names, ([2, 0], [1])):
            rows = [(row, catalog["image_id"][row], hashes[row], store.vectors[row]) for row in numbers]
            write_part(rows, fresh / name)
        return names
    publish_store(STORES / "schema_2", recipe, catalog, hashes, write)
    shutil.rmtree(STORES / "photos")
"""

import ast
import json
import os
import pickle
import random
import re
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import PROJECT, make_catalog, skip_without
from lookalike.backbones import build_encoder
from lookalike.embedding_store import check_encoder, open_store, write_part
from lookalike.embeddings import embed_catalog
from lookalike.saving import load_model, save_model
from lookalike.scale import index_store, open_index
from lookalike.workspace import file_hash

STORES = Path(__file__).parent / "stores"
VECTORS = [[255, 0, 0, 0, 0, 255], [255] * 6, [0, 255, 0, 0, 0, 0]]
IDS = ["red-blue.png", "white.png", "shoe/green-black.png"]
ANEW = "Delete the folder and embed again."
IMAGE = keras.Input((8, 8, 3))
HALVES = keras.Model(
    IMAGE, keras.layers.Flatten()(keras.layers.AveragePooling2D((4, 8))(IMAGE)), name="halves"
)


@pytest.fixture
def store(request, tmp_path):
    """A copy of a kept store, of schema 1 if a test does not ask for another."""
    schema = getattr(request, "param", 1)
    if schema == 2:
        skip_without("pyarrow")
    return shutil.copytree(STORES / f"schema_{schema}", tmp_path / "store")


both_schemas = pytest.mark.parametrize("store", [1, 2], indirect=True)
schema_2 = pytest.mark.parametrize("store", [2], indirect=True)


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text())


def edit(folder, **changes):
    """Change a manifest by hand; ... takes a key out."""
    told = {
        key: value for key, value in (manifest_of(folder) | changes).items() if value is not ...
    }
    (folder / "manifest.json").write_text(json.dumps(told))


def replace(folder, name, content):
    """Put another file in a store, and its checksum in the manifest, as one would who means harm."""
    (folder / name).write_bytes(content)
    edit(folder, checksums=manifest_of(folder)["checksums"] | {name: file_hash(folder / name)})


def refused(folder, *words):
    """Why a store does not open; the message must have all words, and say what to do."""
    with pytest.raises(ValueError) as caught:
        open_store(folder)
    for word in (str(folder), *words):
        assert word in str(caught.value)
    assert str(caught.value).endswith((ANEW, "Update Lookalike."))
    return True


def assert_whole(opened):
    assert opened.vectors.tolist() == VECTORS
    assert (opened.vectors.dtype, opened.vectors.shape, len(opened.catalog)) == (
        np.float32,
        (3, 6),
        3,
    )
    assert opened.catalog["image_id"].tolist() == IDS
    assert isinstance(
        opened.manifest["fit"] + opened.manifest["encoder"] + opened.manifest["fingerprint"], str
    )


# --- For ever
# ------------------------------------------------------------------------------------------------------


@both_schemas
def test_a_store_that_was_written_long_ago_opens(store):
    opened = open_store(store)
    assert_whole(opened)
    check_encoder(opened, HALVES)
    assert [
        Path(path).relative_to(store.parent / "photos").as_posix()
        for path in opened.catalog["path"]
    ] == IDS
    assert opened.catalog["product_id"].tolist() == ["p1", "p2", "p1"]
    assert opened.catalog["label"].fillna("none").tolist() == ["two", "one", "none"]
    assert opened.catalog["split"].fillna("none").tolist() == ["train", "none", "test"]
    assert opened.manifest == json.loads((store / "manifest.json").read_text())
    assert [len(key) for key in opened.manifest["content_hashes"]] == [64, 64, 64]


@pytest.mark.parametrize(
    "unsaid", [("engine",), ("engine", "pooling"), ("engine", "pooling", "precision")]
)
def test_a_store_from_before_engines_and_poolings_were_told_opens(store, unsaid):
    edit(store, **dict.fromkeys(unsaid, ...))
    assert_whole(open_store(store))
    assert not set(unsaid) & set(open_store(store).manifest)


def test_a_link_to_a_store_opens(store):
    (store.parent / "link").symlink_to(store)
    assert_whole(open_store(store.parent / "link"))


# --- Damage
# --------------------------------------------------------------------------------------------------------


@both_schemas
@pytest.mark.parametrize("every", [397, pytest.param(3, marks=pytest.mark.soak)])
def test_a_flipped_bit_is_refused_or_lies_where_it_changes_no_vector(store, every):
    """A manifest has no checksum of its own: a bit of it can flip in what names a version, or
    another encoder.
    """
    for file in sorted(file for file in store.rglob("*") if file.is_file()):
        content = file.read_bytes()
        for bit in range(0, 8 * len(content), every):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(damaged)
            if file.name != "manifest.json":
                refused(store, file.name)
                continue
            try:
                assert_whole(open_store(store))
            except ValueError:
                refused(store)
        file.write_bytes(content)
    assert_whole(open_store(store))


@both_schemas
def test_a_cut_empty_or_missing_file_is_refused(store):
    for file in sorted(file for file in store.rglob("*") if file.is_file()):
        content = file.read_bytes()
        for length in (0, 1, len(content) // 2, len(content) - 1):
            file.write_bytes(content[:length])
            refused(store, file.name)
        file.write_bytes(content + b"\0")
        refused(store, file.name)
        file.unlink()
        words = "No embeddings at" if file.name == "manifest.json" else file.name
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            open_store(store)
        file.write_bytes(content)


@both_schemas
def test_a_file_that_is_a_link_is_refused_even_to_the_same_content(store, tmp_path):
    for file in sorted([*store.glob("*"), *store.glob("*/*")]):
        os.rename(file, tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
        refused(store, file.name)
        file.unlink()
        os.rename(tmp_path / "elsewhere", file)
    assert_whole(open_store(store))


@pytest.mark.parametrize("auto", [False, True])
@pytest.mark.parametrize("name", ["manifest.json", "vectors.npy", "catalog.csv"])
def test_embedding_over_a_damaged_store_says_what_to_do_and_changes_nothing(tmp_path, name, auto):
    catalog = make_catalog(tmp_path / "photos", 3)
    folder = embed_catalog(HALVES, catalog, tmp_path / "store").folder
    (folder / name).write_bytes((folder / name).read_bytes()[:-30])
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(ValueError, match=f"{name}.*{ANEW}"):
        embed_catalog(
            HALVES, catalog, folder, **({"precision": "auto", "engine": "auto"} if auto else {})
        )
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    shutil.rmtree(folder)
    assert len(embed_catalog(HALVES, catalog, folder).vectors) == 3


# --- Manifests that were edited
# ------------------------------------------------------------------------------------

NOT_A = {
    str: (None, 1, True, [], {}, float("nan")),
    int: (None, "1", 1.0, True, [], {}, float("nan"), float("inf"), 0, -1),
    list: (None, "x", 1, {}, [], [None], [{}], [float("nan")]),
    dict: (None, "x", 1, [], [["a", "b"]]),
}


@both_schemas
def test_a_key_of_the_manifest_that_is_missing_or_of_another_kind_is_refused_by_its_name(store):
    told = manifest_of(store)
    assert set(map(type, told.values())) == set(NOT_A)
    for key, value in told.items():
        for wrong in NOT_A[type(value)]:
            edit(store, **told | {key: wrong})
            refused(store, key)
        edit(store, **told | {key: ...})
        assert key in ("engine", "precision", "pooling") or refused(store, "manifest.json", key)


@pytest.mark.parametrize(
    "changes",
    [
        {"fit": "squeeze"},
        {"image_size": [8]},
        {"image_size": [8, -8]},
        {"image_size": [8, 8.0]},
        {"image_size": [8, 8, 3]},
        {"n": 2},
        {"n": 4},
        {"content_hashes": ["a", "b"]},
        {"content_hashes": ["a", "b", ["c"]]},
        {"n": 2, "content_hashes": ["a", "b"]},
        {"n": 4, "content_hashes": ["a", "b", "c", "d"]},
        {"dim": 5},
        {"dim": 10**12},
        {"dim": 10**30},
        {"n": 10**30},
        {"schema": 2},
        {"checksums": {}},
        {"checksums": {"catalog.csv": "0"}},
        {"checksums": {"vectors.npy": "0"}},
        {"checksums": {"vectors.npy": None, "catalog.csv": {}}},
    ],
    ids=str,
)
def test_a_manifest_that_does_not_go_with_its_files_is_refused(store, changes):
    edit(store, **changes)
    refused(store)


@both_schemas
@pytest.mark.parametrize(
    "name", ["../secret", "{}/secret", "vectors.parquet/../../secret", "catalog.csv/../../secret"]
)
def test_a_manifest_that_names_a_file_outside_is_refused_before_that_is_read(store, tmp_path, name):
    (tmp_path / "secret").write_bytes(b"secret")
    name = name.format(tmp_path)
    for checksums in (
        manifest_of(store)["checksums"],
        {"catalog.csv": file_hash(store / "catalog.csv")},
    ):
        edit(store, checksums=checksums | {name: file_hash(tmp_path / "secret")})
        refused(store, "manifest.json", "checksums")


@schema_2
@pytest.mark.parametrize(
    "name", ["", ".", "..", "\0", "\ud800", "a" * 300, "part-00002.parquet", "../catalog.csv"]
)
def test_a_part_that_is_no_file_of_the_store_is_refused(store, name):
    edit(store, checksums=manifest_of(store)["checksums"] | {f"vectors.parquet/{name}": "0"})
    refused(store)


NO_OBJECTS = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"3",
    b"NaN",
    b'"text"',
    b"[[1, 2]]",
    b"\xff\xfe",
    b"\x80",
    b"\0",
    b"{}{}",
]
NO_OBJECTS += [b"[" * 99_999, b'{"n":' * 99_999, b"1" * 9_999]


@pytest.mark.parametrize("content", NO_OBJECTS, ids=lambda content: repr(content[:9]))
def test_a_manifest_that_is_no_json_object_is_refused(store, content):
    (store / "manifest.json").write_bytes(content)
    refused(store, "manifest.json")


@both_schemas
def test_a_file_without_a_checksum_is_refused(store):
    checksums = manifest_of(store)["checksums"]
    for name in checksums:
        edit(store, checksums={other: checksums[other] for other in checksums if other != name})
        refused(store)


def test_the_manifest_of_a_newer_schema_asks_for_an_update_whatever_else_it_says(store):
    (store / "manifest.json").write_text('{"schema": 3, "chunks": []}')
    with pytest.raises(ValueError, match=r"schema 3, newer than 2\. Update Lookalike"):
        open_store(store)


NAMES = st.sampled_from(
    ["catalog.csv", "vectors.npy", "vectors.parquet/a.parquet", "..", "/", "schema", "n", "\ud800"]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 9)
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | NAMES
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=4)
    ),
)
EDITS = st.tuples(st.integers(0, 99), st.sampled_from(["set", "drop", "copy"]), VALUES)


def places(node):
    """Every container of a JSON document with each key in it."""
    for key in list(node if isinstance(node, dict) else range(len(node))):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from places(node[key])


@both_schemas
@pytest.mark.parametrize("examples", [60, pytest.param(2000, marks=pytest.mark.soak)])
def test_a_manifest_edited_at_random_is_refused_or_the_store_is_whole(store, examples):
    told = manifest_of(store)

    @settings(max_examples=examples, deadline=None)
    @given(st.lists(EDITS, min_size=1, max_size=4))
    def attack(edits):
        edited = json.loads(json.dumps(told))
        for number, kind, value in edits:
            found = list(places(edited))
            node, key = found[number % len(found)]
            if kind == "set":
                node[key] = value
            elif kind == "copy":
                other, source = found[(number + 7) % len(found)]
                node[key] = json.loads(json.dumps(other[source]))
            elif len(found) > 1:
                del node[key]
        (store / "manifest.json").write_text(json.dumps(edited))
        try:
            assert_whole(open_store(store))
        except ValueError as error:
            assert str(store) in str(error)

    attack()


# --- Vectors, catalogues and parts that were made to do harm
# -------------------------------------------------------


class Payload:
    """What leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path):
    """A file that a payload makes; it must not be there in the end."""
    yield tmp_path / "mark"
    assert not (tmp_path / "mark").exists()


def saved(array, tmp_path):
    np.save(tmp_path / "other.npy", array, allow_pickle=True)
    return (tmp_path / "other.npy").read_bytes()


def headed(header, version=b"\1\0"):
    length = len(header).to_bytes(2 if version == b"\1\0" else 4, "little")
    return b"\x93NUMPY" + version + length + header.encode() + bytes(72)


OBJECTS = "{'descr': '|O', 'fortran_order': False, 'shape': (3, 6)}"
TOUCH = "{'descr': open(MARK, 'w'), 'fortran_order': False, 'shape': (3, 6)}"
SHAPED = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}"


HEADERS = [
    OBJECTS,
    OBJECTS.replace("|O", "V0"),
    TOUCH,
    "",
    "{}",
    "[]",
    "{[]: 1}",
    "(" * 9000,
    "-" * 9000,
    "'''",
]
HEADERS += [
    SHAPED % f"({first}, 6)" for first in (-3, 0, "3.0", "True", "1 << 40", 2**40, 2**62, 10**40)
]
HEADERS += [
    SHAPED % shape for shape in ("()", "(18,)", "(6, 3)", f"({2**62}, {2**62})", "[3, 6]", "None")
]
HEADERS += [
    SHAPED.replace("'<f4'", wrong) % "(3, 6)"
    for wrong in ("[('a', '<f4'), ('a', '<f4')]", "'<M8[z]'", "None")
]


@pytest.mark.parametrize("version", [b"\1\0", b"\2\0", b"\3\0"])
@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header[:60])
# Of numpy, at numbers too large.
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
def test_an_array_whose_header_was_made_up_is_refused(store, mark, header, version):
    replace(store, "vectors.npy", headed(header.replace("MARK", repr(str(mark))), version))
    refused(store, "vectors.npy")


def test_an_array_that_is_not_what_was_written_is_refused(store, tmp_path):
    right = np.array(VECTORS, np.float32)
    for wrong in (
        right.astype(np.float64),
        right.astype(">f4"),
        right.astype(np.int32),
        np.asfortranarray(right),
    ):
        replace(store, "vectors.npy", saved(wrong, tmp_path))
        refused(store, "vectors.npy", "float32 [3, 6]")
    for wrong in (
        right[:2],
        right[:, :5],
        right.ravel(),
        right[None],
        right.T.copy(),
        right.astype("V4"),
    ):
        replace(store, "vectors.npy", saved(wrong, tmp_path))
        refused(store, "vectors.npy")
    np.savez(tmp_path / "many.npz", right)
    replace(store, "vectors.npy", (tmp_path / "many.npz").read_bytes())
    refused(store, "vectors.npy")
    replace(store, "vectors.npy", saved(right, tmp_path))
    assert_whole(open_store(store))


def test_a_pickle_in_place_of_the_vectors_is_never_opened(store, tmp_path, mark):
    objects = np.full((3, 6), Payload(mark), object)
    for content in (pickle.dumps(Payload(mark)), saved(objects, tmp_path)):
        replace(store, "vectors.npy", content)
        refused(store, "vectors.npy")


HEADER = "image_id,path,product_id,label,split"
ROWS = "a,a,a,a,\nb,b,b,b,\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no catalogue"),
        (f"{HEADER}\n{ROWS}", "2 rows for 3 vectors"),
        (f"{HEADER}\n{ROWS}c,c,c,c,\nd,d,d,d,\n", "4 rows for 3 vectors"),
        (f"{HEADER}\n{ROWS}a,c,c,c,\n", "'a' is there twice"),
        (f"{HEADER}\n{ROWS}c,c,c,c,,more\n", "is no catalogue"),
        (f"{HEADER.removesuffix(',split')}\n{ROWS}c,c,c,c,\n", "header"),
        (f"{HEADER},pixel_width\n{ROWS}c,c,c,c,,wide\n", "pixel_width"),
    ],
    ids=lambda value: value[-30:],
)
def test_a_catalogue_that_does_not_go_with_the_vectors_is_refused(store, text, words):
    replace(store, "catalog.csv", text.encode())
    refused(store, "catalog.csv", words)


def test_a_catalogue_may_have_more_columns(store):
    replace(
        store,
        "catalog.csv",
        (f"{HEADER},colour\n" + "".join(f"{name},x,p,l,,red\n" for name in IDS)).encode(),
    )
    assert_whole(open_store(store))


@schema_2
def test_parts_that_were_made_up_are_refused(store, tmp_path):
    import pyarrow
    from pyarrow import parquet

    name, rows = "vectors.parquet/part-00001.parquet", pyarrow.array([1])
    tables = [{"row": rows}, {"vector": pyarrow.array([[1.0] * 6])}, {"row": rows, "vector": rows}]
    tables += [{"row": pyarrow.array(["one"]), "vector": pyarrow.array([[1.0] * 6])}]
    tables += [{"row": pyarrow.array([1.5]), "vector": pyarrow.array([[1.0] * 6])}]
    tables += [
        {"row": rows, "vector": pyarrow.array([[text] * 6])}
        for text in ("x", None, {"a": 1}, [1.0], b"")
    ]
    tables += [
        {"row": rows, "vector": wrong}
        for wrong in (pyarrow.array([[1e300] * 6]), pyarrow.array(["123456"]))
    ]
    for table in tables:
        parquet.write_table(pyarrow.table(table), tmp_path / "other.parquet")
        replace(store, name, (tmp_path / "other.parquet").read_bytes())
        refused(store, name)
    for content in (b"", b"PAR1", b"PAR1" + bytes(99) + b"PAR1", pickle.dumps(0)):
        replace(store, name, content)
        refused(store, name)
    write_part([(1, "", "", np.full(6, 255, np.float32))], store / name)
    replace(store, name, (store / name).read_bytes())
    assert_whole(open_store(store))


@schema_2
@pytest.mark.parametrize(
    "changes", [{"dim": 10**15}, {"dim": 5}, {"n": 2, "content_hashes": ["a"] * 2}, {"schema": 1}]
)
def test_the_manifest_of_other_parts_is_refused_without_making_room_for_them(store, changes):
    edit(store, **changes)
    with pytest.raises(ValueError, match=str(store)):
        open_store(store)


@schema_2
@pytest.mark.parametrize("rounds", [20, pytest.param(2000, marks=pytest.mark.soak)])
def test_a_part_of_damaged_bytes_is_refused_or_its_rows_are_whole(store, rounds):
    """With its checksum made right, so that pyarrow meets the bytes."""
    name, chance = "vectors.parquet/part-00001.parquet", random.Random(0)
    content = (store / name).read_bytes()
    for _ in range(rounds):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        replace(store, name, damaged)
        try:
            assert open_store(store).vectors.shape == (3, 6)
        except ValueError as error:
            assert "part-00001" in str(error) or "has row" in str(error)


# --- Other files that could run code
# -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["keras", "h5", "pickle", "text"])
def test_a_model_with_code_inside_is_refused_and_the_code_does_not_run(tmp_path, mark, kind):
    file, source = tmp_path / "model_recommendation.keras", tmp_path / f"stranger.{kind}"
    save_model(HALVES, file, {"catalogue": "shop", "backbone": "VGG16Slim"})
    layer = keras.layers.Lambda(
        lambda x, mark: (open(mark, "w").close(), x)[1], arguments={"mark": str(mark)}
    )
    stranger = keras.Sequential([keras.Input((8, 8, 3)), layer])
    mark.unlink()  # Keras has run the layer, to see what comes out
    if kind in ("keras", "h5"):
        stranger.save(source)
        mark.unlink(missing_ok=True)
    else:
        source.write_bytes(pickle.dumps(Payload(mark)) if kind == "pickle" else b"text")
    os.replace(source, file)
    with pytest.raises(
        ValueError, match=r"model_recommendation\.keras.*Run 03_fine_tuning\.ipynb again"
    ):
        load_model(file, after="03_fine_tuning.ipynb")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["a.h5", "a.weights.h5", "a.keras"])
def test_of_a_file_of_weights_nothing_else_is_read(tmp_path, mark, name):
    layer = keras.layers.Lambda(
        lambda x, mark: (open(mark, "w").close(), x)[1], arguments={"mark": str(mark)}
    )
    stranger = keras.Sequential([keras.Input((8, 8, 3)), layer, keras.layers.Conv2D(4, 3)])
    (stranger.save_weights if ".weights" in name else stranger.save)(tmp_path / name)
    mark.unlink()
    with pytest.raises(ValueError, match=f"weights in .*{name} do not fit VGG16Slim"):
        build_encoder("VGG16Slim", weights=tmp_path / name, image_size=32)
    (tmp_path / name).write_bytes(pickle.dumps(Payload(mark)))
    with pytest.raises(ValueError, match=f"weights in .*{name} do not fit VGG16Slim"):
        build_encoder("VGG16Slim", weights=tmp_path / name, image_size=32)


@pytest.mark.parametrize("name", ["ids", "vectors"])
def test_a_pickle_inside_an_index_is_never_opened(store, tmp_path, mark, name):
    index_store(open_store(store), "exact").save(tmp_path / "products.index")
    with zipfile.ZipFile(tmp_path / "products.index") as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    members[f"{name}.npy"] = saved(np.full(3, Payload(mark), object), tmp_path)
    with zipfile.ZipFile(tmp_path / "products.index", "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    with pytest.raises(ValueError, match=r"products\.index is no index"):
        open_index(tmp_path / "products.index")


# What runs code when it reads a file, or hands a string to Python; and the places that may.
DANGEROUS = ("joblib", "dill", "cloudpickle", "marshal", "shelve", "yaml", "torch", "pickle")
DANGEROUS += (
    "read_pickle",
    "saved_model.load",
    "TFSMLayer",
    "enable_unsafe_deserialization",
    "eval",
    "exec",
)
ALLOWED = {
    ("src/lookalike/embedding_store.py", "pickle"),  # writes for others
    (
        "src/lookalike/export/formats.py",
        "saved_model.load",
    ),  # of an export, which is as much to be trusted as a program
    ("tests/notebooks/shown.py", "exec"),  # runs what our own cells define
    ("tests/test_embeddings.py", "pickle"),  # reads what was written for others
    ("tests/test_embedding_store.py", "pickle"),  # writes what attacks
    ("tests/notebooks/test_book.py", "yaml"),  # reads our own workflow, by safe_load
    ("tests/test_text.py", "yaml"),  # reads our own workflow, by safe_load
}


def dangers(source, own):
    """The dangerous names that Python source uses; `own`: NumPy must be told there that it shall
    not unpickle.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [one.name for one in node.names]
            )
            yield from {module.split(".")[0] for module in modules} & set(DANGEROUS)
            if modules[0].split(".")[0] in ("keras", "tensorflow"):
                # By its full name it is found below.
                yield from {one.name for one in node.names} & {"load_model"}
        if isinstance(node, ast.Call):
            called, options = (
                ast.unparse(node.func),
                {one.arg: ast.unparse(one.value) for one in node.keywords},
            )
            yield from (name for name in DANGEROUS if called == name or called.endswith(f".{name}"))
            if called.endswith(".load_model") and options.get("safe_mode") != "True":
                yield called
            reads = called in ("np.load", "numpy.load") or called.endswith("format.read_array")
            told = options.get("allow_pickle", None if own and reads else "False")
            if told != "False" and not called.endswith(".save"):
                yield called


FOUND = [
    "import pickle",
    "from joblib import load",
    "import torch.nn",
    "import dill as d",
    "eval(text)",
    "exec(text)",
]
FOUND += [
    "np.load(file)",
    "np.load(file, allow_pickle=True)",
    "f(allow_pickle=trusted)",
    "pd.read_pickle(file)",
]
FOUND += ["keras.models.load_model(file)", "keras.saving.load_model(file, safe_mode=False)"]
FOUND += [
    "from keras.models import load_model",
    "keras.layers.TFSMLayer(file)",
    "tf.saved_model.load(file)",
]


@pytest.mark.parametrize("source", FOUND)
def test_the_search_for_dangers_finds_them(source):
    assert list(dangers(source, own=True))


def test_nothing_in_the_project_reads_what_can_run_code():
    found = set()
    for folder in ("src", "notebooks", "benchmarks", "data/sample", "models", "tests"):
        for file in sorted((PROJECT / folder).rglob("*.*")):
            if file.suffix not in (".py", ".ipynb"):
                continue
            source = file.read_text(encoding="utf-8")
            if file.suffix == ".ipynb":
                cells = [
                    cell for cell in json.loads(source)["cells"] if cell["cell_type"] == "code"
                ]
                lines = [line for cell in cells for line in "".join(cell["source"]).splitlines()]
                source = "\n".join(re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in lines)
            name = file.relative_to(PROJECT).as_posix()
            found |= {(name, danger) for danger in dangers(source, own=folder == "src")}
    assert found == ALLOWED
