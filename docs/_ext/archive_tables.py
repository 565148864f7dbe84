"""Directives for the pages on queries and cross-matches, made from the code.

``match-flags-table``, ``queries-table``, ``catalogue-columns-table`` and ``query-text NAME``.
"""

from __future__ import annotations

from docutils import nodes
from reference_tables import code, make_table
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class MatchFlagsTable(SphinxDirective):
    """The bits of ``match_flag_sdss``."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        from gaia_redshift.crossmatch import describe_match_flags

        rows = [[str(value), code(name), text] for value, name, text in describe_match_flags()]
        return [make_table(["value", "name", "meaning"], rows, whole_names=True)]


class QueriesTable(SphinxDirective):
    """The catalogue queries."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        from gaia_redshift.archive import describe_queries

        rows = [[code(name), text] for name, text in describe_queries().items()]
        return [make_table(["name", "what it finds"], rows)]


class CatalogueColumnsTable(SphinxDirective):
    """The names of columns that are known for each survey."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        from gaia_redshift.crossmatch.catalogues import COLUMNS

        surveys = list(COLUMNS)
        things = list(dict.fromkeys(what for survey in surveys for what in COLUMNS[survey]))
        rows = [
            [code(what), *(", ".join(COLUMNS[survey].get(what, ())) for survey in surveys)]
            for what in things
        ]
        return [make_table(["what", *surveys], rows)]


class QueryText(SphinxDirective):
    """The text of a query."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the text."""
        from importlib import resources

        folder = resources.files("gaia_redshift") / "data" / "queries"
        text = (folder / f"{self.arguments[0]}.adql").read_text(encoding="utf-8")
        return [nodes.literal_block(text, text, language="sql")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("match-flags-table", MatchFlagsTable)
    app.add_directive("queries-table", QueriesTable)
    app.add_directive("catalogue-columns-table", CatalogueColumnsTable)
    app.add_directive("query-text", QueryText)
    return {"parallel_read_safe": True}
