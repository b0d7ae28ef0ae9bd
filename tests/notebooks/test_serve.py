"""serve.py, run where neither TensorFlow nor Keras is installed, answers as `recommend` does here."""

import ast
import io
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
import venv
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from conftest import EXTRAS, PROJECT, skip_without
from lookalike.backbones import build_encoder
from lookalike.embeddings import embed_catalog, open_store
from lookalike.export import export_model
from lookalike.recommend import recommend
from lookalike.sources import load_catalog

skip_without(*EXTRAS["09_export"])
SERVER = PROJECT / "notebooks" / "serve.py"
DOCSTRING = ast.get_docstring(ast.parse(SERVER.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of an environment with what the first lines of serve.py install, and no more."""
    folder = tmp_path_factory.mktemp("small") / "environment"
    venv.create(folder, with_pip=True)
    found = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    command = [found, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    packages = re.search(r"pip install (.*)", DOCSTRING)[1].split()
    command += ["-c", PROJECT / "constraints.txt", *packages]
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
    """A folder with an export, stores of its encoder, and what does not go with them."""
    folder = tmp_path_factory.mktemp("für den Laden")
    export_model(encoder, folder / "export", "onnx")
    export_model(encoder, folder / "litert", "litert")
    embed_catalog(encoder, photos, folder / "store")
    embed_catalog(encoder, photos, folder / "letterbox", fit="letterbox")
    other = build_encoder("VGG16Slim", image_size=64, pooling="max")
    embed_catalog(other, photos[:5], folder / "other")
    (folder / "home").mkdir()
    return folder


@contextmanager
def serving(python, made, store, *options):
    """The address of the server while it runs; it is alive to the end."""
    command = [python, SERVER, made / "export", made / store, "--port", "0", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    alone = os.environ | {"HOME": str(made / "home")}
    alone.pop("PYTHONPATH", None)
    with subprocess.Popen(command, env=alone, **pipes) as process:
        try:
            yield process.stdout.readline().decode().split()[-1]
            assert process.poll() is None
        finally:
            process.kill()


@pytest.fixture(scope="module")
def address(python, made):
    with serving(python, made, "store") as address:
        yield address


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
    "grey": lambda image: encoded(image.convert("L"), "PNG"),
    "cmyk": lambda image: encoded(image.convert("CMYK"), "JPEG"),
    "one pixel": lambda image: encoded(image.resize((1, 1)), "PNG"),
    "transparent": cut_out,
}


def test_the_environment_has_neither_tensorflow_nor_keras(python):
    for package in ("tensorflow", "keras", "lookalike"):
        command = [python, "-I", "-c", f"import {package}"]
        process = subprocess.run(command, capture_output=True, text=True)
        assert "ModuleNotFoundError" in process.stderr


def check(found, expected):
    """The same images in the same order, but for what scores alike."""
    scores = expected.set_index("image_id")["score"]
    assert len(found) == 5
    np.testing.assert_allclose([one["score"] for one in found], expected["score"][:5], atol=1e-4)
    for one in found:
        assert one["score"] == pytest.approx(scores[one["image_id"]], abs=1e-4)


@pytest.mark.parametrize("kind", UPLOADS)
def test_an_upload_is_answered_as_here(address, made, encoder, photos, kind):
    store = open_store(made / "store")
    for path in photos["path"].iloc[[3, 40, 80]]:
        with Image.open(path) as image:
            body = UPLOADS[kind](image)
        check(ask(address, body), recommend(store, body, 20, encoder=encoder))


@pytest.mark.parametrize("name", ["store", "letterbox"])
def test_colour_and_fit_are_as_here(python, made, encoder, photos, name):
    store = open_store(made / name)
    with serving(python, made, name, "--colour", "0.4") as address:
        for path in photos["path"].iloc[[3, 40, 80]]:
            with Image.open(path) as image:
                body = encoded(image.resize((300, 200)), "PNG")
            check(ask(address, body), recommend(store, body, 20, encoder=encoder, colour=0.4))


def test_it_takes_no_notes_for_the_makers_of_onnx_runtime(address, made):
    assert not [file for file in (made / "home").rglob("*") if file.is_file()]


def test_what_is_no_photo_is_a_400_with_a_sentence_and_the_server_lives_on(address):
    photo = encoded(Image.new("RGB", (50, 50), "teal"), "JPEG")
    bodies = {
        b"": "Send a photo of at most 10,000,000 bytes.",
        b"not a photo": "the photo: not an image",
        photo[: len(photo) // 2]: "the photo: cannot be decoded",
    }
    for body, told in bodies.items():
        with pytest.raises(urllib.error.HTTPError, match="400") as caught:
            ask(address, body)
        assert json.load(caught.value)["error"].startswith(told)
    # Which is not even read: the connection may break before the answer.
    with pytest.raises(urllib.error.URLError):
        ask(address, bytes(11_000_000))
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(address, timeout=30)
    assert len(ask(address, photo)) == 5


TOGETHER = r"export must be the encoder of .*, as ONNX\."
REFUSED = {
    "export other": TOGETHER,
    "litert store": TOGETHER.replace("export", "litert"),
    "export nowhere": r"No embeddings at .*nowhere\. Run 04_embeddings.ipynb first\.",
    "nowhere store": "No such file or directory: .*card.json",
    "export store --colour 2": "The weight of colour must be from 0 to 1",
}


@pytest.mark.parametrize("asked", REFUSED)
def test_what_does_not_belong_together_is_refused_in_a_sentence(python, made, asked):
    command = [python, SERVER, *asked.split()]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=made)
    assert process.returncode == 1
    assert re.search(REFUSED[asked], process.stderr)
    assert "Traceback" not in process.stderr
