"""The directive ``command``: command lines that readers see and the doctest builder runs.

Lines that begin with ``$ gaia-redshift`` are run in this process and must exit with 0, or with the
number that ``:exit:`` gives. Other lines, if there are any, are what all commands of the block
print, with ``...`` for what varies or is left out. ``:norun:`` shows only.
"""

from __future__ import annotations

import doctest
import shlex
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_RUN = """\
import contextlib, io, sys
from gaia_redshift.cli import main
for arguments in {commands!r}:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        code = main(arguments)
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
    }

    def run(self) -> list[nodes.Node]:
        """Return what is shown and, for the doctest builder, what is run."""
        text = "\n".join(self.content)
        shown = nodes.literal_block(text, text, language="console")
        self.set_source_info(shown)
        if "norun" in self.options:
            return [shown]
        joined = text.replace("\\\n", " ").splitlines()
        commands = [shlex.split(line[2:])[1:] for line in joined if line.startswith("$ ")]
        output = "\n".join(line for line in joined if not line.startswith("$ "))
        code = _RUN.format(
            commands=commands,
            code=self.options.get("exit", 0),
            show="print(printed.getvalue())" if output else "pass",
        )
        tests: list[nodes.Node] = [self._comment(code, "testcode")]
        if output:
            tests.append(self._comment(output, "testoutput"))
        return [shown, *tests]

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
    return {"parallel_read_safe": True}
