"""Gradio's page server, made to serve this machine alone: guarded, silent, and keeping nothing that
it is sent.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import warnings

from tqdm import TqdmWarning

# Read when Gradio is imported: nothing is reported, and no statistics of its events are made anew
# at every answer.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ |= {
    "GRADIO_ANALYTICS_MAX_EVENTS": "100",
    "GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000000000",
}
try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # it would miss widgets that nobody shows
        import gradio as gr
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "The page needs Gradio: pip install 'gradio>=6.24,<7'", name=error.name
    ) from error
if not (6, 24) <= tuple(map(int, gr.__version__.split(".")[:2])) < (7, 0):
    raise ImportError(
        f"The page needs another Gradio than {gr.__version__}: pip install 'gradio>=6.24,<7'"
    )
import matplotlib
import matplotlib.pyplot as plt
from gradio.state_holder import SessionState
from starlette.middleware import Middleware
from starlette.responses import JSONResponse

from lookalike.machine import on_colab
from lookalike.page.html_parts import ASSETS
from lookalike.page.uploads import MAX_BYTES

AT_ONCE = 4  # questions that are answered at the same time; each may hold a photo of 40 megapixels
MAX_BODY = MAX_BYTES * 4 // 3 + 100_000  # of a request: a photo in base64, and what goes with it
ALLOWED = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/(assets|static)/[\w./@-]+"
    r"|/gradio_api/(queue/join|queue/data|heartbeat/\w+|startup-events|reset/?|cancel)"
)
# Whatever the page's scripts would load from elsewhere, the browser refuses.
POLICY = "; ".join(
    (
        "default-src 'self' data: blob:",
        # Gradio compiles its templates in the browser
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "form-action 'self'",
        "object-src 'none'",
    )
)
# Half a character: JSON has it, and UTF-8 cannot write it.
SURROGATE = re.compile("[\\ud800-\\udfff]")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
log = logging.getLogger(__name__)
HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


class Guard:
    """ASGI middleware that answers 404 to all but what the page needs, and 413 to a body of more
    than `MAX_BODY`.

    What another website makes a browser ask is refused, and, with `local`, what is asked under
    another name than this machine's: a website may let its own name point here. A proxy that a
    browser reaches by https may have any name.
    """

    def __init__(self, app, *, local: bool = False):
        self.app = app
        self.local = local

    async def __call__(self, scope, receive, send):
        # There is none, and `receive` and `send` are not what is counted below.
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        def refuse(status: int, sentence: str):
            return JSONResponse({"detail": sentence}, status, HEADERS)(scope, receive, send)

        path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
        headers = dict(scope["headers"])
        if not ALLOWED.fullmatch(path) or ".." in path:
            return await refuse(404, "There is nothing here.")
        if _foreign(scope["method"], headers) or (self.local and _renamed(headers)):
            return await refuse(403, "Only the page itself may ask here.")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 18 or int(length) > MAX_BODY:
            return await refuse(413, f"At most {MAX_BODY:,} bytes are read.")
        received = 0
        started = False

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
                kept = [
                    (key, value)
                    for key, value in message["headers"]
                    if key.decode().lower() not in HEADERS
                ]
                message["headers"] = kept + [
                    (key.encode(), value.encode()) for key, value in HEADERS.items()
                ]
            await send(message)

        try:
            await self.app(scope, counted, signed)
        except Exception:
            if started:
                raise
            log.exception("A request to the page could not be answered.")
            await refuse(500, "This cannot be answered.")


def _foreign(method: str, headers: dict[bytes, bytes]) -> bool:
    """Whether a browser says that another website asks, other than by a link or a frame."""
    opened = method in ("GET", "HEAD") and headers.get(b"sec-fetch-mode") == b"navigate"
    return headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site") and not opened


def _renamed(headers: dict[bytes, bytes]) -> bool:
    """Whether this machine is asked under another name, by a browser that does not think it safe
    (or by none).
    """
    host = headers.get(b"host", b"").decode("latin-1").lower()
    name = host[1 : host.find("]")] if host.startswith("[") else host.partition(":")[0]
    return name not in LOOPBACK and b"sec-fetch-site" not in headers


def forged(value: object) -> bool:
    """Whether Gradio would take something in a value for a file, and copy or fetch it, or could not
    write it back.
    """
    values = [value]
    while values:
        item = values.pop()
        if (isinstance(item, dict) and "meta" in item) or (
            isinstance(item, str) and SURROGATE.search(item)
        ):
            return True
        if isinstance(item, (dict, list)):
            values.extend([*item, *item.values()] if isinstance(item, dict) else item)
    return False


class _Forgetful(SessionState):
    """What Gradio holds of a session, the same for all of them: its components, and no value."""

    def _update_value_in_config(self, key, value):
        pass


class Page(gr.Blocks):
    """Blocks that are launched for this machine alone, with the page's own look and its guard."""

    async def preprocess_data(self, block_fn, inputs, state, explicit_call=False):
        """As Gradio's; but a file that is named is not fetched, and what is sent is not held for
        the session.
        """
        if forged(inputs):
            raise gr.Error(
                "This is nothing that the page sends. Load it anew.", print_exception=False
            )
        return await super().preprocess_data(block_fn, inputs, self.nobody, explicit_call)

    async def postprocess_data(self, block_fn, predictions, state):
        """As Gradio's; but what is answered is not held for the session."""
        return await super().postprocess_data(block_fn, predictions, self.nobody)

    async def process_api(self, *args, event_id=None, **options):
        """As Gradio's; but its older versions, such as 6.24, hold a question until its session
        ends: not the photo.
        """
        event = self._queue.event_ids_to_events.get(event_id)
        try:
            return await super().process_api(*args, event_id=event_id, **options)
        finally:
            if event and event.data:
                event.data.data = []
                for read in ("_body", "_json"):
                    getattr(event.request, "__dict__", {}).pop(read, None)

    @functools.cached_property
    def nobody(self) -> SessionState:
        """The state of no session in particular."""
        return _Forgetful(self)

    def launch(self, *args, share: bool | None = None, **options):
        """As `gradio.Blocks.launch`, but for this machine alone, unless another `server_name` is
        given, or `share` is true. On Colab `share=None` is left to Gradio, which makes a link.
        """
        colab = on_colab()  # whose proxy asks under a name of its own
        local = options.get("server_name", "127.0.0.1") in LOOPBACK and not (share or colab)
        asked = {**options.pop("app_kwargs", {})}
        guarded = {
            "middleware": [Middleware(Guard, local=local), *asked.pop("middleware", ())],
            **asked,
        }
        own = {
            "share": share if colab else bool(share),
            "server_name": "127.0.0.1",
            "ssr_mode": False,
            "footer_links": [],
            "css_paths": [ASSETS / "page.css"],
            "theme": gr.themes.Default(
                primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["monospace"]
            ),
            "max_threads": AT_ONCE,  # of all kinds together
            "state_session_capacity": 200,  # the page needs nothing of it
            "height": 900,
        }
        # Gradio switches to another backend whenever it answers; by then the notebook's must be
        # known, to show figures.
        plt.switch_backend(matplotlib.get_backend())
        return super().launch(*args, **(own | options), app_kwargs=guarded)
