"""Addresses of images to files: in parallel, resumable."""

from pathlib import Path

import requests

from lookalike.images import ImageError, decode
from lookalike.machine import parallel_map, progress
from lookalike.workspace import written_aside

# As many connections as a session keeps.
WORKERS = 10
# How long a server may be silent.
SECONDS = 10


def download_images(urls, files):
    """Download images to files, and tell what became of each.

    A file that is there is not fetched again, and appears only when it is whole and opens as an
    image: a killed download goes on where it was.

    Parameters
    ----------
    urls, files
        n http(s) addresses, and where each image goes.

    Returns
    -------
    n reasons why there is no image; empty where there is one.

    Raises
    ------
    OSError
        If a folder is full, or must not be written to; what has arrived stays.
    """

    def fetch(pair):
        return _fetch(session, *pair)

    with requests.Session() as session:
        session.headers["User-Agent"] = "Mozilla/5.0 (compatible; lookalike)"
        reasons = parallel_map(fetch, zip(urls, files, strict=True), workers=WORKERS)
        return list(progress(reasons, total=len(urls), description="Downloading"))


def _fetch(session, url, file):
    """Why there is no image; empty where there is one."""
    file = Path(file)
    if file.is_file():
        return ""
    try:
        answer = session.get(url, timeout=SECONDS)
        if not answer.ok:
            return f"HTTP {answer.status_code}"
        decode(answer.content, file, 32)
    except ImageError as error:
        return error.reason
    # The second for what is no address.
    except (requests.RequestException, ValueError) as error:
        return f"no whole answer ({type(error).__name__})"
    with written_aside(file) as aside:
        aside.write_bytes(answer.content)
    return ""
