"""The page, driven in Chromium as people drive it; nothing may go wrong in the console, nothing
leave the machine.
"""

import base64
import io
import re
import shutil
import struct
import zlib
from contextlib import closing
from itertools import pairwise
from threading import Event
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance

from conftest import make_catalog, write_photo
from lookalike.copies import CopyIndex
from lookalike.embeddings import embed_catalog, embed_images
from lookalike.page import Service, build_app
from lookalike.page.handlers import MOST, NO_CAMERA, NO_PAIR, NO_QUERY
from lookalike.recommend import recommend

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SEARCH, FIRST, SECOND, LOOK_UP = (
    f"Choose {what}"
    for what in (
        "a photo to search with",
        "the first photo",
        "the second photo",
        "a photo to look up",
    )
)
TABS = ("Find similar", "Compare", "My taste", "Upload check")
CODE = "<img src=x onerror=alert(1)>${7*7}{{7*7}}`${alert(1)}`</script>'\""


@pytest.fixture(scope="module")
def playwright():
    if CHROMIUM is None:
        pytest.skip("needs Chromium: no chromium, chromium-browser or google-chrome on the PATH")
    api = pytest.importorskip(
        "playwright.sync_api", reason="needs Playwright: pip install playwright"
    )
    with api.sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def scribbled(tmp_path_factory, encoder):
    """The address of a page over a catalogue whose names, labels and products are code, or very
    long.
    """
    folder = tmp_path_factory.mktemp("scribbled")
    catalog = make_catalog(folder / "photos", 12, views=2)
    catalog["image_id"] = [f'{CODE}">{image_id}' for image_id in catalog["image_id"]]
    catalog["product_id"] = [f"{CODE}{product}" for product in catalog["product_id"]]
    catalog["label"] = catalog["label"].map({"a": CODE, "b": "b" * 150, "c": "c"})
    page = build_app(embed_catalog(encoder, catalog, folder / "store"), encoder)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True)
    yield url.rstrip("/")
    page.close()


@pytest.fixture(scope="module")
def browser(served, scribbled, playwright):
    with closing(playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)) as launched:
        yield launched


@pytest.fixture(scope="module")
def filming(playwright):
    """A browser with a camera."""
    with closing(
        playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS + CAMERA)
    ) as launched:
        yield launched


@pytest.fixture(scope="module")
def tabs():
    """Pages that are open, by how they were opened; to load one anew takes half the time of another
    browser's.
    """
    opened = {}
    yield opened
    for page in opened.values():
        page.context.close()


@pytest.fixture
def visit(served, browser, tabs):
    """Opens the page; afterwards nothing may have gone wrong in it, or been asked of another host."""
    used, wrong = [], []

    def ours(url, page):
        address = page.url if page.url != "about:blank" else url  # which is being opened
        return (
            urlsplit(url).scheme in ("data", "blob")
            or urlsplit(url).netloc == urlsplit(address).netloc
        )

    def watch(page):
        def note(kind, what, fine=False):
            if not fine:
                page.wrong.append(f"{kind}: {what}")

        page.set_default_timeout(10_000)
        page.on(
            "console",
            lambda message: note("console", message.text, message.type not in ("error", "warning")),
        )
        page.on("pageerror", lambda error: note("page error", error))
        page.on("dialog", lambda dialog: (note("dialog", dialog.message), dialog.dismiss()))
        page.on("request", lambda asked: note("another host", asked.url, ours(asked.url, page)))
        page.on("websocket", lambda socket: note("socket", socket.url, ours(socket.url, page)))
        # The stream of answers is closed by the page itself, once all have come.
        page.on(
            "requestfailed", lambda asked: note("failed", asked.url, "/queue/data" in asked.url)
        )
        page.on(
            "response",
            lambda answer: note(f"status {answer.status}", answer.url, answer.status < 400),
        )

    def open_page(address=served, browser=browser, **options):
        options = {"viewport": DESKTOP} | options
        how = (address, browser, len(used), repr(options))
        if how not in tabs:
            tabs[how] = browser.new_context(**options).new_page()
            tabs[how].wrong = []
            watch(tabs[how])
        page = tabs[how]
        page.wrong = wrong
        used.append(page)
        page.goto(address)
        page.locator(".lk-drop:visible").wait_for()
        return page

    yield open_page
    for page in used:
        page.wrong = []  # what is still under way is broken off, and the page tells of that
        page.goto("about:blank")
    assert wrong == []


@pytest.fixture
def page(visit):
    return visit()


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A JPEG of 90 x 60 pixels that is not in the catalogue."""
    path = write_photo(tmp_path_factory.mktemp("sent") / "photo.jpg", seed=500, size=90)
    Image.open(path).resize((90, 60)).save(path)
    return path


def expect(locator, of=""):
    from playwright.sync_api import expect as expected

    expected.set_options(timeout=20_000)
    return expected(locator, of)


def go_to(page, tab):
    page.get_by_role("tab", name=tab).click()


def send(page, path, name=SEARCH):
    page.get_by_label(name).set_input_files(path)


def expect_results(page, table):
    """The gallery shows just what is in the table, in its order."""
    told = [
        f"{row.rank} {row.score:.3f} {row.label} {row.product_id}" for row in table.itertuples()
    ]
    expect(page.locator("ol.lk-gallery:visible .lk-facts")).to_have_text(told, use_inner_text=True)


def expect_taste(page, table):
    told = [
        f"{row.rank} {row.score:.3f} {row.label} {row.product_id}" for row in table.itertuples()
    ]
    expect(page.get_by_role("list", name="To your taste").locator(".lk-facts")).to_have_text(
        told, use_inner_text=True
    )


def expect_loaded(pictures, count):
    expect(pictures).to_have_count(count)
    assert all(
        pictures.evaluate_all("all => all.map((one) => one.complete && one.naturalWidth > 0)")
    )


def focused(page):
    """The name of what has the keyboard's focus."""
    return page.evaluate(
        "() => { const one = document.activeElement;"
        "return one.getAttribute('aria-label') || (one.labels && one.labels[0] || one).innerText.trim(); }"
    )


