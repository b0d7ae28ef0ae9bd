"""Run the notebooks in order into `build/`, or render them in place; `make run` and `make render`
call this.

python notebooks/run.py                              every notebook, on its own defaults
python notebooks/run.py --set source=folder --set path=/photos 00_quickstart
python notebooks/run.py --render                     keep the outputs in the notebooks
"""

from __future__ import annotations

import argparse
import ast
import base64
import io
import os
import re
import sys
import time
from pathlib import Path

import nbformat
import papermill
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from papermill.exceptions import PapermillExecutionError
from PIL import Image
from web import GLOSSARY, write_page

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from lookalike.workspace import plain_path

NOTEBOOKS = Path(__file__).resolve().parent
BUILD = NOTEBOOKS.parent / "build"
KEPT_METADATA = ("kernelspec", "language_info", "lookalike")
PATHS = ("path", "photo", "root")
NOTHING_TO_LEARN = "TooFewLabelsError"  # photos without labels: the stages that need none still run
LARGE_FIGURE = 150_000  # characters of base64
SOLUTION = re.compile(r"<details>.*?^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def find_notebooks(names: list[str]) -> list[Path]:
    """The notebooks of the series in order, or those whose names start as asked."""
    everything = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    chosen = [path for path in everything if not names or path.name.startswith(tuple(names))]
    unknown = [name for name in names if not any(path.name.startswith(name) for path in everything)]
    if unknown:
        names = ", ".join(path.stem for path in everything)
        sys.exit(f"No notebook starts with {unknown[0]!r}; there are {names}.")
    return chosen


def parse_parameters(settings: list[str], paths: list[Path]) -> dict[Path, dict[str, object]]:
    """What each notebook is given of `name=value` pairs; an empty value keeps the default.

    A notebook takes the names that it declares, each of the type that it declares. Stops, before
    anything runs, at a name that none of them declares.
    """
    declared = {path: papermill.inspect_notebook(str(path)) for path in paths}
    parameters: dict[Path, dict[str, object]] = {path: {} for path in paths}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator:
            sys.exit(f"Parameters are given as name=value, not {setting!r}.")
        takers = [path for path in paths if name in declared[path]]
        if not takers:
            known = dict.fromkeys(name for names in declared.values() for name in names)
            sys.exit(f"There is no parameter {name!r} here; there are {', '.join(known)}.")
        if name in PATHS:
            value = plain_path(value)
        for path in takers if value else []:
            default = ast.literal_eval(declared[path][name]["default"])
            parameters[path][name] = convert(name, value, default)
    return parameters


def convert(name: str, value: str, default: object) -> object:
    """Text to a number where the default is one, to what it says as Python where that is None; a
    path is meant from where the command was given.
    """
    if isinstance(default, str):
        is_path = name in PATHS or (name == "weights" and Path(plain_path(value)).is_file())
        return str(Path(plain_path(value)).absolute()) if is_path else value
    try:
        if default is None:
            return ast.literal_eval(value)
        return int(value) if isinstance(default, int) else float(value)
    except (ValueError, SyntaxError):
        if default is None:
            sys.exit(f"{name} is a number, or columns such as {{'file': 'id'}}, not {value!r}.")
        sys.exit(f"{name} is a number, not {value!r}.")


def with_solutions(path: Path, target: Path) -> Path:
    """A copy of the notebook at `target`, with the solutions of its exercises at the end."""
    notebook = nbformat.read(path, 4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    notebook.cells += [nbformat.v4.new_code_cell(code.rstrip()) for code in SOLUTION.findall(text)]
    nbformat.write(notebook, target)
    return target


def execute(
    path: Path, target: Path, parameters: dict[str, object], *, solutions: bool = False
) -> None:
    """Run one notebook into `target`."""
    try:
        papermill.execute_notebook(
            str(with_solutions(path, target) if solutions else path),
            str(target),
            parameters,
            kernel_name="python3",
            progress_bar=False,
            cwd=str(NOTEBOOKS),
            # It warns of a socket that is local anyway.
            extra_arguments=["--IPKernelApp.log_level=50"],
        )
    finally:
        if target.is_file():
            notebook, _ = CoalesceStreamsPreprocessor().preprocess(nbformat.read(target, 4), {})
            nbformat.write(notebook, target)


def ready_to_commit(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Keep sources, tags and outputs, not where and when they ran; figures full of photos become
    JPEGs.
    """
    notebook.metadata = {
        key: value for key, value in notebook.metadata.items() if key in KEPT_METADATA
    }
    for cell in notebook.cells:
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        for output in cell.get("outputs", []):
            if len(output.get("data", {}).get("image/png", "")) > LARGE_FIGURE:
                output.data["image/jpeg"] = jpeg(output.data.pop("image/png"))
                output.metadata["image/jpeg"] = output.metadata.pop("image/png", {})
    return notebook


def jpeg(png: str) -> str:
    """A PNG as JPEG, both in base64: for photographs a fifth of the size, and still sharp."""
    picture, small = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"), io.BytesIO()
    picture.save(small, "JPEG", quality=88, subsampling=0, optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def main() -> None:
    """Read the command line, run, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="only notebooks whose names start so, e.g. 00")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the notebooks",
    )
    parser.add_argument(
        "--output", type=Path, default=BUILD, help="folder for the executed notebooks"
    )
    parser.add_argument(
        "--render", action="store_true", help="write outputs back into the committed notebooks"
    )
    parser.add_argument(
        "--solutions", action="store_true", help="run the solutions of the exercises too"
    )
    options = parser.parse_args()
    paths = find_notebooks(options.names)
    parameters = parse_parameters(options.set, paths)
    options.output.mkdir(parents=True, exist_ok=True)
    pages = {path.stem for path in [*paths, *options.output.glob("*.html"), GLOSSARY]}
    write_page(GLOSSARY, options.output, pages)
    for number, path in enumerate(paths, start=1):
        print(f"[{number}/{len(paths)}] {path.stem} ", end="", flush=True)
        start = time.monotonic()
        try:
            execute(path, options.output / path.name, parameters[path], solutions=options.solutions)
            write_page(options.output / path.name, options.output, pages, origin=NOTEBOOKS)
        except PapermillExecutionError as error:
            if error.ename == NOTHING_TO_LEARN:
                print(f"left out: {error.evalue}", flush=True)
                continue
            sys.exit(
                f"failed in cell {error.exec_count}:\n{error.source}\n\n"
                f"{error.ename}: {error.evalue}"
            )
        seconds = time.monotonic() - start
        print(f"{seconds:.0f} s", flush=True)
        if options.render:
            notebook = ready_to_commit(nbformat.read(options.output / path.name, 4))
            notebook.metadata["lookalike"] = {
                "seconds": round(seconds),
                "machine": f"{os.cpu_count()} CPU cores",
            }
            nbformat.write(notebook, path)
    print(f"\nExecuted notebooks, and the same as pages for a browser: {options.output}")
    root = next(
        (given["root"] for given in parameters.values() if "root" in given), NOTEBOOKS.parent
    )
    print(f"Vectors and recommendations: {Path(str(root)) / 'embeddings'}")


if __name__ == "__main__":
    main()
