"""The served page over HTTP, as it meets an attacker and a crowd."""

import base64
import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import gradio
import httpx
import numpy as np
import pytest
from PIL import Image

from conftest import PROJECT
from lookalike.embeddings import embed_images
from lookalike.images import fitted
from lookalike.page import server
from lookalike.page.server import HEADERS, MAX_BODY, Guard, Page
from lookalike.recommend import recommend

SECRET = "what only the owner of the machine may read"
MISSING = "This product is not in the catalogue"
# Other events have these functions too.
DISTINCT = {"accept", "find", "why", "compare", "vote", "check"}


def told_of(text):
    """What a text tells of the machine; pictures in it are left out, whose letters are by chance."""
    text = re.sub(r"data:image/\w+;base64,[\w+/=]*", "", text)
    places = {
        str(PROJECT),
        tempfile.gettempdir(),
        str(Path.home()),
        sys.prefix,
        sys.base_prefix,
        os.getcwd(),
    } - {"/"}
    places |= {"site-packages", "dist-packages", "Traceback", 'File "', "root:x:", SECRET}
    return [place for place in places if re.search(re.escape(place) + r"(?![\w\"])", text)]


@pytest.fixture(scope="module")
def client(served):
    with httpx.Client(base_url=served, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def events(client):
    """Of each event its number, its name, and how many inputs it has."""
    found = [
        (one["id"], one["api_name"], len(one["inputs"]))
        for one in client.get("/config").json()["dependencies"]
    ]
    assert {name for _, name, _ in found} >= DISTINCT
    return found


@pytest.fixture(scope="module")
def number(events):
    """The number of the first event of a name."""
    return {name: number for number, name, _ in reversed(events)}


def distinct(events):
    """Events of different functions."""
    return [one for one in events if one[1] in DISTINCT]


def join(client, number, data, event_data=None, session=None):
    asked = {
        "data": data,
        "fn_index": number,
        "session_hash": session,
        "event_data": event_data,
        "trigger_id": None,
    }
    body = json.dumps(asked)  # NaN and infinity too, which httpx would not send
    return client.post(
        "/gradio_api/queue/join", content=body, headers={"content-type": "application/json"}
    )


def ask(client, number, data, event_data=None):
    """What the page answers to an event: whether it could, and the values, or the error."""
    session = uuid.uuid4().hex
    joined = join(client, number, data, event_data, session)
    assert not told_of(joined.text)
    assert joined.status_code == 200, joined.text
    answer = None
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
        assert {key: stream.headers[key] for key in HEADERS} == HEADERS
        for line in stream.iter_lines():
            assert not told_of(line)
            message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
            if message.get("msg") == "process_completed":
                answer = (
                    message["success"],
                    message["output"].get("data", message["output"].get("error")),
                )
    assert answer is not None
    return answer


def raw(url, path, method="GET", lines=(), body=b""):
    """The status, head and body of the answer to a request whose path goes out as it is."""
    place = urlsplit(url)
    head = "\r\n".join(
        [f"{method} {path} HTTP/1.1", f"Host: {place.netloc}", *lines, "Connection: close", "", ""]
    )
    with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
        connection.sendall(head.encode("latin-1") + body)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode("latin-1"), body.decode("utf-8", "replace")


@pytest.fixture
def secrets(page_store, tmp_path, monkeypatch):
    """A secret file, and symlinks to it among the catalogue's photos, in the current and in
    Gradio's folder.
    """
    secret = tmp_path / "secret.png"
    secret.write_text(SECRET)
    monkeypatch.chdir(tmp_path)
    photos = Path(page_store.catalog["path"].iloc[0]).parent
    links = [photos / "link.png", tmp_path / "link.png"]
    for link in links:
        link.symlink_to(secret)
    yield [secret, *links]
    links[0].unlink()


ROUTES = [
    "/",
    "/config/",
    "/static/",
    "/assets/",
    "/svelte/",
    "/theme.css/",
    "/favicon.ico/",
    "/file=",
    "/file/",
]
ROUTES += ["/custom_component/x/client/component/", "/login/", "/monitoring/", "/run/", "/api/"]
ROUTES += [
    f"/gradio_api/{name}"
    for name in ("", "file=", "file/", "proxy=", "stream/", "heartbeat/", "queue/data/")
]
ROUTES += [
    f"/gradio_api/{name}"
    for name in ("call/", "custom_component/x/client/component/", "upload/", "deep_link/")
]


# Of many ways of asking, one in so many; all of them take long.
SOME = pytest.mark.parametrize(
    "step", [9, pytest.param(1, marks=pytest.mark.soak)], ids=["some", "all"]
)


@SOME
def test_no_way_of_writing_a_path_leads_to_a_file(served, page_store, secrets, step):
    up = [
        "../",
        "..%2f",
        "%2e%2e/",
        "%2e%2e%2f",
        "%252e%252e%252f",
        "..\\",
        "..%5c",
        "%2e%2e%5c",
        "..%c0%af",
        "..;/",
    ]
    up += ["....//", ".%00./", "..%00/", "..%2500/", "/../", "//..//"]
    files = [
        "etc/passwd",
        "etc/passwd%00.png",
        "etc/passwd%2500.png",
        *(str(path)[1:] for path in secrets),
    ]
    files += [page_store.catalog["path"].iloc[0][1:]]
    ways = [dots * 12 + name for dots in up for name in files]
    ways += [
        start + name
        for start in ("/", "%2f", "file:///", "file:%2f%2f%2f", "~/", "C:\\")
        for name in files
    ]
    ways += ["link.png", "000.png", "photos/000.png", "secret.png", "pyproject.toml", ".env"]
    asked = [
        route + way for place, route in enumerate(ROUTES) for way in ways[place % step :: step]
    ]
    assert len(asked) >= len(ROUTES) * len(ways) // step - len(ROUTES)
    with ThreadPoolExecutor(4) as pool:
        for path, (status, head, body) in zip(
            asked, pool.map(lambda path: raw(served, path), asked), strict=True
        ):
            assert status in (400, 403, 404), path
            assert not told_of(head + body), path
            assert len(body) < 100, path


@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.1:{port}/x.png", "https://photos.invalid/x.png", "//photos.invalid/x"],
)
def test_nothing_is_proxied_or_fetched(client, served, asked_hosts, listener, target):
    target = target.format(port=listener.getsockname()[1])
    for route in (
        "/gradio_api/proxy=",
        "/proxy=",
        "/gradio_api/file=",
        "/file=",
        "/file/",
        "/static/",
        "/assets/",
    ):
        assert raw(served, route + target)[0] in (400, 403, 404)
    assert_nothing_was_asked(asked_hosts, listener)


