"""Search and embedding beyond one process: FAISS, Milvus, Spark.

Importing this imports none of them.
"""

from lookalike import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    index_store="indexes",
    open_index="indexes",
    embed_with_spark="spark",
    open_spark_store="spark",
    spark_session="spark",
)
