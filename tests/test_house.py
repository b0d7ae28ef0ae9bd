"""The rules of the house: who imports whom, how large a room may be, how long a line.

A room is a folder of `src/lookalike`; what lies directly in it is the core.
"""

import ast
import graphlib
import io
import json
import math
import re
import tokenize
from functools import cache

import pytest

from conftest import PROJECT

SOURCE = PROJECT / "src" / "lookalike"
ROOMS = ("sources", "studies", "copies", "page", "export", "scale")
# A room imports the core; beyond that, only these rooms import others.
ARROWS = {"page": {"copies", "sources"}}

# Tokens by room and in all: these numbers only fall.
CEILINGS = {
    "core": 15_835,
    "sources": 4_761,
    "studies": 2_791,
    "copies": 4_913,
    "page": 3_588,
    "export": 1_680,
    "scale": 3_927,
    "all": 37_495,
}
# Tokens a code line, on average, and characters a line.
DENSITY = 8.9
LONGEST = 100

PATHS = sorted(SOURCE.rglob("*.py"))
MODULES = {
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PATHS
}
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
FOLDERS = ("src", "tests", "benchmarks", "notebooks", "models", "data/sample", ".ci")
KINDS = {tokenize.NAME, tokenize.NUMBER, tokenize.OP, tokenize.STRING}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def room_of(module):
    """The room of a module, "" for the core."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else ""


def imports_of(tree):
    """Each import from the package: the module, and the name taken from it, or None."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports within the package are written out"
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "lookalike":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner, None) if inner in MODULES else (node.module, alias.name)
        elif isinstance(node, ast.Import):
            named = [alias.name for alias in node.names if alias.name.split(".")[0] == "lookalike"]
            yield from ((name, None) for name in named)


def defined_in(path):
    """The names that a module makes itself, not those that it has imported."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = [part for target in targets for part in ast.walk(target)]
            names |= {part.id for part in found if isinstance(part, ast.Name)}
    return names


def verbs_of(room):
    """What the door of a room gives: each name, and the module that it is in."""
    tree = ast.parse((SOURCE / room / "__init__.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    (call,) = [node for node in calls if getattr(node.func, "id", "") == "lazy_exports"]
    return {word.arg: f"lookalike.{room}.{word.value.value}" for word in call.keywords}


def cells_of(path):
    """The code cells of a notebook; a line that is not Python is `pass` instead."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return [re.sub(r"^(\s*)[!%].*", r"\1pass", source, flags=re.MULTILINE) for source in sources]


def code_of(path):
    """The Python of a file, or of all cells of a notebook."""
    return "\n".join(cells_of(path)) if path.suffix == ".ipynb" else path.read_text("utf-8")


