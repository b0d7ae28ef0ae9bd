"""The page: search by photo, compare two, follow a taste, check an upload; `make app` opens it."""

from __future__ import annotations

import argparse
import sys

import keras

from lookalike import workspace
from lookalike.backbones import build_encoder, choose_backbone
from lookalike.catalog import catalog_name
from lookalike.copies import SIDE_ARRAYS, CopyIndex
from lookalike.embeddings import EmbeddingStore, embed_catalog
from lookalike.page.handlers import MOST, NO_PAIR, NO_QUERY, NO_UPLOAD, Handlers
from lookalike.page.html_parts import ASSETS
from lookalike.page.server import AT_ONCE, Page
from lookalike.page.service import Service
from lookalike.page.uploads import MAX_BYTES
from lookalike.saving import open_encoder
from lookalike.similarity import METRICS
from lookalike.sources import load_catalog, open_catalog

import gradio as gr  # isort: skip - after the server, which says which Gradio is needed

# A number field that is being typed into is empty, or out of range; Gradio would answer that with a
# trace.
IN_RANGE = f"(photo, k, ...others) => [photo, Math.min(Math.max(Math.round(k) || 12, 1), {MOST}), ...others]"
# What was clicked, as panel.js keeps it: Gradio tells an event that had to wait of the click before
# it.
WHICH = "(panel, photo) => [lookalike.why, photo]"
VOTES = "() => [lookalike.votes]"
# On a phone what was found lies below what was asked with.
TO_RESULTS = "() => { if (innerWidth < 700) document.querySelector('.lk-results .lk-gallery')?.scrollIntoView(); }"
# Where a map is shown, which may be out of sight, the view and the keyboard's focus go.
TO_MAP = "() => [...document.querySelectorAll('.lk-why')].find((one) => one.offsetParent)?.focus()"


def _part(value: object, template: str, script: str, **options) -> gr.HTML:
    """A part of the page; no subclass of Gradio's, as for each of those it writes a file beside
    this one.
    """
    # The value only as ${...}: what Handlebars' braces put in would be run as a script.
    code = (ASSETS / script).read_text(encoding="utf-8")
    return gr.HTML(
        value, html_template=template, js_on_load=code, apply_default_css=False, **options
    )


def _photo_field(name: str) -> gr.HTML:
    """A photo by file, drop, paste or camera.

    Its value travels as text and is never written to a file.
    """
    template = (ASSETS / "photo.html").read_text(encoding="utf-8")
    return _part(None, template, "photo.js", name=name, limit=MAX_BYTES)


def _panel(value: object = "", template: str = "${value}", **options) -> gr.HTML:
    """Something to read; its buttons are events."""
    return _part(value, template, "panel.js", **options)


def build_app(store: EmbeddingStore, encoder: keras.Model, copies: CopyIndex | None = None) -> Page:
    """The page over an embedding store, to be launched: inline in a notebook, or by `make app`.

    Parameters
    ----------
    store, encoder
        Of `open_store` and `open_encoder`.
    copies
        Where uploads are looked up, best an index of the network as it came. Without it, one of
        the store is made; if that has no hashes, all photos are read for them.

    Returns
    -------
    A `gradio.Blocks` whose `launch` serves this machine alone (`server_name`, `share`). No file can
    be fetched from it, and none is written; its scripts and fonts are its own.
    `page.handlers.service` answers the same questions without a browser. Mounted in another
    application, without `launch`, it has no guard.

    Raises
    ------
    ImageError
        If a photo of the catalogue cannot be read (any more).
    ValueError
        If the encoder is not the store's.
    """
    handlers = Handlers(Service(store, encoder, copies))
    page = Page(title="Lookalike", analytics_enabled=False)
    page.handlers = handlers
    with page:
        with gr.Row(elem_classes="lk-top"):
            gr.HTML(_heading(store), js_on_load=None, apply_default_css=False)
            gr.Button("Light or dark", size="sm", scale=0, min_width=140).click(
                None, js="() => { document.body.classList.toggle('dark'); }"
            )
        with gr.Tabs():
            with gr.Tab("Find similar"):
                _find_similar(handlers)
            with gr.Tab("Compare"):
                _compare(handlers)
            with gr.Tab("My taste"):
                _taste(handlers)
            with gr.Tab("Upload check"):
                _check(handlers)
    return page.queue(default_concurrency_limit=AT_ONCE, max_size=100, api_open=False)


def _heading(store: EmbeddingStore) -> str:
    products = store.catalog["product_id"].nunique()
    return (
        '<div class="lk-head"><h1>Lookalike</h1><p>Products that look alike, by shape, colour and texture: '
        f"{len(store.catalog):,} photos of {products:,} products. What you send is read in memory and not kept."
        "</p></div>"
    )