def test_uploads_logins_calls_and_links_are_not_there(client):
    files = {"files": ("x.png", b"x" * 1000, "image/png")}
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"):
        for path in (
            "upload",
            "upload?upload_id=a",
            "deep_link?session_hash=a",
            "call/find",
            "call/v2/find",
            "run/find",
        ):
            sent = {"files": files} if method in ("POST", "PUT") else {}
            assert client.request(method, f"/gradio_api/{path}", **sent).status_code == 404
        for path in (
            "/run/find",
            "/api/find",
            "/login",
            "/logout",
            "/monitoring",
            "/queue/join",
            "/upload",
            "/docs",
        ):
            assert client.request(method, path).status_code == 404


def test_a_deep_link_names_no_file(client, secrets):
    for link in ("../../../etc/passwd", str(secrets[0]), "..%2f..", "a" * 1000, "\0", ""):
        for path in ("/", "/config"):
            answer = client.get(path, params={"deep_link": link, "page": link})
            # Gradio has no answer to a page that it does not know.
            assert answer.status_code in (200, 403, 404, 500)
            assert {key: answer.headers[key] for key in HEADERS} == HEADERS
            assert not told_of(answer.text)


def test_every_answer_is_signed_and_none_tells_where_it_runs(client, served):
    pages = [
        "/",
        "/config",
        "/theme.css",
        "/favicon.ico",
        "/gradio_api/startup-events",
        "/static/img/logo.svg",
    ]
    pages += [
        "/static/none.js",
        "/assets/none.js",
        "/none",
        "/gradio_api/queue/data",
        "/gradio_api/queue/join",
    ]
    pages += [
        f"/assets/{name}" for name in re.findall(r"assets/([\w.-]+)", client.get("/").text)[:5]
    ]
    for path in pages:
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
            answer = client.request(method, path)
            assert answer.status_code in (200, 404, 405, 422), (method, path)
            assert {key: answer.headers[key] for key in HEADERS} == HEADERS, (method, path)
            if method != "GET" or not path.startswith("/assets"):
                assert not told_of(answer.text + str(answer.headers)), (method, path)
    for path in ("/reset", "/cancel", "/queue/join"):
        for body in (b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"{}" * 9, b"[" * 100_000):
            answer = client.post(
                f"/gradio_api{path}", content=body, headers={"content-type": "application/json"}
            )
            assert answer.status_code in (400, 422)
            assert not told_of(answer.text)
            assert {key: answer.headers[key] for key in HEADERS} == HEADERS


