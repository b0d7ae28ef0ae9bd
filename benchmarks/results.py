"""RESULTS.md: one section a benchmark, each written by the benchmark itself, with the command that
makes it again.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lookalike.backbones import choose_backbone
from lookalike.colour import colour_histograms
from lookalike.images import pixel_batches
from lookalike.machine import describe_machine
from lookalike.workspace import written_aside

FILE = Path(__file__).with_name("RESULTS.md")


def backbone_name(options: argparse.Namespace) -> str:
    """The backbone that `--backbone` and `--alpha` ask for."""
    choice = choose_backbone(options.backbone)
    print(choice)
    return choice.value if options.alpha is None else f"{choice.value}-{options.alpha}"


def colours_of(paths: Sequence[str]) -> np.ndarray:
    """The baseline without a network: the colours of photos [n, 108]."""
    return np.concatenate([colour_histograms(pixels) for pixels in pixel_batches(paths, 128)])


def as_text(comparison: pd.DataFrame, k: int = 10) -> pd.DataFrame:
    """What `compare` gives, for reading: numbers with three digits, and each interval in one."""

    def interval(low: pd.Series, high: pd.Series, sign: str = "") -> list[str]:
        ends = zip(low, high, strict=True)
        return [f"{a:{sign}.3f} to {b:{sign}.3f}" if np.isfinite(a) else "" for a, b in ends]

    changes = comparison["change"].map("{:+.3f}".format).where(comparison["change"].notna(), "")
    columns = {
        f"P@{k}": comparison["value"].map("{:.3f}".format),
        "95 % interval": interval(comparison["low"], comparison["high"]),
        "change": changes,
        "of the change": interval(comparison["change low"], comparison["change high"], "+"),
        "verdict": comparison["verdict"],
    }
    return pd.DataFrame(columns, index=comparison.index)


def record(title: str, command: str, table: pd.DataFrame, note: str = "") -> None:
    """Print a table, and put it in the place of the section of the same title."""
    header, rule = [" | ".join(map(str, table.columns)), " | ".join("---" for _ in table.columns)]
    rows = [" | ".join(map(str, row)) for row in table.itertuples(index=False)]
    lines = "\n".join(f"| {line} |" for line in (header, rule, *rows))
    section = f"## {title}\n\n`{command}`\n\n{describe_machine()}\n\n{lines}\n"
    section += f"\n{note}\n" if note else ""
    print(section)
    text = FILE.read_text(encoding="utf-8") if FILE.is_file() else "# Measured\n"
    parts = [
        part for part in re.split(r"(?m)^(?=## )", text) if not part.startswith(f"## {title}\n")
    ]
    with written_aside(FILE) as aside:
        aside.write_text(
            "\n".join(part.strip() + "\n" for part in (*parts, section)), encoding="utf-8"
        )
