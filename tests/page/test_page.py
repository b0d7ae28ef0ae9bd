"""The page, driven in Chromium as people drive it; nothing may go wrong in the console, nothing may
be asked of another host.
"""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from hostile import BAD, GOOD
from PIL import Image

from conftest import make_catalog, page_over, write_photo
from lookalike.copies import SIDE_ARRAYS
from lookalike.embeddings import embed_catalog
from lookalike.images import load_image
from lookalike.page import Service

api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
if not CHROMIUM:
    pytest.skip("Chromium is not installed: apt-get install chromium", allow_module_level=True)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
DESKTOP = {"width": 1280, "height": 1000}
START = "Most alike: click one to search on"
CODE = "<img src=x onerror=\"alert('run')\">"


@pytest.fixture(scope="module")
def browser():
    with api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def two_networks(service, page_store, other_encoder, tmp_path_factory):
    """The address of a page over two networks, and their services."""
    folder = tmp_path_factory.mktemp("other") / "store"
    store = embed_catalog(other_encoder, page_store.catalog, folder, side_arrays=SIDE_ARRAYS)
    services = service, Service(store, other_encoder)
    with page_over(*services) as address:
        yield address, services


@pytest.fixture
def visit(browser, two_networks):
    """Opens the page; afterwards nothing may have gone wrong, or been asked of another host."""
    wrong = []
    contexts = []

    def open_page(address=two_networks[0], viewport=DESKTOP, **options):
        contexts.append(browser.new_context(viewport=viewport, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(15_000)
        ours = (address, "data:", "blob:")
        page.on("console", lambda told: told.type == "error" and wrong.append(told.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda one: one.url.startswith(ours) or wrong.append(one.url))
        page.goto(address)
        gallery(page, START).locator("button").first.wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def page(visit):
    return visit()


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A photo of 300 x 200 pixels that is not in the catalogue."""
    path = write_photo(tmp_path_factory.mktemp("sent") / "photo.png", seed=500, size=300)
    Image.open(path).resize((300, 200)).save(path)
    return path


api.expect.set_options(timeout=20_000)
expect = api.expect


def gallery(page, label):
    """The tiles below a label that is in sight."""
    return field(page, label).locator(".grid-container")


def captions(page, label=START):
    return gallery(page, label).locator(".caption-label")


def expect_tiles(page, table):
    """The gallery shows just what is in the table, in its order."""
    rows = table.itertuples()
    texts = [f"{row.rank} | {row.score:.3f} {row.label} {row.product_id}" for row in rows]
    expect(captions(page)).to_have_text(texts)


def field(page, label):
    return page.locator(f".block:visible:has(> label:has-text('{label}'))")


def send(page, path, label="Your photo"):
    field(page, label).locator("input[type=file]").set_input_files(path)


def go_to(page, tab):
    """On a phone some tabs are behind a button."""
    if not page.get_by_role("tab", name=tab).first.is_visible():
        page.get_by_role("button", name="More tabs").click()
        page.get_by_role("button", name=tab).click()
    else:
        page.get_by_role("tab", name=tab).first.click()


def slide(page, label, key):
    page.get_by_label(f"range slider for {label}").press(key)


def expect_heat(page):
    picture = field(page, "Bright places").locator("img")
    expect(picture).to_have_js_property("complete", True)
    expect(picture).not_to_have_js_property("naturalWidth", 0)


def test_an_upload_finds_what_is_similar_by_every_control(page, photo, two_networks):
    """All of them by the keyboard."""
    service, other = two_networks[1]
    pixels = load_image(photo)
    send(page, photo)
    expect_tiles(page, service.similar(pixels, colour=0.2))
    slide(page, "Shape", "End")
    expect_tiles(page, service.similar(pixels, colour=1))
    slide(page, "How many", "Home")
    expect_tiles(page, service.similar(pixels, 1, colour=1))
    page.get_by_label(other.encoder.name).press("Space")
    expect_tiles(page, other.similar(pixels, 1, colour=1))


def test_two_clicks_cut_the_product_out(page, photo, two_networks):
    service = two_networks[1][0]
    send(page, photo)
    pixels = load_image(photo)
    expect_tiles(page, service.similar(pixels, colour=0.2))
    box = field(page, "Your photo").locator("img").bounding_box()
    scale = min(1, box["width"] / 300, box["height"] / 200)
    left = box["x"] + (box["width"] - 300 * scale) / 2
    top = box["y"] + (box["height"] - 200 * scale) / 2
    page.mouse.click(left + 200.5 * scale, top + 30.5 * scale)
    expect(page.get_by_text("Now click the opposite corner.")).to_be_visible()
    page.wait_for_timeout(500)
    page.mouse.click(left + 40.5 * scale, top + 150.5 * scale)
    expect_tiles(page, service.similar(pixels[30:150, 40:200], colour=0.2))


def test_a_click_searches_on_and_why_shows_both_photos(page, two_networks):
    service = two_networks[1][0]
    first = service.mixed["image_id"].iloc[2]
    gallery(page, START).locator("button").nth(2).click()
    found = service.similar(first, colour=0.2)
    expect_tiles(page, found)
    gallery(page, START).locator("button").nth(2).click()
    expect_tiles(page, service.similar(found["image_id"].iloc[2], colour=0.2))
    slide(page, "Why is this number alike?", "ArrowRight")
    expect_heat(page)


def test_two_photos_are_compared(page, photo, two_networks, tmp_path):
    service = two_networks[1][0]
    go_to(page, "Compare")
    expect(page.get_by_text("Give two photos.")).to_be_visible()
    other = write_photo(tmp_path / "other.png", 501)
    send(page, photo, "First photo")
    expect(page.get_by_label("Remove Image")).to_be_visible()
    page.wait_for_timeout(500)
    send(page, other, "Second photo")
    score, below = service.compare(load_image(photo), load_image(other))
    expect(page.get_by_text(f"Cosine similarity {score:.3f}")).to_be_visible()
    expect(page.get_by_text(f"than {below['other']:.0%} of pairs: other")).to_be_visible()
    expect_heat(page)


def test_a_taste_follows_likes_and_dislikes_of_one_visitor_alone(visit, two_networks):
    service = two_networks[1][0]
    one, other = visit(), visit()
    label = "What you like or dislike"
    for page in (one, other):
        go_to(page, "My taste")

    def expect_taste(votes):
        liked = [image_id for image_id in votes if votes[image_id] == "like"]
        disliked = [image_id for image_id in votes if votes[image_id] == "dislike"]
        others = service.mixed
        if liked:
            others = service.taste(liked, disliked, 24, colour=0.2)
        rows = pd.concat([service.catalog.set_index("image_id").loc[[*votes]], others])
        texts = [*votes.values(), *[""] * len(others)]
        facts = zip(texts, rows["label"], rows["product_id"], strict=True)
        expect(captions(one, label)).to_have_text([" ".join(row).strip() for row in facts])

    tiles = gallery(one, label).locator("button")
    liked = service.mixed["image_id"].iloc[1]
    tiles.nth(1).click()
    expect_taste({liked: "like"})
    second = service.taste([liked], [], 24, colour=0.2)["image_id"].iloc[0]
    tiles.nth(1).click()
    expect_taste({liked: "like", second: "like"})
    tiles.nth(1).click()
    expect_taste({liked: "like", second: "dislike"})
    tiles.nth(1).click()
    expect_taste({liked: "like"})
    gallery(other, label).locator("button").nth(0).click()
    expect(captions(other, label).filter(has_text="like")).to_have_count(1)


def test_an_upload_is_told_to_be_there_or_new(page, photo, page_store):
    go_to(page, "Upload check")
    expect(page.get_by_text("Give a photo.")).to_be_visible()
    send(page, page_store.catalog["path"].iloc[4], "Photo to look up")
    expect(page.get_by_text("Already there: the catalogue has a copy")).to_be_visible()
    expect(captions(page, "In the catalogue").first).to_contain_text("copy")
    page.get_by_label("Remove Image").click()
    expect(page.get_by_text("Give a photo.")).to_be_visible()
    send(page, photo, "Photo to look up")
    expect(page.get_by_text("New: the catalogue has no copy")).to_be_visible()


@pytest.mark.parametrize(
    "name", ["HEIC", "JPEG, on its side", "text", "empty", "PNG, 900 megapixels"]
)
def test_every_file_is_answered_and_the_next_photo_too(page, photo, name, two_networks, tmp_path):
    service = two_networks[1][0]
    file = tmp_path / f"{CODE.replace('/', '')}.jpg"
    file.write_bytes({**GOOD, **BAD}[name])
    send(page, file)
    if name in GOOD:
        expect_tiles(page, service.similar(load_image(file), colour=0.2))
    else:
        expect(page.get_by_text("This photo cannot be used")).to_be_visible()
        assert str(tmp_path) not in page.locator("body").inner_text()
    if name != "empty":  # which Gradio does not show
        page.get_by_label("Remove Image").click()
        expect(captions(page).first).not_to_contain_text("|")
    send(page, photo)
    expect_tiles(page, service.similar(load_image(photo), colour=0.2))


def test_code_is_shown_and_long_names_do_not_stick_out_of_a_phone(visit, encoder, tmp_path, photo):
    catalog = make_catalog(tmp_path / "photos", 12, views=2)
    # Not those of the other page: what is closed deletes its thumbnails.
    for number, path in enumerate(catalog["path"]):
        write_photo(Path(path), 700 + number)
    catalog["product_id"] = [f"{CODE}{product}" for product in catalog["product_id"]]
    catalog["label"] = catalog["label"].map({"a": CODE, "b": "b" * 150, "c": "c"})
    with page_over(
        Service(embed_catalog(encoder, catalog, tmp_path / "store"), encoder)
    ) as address:
        page = visit(address, {"width": 390, "height": 844}, has_touch=True)
        send(page, photo)
        expect(captions(page).first).to_contain_text("1 |")
        expect(captions(page).filter(has_text=f"{CODE}product-0").first).to_be_visible()
        for tab in ("Compare", "My taste", "Upload check", "Find similar"):
            go_to(page, tab)
            page.wait_for_timeout(500)
            assert page.evaluate("document.scrollingElement.scrollWidth") <= 390, tab
