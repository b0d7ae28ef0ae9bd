"""The page, driven in Chromium as people drive it; nothing may go wrong in the console, nothing may
be asked of another host.
"""

import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hostile import BAD, GOOD
from PIL import Image

from conftest import make_catalog, page_over, write_photo
from lookalike.copies import SIDE_ARRAYS
from lookalike.embeddings import embed_catalog
from lookalike.images import load_image
from lookalike.page import Service

CHROMIUM = shutil.which("chromium")
if not CHROMIUM:
    pytest.skip("Chromium is not installed: apt-get install chromium", allow_module_level=True)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
FLAGS += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
DESKTOP = {"width": 1280, "height": 1000}
PHONE = {"width": 390, "height": 844}
CODE = "<img src=x onerror=\"alert('run')\">"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
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
    """Opens the page; afterwards nothing may have gone wrong in it, or been asked of another host."""
    wrong = []
    contexts = []

    def note(what, is_fine=False):
        if not is_fine:
            wrong.append(str(what))

    def open_page(address=two_networks[0], viewport=DESKTOP, **options):
        contexts.append(browser.new_context(viewport=viewport, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(15_000)
        ours = (address, "data:", "blob:")
        page.on("console", lambda told: note(f"{told.text} {told.location}", told.type != "error"))
        page.on("pageerror", note)
        page.on("dialog", lambda dialog: (note(dialog.message), dialog.dismiss()))
        page.on("request", lambda asked: note(asked.url, asked.url.startswith(ours)))
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


START = "Most alike: click one to search on"


def expect(locator, of=""):
    from playwright.sync_api import expect as expected

    expected.set_options(timeout=20_000)
    return expected(locator, of)


def gallery(page, label):
    """The tiles below a label that is in sight."""
    return page.locator(f".block:visible:has(> label:has-text('{label}')) .grid-container")


def captions(page, label=START):
    return gallery(page, label).locator(".caption-label")


def texts_of(table):
    rows = table.itertuples()
    return [f"{row.rank} | {row.score:.3f}\n{row.label}\n{row.product_id}" for row in rows]


def expect_tiles(page, table, label=START):
    """The gallery shows just what is in the table, in its order."""
    texts = [text.replace("\n", " ") for text in texts_of(table)]
    expect(captions(page, label)).to_have_text(texts)


def send(page, path, label="Your photo"):
    page.locator(
        f".block:visible:has(> label:has-text('{label}')) input[type=file]"
    ).set_input_files(path)


def go_to(page, tab):
    """On a phone some tabs are behind a button."""
    if not page.get_by_role("tab", name=tab).first.is_visible():
        page.get_by_role("button", name="More tabs").click()
        page.get_by_role("button", name=tab).click()
    else:
        page.get_by_role("tab", name=tab).first.click()


def slide(page, label, key, times):
    slider = page.get_by_label(f"range slider for {label}")
    slider.focus()
    for _ in range(times):
        page.keyboard.press(key)


def test_an_upload_finds_what_is_similar_by_every_control(page, photo, two_networks):
    """All of them by the keyboard."""
    service, other = two_networks[1]
    pixels = load_image(photo)
    send(page, photo)
    expect_tiles(page, service.similar(pixels, colour=0.2))
    slide(page, "Shape", "End", 1)
    expect_tiles(page, service.similar(pixels, colour=1))
    slide(page, "Shape", "Home", 1)
    expect_tiles(page, service.similar(pixels))
    slide(page, "How many", "ArrowLeft", 8)
    expect_tiles(page, service.similar(pixels, 4))
    page.get_by_label("euclidean").press("Space")
    expect_tiles(page, service.similar(pixels, 4, metric="euclidean"))
    page.get_by_label("Category").click()
    page.get_by_role("option", name="b", exact=True).click()
    expect_tiles(page, service.similar(pixels, 4, metric="euclidean", label="b"))
    page.get_by_label(other.encoder.name).press("Space")
    expect_tiles(page, other.similar(pixels, 4, metric="euclidean", label="b"))


def shown_photo(page):
    return page.locator(".block:visible:has(> label:has-text('Your photo')) img")


def test_two_clicks_cut_the_product_out(page, photo, two_networks):
    service = two_networks[1][0]
    send(page, photo)
    pixels = load_image(photo)
    expect_tiles(page, service.similar(pixels, colour=0.2))
    box = shown_photo(page).bounding_box()
    scale = min(1, box["width"] / 300, box["height"] / 200)
    left = box["x"] + (box["width"] - 300 * scale) / 2
    top = box["y"] + (box["height"] - 200 * scale) / 2
    page.mouse.click(left + 40.5 * scale, top + 30.5 * scale)
    expect(page.get_by_text("Now click the opposite corner.")).to_be_visible()
    page.mouse.click(left + 200.5 * scale, top + 150.5 * scale)
    expect_tiles(page, service.similar(pixels[30:150, 40:200], colour=0.2))


def test_a_click_searches_on_and_why_shows_both_photos(page, two_networks):
    service = two_networks[1][0]
    first = service.mixed["image_id"].iloc[2]
    gallery(page, START).locator("button").nth(2).click()
    found = service.similar(first, colour=0.2)
    expect_tiles(page, found)
    gallery(page, START).locator("button").nth(2).click()
    expect_tiles(page, service.similar(found["image_id"].iloc[2], colour=0.2))
    slide(page, "Why is this number alike?", "ArrowRight", 1)
    pictures = gallery(page, "Why alike").locator("img")
    expect(pictures).to_have_count(2)
    for picture in pictures.all():
        expect(picture).to_have_js_property("complete", True)
        expect(picture).not_to_have_js_property("naturalWidth", 0)


def test_two_photos_are_compared(page, photo, two_networks, tmp_path):
    service = two_networks[1][0]
    go_to(page, "Compare")
    other = write_photo(tmp_path / "other.png", 501)
    send(page, photo, "First photo")
    expect(page.get_by_text("Give two photos.")).to_be_visible()
    page.wait_for_timeout(500)
    send(page, other, "Second photo")
    score, below = service.compare(load_image(photo), load_image(other))
    expect(page.get_by_text(f"Cosine similarity {score:.3f}")).to_be_visible()
    expect(page.get_by_text(f"than {below['other']:.0%} of pairs: other")).to_be_visible()
    expect(gallery(page, "Why alike").locator("img")).to_have_count(2)
    expect(page.get_by_role("img", name="Plot")).to_be_visible()


def test_a_taste_follows_likes_and_dislikes(page, two_networks):
    service = two_networks[1][0]
    ids = service.mixed["image_id"].tolist()
    go_to(page, "My taste")
    label = "What do you like?"
    choices = gallery(page, label).locator("button")
    expect(choices).to_have_count(12)
    choices.nth(1).click()
    expect_tiles(page, service.taste([ids[1]], colour=0.2), "To your taste")
    expect(captions(page, label).filter(has_text="like")).to_have_count(1)
    page.get_by_label("dislike").check()
    choices.nth(3).click()
    expect_tiles(page, service.taste([ids[1]], [ids[3]], colour=0.2), "To your taste")
    page.get_by_role("button", name="Show others").click()
    expect(captions(page, label).filter(has_text="like")).to_have_count(2)
    expect_tiles(page, service.taste([ids[1]], [ids[3]], colour=0.2), "To your taste")
    page.get_by_label("like", exact=True).check()
    gallery(page, label).locator("button").filter(has_text=re.compile(r"^\s*like")).click()
    expect(gallery(page, "To your taste")).to_have_count(0)


def test_an_upload_is_told_to_be_there_or_new(page, photo, page_store):
    go_to(page, "Upload check")
    send(page, page_store.catalog["path"].iloc[4], "Photo to look up")
    expect(page.get_by_text("Already there")).to_be_visible()
    expect(captions(page, "In the catalogue").first).to_contain_text("the same photo")
    page.get_by_label("Remove Image").click()
    send(page, photo, "Photo to look up")
    expect(page.get_by_text("New: the catalogue has no copy")).to_be_visible()


@pytest.mark.parametrize(
    "name",
    ["HEIC", "JPEG, on its side", "PNG, alpha", "text", "empty", "half a JPEG", "page",
     "PNG, 900 megapixels", "GIF, 20 MB of comments"],
)  # fmt: skip
def test_every_file_is_answered_and_the_next_photo_too(page, photo, name, two_networks, tmp_path):
    service = two_networks[1][0]
    file = tmp_path / f"{CODE.replace('/', '')}.jpg"
    file.write_bytes({**GOOD, **BAD}[name])
    send(page, file)
    if name in GOOD:
        expect_tiles(page, service.similar(load_image(file), colour=0.2))
        page.get_by_label("Remove Image").click()
        expect(captions(page).first).not_to_contain_text("|")
    else:
        expect(
            page.get_by_text(re.compile("This photo (cannot be used|takes too long)"))
        ).to_be_visible()
        assert str(tmp_path) not in page.locator("body").inner_text()
    if page.get_by_label("Remove Image").count():
        page.get_by_label("Remove Image").click()
    send(page, photo)
    expect_tiles(page, service.similar(load_image(photo), colour=0.2))


def test_the_camera_takes_a_photo(visit):
    page = visit(permissions=["camera"])
    page.get_by_label("Capture from camera").click()
    page.get_by_text("Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('video')?.videoWidth > 0")
    page.get_by_label("capture photo").click()
    expect(captions(page).first).to_contain_text("1 |")


def test_one_visitor_does_not_see_what_another_does(visit, photo):
    one, other = visit(), visit()
    before = captions(other).all_inner_texts()
    send(one, photo)
    expect(captions(one).first).to_contain_text("1 |")
    other.wait_for_timeout(500)
    assert captions(other).all_inner_texts() == before
    expect(shown_photo(other)).to_have_count(0)


@contextmanager
def scribbled(folder, encoder):
    """The address of a page over a catalogue whose labels and products are code, or very long."""
    catalog = make_catalog(folder / "photos", 12, views=2)
    for number, path in enumerate(catalog["path"]):  # other photos than those of the other page
        write_photo(Path(path), 700 + number)
    catalog["product_id"] = [f"{CODE}{product}" for product in catalog["product_id"]]
    catalog["label"] = catalog["label"].map({"a": CODE, "b": "b" * 150, "c": "c"})
    store = embed_catalog(encoder, catalog, folder / "store", side_arrays=SIDE_ARRAYS)
    with page_over(Service(store, encoder)) as address:
        yield address


def test_code_is_shown_and_long_names_do_not_stick_out_of_a_phone(visit, encoder, tmp_path, photo):
    with scribbled(tmp_path, encoder) as address:
        page = visit(address, PHONE, has_touch=True)
        send(page, photo)
        expect(captions(page).first).to_contain_text("1 |")
        expect(captions(page).filter(has_text=f"{CODE}product-0").first).to_be_visible()
        for tab in ("Compare", "My taste", "Upload check", "Find similar"):
            go_to(page, tab)
            page.wait_for_timeout(500)
            assert page.evaluate("document.scrollingElement.scrollWidth") <= PHONE["width"], tab


UNNAMED = """() => [...document.querySelectorAll('button, input:not([type=file]), select, [tabindex="0"]')]
  .filter((one) => one.offsetParent)
  .filter((one) => !(one.getAttribute('aria-label') || one.title || one.innerText.trim()
    || (one.labels && one.labels.length) || one.closest('label') || one.getAttribute('aria-labelledby')))
  .map((one) => one.outerHTML.slice(0, 120))"""


def test_whatever_can_be_used_has_a_name(page, photo):
    send(page, photo)
    expect(captions(page).first).to_contain_text("1 |")
    for tab in ("Find similar", "Compare", "My taste", "Upload check"):
        go_to(page, tab)
        page.wait_for_timeout(300)
        assert page.evaluate(UNNAMED) == [], tab
    alts = page.locator("img:visible").evaluate_all("all => all.map((one) => one.alt)")
    assert np.all(alts)
