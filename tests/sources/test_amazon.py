import gzip
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_downloads import PNG, RED, serving
from test_layouts import LIGHT, killed

from conftest import peak_of
from lookalike.catalog import read_catalog, save_catalog
from lookalike.sources import amazon, load_catalog
from lookalike.sources.amazon import amazon_photos
from lookalike.workspace import Workspace


class Everything(dict):
    """Pages of a site on which every path is the same image."""

    def __init__(self, answer=lambda visit: visit.give(RED)):
        super().__init__()
        self.answer = answer

    def __missing__(self, name):
        return self.answer


@pytest.fixture
def site():
    with serving(Everything()) as site:
        yield site


@pytest.fixture(scope="module")
def lasting_site():
    with serving(Everything()) as site:
        yield site


def write_lines(file, lines):
    """Metadata: each line bytes, text, or a record that becomes JSON; a name that ends in .gz packs
    it.
    """
    lines = [json.dumps(line) if isinstance(line, dict) else line for line in lines]
    data = b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines)
    file.write_bytes(gzip.compress(data) if file.suffix == ".gz" else data)
    return file


def record_2023(site, product, **more):
    """A record as of 2023, as small as it may be."""
    return {
        "parent_asin": product,
        "images": [{"large": site.url(f"{product}.jpg"), "variant": "MAIN"}],
    } | more


def hard_to_pack(site, file, count):
    """Metadata of products with titles that hardly shrink, so that a part of the file is a part of
    the products.
    """
    draw = random.Random(0)
    return write_lines(
        file,
        [record_2023(site, f"B{n}", title=f"{draw.getrandbits(4000):x}") for n in range(count)],
    )


def photos_of(file, folder, **options):
    """The rows as dictionaries without what is always there, and the rejected as pairs."""
    rows, rejected = amazon_photos(
        file, folder, **{"public_only": False, "retries": 0, "workers": 4} | options
    )
    assert list(rejected.columns) == ["image_id", "reason"]
    return rows.astype(object).where(rows.notna(), None), list(
        rejected.itertuples(index=False, name=None)
    )


def files_in(folder):
    return sorted(
        file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()
    )


# --- The three forms of metadata
# -----------------------------------------------------------------------------------


def lines_2014(site):
    sneaker = {
        "asin": "0000000014",
        "imUrl": site.url("sneaker.jpg"),
        "categories": [["Clothing", "Shoes"], ["Sports", "Shoes", "Running"]],
        "title": 'Runner\'s "best" – größer',
        "price": 12.5,
        "related": {"also_bought": ["B1", "B2"]},
    }
    watch = {
        "asin": "B000WATCH1",
        "imUrl": site.url("watch.PNG?size=1"),
        "categories": [["Clothing", "Watches"]],
    }
    return [repr(sneaker), repr(watch)]


def lines_2018(site):
    sneaker = {
        "asin": "0000000014",
        "imageURL": [site.url("small1.jpg"), site.url("small2.jpg")],
        "imageURLHighRes": [site.url("sneaker.jpg"), site.url("large2.jpg")],
        "category": ["Clothing", "Shoes", "Sports", "Running"],
        "main_cat": "Clothing",
        "title": 'Runner\'s "best" – größer',
    }
    watch = {
        "asin": "B000WATCH1",
        "imageURL": [site.url("watch.PNG?size=1")],
        "imageURLHighRes": [],
        "category": ["Watches"],
        "main_cat": "Clothing",
        "title": "",
    }
    return [sneaker, watch]


def lines_2023(site):
    sneaker = {
        "parent_asin": "0000000014",
        "asin": "never read",
        "main_category": "Clothing",
        "categories": ["Clothing", "Shoes", "Sports", "Running"],
        "title": 'Runner\'s "best" – größer',
        "images": [
            {
                "hi_res": site.url("side.jpg"),
                "large": site.url("side2.jpg"),
                "thumb": None,
                "variant": "PT01",
            },
            {
                "hi_res": site.url("sneaker.jpg"),
                "large": site.url("large.jpg"),
                "thumb": None,
                "variant": "MAIN",
            },
        ],
    }
    watch = {
        "parent_asin": "B000WATCH1",
        "main_category": "Clothing",
        "categories": ["Watches"],
        "title": None,
        "images": [
            {"hi_res": None, "large": site.url("watch.PNG?size=1"), "thumb": site.url("tiny.jpg")}
        ],
    }
    return [sneaker, watch]