def tab_to(page, name, most=60):
    """Press Tab until what has that name has the focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if focused(page) == name:
            return
    raise AssertionError(f"{name!r} is not reached by {most} presses of Tab")


def test_an_uploaded_photo_finds_what_recommend_finds_by_metric_and_category(
    page, photo, page_store, encoder
):
    expect(page.locator(".lk-empty:visible")).to_have_text(NO_QUERY)
    send(page, photo)
    expect_results(page, recommend(page_store, str(photo), 12, encoder=encoder))
    expect(page.get_by_role("heading", name="12 most alike by cosine similarity")).to_be_visible()
    expect_loaded(page.locator("ol.lk-gallery img"), 12)
    expect_loaded(page.get_by_alt_text("Your photo, as the encoder sees it"), 1)
    page.get_by_label("euclidean").check()
    expect_results(page, recommend(page_store, str(photo), 12, encoder=encoder, metric="euclidean"))
    expect(page.get_by_role("heading", name="12 most alike by Euclidean distance")).to_be_visible()
    page.get_by_label("Category").click()
    page.get_by_role("option", name="b", exact=True).click()
    of_b = {"encoder": encoder, "where": {"label": "b"}}
    expect_results(page, recommend(page_store, str(photo), 12, metric="euclidean", **of_b))
    page.get_by_label("cosine").check()
    expect_results(page, recommend(page_store, str(photo), 12, **of_b))
    expect(page.locator(".lk-label")).to_have_text(["b"] * 12)
    page.get_by_label("Category").click()
    page.get_by_role("option", name="any", exact=True).click()
    expect_results(page, recommend(page_store, str(photo), 12, encoder=encoder))


def test_how_many_can_be_typed_dragged_and_set_by_the_keyboard_and_is_moved_into_its_range(
    page, photo, page_store, encoder
):
    found = recommend(page_store, str(photo), MOST, encoder=encoder)
    number, slider = (
        page.get_by_label("number input for How many"),
        page.get_by_label("range slider for How many"),
    )
    send(page, photo)
    expect_results(page, found.head(12))
    number.fill("5")
    number.press("Enter")
    expect_results(page, found.head(5))
    number.press("ArrowUp")
    expect_results(page, found.head(6))
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect_results(page, found.head(7))
    page.keyboard.press("Home")
    expect_results(page, found.head(1))
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 1, box["y"] + box["height"] / 2)
    expect_results(page, found)
    page.get_by_label("Reset to default value").click()
    expect_results(page, found.head(12))
    for typed, shown in (("999", MOST), ("-3", 1), ("3.7", 4)):
        number.fill(typed)
        number.press("Tab")
        expect_results(page, found.head(shown))
    number.fill("")
    expect_results(page, found.head(12))
    number.press("Tab")
    expect_results(page, found.head(1))
    expect(page.get_by_text("Error")).to_have_count(0)


def test_a_photo_of_the_catalogue_and_a_result_are_searched_from_and_not_found_again(
    page, page_store
):
    start = page.get_by_role("button", name="Take").first
    image_id = start.get_attribute("data-id")
    start.click()
    found = recommend(page_store, image_id, 12)
    expect_results(page, found)
    assert image_id not in set(found["image_id"])
    for rank in (3, 1):
        page.get_by_role("button", name=f"Search from number {rank},").click()
        row = found.iloc[rank - 1]
        found = recommend(page_store, row["image_id"], 12)
        expect_results(page, found)
        expect(page.locator(".lk-preview:visible")).to_have_text(
            f"{row['label']}, {row['product_id']}"
        )
        assert row["image_id"] not in set(found["image_id"])


def test_why_alike_shows_both_photos_and_their_maps_and_goes_when_others_are_found(
    page, photo, page_store, encoder
):
    send(page, photo)
    found = recommend(page_store, str(photo), 12, encoder=encoder)
    for rank in (2, 12):
        row = found.iloc[rank - 1]
        page.get_by_role("button", name=f"Why is number {rank} alike?").click()
        expect(page.locator(".lk-heat figcaption")).to_have_text(
            ["Your photo", f"{row['label']}, {row['product_id']}"]
        )
        expect_loaded(page.locator(".lk-heat img"), 4)
        expect(page.get_by_role("heading", name="Why alike?")).to_be_in_viewport()
        expect(page.get_by_role("heading", name="Why alike?")).to_be_focused()
    page.get_by_label("euclidean").check()
    expect(page.locator(".lk-heat")).to_have_count(0)


BYTES_TO = """([selector, kind, encoded, type, name]) => {
    const bytes = Uint8Array.from(atob(encoded), (one) => one.charCodeAt(0));
    const data = new DataTransfer();
    if (type) data.items.add(new File([bytes], name, { type })); else data.setData('text/plain', 'only text');
    const to = selector ? [...document.querySelectorAll(selector)].find((one) => one.offsetParent) : document;
    const common = { bubbles: true, cancelable: true };
    to.dispatchEvent(kind === 'paste' ? new ClipboardEvent(kind, { clipboardData: data, ...common })
        : new DragEvent(kind, { dataTransfer: data, ...common }));
}"""


def hand_over(page, kind, path, selector="", mime="image/jpeg", name="photo.jpg"):
    encoded = base64.b64encode(path.read_bytes()).decode() if path else ""
    page.evaluate(BYTES_TO, [selector, kind, encoded, mime, name])


def test_a_photo_can_be_dropped_and_pasted(page, photo, page_store, encoder, tmp_path):
    other = write_photo(tmp_path / "other.jpg", seed=501)
    hand_over(page, "dragover", photo, ".lk-drop")
    expect(page.locator(".lk-drop.lk-over")).to_have_count(1)
    hand_over(page, "drop", photo, ".lk-drop")
    expect_results(page, recommend(page_store, str(photo), 12, encoder=encoder))
    expect(page.locator(".lk-drop.lk-over")).to_have_count(0)
    hand_over(page, "paste", None, mime="")  # text
    hand_over(page, "paste", other)
    expect_results(page, recommend(page_store, str(other), 12, encoder=encoder))
    hand_over(page, "drop", None, ".lk-drop", mime="")  # text, or a picture dragged within a page
    expect_results(page, recommend(page_store, str(other), 12, encoder=encoder))


def test_a_paste_fills_the_photo_that_is_missing_else_that_which_has_the_focus(
    page, photo, tmp_path, page_store, encoder
):
    other = write_photo(tmp_path / "other.jpg", seed=501)
    vectors = embed_images(encoder, [str(photo), str(other)], fit=page_store.manifest["fit"])
    score = f"{cosine(*vectors):.3f}"
    go_to(page, "Compare")
    hand_over(page, "paste", photo)
    expect(page.locator(".lk-drop:visible img")).to_have_count(1)
    hand_over(page, "paste", photo)
    expect(page.locator(".lk-big strong")).to_have_text("1.000")
    page.get_by_label(SECOND).focus()
    hand_over(page, "paste", other)
    expect(page.locator(".lk-big strong")).to_have_text(score)
    page.get_by_label(FIRST).focus()
    hand_over(page, "paste", other)
    expect(page.locator(".lk-big strong")).to_have_text("1.000")


def cosine(first, second):
    first, second = first.astype(np.float64), second.astype(np.float64)
    return first @ second / np.linalg.norm(first) / np.linalg.norm(second)


STREAMS = """() => {
    const devices = navigator.mediaDevices, open = devices.getUserMedia.bind(devices);
    window.streams = [];
    devices.getUserMedia = async (wish) => { const got = await open(wish); window.streams.push(got); return got; };
}"""
LIVE = "() => window.streams.flatMap((one) => one.getTracks()).filter((one) => one.readyState === 'live').length"
SEES = (
    "() => [...document.querySelectorAll('video')].some((one) => !one.hidden && one.videoWidth > 0)"
)


def test_the_camera_takes_a_photo_and_stops(visit, filming):
    page = visit(browser=filming)
    page.evaluate(STREAMS)
    page.get_by_role("button", name="Camera").click()
    page.wait_for_function(SEES)
    expect(page.get_by_role("button", name="Take it")).to_be_focused()
    assert page.evaluate(LIVE) == 1
    page.get_by_role("button", name="Take it").click()
    expect(page.locator("ol.lk-gallery li")).to_have_count(12)
    expect(page.locator("video:visible")).to_have_count(0)
    assert page.evaluate(LIVE) == 0
    page.get_by_role("button", name="Camera").click()
    page.wait_for_function(SEES)
    page.get_by_role("button", name="Close camera").click()
    expect(page.locator("video:visible")).to_have_count(0)
    expect(page.get_by_role("button", name="Camera")).to_be_visible()
    assert page.evaluate(LIVE) == 0


def test_the_camera_films_no_longer_when_another_photo_is_chosen(visit, filming, photo):
    page = visit(browser=filming)
    page.evaluate(STREAMS)
    for choose in (
        page.get_by_role("button", name="Take").first.click,
        lambda: send(page, photo),
        page.get_by_role("button", name="Search from number 1,").click,
        page.get_by_role("button", name="Clear").click,
    ):
        page.get_by_role("button", name="Camera").click()
        page.wait_for_function(SEES)
        choose()
        expect(page.locator("video:visible")).to_have_count(0)
        expect(page.get_by_role("button", name="Camera")).to_be_visible()
        page.wait_for_function(f"() => ({LIVE})() === 0")


def test_two_presses_of_camera_leave_one_stream(visit, filming):
    page = visit(browser=filming)
    page.evaluate(STREAMS)
    page.get_by_role("button", name="Camera").evaluate("one => { one.click(); one.click(); }")
    page.wait_for_function("() => window.streams.length === 2")
    page.wait_for_function(f"() => ({LIVE})() === 1")
    page.wait_for_function(SEES)


def test_without_a_camera_the_page_says_so_and_a_file_still_works(page, photo, page_store, encoder):
    page.get_by_role("button", name="Camera").click()  # this browser has none
    expect(page.get_by_role("alert")).to_have_text(NO_CAMERA)
    send(page, photo)
    expect_results(page, recommend(page_store, str(photo), 12, encoder=encoder))
    expect(page.get_by_role("alert")).to_have_count(0)


def test_of_photos_given_in_quick_succession_the_last_counts(
    page, photo, page_store, encoder, tmp_path
):
    others = [write_photo(tmp_path / f"{seed}.jpg", seed) for seed in (501, 502)]
    for one in (*others, photo):
        send(page, one)
    expect_results(page, recommend(page_store, str(photo), 12, encoder=encoder))
    send(page, others[0])
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".lk-empty:visible")).to_have_text(NO_QUERY)
    expect(page.locator(".lk-preview:visible")).to_have_count(0)
    send(page, others[1])
    expect_results(page, recommend(page_store, str(others[1]), 12, encoder=encoder))


def test_clear_empties_the_field_and_the_results(page, photo):
    expect(page.get_by_role("button", name="Clear")).to_have_count(0)
    send(page, photo)
    page.get_by_role("button", name="Why is number 1 alike?").click()
    expect(page.locator(".lk-heat img")).to_have_count(4)
    page.get_by_role("button", name="Clear").press("Enter")
    expect(page.locator(".lk-empty:visible")).to_have_text(NO_QUERY)
    expect(
        page.locator(".lk-drop:visible img, .lk-gallery:visible, .lk-heat:visible")
    ).to_have_count(0)
    expect(page.get_by_label(SEARCH)).to_be_focused()
    send(page, photo)  # the same file again
    expect(page.locator("ol.lk-gallery li")).to_have_count(12)


def test_two_photos_are_compared_with_each_other_and_with_the_catalogue(
    page, photo, page_store, encoder
):
    own = page_store.catalog["path"].iloc[7]
    go_to(page, "Compare")
    send(page, photo, FIRST)
    expect(page.get_by_alt_text("Your photo").first).to_be_visible()
    expect(page.locator(".lk-empty:visible")).to_have_text(NO_PAIR)
    send(page, own, SECOND)
    vectors = embed_images(encoder, [str(photo), own], fit=page_store.manifest["fit"])
    expect(page.locator(".lk-big strong")).to_have_text(f"{cosine(*vectors):.3f}")
    sentences = page.locator(".lk-strip-row p")
    shares = [
        re.fullmatch(r"More alike than (\S+) of [\d,]+ pairs of (.+)\.", one)
        for one in sentences.all_inner_texts()
    ]
    kinds = [
        "two photos of one product",
        "two products of one label",
        "two products that share no label",
    ]
    assert [one[2] for one in shares] == kinds
    assert all(re.fullmatch(r"all|none|[1-9]\d?%", one[1]) for one in shares)
    for sentence in sentences.all_inner_texts():
        expect(page.get_by_role("img", name=sentence)).to_be_visible()
    expect_loaded(page.locator(".lk-heat img"), 4)
    send(page, own, FIRST)  # the same photo twice: nothing is more alike
    expect(page.locator(".lk-big strong")).to_have_text("1.000")
    page.get_by_role("button", name="Clear").first.click()
    expect(page.locator(".lk-empty:visible")).to_have_text(NO_PAIR)
    expect(page.locator(".lk-heat:visible")).to_have_count(0)


def test_two_photos_of_the_catalogue_are_compared_without_their_files(page, page_store):
    go_to(page, "Compare")
    ids = []
    for place, strip in enumerate(
        page.get_by_role("list", name="Photos of the catalogue").all()[-2:]
    ):
        ids.append(strip.locator("button").nth(3 * place).get_attribute("data-id"))
        strip.locator("button").nth(3 * place).click()
        expect(page.locator(".lk-preview:visible")).to_have_count(place + 1)
    rows = [page_store.catalog["image_id"].tolist().index(image_id) for image_id in ids]
    assert rows[0] != rows[1]
    expect(page.locator(".lk-big strong")).to_have_text(f"{cosine(*page_store.vectors[rows]):.3f}")
    expect_loaded(page.locator(".lk-heat img"), 4)


def test_on_a_phone_the_way_to_what_was_found_is_short(visit, photo):
    page = visit(viewport=PHONE, has_touch=True)
    send(page, photo)
    expect(page.locator("ol.lk-gallery li").first).to_be_in_viewport()
    page.get_by_role("button", name="Why is number 1 alike?").click()
    expect(page.get_by_role("heading", name="Why alike?")).to_be_focused()
    expect(page.get_by_role("heading", name="Why alike?")).to_be_in_viewport()
    go_to(page, "My taste")
    page.locator("[data-event=like]").nth(0).click()
    page.get_by_role("button", name="1 liked").click()
    expect(page.get_by_role("list", name="To your taste").locator("li").first).to_be_in_viewport()


def test_a_taste_is_what_recommend_makes_of_the_likes_and_dislikes(page, page_store):
    go_to(page, "My taste")
    choices = page.get_by_role("list", name="What do you like?")
    likes, dislikes = (choices.locator(f"[data-event={how}]") for how in ("like", "dislike"))
    expect(likes).to_have_count(12)
    first, second, third = (likes.nth(place).get_attribute("data-id") for place in (0, 1, 4))
    likes.nth(0).click()
    expect_taste(page, recommend(page_store, [first], 12, other_products=True))
    likes.nth(1).click()
    expect_taste(page, recommend(page_store, [first, second], 12, other_products=True))
    dislikes.nth(4).click()
    expect_taste(
        page, recommend(page_store, [first, second], 12, disliked=[third], other_products=True)
    )
    pressed = choices.locator("[aria-pressed=true]")
    assert [one.get_attribute("data-id") for one in pressed.all()] == [first, second, third]
    assert [one.get_attribute("data-event") for one in pressed.all()] == ["like", "like", "dislike"]
    assert choices.locator("[aria-pressed=false]").count() == 21
    likes.nth(4).click()  # from disliked to liked
    expect(dislikes.nth(4)).to_have_attribute("aria-pressed", "false")
    expect_taste(page, recommend(page_store, [first, second, third], 12, other_products=True))
    likes.nth(4).click()  # and taken back
    expect(likes.nth(4)).to_have_attribute("aria-pressed", "false")
    expect_taste(page, recommend(page_store, [first, second], 12, other_products=True))
    page.get_by_role("button", name="Take back").first.click()
    expect_taste(page, recommend(page_store, [second], 12, other_products=True))
    expect(likes.nth(0)).to_have_attribute("aria-pressed", "false")
    page.get_by_role("list", name="To your taste").locator("[data-event=like]").first.click()
    best = recommend(page_store, [second], 1, other_products=True)["image_id"][0]
    expect_taste(page, recommend(page_store, [second, best], 12, other_products=True))


def test_others_are_shown_to_choose_from_and_the_taste_stays(page, page_store):
    go_to(page, "My taste")
    shown = page.get_by_role("list", name="What do you like?").locator(".lk-product")
    before = shown.all_inner_texts()
    like = page.locator("[data-event=like]").first
    liked = like.get_attribute("data-id")
    like.click()
    page.get_by_role("button", name="Show others").click()
    expect(shown.first).not_to_have_text(before[0])
    after = shown.all_inner_texts()
    products = page_store.catalog["product_id"]
    assert set(before) | set(after) == set(products)
    assert len(set(before)) == len(set(after)) == 12
    expect_taste(page, recommend(page_store, [liked], 12, other_products=True))


AT_ONCE = """async (wait) => {
    const [likes, dislikes] = ['like', 'dislike'].map((how) => document.querySelectorAll(`[data-event=${how}]`));
    for (const one of [likes[0], likes[1], dislikes[4], likes[2], document.querySelector('[data-event=more]')]) {
        one.click();
        if (wait !== null) await new Promise((go) => setTimeout(go, wait));
    }
}"""


@pytest.mark.parametrize("wait", [None, 30], ids=["in one stroke", "while one is answered"])
def test_every_vote_counts_however_quickly_they_come(page, page_store, wait):
    go_to(page, "My taste")
    shown = page.get_by_role("list", name="What do you like?").locator("[data-event=like]")
    expect(shown).to_have_count(12)
    ids = [one.get_attribute("data-id") for one in shown.all()]
    page.evaluate(AT_ONCE, wait)
    liked, disliked = ids[:3], [ids[4]]
    expect_taste(page, recommend(page_store, liked, 12, disliked=disliked, other_products=True))
    expect(shown.first).not_to_have_attribute("data-id", ids[0])  # and others are shown
    forget = page.locator("[data-event=forget]")
    assert [one.get_attribute("data-id") for one in forget.all()] == liked + disliked


def held(monkeypatch, name, which=lambda *values: True):
    """Makes questions to the service wait: an event that is set once one does, and the event that
    they wait for.
    """
    under_way, go, method = Event(), Event(), getattr(Service, name)

    def slow(service, *values, **options):
        if which(*values):
            under_way.set()
            assert go.wait(20)
        return method(service, *values, **options)

    monkeypatch.setattr(Service, name, slow)
    return under_way, go


def test_a_late_answer_to_an_older_vote_does_not_stay(page, monkeypatch):
    """A question of each of the two lists is under way, and the older is answered last."""
    under_way, go = held(monkeypatch, "taste", lambda liked, _: len(liked) == 2)
    go_to(page, "My taste")
    likes = page.get_by_role("list", name="What do you like?").locator("[data-event=like]")
    likes.nth(0).click()
    best = page.get_by_role("list", name="To your taste").locator("[data-event=like]").first
    expect(best).to_be_visible()
    likes.nth(1).click()
    assert under_way.wait(10)
    best.click()
    taken_back = page.get_by_role("button", name="Take back")
    expect(taken_back).to_have_count(3)
    with page.expect_response("**/queue/join**"):  # as the older answer has come, it is asked again
        go.set()
    expect(taken_back).to_have_count(3)


def test_what_is_chosen_while_another_is_answered_counts(page, photo, page_store, monkeypatch):
    start = page.locator(".lk-starts:visible [data-event=search]").nth(3)
    under_way, go = held(monkeypatch, "prepare")
    send(page, photo)
    assert under_way.wait(10)
    start.click()
    go.set()
    found = recommend(page_store, start.get_attribute("data-id"), 12)
    expect_results(page, found)
    under_way, go = held(monkeypatch, "why")
    why = page.locator("[data-event=why]")
    why.nth(0).click()
    assert under_way.wait(10)
    why.nth(3).click()
    go.set()
    expect(page.locator(".lk-heat figcaption").nth(1)).to_have_text(
        re.compile(f"{found['product_id'][3]}$")
    )


def test_one_visitor_does_not_see_what_another_does(visit, photo):
    one, other = visit(), visit()
    send(one, photo)
    expect(one.locator("ol.lk-gallery li")).to_have_count(12)
    go_to(one, "My taste")
    one.locator("[data-event=like]").first.click()
    expect(one.locator("[aria-pressed=true]")).to_have_count(1)
    other.reload()
    other.locator(".lk-drop:visible").wait_for()
    expect(other.locator(".lk-preview")).to_have_count(0)
    go_to(other, "My taste")
    other.locator("[data-event=like]").nth(3).click()
    expect(other.locator("[aria-pressed=true]")).to_have_count(1)
    expect(other.get_by_role("button", name="Take back")).to_have_count(1)


def test_an_upload_is_told_to_be_there_or_new(page, photo, page_store, encoder, tmp_path):
    own = page_store.catalog["path"].iloc[5]
    edited = tmp_path / "edited.jpg"
    ImageEnhance.Brightness(Image.open(own)).enhance(1.2).save(edited, quality=80)
    index = CopyIndex(page_store, encoder)
    go_to(page, "Upload check")
    for path in (own, str(edited)):
        table = index.look_up(path)
        assert table["image_id"].tolist() == ["005.png"]
        send(page, path, LOOK_UP)
        expect(page.locator(".lk-card .lk-hint")).to_have_text(["the same photo"])
        expect(page.locator("h2:visible")).to_have_text(
            "Already there: a copy of a photo in the catalogue."
        )
        expect(page.locator(".lk-card:visible .lk-facts")).to_have_text(
            ["c product-2"], use_inner_text=True
        )
    send(page, photo, LOOK_UP)
    expect(page.locator("h2:visible")).to_have_text("New: the catalogue has no copy of this photo.")
    expect(page.locator(".lk-card:visible")).to_have_count(0)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(side):
    """A PNG that claims to be of so many grey pixels, in less than 2 kB."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = (
        chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1_000_000)))
        + chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + body