def shown_in(path):
    """The Python in the text of a page or a notebook, such as the solutions of exercises."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells)
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))


def test_there_is_the_core_and_six_rooms():
    assert {path.name for path in SOURCE.iterdir() if (path / "__init__.py").is_file()} == {*ROOMS}


@pytest.mark.parametrize("module", MODULES)
def test_the_core_imports_no_room_and_a_room_only_those_it_may(module):
    allowed = {"", room_of(module), *ARROWS.get(room_of(module), ())}
    for imported, _ in imports_of(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        assert room_of(imported) in allowed, f"{module} imports {imported}"


def test_no_module_imports_itself_by_a_detour():
    graph = {
        module: {
            imported for imported, _ in imports_of(ast.parse(path.read_text(encoding="utf-8")))
        }
        for module, path in MODULES.items()
    }
    assert list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_tells_in_three_lines_what_it_is_for_and_opens_its_verbs_when_asked(room):
    text = ast.get_docstring(ast.parse((SOURCE / room / "__init__.py").read_text(encoding="utf-8")))
    assert len(text.splitlines()) <= 3
    for name, module in verbs_of(room).items():
        assert name in defined_in(MODULES[module]), f"{room} exports {name}, which {module} lacks"
        assert f"lookalike.{room}.{name}" not in MODULES, f"{name} is a module of {room} as well"


def all_that_import():
    folders = [PROJECT / folder for folder in ("tests", "benchmarks", "models", "notebooks", ".ci")]
    return [
        *PATHS,
        *(path for folder in folders for path in sorted(folder.rglob("*.py"))),
        *NOTEBOOKS,
    ]


@pytest.mark.parametrize("path", all_that_import(), ids=lambda path: str(path.relative_to(PROJECT)))
def test_each_thing_has_one_door(path):
    """It is imported from the module that makes it; from outside a room, its verbs from the room
    itself.
    """
    inside = room_of(f"lookalike.{path.parent.name}.x") if path.is_relative_to(SOURCE) else ""
    tests_it = path.is_relative_to(PROJECT / "tests")
    code = "" if path.suffix == ".md" else code_of(path)
    shown = "" if path.suffix == ".py" else shown_in(path)
    for module, name in imports_of(ast.parse(f"{code}\n{shown}")):
        if name is None:
            continue
        room = module.removeprefix("lookalike.")
        made = verbs_of(room) if room in ROOMS else defined_in(MODULES[module])
        assert name in made, f"{module} does not make {name}"
        verbs = verbs_of(room_of(module)) if room_of(module) else {}
        through = room not in ROOMS and verbs.get(name) == module and room_of(module) != inside
        assert tests_it or not through, f"{name} has its door in lookalike.{room_of(module)}"


def docstring_lines(tree):
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and node.body:
            first = node.body[0]
            value = first.value if isinstance(first, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield from range(first.lineno, first.end_lineno + 1)


def measure(text):
    """Tokens, and lines of code: a token is a name, a number, an operator or a text that is no
    docstring.

    A text in which values are put is one token on every Python, whatever it holds.
    """
    documented = set(docstring_lines(ast.parse(text)))
    opens, closes = getattr(tokenize, "FSTRING_START", None), getattr(tokenize, "FSTRING_END", None)
    tokens, lines, depth = 0, set(), 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in KINDS and token.start[0] not in documented:
            lines.update(range(token.start[0], token.end[0] + 1))
        if token.type == opens:
            tokens, depth = tokens + (depth == 0), depth + 1
        elif token.type == closes:
            depth -= 1
        elif depth == 0 and token.type in KINDS and token.start[0] not in documented:
            tokens += 1
    return tokens, len(lines)


@cache
def size():
    """Tokens by room and in all, and code lines in all."""
    tokens, lines = dict.fromkeys(("core", *ROOMS), 0), 0
    for module, path in MODULES.items():
        its_tokens, its_lines = measure(path.read_text(encoding="utf-8"))
        tokens[room_of(module) or "core"] += its_tokens
        lines += its_lines
    return tokens | {"all": sum(tokens.values())}, lines


@pytest.mark.parametrize("room", CEILINGS)
def test_a_room_only_gets_smaller(room):
    measured, ceiling = size()[0][room], CEILINGS[room]
    assert measured <= ceiling, f"{room} has {measured - ceiling} tokens too many"
    assert measured == ceiling, f"well done: write {measured:_} for {room} into CEILINGS"


def test_lines_only_get_less_dense():
    tokens, lines = size()
    measured = math.ceil(tokens["all"] / lines * 10) / 10
    assert measured <= DENSITY, f"{measured} tokens a line; one idea a line is enough"
    assert measured == DENSITY, f"well done: write {measured} into DENSITY"


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_line_is_long(folder):
    paths = sorted({*(PROJECT / folder).rglob("*.py"), *(PROJECT / folder).glob("[0-9]*.ipynb")})
    lines = [(path.name, line) for path in paths for line in code_of(path).splitlines()]
    assert [line for line in lines if len(line[1]) > LONGEST] == []


@pytest.mark.parametrize(
    ("text", "tokens", "lines"),
    [
        ("a = 1\n", 3, 1),
        ('"""Only words."""\n', 0, 0),
        ('def f():\n    """Words."""\n    return f"{a} and {b + c}"\n', 7, 2),
        (
            'a = f"{f"{b}"} c"\n' if tokenize.__dict__.get("FSTRING_START") else 'a = f"{b} c"\n',
            3,
            1,
        ),
        ("# a comment\na = [\n    1,\n    2,\n]\n", 8, 4),
    ],
)
def test_what_counts_as_a_token(text, tokens, lines):
    assert measure(text) == (tokens, lines)
