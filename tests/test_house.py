"""What users can name stays, however the rooms behind it are moved; no arrow goes up."""

import json
import re
from importlib import import_module
from pathlib import Path

from research.house import FLOORS, RECORD, find_wrong_arrows, list_features, read_arrows


def test_no_option_column_flag_format_or_public_name_is_gone():
    """A name may leave the record only with a line in CHANGES.md."""
    features = list_features()
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    gone = {kind: sorted(set(names) - set(features[kind])) for kind, names in recorded.items()}
    assert not any(gone.values()), gone


def test_rooms_import_only_what_is_below_them():
    assert find_wrong_arrows(read_arrows()) == []


def test_a_room_on_a_wrong_floor_would_be_told():
    arrows = {room: set() for rooms in FLOORS for room in rooms} | {"grid": {"cli"}, "attic": set()}
    lost, upwards = find_wrong_arrows(arrows)
    assert lost == "attic stands on no floor of FLOORS"
    assert upwards.startswith("grid (floor 1) imports cli")


def test_the_reference_names_what_there_is():
    """The documentation's build says so as well, minutes later."""
    page = Path(__file__).parents[1] / "docs" / "reference" / "api.rst"
    lines = re.findall(
        r"^(?:\.\. currentmodule:: (\w+)|   ([\w.]+))$", page.read_text("utf-8"), re.MULTILINE
    )
    home, n = "", 0
    for package, name in lines:
        home = package or home
        if name:
            *rooms, last = name.split(".")
            assert _exists(home, rooms, last), f"{home}.{name}"
            n += 1
    assert n > 60


def _exists(home, rooms, last):
    """Whether modules, or a class in the last of them, have this name."""
    module = import_module(home)
    for room in rooms:
        found = getattr(module, room, None)
        module = import_module(f"{module.__name__}.{room}") if found is None else found
    return hasattr(module, last)
