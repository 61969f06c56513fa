"""What docstrings say about who uses a function is true."""

import ast
import json
import re

import pytest

from helpers import notebooks
from helpers.files import ROOT


def code(path):
    """All code of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


CODE = {path.name[:2]: code(path) for path in notebooks.numbered()}


def claims(docstring):
    """Numbers of the notebooks, and names of the helpers in between, that the "Used by" sentences name."""
    text = " ".join(docstring.split())
    for sentence in re.findall(r"\bUsed by .*?(?:\.(?= |$)|$)", text):
        if re.search(r"\bnotebooks? \d", sentence):
            numbers = re.findall(r"\b\d\d\b", sentence)
            through = re.findall(r"through `(?:helpers\.)?([\w.]+)`", sentence)
            yield numbers, [name for path in through for name in path.split(".")]


def mentions(number, names):
    return any(re.search(rf"\b{re.escape(name)}\b", CODE[number]) for name in names)


def documented():
    for path in sorted((ROOT / "helpers").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                docstring = ast.get_docstring(node) or ""
                if any(claims(docstring)):
                    yield pytest.param(path.stem, node.name, docstring, id=f"{path.stem}.{node.name}")


@pytest.mark.parametrize(("module", "name", "docstring"), list(documented()))
def test_the_notebooks_named_use_it(module, name, docstring):
    for numbers, through in claims(docstring):
        for number in numbers:
            assert number in CODE, f"there is no notebook {number}"
            assert mentions(number, [name, module, *through]), f"notebook {number} does not use it"


def test_claims_are_read():
    text = "Park 2019. Used by\nnotebooks 03 and 05, and by 06\nthrough `helpers.cache`. Since 2020, 99 of them."
    assert list(claims(text)) == [(["03", "05", "06"], ["cache"])]
    assert not list(claims("Used by every notebook. Used by `python -m helpers download`."))
