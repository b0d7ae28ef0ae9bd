"""Addresses of images to files: in parallel, bounded in time and size, from public servers only,
resumable.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import HTTPError

from lookalike.images import ImageError, image_size
from lookalike.workspace import parallel_map, progress, written_aside

TRANSIENT = {408, 425, 429, 500, 502, 503, 504}  # answers of a server that may soon think otherwise
PAUSES = (0.5, 1, 2, 4)  # seconds before each further attempt
REDIRECTS = 5
GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
# How a network without IPv4 writes the addresses of IPv4.
EMBEDS_IPV4 = ipaddress.IPv6Network("64:ff9b::/96")
AGENT = "Mozilla/5.0 (compatible; lookalike)"


class RefusedError(ValueError):
    """An answer that no further attempt would better."""


class UnwritableError(OSError):
    """A folder that takes no more images, whatever the addresses."""


def download_images(
    urls: Sequence[str],
    files: Sequence[str | Path],
    *,
    workers: int = 16,
    seconds: float = 30,
    max_bytes: int = 20_000_000,
    retries: int = 3,
    public_only: bool = True,
) -> list[str]:
    """Download images to files, and tell what became of each.

    A file that is there already is not fetched again.

    A file appears only when it is whole and opens as an image, so a killed download goes on where
    it was.

    Parameters
    ----------
    urls, files
        n http(s) addresses, and where each image goes.
    seconds
        Time an image may take, all its attempts together.
    max_bytes
        Largest body that is taken.
    retries
        Further attempts, at most 4, after a broken connection or an answer such as 429 or 503; the
        pauses double.
    public_only
        Refuse servers in private networks and on this machine, which a list from a stranger has no
        business to reach.

    Returns
    -------
    n reasons why there is no image; empty where there is one.

    Raises
    ------
    OSError
        If a folder is full, or must not be written to; what has arrived stays.
    """
    pool = urllib3.PoolManager(
        num_pools=4 * workers, maxsize=workers, headers={"User-Agent": AGENT}
    )
    guard = _Guard(public_only)
    pool.pool_classes_by_scheme = {
        "http": _pool_of(urllib3.HTTPConnectionPool, guard),
        "https": _pool_of(urllib3.HTTPSConnectionPool, guard),
    }

    def fetch(pair: tuple[str, str | Path]) -> str:
        return _fetch(pool, guard, pair[0], Path(pair[1]), seconds, max_bytes, retries)

    answers = parallel_map(fetch, zip(urls, files, strict=True), workers=workers)
    return list(progress(answers, total=len(urls), description="Downloading"))


class _Guard(threading.local):
    """What holds for the image that a thread is fetching."""

    def __init__(self, public_only: bool):
        self.public_only = public_only
        self.deadline = 0.0
        self.watch: threading.Timer | None = None


def _fetch(
    pool: urllib3.PoolManager,
    guard: _Guard,
    url: str,
    file: Path,
    seconds: float,
    max_bytes: int,
    retries: int,
) -> str:
    """Try until there is an image, a reason that is final, or no time left."""
    if file.is_file():
        return ""
    if not url.lower().startswith(("http://", "https://")):
        return "not an http or https address"
    guard.deadline, reason = time.monotonic() + seconds, ""
    for pause in (0, *PAUSES[:retries]):
        if time.monotonic() + pause >= guard.deadline:
            break
        time.sleep(pause)
        try:
            _fetch_once(pool, guard, url, file, max_bytes)
            return ""
        except ImageError as error:
            return error.reason
        except ValueError as error:  # refused, or an address that cannot be one
            return str(error)
        except UnwritableError:
            raise
        except (HTTPError, OSError) as error:
            if time.monotonic() >= guard.deadline:
                return f"not there within {seconds:g} s"
            reason = _short(error)
    return reason or f"not there within {seconds:g} s"


def _fetch_once(
    pool: urllib3.PoolManager, guard: _Guard, url: str, file: Path, max_bytes: int
) -> None:
    for _ in range(1 + REDIRECTS):
        left = max(0.1, guard.deadline - time.monotonic())
        answer = None
        try:
            answer = pool.request(
                "GET",
                url,
                preload_content=False,
                # a compressed body could be a bomb, and images are compressed already
                decode_content=False,
                timeout=urllib3.Timeout(connect=min(10, left), read=min(10, left)),
                retries=False,
                # urllib3 would read the body of a redirect to its end, if it has one
                redirect=False,
            )
            target = answer.get_redirect_location()
            if not target:
                return _keep(answer, file, guard.deadline, max_bytes)
            url = urljoin(url, target)
        finally:
            if guard.watch:
                guard.watch.cancel()
            if answer:
                answer.close()
        if not url.lower().startswith(("http://", "https://")):
            raise RefusedError("a redirect to what is not an http or https address")
    raise RefusedError("too many redirects")


def _keep(answer: urllib3.BaseHTTPResponse, file: Path, deadline: float, max_bytes: int) -> None:
    if answer.status in TRANSIENT:
        raise HTTPError(f"HTTP {answer.status}")
    if answer.status != 200:
        raise RefusedError(f"HTTP {answer.status}")
    try:
        with written_aside(file) as aside:
            with open(aside, "wb") as stream:
                size = 0
                while block := answer.read1(1 << 16):
                    size += len(block)
                    if size > max_bytes:
                        raise RefusedError(f"more than {max_bytes:,} bytes")
                    stream.write(block)
            # A connection that the watch has ended looks like a body's end.
            if time.monotonic() > deadline:
                raise HTTPError
            image_size(aside)
    except OSError as error:
        said = f"No image can be written ({error.strerror}). Make room, or choose another folder, and run this again"
        raise UnwritableError(error.errno, said, str(file.parent)) from None


def _short(error: Exception) -> str:
    """The cause at the bottom of a chain of wrapped errors; without the address, which is known."""
    while isinstance(getattr(error, "reason", None), Exception):
        error = error.reason
    text = str(error.args[-1]) if error.args else type(error).__name__
    return text.split(": ", 1)[-1][:120]


def _refuse_private(address: str) -> None:
    ip = ipaddress.ip_address(address.split("%")[0])
    if ip.version == 6:
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in EMBEDS_IPV4 else None
        ip = ip.ipv4_mapped or ip.sixtofour or inner or ip
    if not ip.is_global or ip.is_multicast or (ip.version == 6 and ip not in GLOBAL_IPV6):
        raise RefusedError(f"{ip} is not a public address")


def _pool_of(kind: type, guard: _Guard) -> type:
    """urllib3's pool of connections, each of which checks whom it reached and ends in time."""

    class GuardedConnection(kind.ConnectionCls):
        def _new_conn(self) -> socket.socket:
            addresses = [
                address[0]
                for *_, address in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
            ]
            if guard.public_only:
                for address in addresses:
                    _refuse_private(address)
            self.timeout /= len(addresses)  # it holds for each of them
            connection = super()._new_conn()
            try:  # again, since a name can mean one address when asked and another when used
                if guard.public_only:
                    _refuse_private(connection.getpeername()[0])
            except RefusedError:
                connection.close()
                raise
            return connection

        def getresponse(self, *arguments, **options):
            # A time-out of a socket counts each byte anew; this one ends headers and bodies that
            # trickle.
            guard.watch = threading.Timer(
                max(0, guard.deadline - time.monotonic()), self._give_up, [self.sock]
            )
            guard.watch.daemon = True
            guard.watch.start()
            return super().getresponse(*arguments, **options)

        @staticmethod
        def _give_up(connection: socket.socket) -> None:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # it has ended by itself
                return

    return type("GuardedPool", (kind,), {"ConnectionCls": GuardedConnection})
