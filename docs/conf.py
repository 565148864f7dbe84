"""Configuration of the documentation.

python -m sphinx -W --keep-going -n -b html docs docs/_build/html
python -m sphinx -W -b doctest docs docs/_build/doctest

Neither needs the network. The second runs the examples and commands on the pages but those
marked ``:norun:`` and plain ``python`` blocks.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
sys.path.append(str(HERE.parent))  # for `research`, which is not installed
os.environ.pop("MPLBACKEND", None)  # a backend that is named keeps figures out of the notebooks

import gaia_redshift  # noqa: E402

project = "gaia_redshift"
author = "The gaia_redshift developers"
copyright = author
version = release = gaia_redshift.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "numpydoc",
    "matplotlib.sphinxext.plot_directive",
    "myst_nb",  # MyST, and notebooks that are run
    "sphinx_copybutton",
    "archive_tables",
    "command_examples",
    "fetch_tables",
    "reference_tables",
    "short_names",
]
templates_path = ["_templates"]
exclude_patterns = [
    "explanation/clean_numbers.md",
    "explanation/model_numbers.md",
    "explanation/simulator_numbers.md",
    "_build",
    "_ext",
    "_templates",
    "Thumbs.db",
    ".DS_Store",
]
default_role = "py:obj"
highlight_language = "none"
nitpicky = True
# What base classes name: types from outside, whose inventories are not fetched, and one of ours.
nitpick_ignore = [
    ("py:class", "enum.IntEnum"),
    ("py:class", "enum.IntFlag"),
    ("py:class", "gaia_redshift.flags._Flag"),
    ("py:class", "astropy.utils.exceptions.AstropyUserWarning"),
]

# Links to the documentation of NumPy, astropy, ... need the network; a build without is the rule.
if os.environ.get("GAIA_REDSHIFT_DOCS_ONLINE"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "astropy": ("https://docs.astropy.org/en/stable", None),
    }

autosummary_generate = True
autodoc_typehints = "none"  # types, shapes and units stand in the docstrings
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

myst_enable_extensions = ["attrs_block", "deflist", "colon_fence"]

myst_heading_anchors = 3

nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_output_stderr = "remove"
nb_execution_show_tb = True

plot_working_directory = str(HERE.parent)
plot_basedir = str(HERE)
plot_formats = [("png", 90)]
plot_html_show_formats = False
plot_html_show_source_link = False

# Docstring examples are run by pytest; here only what the pages mark as a test.
doctest_test_doctest_blocks = ""
doctest_global_setup = f"""
import pathlib
import doctest_folder  # a scratch folder with the repository's catalogs in it
doctest_folder.enter(pathlib.Path({str(HERE.parent)!r}))
"""
doctest_global_cleanup = "doctest_folder.leave()"

man_pages = [
    ("reference/command-line", "gaia-redshift", "galaxy redshifts from Gaia spectra", [], 1)
]

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme = "pydata_sphinx_theme"
html_title = f"gaia_redshift {release}"
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {"index": []}
# Where the pages are published with the code, they lead to it.
repository = os.environ.get("GAIA_REDSHIFT_REPOSITORY") or os.environ.get(
    "READTHEDOCS_GIT_CLONE_URL", ""
)
if repository := repository.removesuffix(".git"):
    html_theme_options["external_links"] = [
        {"name": "Repository", "url": repository},
        {"name": "Issues", "url": f"{repository}/issues"},
    ]
