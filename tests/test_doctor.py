"""``gaia-redshift doctor``: what works, what does not and what to do, in plain words."""

import json
from dataclasses import replace

import numpy as np
import pytest
from archive_samples import make_archive, make_draft_archive, make_settings, make_spectra
from doubles.gaia_archive import OLD_WORDS, Fault

import gaia_redshift.sampling.bases as bases
from gaia_redshift import register_basis_set
from gaia_redshift.cli import main
from gaia_redshift.doctor import examine


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    nobody = "http://127.0.0.1:9/x"
    for name in ("XMATCH_URL", "VIZIER_TAP_URL"):
        monkeypatch.setenv(f"GAIA_REDSHIFT_{name}", nobody)
    monkeypatch.setattr(bases, "_SETS", dict(bases._SETS))


def brighten(archive):
    for band in (archive.spectra.bp, archive.spectra.rp):
        band.coefficients[:, 0] = 5e4
    return archive


def by_name(found):
    return {one.name: one for one in found.findings}


def test_all_is_well(capsys):
    with brighten(make_archive(n=5, k=55, structures=OLD_WORDS)) as archive:
        assert main(["doctor", "--server", archive.base]) == 0
    said = capsys.readouterr().out
    assert "ok  spectrum" in said
    assert "55 BP + 55 RP coefficients, basis ids 56 and 57; XP_CONTINUOUS, structure RAW" in said
    assert "spectra told by gaiadr3.gaia_source.has_xp_continuous" in said
    assert "dr3-hermite, of DR3" in said
    assert "z = " in said
    assert "-   XMatch" in said, "what is not needed does not count"


def test_json_is_for_reports(capsys):
    with brighten(make_archive(n=5, k=55)) as archive:
        one = int(archive.spectra.source_id[3])
        command = ["doctor", "--server", archive.base, "--json", "--source-id", str(one)]
        assert main(command) == 0
        assert archive.of("data-server/data")[-1].ids == [one]
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert found["release"] == "DR3"
    assert [one["name"] for one in found["findings"]][-3:] == ["spectrum", "bases", "prediction"]
    assert "astroquery" in found["findings"][0]["found"]


def test_dr4_before_it_is_open(capsys):
    with brighten(make_archive(n=5, k=55)) as archive:
        assert main(["doctor", "--server", archive.base, "--release", "DR4"]) == 1
    said = capsys.readouterr().out
    assert "no tables of Gaia DR4" in said
    assert "2 December 2026" in said
    assert "no  spectrum" in said


@pytest.mark.parametrize("known", [False, True])
def test_dr4_with_its_draft_tables(known):
    with brighten(make_draft_archive(8, 4, k=55)) as archive:
        archive.spectra = replace(
            archive.spectra,
            bp=make_spectra(8, 51).bp,
        )
        for band in (archive.spectra.bp, archive.spectra.rp):
            band.basis_id[:] = 0
        if known:
            register_basis_set("new", lambda band, x: np.ones((51 if band == "bp" else 55, len(x))))
        found = examine("DR4", settings=make_settings(archive))
    findings = by_name(found)
    assert "gaiadr4.all_source_flags.has_xp" in findings["tables"].found
    assert "galaxy_candidates: redshift_ugc" in findings["tables"].found
    assert "51 BP + 55 RP coefficients" in findings["spectrum"].found
    assert not found.ok
    if known:
        assert "for spectra of DR3, these are of DR4" in findings["prediction"].found
        assert "fine-tune" in findings["prediction"].advice
    else:
        assert "no known set" in findings["bases"].found
        assert "GaiaXPy" in findings["bases"].advice


def test_nobody_answers():
    with make_archive(n=1) as archive:
        settings = make_settings(archive)
    found = examine(settings=settings)
    findings = by_name(found)
    assert not found.ok
    for name in ("TAP", "DataLink", "tables", "spectrum"):
        assert "refuses connections" in findings[name].found
        assert findings[name].advice


def test_maintenance():
    with make_archive(n=3, k=55) as archive:
        archive.faults.append(Fault("html", endpoint=".", times=99))
        found = examine(settings=make_settings(archive))
    assert not found.ok
    assert "scheduled maintenance" in by_name(found)["TAP"].found
    assert "scheduled maintenance" in by_name(found)["spectrum"].found
