"""An index of a store, by FAISS or Milvus: add, search, remove, save, and open again."""

from pathlib import Path

import numpy as np
import pandas as pd

from lookalike.machine import require
from lookalike.scale.milvus import MilvusIndex, is_milvus
from lookalike.scale.shared import (
    EF_BUILD,
    LINKS,
    StoreIndex,
    checked_rows,
    checked_vectors,
    indexed,
    slices,
)
from lookalike.similarity import checked_k
from lookalike.workspace import file_hash, replaced

KINDS = ("flat", "hnsw", "ivfpq")
ROWS = 1 << 16  # added at a time
CENTRE = 39  # vectors that FAISS wants for each centre it learns
LEAST = 256 * CENTRE  # for the codes of IVF-PQ


def index_store(store, kind="hnsw", path="", **options):
    """An index of all that a store holds, for `recommend(store, ..., index=index)`.

    Its ids are the rows of the store, its labels those of the catalogue. Vectors and colours lie in
    it side by side, so that it serves every weight of `colour`.

    Parameters
    ----------
    kind
        "hnsw", "ivfpq" or "flat", as `FaissIndex` has them; or "milvus".
    path, options
        Of a Milvus: where it is, as `MilvusIndex` takes it, with `name` and `token`; what it holds
        under that name is replaced.

    Raises
    ------
    ImportError
        If the engine is not installed; the message has the line that installs it.
    ValueError
        If the kind is unknown, or Milvus has no path.
    """
    vectors = indexed(store)
    if kind == "milvus":
        index = MilvusIndex(path, vectors.shape[1], **options)
    else:
        index = FaissIndex(vectors.shape[1], kind)
    index.add(np.arange(len(vectors)), vectors, store.catalog.get("label"))
    return index


def open_index(path, **options):
    """Open an index where it was saved: a folder, a Milvus Lite, which ends in .db, or the address
    of a Milvus server; the options are `name` and `token`.

    Raises
    ------
    FileNotFoundError, ImportError, ValueError
        If nothing is there, its engine is not installed, or it is damaged.
    """
    if is_milvus(path):
        return MilvusIndex(path, **options)
    require("faiss-cpu")
    import faiss

    file = Path(path, "index.faiss")
    if not file.is_file():
        raise FileNotFoundError(
            f"No index at {path}. Make one with index_store and save it there."
        )
    try:
        with np.load(file.with_name("rows.npz"), allow_pickle=False) as rows:
            if rows["sha256"] != file_hash(file):
                raise ValueError("the engine is not the one that was saved")
            engine = faiss.read_index(str(file))
            index = FaissIndex(engine.d, str(rows["kind"]))
            index.engine = engine
            index.ids = rows["ids"]
            index.remove([])
            index.labels = np.append(rows["names"].astype(object), None)[rows["codes"]]
    except Exception as error:  # of damaged bytes it raises all kinds
        raise ValueError(f"{path} was changed or cut ({error}); make it again.") from None
    return index


