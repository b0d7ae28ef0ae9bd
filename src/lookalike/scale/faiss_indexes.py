"""FAISS behind the protocol of `exact`: flat (exact), HNSW (a graph, fast) and IVF-PQ
(compressed, small).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from lookalike.gallery_vectors import as_float32
from lookalike.machine import progress, require
from lookalike.scale.exact import ROWS, InMemory, checked_queries, checked_rows
from lookalike.similarity import WORST

KINDS = ("flat", "hnsw", "ivfpq")
# HNSW: neighbours of a vector in the graph, and candidates among which they are chosen.
LINKS = 32
EF_BUILD = 200
# Candidates of a search: this times the root of how many there are, 600 of a million.
EF = 0.6
LEAST_EF = 64
NUMBERS_A_BYTE = 4  # PQ: numbers of a vector that share a byte
# what IVF-PQ ranks anew by: 8 bits (SQ8) cannot tell the near apart, float32 takes twice the room
REFINE = "SQfp16"
# Candidates that are ranked anew: at least 32 for each of the k, 1.5.
K_FACTOR = 32
RANKED = 1.5
LEAST_RANKED = 320
# times the root of how many there are (codes tell less apart among more), and 320
# share of the lists that a query reads, and how many at least
PROBED = 1 / 48
LEAST_PROBED = 32
# Vectors that a centre is learned from: FAISS's own least, and what we take.
PER_CENTRE = 39
SAMPLED = 64
FEWEST = 2 * PER_CENTRE  # vectors that IVF-PQ can be trained on
ROUNDS = 10  # of learning the codes; FAISS's 25 take longer and find no more
REBUILD = 4  # IVF-PQ that grew so many times over since it was trained is due
# share of a graph that may be found, from which on it is followed; else all vectors are compared
DENSE = 0.5


class FaissIndex(InMemory):
    """An index of FAISS (Douze et al., 2024, "The Faiss library").

    Removed vectors stay and are passed over; `rebuild_due` tells when they are too many. With a
    label, HNSW compares all vectors of that label and IVF-PQ reads all lists, since near ones of
    another label would hide them.

    Parameters
    ----------
    kind
        "flat": exact, 4 bytes a number. "hnsw": a graph of near vectors (Malkov & Yashunin, 2018),
        a little more memory. "ivfpq": vectors in lists, product-quantised (Jégou et al., 2011) and
        the best ranked anew in half precision, about half the memory. It is trained on the first
        vectors that are added: add many at once, at least 78; with fewer than 10,000 it learns
        fewer lists and coarser codes.
    metric
        "cosine" or "euclidean".

    Raises
    ------
    ValueError
        If kind, dim or metric are none.
    ImportError
        If FAISS is not installed; the message has the line that installs it.
    """

    def __init__(self, dim: int, *, kind: str = "hnsw", metric: str = "cosine"):
        super().__init__(dim, metric=metric)
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}.")
        require("faiss-cpu")
        import faiss

        self.kind = kind
        self.faiss = faiss
        self.trained_on = 0
        self.engine = (
            None
            if kind == "ivfpq"
            else self._factory({"flat": "Flat", "hnsw": f"HNSW{LINKS}"}[kind])
        )
        if kind == "hnsw":
            self.engine.hnsw.efConstruction = EF_BUILD

    @property
    def nbytes(self) -> int:
        written = 0

        def count(block: bytes) -> int:
            nonlocal written
            written += len(block)
            return len(block)

        self._write_engine(count)
        return written + self.ids.nbytes + self.codes.nbytes

    @property
    def rebuild_due(self) -> str:
        if self.trained_on and len(self) > REBUILD * self.trained_on:
            return f"it was trained on {self.trained_on} vectors, and holds {len(self)}"
        return super().rebuild_due

    def add(self, ids, vectors, labels=None) -> None:
        ids, vectors, labels, lengths = checked_rows(ids, vectors, labels, self.dim)
        if not len(ids):
            return
        if self.engine is None:
            self._train(vectors, lengths)
        # Of an `add` that was interrupted: rows that nobody may find.
        if cut := self.engine.ntotal - len(self.ids):
            self.ids = np.concatenate([self.ids, np.full(cut, -1)])
            self.codes = np.concatenate([self.codes, np.full(cut, -1, np.int32)])
            self.removed += cut
        starts = range(0, len(ids), ROWS)
        bar = {"total": len(starts), "description": f"Building {self.kind}", "unit": "blocks"}
        for start in progress(starts, **bar) if self.kind != "flat" and starts[4:] else starts:
            rows = slice(start, start + ROWS)
            self.engine.add(self._scaled(vectors[rows], lengths[rows]))
        self._append(ids, labels)

    def search(self, queries, k, *, label=None):
        queries, lengths = checked_queries(queries, k, label, self.dim)
        indices = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), WORST[self.metric], np.float32)
        chosen = self._chosen(label)
        there = len(self) if chosen is None else int(chosen.sum())
        found = min(k, there)
        if not found or not len(queries):
            return indices, scores
        queries, whole = (
            self._scaled(queries, lengths),
            label is not None or there < DENSE * len(self.ids),
        )
        values, places = self._find(queries, found, chosen, whole)
        if not whole and (places < 0).any():  # the lists that were read held too few
            values, places = self._find(queries, found, chosen, True)
        values = (
            np.clip(values, -1, 1) if self.metric == "cosine" else np.sqrt(np.maximum(values, 0))
        )
        indices[:, :found] = self._named(places)
        scores[:, :found] = np.where(places < 0, WORST[self.metric], values)
        return indices, scores

    def save(self, path) -> None:
        self._write(path, "engine.faiss", lambda stream: self._write_engine(stream.write))

    def read_engine(self, stream, header: dict) -> None:
        """Take the engine from what `save` wrote."""
        self.trained_on = header["trained_on"]
        if self.kind != "ivfpq" or self.trained_on:
            self.engine = self.faiss.read_index(self.faiss.PyCallbackIOReader(stream.read))
        if stream.read(1) or (self.engine is not None and self.engine.ntotal != len(self.ids)):
            raise ValueError("more or fewer vectors than ids")

    def _header(self) -> dict:
        return {"trained_on": self.trained_on}

    def _write_engine(self, write: Callable[[bytes], int]) -> None:
        if self.engine is not None:
            self.faiss.write_index(self.engine, self.faiss.PyCallbackIOWriter(write))

    def _factory(self, recipe: str):
        inner = self.metric == "cosine"  # of vectors of length 1
        metric = self.faiss.METRIC_INNER_PRODUCT if inner else self.faiss.METRIC_L2
        return self.faiss.index_factory(self.dim, recipe, metric)

    def _scaled(self, vectors: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Vectors as FAISS wants them: of length 1 for the cosine, but for zero vectors."""
        scale = np.where(lengths > 0, lengths, 1)[:, None] if self.metric == "cosine" else 1
        return as_float32(as_float32(vectors) / scale)

    def _train(self, vectors: np.ndarray, lengths: np.ndarray) -> None:
        """Lists and codes, as many as can be learned from so many vectors."""
        count = len(vectors)
        if count < FEWEST:
            raise ValueError(
                f"ivfpq learns from the first vectors that are added, and needs {FEWEST} of them; there are "
                f"{count}. Add more at once, or take another kind."
            )
        lists = max(1, min(round(4 * math.sqrt(count)), count // PER_CENTRE))
        bits = min(8, int(math.log2(count / PER_CENTRE)))
        parts = max(
            part
            for part in range(1, max(1, self.dim // NUMBERS_A_BYTE) + 1)
            if self.dim % part == 0
        )
        # "np": no reordering of codes for a search by Hamming distance, which takes most of the
        # training
        engine = self._factory(f"IVF{lists},PQ{parts}x{bits}np,Refine({REFINE})")
        learning = self.faiss.downcast_index(engine.base_index).pq.cp
        learning.max_points_per_centroid = SAMPLED
        learning.niter = ROUNDS
        size = min(count, SAMPLED * max(lists, 1 << bits))
        rows = np.sort(np.random.default_rng(0).choice(count, size, replace=False))
        engine.train(self._scaled(vectors[rows], lengths[rows]))
        self.engine = engine
        self.trained_on = count

    def _find(
        self, queries: np.ndarray, k: int, chosen: np.ndarray | None, whole: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """FAISS's scores [q, k] and rows [q, k] of those that are chosen; if `whole`, among all of
        them.
        """
        faiss = self.faiss
        engine = self.engine
        options = {}
        if chosen is not None:
            options["sel"] = faiss.IDSelectorBitmap(np.packbits(chosen, bitorder="little"))
        if self.kind == "ivfpq":
            lists = faiss.downcast_index(engine.base_index).nlist
            probed = lists if whole else min(lists, max(LEAST_PROBED, math.ceil(PROBED * lists)))
            base = faiss.SearchParametersIVF(nprobe=probed, **options)
            ranked = max(K_FACTOR * k, LEAST_RANKED, RANKED * math.sqrt(engine.ntotal))
            options = faiss.IndexRefineSearchParameters(k_factor=ranked / k, base_index_params=base)
        elif self.kind == "hnsw" and not whole:
            wide = max(LEAST_EF, 2 * k, int(EF * math.sqrt(engine.ntotal)))
            options = faiss.SearchParametersHNSW(efSearch=wide, **options)
        else:
            engine = faiss.downcast_index(engine.storage) if self.kind == "hnsw" else engine
            options = faiss.SearchParameters(**options)
        return engine.search(queries, k, params=options)
