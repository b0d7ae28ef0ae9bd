import gzip
import json
import random

import pytest
from test_archives import contents
from test_downloads import PNG, RED, serving

from lookalike.sources import load_catalog
from lookalike.sources.amazon import amazon_photos
from lookalike.workspace import Workspace


@pytest.fixture
def site():
    with serving() as site:
        yield site


def write_lines(file, lines):
    """Metadata: each line text, or a record that becomes JSON; a name that ends in .gz packs it."""
    lines = [json.dumps(line) if isinstance(line, dict) else line for line in lines]
    with (gzip.open if file.suffix == ".gz" else open)(file, "wt", encoding="utf-8") as stream:
        stream.writelines(f"{line}\n" for line in lines)
    return file


def record_2023(site, product, *categories, **more):
    """A record as of 2023, as small as it may be."""
    images = [{"hi_res": None, "large": site.url(f"{product}.jpg"), "variant": "MAIN"}]
    return {"parent_asin": product, "images": images, "categories": list(categories)} | more


TITLE = 'Runner\'s "best" – größer'
PATH = ["Clothing", "Shoes", "Sports", "Running"]


def lines_2014(site):
    paths = [["Clothing", "Shoes"], ["Clothing", "Sports", "Running"]]
    shoe = {"asin": "0000031852", "imUrl": site.url("shoe.jpg"), "categories": paths}
    watch = {"asin": "B000WATCH1", "imUrl": site.url("watch.png"), "categories": [["Watches"]]}
    return [repr(shoe | {"title": TITLE, "related": {"also_bought": ["B1"]}}), repr(watch)]


def lines_2018(site):
    shoe = {"asin": "0000031852", "category": PATH, "main_cat": "Clothing", "title": TITLE}
    shoe |= {"imageURL": [site.url("small.jpg")], "imageURLHighRes": [site.url("shoe.jpg")]}
    watch = {"asin": "B000WATCH1", "category": ["Watches"], "title": "", "imageURLHighRes": []}
    return [shoe, watch | {"imageURL": [site.url("watch.png"), site.url("other.jpg")]}]


def lines_2023(site):
    side = {"hi_res": site.url("side.jpg"), "large": site.url("s.jpg"), "variant": "PT01"}
    main = {"hi_res": site.url("shoe.jpg"), "large": site.url("m.jpg"), "variant": "MAIN"}
    shoe = {"parent_asin": "0000031852", "asin": "never read", "images": [side, main]}
    shoe |= {"main_category": "Clothing", "categories": PATH[1:], "title": TITLE}
    watch = {"hi_res": None, "large": site.url("watch.png"), "variant": "MAIN"}
    return [shoe, record_2023(site, "B000WATCH1", "Watches", images=[watch], title=None)]


@pytest.mark.parametrize(
    ("lines", "name"),
    [(lines_2014, "meta.json.gz"), (lines_2018, "meta.json"), (lines_2023, "meta.jsonl.gz")],
)
def test_each_year_and_packing_gives_the_same_products(site, tmp_path, lines, name):
    site.pages["watch.png"] = PNG
    rows, rejected = amazon_photos(write_lines(tmp_path / name, lines(site)), tmp_path / "photos")
    assert rejected == []
    assert list(rows["product_id"]) == ["0000031852", "B000WATCH1"]
    assert list(rows["image_id"]) == ["images/0000031852.jpg", "images/B000WATCH1.jpg"]
    assert list(rows["path"]) == [str(tmp_path / "photos" / name) for name in rows["image_id"]]
    assert list(rows["label"]) == ["Running", "Watches"]
    assert list(rows["categories"]) == [" > ".join(PATH), "Watches"]
    assert list(rows["url"]) == [site.url("shoe.jpg"), site.url("watch.png")]
    assert rows["title"][0] == TITLE
    assert rows["title"].isna().to_list() == [False, True]
    assert rows["split"].isna().all()
    assert set(contents(tmp_path / "photos" / "images").values()) == {RED, PNG}
    assert site.asked == {"shoe.jpg": 1, "watch.png": 1}