def saved(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, photo):
    """Files that are no photo to be read, by name, with a pattern of the sentence that each is
    answered with.
    """
    folder = tmp_path_factory.mktemp("hostile")
    still = Image.open(photo)
    frames = {"save_all": True, "append_images": [still.rotate(90), still.rotate(180)]}
    not_image, damaged, animation = (
        "This file is not an image",
        "This photo is damaged",
        "This is an animation",
    )
    files = {
        "text.jpg": (b"This is a text, not a photo.\n" * 100, not_image),
        "empty.jpg": (b"", "This file is empty"),
        "large.jpg": (
            photo.read_bytes() + bytes(11_000_000),
            r"This file has 11,\d{3},\d{3} bytes; at most 10,000,000 \(10 MB\) are read",
        ),
        "wide.jpg": (
            saved(Image.new("L", (7000, 6000), 90), "JPEG"),
            r"7,000 x 6,000 pixels, 42 megapixels; at most 40",
        ),
        "bomb.png": (bomb(30_000), r"claims to be more than 170 megapixels: too much memory"),
        "smaller bomb.png": (bomb(12_000), r"claims to be 12,000 x 12,000 pixels: too much memory"),
        "truncated.jpg": (photo.read_bytes()[:-200], damaged),
        "cut header.jpg": (photo.read_bytes()[:20], f"{damaged}|{not_image}"),
        "animated.gif": (saved(still, "GIF", **frames), animation),
        "animated.webp": (saved(still, "WEBP", **frames), animation),
        "animated.png": (saved(still, "PNG", **frames), animation),
        "drawing.svg": (
            b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
            not_image,
        ),
        "paper.pdf": (saved(still, "PDF"), not_image),
        f"{CODE.replace('/', '')}.jpg": (b"<script>alert(1)</script>", not_image),
    }
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    return {folder / name: re.compile(sentence) for name, (_, sentence) in files.items()}


