"""What the notebooks share, written from one place: `series.toml`.

python notebooks/book.py             write titles, links and set-up cells, and the README's table
python notebooks/book.py --check     only tell what differs, and fail if anything does

Where the project lies on GitHub is taken from git's `origin`: a fork's badges open the fork.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

NOTEBOOKS = Path(__file__).resolve().parent
PROJECT = NOTEBOOKS.parent
SERIES = tomllib.loads((NOTEBOOKS / "series.toml").read_text(encoding="utf-8"))["notebooks"]
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
TABLE = re.compile(r"(?<=<!-- the series -->\n).*?(?=<!-- end of the series -->)", re.DOTALL)
# The two spellings of an origin on GitHub; a name or a token before the @ is nobody's business.
ORIGIN = re.compile(
    r"(?:https://(?:[^/]*@)?|(?:ssh://)?git@)github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?"
)
BOUND = re.compile(r"https://colab\.research\.google\.com/github/(\S+?/blob/\S+)/notebooks/")
CLONE = "    !git clone --quiet --depth 1 {address} lookalike\n"
# On Colab: the address, where it is known; else an uploaded zip, or the zip or folder on Drive.
SET_UP = """
import sys
from glob import glob

if "google.colab" in sys.modules and not glob("lookalike/**/src/lookalike", recursive=True):
{clone}    if not glob("lookalike/*") + glob("*ookalike*.zip"):
        from google.colab import drive

        drive.mount("/content/drive")
    for archive in (glob("*ookalike*.zip") + glob("drive/MyDrive/*ookalike*.zip"))[:1]:
        !python -m zipfile -e "{{archive}}" lookalike
src = glob("lookalike/**/src", recursive=True) + glob("drive/MyDrive/*ookalike*/src")
assert src or "google.colab" not in sys.modules, "Upload lookalike's zip, or put it on Drive."
sys.path[:0] = src or ["../src"]
from lookalike.machine import set_up_notebook

set_up_notebook()
"""
ENGINES = """
if "google.colab" in sys.modules:
    %pip install --quiet {engines}
"""


def find_address() -> str:
    """Where the project's files lie on GitHub, such as https://github.com/me/lookalike/blob/main.

    By pyproject.toml, else by git's `origin`; "" if neither knows.
    """
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    top = asked_git("rev-parse", "--show-toplevel")
    inside_its_own = bool(top) and Path(top).samefile(PROJECT)
    origin = asked_git("remote", "get-url", "origin") if inside_its_own else ""
    found = ORIGIN.fullmatch(origin)
    repository = f"https://github.com/{found[1]}" if found else ""
    repository = project.get("urls", {}).get("Repository", repository)
    branch = asked_git("symbolic-ref", "--short", "refs/remotes/origin/HEAD").partition("/")[2]
    return f"{repository}/blob/{branch or 'main'}" if repository else ""


def asked_git(*arguments: str) -> str:
    """What git says, "" if there is no git, or if it has nothing to say."""
    try:
        command = ["git", "-C", str(PROJECT), *arguments]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def known_address(notebook: nbformat.NotebookNode) -> str:
    """The address that a notebook's badge leads to, "" if it has none."""
    found = BOUND.search(notebook.cells[0].source)
    return f"https://github.com/{found[1]}" if found else ""


def link(number: int) -> str:
    """The notebook's number and question, as a link."""
    file = SERIES[number]["file"]
    return f"[{file[:2]} {SERIES[number]['question']}]({file}.ipynb)"


def stages(present: int) -> str:
    """The way from photos to scores, then the appendices: each a link, the present one bold."""
    core, appendices = ["photos"], []
    for number, entry in enumerate(SERIES[1:], start=1):
        stage = f"{entry['file'][:2]} {entry['makes']}"
        shown = f"**{stage}**" if number == present else f"[{stage}]({entry['file']}.ipynb)"
        (appendices if "appendix" in entry else core).append(shown)
    return f"{' → '.join(core)}\n\nAppendices: {' · '.join(appendices)}"


def duration(notebook: nbformat.NotebookNode) -> str:
    """How long the notebook took when it was rendered, and on what."""
    measured = notebook.metadata.get("lookalike", {})
    return f"{measured['seconds']} s on {measured['machine']}" if measured else "not measured yet"