class FaissIndex(StoreIndex):
    """An index of FAISS with ids and labels, in memory (Douze and others, "The Faiss library",
    2024).

    Scores are products, so vectors should have one length, as `index_store` gives them. What is
    removed stays in the engine and is passed over. Within one label HNSW compares all vectors of
    it, and IVF-PQ reads all lists, since near ones of another label would hide them.

    Parameters
    ----------
    kind
        "flat": exact, 4 bytes a number. "hnsw": a graph of near vectors (Malkov and Yashunin, TPAMI
        2020), a little more. "ivfpq": vectors in lists, as short codes (Jégou and others, TPAMI
        2011), the best ranked again in half precision; about half the memory. It learns lists and
        codes from the first vectors that are added, 9,984 or more.
    """

    def __init__(self, dim, kind="hnsw"):
        require("faiss-cpu")
        import faiss

        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)} or milvus, not {kind!r}.")
        self.dim = dim
        self.kind = kind
        self.ids = np.empty(0, np.int64)
        self.labels = np.empty(0, object)
        self.count = 0
        self.engine = None
        if kind == "flat":
            self.engine = faiss.IndexFlatIP(dim)
        elif kind == "hnsw":
            self.engine = faiss.IndexHNSWFlat(dim, LINKS, faiss.METRIC_INNER_PRODUCT)
            self.engine.hnsw.efConstruction = EF_BUILD

    def __len__(self):
        return self.count

    def add(self, ids, vectors, labels=None):
        """Add vectors [n, dim]; of an id that is there, the new vector and label take its place."""
        ids, vectors, labels = checked_rows(ids, vectors, labels, self.dim)
        if self.engine is None:
            self.engine = _trained(vectors)
        # Rows that nobody may find yet; of an `add` that was interrupted, some may be left.
        there = self.engine.ntotal
        self.ids = np.append(self.ids[:there], np.full(len(ids), -1))
        self.labels = np.append(self.labels[:there], labels)
        for some in slices(len(ids), ROWS, f"Building {self.kind}"):
            self.engine.add(vectors[some])
        self.remove(ids)
        self.ids[there:] = ids
        self.count += len(ids)

    def remove(self, ids):
        """Remove what is there of `ids`, which may be added again."""
        self.ids[np.isin(self.ids, ids)] = -1
        self.count = int((self.ids >= 0).sum())

    def search(self, queries, k, *, label=None):
        """The k nearest of queries [q, dim], of one label if given: ids int64 and products float32
        [q, k], best first; -1 and -inf where fewer are left.
        """
        queries = checked_vectors(queries, self.dim, "query")
        chosen = None
        count = self.count
        # Else no search looks at every row.
        if label is not None or count < len(self.ids):
            chosen = self.ids >= 0
            if label is not None:
                chosen &= self.labels == label
            count = int(chosen.sum())
        found = min(checked_k(k), count)
        ids = np.full((len(queries), k), -1)
        scores = np.full(ids.shape, -np.inf, np.float32)
        # A graph in which most may not be found is no road any more.
        whole = label is not None or found < k or 2 * count < len(self.ids)
        if found:
            values, rows = self._find(queries, found, chosen, whole)
            if (rows < 0).any():  # the lists that were read held too few
                values, rows = self._find(queries, found, chosen, True)
            ids[:, :found] = np.where(rows < 0, -1, self.ids[rows])
            scores[:, :found] = np.where(rows < 0, -np.inf, values)
        return ids, scores

    def save(self, path):
        """Write the index into a folder of its own, whole or not at all; `open_index` opens it."""
        import faiss

        folder = Path(path).resolve()
        folder.parent.mkdir(parents=True, exist_ok=True)
        codes, names = pd.factorize(self.labels)
        with replaced(folder) as fresh:
            file = fresh / "index.faiss"
            faiss.write_index(self.engine, str(file))
            np.savez(
                fresh / "rows.npz",
                kind=self.kind,
                sha256=file_hash(file),
                ids=self.ids,
                codes=codes,
                names=names.astype(str),
            )

    def close(self):
        """Nothing is held open."""

    def _find(self, queries, k, chosen, whole):
        """FAISS's scores and rows [q, k] of those that are chosen; if `whole`, among all of
        them.
        """
        import faiss

        engine = self.engine
        options = {}
        if chosen is not None:
            bits = np.packbits(chosen, bitorder="little")
            options["sel"] = faiss.IDSelectorBitmap(bits)
        if self.kind == "ivfpq":
            lists = faiss.downcast_index(engine.base_index).nlist
            probes = lists if whole else max(32, lists // 20)
            inner = faiss.SearchParametersIVF(nprobe=probes, **options)
            ranked = max(32, int(0.15 * engine.ntotal**0.5))
            how = faiss.IndexRefineSearchParameters(k_factor=ranked, base_index_params=inner)
        elif self.kind == "hnsw" and not whole:
            width = max(128, 2 * k, int(2.85 * engine.ntotal**0.35))
            how = faiss.SearchParametersHNSW(efSearch=width, **options)
        else:
            engine = faiss.downcast_index(engine.storage) if self.kind == "hnsw" else engine
            how = faiss.SearchParameters(**options)
        return engine.search(queries, k, params=how)


def _trained(vectors):
    """An empty IVF-PQ index, its lists and codes learnt from a sample of vectors."""
    import faiss

    count, dim = vectors.shape
    if count < LEAST:
        raise ValueError(
            f"ivfpq learns from the first vectors that are added, and needs {LEAST} of them; there "
            f"are {count}. Add more at once, or take another kind."
        )
    lists = min(int(4 * count**0.5), count // CENTRE)
    # Four numbers to a code; their count must divide the dimension.
    parts = max(part for part in range(1, max(2, dim // 4 + 1)) if dim % part == 0)
    # "np": without sorting the codes for a search that we do not use, which takes longest.
    recipe = f"IVF{lists},PQ{parts}x8np,Refine(SQfp16)"
    engine = faiss.index_factory(dim, recipe, faiss.METRIC_INNER_PRODUCT)
    size = CENTRE * max(lists, 256)
    engine.train(vectors[np.random.default_rng(0).choice(count, size, replace=False)])
    return engine