@pytest.mark.parametrize("name", ["meta.json", "meta.jsonl.gz", "packed without saying so"])
@pytest.mark.parametrize("lines", [lines_2014, lines_2018, lines_2023])
def test_each_year_and_packing_gives_the_same_products(site, tmp_path, lines, name):
    file = write_lines(tmp_path / name, lines(site))
    if name == "packed without saying so":
        file.write_bytes(gzip.compress(file.read_bytes()))
    rows, rejected = photos_of(file, tmp_path / "photos")
    assert rejected == []
    assert (
        rows.to_dict("records")
        == [
            {
                "image_id": "images/0000000014.jpg",
                "product_id": "0000000014",
                "label": "Running",
                "split": None,
                "title": 'Runner\'s "best" – größer',
                "categories": "Clothing > Shoes > Sports > Running",
                "url": site.url("sneaker.jpg"),
            },
            {
                "image_id": "images/B000WATCH1.png",
                "product_id": "B000WATCH1",
                "label": "Watches",
                "split": None,
                "title": None,
                "categories": "Clothing > Watches",
                "url": site.url("watch.PNG?size=1"),
            },
        ]
        or lines is lines_2014
    )
    assert files_in(tmp_path / "photos") == ["images/0000000014.jpg", "images/B000WATCH1.png"]
    assert site.asked == {"sneaker.jpg": 1, "watch.PNG?size=1": 1}


IMAGES = [
    ({"images": [{"hi_res": "H", "large": "L", "thumb": "T"}]}, "H"),
    ({"images": [{"hi_res": None, "large": "L", "thumb": "T"}]}, "L"),
    ({"images": [{"hi_res": "", "large": None, "thumb": "T"}]}, "T"),
    ({"images": [{"hi_res": 7, "large": ["H"], "thumb": "T"}]}, "T"),
    ({"images": [{"large": "other", "variant": "PT01"}, {"large": "L", "variant": "MAIN"}]}, "L"),
    ({"images": [{"hi_res": "other", "variant": "PT01"}, {"large": "L", "variant": "MAIN"}]}, "L"),
    ({"images": [{"large": "L", "variant": "PT01"}, {"large": "other", "variant": "PT02"}]}, "L"),
    ({"images": [None, "text", {"large": "L"}]}, "L"),
    ({"imageURLHighRes": ["H", "other"], "imageURL": ["L"]}, "H"),
    ({"imageURLHighRes": [], "imageURL": ["L", "other"]}, "L"),
    ({"imageURLHighRes": [None, ""], "imageURL": [3, "L"]}, "L"),
    ({"imageURLHighRes": "H", "imageURL": "L"}, "H"),
    ({"images": None, "imageURLHighRes": None, "imageURL": None, "imUrl": "L"}, "L"),
    ({"images": "text", "imUrl": "L"}, "L"),
]


@pytest.mark.parametrize(("images", "chosen"), IMAGES)
def test_the_best_size_of_the_main_image_is_taken(site, tmp_path, images, chosen):
    text = json.dumps({"asin": "B1"} | images)
    for name in "HLT":
        text = text.replace(f'"{name}"', f'"{site.url(name)}"')
    rows, rejected = photos_of(write_lines(tmp_path / "meta.json", [text]), tmp_path)
    assert rejected == []
    assert list(rows["url"]) == [site.url(chosen)]
    assert site.asked == {chosen: 1}


SUFFIXES = {
    "1.jpg": ".jpg",
    "1.JPEG": ".jpeg",
    "1.webp?x=.png": ".webp",
    "1": ".jpg",
    "1.php": ".jpg",
    "1._SL500_": ".jpg",
}


@pytest.mark.parametrize("name", SUFFIXES)
def test_a_file_is_named_after_its_product_and_keeps_the_suffix_of_an_image(site, tmp_path, name):
    line = {"asin": "B00_1", "imUrl": site.url(name)}
    rows, _ = photos_of(write_lines(tmp_path / "meta.json", [line]), tmp_path / "photos")
    assert (
        list(rows["image_id"]) == files_in(tmp_path / "photos") == [f"images/B00_1{SUFFIXES[name]}"]
    )


# --- Categories and labels
# -----------------------------------------------------------------------------------------

