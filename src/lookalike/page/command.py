"""The page of a source as it is now: `make app`."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress

import pandas as pd

from lookalike.backbones import build_encoder, choose_backbone
from lookalike.catalog import catalog_folder, catalog_name, check_photos, read_catalog
from lookalike.copies import SIDE_ARRAYS, CopyIndex
from lookalike.embeddings import EmbeddingStore, check_encoder, embed_catalog, open_store
from lookalike.page.app import build_app, launch_options
from lookalike.page.service import Service
from lookalike.saving import open_encoder
from lookalike.sources import load_catalog, open_catalog
from lookalike.sources.load import read_photos, source_folder
from lookalike.splits import three_splits
from lookalike.workspace import Workspace, choose_source, open_workspace

WHAT = ["image_id", "path", "sha256", "split"]  # decides whether a store is up to date
OPTIONS = {
    "source": "as in the notebooks, such as folder; auto",
    "path": "the folder, zip or metadata file",
    "backbone": "as in the notebooks; auto",
    "weights": "a file, or auto",
    "root": "where data, embeddings and models live",
}
GROWING = ("sample", "folder", "zip")  # sources to which photos may be added


def main() -> None:
    """Open the page on the stores of a source, which are made first if they are not there."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, told in OPTIONS.items():
        parser.add_argument(f"--{name}", default="auto" if "auto" in told else "", help=told)
    parser.add_argument("--port", type=int, help="7860, or the next that is free")
    asked = vars(parser.parse_args())
    port = asked.pop("port")
    try:
        services = open_services(**asked)
        page = build_app(*services)
        options = launch_options(services[0])
        options |= {"server_port": port, "prevent_thread_lock": True}
        _, address, _ = page.launch(**options)
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(str(error))
    print(f"The page is at {address}; Ctrl+C ends it", flush=True)
    page.block_thread()


def open_services(source: str, path: str, backbone: str, weights: str, root: str) -> list[Service]:
    """A service by the network as it came, behind one by the network that 03 trained, if it has
    run; both look uploads up as 07 does.
    """
    work = open_workspace(root)
    choice = choose_source(source, path)
    name = catalog_name(choice.value, path, workspace=work)
    trained, which = open_encoder(work.models, name, backbone, weights=weights)
    print(choice, which, sep="\n")
    catalog = current_catalog(choice.value, path, workspace=work)
    came = build_encoder(choose_backbone(backbone).value, weights=weights)
    copies = None
    services = []
    for encoder in {came.name: came, trained.name: trained}.values():
        place = work.embeddings / f"{name}-{encoder.name}"
        # Copies are looked for by the first alone.
        hashes = {} if copies else SIDE_ARRAYS
        store = current_store(encoder, catalog, place, hashes)
        copies = copies or CopyIndex(store, encoder)
        services.append(Service(store, encoder, copies))
    return services[::-1]


def current_catalog(source: str, path: str = "", *, workspace: Workspace) -> pd.DataFrame:
    """The catalogue that 01_data.ipynb wrote, less the photos that are gone since, with those that
    came; one line says so.

    Only photos that came, or have another size or time than the catalogue says, are read. Splits
    are kept; a new photo has that of its product, or none.
    """
    file = catalog_folder(source, path, workspace=workspace) / "catalog.csv"
    if not file.exists():
        return load_catalog(source, path, workspace=workspace)[0]
    if source not in GROWING:
        return open_catalog(source, path, workspace=workspace)
    known = read_catalog(file)
    folder = source_folder(source, path, workspace)
    rows, _ = read_photos(source, folder, "", "parent", {})
    facts = [os.stat(path) for path in rows["path"]]
    now = rows[["image_id", "path"]].assign(
        bytes=[one.st_size for one in facts], mtime=[one.st_mtime for one in facts]
    )
    kept = known.drop(columns="path").merge(now)
    # What 01 left out is older than the catalogue.
    written = file.stat().st_mtime
    wanted = pd.Series([one.st_ctime > written for one in facts], rows.index)
    is_known = now["image_id"].isin(known["image_id"])
    is_kept = now["image_id"].isin(kept["image_id"])
    fresh = rows[(wanted | is_known) & ~is_kept]
    gone = len(known) - is_known.sum()
    if len(fresh) or gone:
        print(f"Since 01_data.ipynb ran: {len(fresh)} photos added or changed, {gone} gone.")
    with suppress(ValueError):  # none of them is a photo
        kept = pd.concat([kept, check_photos(fresh)[0]], ignore_index=True)
    for key in ("image_id", "product_id"):
        splits = known.groupby(key)["split"].first()
        own = kept[key].map(splits)
        kept["split"] = kept["split"].fillna(own)
    return three_splits(kept)


def current_store(encoder, catalog, folder, side_arrays) -> EmbeddingStore:
    """The store of a catalogue; if it is the one that is there, nothing is written."""
    with suppress(FileNotFoundError, ValueError):
        store = open_store(folder)
        check_encoder(store, encoder)
        # A ValueError, if there are more or fewer.
        is_same = (store.catalog[WHAT].fillna("") == catalog[WHAT].fillna("")).all(axis=None)
        if is_same and {*side_arrays} <= {*store.side_arrays}:
            return store
    return embed_catalog(encoder, catalog, folder, side_arrays=side_arrays)
