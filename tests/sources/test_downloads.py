import errno
import io
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import closable, small_disk
from lookalike.sources import downloads
from lookalike.sources.downloads import download_images


def photo(kind, image=None):
    stream = io.BytesIO()
    (image or Image.new("RGB", (48, 32), "red")).save(stream, kind)
    return stream.getvalue()


RED, PNG = photo("JPEG"), photo("PNG")
# Half of its bytes are half of its pixels.
NOISE = photo("JPEG", Image.effect_noise((200, 200), 60))


class Site(ThreadingHTTPServer):
    """A web server on this machine; `pages` tells how it answers each path, `asked` how often it
    was.
    """

    request_queue_size = 128

    def __init__(self, pages):
        super().__init__(("127.0.0.1", 0), Visit)
        self.pages, self.asked, self.lock, self.closing = (
            pages,
            Counter(),
            threading.Lock(),
            threading.Event(),
        )
        self.connections = self.under_way = self.most_under_way = 0

    def url(self, name, host="127.0.0.1"):
        return f"http://{host}:{self.server_port}/{name}"

    def get_request(self):
        self.connections += 1
        return super().get_request()

    def handle_error(self, request, client_address):
        """A client that hangs up early is what is tested."""

    @contextmanager
    def counted(self, path):
        with self.lock:
            self.asked[path[1:]] += 1
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            yield
        finally:
            with self.lock:
                self.under_way -= 1


