"""The page: search by photo, compare two, follow a taste, check an upload."""

import os
import tempfile
from pathlib import Path

import gradio as gr
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import Normalize
from PIL import Image

from lookalike.page.uploads import AT_ONCE, UploadError, decode_upload

# Where uploads lie, at most until this process ends.
UPLOADS = tempfile.TemporaryDirectory()
os.environ["GRADIO_TEMP_DIR"] = UPLOADS.name
COLOUR = 0.2  # its weight beside shape, to begin with
MANY = 24  # products to begin with, or to go with a taste
WHY = "Bright places add most to the cosine"
# What a click makes of a vote.
NEXT = {None: "like", "like": "dislike", "dislike": None}
# Captions below the photos, and as many tiles in a row as there is room for.
CSS = """
.gradio-container { width: 100%; max-width: 1180px !important; margin: 0 auto; }
.grid-wrap {
  min-height: 0 !important;
  max-height: none !important;
  padding-top: 36px !important;
}
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


def received(value):
    """The pixels of what a photo field holds, as Gradio passes it on unopened; its file must be one
    that Gradio was sent or has made, as whoever asks writes the value.
    """
    if value is None:
        return None
    file = Path(os.path.abspath(value["path"]))
    if not (file.is_relative_to(UPLOADS.name) and file.is_file()):
        raise UploadError("The photo is not here (any more). Send it again.")
    return decode_upload(str(file))


def photo_field(label):
    """A photo by file, drop, paste or camera."""
    return gr.Image(label=label, format="png", height=320)


def gallery(label, value=None):
    """Tiles that can be clicked on."""
    return gr.Gallery(value, label=label, height="auto", allow_preview=False)


def tiles(service, table, texts=""):
    """Images of the catalogue for a gallery, each with a text, its label and its product; and their
    `image_id`s.
    """
    columns = ["text", "label", "product_id"]
    facts = table.assign(text=texts)[columns].fillna("")
    captions = ["\n".join(row).strip() for row in facts.to_numpy()]
    ids = table["image_id"].tolist()
    pictures = map(service.thumbnail, ids)
    return list(zip(pictures, captions, strict=True)), ids


def ranked(service, table):
    """A table of `recommend` for a gallery, and its `image_id`s."""
    texts = [f"{row.rank} | {row.score:.3f}" for row in table.itertuples()]
    return tiles(service, table, texts)


def heat_pair(service, first, second):
    """Two photos beside each other; bright places add most to their cosine."""
    try:
        why = service.why(first, second)
    except ValueError as error:
        gr.Info(str(error))
        return None
    pixels = np.hstack([why.query_pixels, why.result_pixels])
    photos = Image.fromarray(pixels).convert("L").convert("RGBA")
    places = np.hstack([why.query_map, why.result_map])
    heat = colormaps["inferno"](Normalize()(places), bytes=True)
    heat = Image.fromarray(heat).resize(photos.size)
    return Image.blend(photos, heat, 0.6)


def find_tab(service, networks):
    """Search by a photo, whole or cropped, or by one of the catalogue; `networks` are services by
    name.
    """
    begin, ids = tiles(service, service.mixed[:MANY])
    with gr.Row():
        with gr.Column():
            photo = photo_field("Your photo")
            gr.Markdown("To crop, click two opposite corners of the product.")
            colour = gr.Slider(0, 1, COLOUR, label="Shape \N{LEFT RIGHT ARROW} colour")
            k = gr.Slider(1, 24, 12, step=1, label="How many")
            network = gr.Radio(list(networks), value=service.encoder.name, label="Network")
        with gr.Column(scale=2):
            results = gallery("Most alike: click one to search on", begin)
            rank = gr.Slider(1, 24, step=1, label="Why is this number alike?")
            why = gr.Image(label=WHY)
    # Of the catalogue's photo that is asked with, its name; and the corner that was clicked on.
    chosen = gr.State()
    corner = gr.State()
    found = gr.State(ids)

    def give(value):
        return received(value), None, None

    def choose(found, event: gr.SelectData):
        image_id = found[event.index]
        return decode_upload(service.paths[image_id]), image_id, None

    def crop(value, corner, event: gr.SelectData):
        corners = [corner or event.index, event.index]
        (left, top), (right, bottom) = np.sort(corners, axis=0)
        part = received(value)[top:bottom, left:right]
        if part.size:
            return part, None, None
        gr.Info("Now click the opposite corner.")
        return gr.skip(), gr.skip(), event.index

    def find(value, chosen, network, k, colour):
        asked = chosen or received(value)
        if asked is None:
            return begin, ids, None
        table = networks[network].similar(asked, k, colour=colour)
        return *ranked(service, table), None

    def explain(value, chosen, network, found, rank):
        asked = chosen or received(value)
        if asked is None or rank > len(found):
            return None
        return heat_pair(networks[network], asked, found[rank - 1])

    field = [photo, chosen, corner]
    search = {
        "fn": find,
        "inputs": [photo, chosen, network, k, colour],
        "outputs": [results, found, why],
        "preprocess": False,
    }
    # Progress on the photo itself would stay there after an error.
    unopened = {"preprocess": False, "show_progress_on": results}
    photo.input(give, photo, field, **unopened).success(**search)
    photo.select(crop, [photo, corner], field, **unopened).success(**search)
    results.select(choose, found, field).success(**search)
    gr.on([network.change, k.change, colour.change], **search)
    rank.change(explain, [photo, chosen, network, found, rank], why, preprocess=False)


def compare_tab(service):
    """Two photos beside each other."""
    with gr.Row():
        photos = [photo_field("First photo"), photo_field("Second photo")]
    text = gr.Markdown("Give two photos.")
    why = gr.Image(label=WHY)

    def compare(*values):
        pair = [received(value) for value in values]
        if any(pixels is None for pixels in pair):
            return *pair, "Give two photos.", None
        score, below = service.compare(*pair)
        sentence = f"### Cosine similarity {score:.3f}\nmore alike"
        for kind, share in below.items():
            sentence += f"\n- than {share:.0%} of pairs: {kind}"
        return *pair, sentence, heat_pair(service, *pair)

    for photo in photos:
        shown = [*photos, text, why]
        photo.input(compare, photos, shown, preprocess=False, show_progress_on=why)


def taste_tab(service):
    """Recommendations after likes and dislikes."""
    catalog = service.catalog.set_index("image_id", drop=False)
    begin, ids = tiles(service, service.mixed[:MANY])
    gr.Markdown("Click on a product to like it, again to dislike it, a third time for neither.")
    products = gallery("What you like or dislike, and what goes with it", begin)
    votes = gr.State({})
    shown = gr.State(ids)

    def vote(votes, shown, event: gr.SelectData):
        image_id = shown[event.index]
        how = NEXT[votes.pop(image_id, None)]
        if how:
            votes[image_id] = how
        liked = [one for one in votes if votes[one] == "like"]
        disliked = [one for one in votes if votes[one] == "dislike"]
        others = service.mixed[:MANY]
        if liked:
            others = service.taste(liked, disliked, MANY, colour=COLOUR)
        named = catalog.loc[[*votes]]
        table = pd.concat([named, others]).drop_duplicates("image_id")
        texts = table["image_id"].map(votes)
        return votes, *tiles(service, table, texts)

    products.select(vote, [votes, shown], [votes, products, shown])


def check_tab(service):
    """Tell whether the catalogue has a photo already."""
    with gr.Row():
        with gr.Column():
            photo = photo_field("Photo to look up")
        with gr.Column(scale=2):
            text = gr.Markdown("Give a photo.")
            copies = gallery("In the catalogue")

    def check(value):
        pixels = received(value)
        if pixels is None:
            return None, "Give a photo.", None
        table = service.copies.look_up(pixels)
        table = table.merge(service.catalog, on="image_id")
        sentence = "New: the catalogue has no copy of this photo."
        if len(table):
            sentence = (
                f"Already there: the catalogue has a {table['verdict'][0]} of this photo."
            )
        found, _ = tiles(service, table, table["verdict"])
        return pixels, f"### {sentence}", found

    shown = [photo, text, copies]
    photo.input(check, photo, shown, preprocess=False, show_progress_on=copies)


def build_app(*services):
    """The page over one service, or over more, of other networks and the same catalogue.

    Returns
    -------
    Blocks, to be launched with `launch_options`.
    """
    service = services[0]
    # Each minute files are deleted that are older than eight.
    with gr.Blocks(title="Lookalike", analytics_enabled=False, delete_cache=(60, 480)) as page:
        gr.Markdown(
            f"# Lookalike\n{len(service.catalog):,} photos of {len(service.mixed):,} products: "
            "which look alike? "
            "What you send is deleted within ten minutes."
        )
        with gr.Tab("Find similar"):
            find_tab(service, {one.encoder.name: one for one in services})
        with gr.Tab("Compare"):
            compare_tab(service)
        with gr.Tab("My taste"):
            taste_tab(service)
        with gr.Tab("Upload check"):
            check_tab(service)
    return page.queue(default_concurrency_limit=AT_ONCE)


def launch_options(service):
    """How `launch` serves the page: to this machine alone, and of files the thumbnails alone."""
    return {"allowed_paths": [service.folder.name], "css": CSS, "max_file_size": "25mb"}
