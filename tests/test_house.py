"""What users can name stays, however the rooms behind it are moved."""

import json
from pathlib import Path

from house import list_features

RECORD = Path(__file__).parent / "data" / "features.json"
"""Made by ``python tests/house.py``; a name may leave it only with a line in CHANGES.md."""


def test_no_option_column_flag_format_or_public_name_is_gone():
    features = list_features()
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    gone = {kind: sorted(set(names) - set(features[kind])) for kind, names in recorded.items()}
    assert not any(gone.values()), gone