def test_the_page_names_no_other_server_to_load_from(client):
    sources = re.findall(r"""(?:src|href)=["']((?:https?:)?//[^"']+)""", client.get("/").text)
    assert {urlsplit(source).hostname for source in sources} <= {client.base_url.host}


def test_an_unknown_event_is_no_secret(client, events):
    for number in (len(events), 10**6, -1, 2**70):
        answer = join(client, number, [], session=uuid.uuid4().hex)
        assert answer.status_code in (400, 404, 422, 500)
        assert not told_of(answer.text)
        assert {key: answer.headers[key] for key in HEADERS} == HEADERS
    for number in ("x", None, 1.5, [1], {}):
        assert join(client, number, [], session=uuid.uuid4().hex).status_code in (400, 422)
    without = ask(client, 0, [])
    assert without[0] is False


def paths_as_ids(page_store, secrets):
    photo = page_store.catalog["path"].iloc[0]
    ids = [
        "/etc/passwd",
        "../../x",
        "../photos/000.png",
        "./000.png",
        photo,
        "file://" + photo,
        "000.png\0",
        "000",
        "",
    ]
    return ids + [name for path in secrets for name in (str(path), path.name)]


def test_a_path_is_no_image_of_the_catalogue(client, number, page_store, secrets):
    good = {"id": "000.png"}
    for image_id in paths_as_ids(page_store, secrets):
        bad = {"id": image_id}
        asked = [
            ("accept", [bad]),
            ("find", [bad, 3, "cosine", ""]),
            ("compare", [good, bad]),
            ("compare", [bad, good]),
        ]
        for name, data in [*asked, ("why", [image_id, good]), ("why", ["000.png", bad])]:
            success, answer = ask(client, number[name], data)
            assert success
            assert MISSING in json.dumps(answer), (name, image_id)
        success, answer = ask(client, number["vote"], [[["like", image_id], ["dislike", image_id]]])
        assert success
        assert (answer[1]["count"], "forget" in answer[1]["html"]) == (2, False)