CATEGORIES = [
    ({"main_category": "A", "categories": ["B", "C"]}, "A > B > C"),
    ({"main_cat": "A", "category": ["A", "B"]}, "A > B"),
    ({"categories": [["A", "B"], ["A", "C"]]}, "A > B > C"),
    ({"main_category": "A", "categories": []}, "A"),
    ({"main_category": None, "categories": ["B"]}, "B"),
    ({"categories": "A"}, "A"),
    ({"categories": [None, 3, "A", ["B", None, ["C"]], {"D": 1}, ""]}, "A > B"),
    ({"main_category": ["A"], "categories": {"B": 1}}, ""),
    ({"categories": None}, ""),
    ({}, ""),
]


@pytest.mark.parametrize(("fields", "categories"), CATEGORIES)
def test_categories_go_from_the_widest_to_the_deepest_which_is_the_label(
    site, tmp_path, fields, categories
):
    file = write_lines(tmp_path / "meta.jsonl", [record_2023(site, "B1", **fields)])
    rows, rejected = photos_of(file, tmp_path)
    assert rejected == []
    assert list(rows["categories"]) == [categories]
    assert list(rows["label"]) == [categories.split(" > ")[-1] or None]


def test_only_the_wanted_categories_are_taken_whatever_their_case(site, tmp_path):
    categories = {
        "B1": ["Clothing", "SHOES", "Running"],
        "B2": ["Clothing", "Hats"],
        "B3": ["STRASSE"],
        "B4": ["Clothing", "Shoes & Boots"],
        "B5": [],
        "B6": ["shoes"],
    }
    lines = [record_2023(site, product, categories=names) for product, names in categories.items()]
    rows, rejected = photos_of(
        write_lines(tmp_path / "meta.jsonl", lines), tmp_path, labels=["Shoes", "straße"]
    )
    assert rejected == []
    assert dict(zip(rows["product_id"], rows["label"], strict=True)) == {
        "B1": "Shoes",
        "B3": "straße",
        "B6": "Shoes",
    }
    assert set(site.asked) == {"B1.jpg", "B3.jpg", "B6.jpg"}


def test_what_is_not_wanted_is_not_rejected_either(site, tmp_path):
    lines = [
        record_2023(site, "B1", categories=["Shoes"]),
        {"categories": ["Hats"]},
        {"asin": "B3"},
    ]
    rows, rejected = photos_of(
        write_lines(tmp_path / "meta.jsonl", lines), tmp_path, labels=["shoes"]
    )
    assert list(rows["label"]) == ["shoes"]
    assert rejected == []


# --- How much is read
# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_the_limit_ends_the_reading(site, tmp_path, limit):
    lines = [record_2023(site, f"B{number}") for number in range(5)]
    rows, rejected = photos_of(write_lines(tmp_path / "meta.jsonl", lines), tmp_path, limit=limit)
    assert list(rows["product_id"]) == [f"B{number}" for number in range(limit)]
    assert rejected == []
    assert sum(site.asked.values()) == limit


def test_what_comes_after_the_limit_is_not_even_parsed(site, tmp_path):
    lines = [record_2023(site, "B1"), record_2023(site, "B2"), b"\xff\xfe garbage", b"[" * 100_000]
    _, rejected = photos_of(write_lines(tmp_path / "meta.jsonl", lines), tmp_path, limit=2)
    assert rejected == []


def test_a_packed_file_may_be_cut_off_after_the_limit(site, tmp_path):
    """As after a download that was stopped: half of the file holds about half of its 300 products."""
    file = hard_to_pack(site, tmp_path / "meta.jsonl.gz", 300)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    rows, rejected = photos_of(file, tmp_path, limit=100)
    assert len(rows) == 100
    assert rejected == []
    with pytest.raises(ValueError, match=r"meta\.jsonl\.gz is cut off or damaged"):
        photos_of(file, tmp_path, limit=200)


def test_a_product_that_comes_again_counts_once(site, tmp_path):
    lines = [
        record_2023(site, product, title=f"line {n}")
        for n, product in enumerate(["B1", "B1", "B2", "B1", "B3"])
    ]
    rows, rejected = photos_of(write_lines(tmp_path / "meta.jsonl", lines), tmp_path, limit=3)
    assert list(rows["product_id"]) == ["B1", "B2", "B3"]
    assert list(rows["title"]) == ["line 0", "line 2", "line 4"]
    assert rejected == []
    assert site.asked == {"B1.jpg": 1, "B2.jpg": 1, "B3.jpg": 1}


