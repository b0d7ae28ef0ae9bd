"""Gradio's page server, made to serve this machine alone: guarded, silent, and keeping nothing that it is sent."""

from __future__ import annotations

import functools
import os
import warnings

from tqdm import TqdmWarning

# Read when Gradio is imported: nothing is reported, and no statistics of its events are made anew at every answer.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ |= {"GRADIO_ANALYTICS_MAX_EVENTS": "100", "GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000000000"}
try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # it would miss widgets that nobody shows
        import gradio as gr
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("The page needs Gradio: pip install 'gradio>=6.24,<7'", name=error.name) from error
if not (6, 24) <= tuple(map(int, gr.__version__.split(".")[:2])) < (7, 0):
    raise ImportError(f"The page needs another Gradio than {gr.__version__}: pip install 'gradio>=6.24,<7'")
import matplotlib
import matplotlib.pyplot as plt
from gradio.state_holder import SessionState
from starlette.middleware import Middleware

from lookalike import workspace
from lookalike.guard import LOOPBACK, Guard, forged
from lookalike.pages import ASSETS

AT_ONCE = 4  # questions that are answered at the same time; each may hold a photo of 40 megapixels


class _Forgetful(SessionState):
    """What Gradio holds of a session, the same for all of them: its components, and no value."""

    def _update_value_in_config(self, key, value):
        pass


class Page(gr.Blocks):
    """Blocks that are launched for this machine alone, with the page's own look and its guard."""

    async def preprocess_data(self, block_fn, inputs, state, explicit_call=False):
        """As Gradio's; but a file that is named is not fetched, and what is sent is not held for the session."""
        if forged(inputs):
            raise gr.Error("This is nothing that the page sends. Load it anew.", print_exception=False)
        return await super().preprocess_data(block_fn, inputs, self.nobody, explicit_call)

    async def postprocess_data(self, block_fn, predictions, state):
        """As Gradio's; but what is answered is not held for the session."""
        return await super().postprocess_data(block_fn, predictions, self.nobody)

    async def process_api(self, *args, event_id=None, **options):
        """As Gradio's; but its older versions, such as 6.24, hold a question until its session ends: not the photo."""
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

    def launch(self, *args, **options):
        """As `gradio.Blocks.launch`; another `server_name`, or `share=True`, is for those who ask for it."""
        local = options.get("server_name", LOOPBACK[0]) in LOOPBACK and not options.get("share")
        local &= not workspace.on_colab()  # whose proxy asks under a name of its own
        asked = dict(options.pop("app_kwargs", None) or {})
        guarded = {"middleware": [Middleware(Guard, local=local), *asked.pop("middleware", ())], **asked}
        own = {
            "share": False,
            "server_name": "127.0.0.1",
            "ssr_mode": False,
            "footer_links": [],
            "css_paths": [ASSETS / "page.css"],
            "theme": gr.themes.Default(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            "max_threads": AT_ONCE,  # of all kinds together
            "state_session_capacity": 200,  # the page needs nothing of it
            "height": 900,
        }
        # Gradio switches to another backend whenever it answers; by then the notebook's must be known, to show figures.
        plt.switch_backend(matplotlib.get_backend())
        return super().launch(*args, **(own | options), app_kwargs=guarded)