@pytest.fixture
def listener():
    """A socket on this machine that nobody may connect to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.fixture
def asked_hosts(monkeypatch):
    """Names and addresses that were looked up."""
    hosts, look_up = [], socket.getaddrinfo

    def noted(host, *args, **options):
        hosts.append(host)
        return look_up(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", noted)
    return hosts


def assert_nothing_was_asked(hosts, listener):
    assert not [host for host in hosts if host not in ("127.0.0.1", "localhost")]
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize(
    "where", ["file:///etc/passwd", "http://127.0.0.1:{port}/x.png", "http://photos.invalid/x.png"]
)
def test_a_photo_that_is_an_address_is_not_fetched(client, number, asked_hosts, listener, where):
    where = where.format(port=listener.getsockname()[1])
    for value in ({"data": where}, {"data": "data:" + where}, {"url": where, "data": where}):
        for name, data in [
            ("accept", [value]),
            ("check", [value]),
            ("find", [value, 3, "cosine", ""]),
        ]:
            success, answer = ask(client, number[name], data)
            assert success
            assert "This is no photo." in json.dumps(answer)
        assert "This is no photo." in json.dumps(ask(client, number["compare"], [value, value]))
    assert_nothing_was_asked(asked_hosts, listener)


FIT = {1: [None], 2: [None, None], 4: [None, 12, "cosine", ""], 0: []}


def anywhere(events, values):
    """Each value in each input of each event: the event's number, and what it is asked with."""
    found = []
    for value in values:
        for event, _, count in distinct(events):
            for at in range(count):
                data = [*FIT[count]]
                data[at] = value
                found.append((event, data, value))
    return found


@SOME
def test_a_value_that_gradio_takes_for_a_file_is_neither_read_nor_copied_nor_fetched(
    client, events, page_store, secrets, asked_hosts, listener, step
):
    """A file that a `gradio.FileData` names is copied to Gradio's folder, from the web too, unless
    it is refused.
    """
    upload_folder = Path(gradio.utils.get_upload_folder())
    before = set(upload_folder.rglob("*"))
    places = [
        "/etc/passwd",
        str(secrets[0]),
        "link.png",
        page_store.catalog["path"].iloc[0],
        str(upload_folder / "x"),
    ]
    places += [f"http://127.0.0.1:{listener.getsockname()[1]}/x.png", "http://photos.invalid/x.png"]
    values = []
    for place in places:
        file = {"path": place, "meta": {"_type": "gradio.FileData"}}
        streamed = file | {"is_stream": True, "url": place}
        values += [file, streamed, {"data": file}, {"id": file}, [{"x": [file]}]]
    for event, data, value in anywhere(events, values)[::step]:
        success, answer = ask(client, event, data, value)
        assert not success
        assert answer is None or not told_of(answer)
    assert_nothing_was_asked(asked_hosts, listener)
    assert set(upload_folder.rglob("*")) == before