class Visit(BaseHTTPRequestHandler):
    """One client; the methods below are the ways to answer it."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        with self.server.counted(self.path):
            self.server.pages[self.path[1:]](self)

    def head(self, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def give(self, body=b"", status=200, **headers):
        self.head(status, Content_Length=len(body), **headers)
        self.wfile.write(body)

    def give_without_length(self, body):
        self.head(Connection="close")
        self.wfile.write(body)
        self.close_connection = True

    def go_on(self, piece, pause=0.0):
        """Send a piece again and again, until the client has enough."""
        while not self.server.closing.wait(pause):
            self.wfile.write(piece)


@contextmanager
def serving(pages):
    with Site(pages) as site:
        thread = threading.Thread(target=site.serve_forever, args=[0.01], daemon=True)
        thread.start()
        try:
            yield site
        finally:
            site.closing.set()
            site.shutdown()
            thread.join()


@pytest.fixture
def site():
    with serving({"good.jpg": lambda visit: visit.give(RED)}) as site:
        yield site


def fetch(site, folder, *names, **options):
    """Download pages of a site into a folder, each under its own name."""
    options = {"public_only": False, "workers": 4} | options
    return download_images(
        [site.url(name) for name in names], [folder / name for name in names], **options
    )


def fetch_in_time(site, folder, name, **options):
    """Why there is no such image; however the server behaves, 1 second is not allowed to become 6."""
    reasons = []
    thread = threading.Thread(
        target=lambda: reasons.extend(fetch(site, folder, name, **{"seconds": 1} | options)),
        daemon=True,
    )
    thread.start()
    thread.join(6)
    assert reasons, "it has not ended, or raised"
    return reasons[0]


def names_in(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


# --- What arrives
# ------------------------------------------------------------------------------------------------


def test_images_arrive_byte_for_byte_without_a_reason(site, tmp_path):
    site.pages |= {
        "2.png": lambda visit: visit.give(PNG),
        "3.jpg": lambda visit: visit.give_without_length(NOISE),
    }
    assert fetch(site, tmp_path / "new" / "folder", "good.jpg", "2.png", "3.jpg") == ["", "", ""]
    assert {file.name: file.read_bytes() for file in (tmp_path / "new" / "folder").iterdir()} == {
        "good.jpg": RED,
        "2.png": PNG,
        "3.jpg": NOISE,
    }


def test_a_body_in_chunks_arrives_whole(site, tmp_path):
    def in_chunks(visit):
        visit.head(Transfer_Encoding="chunked")
        for piece in (NOISE[:1000], NOISE[1000:]):
            visit.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        visit.wfile.write(b"0\r\n\r\n")

    site.pages["1.jpg"] = in_chunks
    assert fetch(site, tmp_path, "1.jpg") == [""]
    assert (tmp_path / "1.jpg").read_bytes() == NOISE


def test_paths_may_be_text(site, tmp_path):
    file = str(tmp_path / "1.jpg")
    assert download_images([site.url("good.jpg")], [file], public_only=False) == [""]
    assert names_in(tmp_path) == ["1.jpg"]


def test_nothing_to_download_is_no_answer():
    assert download_images([], []) == []


def test_each_address_needs_a_file(tmp_path):
    with pytest.raises(ValueError):
        download_images(
            ["http://127.0.0.1/1.jpg", "http://127.0.0.1/2.jpg"], [tmp_path / "1.jpg"], workers=1
        )


def test_answers_come_in_the_order_of_the_addresses(site, tmp_path):
    """The first are the slowest, so that they are not the first to end."""

    def late(number):
        def answer(visit):
            time.sleep(0.02 * (20 - number))
            visit.give(RED, 200 if number % 3 else 400 + number)

        return answer

    names = [f"{number}.jpg" for number in range(20)]
    site.pages |= {name: late(number) for number, name in enumerate(names)}
    reasons = fetch(site, tmp_path, *names, workers=8)
    assert reasons == ["" if number % 3 else f"HTTP {400 + number}" for number in range(20)]
    assert names_in(tmp_path) == sorted(name for number, name in enumerate(names) if number % 3)


@pytest.mark.parametrize(("workers", "fewest"), [(1, 1), (8, 2)])
def test_so_many_workers_ask_at_a_time(site, tmp_path, workers, fewest):
    def slow(visit):
        time.sleep(0.15)
        visit.give(RED)

    names = [f"{number}.jpg" for number in range(8)]
    site.pages |= dict.fromkeys(names, slow)
    assert fetch(site, tmp_path, *names, workers=workers) == [""] * 8
    assert fewest <= site.most_under_way <= workers


@pytest.mark.parametrize("content", [RED, b"something else", b""])
def test_a_file_that_is_there_is_not_fetched_again(site, tmp_path, content):
    (tmp_path / "good.jpg").write_bytes(content)
    assert fetch(site, tmp_path, "good.jpg") == [""]
    assert (tmp_path / "good.jpg").read_bytes() == content
    assert site.connections == 0


@settings(max_examples=15, deadline=None)
@given(kept=st.lists(st.booleans(), max_size=12))
def test_only_what_is_missing_is_fetched(tmp_path_factory, kept):
    folder, names = (
        tmp_path_factory.mktemp("images"),
        [f"{number}.png" for number in range(len(kept))],
    )
    with serving(dict.fromkeys(names, lambda visit: visit.give(PNG))) as site:
        assert fetch(site, folder, *names) == [""] * len(kept)
        for name, stays in zip(names, kept, strict=True):
            if not stays:
                (folder / name).unlink()
        assert fetch(site, folder, *names) == [""] * len(kept)
        assert site.asked == {
            name: 1 if stays else 2 for name, stays in zip(names, kept, strict=True)
        }
    assert names_in(folder) == sorted(names)


# --- What does not
# -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [204, 304, 400, 401, 403, 404, 410, 451, 501])
def test_a_final_answer_is_not_asked_for_again(site, tmp_path, status):
    site.pages["1.jpg"] = lambda visit: visit.give(status=status)
    assert fetch_in_time(site, tmp_path, "1.jpg") == f"HTTP {status}"
    assert site.asked["1.jpg"] == 1
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_passing_trouble_is_tried_again(site, tmp_path, status):
    site.pages["1.jpg"] = lambda visit: visit.give(RED, 200 if site.asked["1.jpg"] == 2 else status)
    assert fetch_in_time(site, tmp_path, "1.jpg", seconds=5) == ""
    assert site.asked["1.jpg"] == 2
    assert names_in(tmp_path) == ["1.jpg"]


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_a_lasting_trouble_is_named_after_so_many_further_attempts(site, tmp_path, retries):
    site.pages["1.jpg"] = lambda visit: visit.give(status=503, Retry_After=3600)
    assert fetch_in_time(site, tmp_path, "1.jpg", seconds=5, retries=retries) == "HTTP 503"
    assert site.asked["1.jpg"] == 1 + retries
    assert names_in(tmp_path) == []


def test_no_attempt_starts_after_the_time_is_over(site, tmp_path):
    """The pauses are 0.5 and 1 s: the third attempt would start after 1.5 s."""
    site.pages["1.jpg"] = lambda visit: visit.give(status=503)
    assert fetch_in_time(site, tmp_path, "1.jpg", retries=4) == "HTTP 503"
    assert site.asked["1.jpg"] == 2


def test_a_connection_that_breaks_is_tried_again(site, tmp_path):
    def shaky(visit):
        if site.asked["1.jpg"] == 1:
            visit.connection.shutdown(socket.SHUT_RDWR)
        else:
            visit.give(RED)

    site.pages["1.jpg"] = shaky
    assert fetch_in_time(site, tmp_path, "1.jpg", seconds=5) == ""
    assert site.asked["1.jpg"] == 2


def test_a_body_that_breaks_off_is_tried_again(site, tmp_path):
    def shaky(visit):
        visit.head(Content_Length=len(NOISE))
        visit.wfile.write(NOISE[:1000] if site.asked["1.jpg"] == 1 else NOISE)
        visit.close_connection = True

    site.pages["1.jpg"] = shaky
    assert fetch_in_time(site, tmp_path, "1.jpg", seconds=5) == ""
    assert (tmp_path / "1.jpg").read_bytes() == NOISE


def cut_off(visit):
    visit.head(Content_Length=len(NOISE))
    visit.wfile.write(NOISE[: len(NOISE) // 2])
    visit.close_connection = True


def drip_body(visit):
    visit.head(Content_Length=len(NOISE))
    for position in range(len(NOISE)):
        if visit.server.closing.wait(0.05):
            return
        visit.wfile.write(NOISE[position : position + 1])


def drip_headers(visit):
    visit.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    visit.go_on(b"x", 0.05)


def endless_headers(visit):
    visit.wfile.write(b"HTTP/1.1 200 OK\r\n")
    visit.go_on(b"X-Header: one more\r\n")


def always_continue(visit):
    visit.go_on(b"HTTP/1.1 100 Continue\r\n\r\n", 0.01)


def endless_body(visit):
    visit.head(Connection="close")
    visit.go_on(RED + bytes(1 << 16))


def drip_chunk_size(visit):
    visit.head(Transfer_Encoding="chunked")
    visit.go_on(b"0", 0.05)


def endless_trailers(visit):
    visit.head(Transfer_Encoding="chunked")
    visit.wfile.write(b"%x\r\n%s\r\n0\r\n" % (len(RED), RED))
    visit.go_on(b"X-Trailer: one more\r\n", 0.01)


def redirect_with_endless_body(visit):
    visit.head(302, Location="/good.jpg", Connection="close")
    visit.go_on(bytes(1 << 16))


def redirect_with_dripping_body(visit):
    visit.head(302, Location="/good.jpg", Content_Length=10_000)
    visit.go_on(b"x", 0.05)


def slow_redirects(visit):
    time.sleep(0.9)
    visit.give(status=302, Location="/1.jpg")


def busy_then_silent(visit):
    if visit.server.asked["1.jpg"] == 1:
        visit.give(status=503)
    else:
        visit.server.closing.wait(20)


BAD_SERVERS = {
    "a page, not an image": (
        lambda visit: visit.give(b"<html><p>Sorry</p></html>"),
        "not an image",
    ),
    "nothing": (lambda visit: visit.give(), "empty file"),
    "noise": (lambda visit: visit.give(bytes(range(256)) * 40), "not an image"),
    "half an image, by its length": (cut_off, "IncompleteRead"),
    "half an image, without a length": (
        lambda visit: visit.give_without_length(NOISE[:5000]),
        "cannot be decoded",
    ),
    "half an image, with half its length": (
        lambda visit: visit.give(NOISE[:5000]),
        "cannot be decoded",
    ),
    "a length that is none": (lambda visit: visit.head(Content_Length="5, 6"), "Content-Length"),
    "no HTTP": (lambda visit: visit.wfile.write(RED + b"\r\n"), ""),
    "silence": (lambda visit: visit.server.closing.wait(20), ""),
    "goodbye": (lambda visit: visit.connection.shutdown(socket.SHUT_RDWR), "closed"),
    "a body byte by byte": (drip_body, "not there within 1 s"),
    "headers byte by byte": (drip_headers, ""),
    "endless headers": (endless_headers, ""),
    "endless patience": (always_continue, ""),
    "an endless body": (endless_body, "more than 1,000,000 bytes"),
    "the size of a chunk byte by byte": (drip_chunk_size, ""),
    "endless trailers": (endless_trailers, ""),
    "redirects without end": (lambda visit: visit.give(status=302, Location="/1.jpg"), "redirects"),
    "redirects, each slow": (slow_redirects, ""),
    "a redirect to a file": (
        lambda visit: visit.give(status=302, Location="file:///etc/hostname"),
        "",
    ),
    "a redirect to FTP": (
        lambda visit: visit.give(status=302, Location="ftp://127.0.0.1/1.jpg"),
        "",
    ),
    "a redirect to nonsense": (lambda visit: visit.give(status=302, Location="http://[::1"), ""),
    "a redirect to a host without a name": (
        lambda visit: visit.give(status=302, Location="http://a..b/"),
        "",
    ),
    "a redirect to nowhere": (lambda visit: visit.give(status=302), "HTTP 302"),
    "busy, then silent": (busy_then_silent, ""),
}


@pytest.mark.parametrize("server", BAD_SERVERS)
def test_a_bad_server_costs_one_image_and_a_bounded_time(site, tmp_path, server):
    site.pages["1.jpg"], reason = BAD_SERVERS[server]
    told = fetch_in_time(site, tmp_path, "1.jpg", max_bytes=1_000_000)
    assert told
    assert reason in told
    assert names_in(tmp_path) == []
    assert fetch(site, tmp_path, "good.jpg") == [""]


# A redirect may have a body, which nobody wants to read.
@pytest.mark.parametrize("page", [redirect_with_endless_body, redirect_with_dripping_body])
def test_the_body_of_a_redirect_keeps_nobody_waiting(site, tmp_path, page):
    site.pages["1.jpg"] = page
    reason = fetch_in_time(site, tmp_path, "1.jpg")
    assert names_in(tmp_path) == ([] if reason else ["1.jpg"])


def test_all_attempts_together_take_no_longer_than_the_time_of_one(site, tmp_path):
    """Four hops of 0.8 s each: each is within the time, all together are not."""

    def hop(target):
        def answer(visit):
            time.sleep(0.8)
            visit.give(status=302, Location=target)

        return answer

    site.pages |= {
        "1.jpg": hop("/2.jpg"),
        "2.jpg": hop("/3.jpg"),
        "3.jpg": hop("/4.jpg"),
        "4.jpg": hop("/good.jpg"),
    }
    start = time.monotonic()
    assert fetch_in_time(site, tmp_path, "1.jpg") != ""
    assert time.monotonic() - start < 2.5


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a full queue refuses, and does not keep silent"
)
def test_a_host_of_many_silent_addresses_takes_no_longer_than_one(tmp_path, monkeypatch):
    resolve(monkeypatch, silent=[["127.0.0.1"] * 8] * 9)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as stack:
        port = listener.getsockname()[1]
        for _ in range(4):  # more than wait in its queue
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        start = time.monotonic()
        url = f"http://silent.example:{port}/1.jpg"
        (reason,) = download_images([url], [tmp_path / "1.jpg"], seconds=1, public_only=False)
        assert time.monotonic() - start < 3
    assert reason
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(("extra", "reason"), [(0, ""), (1, f"more than {len(RED):,} bytes")])
def test_a_body_may_be_as_large_as_the_limit_and_no_larger(site, tmp_path, extra, reason):
    site.pages["1.jpg"] = lambda visit: visit.give(RED + b"\0" * extra)
    assert fetch(site, tmp_path, "1.jpg", max_bytes=len(RED)) == [reason]
    assert names_in(tmp_path) == ["1.jpg"] * (not reason)


def test_one_bad_server_does_not_take_the_images_of_the_others(site, tmp_path):
    site.pages |= {"drip.jpg": drip_body, "gone.jpg": lambda visit: visit.give(status=410)}
    names = ["good.jpg", "drip.jpg", "gone.jpg"]
    assert fetch(site, tmp_path, *names, seconds=1) == ["", "not there within 1 s", "HTTP 410"]
    assert names_in(tmp_path) == ["good.jpg"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(site, tmp_path, status):
    site.pages["1.jpg"] = lambda visit: visit.give(b"moved", status=status, Location="/good.jpg")
    assert fetch(site, tmp_path, "1.jpg") == [""]
    assert (tmp_path / "1.jpg").read_bytes() == RED
    assert names_in(tmp_path) == ["1.jpg"]


def test_five_redirects_are_followed_and_six_are_not(site, tmp_path):
    for number in range(1, 7):
        target = "/good.jpg" if number == 1 else f"/{number - 1}.jpg"
        site.pages[f"{number}.jpg"] = lambda visit, target=target: visit.give(
            status=302, Location=target
        )
    assert fetch(site, tmp_path, "5.jpg", retries=0) == [""]
    assert fetch(site, tmp_path, "6.jpg", retries=0) == ["too many redirects"]
    assert names_in(tmp_path) == ["5.jpg"]


def test_a_redirect_loop_is_not_tried_again(site, tmp_path):
    site.pages["1.jpg"] = lambda visit: visit.give(status=302, Location="/1.jpg")
    assert fetch(site, tmp_path, "1.jpg") == ["too many redirects"]
    assert site.asked["1.jpg"] == 6


# --- Disks that are full
# -------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_once_and_what_has_arrived_stays(site, tmp_path):
    """Not a reason for each of many images."""
    names = [f"{number}.jpg" for number in range(200)]
    site.pages |= dict.fromkeys(names, lambda visit: visit.give(NOISE))
    with small_disk(tmp_path / "disk", "50k") as disk:
        with pytest.raises(
            OSError, match=r"No image can be written \(No space left on device\)"
        ) as caught:
            fetch(site, disk / "images", *names, retries=0)
        assert str(disk / "images") in str(caught.value)
        assert caught.value.errno == errno.ENOSPC
        assert sum(site.asked.values()) < 50
        there = list((disk / "images").iterdir())
        assert {file.read_bytes() for file in there} == {NOISE}
        subprocess.run(["mount", "-o", "remount,size=30m", str(disk)], check=True)
        assert fetch(site, disk / "images", *names) == [""] * 200
        assert all(site.asked[file.name] == 1 for file in there)


def test_a_folder_that_cannot_be_one_is_told_once(site, tmp_path):
    (tmp_path / "images").write_text("a file")
    with pytest.raises(OSError, match=r"No image can be written \(File exists\).*images"):
        fetch(site, tmp_path / "images", *["good.jpg"] * 50, retries=0)
    assert site.asked["good.jpg"] < 50


def test_a_folder_that_must_not_be_written_to_is_told_once(site, tmp_path):
    with closable(tmp_path / "images") as (folder, close):
        close()
        said = r"No image can be written \((Permission denied|Read-only file system)\).*images"
        with pytest.raises(OSError, match=said):
            fetch(site, folder, *["good.jpg"] * 50, retries=0)
        assert names_in(folder) == []


# --- Addresses that are none of a list's business
# ------------------------------------------------------------------

NO_ADDRESSES = [
    "",
    " ",
    "no scheme",
    "ftp://example.org/1.jpg",
    "file:///etc/hostname",
    "//example.org/1.jpg",
]
NO_ADDRESSES += [
    "http:/example.org/1.jpg",
    "data:image/png;base64,AAAA",
    "javascript:alert(1)",
    "C:\\1.jpg",
]


@pytest.mark.parametrize("public_only", [True, False])
@pytest.mark.parametrize("url", NO_ADDRESSES)
def test_only_http_and_https_are_addresses(tmp_path, url, public_only):
    (reason,) = download_images([url], [tmp_path / "1.jpg"], public_only=public_only)
    assert reason == "not an http or https address"
    assert names_in(tmp_path) == []


MALFORMED = [
    "http://",
    "https://",
    "http:///1.jpg",
    "http://:80/",
    "http://[",
    "http://[::1",
    "http://a b/",
]
MALFORMED += [
    "http://a:99999/",
    "http://a:b/",
    "http://a\0b/",
    "http://a\r\nb/",
    "http://%00/",
    "http://\udcff/",
]
MALFORMED += [
    "http://a..b/1.jpg",
    "http://.../",
    f"http://{'a' * 64}.example/1.jpg",
    "http://ä..b/",
]


@pytest.mark.parametrize("public_only", [True, False])
@pytest.mark.parametrize("url", MALFORMED)
def test_a_malformed_address_is_a_reason_not_an_error(tmp_path, url, public_only):
    (reason,) = download_images(
        [url], [tmp_path / "1.jpg"], seconds=2, retries=0, public_only=public_only
    )
    assert reason
    assert names_in(tmp_path) == []


@settings(max_examples=60, deadline=None)
@given(
    authority=st.text(
        st.characters(exclude_characters="0123456789abcdefghijklmnopqrstuvwxyz"), max_size=8
    )
)
def test_whatever_the_host_is_called_nothing_is_raised(tmp_path_factory, authority):
    file = tmp_path_factory.getbasetemp() / "never.jpg"
    with pytest.MonkeyPatch.context() as patch:
        real = socket.getaddrinfo
        patch.setattr(
            socket, "getaddrinfo", lambda host, *rest, **more: real(host, *rest, **more | NUMERIC)
        )
        (reason,) = download_images([f"http://{authority}"], [file], seconds=1, retries=0)
    assert reason
    assert not file.exists()


NUMERIC = {"flags": socket.AI_NUMERICHOST}  # asks no name server

PRIVATE = {
    "127.0.0.1": "127.0.0.1",
    "127.1": "127.0.0.1",
    "2130706433": "127.0.0.1",
    "user@127.0.0.1": "127.0.0.1",
    "[::ffff:127.0.0.1]": "127.0.0.1",
    "[::ffff:7f00:1]": "127.0.0.1",
    "[::ffff:10.0.0.1]": "10.0.0.1",
    "[::1]": "::1",
    "[::]": "::",
    "[fd00::1]": "fd00::1",
    "[fe80::1]": "fe80::1",
    "[ff02::1]": "ff02::1",
    "0.0.0.0": "0.0.0.0",
    "10.0.0.1": "10.0.0.1",
    "100.64.0.1": "100.64.0.1",
    "169.254.169.254": "169.254.169.254",
    "172.16.0.1": "172.16.0.1",
    "192.168.0.1": "192.168.0.1",
    "224.0.0.1": "224.0.0.1",
    "255.255.255.255": "255.255.255.255",
}


@pytest.mark.parametrize("host", PRIVATE)
def test_a_server_that_is_not_public_is_never_asked(site, tmp_path, host):
    (reason,) = download_images([site.url("good.jpg", host)], [tmp_path / "1.jpg"])
    assert reason == f"{PRIVATE[host]} is not a public address"
    assert names_in(tmp_path) == []
    assert fetch(site, tmp_path, "good.jpg") == [""]
    assert site.connections == 1


def test_this_machine_is_not_public_under_its_name(site, tmp_path):
    (reason,) = download_images([site.url("good.jpg", "localhost")], [tmp_path / "1.jpg"])
    assert reason in ("127.0.0.1 is not a public address", "::1 is not a public address")
    assert names_in(tmp_path) == []
    assert not site.asked


def test_https_is_guarded_as_well(site, tmp_path):
    url = site.url("good.jpg").replace("http", "https")
    assert download_images([url], [tmp_path / "1.jpg"]) == ["127.0.0.1 is not a public address"]
    assert site.connections == 0


# Addresses of IPv6 that mean one of IPv4: to a translator or tunnel in the network, 127.0.0.1 and
# 10.0.0.1.
@pytest.mark.parametrize(
    "host",
    [
        "[64:ff9b::7f00:1]",
        "[64:ff9b::a00:1]",
        "[64:ff9b:1::1]",
        "[2002:7f00:1::]",
        "[2002:a00:1::1]",
        "[::7f00:1]",
    ],
)
def test_a_private_address_is_not_public_inside_another(tmp_path, host):
    (reason,) = download_images(
        [f"http://{host}:1/1.jpg"], [tmp_path / "1.jpg"], seconds=1, retries=0
    )
    assert reason.endswith("is not a public address")


ANSWER = "93.184.215.14"  # a public address


def resolve(patch, **names):
    """Let each name mean these addresses, the next one whenever it is asked for; all others are as
    they are.
    """
    real, answers = (
        socket.getaddrinfo,
        {f"{name}.example": iter(addresses) for name, addresses in names.items()},
    )

    def getaddrinfo(host, *rest, **more):
        found = next(answers[host]) if host in answers else [host]
        return [answer for address in found for answer in real(address, *rest, **more)]

    patch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_a_name_that_means_a_private_server_is_refused(site, tmp_path, monkeypatch):
    resolve(monkeypatch, inside=[["127.0.0.1"]], both=[[ANSWER, "127.0.0.1"]])
    urls = [site.url("good.jpg", "inside.example"), site.url("good.jpg", "both.example")]
    reasons = download_images(urls, [tmp_path / "1.jpg", tmp_path / "2.jpg"])
    assert reasons == ["127.0.0.1 is not a public address"] * 2
    assert site.connections == 0


def test_a_name_that_changes_its_meaning_after_the_check_is_refused(site, tmp_path, monkeypatch):
    """The name server of an attacker answers first with a public address and then, for the
    connection, with ours.
    """
    resolve(monkeypatch, rebound=[[ANSWER], ["127.0.0.1"]])
    (reason,) = download_images([site.url("good.jpg", "rebound.example")], [tmp_path / "1.jpg"])
    assert reason == "127.0.0.1 is not a public address"
    assert names_in(tmp_path) == []
    assert fetch(site, tmp_path, "good.jpg") == [""]
    assert site.connections == 2  # the first was opened, looked at and closed again
    assert site.asked == {"good.jpg": 1}


@pytest.mark.parametrize(
    "target", ["[::ffff:127.0.0.1]", "[::1]", "10.0.0.1", "169.254.169.254", "localhost"]
)
def test_a_public_server_cannot_send_us_to_a_private_one(site, tmp_path, monkeypatch, target):
    """Here 127.0.0.1 alone counts as public: the server on it is the one that redirects."""
    refuse = downloads._refuse_private
    monkeypatch.setattr(
        downloads, "_refuse_private", lambda ip: None if ip == "127.0.0.1" else refuse(ip)
    )
    resolve(monkeypatch, inside=[["127.0.0.2"]])
    target = "inside.example" if target == "localhost" else target
    location = site.url("good.jpg", target)
    site.pages["1.jpg"] = lambda visit: visit.give(status=302, Location=location)
    (reason,) = fetch(site, tmp_path, "1.jpg", public_only=True)
    assert reason.endswith("is not a public address")
    assert names_in(tmp_path) == []
    assert site.asked == {"1.jpg": 1}
    assert fetch(site, tmp_path, "good.jpg", public_only=True) == [""]
