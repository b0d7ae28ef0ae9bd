"""The guard alone, as a plain ASGI application in front of one that answers everything."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.page.server import ALLOWED, HEADERS, MAX_BODY, POLICY, Guard, forged
from lookalike.page.uploads import MAX_BYTES

NEEDED = (
    "/",
    "/config",
    "/config/",
    "/theme.css",
    "/favicon.ico",
    "/assets/index-BQ_3.js",
    "/static/img/logo.svg",
)
NEEDED += tuple(
    f"/gradio_api/{name}"
    for name in ("queue/join", "queue/data", "startup-events", "reset", "cancel")
)
NEEDED += (
    "/gradio_api/heartbeat/x8s0abc",
    "/static/fonts/system-ui/system-ui-Regular.woff2",
    "/assets/a@1.0.js",
)


async def everything(scope, receive, send):
    """Answers every request with what it read, and a header that the guard knows better."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("gone")
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    headers = [(b"Cache-Control", b"max-age=9"), (b"x-own", b"kept")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": str(len(body)).encode()})


def through(path, *, app=everything, headers=(), chunks=(b"",), method="GET", **scope):
    """The status, headers and body of what is sent for a request; `status` is None for nothing."""
    sent, waiting = [], list(chunks)
    scope = {"type": "http", "path": path, "headers": list(headers), "method": method, **scope}

    async def receive():
        if not waiting:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message):
        sent.append(message)

    asyncio.run(Guard(app)(scope, receive, send))
    head = sent[0] if sent else {"status": None, "headers": []}
    named = [(key.decode().lower(), value.decode()) for key, value in head["headers"]]
    assert len(named) == len(dict(named)), "a header is sent twice"
    return head["status"], dict(named), b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("path", NEEDED)
@pytest.mark.parametrize("root", ["", "/shop"])
def test_what_the_page_needs_passes_and_is_signed(path, root):
    for asked in (path, root + path):  # a proxy may cut the root off, or leave it
        status, headers, body = through(asked, root_path=root)
        assert (status, body, headers["x-own"]) == (200, b"0", "kept")
        assert {key: headers[key] for key in HEADERS} == HEADERS


@pytest.mark.parametrize("root", ["/", "/shop/"])
def test_a_root_that_ends_in_a_slash_is_a_root_too(root):
    assert through(root.rstrip("/") + "/config", root_path=root)[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "",
        "config",
        "//",
        "//config",
        "/config//",
        "/Config",
        "/config\n",
        "/config\0",
        "/config/x",
        "/shop/config",
    ]
    + [
        "/theme.css/",
        "/static",
        "/static/",
        "/static/../x",
        "/static/a..b",
        "/static/a\\b",
        "/static/%2e%2e/x",
    ]
    + [
        "/assets/a b",
        "/assets/a:b",
        "/assets/a\0.js",
        "/assets/a\n",
        "/login",
        "/logout",
        "/monitoring",
        "/robots.txt",
    ]
    + [
        "/manifest.json",
        "/pwa_icon",
        "/svelte/a.js",
        "/file=/etc/passwd",
        "/file/etc/passwd",
        "/static/~/x,y",
    ]
    + ["/run/find", "/api/find", "/openapi.json", "/docs", "/gradio_api", "/gradio_api/"]
    + [
        f"/gradio_api/{name}"
        for name in ("upload", "info", "file=x", "file/x", "proxy=http://a/", "deep_link", "runs")
    ]
    + [
        f"/gradio_api/{name}"
        for name in ("call/find", "call/v2/find", "run/find", "api/find", "stream/x", "app_id")
    ]
    + [
        f"/gradio_api/{name}"
        for name in ("component_server", "user", "token", "queue/status", "queue/join/", "mcp")
    ]
    + [
        f"/gradio_api/{name}"
        for name in ("heartbeat/", "heartbeat/a/b", "heartbeat/a-b", "dev/reload", "vibe-edit")
    ]
    + [
        "/gradio_api/custom_component/a/client/b/c",
        "/gradio_api/run-history/buckets",
        "/gradio_api/upload_progress",
    ],
)
def test_all_else_is_not_there_and_never_reaches_the_application(path):
    async def reached(scope, receive, send):
        raise AssertionError(path)

    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "BREW"):
        status, headers, body = through(path, app=reached, method=method)
        assert status == 404
        assert json.loads(body) == {"detail": "There is nothing here."}
        assert {key: headers[key] for key in HEADERS} == HEADERS


@given(
    st.text(st.sampled_from("/.\\%\0\n~:a5é"), max_size=12),
    st.sampled_from(["/static/", "/assets/", "/", ""]),
)
def test_no_allowed_path_can_climb(text, start):
    status = through(start + text)[0]
    assert status in (200, 404)
    if status == 200:
        assert ALLOWED.fullmatch(start + text)
        assert not any(odd in start + text for odd in ("..", "\\", "%", "\0", "\n", "~", ":"))


@pytest.mark.parametrize(
    "length", [MAX_BODY + 1, 10**12, -1, "", "ten", "1e3", "+5", " 5", "0x5", "²"]
)
def test_a_length_that_is_too_large_or_none_is_refused_unread(length):
    async def reached(scope, receive, send):
        raise AssertionError(length)

    told = str(length).encode("utf-8")
    status, headers, body = through(
        "/gradio_api/queue/join", app=reached, headers=[(b"content-length", told)]
    )
    assert status == 413
    assert f"{MAX_BODY:,} bytes" in json.loads(body)["detail"]
    assert headers["content-security-policy"] == POLICY


