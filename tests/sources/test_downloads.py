import io
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image
from test_archives import contents

from lookalike.sources import downloads
from lookalike.sources.downloads import download_images


def photo(kind, image):
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


RED = photo("JPEG", Image.new("RGB", (48, 32), "red"))
PNG = photo("PNG", Image.new("RGB", (48, 32), "red"))
# Half of its bytes are half of its pixels.
NOISE = photo("JPEG", Image.effect_noise((200, 200), 60))


class Visit(BaseHTTPRequestHandler):
    """Answers with what `pages` holds for a path: a body, a status, or None, for silence."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        name = self.path[1:]
        self.server.asked[name] += 1
        page = self.server.pages.get(name, RED)
        if page is None:
            self.server.closing.wait(20)
            return
        status, body = (page, b"") if isinstance(page, int) else (200, page)
        self.send_response(status)
        self.send_header("Content-Length", str(self.server.lengths.get(name, len(body))))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving():
    """A web server on this machine, where all that is not in its `pages` is a red photo."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Visit) as site:
        site.pages, site.lengths, site.asked = {}, {}, Counter()
        site.closing = threading.Event()
        site.url = lambda name: f"http://127.0.0.1:{site.server_port}/{name}"
        threading.Thread(target=site.serve_forever, args=[0.01], daemon=True).start()
        yield site
        site.closing.set()
        site.shutdown()


@pytest.fixture
def site():
    with serving() as site:
        yield site


def fetch(site, folder, *names):
    """Download pages of a site into a folder, each under its own name."""
    return download_images([site.url(name) for name in names], [folder / name for name in names])


def test_images_arrive_byte_for_byte_in_a_new_folder(site, tmp_path, capsys):
    site.pages["2.png"] = PNG
    folder = tmp_path / "new" / "folder"
    assert fetch(site, folder, "1.jpg", "2.png") == ["", ""]
    assert contents(folder) == {"1.jpg": RED, "2.png": PNG}
    assert "Downloading: 100%" in capsys.readouterr().out
    assert download_images([], []) == []


def test_only_what_is_missing_is_fetched(site, tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"something else")
    site.pages["2.jpg"] = 503
    assert fetch(site, tmp_path, "1.jpg", "2.jpg") == ["", "HTTP 503"]
    site.pages.clear()
    assert fetch(site, tmp_path, "1.jpg", "2.jpg") == ["", ""]
    assert contents(tmp_path) == {"1.jpg": b"something else", "2.jpg": RED}
    assert site.asked == {"2.jpg": 2}


BAD_PAGES = {
    "gone.jpg": (404, "HTTP 404"),
    "page.jpg": (b"<html><p>Sorry</p></html>", "not an image"),
    "half.jpg": (NOISE[:5000], "cannot be decoded"),
    "cut-off.jpg": (RED, "no whole answer (ChunkedEncodingError)"),
    "silence.jpg": (None, "no whole answer (ReadTimeout)"),
}


def test_a_bad_page_costs_one_image_and_is_told_in_plain_words(site, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "SECONDS", 0.5)
    site.pages |= {name: page for name, (page, _) in BAD_PAGES.items()}
    site.lengths["cut-off.jpg"] = len(RED) + 1
    *told, good = fetch(site, tmp_path, *BAD_PAGES, "good.jpg")
    for (_, reason), one in zip(BAD_PAGES.values(), told, strict=True):
        assert reason in one
    assert good == ""
    assert contents(tmp_path) == {"good.jpg": RED}


NO_ADDRESSES = ("", "no scheme", "ftp://a.org/1.jpg", "file:///etc/hostname", "//a.org/1.jpg")
NO_ADDRESSES += ("data:image/png;base64,AAAA", "http://", "http://[::1", "http://a:99999/")
NO_ADDRESSES += ("http://a..b/1.jpg", "http://a\0b/", "http://\udcff/", f"http://{'a' * 64}.org/")


def test_what_is_no_address_is_a_reason_and_no_error(tmp_path):
    files = [tmp_path / str(number) for number in range(len(NO_ADDRESSES))]
    reasons = download_images(NO_ADDRESSES, files)
    assert [url for url, reason in zip(NO_ADDRESSES, reasons, strict=True) if not reason] == []
    assert contents(tmp_path) == {}
