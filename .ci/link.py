"""Let an environment find the package from where the environment lies; `make setup` calls this.

pip's editable install names the folder by its whole path: a project that was copied would run the
code of the one it was copied from, and one that was moved would find none. A path relative to the
environment is right wherever the two lie together.
"""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

SOURCE = Path(__file__).absolute().parents[1] / "src"


def link(packages: Path) -> None:
    """Write the relative path into an environment's folder of packages, and take pip's away."""
    for written in packages.glob("__editable__.lookalike-*.pth"):
        written.unlink()
    # As the two are called here: the environment may be a link to another disk.
    relative = os.path.relpath(SOURCE, packages)
    (packages / "lookalike.pth").write_text(f"{relative}\n", encoding="utf-8")


if __name__ == "__main__":
    link(Path(sysconfig.get_path("purelib")))
