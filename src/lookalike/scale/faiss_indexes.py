"""FAISS behind the protocol of `exact`: flat (exact), HNSW (a graph, fast) and IVF-PQ
(compressed, small).
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np

from lookalike.machine import require
from lookalike.scale.exact import ROWS, InMemory, as_scores, blocks, checked_queries, no_answers
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
        self.engine = None
        if kind == "flat":
            self.engine = self._factory("Flat")
        elif kind == "hnsw":
            self.engine = self._factory(f"HNSW{LINKS}")
            self.engine.hnsw.efConstruction = EF_BUILD

    @property
    def nbytes(self):
        written = []
        self.write_engine(SimpleNamespace(write=lambda block: written.append(len(block))))
        return sum(written) + self.ids.nbytes + self.codes.nbytes

    @property
    def rebuild_due(self):
        if self.trained_on and len(self) > REBUILD * self.trained_on:
            return f"it was trained on {self.trained_on} vectors, and holds {len(self)}"
        return super().rebuild_due

    def add_to_engine(self, vectors, lengths):
        if self.engine is None:
            self._train(vectors, lengths)
        # Of an `add` that was interrupted: rows that nobody may find.
        cut = np.full(self.engine.ntotal - len(self.ids), -1)
        self._extend(cut, cut)
        self.removed += len(cut)
        for rows in blocks(len(vectors), ROWS, f"Building {self.kind}"):
            self.engine.add(self._scaled(vectors[rows], lengths[rows]))

    def search(self, queries, k, *, label=None):
        queries, lengths = checked_queries(queries, k, label, self.dim)
        ids, scores = no_answers(queries, k, self.metric)
        chosen = self._chosen(label)
        there = len(self) if chosen is None else int(chosen.sum())
        found = min(k, there)
        if found and len(queries):
            queries = self._scaled(queries, lengths)
            whole = label is not None or there < DENSE * len(self.ids)
            values, rows = self._find(queries, found, chosen, whole)
            if (rows < 0).any() and not whole:  # the lists that were read held too few
                values, rows = self._find(queries, found, chosen, True)
            ids[:, :found] = self._named(rows, self.ids)
            scores[:, :found] = as_scores(values, self.metric)
            scores[ids < 0] = WORST[self.metric]
        return ids, scores

    def write_engine(self, stream):
        if self.engine is not None:
            self.faiss.write_index(self.engine, self.faiss.PyCallbackIOWriter(stream.write))

    def read_engine(self, stream):
        if self.kind != "ivfpq" or self.trained_on:
            self.engine = self.faiss.read_index(self.faiss.PyCallbackIOReader(stream.read))
        return self.engine.ntotal if self.engine else 0

    def _factory(self, recipe):
        inner = self.metric == "cosine"  # of vectors of length 1
        metric = self.faiss.METRIC_INNER_PRODUCT if inner else self.faiss.METRIC_L2
        return self.faiss.index_factory(self.dim, recipe, metric)

    def _scaled(self, vectors, lengths):
        """Vectors as FAISS wants them: of length 1 for the cosine, but for zero vectors."""
        if self.metric == "euclidean":
            return vectors
        return np.float32(vectors / np.where(lengths > 0, lengths, 1)[:, None])

    def _train(self, vectors, lengths):
        """Lists and codes, as many as can be learned from so many vectors."""
        count = len(vectors)
        if count < FEWEST:
            raise ValueError(
                f"ivfpq learns from the first vectors that are added, and needs {FEWEST} of them; "
                f"there are {count}. Add more at once, or take another kind."
            )
        lists = min(round(4 * math.sqrt(count)), count // PER_CENTRE)
        bits = min(8, int(math.log2(count / PER_CENTRE)))
        most = max(1, self.dim // NUMBERS_A_BYTE)
        parts = max(part for part in range(1, most + 1) if self.dim % part == 0)
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

    def _find(self, queries, k, chosen, whole):
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
            probed = lists if whole else max(LEAST_PROBED, math.ceil(PROBED * lists))
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
