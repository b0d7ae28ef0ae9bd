"""The page of a source as it is now: `make app`."""

import argparse
import os
import sys
from contextlib import suppress

import pandas as pd

from lookalike.backbones import build_encoder, choose_backbone
from lookalike.catalog import catalog_folder, catalog_name, check_photos, read_catalog
from lookalike.copies import SIDE_ARRAYS
from lookalike.embeddings import embed_catalog
from lookalike.page.app import build_app, launch_options
from lookalike.page.service import Service
from lookalike.saving import open_encoder
from lookalike.sources import load_catalog, open_catalog
from lookalike.sources.load import read_photos, source_folder
from lookalike.splits import three_splits
from lookalike.workspace import choose_source, open_workspace

GROWING = ("sample", "folder", "zip")  # sources to which photos may be added


def main():
    """Open the page on the stores of a source, which are made first if they are not there."""
    parser = argparse.ArgumentParser(description=f"{__doc__} Options are as in the notebooks.")
    parser.add_argument("--path", default="")
    for name in ("source", "backbone", "weights"):
        parser.add_argument(f"--{name}", default="auto")
    parser.add_argument("--port", type=int)
    asked = parser.parse_args()
    try:
        services = open_services(asked.source, asked.path, asked.backbone, asked.weights)
        build_app(*services).launch(server_port=asked.port, **launch_options(services[0]))
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(str(error))


def open_services(source, path, backbone, weights):
    """A service by the network as it came, behind one by the network that 03 trained, if it has
    run; both look uploads up as 07 does.
    """
    work = open_workspace()
    choice = choose_source(source, path)
    name = catalog_name(choice.value, path, workspace=work)
    trained, which = open_encoder(work.models, name, backbone, weights=weights)
    print(choice, which, sep="\n")
    catalog = current_catalog(choice.value, path, workspace=work)

    def serve(encoder, copies=None):
        folder = work.embeddings / f"{name}-{encoder.name}"
        store = embed_catalog(encoder, catalog, folder, side_arrays=SIDE_ARRAYS)
        return Service(store, encoder, copies)

    came = serve(build_encoder(choose_backbone(backbone).value, weights=weights))
    if trained.name == came.encoder.name:
        return [came]
    return [serve(trained, came.copies), came]


def current_catalog(source, path="", *, workspace):
    """The catalogue that 01_data.ipynb wrote, less the photos that are gone since, with those that
    came; one line says so.

    What 01 left out, and is older than the catalogue, stays out. A new photo has no split.
    """
    file = catalog_folder(source, path, workspace=workspace) / "catalog.csv"
    if not file.exists():
        return load_catalog(source, path, workspace=workspace)[0]
    if source not in GROWING:
        return open_catalog(source, path, workspace=workspace)
    known = read_catalog(file)
    folder = source_folder(source, path, workspace)
    rows, _ = read_photos(source, folder, "", "parent", {})
    catalog = known.drop(columns="path").merge(rows[["image_id", "path"]])
    written = file.stat().st_mtime
    is_known = rows["image_id"].isin(known["image_id"])
    is_later = rows["path"].map(lambda path: os.stat(path).st_ctime > written)
    fresh = rows[is_later & ~is_known]
    gone = len(known) - len(catalog)
    if len(fresh) or gone:
        print(f"Since 01_data.ipynb ran: {len(fresh)} photos came, {gone} are gone.")
    with suppress(ValueError):  # none of them is a photo
        catalog = pd.concat([catalog, check_photos(fresh)[0]], ignore_index=True)
    return three_splits(catalog)
