"""What may be asked of the page's server: the page, its own scripts, and its answers; no file, no upload, no proxy."""

from __future__ import annotations

import json
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
HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


class Guard:
    """ASGI middleware that answers 404 to all but what the page needs, and 413 to a body of more than `MAX_BODY`."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if not ALLOWED.fullmatch(path) or ".." in path:
            return await _refuse(send, 404, "There is nothing here.")
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MAX_BODY:
            return await _refuse(send, 413, f"At most {MAX_BODY:,} bytes are read.")
        received = 0

        async def counted():
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY:  # sent in chunks, without telling how many
                return {"type": "http.disconnect"}
            return message

        async def signed(message):
            if message["type"] == "http.response.start":
                kept = [(key, value) for key, value in message["headers"] if key.decode().lower() not in HEADERS]
                message["headers"] = kept + [(key.encode(), value.encode()) for key, value in HEADERS.items()]
            await send(message)

        await self.app(scope, counted, signed)


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