FIELDS = [
    ("Find similar", SEARCH),
    ("Compare", FIRST),
    ("Compare", SECOND),
    ("Upload check", LOOK_UP),
]


@pytest.mark.parametrize(
    "step", [10, pytest.param(1, marks=pytest.mark.soak)], ids=["some in each field", "all"]
)
def test_every_wrong_file_is_answered_with_its_sentence_and_a_good_one_still_works(
    page, photo, hostile, step
):
    alert, preview = page.locator("[role=alert]:visible"), page.locator(".lk-preview:visible")
    for place, (tab, name) in enumerate(FIELDS):
        go_to(page, tab)
        for path, sentence in [*hostile.items()][place % step :: step]:
            send(page, path, name)
            expect(alert, path.name).to_have_text(sentence)
            expect(preview).to_have_count(0)
            told = page.locator("body").inner_text()
            assert str(path.parent) not in told
            assert "Traceback" not in told
            send(page, photo, name)  # the next sentence may be the same
            expect(preview, path.name).to_have_count(1)
            expect(alert).to_have_count(0)
        if name == FIRST:
            page.get_by_role("button", name="Clear").click()
            expect(preview).to_have_count(0)


def test_a_wrong_file_takes_the_place_of_the_photo_and_its_results(page, photo, hostile):
    send(page, photo)
    expect(page.locator("ol.lk-gallery li")).to_have_count(12)
    send(page, next(iter(hostile)))
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator(".lk-empty:visible")).to_have_text(NO_QUERY)


