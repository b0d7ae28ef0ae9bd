"""One line about the machine, quiet imports, notebooks, threads, and packages that are missing."""

import os
import re
import subprocess
import sys
import time

import nbformat
import pytest
from nbclient import NotebookClient

from lookalike.machine import describe_machine, parallel_map, quiet_stderr, require


def test_the_machine_is_told_in_one_line():
    told = r"\d+ CPU cores, \d+ GB memory, .*\w; Python 3\..*, TensorFlow 2\..*, Keras 3\..*"
    assert re.fullmatch(told, describe_machine())


def test_importing_loads_nothing_and_tensorflow_is_quiet_when_asked(capfd):
    code = "import sys, lookalike, lookalike.machine as machine, lookalike.workspace\n"
    code += "assert not {'tensorflow', 'keras', 'matplotlib'} & {*sys.modules}\n"
    code += "machine.quiet_tensorflow()\nimport keras"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(KeyError), quiet_stderr():
        os.write(2, b"noise")
        raise KeyError
    os.write(2, b"a warning")
    assert capfd.readouterr().err == "a warning"


def test_in_a_notebook_figures_have_alt_texts_and_missing_letters_are_told_once():
    alts = {"figure.suptitle('Two shoes,\\nside by side')": "Two shoes, side by side"}
    alts |= {"for axes in figure.axes: axes.set_title('Counts')": "Counts. Counts"}
    alts |= {"figure.text(0, 0, '\\U00013000\\U00013001')": "A figure without a title"}
    cells = ["from lookalike.machine import set_up_notebook\nset_up_notebook()"]
    plots = "import matplotlib.pyplot as plt\nfigure, _ = plt.subplots(1, 2)"
    cells += [f"{plots}\n{drawn}\nplt.show()\nfigure" for drawn in alts]
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
    NotebookClient(notebook, kernel_name="python3").execute()
    assert notebook.cells[0].outputs == []
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    pictures = [output.metadata["image/png"]["alt"] for output in outputs if output.get("metadata")]
    assert pictures == [alt for alt in alts.values() for _ in ("shown", "the last line")]
    told = "".join(output.text for output in outputs if output.output_type == "stream")
    assert re.fullmatch(r"Warning: no font here draws EGYPTIAN letters\. .*\n", told)


def test_parallel_map_keeps_order_holds_few_items_and_passes_on_what_goes_wrong():
    drawn = []

    def work(item):
        time.sleep(0.001 * (item % 3))
        return 1 / (200 - item)

    results = parallel_map(work, (drawn.append(item) or item for item in range(201)), workers=4)
    assert next(results) == 1 / 200
    assert len(drawn) == 16
    assert [next(results) for _ in range(199)] == [1 / left for left in range(199, 0, -1)]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_what_is_required_and_missing_is_named_with_the_line_that_installs_it():
    require("numpy", "psutil>=5")
    told = "no-such>=2 and nor-this not installed; run: pip install 'no-such>=2' nor-this"
    with pytest.raises(ImportError, match=f"^{told}$"):
        require("numpy", "no-such>=2", "nor-this")
