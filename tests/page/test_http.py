"""The served page over HTTP, as it meets an attacker and a crowd."""

import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
import requests
from hostile import GOOD
from PIL import Image

from conftest import PROJECT, page_over
from lookalike.images import load_image
from lookalike.page import app

NETWORK = "VGG16Slim-gem-untrained"
SECRET = "what only the owner of the machine may read"
UPLOADS = Path(os.environ["GRADIO_TEMP_DIR"]).resolve()


def told_of(text, store):
    """What a text tells of the machine, beside the temporary folders of Gradio and the thumbnails."""
    places = {str(PROJECT), str(store.folder), str(Path.home()), sys.prefix, os.getcwd()} - {"/"}
    places |= {str(Path(store.catalog["path"].iloc[0]).parent), "Traceback", 'File "', "root:x:"}
    return [place for place in (*places, SECRET) if place in text]


class Visitor:
    """Asks the page as a browser does, in a session of its own."""

    def __init__(self, address):
        self.api = f"{address}/gradio_api"
        self.session = uuid.uuid4().hex
        self.config = requests.get(f"{address}/config", timeout=60).json()
        events = reversed(self.config["dependencies"])
        self.numbers = {one["api_name"]: one["id"] for one in events}

    def send(self, data, name="photo.jpg"):
        """The value of a photo field after an upload."""
        sent = requests.post(f"{self.api}/upload", files={"files": (name, data)}, timeout=60)
        assert sent.status_code == 200, sent.text
        return value_of(sent.json()[0])

    def ask(self, handler, *values, event=None):
        """Whether the page could answer, and the text of its answer."""
        question = {"data": values, "fn_index": self.numbers[handler], "event_data": event}
        question |= {"session_hash": self.session, "trigger_id": None}
        joined = requests.post(f"{self.api}/queue/join", json=question, timeout=60)
        if joined.status_code != 200:
            return False, joined.text
        session = {"session_hash": self.session}
        with requests.get(
            f"{self.api}/queue/data", params=session, stream=True, timeout=60
        ) as told:
            for line in told.iter_lines():
                message = json.loads(line[5:]) if line.startswith(b"data:") else {}
                if message.get("msg") == "process_completed":
                    return message["success"], json.dumps(message["output"])
        raise AssertionError("no answer")

    def find(self, value, k=12, colour=0.0, metric="cosine", label=""):
        return self.ask("find", value, None, NETWORK, k, colour, metric, label)


def value_of(path):
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


@pytest.fixture
def visitor(served):
    return Visitor(served)


@pytest.fixture
def secrets(page_store, tmp_path):
    """A secret file, and symlinks to it among the catalogue's photos and elsewhere."""
    secret = tmp_path / "secret.png"
    secret.write_text(SECRET)
    photos = Path(page_store.catalog["path"].iloc[0]).parent
    links = [photos / "link.png", tmp_path / "link.png"]
    for link in links:
        link.symlink_to(secret)
    yield [secret, *links]
    links[0].unlink()


def raw(url, path):
    """The status and body of the answer to a request whose path goes out as it is."""
    place = urlsplit(url)
    head = f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n\r\n"
    answer = b""
    with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
        connection.sendall(head.encode("latin-1"))
        while part := connection.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode("utf-8", "replace")


ROUTES = ["/", "/static/", "/assets/", "/file=", "/file/", "/gradio_api/", "/gradio_api/file="]
ROUTES += ["/gradio_api/file/", "/gradio_api/proxy=", "/gradio_api/stream/", "/custom_component/"]
UP = ["../", "..%2f", "%2e%2e/", "%252e%252e%252f", "..\\", "..%5c", "..;/", "....//", "/../"]


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.soak)])
def test_no_way_of_writing_a_path_leads_to_a_file(served, page_store, secrets, step):
    photo = page_store.catalog["path"].iloc[0]
    files = ["etc/passwd", "etc/passwd%00.png", photo[1:], *(str(path)[1:] for path in secrets)]
    ways = [dots * 12 + name for dots in UP for name in files]
    ways += [start + name for start in ("/", "%2f", "file:///", "~/", "C:\\") for name in files]
    ways += ["link.png", "000.png", "pyproject.toml", ".env"]
    asked = [f"{route}{way}" for at, route in enumerate(ROUTES) for way in ways[at % step :: step]]
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda path: raw(served, path), asked)
        for path, (status, body) in zip(asked, answers, strict=True):
            assert status in (400, 403, 404, 405, 500), path
            # Gradio repeats what was asked for.
            told = re.sub("File not allowed: .*", "", body)
            assert not told_of(told, page_store), path


@pytest.mark.parametrize("route", ["file=", "proxy="])
def test_nothing_on_this_machine_is_fetched_for_a_visitor(served, route):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.5)
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
            status, _ = raw(
                served, f"/gradio_api/{route}http://{host}:{listener.getsockname()[1]}/"
            )
            assert status in (400, 403, 404, 500), host
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_photo_field_reads_nothing_but_what_was_sent_to_it(visitor, page_store, secrets):
    link = UPLOADS / "link-for-a-test.png"
    link.unlink(missing_ok=True)
    link.symlink_to(secrets[0])
    photo = page_store.catalog["path"].iloc[0]
    paths = ["/etc/passwd", photo, *secrets, link, "nowhere", "", "\0", "a" * 9000]
    paths += ["http://127.0.0.1:9/a.png", f"{UPLOADS}/../../etc/passwd", UPLOADS]
    values = [value_of(path) for path in paths]
    values += [{}, {"path": None}, {"path": 5}, {"url": "file:///etc/passwd"}, "text", 7, [], True]
    for value in values:
        for handler in ("give", "check", "find"):
            asked = visitor.find if handler == "find" else lambda one: visitor.ask(handler, one)  # noqa: B023
            answered, text = asked(value)
            assert not answered, (handler, value)
            assert not told_of(text, page_store), (handler, value)
    link.unlink()


