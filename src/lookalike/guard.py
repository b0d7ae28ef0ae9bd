"""What may be asked of the page's server: the page, its own scripts, and its answers; no file, no upload, no proxy."""

from __future__ import annotations

import json
import logging
import re

from lookalike.uploads import MAX_BYTES

MAX_BODY = MAX_BYTES * 4 // 3 + 100_000  # of a request: a photo in base64, and what goes with it
ALLOWED = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/(assets|static)/[\w./@-]+"
    r"|/gradio_api/(queue/join|queue/data|heartbeat/\w+|startup-events|reset/?|cancel)"
)
# Whatever the page's scripts would load from elsewhere, the browser refuses.
POLICY = "; ".join(
    (
        "default-src 'self' data: blob:",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",  # Gradio compiles its templates in the browser
        "style-src 'self' 'unsafe-inline'",
        "form-action 'self'",
        "object-src 'none'",
    )
)
SURROGATE = re.compile("[\\ud800-\\udfff]")  # half a character: JSON has it, and UTF-8 cannot write it
LOOPBACK = ("127.0.0.1", "localhost", "::1")
log = logging.getLogger(__name__)
HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


class Guard:
    """ASGI middleware that answers 404 to all but what the page needs, and 413 to a body of more than `MAX_BODY`.

    What another website makes a browser ask is refused, and, with `local`, what is asked under another name than this
    machine's: a website may let its own name point here. A proxy that a browser reaches by https may have any name.
    """

    def __init__(self, app, *, local: bool = False):
        self.app, self.local = app, local

    async def __call__(self, scope, receive, send):
        if scope["type"] == "websocket":  # there is none, and `receive` and `send` are not what is counted below
            return await send({"type": "websocket.close", "code": 1008})
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path, headers = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/")), dict(scope["headers"])
        if not ALLOWED.fullmatch(path) or ".." in path:
            return await _refuse(send, 404, "There is nothing here.")
        if _foreign(scope["method"], headers) or (self.local and _renamed(headers)):
            return await _refuse(send, 403, "Only the page itself may ask here.")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 18 or int(length) > MAX_BODY:
            return await _refuse(send, 413, f"At most {MAX_BODY:,} bytes are read.")
        received, started = 0, False

        async def counted():
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY:  # sent in chunks, without telling how many
                return {"type": "http.disconnect"}
            return message

        async def signed(message):
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if received > MAX_BODY:  # whatever is made of it; and the rest is not waited for
                    message["status"] = 413
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
                kept = [(key, value) for key, value in message["headers"] if key.decode().lower() not in HEADERS]
                message["headers"] = kept + [(key.encode(), value.encode()) for key, value in HEADERS.items()]
            await send(message)

        try:
            await self.app(scope, counted, signed)
        except Exception:
            if started:
                raise
            log.exception("A request to the page could not be answered.")
            await _refuse(send, 500, "This cannot be answered.")


def _foreign(method: str, headers: dict[bytes, bytes]) -> bool:
    """Whether a browser says that another website asks, other than by a link or a frame."""
    opened = method in ("GET", "HEAD") and headers.get(b"sec-fetch-mode") == b"navigate"
    return headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site") and not opened


def _renamed(headers: dict[bytes, bytes]) -> bool:
    """Whether this machine is asked under another name, by a browser that does not think it safe (or by none)."""
    host = headers.get(b"host", b"").decode("latin-1").lower()
    name = host[1 : host.find("]")] if host.startswith("[") else host.partition(":")[0]
    return name not in LOOPBACK and b"sec-fetch-site" not in headers


async def _refuse(send, status: int, sentence: str) -> None:
    headers = {**HEADERS, "content-type": "application/json"}
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": json.dumps({"detail": sentence}).encode()})


def forged(value: object) -> bool:
    """Whether Gradio would take something in a value for a file, and copy or fetch it, or could not write it back."""
    values = [value]
    while values:
        one = values.pop()
        if (isinstance(one, dict) and "meta" in one) or (isinstance(one, str) and SURROGATE.search(one)):
            return True
        if isinstance(one, (dict, list)):
            values.extend([*one, *one.values()] if isinstance(one, dict) else one)
    return False
