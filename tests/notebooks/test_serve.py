"""serve.py, where neither TensorFlow nor Keras is installed, answers as `recommend` does here."""

import io
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from importlib.metadata import packages_distributions

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
HIDING = """
from importlib.machinery import PathFinder
found = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name in {} else found(name, *rest)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """One in which Python has, of what the notebooks need, only what serve.py says to install."""
    asked = re.findall(r"^[\w-]+", (PROJECT / "requirements.txt").read_text(), re.MULTILINE)
    served = re.search(r"pip install (.*)", SERVER.read_text(encoding="utf-8"))[1].split()
    hidden = [
        module
        for module, owners in packages_distributions().items()
        if {*owners} & {*asked} - {*served}
    ]
    assert {"tensorflow", "keras", "sklearn", "cv2"} <= {*hidden}
    folder = tmp_path_factory.mktemp("python")
    (folder / "sitecustomize.py").write_text(HIDING.format(hidden))
    (folder / "home").mkdir()
    return os.environ | {"PYTHONPATH": str(folder), "HOME": str(folder / "home")}


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
    embed_catalog(encoder, photos, folder / "store")
    embed_catalog(encoder, photos, folder / "letterbox", fit="letterbox")
    other = build_encoder("VGG16Slim", image_size=64, pooling="max")
    embed_catalog(other, photos[:5], folder / "other")
    return folder


@contextmanager
def serving(environment, made, store, *options):
    """The address of the server while it runs; it is alive to the end."""
    command = [sys.executable, SERVER, made / "export", made / store, "--port", "0", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        try:
            yield process.stdout.readline().decode().split()[-1]
            assert process.poll() is None
        finally:
            process.kill()


@pytest.fixture(scope="module")
def address(environment, made):
    with serving(environment, made, "store") as address:
        yield address


@pytest.fixture(scope="module")
def coloured(environment, made):
    with serving(environment, made, "letterbox", "--colour", "0.4") as address:
        yield address


def ask(address, body):
    with urllib.request.urlopen(urllib.request.Request(address, data=body), timeout=30) as answer:
        assert answer.headers["Content-Type"] == "application/json"
        return json.loads(answer.read())


def encoded(image, format, **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


@pytest.mark.parametrize("size", [(224, 224), (300, 200), (1, 1)])
def test_an_upload_is_answered_as_here(address, coloured, made, encoder, photos, size):
    with Image.open(photos["path"].iloc[3]) as image:
        body = encoded(image.resize(size), "PNG")
    for name, place, colour in (("store", address, 0), ("letterbox", coloured, 0.4)):
        expected = recommend(open_store(made / name), body, 20, encoder=encoder, colour=colour)
        # The same images in the same order, but for what scores alike.
        scores = expected.set_index("image_id")["score"]
        found = ask(place, body)
        told = [one["score"] for one in found]
        assert told == pytest.approx(scores[:5].tolist(), abs=1e-4)
        assert told == pytest.approx([scores[one["image_id"]] for one in found], abs=1e-4)


def test_it_takes_no_notes_for_the_makers_of_onnx_runtime(address, environment):
    assert os.listdir(environment["HOME"]) == []


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


REFUSED = {
    "export other": r"export must be the encoder of .*, as ONNX\.",
    "export nowhere": r"No embeddings at .*nowhere\. Run 04_embeddings.ipynb first\.",
    "nowhere store": "No such file or directory: .*card.json",
    "export store --colour 2": "The weight of colour must be from 0 to 1",
}


@pytest.mark.parametrize("asked", REFUSED)
def test_what_does_not_belong_together_is_refused_in_a_sentence(environment, made, asked):
    command = [sys.executable, SERVER, *asked.split()]
    given = {"capture_output": True, "text": True, "timeout": 60, "cwd": made}
    process = subprocess.run(command, env=environment, **given)
    assert process.returncode == 1
    assert re.search(REFUSED[asked], process.stderr)
    assert "Traceback" not in process.stderr
