"""Make the pictures that README.md and 08_interactive_app show: gallery and page; `make picture`
calls this.

It needs Chromium. All are made on the bundled sample, with the bundled encoder.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image, ImageEnhance
from playwright.sync_api import sync_playwright

from lookalike.backbones import build_encoder
from lookalike.embeddings import EmbeddingStore, embed_catalog
from lookalike.page import Service, build_app, launch_options
from lookalike.plots import show_gallery
from lookalike.recommend import recommend
from lookalike.sources import load_catalog

FIGURES = Path(__file__).resolve().parent / "figures"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
)


def gallery(store: EmbeddingStore) -> None:
    """One query of each class with what is most like it by shape and colour."""
    queries = (
        store.catalog.sample(frac=1, random_state=0).drop_duplicates("label").sort_values("label")
    )
    options = {"other_products": True, "colour": 0.2}
    results = [recommend(store, query, 6, **options) for query in queries["image_id"]]
    title = "Four products, and what looks most like them by shape and colour"
    keep("gallery.jpg", figure_to_image(show_gallery(queries, results, title=title)))


def figure_to_image(figure: Figure) -> Image.Image:
    """A figure as pixels, as a notebook would show it."""
    figure.savefig(written := io.BytesIO(), bbox_inches="tight")
    return Image.open(written).convert("RGB")


def keep(name: str, picture: Image.Image) -> None:
    """Write one picture beside the notebooks, and say so."""
    FIGURES.mkdir(exist_ok=True)
    picture.save(FIGURES / name, quality=82, optimize=True)
    print(f"{name}: {picture.width} x {picture.height}, {(FIGURES / name).stat().st_size:,} bytes")


def main() -> None:
    """Draw the gallery; then search with an edited photo on the page, ask why, and keep what is
    seen.
    """
    browser_path = shutil.which("chromium") or sys.exit(
        "Chromium is needed: apt-get install chromium"
    )
    catalog, _ = load_catalog("sample")
    encoder = build_encoder("VGG16Slim")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        store = embed_catalog(encoder, catalog, Path(folder, "store"))
        gallery(store)
        service = Service(store, encoder)
        page = build_app(service)
        _, address, _ = page.launch(prevent_thread_lock=True, **launch_options(service))
        asked = Image.open(catalog[catalog["label"] == "shoe"]["path"].iloc[-1])
        asked = ImageEnhance.Brightness(
            asked.crop((20, 20, asked.width, asked.height - 20))
        ).enhance(1.2)
        asked.save(Path(folder, "shoe.jpg"))
        browser = playwright.chromium.launch(executable_path=browser_path, args=ARGUMENTS)
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.goto(address)
        tab.locator("input[type=file]").first.set_input_files(Path(folder, "shoe.jpg"))
        tab.get_by_text("1 | ").first.wait_for()
        tab.get_by_label("range slider for Why is this number alike?").press("ArrowRight")
        tab.locator(".block:has(> label:has-text('Bright places')) img").first.wait_for()
        tab.evaluate("document.activeElement.blur()")
        tab.wait_for_timeout(1000)
        keep("page.jpg", Image.open(io.BytesIO(tab.screenshot(full_page=True))).convert("RGB"))
        browser.close()
        page.close()


if __name__ == "__main__":
    main()