def test_a_second_run_fetches_what_the_first_could_not(site, tmp_path):
    site.pages["B2.jpg"] = lambda visit: visit.give(RED, 404 if site.asked["B2.jpg"] == 1 else 200)
    file = write_lines(
        tmp_path / "meta.jsonl", [record_2023(site, product) for product in ("B1", "B2", "B3")]
    )
    rows, rejected = photos_of(file, tmp_path)
    assert list(rows["product_id"]) == ["B1", "B3"]
    assert list(rows.index) == [0, 1]
    assert rejected == [("images/B2.jpg", f"HTTP 404 ({site.url('B2.jpg')})")]
    rows, rejected = photos_of(file, tmp_path)
    assert list(rows["product_id"]) == ["B1", "B2", "B3"]
    assert rejected == []
    assert site.asked == {"B1.jpg": 1, "B2.jpg": 2, "B3.jpg": 1}


def test_a_higher_limit_adds_to_what_is_there(site, tmp_path):
    file = write_lines(
        tmp_path / "meta.jsonl", [record_2023(site, f"B{number}") for number in range(6)]
    )
    for limit in (2, 6):
        rows, _ = photos_of(file, tmp_path / "photos", limit=limit)
        assert len(rows) == len(files_in(tmp_path / "photos")) == limit
    assert set(site.asked.values()) == {1}


# --- What cannot be read
# -------------------------------------------------------------------------------------------

NO_RECORDS = {
    "text": "no metadata",
    "half a record": '{"asin": "B2", "imUrl": "http',
    "no UTF-8": b'{"asin": "B2", "title": "\xff\xfe"}',
    "zero bytes": b"\0\0\0",
    "a list": "[1, 2]",
    "a number": "7",
    "a string": '"B2"',
    "null": "null",
    "a call": "__import__('os').getcwd()",
    "an expression": "{'asin': 'B' * 1000}",
    "deep lists": "[" * 100_000,
    "a deep expression": "-" * 100_000 + "1",
    "a long number": "1" * 10_000,
    "a key that is a list": "{[1]: 2}",
    "a set of dictionaries": "{{'asin': 'B2'}}",
    "a number too large to be complex": "1" * 400 + "+1j",
}


@pytest.mark.parametrize("line", NO_RECORDS)
def test_a_line_that_is_no_record_is_rejected_by_its_number(site, tmp_path, line):
    lines = [record_2023(site, "B1"), NO_RECORDS[line], record_2023(site, "B3")]
    rows, rejected = photos_of(write_lines(tmp_path / "meta.jsonl.gz", lines), tmp_path)
    assert list(rows["product_id"]) == ["B1", "B3"]
    assert rejected == [("line 2", "neither JSON nor a Python dictionary")]


def test_a_metadata_file_runs_no_code(site, tmp_path):
    trap = tmp_path / "trap"
    lines = [f"{{'asin': open({str(trap)!r}, 'w')}}", record_2023(site, "B2")]
    rows, rejected = photos_of(write_lines(tmp_path / "meta.json", lines), tmp_path / "photos")
    assert not trap.exists()
    assert [name for name, _ in rejected] == ["line 1"]
    assert list(rows["product_id"]) == ["B2"]


def test_empty_lines_are_no_products_but_they_count(site, tmp_path):
    lines = ["", record_2023(site, "B1"), "  \t", "broken", ""]
    rows, rejected = photos_of(write_lines(tmp_path / "meta.jsonl", lines), tmp_path)
    assert list(rows["product_id"]) == ["B1"]
    assert rejected == [("line 4", "neither JSON nor a Python dictionary")]


def test_other_line_ends_and_a_byte_order_mark_do_not_matter(site, tmp_path):
    lines = [json.dumps(record_2023(site, "B1")), json.dumps(record_2023(site, "B2"))]
    file = tmp_path / "meta.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    rows, rejected = photos_of(file, tmp_path)
    assert list(rows["product_id"]) == ["B1", "B2"]
    assert rejected == []


NO_IMAGES = [
    None,
    "text",
    5,
    [],
    [None],
    ["text"],
    [[]],
    [{}],
    [{"large": None}],
    [{"large": 5}],
    {},
    {"large": "x"},
]