def test_all_of_find_can_be_done_by_the_keyboard(page, photo, page_store, encoder):
    found = recommend(page_store, str(photo), MOST, encoder=encoder)
    for tab in TABS:
        tab_to(page, tab)
    tab_to(page, SEARCH)
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(photo)
    expect_results(page, found.head(12))
    assert focused(page) == SEARCH
    tab_to(page, "Clear")
    tab_to(page, "range slider for How many")
    page.keyboard.press("ArrowLeft")
    expect_results(page, found.head(11))
    tab_to(page, "euclidean")
    page.keyboard.press("Space")
    expect_results(page, recommend(page_store, str(photo), 11, encoder=encoder, metric="euclidean"))
    tab_to(page, "Category")
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_label("Category")).not_to_have_value("any")
    label = page.get_by_label("Category").input_value()
    found = recommend(
        page_store, str(photo), 11, encoder=encoder, metric="euclidean", where={"label": label}
    )
    expect_results(page, found)
    second = page.get_by_role("button", name="Search from number 2,").get_attribute("aria-label")
    tab_to(page, "Why is number 1 alike?")
    page.keyboard.press("Enter")
    expect(page.locator(".lk-heat img")).to_have_count(4)
    tab_to(page, second)
    page.keyboard.press("Enter")
    by_second = {"metric": "euclidean", "where": {"label": label}}
    expect_results(page, recommend(page_store, found["image_id"][1], 11, **by_second))
    tab_to(page, "Compare")
    page.keyboard.press("Enter")
    expect(page.get_by_label(FIRST)).to_be_visible()


