"""A vector database with the verbs of `FaissIndex`: a file (Milvus Lite), a server or a cluster."""

import json
import os
import time
from pathlib import Path

import numpy as np

from lookalike.machine import require
from lookalike.scale.shared import (
    EF_BUILD,
    LINKS,
    StoreIndex,
    checked_rows,
    checked_vectors,
    slices,
)
from lookalike.similarity import checked_k

FIELDS = ("id", "label", "vector")
WIDTH = 800  # candidates of a search in the graph
BYTES = 1 << 24  # in a message, of which Milvus takes 64 MB
QUERIES = 1000  # in a message
MOST = 16384  # neighbours, and ids of a message


def is_milvus(path):
    """Whether it is the address of a server, or the file of a Milvus Lite."""
    return "://" in str(path) or str(path).endswith(".db")


class MilvusIndex(StoreIndex):
    """A collection of Milvus (Wang and others, SIGMOD 2021): ids, labels, and vectors in a graph.

    Parameters
    ----------
    uri
        A path that ends in .db: Milvus Lite, in this process. "http://host:19530": a server or
        cluster, 2.5 or newer.
    dim
        Of the vectors: a collection of this name that was made here is replaced. None: it is
        opened.
    token
        "user:password" or a key, where the server asks for one.

    Raises
    ------
    FileNotFoundError
        If there is no such collection to open.
    ValueError
        If `uri` is none, or the collection was not made here.
    ImportError
        If a package is not installed; the message has the line that installs it.
    """

    kind = "milvus"

    def __init__(self, uri, dim=None, *, name="products", token=""):
        # Milvus Lite is pinged more often than its server likes; and of many processes that are
        # started beside it, one would abort.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
        self.uri = str(uri)
        self.name = name
        if not is_milvus(uri):
            raise ValueError(
                "Milvus needs a path, a file that ends in .db, or an address like "
                f"http://host:19530; not {self.uri!r}."
            )
        self.remote = "://" in self.uri
        require("pymilvus", *([] if self.remote else ["milvus-lite"]))
        import pymilvus

        if not self.remote:
            Path(uri).parent.mkdir(parents=True, exist_ok=True)
        self.client = pymilvus.MilvusClient(self.uri, token=token)
        there = self.client.has_collection(name)
        if dim is None and not there:
            self.close()
            raise FileNotFoundError(
                f"No collection {name} at {uri}. Make one with index_store."
            )
        if there:
            told = self.client.describe_collection(name)
            fields = {field["name"]: field for field in told["fields"]}
            if fields.keys() != {*FIELDS}:
                self.close()
                raise ValueError(
                    f"The collection {name} at {uri} was not made here. Name another."
                )
        if dim is None:
            self.dim = int(fields["vector"]["params"]["dim"])
            self.client.load_collection(name)
        else:
            self.dim = dim
            self.client.drop_collection(name)
            self._create()

    def _create(self):
        from pymilvus import DataType

        client = self.client
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("label", DataType.VARCHAR, max_length=65535, nullable=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.dim)
        plan = client.prepare_index_params()
        plan.add_index(
            "vector",
            index_type="HNSW",
            metric_type="IP",
            params={"M": LINKS, "efConstruction": EF_BUILD},
        )
        # With a plan for its index, it is loaded as well.
        client.create_collection(
            self.name, schema=schema, index_params=plan, consistency_level="Strong"
        )

    def __len__(self):
        (row,) = self.client.query(self.name, filter="", output_fields=["count(*)"])
        return row["count(*)"]

    def add(self, ids, vectors, labels=None):
        """As `FaissIndex.add`."""
        ids, vectors, labels = checked_rows(ids, vectors, labels, self.dim)
        size = max(1, BYTES // (4 * self.dim))
        for some in slices(len(ids), size, "Adding to Milvus"):
            rows = zip(ids[some].tolist(), labels[some], vectors[some], strict=True)
            self.client.upsert(self.name, [dict(zip(FIELDS, row, strict=True)) for row in rows])

    def remove(self, ids):
        """As `FaissIndex.remove`."""
        for some in slices(len(ids), MOST, "Removing"):
            self.client.delete(self.name, ids=np.asarray(ids)[some].tolist())

    def search(self, queries, k, *, label=None):
        """As `FaissIndex.search`; k is at most 16,384."""
        queries = checked_vectors(queries, self.dim, "query")
        # Milvus has templates for text in a filter, Milvus Lite has not; both understand this.
        text = json.dumps(label, ensure_ascii=False)
        ids = np.full((len(queries), checked_k(k)), -1)
        scores = np.full(ids.shape, -np.inf, np.float32)
        for some in slices(len(queries), QUERIES, "Asking Milvus"):
            # Of a rare label that is far, Milvus Lite finds too few among so many candidates; then
            # it is asked for all that it has, which takes seconds where there are 100,000.
            for width in (max(WIDTH, 2 * k), 1 << 20):
                answers = self.client.search(
                    self.name,
                    list(queries[some]),
                    limit=k,
                    filter="" if label is None else f"label == {text}",
                    output_fields=["id"],  # else the vectors come along
                    search_params={"params": {"ef": width}},
                )
                for row, hits in enumerate(answers, some.start):
                    ids[row, : len(hits)] = [hit["id"] for hit in hits]
                    scores[row, : len(hits)] = [hit["distance"] for hit in hits]
                if self.remote or ids[some].min() >= 0:
                    break
        return ids, scores

    def save(self, path=""):
        """Let Milvus write what it holds in memory; all lies at its `uri`."""
        if str(path or self.uri) != self.uri:
            raise ValueError(
                f"This Milvus lies at {self.uri}; make another to have it at {path}."
            )
        self.client.flush(self.name)
        if not self.remote:
            # Milvus Lite builds it in the background, and says that it is finished; but to load, it
            # must be.
            self.client.release_collection(self.name)
            self._load_built()

    def _load_built(self):
        """Load a collection of Milvus Lite; a graph that its background is still writing reads as
        cut, so try again.
        """
        from pymilvus import MilvusException

        for tries in range(4):
            try:
                return self.client.load_collection(self.name)
            except MilvusException as error:
                if tries == 3 or "read error" not in str(error):
                    raise
                time.sleep(0.5)

    def close(self):
        """Let go of the file or the connection."""
        self.client.close()