@pytest.mark.parametrize("images", NO_IMAGES)
def test_a_product_without_an_image_is_rejected_by_its_line(site, tmp_path, images):
    lines = [record_2023(site, "B1"), record_2023(site, "B2") | {"images": images}]
    rows, rejected = photos_of(write_lines(tmp_path / "meta.jsonl", lines), tmp_path)
    assert list(rows["product_id"]) == ["B1"]
    assert rejected == [("line 2", "product 'B2' has no image")]


@pytest.mark.parametrize("fields", [{}, {"asin": None}, {"asin": ""}, {"asin": 0}, {"asin": []}])
def test_a_product_without_an_id_is_rejected_by_its_line(site, tmp_path, fields):
    lines = [record_2023(site, "B1"), {"imUrl": site.url("2.jpg")} | fields]
    rows, rejected = photos_of(write_lines(tmp_path / "meta.jsonl", lines), tmp_path)
    assert list(rows["product_id"]) == ["B1"]
    assert rejected == [("line 2", "no product id")]
    assert "2.jpg" not in site.asked


STRANGE_IDS = [
    "../../etc/x",
    "..",
    ".",
    "/etc/x",
    "a/b",
    "a\\b",
    "C:",
    "a\0b",
    "a b",
    "a\n",
    "ä",
    "x" * 41,
    "~",
    "$HOME",
]
STRANGE_IDS += ["%2e%2e", ["B2"], {"B2": 1}, 1.5]


@pytest.mark.parametrize("product", STRANGE_IDS)
@pytest.mark.parametrize("field", ["asin", "parent_asin"])
def test_a_product_id_leads_nowhere_else(site, tmp_path, product, field):
    lines = [record_2023(site, "B1"), {field: product, "imUrl": site.url("2.jpg")}]
    file = write_lines(tmp_path / "meta.jsonl", lines)
    rows, rejected = photos_of(file, tmp_path / "deep" / "photos")
    assert list(rows["product_id"]) == ["B1"]
    assert [name for name, _ in rejected] == ["line 2"]
    assert files_in(tmp_path) == ["deep/photos/images/B1.jpg", "meta.jsonl"]
    assert site.asked == {"B1.jpg": 1}


def test_a_strange_product_id_is_named_as_the_reason(site, tmp_path):
    lines = [record_2023(site, "B1"), {"asin": "../x", "imUrl": site.url("2.jpg")}]
    _, ((_, reason),) = photos_of(write_lines(tmp_path / "meta.jsonl", lines), tmp_path)
    assert "../x" in reason
    assert "has no image" not in reason


def test_a_product_id_may_be_a_number(site, tmp_path):
    lines = [{"asin": 1234567890, "imUrl": site.url("1.jpg")}]
    rows, _ = photos_of(write_lines(tmp_path / "meta.jsonl", lines), tmp_path)
    assert list(rows["product_id"]) == ["1234567890"]


NO_ADDRESSES = [
    "text",
    "file:///etc/hostname",
    "ftp://127.0.0.1/1.jpg",
    "http://",
    "http://[",
    "http://[::1",
    "http://a]b/",
]
NO_ADDRESSES += [
    "http://a:99999/",
    "http://a..b/",
    "http://\u2100.example/",
    "http://a\0b/",
    "http://\ud800/",
]


