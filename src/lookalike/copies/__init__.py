"""Near-duplicates: find the same photo twice, say in what the two differ, and group what was found.

Copies made on purpose tell what is found and what is not; nothing is ever deleted.
"""

from lookalike import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    CopyIndex="find",
    find_near_duplicates="find",
    group_copies="groups",
    join_products="groups",
    SIDE_ARRAYS="hashing",
)
