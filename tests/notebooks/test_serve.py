"""serve.py, run where neither TensorFlow nor Keras is installed, answers as `recommend` does here."""

import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv

import numpy as np
import pytest
from PIL import Image

from conftest import EXTRAS, PROJECT, skip_without
from lookalike.backbones import build_encoder
from lookalike.embeddings import embed_catalog
from lookalike.export import export_model
from lookalike.recommend import recommend
from lookalike.sources import load_catalog

skip_without(*EXTRAS["09_export"])
SERVER = PROJECT / "notebooks" / "serve.py"


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of an environment with NumPy, Pillow and ONNX Runtime alone."""
    folder = tmp_path_factory.mktemp("small") / "environment"
    venv.create(folder, with_pip=True)
    found = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    command = [found, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["-c", PROJECT / "constraints.txt", "numpy", "pillow", "onnxruntime"]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        # As where there is no package index.
        assert "No matching distribution" in process.stderr, process.stderr
        pytest.skip("no package index can be reached")
    return found


@pytest.fixture(scope="module")
def encoder():
    return build_encoder("VGG16Slim", image_size=64)


@pytest.fixture(scope="module")
def photos():
    return load_catalog("sample")[0].iloc[::4]


@pytest.fixture(scope="module")
def made(tmp_path_factory, encoder, photos):
    """A folder with an export, its store, and stores that do not go with it."""
    folder = tmp_path_factory.mktemp("für den Laden")
    encoder(np.zeros((1, 64, 64, 3), np.float32))
    export_model(encoder, folder / "export", "onnx")
    export_model(encoder, folder / "litert", "litert")
    embed_catalog(encoder, photos, folder / "store")
    embed_catalog(encoder, photos[:5], folder / "letterbox", fit="letterbox")
    embed_catalog(
        build_encoder("VGG16Slim", image_size=64, pooling="max"), photos[:5], folder / "other"
    )
    return folder


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def address(python, made):
    port = free_port()
    command = [python, SERVER, made / "export", made / "store", str(port)]
    with open(made / "errors", "wb") as errors:
        (made / "home").mkdir()
        alone = os.environ | {"HOME": str(made / "home")}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=alone)
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None and time.monotonic() < deadline, (
                made / "errors"
            ).read_text()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def ask(address, body):
    with urllib.request.urlopen(urllib.request.Request(address, data=body), timeout=30) as answer:
        assert answer.headers["Content-Type"] == "application/json"
        return json.loads(answer.read())


def encoded(image, format, **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def turned(image):
    """The photo lying on its side, with the note of a camera that tells so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(image.rotate(90, expand=True), "JPEG", exif=exif.tobytes())


def cut_out(image):
    """The photo in a transparent surrounding whose hidden colour is red."""
    alpha = Image.new("L", image.size, 0)
    alpha.paste(255, (60, 60, 200, 200))
    hidden = Image.composite(image.convert("RGB"), Image.new("RGB", image.size, "red"), alpha)
    hidden.putalpha(alpha)
    return encoded(hidden, "PNG")


UPLOADS = {
    "as it is": lambda image: encoded(image, "JPEG", quality=92),
    "turned": turned,
    "large": lambda image: encoded(image.resize((3000, 2000)), "JPEG"),
    "grey png": lambda image: encoded(image.convert("L"), "PNG"),
    "grey jpeg": lambda image: encoded(image.convert("L").resize((900, 700)), "JPEG"),
    "cmyk": lambda image: encoded(image.convert("CMYK"), "JPEG"),
    "webp": lambda image: encoded(image, "WEBP"),
    "palette": lambda image: encoded(image.quantize(16), "PNG"),
    "one pixel": lambda image: encoded(image.resize((1, 1)), "PNG"),
    "a strip": lambda image: encoded(image.resize((2000, 3)), "PNG"),
    "transparent": cut_out,
}


def test_the_environment_has_neither_tensorflow_nor_keras(python):
    for package in ("tensorflow", "keras", "lookalike"):
        process = subprocess.run(
            [python, "-I", "-c", f"import {package}"], capture_output=True, text=True
        )
        assert "ModuleNotFoundError" in process.stderr


def check(found, expected):
    """The same images in the same order, but for what scores alike."""
    scores = expected.set_index("image_id")["score"]
    assert len(found) == 5
    np.testing.assert_allclose([one["score"] for one in found], expected["score"][:5], atol=1e-3)
    for one in found:
        assert one["score"] == pytest.approx(scores[one["image_id"]], abs=1e-3)


@pytest.mark.parametrize("kind", UPLOADS)
def test_an_upload_is_answered_as_here(address, made, encoder, photos, tmp_path, kind):
    store = embed_catalog(encoder, photos, made / "store")
    for path in photos["path"].iloc[[3, 40, 80]]:
        with Image.open(path) as image:
            body = UPLOADS[kind](image)
        (tmp_path / "upload").write_bytes(body)
        check(ask(address, body), recommend(store, str(tmp_path / "upload"), 20, encoder=encoder))


def test_it_takes_no_notes_for_the_makers_of_onnx_runtime(address, made):
    assert not [file for file in (made / "home").rglob("*") if file.is_file()]


def test_photos_of_the_store_find_themselves(address, photos):
    for row in photos.iloc[::20].itertuples():
        with open(row.path, "rb") as stream:
            first, *_ = ask(address, stream.read())
        assert first["image_id"] == row.image_id
        assert first["score"] == pytest.approx(1, abs=1e-4)


def test_what_is_no_photo_is_a_500_and_the_server_lives_on(address, photos):
    photo = encoded(Image.new("RGB", (50, 50), "teal"), "JPEG")
    bodies = [
        b"",
        b"not a photo",
        photo[: len(photo) // 2],
        encoded(Image.new("RGB", (9, 9)), "BMP"),
        bytes(11_000_000),
    ]
    for body in bodies:
        with pytest.raises((urllib.error.HTTPError, urllib.error.URLError)) as caught:
            ask(address, body)
        if isinstance(caught.value, urllib.error.HTTPError):
            assert caught.value.code == 500
    with pytest.raises(urllib.error.HTTPError, match="500"):
        urllib.request.urlopen(address, timeout=30)
    assert len(ask(address, photo)) == 5


@pytest.mark.parametrize("pair", ["export other", "export letterbox", "litert store"])
def test_what_does_not_belong_together_is_refused(python, made, pair):
    export, store = (made / name for name in pair.split())
    command = [python, SERVER, export, store, str(free_port())]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert process.returncode == 1
    assert f"{export} must be the encoder of {store} as ONNX" in process.stderr
    assert "Traceback" not in process.stderr