@pytest.mark.parametrize("public_only", [True, False])
@pytest.mark.parametrize("url", NO_ADDRESSES)
def test_an_image_without_a_usable_address_is_rejected(site, tmp_path, url, public_only):
    """Where only public servers are asked, the good one, on this machine, counts as there already."""
    lines = [record_2023(site, "B1"), {"asin": "B2", "imUrl": url}]
    file = write_lines(tmp_path / "meta.jsonl", lines)
    photos_of(file, tmp_path / "photos", limit=1)
    rows, rejected = photos_of(file, tmp_path / "photos", public_only=public_only, seconds=2)
    assert list(rows["product_id"]) == ["B1"]
    assert [name for name, _ in rejected] in (["images/B2.jpg"], ["line 2"])
    assert files_in(tmp_path / "photos") == ["images/B1.jpg"]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("B1"),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(st.sampled_from(["hi_res", "large", "variant", "x"]), inside, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = ["asin", "parent_asin", "images", "imageURL", "imageURLHighRes", "imUrl"]
FIELDS += ["title", "categories", "category", "main_cat", "main_category"]


@settings(max_examples=80, deadline=None)
@given(
    record=st.dictionaries(st.sampled_from(FIELDS), anything),
    wanted=st.sampled_from([(), ("Shoes",)]),
)
@example(record={"parent_asin": "B2", "imUrl": "http://[", "title": ["a", "list"]}, wanted=())
@example(
    record={"parent_asin": "B2", "imUrl": "x", "categories": [[["Shoes"]], {}]}, wanted=("Shoes",)
)
def test_a_record_of_odd_types_never_stops_the_reading(
    lasting_site, tmp_path_factory, record, wanted
):
    folder = tmp_path_factory.mktemp("photos")
    good = record_2023(lasting_site, "GOOD", categories=["Shoes"])
    file = write_lines(folder / "meta.jsonl", [record, good])
    rows, rejected = photos_of(file, folder, labels=wanted, seconds=1)
    assert list(rows["product_id"]) == ["GOOD"]
    assert len(rejected) <= 1
    assert files_in(folder) == ["images/GOOD.jpg", "meta.jsonl"]


@settings(max_examples=60, deadline=None)
@given(line=st.binary(max_size=60).map(lambda line: line.replace(b"\n", b"")))
@example(line=b"\x85")
@example(line=b"{'asin': 'B2', b'asin': 1}")
def test_whatever_a_line_holds_the_next_one_is_read(lasting_site, tmp_path_factory, line):
    folder = tmp_path_factory.mktemp("photos")
    file = write_lines(
        folder / "meta.jsonl",
        [record_2023(lasting_site, "B1"), line, record_2023(lasting_site, "B3")],
    )
    rows, rejected = photos_of(file, folder)
    assert list(rows["product_id"]) == ["B1", "B3"]
    assert [name for name, _ in rejected] == ["line 2"] * bool(line.strip())


@pytest.mark.parametrize("path", ["meta.jsonl", "no/such/meta.jsonl.gz", "."])
def test_a_missing_file_is_named(tmp_path, path):
    with pytest.raises(FileNotFoundError, match="No metadata at"):
        amazon_photos(tmp_path / path, tmp_path)


@pytest.mark.parametrize("share", [0.999, 0.5, 0.01])
def test_a_packed_file_that_is_cut_off_is_named(site, tmp_path, share):
    file = hard_to_pack(site, tmp_path / "meta.jsonl.gz", 50)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(
        ValueError, match=r"meta\.jsonl\.gz is cut off or damaged.*download it again"
    ):
        amazon_photos(file, tmp_path / "photos")
    assert files_in(tmp_path) == ["meta.jsonl.gz"]
    assert not site.asked


DAMAGE = {
    "method": (2, 9),
    "middle": (3000, 0xFF),
    "block type": (18, 0xFF),
    "check sum": (-8, 0xFF),
    "length": (-1, 0xFF),
}


@pytest.mark.parametrize("where", DAMAGE)
def test_a_packed_file_that_is_damaged_is_named(site, tmp_path, where):
    file = hard_to_pack(site, tmp_path / "meta.jsonl.gz", 50)
    place, change = DAMAGE[where]
    data = bytearray(file.read_bytes())
    data[place] ^= change
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"meta\.jsonl\.gz is cut off or damaged"):
        amazon_photos(file, tmp_path / "photos")
    assert not site.asked


def test_a_file_of_which_nothing_fits_is_named_with_what_was_looked_for(site, tmp_path):
    file = write_lines(tmp_path / "meta.jsonl", [record_2023(site, "B1", categories=["Hats"])])
    with pytest.raises(
        ValueError, match=r"meta\.jsonl lists no product of shoes, Boots with an image\."
    ):
        amazon_photos(file, tmp_path, labels=["shoes", "Boots"])
    assert not site.asked


@pytest.mark.parametrize(
    "lines", [[], ["<html>"], [{"asin": "B1"}], [{"imUrl": "http://one.example/1.jpg"}]]
)
def test_a_file_without_any_product_says_what_was_left_out_first(tmp_path, lines):
    file = write_lines(tmp_path / "meta.jsonl", lines)
    with pytest.raises(ValueError, match="line 1" if lines else "no product with an image"):
        amazon_photos(file, tmp_path)


# --- From metadata to catalogue
# ------------------------------------------------------------------------------------


@pytest.fixture
def workspace(tmp_path):
    root = tmp_path / "home"
    (root / "data").mkdir(parents=True)
    return Workspace(root)


