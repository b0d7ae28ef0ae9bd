"""What the notebooks share, written from one place: `series.toml`, and the repository's URL in
`pyproject.toml`.

python notebooks/book.py             write title, links and set-up into each notebook, and the README's table
python notebooks/book.py --check     only tell what differs, and fail if anything does
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

NOTEBOOKS = Path(__file__).resolve().parent
PROJECT = NOTEBOOKS.parent
REPOSITORY = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "urls"
]["Repository"]
SERIES = tomllib.loads((NOTEBOOKS / "series.toml").read_text(encoding="utf-8"))["notebooks"]
COLAB = REPOSITORY.replace("https://github.com/", "https://colab.research.google.com/github/")
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
TABLE = re.compile(r"(?<=<!-- the series -->\n).*?(?=<!-- end of the series -->)", re.DOTALL)
SET_UP = """
import sys
from pathlib import Path

if "google.colab" in sys.modules and not Path("lookalike").exists():
    !git clone --quiet --depth 1 {repository} lookalike
    %pip install --quiet -r lookalike/requirements.txt{engines}
sys.path[:0] = ["lookalike/src", "../src"]

from lookalike.workspace import set_up_notebook

set_up_notebook()
"""


def link(number: int) -> str:
    """The notebook's number and question, as a link."""
    file = SERIES[number]["file"]
    return f"[{file[:2]} {SERIES[number]['question']}]({file}.ipynb)"


def stages(present: int) -> str:
    """The stages from photos to recommendations and beyond, each a link; the present one is bold
    and none.
    """
    shown = ["photos"]
    for number, entry in enumerate(SERIES[1:], start=1):
        stage = f"{entry['file'][:2]} {entry['makes']}"
        shown.append(f"**{stage}**" if number == present else f"[{stage}]({entry['file']}.ipynb)")
    return " → ".join(shown)


def duration(notebook: nbformat.NotebookNode) -> str:
    """How long the notebook took when it was rendered, and on what."""
    measured = notebook.metadata.get("lookalike", {})
    return f"{measured['seconds']} s on {measured['machine']}" if measured else "not measured yet"


def parts(number: int, notebook: nbformat.NotebookNode) -> dict[str, nbformat.NotebookNode]:
    """The cells that are the same in all notebooks but for their names, by the tag that each
    carries.
    """
    entry = SERIES[number]
    badge = f"[![Open in Colab]({BADGE})]({COLAB}/blob/main/notebooks/{entry['file']}.ipynb)"
    around = [f"Before: {link(number - 1)}"] * (number > 0)
    around += [f"Next: {link(number + 1)}"] if number + 1 < len(SERIES) else []
    head = [
        f"# {entry['question']}",
        "",
        " | ".join([badge, *around, "[The words](glossary.ipynb)"]),
        "",
    ]
    head += ["| reads | writes | takes, on the sample |", "|---|---|---|"]
    head += [f"| {entry['reads']} | {entry['writes']} | {duration(notebook)} |"]
    told = (
        "On Colab this fetches the project"
        + (" and the engines" if "beyond" in entry else "")
        + "."
    )
    told += " Elsewhere it only tells Python where the project lies"
    told += f"; `{entry['beyond']}` has installed the engines there." if "beyond" in entry else "."
    engines = f"\n    %pip install --quiet {entry['engines']}" if "engines" in entry else ""
    end = (
        f"Next: {link(number + 1)}"
        if number + 1 < len(SERIES)
        else f"Back to the beginning: {link(0)}"
    )
    new = nbformat.v4
    return {
        "book-title": new.new_markdown_cell("\n".join(head)),
        "book-set-up-told": new.new_markdown_cell(f"## Set-up\n\n{told}"),
        "book-set-up": new.new_code_cell(
            SET_UP.strip().format(repository=REPOSITORY, engines=engines)
        ),
        "book-stages": new.new_markdown_cell(stages(number)),
        "book-next": new.new_markdown_cell(end),
    }


def bind(number: int, notebook: nbformat.NotebookNode) -> bool:
    """Bring the shared cells of a notebook up to date, outputs untouched; whether anything changed."""
    changed = False
    for tag, wanted in parts(number, notebook).items():
        cell = next(cell for cell in notebook.cells if tag in cell.metadata.get("tags", []))
        changed |= cell.source != wanted.source
        cell.source = wanted.source
    return changed


def table() -> str:
    """The series as the README shows it, and how long it took where it was rendered."""
    measured = [
        nbformat.read(NOTEBOOKS / f"{entry['file']}.ipynb", 4).metadata.get("lookalike", {})
        for entry in SERIES
    ]
    rows = ["| notebook | question | reads | writes | seconds |", "|---|---|---|---|---|"]
    for entry, took in zip(SERIES, measured, strict=True):
        name = f"[{entry['file']}](notebooks/{entry['file']}.ipynb)"
        cells = (
            name,
            entry["question"],
            entry["reads"],
            entry["writes"],
            str(took.get("seconds", "")),
        )
        rows.append(f"| {' | '.join(cells)} |")
    inner = [
        took["seconds"]
        for took, entry in zip(measured, SERIES, strict=True)
        if took and "beyond" not in entry
    ]
    machine = (
        " and ".join(sorted({took["machine"] for took in measured if took})) or "no machine yet"
    )
    total = f"Seconds on the bundled sample, on {machine}, when last rendered; 00 to 08 together {sum(inner)}."
    return "\n".join([*rows, "", total, ""])


def main() -> None:
    """Write, or check."""
    check = "--check" in sys.argv[1:]
    stale = []
    for number, entry in enumerate(SERIES):
        path = NOTEBOOKS / f"{entry['file']}.ipynb"
        notebook = nbformat.read(path, 4)
        if bind(number, notebook):
            stale.append(path.name)
            if not check:
                nbformat.write(notebook, path)
    readme = PROJECT / "README.md"
    text = readme.read_text(encoding="utf-8")
    bound = TABLE.sub(lambda _: table(), text)
    if bound != text:
        stale.append(readme.name)
        if not check:
            readme.write_text(bound, encoding="utf-8")
    print(
        f"{'Differs from' if check else 'Brought up to date by'} series.toml: {', '.join(stale) or 'nothing'}"
    )
    sys.exit(bool(stale) and check)


if __name__ == "__main__":
    main()
