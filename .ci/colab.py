"""Print the versions that the notebooks ran with, and check that they are Colab's; `make colab`
calls this.

Ends with 1, and says which, if a package of constraints-colab.txt has another version here than on
Colab, if one that requirements.txt asks for is not installed, or if an executed notebook tells of
another TensorFlow or Keras.
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
BUILD = PROJECT / "build" / "colab"
ENGINES = ("TensorFlow", "Keras")
TOLD = re.compile(rf"({'|'.join(ENGINES)}) (\d+\.\d+\.\d+)")  # by machine.describe_machine


def exact(text: str) -> dict[str, str]:
    """Package to version, of lines such as `numpy==2.1.3`."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


def installed(names: Iterable[str]) -> dict[str, str]:
    """Package to version, of those that this Python has."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def differences(colab: dict[str, str], here: dict[str, str], needed: Iterable[str]) -> list[str]:
    """What is not as on Colab; a package that is not installed counts only if it is needed."""
    wrong = [
        f"{name} is {here[name]}, on Colab {theirs}"
        for name, theirs in colab.items()
        if here.get(name, theirs) != theirs
    ]
    return wrong + [
        f"{name} is not installed" for name in needed if name in colab and name not in here
    ]


def main() -> None:
    """Compare, print, and fail if anything differs."""
    colab = exact((PROJECT / "constraints-colab.txt").read_text(encoding="utf-8"))
    requirements = (PROJECT / "requirements.txt").read_text(encoding="utf-8")
    needed = dict.fromkeys(re.findall(r"^([\w-]+)", requirements, re.MULTILINE))
    here = installed([*colab, *needed])
    print(
        f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {here[name]}" for name in sorted(here))
    )
    wrong = differences(colab, here, needed)
    notebooks = sorted(BUILD.glob("*.ipynb"))
    for path in notebooks:
        told = dict(TOLD.findall(path.read_text(encoding="utf-8")))
        wrong += [f"{path.name} ran with {told}"] * any(
            told.get(one) != colab[one.lower()] for one in ENGINES
        )
    if wrong or not notebooks:
        sys.exit("Not as on Colab: " + ("; ".join(wrong) or f"no notebook was run into {BUILD}"))
    print(
        f"{len(notebooks)} notebooks ran with what Colab has; "
        f"not needed: {', '.join(sorted({*colab} - {*here}))}"
    )


if __name__ == "__main__":
    main()
