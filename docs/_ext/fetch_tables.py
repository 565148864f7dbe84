"""Directives ``archive-settings`` and ``archive-releases``, made from the code."""

from __future__ import annotations

from dataclasses import MISSING

from docutils import nodes
from numpydoc.docscrape import NumpyDocString
from reference_tables import code, make_table, prose
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class ArchiveSettingsTable(SphinxDirective):
    """What `ArchiveSettings` takes."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        from gaia_redshift.archive import ArchiveSettings, settings

        def find_default(name: str) -> str:
            value = ArchiveSettings.__dataclass_fields__[name].default
            value = getattr(settings, name.upper(), "") if value is MISSING else value
            return str(value) or "none"

        rows = []
        for parameter in NumpyDocString(str(ArchiveSettings.__doc__))["Parameters"]:
            text = " ".join(parameter.desc)
            names = parameter.name.split(", ")  # several that are told of together
            unit = " s" if parameter.type.endswith(", s") else ""
            defaults = ", ".join(f"{find_default(name)}{unit}" for name in names)
            rows.append([code(parameter.name), code(defaults), prose(text)])
        return [make_table(["name", "default", "meaning"], rows)]


class ArchiveReleasesTable(SphinxDirective):
    """The names that each data release has."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        from gaia_redshift.archive.releases import RELEASES

        rows = [
            [
                code(release.name),
                code(release.schema),
                code(release.retrieval_type),
                release.bases,
                "yes" if release.confirmed else "no",
            ]
            for release in RELEASES.values()
        ]
        headings = ["release", "schema", "retrieval type", "bases", "confirmed"]
        return [make_table(headings, rows, whole_names=True)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("archive-settings", ArchiveSettingsTable)
    app.add_directive("archive-releases", ArchiveReleasesTable)
    return {"parallel_read_safe": True}
