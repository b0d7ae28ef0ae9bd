"""The page of a source: `make app`."""

import argparse
import sys

from lookalike.backbones import build_encoder, choose_backbone
from lookalike.catalog import catalog_folder, catalog_name
from lookalike.copies import SIDE_ARRAYS
from lookalike.embeddings import embed_catalog
from lookalike.page.app import build_app, launch_options
from lookalike.page.service import Service
from lookalike.saving import open_encoder
from lookalike.sources import load_catalog, open_catalog
from lookalike.workspace import choose_source, open_workspace


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
    if (catalog_folder(choice.value, path, workspace=work) / "catalog.csv").exists():
        catalog = open_catalog(choice.value, path, workspace=work)
        print(f"{len(catalog)} photos, as 01_data.ipynb found them; run it again for new ones.")
    else:
        catalog, _ = load_catalog(choice.value, path, workspace=work)

    def serve(encoder, copies=None):
        folder = work.embeddings / f"{name}-{encoder.name}"
        store = embed_catalog(encoder, catalog, folder, side_arrays=SIDE_ARRAYS)
        return Service(store, encoder, copies)

    came = serve(build_encoder(choose_backbone(backbone).value, weights=weights))
    if trained.name == came.encoder.name:
        return [came]
    return [serve(trained, came.copies), came]
