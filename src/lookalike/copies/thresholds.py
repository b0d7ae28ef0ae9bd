"""How well copies are found: planted ones are looked up, and each step's scores tell what threshold
it needs.
"""

from __future__ import annotations

import keras
import numpy as np
import pandas as pd

from lookalike.copies.find import STEPS, CopyIndex
from lookalike.embeddings import check_encoder, embed_images
from lookalike.machine import progress

SIMILARITY = "similarity alone"


def score_copies(index: CopyIndex, copies: pd.DataFrame, encoder: keras.Model) -> pd.DataFrame:
    """Look planted copies up, one by one, and keep the score of every candidate, right or wrong.

    Parameters
    ----------
    index
        Of a store that `encoder` made, among whose photos are the originals.
    copies
        As `plant_copies` gives them: `image_id`, `path`, `kind`, and `copy_of`, the `image_id` of
        the original.

    Returns
    -------
    DataFrame, a row a candidate and step: `copy`, `kind`, `image_id` of the candidate, `step`,
    `score`, and whether it is `right`, the original. "similarity alone" is what embeddings would
    say without laying photo on photo.

    Raises
    ------
    ValueError
        If an original is not in the index, the encoder is not the store's, or there is no copy.
    """
    if copies.empty:
        raise ValueError("There is no copy to look up.")
    check_encoder(index.store, encoder)
    missing = copies[~copies["copy_of"].isin(index.ids)]
    if len(missing):
        raise ValueError(
            f"{missing['copy_of'].iloc[0]} is not among the photos that are searched; copy those."
        )
    vectors = embed_images(encoder, copies["path"].tolist(), fit=index.store.manifest["fit"])
    tables = []
    bar = progress(copies.to_dict("records"), total=len(copies), description="Looking copies up")
    for copy, vector in zip(bar, vectors, strict=True):
        table = index.score(copy["path"], vector)
        alone = table[table["step"] == "alignment"].assign(
            step=SIMILARITY, score=lambda copy: copy["similarity"]
        )
        table = pd.concat([table, alone], ignore_index=True).drop(columns="similarity")
        tables.append(
            table.assign(
                copy=copy["image_id"], kind=copy["kind"], right=table["image_id"] == copy["copy_of"]
            )
        )
    return pd.concat(tables, ignore_index=True).astype({"score": float, "right": bool})


def precision_recall(scores: pd.DataFrame, n_copies: int) -> pd.DataFrame:
    """Precision and recall of each step at every threshold that makes a difference.

    Precision is the share of the pairs at or above the threshold that are right, recall the share
    of the copies whose original is among them.

    Parameters
    ----------
    scores
        As `score_copies` gives them.
    n_copies
        How many copies were looked up, found or not.

    Returns
    -------
    DataFrame: `step`, `threshold` (falling), `precision`, `recall`, and `false`, the number of
    wrong pairs.
    """
    curves = []
    for step in dict.fromkeys(
        step for step in (*STEPS, SIMILARITY) if (scores["step"] == step).any()
    ):
        part = scores[scores["step"] == step].sort_values("score", ascending=False, kind="stable")
        last = (part["score"] != part["score"].shift(-1)).to_numpy()  # of equal scores
        right = part["right"].cumsum().to_numpy()[last]
        count = np.arange(1, len(part) + 1)[last]
        columns = {
            "threshold": part["score"].to_numpy()[last],
            "precision": right / count,
            "recall": right / n_copies,
        }
        curves.append(pd.DataFrame({"step": step, **columns, "false": count - right}))
    columns = ["step", "threshold", "precision", "recall", "false"]
    return pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=columns)


def choose_threshold(scores: pd.DataFrame, step: str, precision: float = 0.999) -> float:
    """A threshold for one step: in the middle between where the asked precision begins and where
    copies usually score.

    The lowest threshold that has the precision on these photos is too low for others, whose
    look-alikes may be a little more alike. So it is moved halfway to the median score of the
    copies, if that is higher. Check it on other photos.

    Parameters
    ----------
    scores
        As `score_copies` gives them.
    step
        "perceptual hash", "alignment" or "similarity alone".
    precision
        In (0, 1].

    Raises
    ------
    ValueError
        If no threshold of that step has the precision, or it is out of range.
    """
    if not 0 < precision <= 1:
        raise ValueError(f"precision must be above 0 and at most 1, not {precision}.")
    part = scores[scores["step"] == step]
    curve = precision_recall(part, max(len(part), 1))
    enough = curve[curve["precision"] >= precision]
    if enough.empty:
        best = curve["precision"].max() if len(curve) else 0
        raise ValueError(
            f"No threshold of {step!r} has a precision of {precision}; the best has {best:.4f}."
        )
    lowest = enough["threshold"].min()
    usual = part.loc[part["right"], "score"].median()
    return float((lowest + max(lowest, usual)) / 2)


def recall_by_kind(
    scores: pd.DataFrame, copies: pd.DataFrame, thresholds: dict[str, float]
) -> pd.DataFrame:
    """Which share of the copies of each kind is found, by each step and by all of them.

    Parameters
    ----------
    scores, copies
        As `score_copies` gives and takes them.
    thresholds : {step: least score}
        Steps that are not named are left out.

    Returns
    -------
    DataFrame, a row a kind in their order, then "all": a column a step, `together`, and `false`,
    the number of wrong pairs that any of the steps found.
    """
    least = scores["step"].map(thresholds).astype(float).fillna(np.inf)
    found = scores[scores["score"].astype(float) >= least].astype({"right": bool})
    kinds = copies.set_index("image_id")["kind"]
    table = {}
    for kind in [*dict.fromkeys(kinds), "all"]:
        part, count = (
            (found, len(kinds))
            if kind == "all"
            else (found[found["kind"] == kind], (kinds == kind).sum())
        )
        right = part[part["right"]]
        row = {
            step: right.loc[right["step"] == step, "copy"].nunique() / count for step in thresholds
        }
        wrong = part.loc[~part["right"], ["copy", "image_id"]].drop_duplicates()
        table[kind] = row | {"together": right["copy"].nunique() / count, "false": len(wrong)}
    return pd.DataFrame(table).T.rename_axis("kind").astype({"false": int})
