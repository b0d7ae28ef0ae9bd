"""The page: search by photo, compare two, follow a taste, check an upload."""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

# Read when Gradio is imported: nothing is reported to its makers.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
import gradio as gr

from lookalike.page.service import Service
from lookalike.page.uploads import AT_ONCE, UploadError, decode_upload
from lookalike.plots import PALETTE
from lookalike.similarity import METRICS

# Where uploads lie, apart from those of other pages, at most until this process ends.
UPLOADS = tempfile.TemporaryDirectory(prefix="lookalike-")
os.environ.setdefault("GRADIO_TEMP_DIR", UPLOADS.name)
COLOUR = 0.2  # its weight beside shape, to begin with
MOST = 24  # results
MANY = 12  # products to begin with, or to choose from
KEPT = (60, 480)  # seconds: files older than the second are deleted, each first
# What comes is not opened by Gradio, as it may be anything; of several events the last one counts.
RAW = {"preprocess": False, "trigger_mode": "always_last"}
LEAST = 10  # pixels of a part that is cut out
VERDICTS = {
    "copy": "the same photo",
    "variant": "the same but for its colours, or for one place",
    "copy in grey or variant": "the same photo in grey, or the same thing in other colours",
    "stamped copy or variant": "the same photo with a stamp, or another print",
}
# Captions below the photos, and as many tiles in a row as there is room for.
CSS = """
.gradio-container { width: 100%; max-width: 1180px !important; margin: 0 auto; }
.grid-wrap { min-height: 0 !important; max-height: none !important; }
.grid-container { grid-template-columns: repeat(auto-fill, minmax(105px, 1fr)) !important; }
.thumbnail-item {
  flex-direction: column;
  height: auto !important;
  aspect-ratio: auto !important;
}
.thumbnail-item img {
  height: auto !important;
  aspect-ratio: 1;
}
.caption-label {
  position: static !important;
  max-width: none !important;
  border: 0 !important;
  text-align: center;
  white-space: pre-line;
  overflow-wrap: anywhere;
}
"""


def told(answer):
    """Make a handler tell what cannot be served in a sentence on the page."""

    @functools.wraps(answer)
    def handler(*values):
        try:
            return answer(*values)
        except UploadError as error:
            raise gr.Error(str(error), print_exception=False) from None

    return handler


def received(value):
    """The pixels of what a photo field holds, as Gradio passes it on unopened; its file must be one
    that Gradio was sent or has made, as whoever asks writes the value.
    """
    if value is None:
        return None
    try:
        file = Path(value["path"]).resolve(strict=True)
    except (TypeError, KeyError, ValueError, OSError):
        file = Path()
    folder = Path(os.environ["GRADIO_TEMP_DIR"]).resolve()
    if not file.is_relative_to(folder):
        raise UploadError("The photo is not here (any more). Send it again.")
    return decode_upload(str(file))


def photo_field(label):
    """A photo by file, drop, paste or camera."""
    return gr.Image(
        label=label,
        sources=["upload", "clipboard", "webcam"],
        format="png",
        height=320,
        interactive=True,
    )


def gallery(label, value=None):
    """Tiles that can be clicked on."""
    return gr.Gallery(value, label=label, height="auto", allow_preview=False, interactive=False)


def tiles(service, table, texts=""):
    """Images of the catalogue for a gallery, each with a text, its label and its product; and their
    `image_id`s.
    """
    ids = table["image_id"].tolist()
    columns = ["text", "label", "product_id"]
    facts = table.assign(text=texts)[columns].fillna("")
    captions = ["\n".join(filter(None, row)) for row in facts.to_numpy()]
    pictures = [str(service.thumbnail(image_id)) for image_id in ids]
    return list(zip(pictures, captions, strict=True)), ids


def ranked(service, table):
    """A table of `recommend` for a gallery, and its `image_id`s."""
    rows = table.itertuples()
    texts = [f"{row.rank} | {row.score:.3f}" for row in rows]
    return tiles(service, table, texts)


def heat_pair(service, first, second):
    """Two photos for a gallery; bright places add most to their cosine."""
    why = service.why(first, second)
    inferno = matplotlib.colormaps["inferno"]
    pair = []
    photos = why.query_pixels, why.result_pixels
    for pixels, places in zip(photos, (why.query_map, why.result_map), strict=True):
        photo = Image.fromarray(pixels)
        grey = photo.convert("L").convert("RGB")
        heat = inferno(Normalize()(places), bytes=True)
        heat = Image.fromarray(heat).convert("RGB")
        heat = heat.resize(photo.size, Image.Resampling.BICUBIC)
        both = Image.blend(grey, heat, 0.6)
        pair.append((both, "bright places add most to the cosine"))
    return pair