def test_only_the_wanted_categories_are_taken_by_the_deepest_that_fits(site, tmp_path):
    products = {
        "B1": ["Clothing, Shoes & Jewelry", "Men", "SHOES", "Running"],
        "B2": ["Clothing, Shoes & Jewelry", "Hats"],
        "B3": ["Cars"],
        "B4": [],
        "B5": ["shoes", "Hats"],
    }
    lines = [record_2023(site, product, *names) for product, names in products.items()]
    lines += [{"asin": "B6", "categories": ["Cars"]}, record_2023(site, "B7", "Hats", images=[])]
    file = write_lines(tmp_path / "meta.jsonl", lines)
    wanted = ["Clothing, Shoes & Jewelry", "Clothing", "Shoes & Jewelry", "Shoes"]
    rows, rejected = amazon_photos(file, tmp_path, labels=wanted)
    labels = dict(zip(rows["product_id"], rows["label"], strict=True))
    assert labels == {"B1": "SHOES", "B2": "Clothing, Shoes & Jewelry", "B5": "shoes"}
    assert rejected == []
    assert set(site.asked) == {"B1.jpg", "B2.jpg", "B5.jpg"}
    with pytest.raises(ValueError, match=r"meta\.jsonl lists no.*'Boots'"):
        amazon_photos(file, tmp_path, labels=["Boots"])


def test_the_reading_ends_when_there_are_enough_products(site, tmp_path):
    """What comes then may be broken: half of a file holds about half of its 300 products."""
    draw = random.Random(0)
    titles = [f"{draw.getrandbits(4000):x}" for _ in range(300)]
    lines = [record_2023(site, f"B{n // 2}", title=title) for n, title in enumerate(titles)]
    file = write_lines(tmp_path / "meta.jsonl.gz", lines)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    rows, rejected = amazon_photos(file, tmp_path, at_most=50)
    # Each comes twice, and the first counts.
    assert list(rows["title"]) == titles[:100:2]
    assert rejected == []
    with pytest.raises(ValueError, match=r"meta\.jsonl\.gz is cut off or damaged.*download it"):
        amazon_photos(file, tmp_path, at_most=100)
    assert set(site.asked.values()) == {1}


ODD = ["no metadata", '{"asin": "B2", "imUrl": "http', "[1, 2]", "[" * 100_000, "-" * 100_000 + "1"]
ODD += ["__import__('os').getcwd()", {"asin": None}, {"images": ["text"]}, {"imUrl": None}]
ODD += [{"asin": name} for name in ("../../etc/x", "a\\b", "C:", "")]


@pytest.mark.parametrize("line", ODD)
def test_a_line_that_is_no_product_is_rejected_by_its_number(site, tmp_path, line):
    if isinstance(line, dict):
        line = {"asin": "B2", "imUrl": site.url("2.jpg")} | line
    lines = [record_2023(site, "B1"), line, record_2023(site, "B3")]
    rows, ((name, reason),) = amazon_photos(write_lines(tmp_path / "meta.jsonl", lines), tmp_path)
    assert list(rows["product_id"]) == ["B1", "B3"]
    assert name == "line 2"
    assert reason in ("no record of a product", "product 'B2' has no image")
    assert {*contents(tmp_path / "images")} == {"B1.jpg", "B3.jpg"}


def test_a_catalogue_holds_what_arrived_and_what_did_not(site, tmp_path):
    site.pages["B2.jpg"] = 410
    lines = ["broken", *(record_2023(site, f"B{n}", "Shoes", title=f"T{n}") for n in range(4))]
    file = write_lines(tmp_path / "meta.jsonl", lines)
    (tmp_path / "home" / "data").mkdir(parents=True)
    options = {"labels": "shoes", "at_most": 3, "workspace": Workspace(tmp_path / "home")}
    catalog, rejected = load_catalog("amazon", file, **options)
    assert list(catalog["product_id"]) == ["B0", "B1"]
    assert list(catalog["title"]) == ["T0", "T1"]
    assert list(rejected["image_id"]) == ["line 1", "images/B2.jpg"]
    assert all(str(tmp_path / "home" / "data") in path for path in catalog["path"])