ODD = [
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    float("nan"),
    float("inf"),
    -float("inf"),
    "",
    "x",
    "\0",
    "\ud800",
    "é" * 10,
]
ODD += [
    "x" * 100_000,
    [],
    [[]],
    {},
    {"id": None},
    {"id": 5},
    {"id": ["000.png"]},
    {"data": None},
    {"data": 7},
]
ODD += [
    {"data": "data:"},
    {"data": "data:image/png;base64,AAAA"},
    {"data": "data:;base64,é"},
    {"data": {"a": 1}},
]
ODD += [
    {"bytes": float("nan")},
    {"bytes": 10**400 // 10**100},
    {"bytes": "x", "camera": 0},
    {"camera": False},
]
ODD += [["like", "000.png"], [["like", [{}]], [None], ["more"], 5], {"0": ["like", "000.png"]}]
ODD += [{"__type__": "update", "value": 1}, {"value": {"path": "/etc/passwd"}}]
ODD += [
    {"path": "/etc/passwd"},
    {"meta": None},
    {"html": "<script>"},
    ["cosine", "cosine"],
    [1] * 10_000,
]


@SOME
def test_any_value_of_any_type_in_any_input_is_answered(client, events, step):
    """With a sentence, with what was asked for, or with an error of Gradio's that tells nothing."""
    for event, data, value in anywhere(events, ODD)[::step]:
        success, answer = ask(client, event, data, value)
        assert success or answer is None or isinstance(answer, str), (event, value)
    assert client.get("/config").status_code == 200


def test_too_few_too_many_and_deeply_nested_inputs_are_answered(client, events):
    deep = None
    for _ in range(900):
        deep = [deep]
    for event, _, count in distinct(events):
        for data in ([], [None] * 9, [deep] * count, [{"data": deep}] * count):
            ask(client, event, data, deep)
    body = (
        b'{"fn_index": 1, "session_hash": "deep", "data": ['
        + b"[" * 100_000
        + b"]" * 100_000
        + b"]}"
    )
    answer = client.post(
        "/gradio_api/queue/join", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code in (400, 422)
    assert client.get("/config").status_code == 200


def test_a_body_that_is_too_large_is_refused_and_cut_off(client, served):
    answer = client.post("/gradio_api/queue/join", content=b"x" * (MAX_BODY + 1))
    assert (answer.status_code, answer.headers["x-content-type-options"]) == (413, "nosniff")
    told = raw(served, "/gradio_api/queue/join", "POST", [f"Content-Length: {10**15}"])
    assert told[0] == 413  # before a byte of it was sent
    assert raw(
        served, "/gradio_api/queue/join", "POST", ["Content-Length: 5"], b'{"data": [1, 2, 3]}'
    )[0] in (400, 422)
    for odd in ("-5", "five", "5, 6", "9" * 5000):
        assert raw(served, "/gradio_api/queue/join", "POST", [f"Content-Length: {odd}"], b"hello")[
            0
        ] in (400, 413)
    sent = 0

    def endless():
        nonlocal sent
        for _ in range(200):
            sent += 1_000_000
            yield b" " * 1_000_000

    with contextlib.suppress(httpx.TransportError):  # cut off while it was still sent
        assert client.post("/gradio_api/queue/join", content=endless()).status_code in (400, 413)
    assert MAX_BODY < sent < 200_000_000
    assert client.get("/config").status_code == 200


def test_another_website_cannot_ask(client, served, number):
    """Neither by a form or script of its own, nor by letting its name point to this machine."""
    asked = json.dumps(
        {
            "data": [{"id": "000.png"}, 3, "cosine", ""],
            "fn_index": number["find"],
            "session_hash": "a",
        }
    )
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=a",
        None,
    ):
        headers = {"content-type": kind} if kind else {}
        assert (
            client.post("/gradio_api/queue/join", content=asked, headers=headers).status_code == 422
        )
    for origin in ("http://evil.example", "null"):
        answer = client.get("/config", headers={"origin": origin})
        assert "access-control-allow-origin" not in answer.headers
    browser = {
        "origin": "http://localhost:1",
        "sec-fetch-site": "same-site",
        "sec-fetch-mode": "cors",
    }
    assert client.get("/config", headers=browser).status_code == 403
    assert client.get("/config", headers={"host": "evil.example"}).status_code == 403
    assert (
        client.get("/config", headers={"host": f"localhost:{urlsplit(served).port}"}).status_code
        == 200
    )


def test_answers_of_another_session_stay_its_own(client, number):
    session = uuid.uuid4().hex
    event = join(
        client, number["find"], [{"id": "000.png"}, 3, "cosine", ""], session=session
    ).json()["event_id"]
    for other in (event, "", "*", session[:-1], session + "x", "%25", "null"):
        status, _, body = raw(str(client.base_url), f"/gradio_api/queue/data?session_hash={other}")
        assert "lk-" not in body, status
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
        assert "lk-gallery" in stream.read().decode()
    assert client.get("/gradio_api/queue/data").status_code == 422


def uploaded(seed):
    """Bytes of a photo, and its `data:` URL."""
    pixels = np.random.default_rng(1000 + seed).integers(0, 256, (6, 5, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((60, 48)).save(stream, "PNG")
    return stream.getvalue(), "data:image/png;base64," + base64.b64encode(
        stream.getvalue()
    ).decode()


def test_a_crowd_is_answered_each_its_own(served, number, page_store, encoder):
    """50 sessions at once, with different photos, ways of sending, metrics, numbers and labels."""

    def search(seed):
        k, metric, label = (
            1 + seed % 24,
            ("cosine", "euclidean")[seed % 2],
            ("", "a", "b", "c")[seed % 4],
        )
        where = {"label": label} if label else None
        with httpx.Client(base_url=served, timeout=60) as client:
            if seed % 3 == 0:
                query = page_store.catalog["image_id"].iloc[seed % 36]
                value = {"id": query}
            else:
                data, url = uploaded(seed)
                value = {"data": url}
                query = embed_images(
                    encoder, [fitted(data, (32, 32), fit=page_store.manifest["fit"])]
                )[0]
                if seed % 3 == 1:  # as a browser does
                    value = ask(client, number["accept"], [value])[1][0]
            success, answer = ask(client, number["find"], [value, k, metric, label])
        assert success
        ids = re.findall(r'class="lk-photo" data-event="search" data-id="([^"]*)"', answer[0])
        scores = re.findall(r'class="lk-score"[^>]*>([^<]*)<', answer[0])
        return (ids, scores), recommend(page_store, query, k, metric=metric, where=where)

    with ThreadPoolExecutor(50) as pool:
        for (ids, scores), expected in pool.map(search, range(50)):
            assert ids == expected["image_id"].tolist()
            np.testing.assert_allclose(
                [float(score) for score in scores], expected["score"], atol=6e-4
            )
            assert ids


def test_the_server_listens_on_loopback_alone(served):
    psutil = pytest.importorskip("psutil")
    bound = [
        one.laddr
        for one in psutil.Process().net_connections("inet")
        if one.status == psutil.CONN_LISTEN
    ]
    assert {address.ip for address in bound if address.port == urlsplit(served).port} == {
        "127.0.0.1"
    }
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


def test_what_the_caller_of_launch_asks_for_is_respected_and_stays_guarded(monkeypatch):
    given = {}
    monkeypatch.setattr(
        gradio.Blocks, "launch", lambda self, *args, **options: given.update(options, args=args)
    )
    with Page() as page:
        gradio.HTML("x")
    page.launch()
    assert (given["share"], given["server_name"], page.analytics_enabled) == (
        False,
        "127.0.0.1",
        False,
    )
    # On Colab Gradio decides, as it says that share=False is not supported there.
    monkeypatch.setattr(server, "on_colab", lambda: True)
    for share in (None, False, True):
        page.launch(share=share)
        assert given["share"] is share
    monkeypatch.undo()
    monkeypatch.setattr(
        gradio.Blocks, "launch", lambda self, *args, **options: given.update(options, args=args)
    )
    asked = {
        "share": True,
        "server_name": "0.0.0.0",
        "server_port": 7777,
        "height": 5,
        "app_kwargs": {"title": "x"},
    }
    page.launch(**asked)
    for key in ("share", "server_name", "server_port", "height"):
        assert given[key] == asked[key]
    assert given["app_kwargs"]["title"] == "x"
    assert [one.cls for one in given["app_kwargs"]["middleware"]] == [Guard]


ALONE = """
import base64, json, os, socket, sys, tempfile, tracemalloc
from pathlib import Path

sys.path[:0] = [{tests!r}, {tests!r} + '/page']
folder = Path({folder!r})

def files(*places):
    return {{os.path.join(at, name) for place in places for at, _, names in os.walk(place) for name in names
            if not name.startswith("__autograph_generated_file")}}  # TensorFlow's, of the encoder's own code

elsewhere, connect, look_up = [], socket.socket.connect, socket.getaddrinfo

def connecting(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1"):
        elsewhere.append(str(address))
    return connect(self, address)

def looking_up(host, *args, **options):
    if host not in ("127.0.0.1", "localhost", "::1", None):
        elsewhere.append(str(host))
    return look_up(host, *args, **options)

socket.socket.connect, socket.getaddrinfo = connecting, looking_up
package = Path({package!r})
source = files(package)
import lookalike.page.app
import httpx, psutil
from conftest import make_catalog
from lookalike.backbones import build_encoder
from lookalike.embeddings import embed_catalog
from test_app_http import ask, join, uploaded

encoder = build_encoder("VGG16Slim", weights=None, image_size=32)
store = embed_catalog(encoder, make_catalog(folder / "photos", 36, views=2), folder / "store")
places = folder, tempfile.gettempdir(), os.getcwd(), package, Path.home()
before = files(*places)
page = lookalike.page.app.build_app(store, encoder)
_, url, _ = page.launch(prevent_thread_lock=True, quiet=True)
client = httpx.Client(base_url=url, timeout=60)
number = {{one["api_name"]: one["id"] for one in reversed(client.get("/config").json()["dependencies"])}}
client.post("/gradio_api/upload", files={{"files": ("x.png", b"x" * 2_000_000)}})
tell = lambda data: "data:image/png;base64," + base64.b64encode(data).decode()
hostile = [b"", b"no photo", uploaded(1)[0][:200], b"GIF89a" + bytes(99), b"\\x89PNG\\r\\n" + bytes(99)]

def use(place):
    photo, other = {{"data": uploaded(place)[1]}}, {{"id": "%03d.png" % (place % 36)}}
    kinds = (("accept", [photo]), ("find", [photo, 12, "cosine", ""]), ("why", [other["id"], photo]),
             ("compare", [photo, other]), ("vote_1", [[["like", other["id"]]]]), ("check", [photo]),
             ("accept", [{{"data": tell(hostile[place % 5])}}]), ("check", [{{"data": tell(hostile[place % 5])}}]))
    name, data = kinds[place % len(kinds)]
    return ask(client, number[name], data)

def resident():
    return psutil.Process().memory_info().rss

for place in range({rounds}):
    use(place)
after = files(*places)
start = resident()
for place in range({rounds}):
    use(place)
grown = resident() - start
noise = base64.b64encode(os.urandom(900_000)).decode()
start = resident()
for place in range(40):  # 1.2 MB each, in a session of its own
    ask(client, number["find"], [{{"data": "data:image/png;base64," + noise}}, 3, "cosine", ""])
held = resident() - start
handlers, photo = page.handlers, {{"data": uploaded(0)[1]}}

def at_the_desk(place):
    other = {{"id": "%03d.png" % (place % 36)}}
    handlers.accept(photo), handlers.find(photo, 12, "euclidean", "")
    handlers.why(other["id"], photo)
    handlers.compare(photo, other), handlers.vote([["like", other["id"]]]), handlers.check(photo)

for place in range(36):
    handlers.pages.thumbnail(place)
at_the_desk(0)
tracemalloc.start(1)
at_the_desk(0)
traced = tracemalloc.get_traced_memory()[0]
for place in range({rounds} // 4):
    at_the_desk(place)
traced = tracemalloc.get_traced_memory()[0] - traced
told = {{"elsewhere": elsewhere, "written": sorted(after - before), "source": sorted(files(package) - source),
        "grown": grown, "held": held, "traced": traced}}
(folder / "told.json").write_text(json.dumps(told))
page.close()
"""


@pytest.fixture(scope="module", params=[16, pytest.param(160, marks=pytest.mark.soak)])
def alone(tmp_path_factory, request):
    """What a process did that builds, serves and uses the page, with folders that nobody else
    writes to.
    """
    folder = tmp_path_factory.mktemp("alone")
    for name in ("home", "temporary", "current"):
        (folder / name).mkdir()
    package = Path(sys.modules["lookalike"].__file__).parent
    options = {
        "tests": str(PROJECT / "tests"),
        "folder": str(folder),
        "package": str(package),
        "rounds": request.param,
    }
    homes = {
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "temporary"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    paths = {"PYTHONPATH": os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", ALONE.format(**options)],
        cwd=folder / "current",
        env=os.environ | homes | paths,
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr[-3000:]
    return json.loads((folder / "told.json").read_text())


def test_the_page_asks_nobody_elsewhere_writes_nothing_and_holds_nothing(alone):
    """Of requests in as many sessions, of 40 large photos in others, of answers of handlers."""
    assert alone["elsewhere"] == []
    assert alone["written"] == []
    assert alone["source"] == []  # beside the package
    assert alone["grown"] < 30_000_000
    assert alone["held"] < 30_000_000  # of 48 MB that were sent
    assert alone["traced"] < 300_000
