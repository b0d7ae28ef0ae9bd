"""Addresses of images to files: in parallel, bounded in time and size, resumable."""

import time
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from lookalike.images import ImageError, decode
from lookalike.machine import parallel_map, progress
from lookalike.workspace import written_aside


def download_images(urls, files, *, workers=16, seconds=30, max_bytes=20_000_000, retries=3):
    """Download images to files, and tell what became of each.

    A file that is there is not fetched again, and appears only when it is whole and opens as an
    image: a killed download goes on where it was.

    Parameters
    ----------
    urls, files
        n http(s) addresses, and where each image goes.
    seconds
        About the time that an image may take; a server may be silent for a quarter of it.
    max_bytes
        Largest body that is taken.
    retries
        Further attempts after a broken connection or an answer such as 429 or 503.

    Returns
    -------
    n reasons why there is no image; empty where there is one.

    Raises
    ------
    OSError
        If a folder is full, or must not be written to; what has arrived stays.
    """
    retry = Retry(
        retries,
        status_forcelist=[429, 500, 502, 503, 504],
        backoff_factor=0.5,
        raise_on_status=False,
        # A server may ask for hours.
        respect_retry_after_header=False,
    )

    def fetch(pair):
        url = pair[0]
        file = Path(pair[1])
        deadline = time.monotonic() + seconds
        data = bytearray()
        late = f"not there within {seconds:g} s"
        try:
            if file.is_file():
                return ""
            with session.get(url, stream=True, timeout=seconds / 4) as answer:
                if answer.status_code != 200:
                    return f"HTTP {answer.status_code}"
                for block in answer.iter_content(4096):
                    data += block
                    if len(data) > max_bytes:
                        return f"more than {max_bytes:,} bytes"
                    if time.monotonic() > deadline:
                        return late
            decode(bytes(data), file, 32)
            with written_aside(file) as aside:
                aside.write_bytes(data)
            return ""
        except ImageError as error:
            return error.reason
        except (requests.RequestException, ValueError) as error:
            whole = f"no whole answer ({type(error).__name__})"
            return late if "timed out" in str(error) else whole
        except OSError as error:
            advice = f"make room in {file.parent} or take another folder, and run again"
            raise OSError(error.errno, f"{error.strerror}; {advice}.") from None

    with requests.Session() as session:
        session.headers["User-Agent"] = "Mozilla/5.0 (compatible; lookalike)"
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(pool_maxsize=workers, max_retries=retry))
        answers = parallel_map(fetch, zip(urls, files, strict=True), workers=workers)
        return list(progress(answers, total=len(urls), description="Downloading"))