@pytest.fixture
def no_guard(monkeypatch):
    """Let the server of the tests, on this machine, count as public."""
    monkeypatch.setattr("lookalike.sources.downloads._refuse_private", lambda _: None)


def test_a_catalogue_refuses_images_on_this_machine_and_says_so(site, tmp_path, workspace):
    file = write_lines(tmp_path / "meta.jsonl", [record_2023(site, "B1"), record_2023(site, "B2")])
    with pytest.raises(ValueError, match=r"127\.0\.0\.1 is not a public address"):
        load_catalog("amazon", file, workspace=workspace)
    assert files_in(workspace.root) == []
    assert site.connections == 0


@pytest.mark.usefixtures("no_guard")
def test_a_catalogue_holds_what_arrived_and_tells_what_did_not(site, tmp_path, workspace):
    site.pages |= {
        "B2.jpg": lambda visit: visit.give(status=410),
        "B4.jpg": lambda visit: visit.give(PNG),
    }
    labels = {
        "B1": ["Clothing", "shoes"],
        "B2": ["SHOES"],
        "B3": ["Cars"],
        "B4": ["Watches"],
        "B5": ["Shoes"],
    }
    lines = [
        record_2023(site, product, categories=names, title=product)
        for product, names in labels.items()
    ]
    file = write_lines(tmp_path / "meta.jsonl.gz", ["broken", *lines])
    options = {"labels": ["Shoes", "Watches"], "limit": 3, "workspace": workspace}
    catalog, rejected = load_catalog("amazon", str(file), **options)
    assert dict(zip(catalog["product_id"], catalog["label"], strict=True)) == {
        "B1": "Shoes",
        "B4": "Watches",
    }
    assert list(rejected["image_id"]) == ["line 1", "images/B2.jpg"]
    assert list(rejected["reason"]) == [
        "neither JSON nor a Python dictionary",
        f"HTTP 410 ({site.url('B2.jpg')})",
    ]
    assert list(catalog["title"]) == ["B1", "B4"]
    assert list(zip(catalog["pixel_width"], catalog["pixel_height"], strict=True)) == [(48, 32)] * 2
    assert all(
        Path(path).is_relative_to(workspace.data) and Path(path).is_file()
        for path in catalog["path"]
    )
    again, _ = load_catalog("amazon", str(file), **options)
    pd.testing.assert_frame_equal(again, catalog)
    assert site.asked == {"B1.jpg": 1, "B2.jpg": 2, "B4.jpg": 1}


@pytest.mark.usefixtures("no_guard")
def test_two_metadata_files_of_one_name_keep_apart(site, tmp_path, workspace):
    for folder, page in (("one", "1.jpg"), ("two", "2.jpg")):
        (tmp_path / folder).mkdir()
        line = {"asin": "B1", "imUrl": site.url(page)}
        catalog, _ = load_catalog(
            "amazon", write_lines(tmp_path / folder / "meta.json", [line]), workspace=workspace
        )
        assert list(catalog["url"]) == [site.url(page)]
    assert site.asked == {"1.jpg": 1, "2.jpg": 1}
    assert len(files_in(workspace.data)) == 2


@pytest.mark.usefixtures("no_guard")
@pytest.mark.parametrize(
    "title", ["plain", 'a "quoted", one\nof two lines', "größer 照片", "half a pair \ud83d", "\0"]
)
def test_a_catalogue_from_amazon_survives_saving(site, tmp_path, workspace, title):
    file = write_lines(
        tmp_path / "meta.jsonl", [record_2023(site, "B1", title=title), record_2023(site, "B2")]
    )
    catalog, _ = load_catalog("amazon", file, workspace=workspace)
    save_catalog(catalog, tmp_path / "catalog.csv")
    again = read_catalog(tmp_path / "catalog.csv")
    assert list(again["image_id"]) == list(catalog["image_id"])
    assert again["title"].iloc[0] == catalog["title"].iloc[0]


# --- A run that is killed
# ------------------------------------------------------------------------------------------