def test_odd_wishes_are_answered_without_a_word_of_the_machine(visitor, page_store):
    value = visitor.send(GOOD["PNG"])
    wishes = [(10**9,), (-5,), (None,), ("x",), (3, 9.0), (3, None), (3, 0.0, "manhattan")]
    wishes += [(3, 0.0, "cosine", "no such label"), (3, 0.0, "cosine", ["a"]), (2.5,)]
    for wish in wishes:
        _, text = visitor.find(value, *wish)
        assert not told_of(text, page_store), wish
        assert text.count('"image"') <= app.MOST
    for event in (None, {"index": 10**6}, {"index": "x"}, {"index": [1, "y"]}, {"index": -99}):
        for handler, values in {"vote": (None, None, "like"), "crop": (value, None)}.items():
            _, text = visitor.ask(handler, *values, event=event)
            assert not told_of(text, page_store), (handler, event)


def test_every_answer_hides_where_it_runs_and_names_no_other_server(served, visitor, page_store):
    page = requests.get(served, timeout=60).text
    for text in (page, json.dumps(visitor.config)):
        assert not told_of(text, page_store)
    assert re.findall(r"""(?:src|href)=["']((?:https?:)?//[^"']+)""", page) == []
    answered, text = visitor.find(visitor.send(GOOD["PNG"]))
    assert answered
    assert not told_of(text, page_store)
    assert {*re.findall(r'"path": "(.*?)/[0-9a-f]{20,}/', text)} == {str(UPLOADS)}


def test_a_file_of_more_than_25_megabytes_is_refused(visitor):
    sent = requests.post(
        f"{visitor.api}/upload", files={"files": ("a.jpg", bytes(26_500_000))}, timeout=60
    )
    assert sent.status_code == 413


def test_another_website_cannot_read_an_answer(served):
    asked = {"Origin": "https://elsewhere.example"}
    answer = requests.get(f"{served}/config", headers=asked, timeout=60)
    allowed = answer.headers.get("access-control-allow-origin")
    assert allowed not in ("*", asked["Origin"])


def test_the_server_listens_on_loopback_alone(served):
    bound = [
        one.laddr
        for one in psutil.Process().net_connections("inet")
        if one.status == psutil.CONN_LISTEN and one.laddr.port == urlsplit(served).port
    ]
    assert {address.ip for address in bound} == {"127.0.0.1"}
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


def test_a_crowd_is_answered_each_its_own(served, service):
    """50 sessions at once, with different photos, numbers, colours, metrics and labels."""

    def search(seed):
        pixels = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).resize((60, 48)).save(stream, "PNG")
        metric = ("cosine", "euclidean")[seed % 2]
        wish = {"k": 1 + seed % 24, "colour": seed % 5 / 4, "metric": metric}
        wish["label"] = ("", "a", "b", "c")[seed % 4]
        visitor = Visitor(served)
        answered, text = visitor.find(visitor.send(stream.getvalue()), **wish)
        expected = service.similar(load_image(stream.getvalue()), **wish)
        return answered, json.loads(text)["data"][0], expected

    with ThreadPoolExecutor(50) as pool:
        for answered, tiles, expected in pool.map(search, range(50)):
            assert answered
            told = [tile["caption"] for tile in tiles]
            rows = expected.itertuples()
            wanted = [f"{r.rank} | {r.score:.3f}\n{r.label}\n{r.product_id}" for r in rows]
            assert told == wanted


def test_uploads_are_deleted(monkeypatch, service):
    monkeypatch.setattr(app, "KEPT", (1, 2))
    with page_over(service) as address:
        visitor = Visitor(address)
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
    assert sum(app.KEPT) <= 600


SERVER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from conftest import build_encoder, make_catalog, page_over
from lookalike.embeddings import embed_catalog
from lookalike.page import Service
from pathlib import Path
encoder = build_encoder("VGG16Slim", weights=None, image_size=32)
folder = Path(sys.argv[2])
store = embed_catalog(encoder, make_catalog(folder / "photos", 36, views=2), folder / "store")
with page_over(Service(store, encoder)) as address:
    print(f"\\nSERVED {address}", flush=True)
    time.sleep(3600)
"""


@contextlib.contextmanager
def server_apart(folder):
    """A server in a process of its own: its address and the process."""
    command = [sys.executable, "-c", SERVER, str(PROJECT / "tests"), str(folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        lines = (line.split() for line in process.stdout)
        yield next(line[1] for line in lines if line[:1] == ["SERVED"]), psutil.Process(process.pid)
        process.kill()


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.soak)])
def test_a_server_that_answers_many_keeps_nothing_of_them(count, tmp_path):
    def search(seed):
        pixels = np.random.default_rng(seed).integers(0, 256, (300, 400, 3), np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG")
        visitor = Visitor(address)
        assert visitor.ask("give", value := visitor.send(stream.getvalue()))[0]
        assert visitor.find(value)[0]

    with server_apart(tmp_path) as (address, process), ThreadPoolExecutor(8) as pool:
        list(pool.map(search, range(50)))
        before = process.memory_info().rss
        list(pool.map(search, range(50, 50 + count)))
        assert process.memory_info().rss - before <= 200_000_000
