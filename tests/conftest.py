"""What the tests share: photos made on the spot, a small encoder, and a way to let nothing be
skipped.
"""

import gc
import importlib.util
import os
import shutil
import subprocess
import sys
import tracemalloc
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lookalike.backbones import BACKBONES, build_encoder, load_backbone
from lookalike.copies import SIDE_ARRAYS
from lookalike.embeddings import embed_catalog
from lookalike.page import Service, build_app, launch_options
from lookalike.training import build_classifier

PROJECT = Path(__file__).resolve().parents[1]
ALL_LABELS = ("watch", "t-shirt", "bicycle", "shoe", "bag", "glasses", "hat")  # of the sample
CLOTHING = PROJECT.parent / "shared" / "datasets" / "clothing"
GROCERY = CLOTHING.with_name("grocery")
MOBILENET = PROJECT.parent / "shared" / "weights" / "mobilenet_v2_0.35_224_notop.weights.h5"
# The rows that need nothing but Keras; tests/test_hub.py has the others.
ROWS = [name for name, row in BACKBONES.items() if row.pretrained in ("imagenet", "bundled")]
# What 09 and 10 need beyond the others.
EXTRAS = {"09_export": ("ai_edge_litert", "onnx", "tf2onnx", "onnxruntime", "openvino")}
EXTRAS |= {"10_scaling_out": ("faiss", "milvus_lite", "pyarrow", "pymilvus", "pyspark")}


def skip_without(*modules):
    """Skip a test, or a file of tests, where a module is not installed; nothing is imported to find
    out.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(
                f"{module} is not installed; make extras installs it", allow_module_level=True
            )


def skip_without_engines(notebook):
    """The same for what 09 or 10 needs."""
    skip_without(*EXTRAS.get(notebook, ()))
    if notebook == "10_scaling_out" and shutil.which("java") is None:
        pytest.skip("Spark needs Java, which is not installed")


def quick(names, *chosen):
    """Values of a parameter: those that are chosen in every run, the others in `make soak`."""
    return [
        name if name in chosen else pytest.param(name, marks=pytest.mark.soak) for name in names
    ]


@contextmanager
def small_disk(folder, size):
    """A disk of so many bytes, mounted at a folder."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if (
        sys.platform != "linux"
        or os.geteuid()
        or subprocess.run(command, capture_output=True).returncode
    ):
        pytest.skip("only root may mount a small disk, on Linux and outside of most containers")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def closable(folder):
    """A new folder, and what closes it to all that would write; for root, whom modes do not stop,
    it is a disk.
    """
    if os.geteuid():
        folder.mkdir()
        yield folder, lambda: folder.chmod(0o555)
        folder.chmod(0o755)
    else:
        with small_disk(folder, "1m"):
            yield (
                folder,
                lambda: subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True),
            )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and os.environ.get("LOOKALIKE_NOTHING_SKIPPED"):
        report.outcome = "failed"
        report.longrepr = (
            f"{item.nodeid} was skipped, and here nothing may be: {call.excinfo.value}"
        )
    return report


@pytest.fixture(scope="session")
def encoder():
    """An untrained VGG16Slim on 64 x 64 pixels: the real architecture, in milliseconds."""
    return build_encoder("VGG16Slim", weights=None, image_size=64)


def small_classifier(n_classes=3, *, dim=8, name="VGG16Slim", weights=None, size=32, seed=0):
    """A network of the table with a head, untrained and on small photos if nothing else is said."""
    keras.utils.set_random_seed(seed)
    base, preprocess = load_backbone(name, weights, image_size=size)
    return build_classifier(base, preprocess, n_classes, dim=dim)


@pytest.fixture(scope="session")
def other_encoder():
    return build_encoder("VGG16Slim", weights=None, image_size=64, pooling="max")


def peak_of(function):
    """The most memory that Python and numpy held at once during a call, beyond what they held
    before.
    """
    gc.collect()
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def write_photo(path: Path, seed: int, size: int = 40) -> Path:
    """A photo of smooth random colours, different for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(path)
    return path


def make_catalog(folder: Path, count: int, views: int = 1) -> pd.DataFrame:
    """A catalogue of photos on disk: labels a, b and c in turn, `views` photos a product."""
    rows = []
    for number in range(count):
        image_id = f"{number:03}.png"
        path = write_photo(folder / image_id, number)
        label = "abc"[number // views % 3]
        rows.append((image_id, str(path), f"product-{number // views}", label, None))
    return pd.DataFrame(rows, columns=["image_id", "path", "product_id", "label", "split"])


DRIVE = """
import os

def mount(mountpoint):
    drive = os.path.join(os.getcwd(), mountpoint.removeprefix("/content/"), "MyDrive")
    if not os.path.exists(drive):
        os.makedirs(drive)
        os.rename(os.environ.get("LOOKALIKE_TEST_DRIVE", drive), drive)
    print(f"Mounted at {mountpoint}")
"""


def write_colab(folder):
    """A stand-in for Colab's own package: its `drive.mount` makes the folder appear, and says so.

    Where a process runs is /content to it. What LOOKALIKE_TEST_DRIVE names is on the Drive.
    """
    # No google/__init__.py: other packages live in that namespace too.
    colab = folder / "google" / "colab"
    colab.mkdir(parents=True)
    (colab / "__init__.py").touch()
    (colab / "drive.py").write_text(DRIVE)
    return folder


@pytest.fixture(scope="session")
def page_store(tmp_path_factory, encoder):
    """A store of 36 photos, two views a product, three labels."""
    folder = tmp_path_factory.mktemp("page")
    catalog = make_catalog(folder / "photos", 36, views=2)
    return embed_catalog(encoder, catalog, folder / "store", side_arrays=SIDE_ARRAYS)


@contextmanager
def page_over(*services):
    """The address of a page, really served."""
    page = build_app(*services)
    _, url, _ = page.launch(prevent_thread_lock=True, **launch_options(services[0]))
    yield url.rstrip("/")
    page.close()


@pytest.fixture(scope="session")
def service(page_store, encoder):
    return Service(page_store, encoder)


@pytest.fixture(scope="session")
def served(service):
    """The address of the page over `page_store`."""
    with page_over(service) as address:
        yield address


@pytest.fixture
def catalog(tmp_path):
    return make_catalog(tmp_path / "photos", 12, views=2)