def test_a_vote_by_the_keyboard_leaves_the_focus_where_it_was(page):
    go_to(page, "My taste")
    like = page.locator("[data-event=like]").nth(2)
    name = like.get_attribute("aria-label")
    tab_to(page, name)
    page.keyboard.press("Space")
    expect(like).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("list", name="To your taste")).to_be_visible()
    assert focused(page) == name


NAMELESS = re.compile(
    r"- (?:button|textbox|spinbutton|slider|radio|checkbox|combobox|tab|link)(?! \")\b"
)


def fill_all(page, photo):
    """Go from tab to tab with something to see in each."""
    send(page, photo)
    page.get_by_role("button", name="Why is number 1 alike?").click()
    expect(page.locator(".lk-heat:visible img")).to_have_count(4)
    yield "Find similar"
    go_to(page, "Compare")
    send(page, photo, FIRST)
    expect(page.locator(".lk-preview:visible")).to_have_count(1)
    send(page, photo, SECOND)
    expect(page.locator(".lk-heat:visible img")).to_have_count(4)
    yield "Compare"
    go_to(page, "My taste")
    page.locator("[data-event=like]").nth(0).click()
    expect(page.locator("[data-event=like]").nth(0)).to_have_attribute("aria-pressed", "true")
    page.locator("[data-event=dislike]").nth(1).click()
    expect(page.get_by_role("button", name="Take back")).to_have_count(2)
    yield "My taste"
    go_to(page, "Upload check")
    send(page, photo, LOOK_UP)
    expect(page.locator("h2:visible")).to_have_text(re.compile("^New|^Already"))
    yield "Upload check"


