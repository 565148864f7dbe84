"""What was learnt of a server, kept on disk so that a later call need not ask again.

One small JSON file for each server: the word for a data structure, the tables that a release has,
the addresses of jobs that still run. It may be deleted at any time.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gaia_redshift._files import write_text

__all__ = ["Notes"]

logger = logging.getLogger(__name__)


class Notes:
    """Values by key, each with the time when it was learnt.

    ``folder`` is the root of the cache; None keeps them in memory alone.
    """

    def __init__(self, folder: Path | None, url: str) -> None:
        name = re.sub(r"[^\w.-]", "_", urlsplit(url).netloc)
        self.path = None if folder is None else folder / "servers" / f"{name}.json"
        self._lock = threading.Lock()
        self._values: dict[str, Any] = self._read()

    def _read(self) -> dict[str, Any]:
        if self.path is None:
            return {}
        try:
            values = json.loads(self.path.read_bytes())
        except (OSError, ValueError, RecursionError):  # not there yet, or damaged: learnt again
            return {}
        return values if isinstance(values, dict) else {}

    def get(self, key: str, longest: float = 30 * 86_400.0) -> Any:
        """Return a value that was learnt within the last ``longest`` seconds, else None."""
        entry = self._values.get(key)
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], int | float):
            return None
        return entry[1] if 0 <= time.time() - entry[0] <= longest else None

    def put(self, key: str, value: Any) -> None:
        """Keep a value; None forgets it. That it cannot be written is no reason to stop."""
        with self._lock:
            kept = self._read()  # others may have learnt more, or forgotten something
            for values in (self._values, kept):
                values[key] = [time.time(), value]
                if value is None:
                    del values[key]
            if self.path is None:
                return
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_text(self.path, json.dumps(kept, indent=1))
            except OSError as error:
                logger.info("%s: cannot be written: %s", self.path, error)