def parts(
    number: int, notebook: nbformat.NotebookNode, address: str
) -> dict[str, nbformat.NotebookNode]:
    """The cells that are the same in all notebooks but for their names, by the tag that each
    carries.
    """
    entry = SERIES[number]
    colab = address.replace("github.com", "colab.research.google.com/github")
    badge = f"[![Open in Colab]({BADGE})]({colab}/notebooks/{entry['file']}.ipynb)"
    around = [badge] if address else []
    around += [f"Before: {link(number - 1)}"] if number else []
    around += [f"Next: {link(number + 1)}"] if number + 1 < len(SERIES) else []
    head = [f"# {entry['question']}", "", " | ".join([*around, "[The words](glossary.ipynb)"]), ""]
    head += ["| reads | writes | takes, on the sample |", "|---|---|---|"]
    head += [f"| {entry['reads']} | {entry['writes']} | {duration(notebook)} |"]
    told = "On Colab this fetches the project: " + "from GitHub, or " * bool(address)
    told += "a zip that you have uploaded, or the zip or folder on your Drive."
    told += " Elsewhere it only tells Python where the project lies"
    told += f"; `{entry['beyond']}` has installed the engines there." if "engines" in entry else "."
    clone = CLONE.format(address=address.partition("/blob/")[0]) if address else ""
    end = (
        f"Next: {link(number + 1)}"
        if number + 1 < len(SERIES)
        else f"Back to the beginning: {link(0)}"
    )
    new = nbformat.v4
    cells = {
        "book-title": new.new_markdown_cell("\n".join(head)),
        "book-set-up-told": new.new_markdown_cell(f"## Set-up\n\n{told}"),
        "book-set-up": new.new_code_cell(SET_UP.strip().format(clone=clone)),
        "book-stages": new.new_markdown_cell(stages(number)),
        "book-next": new.new_markdown_cell(end),
    }
    if "engines" in entry:
        engines = ENGINES.strip().format(engines=entry["engines"])
        cells["book-engines"] = new.new_code_cell(engines)
    return cells


def bind(number: int, notebook: nbformat.NotebookNode, address: str = "") -> bool:
    """Bring the shared cells of a notebook up to date, outputs untouched; whether any changed.

    Without an address the one that the notebook has stays.
    """
    changed = False
    address = address or known_address(notebook)
    for tag, wanted in parts(number, notebook, address).items():
        (cell,) = (cell for cell in notebook.cells if tag in cell.metadata.get("tags", []))
        changed |= cell.source != wanted.source
        cell.source = wanted.source
    return changed


def table() -> str:
    """The series as the README shows it, and how long it took where it was rendered."""
    rows = ["| the core | question | writes | seconds |", "|---|---|---|---|"]
    seconds, machines = 0, set()
    for entry in SERIES:
        notebook = nbformat.read(NOTEBOOKS / f"{entry['file']}.ipynb", 4)
        took = notebook.metadata.get("lookalike", {"seconds": 0, "machine": "no machine yet"})
        if "appendix" in entry and "| **appendices** | | | |" not in rows:
            rows.append("| **appendices** | | | |")
        name = f"[{entry['file']}](notebooks/{entry['file']}.ipynb)"
        rows.append(f"| {name} | {entry['question']} | {entry['writes']} | {took['seconds']} |")
        seconds += 0 if "beyond" in entry else took["seconds"]
        machines.add(took["machine"])
    told = f"Seconds on the bundled sample, on {' and '.join(sorted(machines))}, when last rendered"
    return "\n".join([*rows, "", f"{told}; 00 to 08 together {seconds}.", ""])


def main() -> None:
    """Write, or check."""
    check = "--check" in sys.argv[1:]
    stale, address = [], find_address()
    if not address:
        print("No address: git's origin is not on GitHub, and pyproject.toml names no Repository.")
        print("Badges and set-up cells stay as they are.")
    for number, entry in enumerate(SERIES):
        path = NOTEBOOKS / f"{entry['file']}.ipynb"
        notebook = nbformat.read(path, 4)
        if bind(number, notebook, address):
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
    said = "Differs from" if check else "Brought up to date by"
    print(f"{said} series.toml: {', '.join(stale) or 'nothing'}")
    sys.exit(bool(stale) and check)


if __name__ == "__main__":
    main()
