"""Directives that make reference pages from the code, so that they cannot fall behind it.

``flags-table``, ``columns-table``, ``provenance-list``, ``truth-table``, ``survey-table``,
``basis-sets-table``, ``rooms-table`` and ``command-reference``.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

Cell = str | nodes.Node


def make_table(
    titles: Sequence[str], rows: Sequence[Sequence[Cell]], *, whole_names: bool = False
) -> nodes.table:
    """Make a table; cells are text or nodes. Long names break unless they are to stay whole."""
    table = nodes.table(classes=["table", "whole-names"] if whole_names else ["table"])
    group = nodes.tgroup(cols=len(titles))
    table += group
    for _ in titles:
        group += nodes.colspec(colwidth=1)
    head, body = nodes.thead(), nodes.tbody()
    group += head
    group += body
    head += _make_row(titles)
    for row in rows:
        body += _make_row(row)
    return table


def _make_row(cells: Sequence[Cell]) -> nodes.row:
    row = nodes.row()
    for cell in cells:
        entry = nodes.entry()
        entry += cell if isinstance(cell, nodes.Element) else nodes.paragraph(text=str(cell))
        row += entry
    return row


def code(text: str) -> nodes.paragraph:
    """Return literal text."""
    return nodes.paragraph("", "", nodes.literal(text, text))


def prose(text: str) -> nodes.paragraph:
    """Return a docstring's text, with what stands in backticks as literal text."""
    paragraph = nodes.paragraph()
    for number, part in enumerate(re.split("`+", text)):
        paragraph += nodes.literal(part, part) if number % 2 else nodes.Text(part)
    return paragraph


class FlagsTable(SphinxDirective):
    """The bits of ``flags_cnn``."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        from gaia_redshift.flags import FATAL, describe_flags

        rows = [
            [str(value), code(name), "yes" if value & FATAL else "no", meaning]
            for value, name, meaning in describe_flags()
        ]
        titles = ["value", "name", "redshift masked", "meaning"]
        return [make_table(titles, rows, whole_names=True)]


class ColumnsTable(SphinxDirective):
    """The columns that the package makes."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        from gaia_redshift.tables import COLUMNS

        rows = []
        for name, column in COLUMNS.items():
            # The list of flags has a page of its own.
            meaning = str(column.description).split(", 0 is clean")[0]
            rows.append([code(name), str(column.dtype), code(str(column.ucd)), meaning])
        return [make_table(["column", "type", "UCD", "meaning"], rows, whole_names=True)]


class ProvenanceList(SphinxDirective):
    """The keys of ``table.meta`` with their FITS cards."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        from gaia_redshift.grid import DEFAULT_GRID
        from gaia_redshift.tables import describe_provenance
        from gaia_redshift.tables.fits import FITS_CARDS

        words = dict.fromkeys(("model_name", "model_version", "model_sha256", "trained_on"), "")
        found = describe_provenance(**words, grid=DEFAULT_GRID, inputs=["file"], prior="sdss")
        rows = [
            [code(key), code(FITS_CARDS[key]) if key in FITS_CARDS else "(in GRZMETA)"]
            for key in found
        ]
        return [make_table(["key", "FITS card"], rows)]


class TruthTable(SphinxDirective):
    """The truth columns of simulated spectra."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        from gaia_redshift.simulate.generate import TRUTH_COLUMNS

        rows = [[code(n), unit or "", about] for n, (unit, about) in TRUTH_COLUMNS.items()]
        return [make_table(["column", "unit", "meaning"], rows)]


class SurveyTable(SphinxDirective):
    """The parameters of the simulated survey, as the package ships them."""

    def run(self) -> list[nodes.Node]:
        """Return tables of what varies with redshift, by its knots, and one of the rest."""
        from importlib.resources import files

        path = files("gaia_redshift") / "data" / "simulate" / "survey.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        varying: dict[tuple[float, ...], list[list[Cell]]] = {}
        fixed: list[list[Cell]] = []

        def add(node: dict[str, Any], knots: tuple[float, ...]) -> None:
            if "value" not in node:
                if "redshift_knots" in node:
                    knots = tuple(node["redshift_knots"]["value"])
                for name, part in node.items():
                    if isinstance(part, dict) and name != "redshift_knots":
                        add(part, knots)
                return
            value, meaning = node["value"], node["meaning"].replace(" at the knots", "")
            meaning = meaning.replace(" ,", ",").replace(",,", ",").rstrip(", ")
            named = value if isinstance(value, dict) else {"": value}
            for name, part in named.items():
                text = f"{meaning} ({name})" if name else meaning
                if isinstance(part, list) and len(part) == len(knots):
                    row: list[Cell] = [name or meaning, *(f"{v:g}" for v in part)]
                    varying.setdefault(knots, []).append(row)
                else:
                    shown = ", ".join(
                        map("{:g}".format, part if isinstance(part, list) else [part])
                    )
                    fixed.append([text, shown])

        add(content, ())
        return [
            *(
                make_table(["at redshift", *(f"{z:g}" for z in knots)], rows)
                for knots, rows in varying.items()
            ),
            make_table(["parameter", "value"], fixed),
        ]


