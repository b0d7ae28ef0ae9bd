"""Shown, then imported: what the core notebooks may take from the package, and how that is checked.

An idea is written out in a cell before it is imported. What is imported unseen is plumbing.
"""

import ast
import contextlib
import hashlib
import inspect
import io
import textwrap

import keras
import numpy as np
import pandas as pd
from PIL import Image, ImageCms, ImageOps
from scipy import stats
from sklearn.utils.class_weight import compute_class_weight

from lookalike.explain import Explanation
from test_house import MODULES

# Opening the project, reading and keeping, loading in parallel, drawing: what no lesson is about.
PLUMBING = {
    "lookalike.machine": ["set_up_notebook", "describe_machine"],
    "lookalike.workspace": ["mount_drive", "open_workspace", "choose_source"],
    "lookalike.sources": ["load_catalog", "open_catalog"],
    "lookalike.catalog": ["save_catalog", "catalog_folder", "catalog_name"],
    "lookalike.splits": ["label_names"],
    "lookalike.backbones": ["choose_backbone", "load_backbone", "backbone_row", "build_encoder"],
    "lookalike.training": ["photo_batches", "backup_folder"],
    "lookalike.saving": ["save_model", "load_model", "open_encoder"],
    "lookalike.embeddings": ["embed_catalog", "embed_images", "open_store"],
    "lookalike.recommend": ["recommend", "recommend_all"],
    "lookalike.copies": ["find_near_duplicates", "join_products"],
    "lookalike.plots": ["show_gallery", "show_contact_sheet", "show_photos"],
}
# What no plumbing calls: that would be an idea.
IDEAS = {"fit", "compile", "Dense", "argsort", "argpartition", "matmul", "dot", "einsum"}
# What a definition in a cell may use, besides those before it.
LIBRARIES = {"np": np, "pd": pd, "keras": keras, "layers": keras.layers, "stats": stats}
LIBRARIES |= {"io": io, "hashlib": hashlib, "compute_class_weight": compute_class_weight}
LIBRARIES |= {"Image": Image, "ImageCms": ImageCms, "ImageOps": ImageOps}
DEFINITIONS = (ast.FunctionDef, ast.ClassDef)


def breaches(notebooks, plumbing=PLUMBING):
    """What of `notebooks`, lists of cells by number, is imported though no earlier cell wrote it.

    An import of what was written says so: `from lookalike.x import top_k  # written in 00`.
    A module that is imported is used for its attributes alone, and those count as imported.
    """
    found, written = [], {}
    for number, cells in notebooks.items():
        modules = {}
        for place, source in enumerate(cells, start=1):
            lines, tree = source.splitlines(), ast.parse(source)
            for first, last, module, name in _taken(tree, modules):
                if name in plumbing.get(module, ()):
                    continue
                # In an import over several lines, beside the name or at the end.
                beside = [lines[line - 1].partition("# written in ")[2] for line in (first, last)]
                said = " ".join(beside).split()
                where = f"{number}, cell {place}: {module}.{name}"
                if name not in written:
                    found.append(f"{where} was not written in an earlier cell")
                elif not {*said} & {*written[name]}:
                    found.append(f"{where} lacks '# written in {written[name][0]}'")
            for node in tree.body:
                if isinstance(node, DEFINITIONS):
                    written.setdefault(node.name, []).append(number)
    return found


def _taken(tree, modules):
    """First and last line, module and name of all that a cell takes from the package.

    `modules`, by the names that they have in the notebook, is kept along.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lookalike":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in MODULES:
                    modules[alias.asname or alias.name] = whole
                else:
                    yield alias.lineno, node.end_lineno, node.module, alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                # One way to import a module is enough, and by importlib anything could be had.
                if alias.name.split(".")[0] in ("lookalike", "importlib"):
                    yield node.lineno, node.end_lineno, alias.name, "by a plain import"
    named = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") in modules:
            named.add(node.value)
            yield node.lineno, node.end_lineno, modules[node.value.id], node.attr
    for node in ast.walk(tree):
        loaded = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        if loaded and node.id in modules and node not in named:
            yield node.lineno, node.end_lineno, modules[node.id], "the module itself"


def written_functions(notebooks):
    """Name and value of each function that a cell defines.

    It is made of the libraries and of the definitions before it, and of nothing else.
    """
    namespace = dict(LIBRARIES)
    for cells in notebooks.values():
        for source in cells:
            for node in ast.parse(source).body:
                if isinstance(node, DEFINITIONS):
                    made = compile(ast.Module([node], []), f"<{node.name}>", "exec")
                    # A helper may have the reader's data as a default; it is not made then.
                    with contextlib.suppress(NameError):
                        exec(made, namespace)
                        yield node.name, namespace[node.name]


def disagreement(shown, imported, example, seeds=range(2)):
    """Why a cell's function and the package's differ on an example, "" where they do not.

    `example` makes the arguments from a generator of random numbers. A network is compared layer
    by layer, and by what it answers, also while it trains; one that was given and changed, too.
    """
    for seed in seeds:
        facts = []
        for function in (shown, imported):
            keras.utils.set_random_seed(seed)
            given = example(np.random.default_rng(seed))
            answer = function(*given)
            answer = given if answer is None else answer
            facts.append(_facts(answer, facts[0][1] if facts else None))
        if not _equal(facts[0][0], facts[1][0]):
            return f"seed {seed}: {facts[0][0]} is not {facts[1][0]}"
    return ""


def _facts(answer, weights):
    """What is compared of an answer; with it, the weights that a second network is to take."""
    if isinstance(answer, tuple) and answer and isinstance(answer[0], (keras.Model, pd.DataFrame)):
        return _facts(answer[0], weights)
    if isinstance(answer, keras.Model):
        weights = weights or answer.get_weights()
        answer.set_weights(weights)
        batch = np.random.default_rng(0).random((3, *answer.input_shape[1:]))
        keras.utils.set_random_seed(0)
        outputs = [answer(batch, training=training).numpy() for training in (False, True)]
        layers = [
            (type(layer).__name__, layer.trainable, getattr(layer, "rate", 0))
            for layer in answer.layers
        ]
        return (outputs, layers), weights
    if isinstance(answer, keras.optimizers.schedules.LearningRateSchedule):
        return [float(answer(step)) for step in range(70)], None
    if isinstance(answer, keras.layers.Layer):
        photos = np.random.default_rng(0).integers(0, 256, (8, 12, 12, 3)).astype(np.float32)
        return np.asarray(answer(photos, training=True)), None
    if isinstance(answer, pd.DataFrame):
        return answer.to_dict("list"), None
    return (answer.pairs if isinstance(answer, Explanation) else answer), None


def _equal(one, other):
    """Whether two answers are the same but for rounding: a cell may add in another order."""
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape:
        return False
    if one.dtype.kind in "fc":
        return np.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)
    return bool((one == other).all())


def ideas_in(function):
    """What of IDEAS a function calls, itself or by way of another of its module."""
    module, seen, todo, found = inspect.getmodule(function), set(), [function], set()
    while todo:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(todo.pop()))))
        for node in ast.walk(tree):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
                found.add("@")
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                whose = getattr(getattr(node.func, "value", None), "id", "")
                found |= {name} & IDEAS if whose not in ("re", "ImageOps") else set()
                called = vars(module).get(getattr(node.func, "id", ""))
                own = inspect.isfunction(called) and called.__module__ == module.__name__
                if own and name not in seen:
                    seen.add(name)
                    todo.append(called)
    return found