def test_on_a_phone_all_is_in_one_column_and_nothing_sticks_out(visit, photo, scribbled):
    """With names and labels that are long."""
    page = visit(scribbled, viewport=PHONE, has_touch=True)
    for name in TABS:
        box = page.get_by_role("tab", name=name).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"], name
    for tab in fill_all(page, photo):
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab
        outside = """(all, width) => all.filter((one) => {
            const { left, right } = one.getBoundingClientRect();
            return left < 0 || right > width || one.scrollWidth > one.clientWidth;
        }).map((one) => one.innerText)"""
        assert page.locator(".lk-card:visible").evaluate_all(outside, PHONE["width"]) == [], tab
        columns = [one.bounding_box() for one in page.locator(".lk-drop:visible, h2:visible").all()]
        below = sorted(columns, key=lambda box: box["y"])
        assert all(a["y"] + a["height"] <= b["y"] for a, b in pairwise(below)), tab


# Of each text in sight: what it says, its colour, and the colours behind it from the front, each
# red, green, blue and opacity.
COLOURS = """() => {
    const brush = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const painted = (colour) => {
        brush.clearRect(0, 0, 1, 1);
        brush.fillStyle = colour;
        brush.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = brush.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const found = [], texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const one = texts.currentNode.parentElement, said = texts.currentNode.textContent.trim();
        const { width, height } = one.getBoundingClientRect();
        const seen = one.checkVisibility({ visibilityProperty: true, opacityProperty: true });
        if (!said || width < 2 || height < 2 || !seen) continue;
        const behind = [];
        for (let at = one; at; at = at.parentElement) behind.push(painted(getComputedStyle(at).backgroundColor));
        found.push([said.slice(0, 40), one.className, painted(getComputedStyle(one).color), behind]);
    }
    return found;
}"""


