"""The served page over HTTP, as it meets a stranger and a crowd."""

import io
import json
import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests
from hostile import GOOD
from PIL import Image

from conftest import PROJECT
from lookalike.images import load_image
from lookalike.page import build_app, launch_options
from lookalike.page.app import UPLOADS

NETWORK = "VGG16Slim-gem-untrained"


def told_of(text, store):
    """What a text tells of the machine, beside the temporary folders of the page."""
    photos = Path(store.catalog["path"].iloc[0]).parent
    places = (PROJECT, store.folder, photos, "Traceback", 'File "', "root:x:")
    return [place for place in map(str, places) if place in text]


def value_of(path):
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


class Visitor:
    """Asks the page as a browser does, in a session of its own."""

    def __init__(self, address):
        self.api = f"{address}/gradio_api"
        self.session = {"session_hash": uuid.uuid4().hex}
        self.config = requests.get(f"{address}/config", timeout=60).json()
        events = reversed(self.config["dependencies"])
        self.numbers = {one["api_name"]: one["id"] for one in events}

    def send(self, data, name="photo.jpg"):
        """The value of a photo field after an upload."""
        sent = requests.post(f"{self.api}/upload", files={"files": (name, data)}, timeout=60)
        assert sent.status_code == 200, sent.text
        return value_of(sent.json()[0])

    def ask(self, handler, *values):
        """Whether the page could answer, and the text of its answer."""
        question = {"data": values, "fn_index": self.numbers[handler]} | self.session
        joined = requests.post(f"{self.api}/queue/join", json=question, timeout=60)
        if joined.status_code != 200:
            return False, joined.text
        with requests.get(
            f"{self.api}/queue/data", params=self.session, stream=True, timeout=60
        ) as told:
            for line in told.iter_lines():
                message = json.loads(line[5:]) if line.startswith(b"data:") else {}
                if message.get("msg") == "process_completed":
                    return message["success"], json.dumps(message["output"])
        raise AssertionError("no answer")

    def find(self, value, k=12, colour=0.0):
        return self.ask("find", value, None, NETWORK, k, colour)


@pytest.fixture
def visitor(served):
    return Visitor(served)


def test_of_files_only_thumbnails_are_served(served, service, page_store):
    photo = page_store.catalog["path"].iloc[0]
    thumbnail = service.thumbnail("000.png")
    ways = {thumbnail: 200, photo: 403, "/etc/passwd": 403, PROJECT / "pyproject.toml": 403}
    ways[f"{service.folder.name}/../../etc/passwd"] = 403
    for path, status in ways.items():
        answer = requests.get(f"{served}/gradio_api/file={path}", timeout=60)
        assert answer.status_code == status, path


@pytest.mark.parametrize("handler", ["give", "check", "find"])
def test_a_photo_field_reads_nothing_but_what_was_sent_to_it(visitor, page_store, handler):
    photo = page_store.catalog["path"].iloc[0]
    paths = ["/etc/passwd", photo, "nowhere", "", "\0", "http://127.0.0.1:9/a.png"]
    paths += [f"{UPLOADS.name}/../../etc/passwd", UPLOADS.name]
    values = [value_of(path) for path in paths]
    values += [{"path": photo}, {"path": None}, {"url": "file:///etc/passwd"}, "text", 7]
    for value in values:
        asked = visitor.find(value) if handler == "find" else visitor.ask(handler, value)
        answered, text = asked
        assert not answered, value
        assert not told_of(text, page_store), value


def test_every_answer_hides_where_it_runs_and_names_no_other_server(served, visitor, page_store):
    page = requests.get(served, timeout=60).text
    answered, answer = visitor.find(visitor.send(GOOD["PNG"]))
    assert answered
    for text in (page, json.dumps(visitor.config), answer):
        assert not told_of(text, page_store)
    assert re.findall(r"""(?:src|href)=["']((?:https?:)?//[^"']+)""", page) == []


def test_a_file_of_more_than_25_megabytes_is_refused(visitor):
    files = {"files": ("a.jpg", bytes(26_500_000))}
    assert requests.post(f"{visitor.api}/upload", files=files, timeout=60).status_code == 413


def photo_of(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((300, 240)).save(stream, "PNG")
    return stream.getvalue()


def test_a_crowd_is_answered_each_its_own(served, service):
    """20 sessions at once, with different photos, numbers and colours."""

    def search(seed):
        wish = {"k": 1 + seed % 24, "colour": seed % 5 / 4}
        visitor = Visitor(served)
        answered, text = visitor.find(visitor.send(photo_of(seed)), **wish)
        assert answered
        expected = service.similar(load_image(photo_of(seed)), **wish)
        return json.loads(text)["data"][0], expected.itertuples()

    with ThreadPoolExecutor(20) as pool:
        for tiles, rows in pool.map(search, range(20)):
            wanted = [f"{r.rank} | {r.score:.3f}\n{r.label}\n{r.product_id}" for r in rows]
            assert [tile["caption"] for tile in tiles] == wanted


def test_uploads_are_deleted(service):
    page = build_app(service)
    assert sum(page.delete_cache) <= 600
    page.delete_cache = (1, 2)
    options = launch_options(service)
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, **options)
    visitor = Visitor(address.rstrip("/"))
    value = visitor.send(GOOD["PNG"], f"{uuid.uuid4().hex}.png")
    answered, text = visitor.ask("give", value)
    assert answered
    files = [Path(value["path"]), *map(Path, re.findall(r'"path": "([^"]+)"', text))]
    assert all(file.exists() for file in files)
    end = time.monotonic() + 20
    while any(file.exists() for file in files) and time.monotonic() < end:
        time.sleep(0.2)
    assert not any(file.exists() for file in files)
    answered, text = visitor.ask("give", value)
    assert not answered
    assert "Send it again" in text
    page.close(verbose=False)
