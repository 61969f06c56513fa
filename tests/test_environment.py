"""The lock, environment.yml, pyproject.toml and the installed environment say the same."""

import importlib.metadata
import re
import tomllib

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from helpers.base import ROOT

LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def here(requirement):
    return requirement.marker is None or requirement.marker.evaluate()


LINES = [Requirement(line.rstrip(" \\")) for line in LOCK.splitlines() if re.match(r"[a-zA-Z0-9]", line)]
# Name and version of what the lock holds for this machine.
PINS = {line.name.lower().replace("_", "-"): str(line.specifier)[2:] for line in LINES if here(line)}


def test_every_requirement_is_pinned_with_hashes():
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", LOCK.strip())
    assert len(blocks) > 100
    for block in blocks:
        assert re.match(r"[A-Za-z0-9._-]+==[^ ;]+", block), block.splitlines()[0]
        assert "--hash=sha256:" in block, block.splitlines()[0]


def test_the_lock_satisfies_pyproject():
    for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]:
        if here(requirement := Requirement(text)):
            assert requirement.specifier.contains(PINS[requirement.name]), requirement


def test_this_environment_is_the_locked_one():
    for name, version in PINS.items():
        assert importlib.metadata.version(name) == version, f"{name}: run `make setup`"


def test_conda_users_get_the_versions_of_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, *others = environment["dependencies"]
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python="))
    assert others == ["pip", {"pip": ["--require-hashes", "-r requirements.lock"]}]


def test_licences_say_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["license"] == PROJECT["license"] == "BSD-3-Clause" and citation["version"] == PROJECT["version"]
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("BSD 3-Clause License")
    for name in (*PROJECT["license-files"], "CITATION.cff"):
        assert (ROOT / name).exists() and f"({name})" in (ROOT / "README.md").read_text(encoding="utf-8")
