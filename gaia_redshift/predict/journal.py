"""What of a run is done, on disk, so that a killed one goes on where it was.

A folder beside the output holds ``plan.json`` (what is to be done), numbered parts of the result,
and ``journal.jsonl``, a line for each part. A part is complete under its name before the journal
speaks of it; what the journal does not speak of is done again. So a run may be killed at any
moment.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from gaia_redshift._files import write_text, written_whole
from gaia_redshift.errors import InputError
from gaia_redshift.readers.files import READERS
from gaia_redshift.readers.sources import as_json, find_changes, read_request, write_request
from gaia_redshift.tables import join_meta, stack_rows
from gaia_redshift.tables.arrow import ParquetSink, take_numbers
from gaia_redshift.tables.columns import take_table

if TYPE_CHECKING:
    from astropy.table import Table

    from gaia_redshift.tables import PredictedRows

__all__ = ["Journal", "compare_plans", "name_folder"]

logger = logging.getLogger(__name__)

PART_ROWS = 32_768
PART_SECONDS = 20.0
"""After so many rows or seconds what has been predicted is written: that is what a kill loses."""


def name_folder(output: Path) -> Path:
    """Return the folder of an unfinished run."""
    return output.with_name(f".{output.name}.unfinished")


def compare_plans(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return what differs, in words; None if nothing does."""
    for key in ("version", "model"):
        if before.get(key) != now[key]:
            return f"another {key} ({before.get(key)}, now {now[key]})"
    old, new = before.get("options", {}), now["options"]
    if changed := find_changes(old, new):
        return f"other options ({', '.join(changed)})"
    if len(before["inputs"]) != len(now["inputs"]):
        return f"{len(before['inputs'])} inputs, now {len(now['inputs'])}"
    for was, is_now in zip(before["inputs"], now["inputs"], strict=True):
        if was.get("what") != is_now["what"]:
            return f"the input {was.get('what')} where {is_now['what']} is now"
        if was != is_now:
            return f"another content of {is_now['what']} (it has changed since)"
    return None