def _find_similar(handlers: Handlers) -> None:
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            photo = _photo_field("Choose a photo to search with")
            k = gr.Slider(1, MOST, 12, step=1, label="How many")
            metric = gr.Radio([*METRICS], value=METRICS[0], label="Nearness by")
            labels = [("any", ""), *((label, label) for label in handlers.service.labels)]
            label = gr.Dropdown(labels, value="", label="Category", visible=len(labels) > 1)
            _panel(handlers.pages.starts())
        with gr.Column(scale=2, min_width=300):
            results = _panel(handlers.pages.parts.empty(NO_QUERY), elem_classes="lk-results")
            why = _panel()
    asked = {
        "fn": handlers.find,
        "inputs": [photo, k, metric, label],
        "outputs": [results, why],
        "show_progress_on": results,
        "js": IN_RANGE,
        "trigger_mode": "always_last",
    }
    photo.photo(handlers.accept, photo, photo).then(**asked).then(None, js=TO_RESULTS)
    # `release` does not tell of the keyboard.
    for control in (k.change, metric.change, label.change):
        control(**asked)
    asked_why = results.why(
        handlers.why, [results, photo], why, js=WHICH, trigger_mode="always_last"
    )
    asked_why.then(None, js=TO_MAP)


def _compare(handlers: Handlers) -> None:
    with gr.Row():
        photos = []
        for which in ("first", "second"):
            with gr.Column(scale=1, min_width=300):
                photos.append(_photo_field(f"Choose the {which} photo"))
                _panel(handlers.pages.starts())
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            score = _panel(handlers.pages.parts.empty(NO_PAIR))
        with gr.Column(scale=1, min_width=300):
            why = _panel()
    asked = {
        "fn": handlers.compare,
        "inputs": photos,
        "outputs": [score, why],
        "show_progress_on": score,
    }
    asked["trigger_mode"] = "always_last"
    for photo in photos:
        photo.photo(handlers.accept, photo, photo).then(**asked)


def _taste(handlers: Handlers) -> None:
    choices, taste = handlers.vote([])
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            choices = _panel(choices)
        with gr.Column(scale=1, min_width=300):
            taste = _panel(taste, template="${value.html}", elem_id="lk-taste")
    for panel in (choices, taste):
        panel.vote(
            handlers.vote,
            taste,
            [choices, taste],
            show_progress_on=taste,
            js=VOTES,
            trigger_mode="always_last",
        )


def _check(handlers: Handlers) -> None:
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            photo = _photo_field("Choose a photo to look up")
        with gr.Column(scale=2, min_width=300):
            copies = _panel(handlers.pages.parts.empty(NO_UPLOAD))
    photo.photo(handlers.check, photo, [photo, copies])


def main() -> None:
    """Open the page on the store of a source, which is made first if it is not there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--source", default="auto", help="sample, folder, zip, caltech256, fashion-small or amazon"
    )
    parser.add_argument("--path", default="", help="the folder, zip or metadata file")
    parser.add_argument("--backbone", default="auto")
    parser.add_argument("--weights", default="auto", help="a file, or auto")
    parser.add_argument("--root", default="", help="where data, embeddings and models live")
    parser.add_argument("--port", type=int, help="7860, or the next that is free")
    asked = parser.parse_args()
    try:
        page = build_app(*_open(asked))
        _, address, _ = page.launch(server_port=asked.port, prevent_thread_lock=True, quiet=True)
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(str(error))
    print(f"The page is at {address}; Ctrl+C ends it", flush=True)
    page.block_thread()


def _open(asked: argparse.Namespace) -> tuple[EmbeddingStore, keras.Model, CopyIndex]:
    """The store and its encoder, as 04_embeddings.ipynb makes them, and the index of 07."""
    work = workspace.open_workspace(asked.root)
    source = workspace.choose_source(asked.source, asked.path)
    name = catalog_name(source.value, asked.path, workspace=work)
    try:
        catalog = open_catalog(source.value, asked.path, workspace=work)
    except FileNotFoundError:  # 01_data.ipynb has not run
        catalog, _ = load_catalog(source.value, asked.path, workspace=work)
    encoder, choice = open_encoder(work.models, name, asked.backbone, weights=asked.weights)
    print(source, choice, sep="\n")
    store = embed_catalog(encoder, catalog, work.embeddings / f"{name}-{encoder.name}")
    as_it_came = build_encoder(choose_backbone(asked.backbone).value, weights=asked.weights)
    folder = work.embeddings / f"{name}-{as_it_came.name}"
    hashed = embed_catalog(as_it_came, catalog, folder, side_arrays=SIDE_ARRAYS)
    return store, encoder, CopyIndex(hashed, as_it_came)
