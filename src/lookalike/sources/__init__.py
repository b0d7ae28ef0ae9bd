"""Where product photos really are: a folder, a zip, a list, Kaggle, Amazon.

Each becomes a catalogue, one row a photo, whatever it looked like before.
"""

from lookalike import lazy_exports

__getattr__, __all__ = lazy_exports(__name__, load_catalog="load", open_catalog="load")
