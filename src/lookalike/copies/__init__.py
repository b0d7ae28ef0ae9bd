"""Near-duplicates: find the same photo twice, verify it, and group what was found.

Copies made on purpose choose the thresholds; nothing is ever deleted.
"""

from lookalike import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    CopyIndex="find",
    find_near_duplicates="find",
    group_copies="groups",
    plant_copies="planted",
    choose_threshold="thresholds",
)