def score_figure(pair_scores, score):
    """Where a cosine lies among those of pairs of the catalogue."""
    figure = Figure(figsize=(6, 2.6), layout="constrained")
    axes = figure.subplots()
    for (kind, scores), colour in zip(pair_scores.items(), PALETTE, strict=False):
        axes.hist(scores, 50, density=True, alpha=0.5, color=colour, label=kind)
    axes.axvline(score, color="black", label="these two")
    axes.set(title="Pairs of the catalogue", xlabel="cosine similarity", yticks=[])
    axes.legend(loc="upper left", frameon=False)
    return figure


def find_tab(services):
    """Search by a photo, whole or cropped, or by one of the catalogue."""
    networks = list(services)
    service = services[networks[0]]
    begin, ids = tiles(service, service.mixed[:MANY])
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            photo = photo_field("Your photo")
            gr.Markdown("To crop, click two opposite corners of the product.")
            shape_or_colour = "Shape \N{LEFT RIGHT ARROW} colour"
            colour = gr.Slider(0, 1, COLOUR, label=shape_or_colour, visible=service.has_colours)
            k = gr.Slider(1, MOST, MANY, step=1, label="How many")
            label = gr.Dropdown([("any", ""), *service.labels], value="", label="Category")
            metric = gr.Radio(METRICS, value=METRICS[0], label="Nearest by (cosine with colour)")
            switched = len(networks) > 1
            network = gr.Radio(networks, value=networks[0], label="Network", visible=switched)
        with gr.Column(scale=2, min_width=300):
            results = gallery("Most alike: click one to search on", begin)
            rank = gr.Slider(1, MOST, 1, step=1, label="Why is this number alike?")
            why = gallery("Why alike")
    # Of the catalogue's photo that is asked with, its name; and the corner that was clicked on.
    chosen = gr.State()
    corner = gr.State()
    found = gr.State(ids)

    def give(value):
        return received(value), None, None

    def choose(found, event: gr.SelectData):
        image_id = found[event.index]
        return decode_upload(service.path(image_id)), image_id, None

    def crop(value, corner, event: gr.SelectData):
        if corner is None:
            gr.Info("Now click the opposite corner.")
            return gr.skip(), gr.skip(), event.index
        left, right = sorted((corner[0], event.index[0]))
        top, bottom = sorted((corner[1], event.index[1]))
        if min(right - left, bottom - top) < LEAST:
            raise UploadError("This part is too small. Click two corners further apart.")
        return received(value)[top:bottom, left:right], None, None

    def find(value, chosen, network, k, colour, metric, label):
        asked = chosen or received(value)
        if asked is None:
            return begin, ids, None
        table = services[network].similar(
            asked, min(int(k), MOST), metric=metric, colour=colour, label=label
        )
        return *ranked(service, table), None

    def explain(value, chosen, network, found, rank):
        asked = chosen or received(value)
        if asked is None or rank > len(found):
            return None
        return heat_pair(services[network], asked, found[rank - 1])

    field = [photo, chosen, corner]
    asked = [photo, chosen, network, k, colour, metric, label]
    answer = {"fn": told(find), "inputs": asked, "outputs": [results, found, why], **RAW}
    chosen_anew = [
        photo.input(told(give), photo, field, show_progress_on=results, **RAW),
        photo.select(told(crop), [photo, corner], field, show_progress_on=results, **RAW),
        results.select(told(choose), found, field),
    ]
    for event in chosen_anew:
        event.success(**answer)
    for control in asked[2:]:
        control.change(**answer)
    rank.change(told(explain), [photo, chosen, network, found, rank], why, **RAW)


def compare_tab(service):
    """Two photos beside each other."""
    with gr.Row():
        photos = [photo_field("First photo"), photo_field("Second photo")]
    text = gr.Markdown("Give two photos.")
    with gr.Row():
        figure = gr.Plot(label="How alike is alike?")
        why = gallery("Why alike")

    def compare(*values):
        pair = [received(value) for value in values]
        if any(pixels is None for pixels in pair):
            return *pair, "Give two photos.", None, None
        score, below = service.compare(*pair)
        shares = [f"\n- than {share:.0%} of pairs: {kind}" for kind, share in below.items()]
        sentence = f"### Cosine similarity {score:.3f}\nmore alike" + "".join(shares)
        figure = score_figure(service.pair_scores, score)
        return *pair, sentence, figure, heat_pair(service, *pair)

    shown = [*photos, text, figure, why]
    events = [photo.input for photo in photos]
    gr.on(events, told(compare), photos, shown, show_progress_on=figure, **RAW)


