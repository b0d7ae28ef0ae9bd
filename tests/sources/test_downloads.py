import errno
import io
import subprocess
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image
from test_archives import contents

from conftest import small_disk
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

    def __init__(self, pages, port, visit):
        super().__init__(("127.0.0.1", port), visit)
        self.pages, self.asked = pages, Counter()
        self.lock, self.closing = threading.Lock(), threading.Event()

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def handle_error(self, request, client_address):
        """A client that hangs up early is what is tested."""


class Visit(BaseHTTPRequestHandler):
    """One client; the methods below are the ways to answer it."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        with self.server.lock:
            self.server.asked[self.path[1:]] += 1
        self.server.pages[self.path[1:]](self)

    def head(self, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def give(self, body=b"", status=200, **headers):
        self.head(status, Content_Length=len(body), **headers)
        self.wfile.write(body)

    def cut_off(self):
        self.head(Content_Length=len(NOISE))
        self.wfile.write(NOISE[: len(NOISE) // 2])
        self.close_connection = True

    def be_silent(self):
        self.server.closing.wait(20)

    def go_on(self, pause):
        """Send pieces of a body again and again, until the client has enough."""
        self.head(Connection="close")
        while not self.server.closing.wait(pause):
            self.wfile.write(NOISE[:5000])


@contextmanager
def serving(pages, port=0, visit=Visit):
    with Site(pages, port, visit) as site:
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
    urls = [site.url(name) for name in names]
    return download_images(urls, [folder / name for name in names], **{"workers": 4} | options)


def test_images_arrive_byte_for_byte_in_a_new_folder(site, tmp_path, capsys):
    def in_chunks(visit):
        visit.head(Transfer_Encoding="chunked")
        for piece in (NOISE[:1000], NOISE[1000:], b""):
            visit.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    def without_length(visit):
        visit.head(Connection="close")
        visit.wfile.write(NOISE)
        visit.close_connection = True

    site.pages |= {"2.png": lambda visit: visit.give(PNG), "3": in_chunks, "4": without_length}
    site.pages["5"] = lambda visit: visit.give(b"moved", status=302, Location="/good.jpg")
    folder = tmp_path / "new" / "folder"
    assert fetch(site, folder, "good.jpg", "2.png", "3", "4", "5") == [""] * 5
    assert contents(folder) == {"good.jpg": RED, "2.png": PNG, "3": NOISE, "4": NOISE, "5": RED}
    assert "Downloading: 100%" in capsys.readouterr().out
    assert download_images([], []) == []


def test_only_what_is_missing_is_fetched(site, tmp_path):
    (tmp_path / "good.jpg").write_bytes(b"something else")
    site.pages["2.jpg"] = lambda visit: visit.give(RED, 404 if site.asked["2.jpg"] == 1 else 200)
    assert fetch(site, tmp_path, "good.jpg", "2.jpg") == ["", "HTTP 404"]
    assert fetch(site, tmp_path, "good.jpg", "2.jpg") == ["", ""]
    assert contents(tmp_path) == {"good.jpg": b"something else", "2.jpg": RED}
    assert site.asked == {"2.jpg": 2}


BAD_SERVERS = {
    "gone": (lambda visit: visit.give(status=404), "HTTP 404"),
    "a web page": (lambda visit: visit.give(b"<html><p>Sorry</p></html>"), "not an image"),
    "half an image": (lambda visit: visit.give(NOISE[:5000]), "cannot be decoded"),
    "half an image, and no more": (Visit.cut_off, "no whole answer"),
    "no HTTP": (lambda visit: visit.wfile.write(RED + b"\r\n"), "no whole answer"),
    "redirects without end": (lambda visit: visit.give(status=302, Location="/1.jpg"), "no whole"),
    "an endless body": (lambda visit: visit.go_on(0), "more than 1,000,000 bytes"),
    "a body drop by drop": (lambda visit: visit.go_on(0.2), "not there within 1 s"),
    "silence": (Visit.be_silent, "not there within 1 s"),
}


@pytest.mark.parametrize("server", BAD_SERVERS)
def test_a_bad_server_costs_one_image_and_is_told_in_plain_words(site, tmp_path, server):
    site.pages["1.jpg"], reason = BAD_SERVERS[server]
    options = {"max_bytes": 1_000_000, "seconds": 1, "retries": 0}
    told, good = fetch(site, tmp_path, "1.jpg", "good.jpg", **options)
    assert reason in told
    assert good == ""
    assert contents(tmp_path) == {"good.jpg": RED}


@pytest.mark.parametrize(("retries", "status"), [(1, 503), (1, 429), (0, 500)])
def test_a_passing_trouble_is_tried_again_however_long_to_wait(site, tmp_path, retries, status):
    busy = {"status": status, "Retry_After": 3600}
    site.pages["1.jpg"] = lambda visit: visit.give(**busy)
    site.pages["2.jpg"] = lambda visit: visit.give(RED, **busy if site.asked["2.jpg"] == 1 else {})
    reasons = fetch(site, tmp_path, "1.jpg", "2.jpg", retries=retries)
    assert reasons == [f"HTTP {status}", "" if retries else f"HTTP {status}"]
    assert site.asked == {"1.jpg": 1 + retries, "2.jpg": 1 + retries}


NO_ADDRESSES = ("", "no scheme", "ftp://a.org/1.jpg", "file:///etc/hostname", "//a.org/1.jpg")
NO_ADDRESSES += ("data:image/png;base64,AAAA", "http://", "http://[::1", "http://a:99999/")
NO_ADDRESSES += ("http://a..b/1.jpg", "http://a\0b/", "http://\udcff/", f"http://{'a' * 64}.org/")


def test_what_is_no_address_is_a_reason_and_no_error(tmp_path):
    files = [tmp_path / str(number) for number in range(len(NO_ADDRESSES))]
    reasons = download_images(NO_ADDRESSES, files, seconds=2, retries=0)
    assert [url for url, reason in zip(NO_ADDRESSES, reasons, strict=True) if not reason] == []
    assert contents(tmp_path) == {}
    with pytest.raises(ValueError, match="shorter"):
        download_images(["http://127.0.0.1:9/1.jpg"], [], retries=0)


def test_a_full_disk_is_told_once_and_what_has_arrived_stays(site, tmp_path):
    names = [f"{number}.jpg" for number in range(50)]
    site.pages |= dict.fromkeys(names, lambda visit: visit.give(NOISE))
    with small_disk(tmp_path / "disk", "60k") as disk:
        said = r"No space left on device; make room in .*disk/images or take another folder"
        with pytest.raises(OSError, match=said) as caught:
            fetch(site, disk / "images", *names)
        assert caught.value.errno == errno.ENOSPC
        there = contents(disk / "images")
        assert set(there.values()) == {NOISE}
        subprocess.run(["mount", "-o", "remount,size=30m", str(disk)], check=True)
        assert fetch(site, disk / "images", *names) == [""] * 50
        assert all(site.asked[name] == 1 for name in there)