RUN = """
import sys
from lookalike.sources.amazon import amazon_photos
print("ready", flush=True)
amazon_photos(sys.argv[1], sys.argv[2], workers=4, public_only=False)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.soak)])
def test_a_download_killed_at_any_moment_leaves_whole_images_and_goes_on_with_the_others(
    tmp_path, kills
):
    def slowly_in_two_parts(visit):
        visit.head(Content_Length=len(RED))
        visit.wfile.write(RED[:100])
        time.sleep(0.1)
        visit.wfile.write(RED[100:])

    images, draw, names = (
        tmp_path / "photos" / "images",
        random.Random(3),
        [f"B{number}.jpg" for number in range(200)],
    )
    there = {}
    with serving(Everything(slowly_in_two_parts)) as site:
        file = write_lines(
            tmp_path / "meta.jsonl.gz",
            [record_2023(site, name.removesuffix(".jpg")) for name in names],
        )
        for _ in range(kills):
            site.asked.clear()
            assert killed(LIGHT + RUN, file, tmp_path / "photos", after=draw.uniform(0, 4 / kills))
            assert not set(there) & set(site.asked)
            there = {path.name: path.read_bytes() for path in images.glob("B*.jpg")}
            assert set(there.values()) <= {RED}
            while site.under_way:
                time.sleep(0.01)
        assert there
        site.asked.clear()
        rows, rejected = photos_of(file, tmp_path / "photos", workers=32)
    assert rejected == []
    assert len(rows) == 200
    assert site.asked == dict.fromkeys(set(names) - set(there), 1)
    assert {path.name: path.read_bytes() for path in images.iterdir()} == dict.fromkeys(names, RED)


# --- Metadata that is an attack, and disks that are full
# -----------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "reasons"),
    [(b"", []), (b'{"asin": "B2", "title": "', [("line 2", "longer than 5,000,000 bytes")])],
    ids=["blank", "a title"],
)
def test_a_line_without_end_is_rejected_by_its_number_and_takes_no_memory(
    site, tmp_path, start, reasons
):
    """100 MB, packed to 100 kB."""
    first, last = (json.dumps(record_2023(site, product)).encode() for product in ("B1", "B3"))
    with gzip.open(tmp_path / "meta.jsonl.gz", "wb", compresslevel=1) as stream:
        stream.write(first + b"\n" + start)
        for _ in range(100):
            stream.write(b" " * 1_000_000)
        stream.write(b"\n" + last)
    found = []
    assert (
        peak_of(lambda: found.append(photos_of(tmp_path / "meta.jsonl.gz", tmp_path / "photos")))
        < 30_000_000
    )
    [(rows, rejected)] = found
    assert list(rows["product_id"]) == ["B1", "B3"]
    assert rejected == reasons


@pytest.mark.parametrize("extra", [0, 1])
def test_a_line_may_be_as_long_as_the_limit_and_no_longer(site, tmp_path, monkeypatch, extra):
    """With what ends it."""
    lines = [json.dumps(record_2023(site, "B1")), json.dumps(record_2023(site, "B2")) + " " * extra]
    file = write_lines(tmp_path / "meta.jsonl", lines)
    monkeypatch.setattr(amazon, "MAX_LINE", limit := len(lines[0]) + 1)
    rows, rejected = photos_of(file, tmp_path)
    assert list(rows["product_id"]) == ["B1", "B2"][: 2 - extra]
    assert rejected == [("line 2", f"longer than {limit:,} bytes")] * extra


def test_lines_without_end_that_are_no_products_end_the_reading(site, tmp_path):
    file = write_lines(tmp_path / "meta.jsonl.gz", [record_2023(site, "B1"), *["{}"] * 200_000])
    with pytest.raises(
        ValueError, match=r"meta\.jsonl\.gz: 100,021 of 100,023 lines are no product with an image"
    ):
        photos_of(file, tmp_path, limit=2)
    assert not site.asked


def test_two_processes_download_into_one_folder_at_once_and_both_end_well(site, tmp_path):
    names = [f"B{number}" for number in range(150)]
    file = write_lines(tmp_path / "meta.jsonl", [record_2023(site, name) for name in names])
    command = [sys.executable, "-c", LIGHT + RUN, str(file), str(tmp_path / "photos")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "ready\n"
        rows, rejected = photos_of(file, tmp_path / "photos")
        _, errors = other.communicate(timeout=120)
        assert other.returncode == 0, errors
    assert rejected == []
    assert len(rows) == 150
    images = {path.name: path.read_bytes() for path in (tmp_path / "photos" / "images").iterdir()}
    assert images == dict.fromkeys([f"{name}.jpg" for name in names], RED)