def taste_tab(service):
    """Recommendations after likes and dislikes."""
    begin, ids = tiles(service, service.mixed[:MANY])
    how = gr.Radio(["like", "dislike"], value="like", label="A click on a product means")
    with gr.Row():
        choices = gallery("What do you like? A second click takes it back", begin)
        results = gallery("To your taste")
    more = gr.Button("Show others")
    votes = gr.State({})
    page = gr.State(0)
    shown = gr.State(ids)
    found = gr.State([])

    def vote(votes, shown, how, event: gr.SelectData):
        image_id = shown[event.index]
        votes = dict(votes)
        if votes.pop(image_id, None) != how:
            votes[image_id] = how
        return votes

    def taste(votes, page):
        start = MANY * page % len(service.mixed)
        own = service.catalog[service.catalog["image_id"].isin(votes)]
        some = service.mixed[start : start + MANY]
        table = pd.concat([own, some]).drop_duplicates("image_id")
        choices = tiles(service, table, table["image_id"].map(votes))
        liked = [one for one in votes if votes[one] == "like"]
        disliked = [one for one in votes if votes[one] == "dislike"]
        if not liked:
            return *choices, None, []
        found = service.taste(liked, disliked, colour=COLOUR)
        return *choices, *ranked(service, found)

    answer = {"fn": taste, "inputs": [votes, page], "outputs": [choices, shown, results, found]}
    clicks = [
        choices.select(vote, [votes, shown, how], votes),
        results.select(vote, [votes, found, how], votes),
        more.click(lambda page: page + 1, page, page),
    ]
    for click in clicks:
        click.success(**answer)


def check_tab(service):
    """Tell whether the catalogue has a photo already."""
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            photo = photo_field("Photo to look up")
        with gr.Column(scale=2, min_width=300):
            text = gr.Markdown()
            copies = gallery("In the catalogue")

    def check(value):
        pixels = received(value)
        if pixels is None:
            return None, "", None
        found = service.copies.look_up(pixels)
        table = found.merge(service.catalog, on="image_id")
        sentence = "New: the catalogue has no copy of this photo."
        if len(table):
            sentence = "No copy, but the catalogue has what may be a variant of it."
        if "copy" in set(table["verdict"]):
            sentence = "Already there: the catalogue has a copy of this photo."
        found, _ = tiles(service, table, table["verdict"].map(VERDICTS))
        return pixels, f"### {sentence}", found

    shown = [photo, text, copies]
    photo.input(told(check), photo, shown, show_progress_on=copies, **RAW)


def build_app(*services: Service) -> gr.Blocks:
    """The page over one service, or over more, of other networks and the same catalogue.

    Returns
    -------
    Blocks, to be launched with `launch_options`.
    """
    service = services[0]
    n_photos = len(service.catalog)
    n_products = service.catalog["product_id"].nunique()
    with gr.Blocks(title="Lookalike", analytics_enabled=False, delete_cache=KEPT) as page:
        gr.Markdown(
            f"# Lookalike\n{n_photos:,} photos of {n_products:,} products: which look alike? "
            "What you send is deleted within ten minutes."
        )
        with gr.Tab("Find similar"):
            find_tab({one.encoder.name: one for one in services})
        with gr.Tab("Compare"):
            compare_tab(service)
        with gr.Tab("My taste"):
            taste_tab(service)
        with gr.Tab("Upload check"):
            check_tab(service)
    return page.queue(default_concurrency_limit=AT_ONCE, max_size=100, api_open=False)


def launch_options(service: Service) -> dict:
    """How `launch` serves the page: to this machine alone, and of files the thumbnails alone."""
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}
    return {
        "allowed_paths": [service.folder.name],
        "theme": gr.themes.Default(primary_hue="blue", **fonts),
        "css": CSS,
        "max_file_size": "25mb",
        "max_threads": AT_ONCE,
        "strict_cors": True,
        "ssr_mode": False,
        "footer_links": [],
        "quiet": True,
    }
