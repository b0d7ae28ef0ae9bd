"""Milvus behind the protocol of `exact`: a file (Milvus Lite) or a server or cluster, by the same
code.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from lookalike.machine import require
from lookalike.scale.exact import (
    as_scores,
    blocks,
    checked_ids,
    checked_queries,
    checked_rows,
    checked_space,
    is_milvus,
    no_answers,
)
from lookalike.scale.faiss_indexes import EF_BUILD, LINKS

METRICS = {"cosine": "COSINE", "euclidean": "L2"}
EF_SEARCH = 400  # candidates of a search in the graph, as FAISS takes among a million
# rows in a message, and bytes: Milvus takes 64 MB
BATCH = 5000
BATCH_BYTES = 1 << 24
# queries in a message; neighbours that Milvus returns at most
QUERIES = 1000
MOST = 16384
LABEL = 65535  # the longest text that Milvus takes
ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"})
FIELDS = ("id", "label", "vector")  # of a collection; another schema would name them otherwise


class MilvusIndex:
    """A collection of Milvus (Wang et al., SIGMOD 2021), with an HNSW index and its labels beside
    the vectors.

    Parameters
    ----------
    uri
        A file that ends in .db: Milvus Lite, in this process. "http://host:19530": a server or
        cluster, 2.5 or newer.
    name
        The collection; made if it is not there and `dim` is given.
    dim, metric
        As in `FaissIndex`; of a collection that is there they are known, and checked if given.
    token
        "user:password" or a key, where the server asks for one.
    fresh
        Drop the collection, if this class made it, and make it anew.

    Raises
    ------
    FileNotFoundError
        If there is no such collection and `dim` is not given.
    ValueError
        If the collection is another's, or of another dim or metric.
    ImportError
        If pymilvus or, for a file, milvus-lite is not installed; the message has the line that
        installs it.
    """

    kind = "milvus"
    rebuild_due = ""

    def __init__(
        self,
        uri: str | Path,
        name: str = "products",
        dim: int | None = None,
        *,
        metric: str | None = None,
        token: str = "",
        fresh: bool = False,
    ):
        # Milvus Lite is pinged more often than its server likes.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        # Else of 40 processes started beside it, one aborts.
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
        self.uri = str(uri)
        self.remote = "://" in self.uri
        self.name = name
        self.client = None
        require("pymilvus", *([] if self.remote else ["milvus-lite"]))
        import pymilvus

        if not is_milvus(uri):
            raise ValueError(
                f"{uri} is neither an address like http://host:19530 nor a file that ends in .db."
            )
        if dim is not None:
            checked_space(dim, metric or "cosine")
        elif not self.remote and not Path(uri).exists():
            raise FileNotFoundError(f"No Milvus at {uri}. Give dim to make one.")
        if not self.remote:
            Path(uri).parent.mkdir(parents=True, exist_ok=True)
        self.client = pymilvus.MilvusClient(self.uri, token=token)
        try:
            self._open(pymilvus, dim, metric, fresh)
        except BaseException:
            self.close()
            raise

    def _open(self, pymilvus, dim, metric, fresh):
        client = self.client
        name = self.name
        if fresh and client.has_collection(name):
            self._fields()
            client.drop_collection(name)
        if not client.has_collection(name):
            if dim is None:
                raise FileNotFoundError(
                    f"No collection {name} at {self.uri}. Give dim to make one."
                )
            schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("id", pymilvus.DataType.INT64, is_primary=True)
            schema.add_field("label", pymilvus.DataType.VARCHAR, max_length=LABEL, nullable=True)
            schema.add_field("vector", pymilvus.DataType.FLOAT_VECTOR, dim=dim)
            plan = client.prepare_index_params()
            plan.add_index(
                "vector",
                index_type="HNSW",
                metric_type=METRICS[metric or "cosine"],
                params={"M": LINKS, "efConstruction": EF_BUILD},
            )
            client.create_collection(
                name, schema=schema, index_params=plan, consistency_level="Strong"
            )
        self.dim = int(self._fields()["vector"]["params"]["dim"])
        kind = client.describe_index(name, "vector")["metric_type"]
        self.metric = next((ours for ours in METRICS if METRICS[ours] == kind), kind)
        asked = (dim or self.dim, metric or self.metric)
        if asked != (self.dim, self.metric):
            raise ValueError(
                f"The collection {name} at {self.uri} holds vectors of {self.dim} numbers by "
                f"{self.metric}, not of {asked[0]} by {asked[1]}; name another, or give fresh=True "
                "to make it anew."
            )
        client.load_collection(name)

    def _fields(self):
        """The fields of the collection by name, if it is one of ours."""
        found = self.client.describe_collection(self.name)["fields"]
        fields = {field["name"]: field for field in found}
        if fields.keys() != set(FIELDS):
            raise ValueError(
                f"The collection {self.name} at {self.uri} has the fields {', '.join(fields)} "
                f"instead of {', '.join(FIELDS)}: it was not made here. Name another."
            )
        return fields

    @property
    def nbytes(self):
        """Bytes on disk of a Milvus Lite; 0 for a server, which does not tell."""
        files = [] if self.remote else [Path(self.uri), *Path(self.uri).rglob("*")]
        return sum(file.stat().st_size for file in files if file.is_file())

    def __len__(self):
        return self._query("", ["count(*)"])[0]["count(*)"]

    def add(self, ids, vectors, labels=None):
        ids, vectors, labels, _ = checked_rows(ids, vectors, labels, self.dim)
        for row, label in enumerate(labels):
            if label and len(label.encode()) > LABEL:
                raise ValueError(
                    f"The label in row {row} is longer than {LABEL} bytes, the most that Milvus "
                    "takes."
                )
        size = max(1, min(BATCH, BATCH_BYTES // (4 * self.dim)))
        for some in blocks(len(ids), size, "Adding to Milvus"):
            rows = zip(ids[some].tolist(), labels[some], vectors[some], strict=True)
            self.client.upsert(self.name, [dict(zip(FIELDS, row, strict=True)) for row in rows])

    def search(self, queries, k, *, label=None):
        queries, _ = checked_queries(queries, k, label, self.dim)
        if k > MOST:
            raise ValueError(f"Milvus returns at most {MOST} neighbours, not {k}.")
        ids, scores = no_answers(queries, k, self.metric)
        for start in range(0, len(queries), QUERIES):
            answers = self.client.search(
                self.name,
                list(queries[start : start + QUERIES]),
                anns_field="vector",
                limit=k,
                filter="" if label is None else f"label == {quoted(label)}",
                output_fields=["id"],  # else the vectors come along
                search_params={
                    "metric_type": METRICS[self.metric],
                    "params": {"ef": max(EF_SEARCH, 2 * k)},
                },
                consistency_level="Strong",
            )
            for row, hits in enumerate(answers, start):
                ids[row, : len(hits)] = [hit["id"] for hit in hits]
                values = np.array([hit["distance"] for hit in hits], np.float32)
                scores[row, : len(hits)] = as_scores(values, self.metric)
        return ids, scores

    def remove(self, ids):
        ids = np.unique(checked_ids(ids))
        removed = 0
        for start in range(0, len(ids), BATCH):
            condition = f"id in {ids[start : start + BATCH].tolist()}"
            there = [row["id"] for row in self._query(condition, ["id"])]
            if there:
                self.client.delete(self.name, ids=there)
            removed += len(there)
        return removed

    def save(self, path=None):
        """Let Milvus write what it holds in memory, and build the graph; all lies at its `uri`, the
        only `path`.
        """
        if str(path or self.uri) != self.uri:
            raise ValueError(f"This Milvus lies at {self.uri}; make another to have it at {path}.")
        self.client.flush(self.name)
        if self.remote:
            while self.client.describe_index(self.name, "vector").get("pending_index_rows"):
                time.sleep(1)
        else:
            # Milvus Lite builds it in the background, and says that it is finished; but to load, it
            # must be.
            self.client.release_collection(self.name)
            self._load_built()

    def _load_built(self, tries=5):
        """Load a collection of Milvus Lite; a graph that its background is still writing reads as
        cut, so try again.
        """
        from pymilvus import MilvusException

        for left in reversed(range(tries)):
            try:
                return self.client.load_collection(self.name)
            except MilvusException as error:
                if not left or "read error" not in str(error):
                    raise
                time.sleep(0.5)

    def close(self):
        """Let go of the file or the connection."""
        if self.client is not None:
            self.client.close()
            self.client = None

    def _query(self, condition, fields):
        return self.client.query(
            self.name, filter=condition, output_fields=fields, consistency_level="Strong"
        )


def quoted(label: str):
    """A label as text in a filter, so that none can end the text and go on as a condition.

    Milvus has templates for that, Milvus Lite has not; these are the escapes that both understand.
    """
    return f'"{label.translate(ESCAPES)}"'
