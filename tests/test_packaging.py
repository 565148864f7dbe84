"""The conda recipe asks for what pyproject.toml asks for."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import gaia_redshift

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {
    "dust-extinction": "dust_extinction",
    "isal": "python-isal",
    "matplotlib": "matplotlib-base",
}
"""Names on conda-forge where they differ from PyPI's."""


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def recipe():
    text = (ROOT / "recipe" / "recipe.yaml").read_text()
    context = yaml.safe_load(text)["context"]
    for name, value in context.items():
        text = re.sub(r"\$\{\{ *" + name + r" *\}\}", str(value), text)
    return yaml.safe_load(text)


def split(requirement):
    name, limit = re.fullmatch(r"([\w.-]+)(?:\[.*\])? *([^;]*)(?:;.*)?", requirement).groups()
    return name, limit


def test_the_recipe_has_the_requirements_of_the_project(project, recipe):
    wanted = dict(map(split, project["project"]["dependencies"]))
    expected = {CONDA_NAMES.get(name, name): limit for name, limit in wanted.items()}
    expected["python"] = project["project"]["requires-python"]
    assert dict(map(split, recipe["requirements"]["run"])) == expected
    host = dict(map(split, recipe["requirements"]["host"]))
    assert dict(map(split, project["build-system"]["requires"])).items() <= host.items()
    assert host["python"] == project["project"]["requires-python"].removeprefix(">=") + ".*"


def test_the_recipe_names_version_command_and_licence(project, recipe):
    about = project["project"]
    assert recipe["package"] == {"name": about["name"], "version": gaia_redshift.__version__}
    commands = [f"{name} = {target}" for name, target in about["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == commands
    assert recipe["about"]["license"] == about["license"]
    assert recipe["about"]["summary"] == about["description"]
    assert (ROOT / recipe["about"]["license_file"]).is_file()


def test_the_tool_that_builds_the_recipe_reads_it(project):
    """Rendered by rattler-build's own library; building needs channels of conda packages."""
    rattler_build = pytest.importorskip("rattler_build")
    file = rattler_build.Stage0Recipe.from_file(ROOT / "recipe" / "recipe.yaml")
    (variant,) = file.render(rattler_build.VariantConfig())
    rendered = variant.recipe.to_dict()
    assert rendered["package"] == {
        "name": project["project"]["name"],
        "version": gaia_redshift.__version__,
    }
    assert rendered["build"]["noarch"] == "python"
    assert f"python {project['project']['requires-python']}" in rendered["requirements"]["run"]


def test_every_requirement_has_a_lowest_version(project):
    extras = project["project"]["optional-dependencies"]
    given = [r for group in extras.values() for r in group] + project["project"]["dependencies"]
    ours = project["project"]["name"]
    free = [r for r in given if not split(r)[1].startswith((">=", "==", "~=")) and ours not in r]
    # Tools of the developers, where any version serves.
    assert set(free) <= {"pandas-stubs", "build", "pre-commit"}
