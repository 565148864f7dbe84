"""Whether everything from the archive to a redshift works here and now: ``gaia-redshift doctor``.

Each step of a prediction is tried on one spectrum and told in plain words, with what to do where it
fails. It is also what a report of a fault should hold.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from gaia_redshift import __version__
from gaia_redshift._extras import find_version
from gaia_redshift._quiet import preserve_settings
from gaia_redshift.archive.connection import Connections
from gaia_redshift.archive.datalink import request_spectra
from gaia_redshift.archive.failures import Patience, read_reason
from gaia_redshift.archive.jobs import ask_now
from gaia_redshift.archive.releases import (
    DEFAULT_RELEASE,
    GALAXIES,
    NEIGHBOURS,
    QUASARS,
    Release,
    ReleaseTables,
    find_release,
    find_tables,
)
from gaia_redshift.archive.settings import ArchiveSettings, Login, find_cache_root
from gaia_redshift.archive.web import TimedSession, to_answer
from gaia_redshift.errors import ArchiveError, GaiaRedshiftError
from gaia_redshift.spectra import XPSpectra

__all__ = ["Examination", "Finding", "examine"]

KNOWN_SOURCE = 5937083312263887616
"""A source with a public spectrum in DR3, where no other can be found."""
_PACKAGES = ("numpy", "astropy", "astroquery", "pyvo", "requests", "GaiaXPy", "onnxruntime")


@dataclass(frozen=True)
class Finding:
    """What one step showed, in one line, and what to do.

    ``ok`` is None where it does not matter for a prediction, or could not be tried.
    """

    name: str
    ok: bool | None
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Examination:
    """All that was found."""

    release: str
    server: str
    findings: list[Finding]

    @property
    def ok(self) -> bool:
        """Whether a redshift could be predicted."""
        return bool(self.findings and self.findings[-1].ok)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        findings = [asdict(one) for one in self.findings]
        about = {"release": self.release, "server": self.server, "ok": self.ok}
        return {**about, "findings": findings}

    def __str__(self) -> str:
        words = {True: "ok", False: "no", None: "-"}
        lines = [f"Gaia {self.release} from {self.server}"]
        for one in self.findings:
            lines.append(f"{words[one.ok]:<4}{one.name:<14}{one.found}")
            if one.advice:
                lines.append(f"{'':<18}-> {one.advice}")
        return "\n".join(lines)


@preserve_settings()
def examine(
    release: str | Release = DEFAULT_RELEASE,
    *,
    source_id: int | None = None,
    model: Any = None,
    settings: ArchiveSettings | None = None,
    login: Login = None,
) -> Examination:
    """Try everything that a prediction from the archive needs; what fails is found, not raised.

    ``source_id`` is the source to fetch, by default any with a public spectrum.
    """
    found = find_release(release)
    settings = settings or ArchiveSettings()
    settings = replace(
        settings, tries=min(settings.tries, 2), deadline=min(settings.deadline, 120.0)
    )
    doctor = _Doctor(found, settings, model)
    doctor.run(login, source_id)
    return Examination(found.name, urlsplit(settings.gaia_data_url).netloc, doctor.findings)


class _Doctor:
    def __init__(self, release: Release, settings: ArchiveSettings, model: Any) -> None:
        self.release, self.settings, self.model = release, settings, model
        self.findings: list[Finding] = []

    def run(self, login: Login, source_id: int | None) -> None:
        self.findings.append(Finding("versions", True, _list_versions()))
        self._see_services()
        connections = self._try(
            "client",
            lambda: Connections(self.settings, login, notes=find_cache_root()),
            lambda it: "logged in" if it.logged_in else "no login (public data need none)",
            "check user name and password, or leave --login out",
        )
        if connections is None:
            return
        tables = self._try(
            "tables",
            lambda: find_tables(connections, self.release, self._patience(), refresh=True),
            self._describe_tables,
            "ids can be fetched all the same; queries, and why a source has no spectrum, need them",
        )
        if source_id is None:
            source_id = self._find_source(connections, tables)
        spectra = self._fetch(connections, source_id)
        if spectra is not None and self._see_bases(spectra):
            self._predict(spectra)

    def _patience(self) -> Patience:
        return Patience(self.settings, self.settings.deadline)

    def _try(
        self, name: str, do: Callable[[], Any], describe: Callable[[Any], str], advice: str
    ) -> Any:
        """Do one step and note what it showed; None if it failed."""
        try:
            result = do()
            self.findings.append(Finding(name, True, describe(result)))
        except GaiaRedshiftError as error:
            self.findings.append(Finding(name, False, str(error), advice))
            return None
        return result

    def _see_services(self) -> None:
        needed = {"TAP": "gaia_tap_url", "DataLink": "gaia_data_url"}
        others = {"XMatch": "xmatch_url", "TAPVizieR": "vizier_tap_url"}
        for name, setting in {**needed, **others}.items():
            session = TimedSession(getattr(self.settings, setting), self.settings, timeout=15.0)
            path = "/availability" if "tap" in setting else ""
            try:
                with session.asking("", time.monotonic() + 20):
                    answer = to_answer(session.get(f"{session.url}{path}", allow_redirects=False))
                page = answer.is_web_page and answer.status == 200
                said = f" ('{read_reason(answer)[:60]}')" if page else ""
                ok = answer.status not in (502, 503, 504) and not page
                text, advice = f"{session.host} answers (HTTP {answer.status}){said}", ""
            except ArchiveError as error:
                ok, text = False, str(error)
            if not ok:
                advice = (
                    "it may be down or overloaded: try again later; behind a proxy, set HTTPS_PROXY"
                    if name in needed
                    else "cross-matches can ask the other service, or use a local catalogue"
                )
            self.findings.append(Finding(name, ok if name in needed else ok or None, text, advice))

    def _describe_tables(self, tables: ReleaseTables) -> str:
        flag = tables.find_flag()
        parts = [
            f"spectra told by {flag.table}{f'.{flag.column}' if flag.column else ' (a row)'}",
            f"positions in {tables.find_positions()}",
            f"magnitudes in {tables.find_magnitudes()}",
        ]
        parts += [
            f"{table}: {', '.join(tables.list_redshifts(table)) or 'no redshift columns'}"
            for table in (GALAXIES, QUASARS)
            if table in tables.columns
        ]
        if NEIGHBOURS in tables.columns:
            parts.append(NEIGHBOURS)
        return "; ".join(parts)

    def _find_source(self, connections: Connections, tables: ReleaseTables | None) -> int:
        if tables is not None:
            try:
                flag = tables.find_flag()
                where = f" WHERE {flag.column} {flag.condition}" if flag.column else ""
                adql = f"SELECT TOP 1 source_id FROM {flag.table}{where}"
                rows = ask_now(connections.tap, adql, self._patience(), maxrec=10)
                return int(rows[rows.colnames[0]][0])
            except (ArchiveError, IndexError, ValueError) as error:
                text = str(error) if isinstance(error, ArchiveError) else "no source was found"
                self.findings.append(Finding("source", None, text, "name one with --source-id"))
        return KNOWN_SOURCE

    def _fetch(self, connections: Connections, source_id: int) -> XPSpectra | None:
        word = connections.find_structure(self.release)
        word.forget()
        ids = np.array([source_id], dtype=np.int64)
        patience = self._patience()

        def fetch() -> XPSpectra:
            spectra = patience.run(
                lambda: request_spectra(connections, ids, self.release, until=patience.ends)
            )
            if spectra is None:
                raise ArchiveError(f"{connections.data_host} has no spectrum of {source_id}")
            return spectra

        return self._try(  # type: ignore[no-any-return]
            "spectrum",
            fetch,
            lambda it: (
                f"of {source_id}: {it.bp.n_coefficients[0]} BP + {it.rp.n_coefficients[0]} RP"
                f" coefficients, basis ids {it.bp.basis_id[0]} and {it.rp.basis_id[0]};"
                f" {self.release.retrieval_type}, structure {word.word}"
            ),
            "name another source with --source-id; where the archive's words are at fault, update"
            " the package (pip install -U gaia-redshift)",
        )

    def _see_bases(self, spectra: XPSpectra) -> bool:
        from gaia_redshift.sampling.bases import compute_design_matrices, find_basis_set

        bands = (spectra.bp, spectra.rp)
        numbers = [int(b.n_coefficients[0]) for b in bands] + [int(b.basis_id[0]) for b in bands]

        def find() -> Any:
            basis_set = find_basis_set(*numbers)
            if basis_set is None:
                raise ArchiveError(f"{numbers[0]} + {numbers[1]} coefficients are on no known set")
            compute_design_matrices(basis_set=basis_set)
            return basis_set

        return bool(
            self._try(
                "bases",
                find,
                lambda it: f"{it.name}{f', of {it.release}' if it.release else ''}",
                "update GaiaXPy (pip install -U GaiaXPy), or add them with register_basis_set",
            )
        )

    def _predict(self, spectra: XPSpectra) -> None:
        from gaia_redshift.flags import decode_flags
        from gaia_redshift.model.registry import DEFAULT_MODEL
        from gaia_redshift.predict import predict_table

        model = DEFAULT_MODEL if self.model is None else self.model

        def predict() -> Any:
            row = predict_table(spectra, model=model)[0]
            if row["redshift_cnn"] is np.ma.masked:
                words = ", ".join(decode_flags(int(row["flags_cnn"]))) or "no flag"
                raise ArchiveError(f"no redshift from this spectrum ({words})")
            return row

        self._try(
            "prediction",
            predict,
            lambda row: f"z = {float(row['redshift_cnn']):.3f} by {model} (if it is a galaxy)",
            "try another source with --source-id; for another release, train or fine-tune a model,"
            " or predict with --any-release, knowing that calibrations differ",
        )


def _list_versions() -> str:
    parts = [f"gaia_redshift {__version__}", f"Python {platform.python_version()}"]
    parts += [f"{name} {find_version(name) or 'is missing'}" for name in _PACKAGES]
    return ", ".join(parts)
