"""Tables to TOPCAT, Aladin and other programs of the desktop, over SAMP: `send_table`.

SAMP (Simple Application Messaging Protocol, IVOA) has programs register with a hub, usually
TOPCAT's own; a message ``table.load.votable`` names a file for them to load. Only the hub proxy of
PyVO's implementation (astropy's before version 8) is used: its full client would first try to reach
the internet and then listen on a port, and none of that is needed for sending.
"""

from __future__ import annotations

import importlib
import logging
import math
import tempfile
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gaia_redshift._quiet import preserve_settings
from gaia_redshift.errors import GaiaRedshiftError, InputError

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["SampError", "send_table"]

logger = logging.getLogger(__name__)

MESSAGE = "table.load.votable"
HUB_TIMEOUT = 10.0
"""Seconds in which a hub answers; it may be a program that hangs."""
GOODBYE_TIMEOUT = 2.0
T = TypeVar("T")


class SampError(GaiaRedshiftError):
    """No SAMP hub runs, no program there takes tables, or one did not take this table."""


@preserve_settings()
def send_table(
    table: Table, *, recipient: str | None = None, name: str = "redshifts", timeout: float = 60.0
) -> list[str]:
    """Send a table to TOPCAT, or to other programs that are connected to the SAMP hub.

    Parameters
    ----------
    table : Table
        As `predict_table` returns it; it travels as a VOTable, with units, UCDs and descriptions.
    recipient : str, optional
        Name of a program, in any case ("topcat"), or its id on the hub; by default all that take
        tables.
    name : str
        What the table is called there.
    timeout : float
        Seconds that each program has to load it.

    Returns
    -------
    list of str
        Names of the programs that have loaded it.

    Raises
    ------
    SampError
        If no hub runs or it does not answer, no such program is connected, or a program does not
        load the table.
    InputError
        If it is not a table, or cannot be written as a VOTable.

    Notes
    -----
    The table is a temporary file while the programs load it; file and connection are gone when
    the call returns. The hub is found as the standard says, by ``SAMP_HUB`` or ``~/.samp``.

    Examples
    --------
    >>> from gaia_redshift import predict_table, send_table
    >>> send_table(predict_table("XP_CONTINUOUS_RAW.csv"))  # doctest: +SKIP
    ['topcat']
    """
    from gaia_redshift.tables import write_table

    if not hasattr(table, "colnames"):
        raise InputError(f"send_table takes a table, not {type(table).__name__}")
    if not timeout > 0:
        raise InputError(f"timeout must be positive, not {timeout}")
    with _connect() as hub, tempfile.TemporaryDirectory(prefix="gaia_redshift_") as folder:
        programs = _choose(_within(HUB_TIMEOUT, hub.find_programs), recipient)
        path = Path(folder) / "table.vot"
        write_table(table, path)
        message = {
            "samp.mtype": MESSAGE,
            "samp.params": {
                "url": path.as_uri(),
                "table-id": f"gaia_redshift-{uuid.uuid4()}",
                "name": name,
            },
        }
        taken, failed = [], []
        for identity, program in programs.items():
            try:
                hub.send(identity, message, timeout)
            except SampError as error:
                failed.append(f"{program} did not load the table: {error}")
            else:
                taken.append(program)
    if failed:
        others = f" ({', '.join(taken)} did)" if taken else ""
        raise SampError("; ".join(failed) + others)
    logger.info("sent %d rows to %s", len(table), ", ".join(taken))
    return taken


class _Hub:
    """A connection to the hub that runs, registered under this package's name."""

    def __init__(self) -> None:
        self.proxy = _import_samp().SAMPHubProxy()
        self.key: str | None = None

    def open(self) -> None:
        self.proxy.connect(pool_size=1)
        self.key = self.proxy.register(self.proxy.lockfile["samp.secret"])["samp.private-key"]
        about = {
            "samp.name": "gaia_redshift",
            "samp.description.text": "Galaxy redshifts from Gaia BP/RP spectra",
        }
        self.proxy.declare_metadata(self.key, about)

    def find_programs(self) -> dict[str, str]:
        """Ids and names of the programs that load tables."""
        found = self.proxy.get_subscribed_clients(self.key, MESSAGE)
        return {
            identity: str(self.proxy.get_metadata(self.key, identity).get("samp.name") or identity)
            for identity in found
        }

    def send(self, identity: str, message: dict[str, Any], timeout: float) -> None:
        """Have a program act on a message and wait until it has; SampError if it does not."""
        seconds = str(math.ceil(timeout))
        answer = _within(
            math.ceil(timeout) + HUB_TIMEOUT,
            lambda: self.proxy.call_and_wait(self.key, identity, message, seconds),
        )
        if answer.get("samp.status") not in ("samp.ok", "samp.warning"):
            reason = answer.get("samp.error", {}).get("samp.errortxt") or "it gives no reason"
            raise SampError(" ".join(str(reason).split()))

    def close(self) -> None:
        try:
            if self.key is not None:
                self.proxy.unregister(self.key)
        finally:
            self.proxy.disconnect()


@contextmanager
def _connect() -> Iterator[_Hub]:
    hub = _Hub()
    try:
        try:
            _within(HUB_TIMEOUT, hub.open)
        except SampError as error:
            raise SampError(
                "no SAMP hub can be reached: start TOPCAT (or another program with a hub) on this"
                f" machine first ({error})"
            ) from error
        yield hub
    finally:
        try:
            _within(GOODBYE_TIMEOUT, hub.close)
        except SampError as error:
            logger.debug("the SAMP hub was left without a goodbye: %s", error)


def _choose(programs: dict[str, str], recipient: str | None) -> dict[str, str]:
    if recipient is None:
        if not programs:
            raise SampError(
                "no program that is connected to the SAMP hub takes tables: start TOPCAT"
            )
        return programs
    wanted = recipient.casefold()
    chosen = {k: v for k, v in programs.items() if wanted in (k.casefold(), v.casefold())}
    if not chosen:
        known = ", ".join(sorted(programs.values())) or "none"
        raise SampError(
            f"no program '{recipient}' takes tables over SAMP; connected to the hub and able to:"
            f" {known}"
        )
    return chosen


def _within(seconds: float, function: Callable[[], T]) -> T:
    """Call a function that talks to the hub; XML-RPC itself waits for ever."""
    answer: Future[T] = Future()

    def work() -> None:
        try:
            answer.set_result(function())
        except BaseException as error:  # raised again below, in the caller's thread
            answer.set_exception(error)

    threading.Thread(target=work, name="gaia_redshift-samp", daemon=True).start()
    wait([answer], seconds)
    if not answer.done():
        raise SampError(f"no answer within {seconds:g} s")
    try:
        return answer.result()
    except SampError:
        raise
    except Exception as error:
        reason = getattr(error, "faultString", None) or str(error) or type(error).__name__
        raise SampError(" ".join(str(reason).split())) from error


def _import_samp() -> Any:
    library = None
    with suppress(ImportError):
        library = importlib.import_module("pyvo.samp")
    if not hasattr(library, "SAMPHubProxy"):  # an older PyVO builds on astropy's
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # astropy 8 says that it moved
            library = importlib.import_module("astropy.samp")
    return library