class Journal:
    """The parts of one output, written in order, by a plan of `describe_plan`.

    ``resume`` goes on with what is there; without anything there it begins. ``restart`` discards
    what is there. (What holds no part yet is discarded anyway.) Refused is what another run
    writes, what belongs to other inputs or options, and what is neither continued nor discarded.
    """

    def __init__(
        self, output: Path, plan: Mapping[str, Any], *, resume: bool, restart: bool
    ) -> None:
        self.folder = name_folder(output)
        self.parts: list[dict[str, Any]] = []
        self.failed: dict[int, str] = {}
        self.position = (0, 0)
        self._rows: list[PredictedRows] = []
        self._segments: list[list[int]] = []
        self._noted: Any = None
        self._since = time.monotonic()
        self._lock: IO[str] | None = None
        self._lines: IO[str] | None = None
        if self.folder.is_symlink():  # what is there is not ours to discard
            raise InputError(f"{self.folder} is a link to another place: remove it")
        try:
            self.folder.mkdir(exist_ok=True)
            self._lock = _lock(self.folder, output)
            lines = self._load(output, restart)
            if resume and lines is not None:
                self._check_plan(output, plan)
                # What lies behind the last whole line is done again.
                write_text(self.folder / "journal.jsonl", "".join(lines))
            elif self.parts and not restart and not resume:
                raise InputError(
                    f"an unfinished run of {output} is here ({self.n_rows:,} rows): continue it"
                    " with resume (--resume), or discard it with overwrite (--overwrite)"
                )
            else:
                self._begin(plan)
            self._noted = (self.position, len(self.failed))
            self._lines = (self.folder / "journal.jsonl").open("a", encoding="utf-8")
        except OSError as error:
            self.close()
            raise InputError(f"cannot write beside {output}: {error.strerror or error}") from error
        except BaseException:
            self.close()
            raise

    @property
    def n_rows(self) -> int:
        """Rows in the parts, those of failed inputs included."""
        return sum(n for part in self.parts for _, n in part["segments"])

    def append(self, index: int, rows: PredictedRows) -> None:
        """Add the next rows of an input."""
        if self._rows and _list_types(rows.columns) != _list_types(self._rows[-1].columns):
            self.flush()  # types are joined at the end, by those of all inputs
        self._rows.append(rows)
        self._segments.append([index, len(rows)])
        row = self.position[1] if index == self.position[0] else 0
        self.position = (index, row + len(rows))
        waiting = sum(n for _, n in self._segments)
        if waiting >= PART_ROWS or time.monotonic() - self._since > PART_SECONDS:
            self.flush()

    def end(self, index: int, failure: str | None) -> None:
        """Note that an input is done, or has failed: its rows then do not count."""
        self.position = (index + 1, 0)
        if failure is not None:
            self.failed[index] = failure
            self.flush()

    def flush(self) -> None:
        """Write what is waiting, and note it."""
        if not self._rows and self._noted == (self.position, len(self.failed)):
            return
        line: dict[str, Any] = {
            "next": list(self.position),
            "failed": {str(index): why for index, why in self.failed.items()},
            "segments": self._segments,
        }
        try:
            if self._rows:
                table = stack_rows(self._rows).to_table()
                columns, block = take_table(table)
                name = f"part-{len(self.parts):06d}.parquet"
                with written_whole(self.folder / name) as file:
                    sink = ParquetSink(file, columns, table.meta, for_astropy=False)
                    with closing(sink):
                        sink.write(block)
                line |= {
                    "part": name,
                    "bytes": (self.folder / name).stat().st_size,
                    "columns": {column.name: column.note for column in columns},
                    "inputs": table.meta.get("inputs", []),
                    "release": table.meta["data_release"],
                }
            assert self._lines is not None
            self._lines.write(json.dumps(line) + "\n")
            self._lines.flush()
            os.fsync(self._lines.fileno())
        except OSError as error:
            raise InputError(f"cannot write in {self.folder}: {error.strerror}") from error
        if self._rows:
            self.parts.append(line)
        self._noted = (self.position, len(self.failed))
        self._rows, self._segments = [], []
        self._since = time.monotonic()

    def read_parts(self) -> Iterator[Table]:
        """Read the parts in order, without the rows of failed inputs."""
        for part in self.parts:
            rows = self._choose_rows(part)
            if rows.any():
                table = READERS["parquet"](self.folder / part["part"])
                yield table if rows.all() else table[rows]

    def read_example(self) -> Table:
        """Read a row of each column, with its description, and the provenance of all parts."""
        parts = [part for part in self.parts if self.count_rows(part)]
        example: Any = None
        for part in parts:
            if example is not None and set(part["columns"]) <= set(example.colnames):
                continue
            table = READERS["parquet"](self.folder / part["part"])[:1]
            if example is None:
                example = table
            for name in table.colnames:
                if name not in example.colnames:
                    example[name] = table[name]
        noted = [{"inputs": part["inputs"], "data_release": part["release"]} for part in parts]
        example.meta.update(join_meta([example.meta, *noted]))
        return example

    def read_ids(self) -> Iterator[np.ndarray[Any, np.dtype[np.int64]]]:
        """Read the source ids alone, part by part."""
        from pyarrow import parquet

        for part in self.parts:
            rows = self._choose_rows(part)
            with parquet.ParquetFile(self.folder / part["part"]) as file:
                yield take_numbers(file.read(["source_id"])["source_id"])[0][rows]

    def count_rows(self, part: Mapping[str, Any]) -> int:
        """Return how many rows of a part count."""
        return sum(n for index, n in part["segments"] if index not in self.failed)

    def close(self) -> None:
        """Let go of the files."""
        for file in (self._lines, self._lock):
            if file is not None:
                file.close()
        self._lines = self._lock = None

    def remove(self) -> None:
        """Close, and remove the folder with all that is in it."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _choose_rows(self, part: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        kept = [np.full(n, index not in self.failed) for index, n in part["segments"]]
        return np.concatenate(kept)

    def _load(self, output: Path, restart: bool) -> list[str] | None:
        """Take up the journal as far as it and its parts are whole; None if there is none."""
        before = read_request(self.folder / "plan.json")
        if before is None or (not before and restart):
            return None
        if not before:
            raise InputError(
                f"the unfinished run of {output} cannot be continued: {self.folder}/plan.json is"
                " damaged; discard it with overwrite (--overwrite)"
            )
        self._before = before
        lines: list[str] = []
        with suppress(FileNotFoundError):
            written = (self.folder / "journal.jsonl").read_text("utf-8", "replace")
            for text in written.splitlines(True):
                try:
                    line = json.loads(text if text.endswith("\n") else "")
                    position = (int(line["next"][0]), int(line["next"][1]))
                    failed = {int(index): str(why) for index, why in line["failed"].items()}
                    if "part" in line:
                        part = self.folder / Path(line["part"]).name
                        if not part.exists() or part.stat().st_size != line["bytes"]:
                            break
                        self.parts.append(line)
                except (ValueError, TypeError, LookupError, AttributeError):  # cut by the kill
                    break
                self.position, self.failed = position, failed
                lines.append(text)
        return lines

    def _check_plan(self, output: Path, plan: Mapping[str, Any]) -> None:
        different = compare_plans(self._before, as_json(plan))
        if different:
            raise InputError(
                f"the unfinished run of {output} cannot be continued: it was begun with"
                f" {different}; give the same again, or discard it with overwrite (--overwrite)"
            )

    def _begin(self, plan: Mapping[str, Any]) -> None:
        for path in self.folder.iterdir():
            if path.name == "plan.json" or path.name.lstrip(".").startswith(
                ("part-", "journal.jsonl", "plan.json")
            ):
                path.unlink()
        self.parts, self.failed, self.position = [], {}, (0, 0)
        write_request(self.folder / "plan.json", plan)


def _list_types(columns: Table | None) -> list[tuple[str, Any]]:
    """Return what the kept columns in one part have in common; text may be of any width."""
    if columns is None:
        return []
    kinds = [(name, columns[name].dtype) for name in columns.colnames]
    return [(name, "text" if kind.kind in "OSU" else kind.str) for name, kind in kinds]


def _lock(folder: Path, output: Path) -> IO[str]:
    """Keep other processes out; the lock goes with the process, however that ends."""
    file = (folder / "lock").open("w")
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows: there two runs must be kept apart by the user
        logger.debug("no locks on this system")
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
            logger.debug("no locks on this file system")
            return file
        file.close()
        raise InputError(f"another process is writing {output}: wait for it, or end it") from error
    return file
