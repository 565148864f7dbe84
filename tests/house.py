"""What the package shows to users, and which room imports which, read from the code."""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import pkgutil
from pathlib import Path

import gaia_redshift

PACKAGE = Path(gaia_redshift.__file__).parent


def list_features():
    """Return everything that a user can name, in sorted lists."""
    from gaia_redshift.cli.command import _COMMANDS
    from gaia_redshift.cli.parser import build_parser
    from gaia_redshift.crossmatch import MatchFlag
    from gaia_redshift.flags import QualityFlag
    from gaia_redshift.readers.formats import EXTENSIONS
    from gaia_redshift.table import COLUMNS
    from gaia_redshift.table_formats import FORMATS

    features = {
        "options": _list_options(build_parser(_COMMANDS)),
        "columns": COLUMNS,
        "flags": (f"{flag.name} {flag.value}" for flag in (*QualityFlag, *MatchFlag)),
        "files of spectra": EXTENSIONS,
        "files of tables": FORMATS,
        "public names": _list_public_names(),
    }
    return {kind: sorted(names) for kind, names in features.items()}


def _list_options(parser):
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        for action in command._actions:
            for option in action.option_strings or [action.dest]:
                yield f"{name} {option}"
                yield from (f"{name} {option} {choice}" for choice in action.choices or ())


def _list_public_names():
    rooms = [room.name for room in pkgutil.iter_modules([str(PACKAGE)]) if room.ispkg]
    for name in ("gaia_redshift", *(f"gaia_redshift.{room}" for room in rooms)):
        module = importlib.import_module(name)
        yield from (f"{name}.{each}" for each in getattr(module, "__all__", ()))


def read_arrows():
    """Return for each room (a sub-package or a module at the top) the rooms that it imports.

    Imports inside functions count, those for type checkers alone do not.
    """
    arrows = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        arrows.setdefault(room, set()).update(
            name.split(".")[1] for name in _read_imports(path) if name.count(".")
        )
    return {room: found - {room} for room, found in arrows.items()}


def _read_imports(path):
    """Yield the package's modules that a file imports."""
    waiting = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gaia_redshift"):
            # From the package itself come modules, or names whose homes it knows.
            whole = node.module == "gaia_redshift"
            for alias in node.names:
                home = gaia_redshift._HOMES.get(alias.name, alias.name)
                yield f"{node.module}.{home}" if whole else node.module
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("gaia_redshift."))


if __name__ == "__main__":
    record = Path(__file__).parent / "data" / "features.json"
    record.write_text(json.dumps(list_features(), indent=1) + "\n", encoding="utf-8")
