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


def locked():
    """Requirements of the lock that hold on this machine, as {name: version}."""
    lines = [Requirement(line.rstrip(" \\")) for line in LOCK.splitlines() if re.match(r"[a-zA-Z0-9]", line)]
    return {
        line.name.lower().replace("_", "-"): str(line.specifier).removeprefix("==")
        for line in lines
        if line.marker is None or line.marker.evaluate()
    }


def test_every_requirement_is_pinned_with_hashes():
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", LOCK.strip())
    assert len(blocks) > 100
    for block in blocks:
        assert re.match(r"[A-Za-z0-9._-]+==[^ ;]+", block), block.splitlines()[0]
        assert "--hash=sha256:" in block, block.splitlines()[0]


def test_the_lock_satisfies_pyproject():
    pins = locked()
    wanted = [Requirement(text) for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]]
    for requirement in wanted:
        if requirement.marker is None or requirement.marker.evaluate():
            assert requirement.specifier.contains(pins[requirement.name]), requirement


def test_this_environment_is_the_locked_one():
    for name, version in locked().items():
        assert importlib.metadata.version(name) == version, f"{name}: run `make setup`"


def test_conda_users_get_the_versions_of_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    plain = [item for item in environment["dependencies"] if isinstance(item, str)]
    (pip,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    pins = locked()
    for item in plain:
        name, _, version = item.partition("=")
        if name == "python":
            assert SpecifierSet(PROJECT["requires-python"]).contains(version)
        elif version:
            assert pins[name].startswith(version), item
    assert "-r requirements.lock" in pip
    for item in pip:
        if not item.startswith("-"):
            requirement = Requirement(item)
            assert str(requirement.specifier) == f"=={pins[requirement.name]}", item
