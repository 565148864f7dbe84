"""What the package shows to users, and which room imports which, read from the code.

    python -m research.house            the floors and the arrows, in words
    python -m research.house FILE.png   the picture of the page "The house"
    python -m research.house --record   what users can name, anew: tests/data/features.json

A room is a sub-package, or a module at the top.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gaia_redshift

PACKAGE = Path(gaia_redshift.__file__).parent
RECORD = Path(__file__).parents[1] / "tests" / "data" / "features.json"

FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "_display", "_threads"),
    (
        "flags",
        "grid",
        "metrics",
        "peaks",
        "_quiet",
        "_files",
        "_extras",
    ),
    ("clean", "tables"),
    ("spectra",),
    ("readers", "sampling", "model"),
    ("archive", "calibrated", "simulate", "vectors", "writers"),
    ("crossmatch",),
    ("predict",),
    ("enrich", "inspect", "doctor"),
    ("bridges", "plot", "datasets"),
    ("evaluate", "train"),
    ("cli",),
    ("__main__",),
)
"""From the ground up: a room may import those on floors below its own, and none beside it."""
GROUND = 2
"""So many of the lowest floors are the ground, on which all rooms stand."""


def list_features() -> dict[str, list[str]]:
    """Return everything that a user can name, in sorted lists."""
    from gaia_redshift.cli.command import build_parser
    from gaia_redshift.flags import MatchFlag, QualityFlag
    from gaia_redshift.readers.formats import EXTENSIONS
    from gaia_redshift.tables import COLUMNS, FORMATS

    features: dict[str, Iterable[str]] = {
        "options": _list_options(build_parser()),
        "columns": COLUMNS,
        "flags": (f"{flag.name} {flag.value}" for flag in (*QualityFlag, *MatchFlag)),
        "files of spectra": EXTENSIONS,
        "files of tables": FORMATS,
        "public names": _list_public_names(),
    }
    return {kind: sorted(names) for kind, names in features.items()}


def _list_options(parser: argparse.ArgumentParser) -> Iterator[str]:
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    assert isinstance(commands.choices, Mapping)
    for name, command in commands.choices.items():
        for action in command._actions:
            for option in action.option_strings or [action.dest]:
                yield f"{name} {option}"
                yield from (f"{name} {option} {choice}" for choice in action.choices or ())


def _list_public_names() -> Iterator[str]:
    names = [room.name for room in pkgutil.iter_modules([str(PACKAGE)])]
    rooms = [name for name in names if not name.startswith("_")]
    for name in ("gaia_redshift", *(f"gaia_redshift.{room}" for room in rooms)):
        module = importlib.import_module(name)
        yield from (f"{name}.{each}" for each in getattr(module, "__all__", ()))


def read_arrows() -> dict[str, set[str]]:
    """Return for each room the rooms that it imports.

    Imports inside functions count, those for type checkers alone do not.
    """
    arrows: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        arrows.setdefault(room, set()).update(
            name.split(".")[1] for name in _read_imports(path) if name.count(".")
        )
    del arrows["__init__"]  # the package itself: it names the public homes and imports none
    return {room: found - {room} for room, found in arrows.items()}


def _read_imports(path: Path) -> Iterator[str]:
    """Yield the package's modules that a file imports."""
    waiting: list[Any] = [ast.parse(path.read_text(encoding="utf-8"))]
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
                yield f"{node.module}.{home}" if whole else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("gaia_redshift."))


def find_wrong_arrows(arrows: Mapping[str, set[str]]) -> list[str]:
    """Return in words every arrow that does not go down, and rooms that stand on no floor."""
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    wrong = [
        f"{room} stands on no floor of FLOORS" for room in sorted(arrows.keys() - floor.keys())
    ]
    for room, found in arrows.items():
        for other in sorted(found & floor.keys()):
            if floor.get(room, -1) <= floor[other]:
                wrong.append(f"{room} (floor {floor.get(room)}) imports {other} ({floor[other]})")
    return wrong


def draw_house(arrows: Mapping[str, set[str]], figure: Any) -> None:
    """Draw the rooms, and the arrows above the ground that do not follow from others."""
    places = {}
    for height, rooms in enumerate(FLOORS):
        shown = [room for room in rooms if room in arrows and not room.startswith("_")]
        for number, room in enumerate(shown):
            places[room] = ((number + 0.5) / len(shown), float(height))
    axes = figure.add_subplot()
    upper = {room for room, (_, height) in places.items() if height >= GROUND}
    look = {"arrowstyle": "->", "color": "0.6", "shrinkA": 9, "shrinkB": 9}
    for room in sorted(upper):
        for other in sorted(_reduce(room, arrows, upper)):
            axes.annotate("", places[other], places[room], arrowprops=look)
    for room, (x, y) in places.items():
        box = {"boxstyle": "round", "edgecolor": "0.4"}
        box["facecolor"] = "#dbe9f6" if room in upper else "#eeeeee"
        axes.text(x, y, room, ha="center", va="center", bbox=box, fontsize=9)
    axes.set(xlim=(0, 1), ylim=(-0.6, len(FLOORS) - 1.4))
    axes.set_axis_off()


def _reduce(room: str, arrows: Mapping[str, set[str]], among: set[str]) -> set[str]:
    """The rooms that a room imports, but for those that these import for it."""
    below = arrows[room] & among
    return below.difference(*(_reach(other, arrows) for other in below))


def _reach(room: str, arrows: Mapping[str, set[str]]) -> set[str]:
    """All rooms that a room imports, directly or through others."""
    found: set[str] = set()
    waiting = [room]
    while waiting:
        new = arrows.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def main(arguments: list[str]) -> int:
    """Print, draw or record; return 1 if an arrow goes where none may."""
    if arguments == ["--record"]:
        RECORD.write_text(json.dumps(list_features(), indent=1) + "\n", encoding="utf-8")
        return 0
    arrows = read_arrows()
    if arguments:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 8), layout="constrained")
        draw_house(arrows, figure)
        figure.savefig(arguments[0])
        return 0
    for rooms in reversed(FLOORS):
        for room in rooms:
            print(f"{room:<16} {' '.join(sorted(arrows.get(room, ())))}")
    wrong = find_wrong_arrows(arrows)
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
