"""The Gradio page: search by photo, compare two, follow a taste, check an upload.

`Service` answers the same questions without a page.
"""

from lookalike import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__, build_app="app", launch_options="app", Service="service"
)
