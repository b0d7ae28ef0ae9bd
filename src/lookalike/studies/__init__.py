"""What is measured once and read: stages of a network, edited photos, cheap variants.

No other stage needs it; a reader who wants to know why a choice was made finds the experiment here.
"""

from lookalike import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    compare="comparison",
    edit_photo="photo_edits",
    measure_edits="experiments",
    try_variants="experiments",
)
