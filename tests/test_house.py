"""The house: arrows that point one way, names and options that somebody uses, docstrings shorter than their functions.

All is read from the syntax trees of the package, the sample's recipe and the notebooks; nothing is imported. Names are
followed through imports and re-exports: `scores.mean(...)` uses `helpers.scores.mean`, `np.mean(...)` does not.
"""

import ast
import json
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ORDER = (
    "base < recipe < audio < data < features < scores, plots < runs < networks < serving < topics < course, __main__"
)
LEVEL = {room: level for level, rooms in enumerate(ORDER.split(" < ")) for room in rooms.split(", ")}
DATASETS = ("esc10", "esc50", "folder", "fsd50k", "fsdkaggle2018", "speech_commands", "tut2017")
# Named in no other file: what the table of datasets leads to (with the reader's `options`), and what Python calls.
BY_TABLE = {f"helpers.data.{name}.{part}" for name in DATASETS for part in ("INFO", "load")} | {"helpers.__main__.main"}
# Docstrings longer than their function, as they explain a formula.
FORMULAS = {f"helpers.topics.inside.{name}" for name in ("class_activation_map", "grad_cam", "stretched")}


def _trees(folder):
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), ast.parse(path.read_text("utf-8"))


def _notebook(path):
    cells = [cell["source"] for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    return ast.parse("\n".join(line.rstrip() for cell in cells for line in cell if line[0] not in "%!"))


PACKAGE = dict(_trees(ROOT / "helpers"))
HOUSE = PACKAGE | dict(_trees(ROOT / "data" / "recipe"))
FILES = HOUSE | {path.name: _notebook(path) for path in (ROOT / "notebooks").glob("*.ipynb")}
NODES = [(module, node) for module, tree in FILES.items() for node in ast.walk(tree)]


def _imports(module):
    """What a file imports, anywhere in it, lazily or not: local name -> full name."""
    room = module if any(name.startswith(f"{module}.") for name in HOUSE) else module.rpartition(".")[0]
    names = {}
    for node in ast.walk(FILES[module]):
        if isinstance(node, ast.Import | ast.ImportFrom):
            whole = isinstance(node, ast.Import)
            origin = "" if whole else resolve_name("." * node.level + (node.module or ""), room) + "."
            names |= {alias.asname or alias.name: origin + alias.name for alias in node.names}
    return names


def _public(module):
    """Functions, classes and constants of a file: full name -> where it is defined."""
    for node in PACKAGE[module].body:
        for target in getattr(node, "targets", [getattr(node, "target", node)]):
            name = getattr(target, "name", getattr(target, "id", "_"))
            if not name.startswith("_"):
                yield f"{module}.{name}", node


def _file(name):
    """The file of the house that holds what a full name stands for; "" for other packages."""
    return name if name in HOUSE or not name else _file(name.rpartition(".")[0])


def _home(name):
    """The full name in the file that defines it, not in those that pass it on."""
    module, _, own = name.rpartition(".")
    origin = IMPORTS.get(module, {}).get(own, name)
    return name if origin == name else _home(origin)


def _meant(module, node):
    """Full name of what an expression stands for; "" if it is no name."""
    if isinstance(node, ast.Name):
        return _home(f"{module}.{node.id}")
    return _home(f"{_meant(module, node.value)}.{node.attr}") if isinstance(node, ast.Attribute) else ""


IMPORTS = {module: _imports(module) for module in FILES}
GRAPH = {module: {_file(name) for name in IMPORTS[module].values()} - {""} for module in HOUSE}
PUBLIC = dict(item for module in PACKAGE for item in _public(module))
FUNCTIONS = {name: node for name, node in PUBLIC.items() if isinstance(node, ast.FunctionDef)}


def _none(found, advice):
    assert not found, "\n".join([f"{advice}:", *sorted(found)])


def test_arrows_point_one_way():
    room = {module: module.removeprefix("helpers.").split(".")[0] for module in HOUSE if module != "helpers"}
    level = {module: LEVEL.get(room[module], -1) for module in room}
    _none([module for module in level if level[module] < 0], "lies in no room")
    _none([f"{one} -> {other}" for one in level for other in GRAPH[one] if level.get(other, 99) > level[one]], ORDER)
    TopologicalSorter(GRAPH).prepare()  # CycleError names the circle
    assert not IMPORTS["helpers"], "importing the package must do nothing"
    assert {one for one in PACKAGE for other in GRAPH[one] if room.get(other) == "recipe"} == {"helpers.data"}


def test_public_names_are_used_in_another_file():
    used = {name for module, node in NODES if (name := _meant(module, node)).rpartition(".")[0] != module}
    for name, node in FUNCTIONS.items():  # what a function is given, or gives, may have a name, too
        signature = [part for part in (node.args, node.returns) if part]
        used |= {_meant(name.rpartition(".")[0], part) for whole in signature for part in ast.walk(whole)}
    _none({*PUBLIC} - used - BY_TABLE, "delete it, or begin its name with _")
    _none(BY_TABLE - {*PUBLIC}, "does not exist")


def test_docstrings_are_there_and_short():
    defined = ast.FunctionDef | ast.ClassDef
    _none(
        [name for name, at in PUBLIC.items() if isinstance(at, defined) and not ast.get_docstring(at)], "says nothing"
    )
    long = set()
    for module, node in NODES:
        if module in PACKAGE and isinstance(node, defined) and ast.get_docstring(node):
            docstring = node.body[0].end_lineno - node.body[0].lineno + 1
            if docstring > node.end_lineno - node.lineno + 1 - docstring:
                long.add(f"{module}.{node.name}")
    _none(long ^ FORMULAS, "says more than it does (or is a formula no longer)")


def test_options_are_passed_by_somebody():
    calls = [(module, node) for module, node in NODES if isinstance(node, ast.Call)]
    # What is passed as **choices stands in some dictionary.
    keys = {word.arg for _, call in calls if getattr(call.func, "id", "") == "dict" for word in call.keywords}
    keys |= {getattr(key, "value", "") for _, node in NODES if isinstance(node, ast.Dict) for key in node.keys}
    passed, unused = {}, []
    for module, call in calls:
        places = range(99 if any(isinstance(value, ast.Starred) for value in call.args) else len(call.args))
        words = {word.arg for word in call.keywords}
        passed.setdefault(_meant(module, call.func), set()).update(places, words, keys if None in words else ())
    for name in {*FUNCTIONS} - BY_TABLE:
        given, of = passed.get(name, set()), FUNCTIONS[name].args
        options = [*zip([*enumerate(of.args)][::-1], of.defaults[::-1], strict=False)]
        options += [((-1, word), default) for word, default in zip(of.kwonlyargs, of.kw_defaults, strict=True)]
        unused += [f"{name}({word.arg}=)" for (at, word), default in options if default and not given & {at, word.arg}]
    _none(unused, "no call in the package or a notebook passes it")
