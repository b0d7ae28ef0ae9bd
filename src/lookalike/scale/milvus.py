"""Milvus behind the protocol of `exact`: a file (Milvus Lite) or a server or cluster, by the same
code.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from lookalike.gallery_vectors import as_float32
from lookalike.machine import progress, require
from lookalike.scale.exact import checked_ids, checked_queries, checked_rows, checked_space
from lookalike.scale.faiss_indexes import EF_BUILD, LINKS
from lookalike.similarity import WORST

METRICS = {"cosine": "COSINE", "euclidean": "L2"}
EF_SEARCH = 400  # candidates of a search in the graph, as FAISS takes among a million
# rows in a message, and bytes: Milvus takes 64 MB
BATCH = 5000
BATCH_BYTES = 1 << 24
# queries in a message; neighbours that Milvus returns at most
QUERIES = 1000
MOST = 16384
LABEL = 65535  # the longest text that Milvus takes
FIELDS = ("id", "label", "vector")  # of a collection; another schema would name them otherwise


def is_milvus(path: str | Path) -> bool:
    """Whether it is the address of a server, or the file of a Milvus Lite, which ends in .db."""
    return "://" in str(path) or str(path).endswith(".db")


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
        require("pymilvus", *([] if "://" in str(uri) else ["milvus-lite"]))
        import pymilvus

        self.uri = str(uri)
        self.name = name
        self.client = None
        if not is_milvus(self.uri):
            raise ValueError(
                f"{uri} is neither an address like http://host:19530 nor a file that ends in .db."
            )
        if dim is not None:
            checked_space(dim, metric or "cosine")
        if "://" not in self.uri:
            if dim is None and not Path(uri).exists():
                raise FileNotFoundError(f"No Milvus at {uri}. Give dim to make one.")
            Path(uri).parent.mkdir(parents=True, exist_ok=True)
        self.client = pymilvus.MilvusClient(self.uri, token=token)
        try:
            self._open(pymilvus, dim, metric, fresh)
        except BaseException:
            self.close()
            raise

    def _open(self, pymilvus, dim: int | None, metric: str | None, fresh: bool) -> None:
        client = self.client
        name = self.name
        there = client.has_collection(name)
        if there:
            fields = {field["name"]: field for field in client.describe_collection(name)["fields"]}
            if set(fields) != set(FIELDS):
                raise ValueError(
                    f"The collection {name} at {self.uri} has the fields {', '.join(fields)} instead of "
                    f"{', '.join(FIELDS)}: it was not made here. Name another."
                )
            if fresh:
                client.drop_collection(name)
                there = False
        if not there:
            if dim is None:
                raise FileNotFoundError(
                    f"No collection {name} at {self.uri}. Give dim to make one."
                )
            self.dim = dim
            self.metric = metric or "cosine"
            schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("id", pymilvus.DataType.INT64, is_primary=True)
            schema.add_field("label", pymilvus.DataType.VARCHAR, max_length=LABEL, nullable=True)
            schema.add_field("vector", pymilvus.DataType.FLOAT_VECTOR, dim=dim)
            graph = {"M": LINKS, "efConstruction": EF_BUILD}
            plan = client.prepare_index_params()
            plan.add_index(
                "vector", index_type="HNSW", metric_type=METRICS[self.metric], params=graph
            )
            client.create_collection(
                name, schema=schema, index_params=plan, consistency_level="Strong"
            )
        else:
            metric_type = client.describe_index(name, "vector")["metric_type"]
            self.metric = next(
                (ours for ours, theirs in METRICS.items() if theirs == metric_type), metric_type
            )
            self.dim = int(fields["vector"]["params"]["dim"])
            if dim not in (None, self.dim) or metric not in (None, self.metric):
                asked = f"{dim or self.dim} numbers by {metric or self.metric}"
                raise ValueError(
                    f"The collection {name} at {self.uri} holds vectors of {self.dim} numbers by {self.metric}, not "
                    f"{asked}; name another, or give fresh=True to make it anew."
                )
        client.load_collection(name)

    @property
    def nbytes(self) -> int:
        """Bytes on disk of a Milvus Lite; 0 for a server, which does not tell."""
        if "://" in self.uri:
            return 0
        path = Path(self.uri)
        return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())

    def __len__(self) -> int:
        return self._query("", ["count(*)"])[0]["count(*)"]

    def add(self, ids, vectors, labels=None) -> None:
        ids, vectors, labels, _ = checked_rows(ids, vectors, labels, self.dim)
        long = next(
            (row for row, label in enumerate(labels) if label and len(label.encode()) > LABEL), None
        )
        if long is not None:
            raise ValueError(
                f"The label in row {long} is longer than {LABEL} bytes, the most that Milvus takes."
            )
        size = max(1, min(BATCH, BATCH_BYTES // (4 * self.dim)))
        starts = range(0, len(ids), size)
        if starts[10:]:
            starts = progress(
                starts, total=len(starts), description="Adding to Milvus", unit="batches"
            )
        for start in starts:
            rows = slice(start, start + size)
            columns = zip(ids[rows].tolist(), labels[rows], as_float32(vectors[rows]), strict=True)
            self.client.upsert(self.name, [dict(zip(FIELDS, row, strict=True)) for row in columns])

    def search(self, queries, k, *, label=None):
        queries, _ = checked_queries(queries, k, label, self.dim)
        if k > MOST:
            raise ValueError(f"Milvus returns at most {MOST} neighbours, not {k}.")
        indices = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), WORST[self.metric], np.float32)
        options = {"metric_type": METRICS[self.metric], "params": {"ef": max(EF_SEARCH, 2 * k)}}
        for start in range(0, len(queries), QUERIES):
            answers = self.client.search(
                self.name,
                list(queries[start : start + QUERIES]),
                anns_field="vector",
                limit=k,
                filter="" if label is None else f"label == {quoted(label)}",
                output_fields=["id"],  # else the vectors come along
                search_params=options,
                consistency_level="Strong",
            )
            for row, hits in enumerate(answers, start):
                indices[row, : len(hits)] = [hit["id"] for hit in hits]
                values = np.array([hit["distance"] for hit in hits], np.float32)
                cosine = self.metric == "cosine"
                scores[row, : len(hits)] = (
                    values.clip(-1, 1) if cosine else np.sqrt(values.clip(min=0))
                )
        return indices, scores

    def remove(self, ids) -> int:
        ids, removed = np.unique(checked_ids(ids)), 0
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH].tolist()
            there = [row["id"] for row in self._query(f"id in {some}", ["id"])]
            if there:
                self.client.delete(self.name, ids=there)
            removed += len(there)
        return removed

    def save(self, path: str | Path | None = None) -> None:
        """Let Milvus write what it holds in memory, and build the graph; all lies at its `uri`, the
        only `path`.
        """
        if path is not None and str(path) != self.uri:
            raise ValueError(f"This Milvus lies at {self.uri}; make another to have it at {path}.")
        self.client.flush(self.name)
        if "://" in self.uri:
            while self.client.describe_index(self.name, "vector").get("pending_index_rows"):
                time.sleep(1)
        else:  # Milvus Lite builds it in the background, and says that it is finished; but to load, it must be
            self.client.release_collection(self.name)
            self._load_built()

    def _load_built(self, tries: int = 5) -> None:
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

    def close(self) -> None:
        """Let go of the file or the connection."""
        if self.client is not None:
            self.client.close()
            self.client = None

    def _query(self, condition: str, fields: list[str]) -> list[dict]:
        return self.client.query(
            self.name, filter=condition, output_fields=fields, consistency_level="Strong"
        )


def quoted(label: str) -> str:
    """A label as text in a filter, so that none can end the text and go on as a condition.

    Milvus has templates for that, Milvus Lite has not; these are the escapes that both understand.
    """
    for character, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r")):
        label = label.replace(character, escaped)
    return f'"{label}"'
