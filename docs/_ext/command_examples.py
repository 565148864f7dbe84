"""The directive ``command``: command lines that readers see, run so that pages cannot be wrong.

Lines that begin with ``$ gaia-redshift`` are run in this process and must exit with 0, or with the
number that ``:exit:`` gives, when the doctest builder runs. Other lines, if there are any, are what
all commands of the block print (stdout, and stderr but for ``train``), with ``...`` for what varies
or is left out. ``:run:`` runs them while the pages are built and shows what they print; of long
output ``:lines:`` lines from its beginning, and all that follows the table. ``:norun:`` shows only.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import shlex
import sys
from pathlib import Path
from typing import Any, ClassVar

import doctest_folder
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_REPOSITORY = Path(__file__).parents[2]


def run_command(arguments: list[str]) -> tuple[int, str]:
    """Run the command with these arguments; return its exit code and what it prints."""
    from gaia_redshift.cli import main

    printed = io.StringIO()
    words = sys.stderr if arguments[0] == "train" else printed  # bars and a library's log
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(words):
        code = main(arguments)
    return code, printed.getvalue()


_RUN = """\
from command_examples import run_command
for arguments in {commands!r}:
    code, printed = run_command(arguments)
    if code != {code}:
        print(f"{{arguments}} exited with {{code}}")
    {show}
"""


class CommandExample(SphinxDirective):
    """See the module."""

    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {
        "exit": directives.nonnegative_int,
        "norun": directives.flag,
        "run": directives.flag,
        "lines": directives.positive_int,
    }

    def run(self) -> list[nodes.Node]:
        """Return what is shown and, for the doctest builder, what is run."""
        text = "\n".join(self.content)
        if "run" in self.options:
            return [self._make_block(self._run_now())]
        shown = self._make_block(text)
        if "norun" in self.options:
            return [shown]
        joined = text.replace("\\\n", " ").splitlines()
        commands = [shlex.split(line[2:])[1:] for line in joined if line.startswith("$ ")]
        output = "\n".join(line for line in joined if not line.startswith("$ "))
        code = _RUN.format(
            commands=commands,
            code=self.options.get("exit", 0),
            show="print(printed)" if output else "pass",
        )
        tests: list[nodes.Node] = [self._comment(code, "testcode")]
        if output:
            tests.append(self._comment(output, "testoutput"))
        return [shown, *tests]

    def _make_block(self, text: str) -> nodes.literal_block:
        block = nodes.literal_block(text, text, language="console")
        self.set_source_info(block)
        return block

    def _run_now(self) -> str:
        """Run the commands and return them with what they print."""
        shown = []
        for line in self.content:
            shown.append(line)
            if not line.startswith("$ gaia-redshift "):
                continue
            with doctest_folder.inside(_REPOSITORY):
                code, printed = run_command(shlex.split(line)[2:])
            if code != self.options.get("exit", 0):
                raise self.error(f"{line} exited with {code}: {printed}")
            shown += self._shorten(printed.rstrip().splitlines())
        return "\n".join(shown)

    def _shorten(self, lines: list[str]) -> list[str]:
        wanted = self.options.get("lines", len(lines))
        cut = next((i for i, line in enumerate(lines) if line.startswith("... ")), None)
        if cut is None or cut <= wanted:
            return lines
        return [*lines[:wanted], "...", *lines[cut + 1 :]]

    def _comment(self, text: str, kind: str) -> nodes.comment:
        node = nodes.comment(text, text, testnodetype=kind, groups=["default"])
        self.set_source_info(node)
        node["options"] = (
            {doctest.ELLIPSIS: True, doctest.NORMALIZE_WHITESPACE: True}
            if kind == "testoutput"
            else {}
        )
        return node


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("command", CommandExample)
    app.connect("build-finished", lambda *_: doctest_folder.discard())
    return {"parallel_read_safe": False}
