"""The notebooks that have been written as lessons say what is seen, and are shaped to be read."""

import base64
import re
import statistics
import struct

import nbformat
import pytest

from helpers.base import ROOT
from helpers.course import runner

LESSONS = runner.select(["01", "02", "03", "05", "08", "09", "11", "12", "13", "14", "15"])
# Those whose results are read out; 04 has long cells yet.
READ_OUT = runner.select(["01", "02", "03", "04", "05", "08", "09", "11", "12", "13", "14", "15"])
# Words of translation, and what a native editor put in their place.
UNIDIOMATIC = {
    "anew": "again",
    "taken for": "confused with",
    "learnt by heart": "memorised",
    "by heart": "memorised",
    "heap": "pile",
    "mend": "fix",
    "slip of the keyboard": "typo",
    "slips of the keyboard": "typos",
    "in all,": "in total",
    "goes on with": "resumes with",
    "the last instance": "the final say",
    "cry out": "look wrong",
    "own group barred": "own group excluded",
}


@pytest.fixture(scope="module", params=LESSONS, ids=lambda path: path.stem)
def lesson(request):
    return nbformat.read(request.param, as_version=4)


@pytest.fixture(scope="module", params=READ_OUT, ids=lambda path: path.stem)
def read_out(request):
    return nbformat.read(request.param, as_version=4)


def tags(cell):
    return cell.metadata.get("tags", [])


def text_of(cell):
    """All that the outputs of a cell show as text: streams, and tables without their markup."""
    parts = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        html = re.sub(r"<style.*?</style>", " ", data.get("text/html", ""), flags=re.DOTALL)
        parts += [output.get("text", ""), data.get("text/plain", ""), re.sub(r"<[^>]+>", " ", html)]
    return " ".join(parts)


def numbers(text):
    """Numbers of a text, each in one form: 1,024 and 1024 are the same, and so are -3 and −3."""
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text.replace("−", "-"))
    return re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w]|\.\d)", text)


def prose(source):
    """What of a cell of prose is said, without code, formulas and links."""
    source = re.sub(r"notebooks? \d\d|\]\([^)]*\)|https?://\S+", " ", source)
    return re.sub(r"`[^`]*`|\$\$.*?\$\$|\$[^$]*\$", " ", source, flags=re.DOTALL)


def shows(cell):
    """Whether a cell puts out a table, a figure or a score."""
    kinds = {kind for output in cell.get("outputs", []) for kind in output.get("data", {})}
    return bool(kinds & {"image/png", "text/html"}) or bool(re.search(r"n = \d", text_of(cell)))


def figures(notebook):
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                yield output


def test_every_number_that_is_read_out_stands_in_an_output_above(read_out):
    seen, wrong = set(), []
    for cell in read_out.cells:
        seen.update(numbers(text_of(cell)))
        if "observation" in tags(cell):
            wrong += [(number, cell.source[:70]) for number in numbers(prose(cell.source)) if number not in seen]
    assert not wrong


def test_a_number_that_no_output_shows_is_noticed():
    assert numbers("1,024 rows, 3.5 % (-2 to 4, n = 88), MFCC13, 10.5") == ["1024", "3.5", "2", "4", "88", "10.5"]
    assert numbers(prose("see `n = 5`, [3 rules](https://x.org/7) and $2^9$")) == ["3"]


def test_an_observation_names_the_data_it_was_made_on(read_out):
    said = [cell.source for cell in read_out.cells if "observation" in tags(cell)]
    assert said
    known = r"\*\*On (ESC-10|FSDKaggle2018|the sample|any data)(, [^*]+)?[:.]\*\* "
    assert not [text[:60] for text in said if not re.match(known, text)]
    for cell in read_out.cells:
        assert "observation" not in tags(cell) or cell.cell_type == "markdown"


def test_every_table_figure_and_score_is_read_out(read_out):
    silent, waiting = [], None
    for cell in read_out.cells:
        if "observation" in tags(cell):
            waiting = None
        if cell.cell_type == "code" and shows(cell):
            silent += [waiting] if waiting else []
            waiting = cell.source[-90:]
    assert not [*silent, *([waiting] if waiting else [])]


def test_figures_have_words_for_those_who_do_not_see_them_and_are_of_a_readable_size(lesson):
    for output in figures(lesson):
        assert len(output.metadata.get("image/png", {}).get("alt", "")) >= 60
        width, height = struct.unpack(">II", base64.b64decode(output.data["image/png"])[16:24])
        assert 350 <= width <= 1300 and height <= 1000


def test_cells_are_short_unless_they_are_the_lesson(lesson):
    code = [cell for cell in lesson.cells if cell.cell_type == "code"]
    lines = {cell.source: len(cell.source.splitlines()) for cell in code}
    assert statistics.median(lines[cell.source] for cell in code) <= 5
    plain = [cell.source for cell in code if not {"lesson", "parameters"} & {*tags(cell)}]
    plain = [source for source in plain if "runs.begin(" not in source]  # the imports
    assert not [source[:80] for source in plain if lines[source] > 15]
    assert len(code) <= len(lesson.cells) - len(code)


def test_no_line_must_be_scrolled(lesson):
    lines = [re.sub(r"\]\([^)]*\)", "]", line) for cell in lesson.cells for line in cell.source.splitlines()]
    assert not [line for line in lines if len(line) > 100 and not line.startswith(("|", "!["))]


def test_few_names_of_helpers(lesson):
    code = "\n".join(cell.source for cell in lesson.cells if cell.cell_type == "code")
    imported = re.findall(r"^from helpers[\w.]* import \(?([^)#\n]+)", code, flags=re.MULTILINE)
    assert len([name for line in imported for name in line.split(",") if name.strip()]) <= 8


def test_methods_are_cited_where_they_appear(lesson):
    words = "\n".join(cell.source for cell in lesson.cells if cell.cell_type == "markdown")
    assert len(re.findall(r"\]\(https://", words)) >= 5


def test_the_english_is_native(read_out):
    for cell in read_out.cells:
        if cell.cell_type == "markdown":
            found = [word for word in UNIDIOMATIC if re.search(rf"\b{re.escape(word)}", cell.source.lower())]
            assert not found, cell.source[:80]


def test_every_term_of_the_glossary_is_used_by_a_notebook_it_names():
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| .+ \| ([\d, ]+) \|$", glossary(), flags=re.MULTILINE)
    assert len(rows) >= 60
    for term, where in rows:
        for number in where.split(", "):
            (path,) = runner.select([number])
            words = " ".join(cell.source for cell in nbformat.read(path, as_version=4).cells).lower()
            names = [re.sub(r"\(.*?\)", "", term).strip(), *re.findall(r"\((.+?)\)", term)]
            assert any(name.lower() in " ".join(words.split()) for name in names), term


def glossary():
    return (ROOT / "notebooks" / "glossary.md").read_text(encoding="utf-8")