def test_a_length_of_thousands_of_digits_is_refused_too():
    """Python refuses to read it as a number."""
    assert through("/gradio_api/queue/join", headers=[(b"content-length", b"9" * 5000)])[0] == 413


def test_a_body_of_just_the_most_passes_and_one_byte_more_does_not():
    for chunks in ([b"x" * MAX_BODY], [b"x" * (MAX_BODY - 10), b"", b"x" * 10]):
        assert through("/gradio_api/queue/join", chunks=chunks)[2] == str(MAX_BODY).encode()
    for chunks in ([b"x" * (MAX_BODY + 1)], [b"x" * MAX_BODY, b"x"], [b"x" * 1_000_000] * 20):
        assert not asks_in_full(chunks)


def asks_in_full(chunks):
    """Whether the application was given all of a body; it may be told of it by an error, or by no
    answer.
    """
    try:
        status, _, body = through("/gradio_api/queue/join", chunks=chunks)
    except ConnectionError:
        return False
    return status == 200 and int(body) == sum(map(len, chunks))


def test_a_length_that_lies_does_not_let_more_in():
    async def counts(scope, receive, send):
        received = 0
        while (message := await receive())["type"] == "http.request":
            received += len(message["body"])
            assert received <= MAX_BODY
        await send({"type": "http.response.start", "status": 400, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    headers = [(b"content-length", b"5")]
    assert through(
        "/gradio_api/queue/join", app=counts, headers=headers, chunks=[b"x" * 9_000_000] * 4
    )[0] in (400, 413)


def test_the_largest_photo_fits_in_base64():
    assert (MAX_BYTES + 2) // 3 * 4 + 10_000 < MAX_BODY


def test_a_websocket_is_closed_and_a_lifespan_passes():
    reached, sent = [], []

    async def app(scope, receive, send):
        reached.append(scope["type"])

    async def send(message):
        sent.append(message["type"])

    asyncio.run(Guard(app)({"type": "lifespan"}, None, send))
    asyncio.run(
        Guard(app)({"type": "websocket", "path": "/gradio_api/upload", "headers": []}, None, send)
    )
    assert reached == ["lifespan"]
    assert sent == ["websocket.close"]


def test_an_answer_the_application_fails_to_give_is_signed_and_tells_nothing():
    async def breaks(scope, receive, send):
        raise KeyError("/home/someone/secret")

    status, headers, body = through("/config", app=breaks)
    assert status == 500
    assert headers["content-security-policy"] == POLICY
    assert b"secret" not in body


def test_an_answer_that_breaks_off_is_not_begun_again():
    async def breaks(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError("secret")

    with pytest.raises(KeyError):
        through("/config", app=breaks)


def test_the_policy_names_no_other_server():
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    allowed = {word for sources in rules.values() for word in sources.split()}
    assert allowed == {"'self'", "'none'", "'unsafe-inline'", "'unsafe-eval'", "data:", "blob:"}
    assert rules["default-src"].split()[0] == rules["form-action"] == "'self'"
    assert rules["object-src"] == "'none'"


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_another_website_lets_a_browser_ask_is_refused(site):
    """Browsers tell it, and a script cannot say otherwise; another port of this machine is another
    website.
    """
    told = (b"sec-fetch-site", site.encode())
    for mode in (b"cors", b"no-cors", b"websocket"):
        for path in ("/config", "/gradio_api/queue/join", "/static/a.js", "/"):
            for method in ("GET", "POST"):
                assert (
                    through(path, headers=[told, (b"sec-fetch-mode", mode)], method=method)[0]
                    == 403
                )
    assert through("/", headers=[told, (b"sec-fetch-mode", b"navigate")], method="POST")[0] == 403


def test_the_page_itself_a_link_to_it_a_frame_and_a_program_may_ask():
    for site, mode in [("same-origin", "cors"), ("none", "navigate"), ("cross-site", "navigate")]:
        headers = [(b"sec-fetch-site", site.encode()), (b"sec-fetch-mode", mode.encode())]
        assert through("/", headers=headers)[0] == 200
    assert (
        through(
            "/gradio_api/queue/join", headers=[(b"sec-fetch-site", b"same-origin")], method="POST"
        )[0]
        == 200
    )
    assert through("/gradio_api/queue/join", method="POST")[0] == 200


def answered_as(host, *more, local=True):
    sent = []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    headers = [(b"host", host), *more]
    scope = {"type": "http", "path": "/config", "headers": headers, "method": "GET"}
    asyncio.run(Guard(everything, local=local)(scope, receive, send))
    return sent[0]["status"]


def test_a_website_that_lets_its_name_point_to_this_machine_is_refused():
    hosts = [
        b"evil.example",
        b"evil.example:7860",
        b"127.0.0.1.evil.example",
        b"localhost.evil.example:1",
        b"",
        b"[::2]",
    ]
    for host in hosts:
        assert answered_as(host) == 403, host
        assert answered_as(host, local=False) == 200
    for host in (b"127.0.0.1:7860", b"localhost", b"LOCALHOST:1", b"[::1]:7860", b"[::1]"):
        assert answered_as(host) == 200, host
    # By https: this name has a proof.
    assert answered_as(b"proxy.example", (b"sec-fetch-site", b"same-origin")) == 200


@pytest.mark.parametrize(
    "value", [{"meta": None}, [{"x": [{"meta": 1}]}], "\ud800", {"\udfff": 1}, [["a", "b\ud800"]]]
)
def test_what_names_a_file_or_holds_half_a_character_is_forged(value):
    assert forged(value)


def test_what_the_page_sends_is_not_forged():
    assert not forged(
        [{"id": "meta"}, ["like", "é\U0001f600.png"], None, 5, {"data": "data:;base64,AAAA"}]
    )
