"""Take the picture of the page that README.md and 08_interactive_app show; `make picture` calls this.

It needs Chromium. The page is served on the bundled sample, with the bundled encoder.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageEnhance
from playwright.sync_api import sync_playwright

from lookalike.app import build_app
from lookalike.backbones import build_encoder
from lookalike.catalog import load_catalog
from lookalike.embeddings import embed_catalog

FIGURE = Path(__file__).resolve().parent / "figures" / "page.jpg"
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


def main() -> None:
    """Search with an edited photo, ask why, and keep what is seen."""
    browser_path = shutil.which("chromium") or sys.exit("Chromium is needed: apt-get install chromium")
    catalog, _ = load_catalog("sample")
    encoder = build_encoder("VGG16Slim")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = build_app(embed_catalog(encoder, catalog, Path(folder, "store")), encoder)
        _, address, _ = page.launch(prevent_thread_lock=True, quiet=True)
        asked = Image.open(catalog[catalog["label"] == "shoe"]["path"].iloc[-1])
        asked = ImageEnhance.Brightness(asked.crop((20, 20, asked.width, asked.height - 20))).enhance(1.2)
        asked.save(Path(folder, "shoe.jpg"))
        browser = playwright.chromium.launch(executable_path=browser_path, args=ARGUMENTS)
        tab = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
        tab.goto(address)
        tab.get_by_label("Choose a photo to search with").set_input_files(Path(folder, "shoe.jpg"))
        tab.get_by_role("button", name="Why is number 2 alike?").click()
        tab.locator(".lk-heat img").first.wait_for()
        tab.mouse.move(5, 5)
        tab.wait_for_timeout(500)
        seen = Image.open(io.BytesIO(tab.screenshot(full_page=True))).convert("RGB")
        browser.close()
        page.close()
    FIGURE.parent.mkdir(exist_ok=True)
    seen.save(FIGURE, quality=82, optimize=True)
    print(f"{FIGURE.name}: {seen.width} x {seen.height}, {FIGURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