def luminance(colour):
    """WCAG 2.2's relative luminance of red, green and blue, 0 to 255."""
    linear = [
        c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4
        for c in colour
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(colour, behind):
    seen = np.full(3, 255.0)
    for layer in [*behind[::-1], colour]:
        under, seen = seen, layer[3] * np.array(layer[:3]) + (1 - layer[3]) * seen
    dark, bright = sorted([luminance(seen), luminance(under)])
    return (bright + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_known_colours():
    """Black on white 21, and #767676 on white the 4.54 of WCAG's own example; half black is grey."""
    white, black = [255, 255, 255, 1], [0, 0, 0, 1]
    assert contrast(black, [[0, 0, 0, 0], white]) == pytest.approx(21)
    assert contrast([118, 118, 118, 1], [white]) == pytest.approx(4.54, abs=0.005)
    assert contrast([0, 0, 0, 0.5], [white]) == pytest.approx(
        contrast([127.5, 127.5, 127.5, 1], [white])
    )


def in_two_columns(page, tab):
    if tab == "Compare":
        left, right = (one.bounding_box() for one in page.locator(".lk-drop:visible").all())
    elif tab == "My taste":
        left = page.get_by_role("list", name="What do you like?").bounding_box()
        right = page.get_by_role("list", name="To your taste").bounding_box()
    else:
        left = page.locator(".lk-drop:visible").bounding_box()
        right = page.locator("h2:visible").first.bounding_box()
    return left["x"] + left["width"] <= right["x"] and right["y"] < left["y"] + left["height"]


def test_all_has_a_name_stands_in_two_columns_and_out_from_what_is_behind_it(visit, photo, hostile):
    """On a desktop, in each tab with something in it; the colours in light and in dark."""
    page, quiet = visit(reduced_motion="reduce"), 0  # colours change at once
    light_or_dark = page.get_by_role("button", name="Light or dark")

    def assert_readable(where, texts):
        for _ in ("light", "dark"):
            page.mouse.move(0, 0)
            found = page.evaluate(COLOURS)
            assert len(found) >= texts
            low = {
                said: round(contrast(*colours), 2)
                for said, _, *colours in found
                if contrast(*colours) < 4.5
            }
            assert low == {}, where
            light_or_dark.click()
            yield [kind for _, kind, _, _ in found]

    for tab in fill_all(page, photo):
        named = (
            page.locator("body")
            .aria_snapshot()
            .replace("- 'button ", "- button ")
            .replace("- 'tab ", "- tab ")
        )
        assert "- button" in named, tab
        assert NAMELESS.findall(named) == [], tab
        assert page.locator("img:not([alt])").count() == 0, tab
        pressed = page.locator("button[aria-pressed]:visible").count()
        assert (pressed > 0) == (tab == "My taste")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab
        assert in_two_columns(page, tab), tab
        quiet += sum("lk-hint" in kind for kinds in assert_readable(tab, 10) for kind in kinds)
    assert quiet >= 8
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.title() == "Lookalike"
    send(page, next(iter(hostile)), LOOK_UP)
    expect(page.locator("[role=alert]:visible")).to_be_visible()
    for kinds in assert_readable("a problem", 10):
        assert sum("lk-problem" in kind for kind in kinds) == 1


BEHIND = """() => {
    for (let at = document.querySelector('h1'); at; at = at.parentElement) {
        const colour = getComputedStyle(at).backgroundColor;
        if (colour !== 'rgba(0, 0, 0, 0)') return colour;
    }
}"""


def test_dark_follows_the_system_and_the_button_changes_it(visit):
    light, dark = (visit(color_scheme=scheme) for scheme in ("light", "dark"))
    of_light, of_dark = light.evaluate(BEHIND), dark.evaluate(BEHIND)
    red = {
        name: int(re.search(r"\d+", colour)[0])
        for name, colour in (("light", of_light), ("dark", of_dark))
    }
    assert red["light"] > 200 and red["dark"] < 60
    light.get_by_role("button", name="Light or dark").click()
    light.wait_for_function(f"dark => ({BEHIND})() === dark", arg=of_dark)
    light.get_by_role("button", name="Light or dark").click()
    light.wait_for_function(f"light => ({BEHIND})() === light", arg=of_light)


def test_whatever_is_focused_by_the_keyboard_shows_it(visit):
    """Each stop of Tab in Find looks other than without the focus, at least in its outline, border
    or shadow.
    """
    look = """(one) => [one, one.parentElement, one.closest('.wrap, label')].filter(Boolean).map((each) => {
        const { outlineStyle, outlineWidth, boxShadow, borderColor } = getComputedStyle(each);
        return [outlineStyle === 'none' ? '' : outlineWidth, boxShadow, borderColor].join();
    }).join()"""
    page = visit(reduced_motion="reduce")  # borders and shadows change at once
    page.locator("h1").click()
    for _ in range(21):
        page.keyboard.press("Tab")
        one = page.evaluate_handle("document.activeElement")
        with_focus, name = one.evaluate(look), focused(page)
        one.evaluate("one => one.blur()")
        assert with_focus != one.evaluate(look), name
        one.evaluate("one => one.focus({ focusVisible: true })")


def test_code_in_labels_products_names_and_files_is_shown_and_does_not_run(
    visit, scribbled, photo, tmp_path
):
    page = visit(scribbled)
    sent = tmp_path / f"{CODE.replace('/', '')}.jpg"
    shutil.copy(photo, sent)
    send(page, sent)
    expect(page.locator("ol.lk-gallery li")).to_have_count(12)
    labels = pd.Series(page.locator(".lk-label").all_inner_texts())
    assert labels.value_counts().to_dict() == {CODE: 4, "b" * 150: 4, "c": 4}
    products = set(page.locator(".lk-product").all_inner_texts())
    assert products == {f"{CODE}product-{number}" for number in range(6)}
    page.get_by_label("Category").click()
    page.get_by_role("option", name=CODE, exact=True).click()
    expect(page.locator(".lk-label")).to_have_text([CODE] * 4)
    card = page.locator(".lk-card").first
    name = f"{CODE}, {card.locator('.lk-product').inner_text()}"
    card.get_by_role("button", name="Why").click()
    expect(page.locator(".lk-heat figcaption").nth(1)).to_have_text(name)
    card.locator("[data-event=search]").click()
    expect(page.locator(".lk-preview:visible figcaption")).to_have_text(name)
    expect(page.locator(".lk-label")).to_have_text([CODE] * 3)
    go_to(page, "My taste")
    like = page.get_by_role("button", name=f"Like {CODE}, {CODE}").first
    like.click()
    expect(like).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name=f"Take back {CODE}, {CODE}")).to_have_count(1)
    expect(
        page.get_by_role("list", name="To your taste").locator(".lk-label").filter(has_text=CODE)
    ).to_have_count(2)
    assert page.locator("[src=x], [onerror], .lk-card script").count() == 0