class BasisSetsTable(SphinxDirective):
    """The sets of bases known without any registration."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        from gaia_redshift.sampling.bases import basis_sets

        rows = [
            [
                code(s.name),
                f"{s.n_bp} + {s.n_rp}",
                "not stated" if s.bp_basis_id is None else f"{s.bp_basis_id}, {s.rp_basis_id}",
                s.release or "none yet",
            ]
            for s in basis_sets()
        ]
        titles = ["name", "coefficients BP + RP", "basis ids BP, RP", "release"]
        return [make_table(titles, rows)]


class RoomsTable(SphinxDirective):
    """What each room of the package holds, in the first words of its docstring."""

    def run(self) -> list[nodes.Node]:
        """Return the table, from the top floor down."""
        import importlib

        from research.house import FLOORS

        rows = []
        for room in (room for floor in reversed(FLOORS) for room in sorted(floor)):
            module = importlib.import_module(f"gaia_redshift.{room}")
            words = " ".join((module.__doc__ or "").partition("\n\n")[0].split())
            rows.append([code(room), prose(words)])
        return [make_table(["room", "holds"], rows)]


class CommandReference(SphinxDirective):
    """Every subcommand with its arguments, from the parser itself."""

    def run(self) -> list[nodes.Node]:
        """Return a section for each subcommand."""
        from gaia_redshift.cli.command import build_parser
        from gaia_redshift.cli.output import PROGRAM

        parser = build_parser()
        action = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        sections: list[nodes.Node] = []
        for name, sub in action.choices.items():
            section = nodes.section(ids=[nodes.make_id(f"command-{name}")], names=[f"{name}"])
            section += nodes.title(text=f"{PROGRAM} {name}")
            section += self._describe(sub)
            sections.append(section)
        return sections

    def _describe(self, parser: argparse.ArgumentParser) -> list[nodes.Node]:
        found: list[nodes.Node] = [nodes.paragraph(text=parser.description or "")]
        formatter = argparse.HelpFormatter(parser.prog, width=66)  # whatever the terminal's width
        formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, "")
        usage = formatter.format_help().strip()
        found.append(nodes.literal_block(usage, usage, language="text"))
        rows = [[code(_name(a)), self._meaning(a)] for a in parser._actions]
        found.append(make_table(["argument", "meaning"], rows))
        if parser.epilog:
            found.append(nodes.literal_block(parser.epilog, parser.epilog, language="text"))
        return found

    def _meaning(self, action: argparse.Action) -> nodes.Node:
        text = (action.help or "").strip()
        if action.choices:
            text = f"{text} (one of: {', '.join(map(str, action.choices))})".strip()
        if action.required and action.option_strings:
            text += " (required)"
        default = action.default
        if isinstance(default, str) and default != argparse.SUPPRESS and default not in text:
            text += f" (default: {default})"
        # Help texts use backquotes for code, as these pages do.
        container = nodes.Element()
        lines = StringList([text.replace("`", "``")], source=__name__)
        self.state.nested_parse(lines, 0, container)
        return container.children[0] if container.children else nodes.paragraph()


def _name(action: argparse.Action) -> str:
    metavar = action.metavar or action.dest.upper()
    shown = metavar if isinstance(metavar, str) else " ".join(metavar)
    if not action.option_strings:
        return shown if action.metavar else action.dest
    takes_value = action.nargs != 0
    return ", ".join(action.option_strings) + (f" {shown}" if takes_value else "")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    for name, directive in {
        "flags-table": FlagsTable,
        "columns-table": ColumnsTable,
        "provenance-list": ProvenanceList,
        "truth-table": TruthTable,
        "survey-table": SurveyTable,
        "basis-sets-table": BasisSetsTable,
        "rooms-table": RoomsTable,
        "command-reference": CommandReference,
    }.items():
        app.add_directive(name, directive)
    return {"parallel_read_safe": True}
