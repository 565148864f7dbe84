"""`crossmatch_sdss` over a real TAP service, on made-up catalogues whose pairs are known."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from gaia_redshift.archive.settings import ArchiveSettings
from gaia_redshift.crossmatch import MatchFlag, crossmatch_sdss

N_ROWS = 6_000


@pytest.fixture
def settings(tap_url, monkeypatch) -> ArchiveSettings:
    # TAPVizieR's table has a name that no other server can give a table; it is asked in quotes.
    monkeypatch.setattr("gaia_redshift.crossmatch.sdss.VIZIER_TABLE", 'sdss"."sdss16')
    return ArchiveSettings(vizier_tap_url=tap_url, timeout=120, query_deadline=240, tries=2)


@pytest.fixture
def mine(catalogue) -> Table:
    sources = catalogue.tables["gaiadr3.gaia_source"]
    return Table({name: sources[name][:N_ROWS] for name in ("source_id", "ra", "dec")})


def test_6000_sources_get_their_own_objects(settings, mine, catalogue):
    result = crossmatch_sdss(
        mine, service="tapvizier", zwarning=None, classes=None, settings=settings
    )
    np.testing.assert_array_equal(result["source_id"], mine["source_id"])
    sdss = catalogue.tables["sdss.sdss16"]
    redshift_of = dict(zip(sdss["objid"].tolist(), sdss["zsp"].tolist(), strict=True))
    ids = mine["source_id"].tolist()
    true_ids = [catalogue.sdss_of.get(i) for i in ids]
    hidden = np.ma.getmaskarray(np.ma.asarray(result["redshift_sdss"]))
    np.testing.assert_array_equal(hidden, [one is None for one in true_ids])
    assert (~hidden).sum() > 4_500
    found = [None if no else int(one) for one, no in zip(result["id_sdss"], hidden, strict=True)]
    assert found == true_ids
    np.testing.assert_allclose(
        np.asarray(result["redshift_sdss"][~hidden]),
        [redshift_of[one] for one in true_ids if one is not None],
        rtol=1e-6,
    )
    separation = np.asarray(result["separation_sdss"][~hidden])
    assert 0 < separation.min() < separation.max() <= 0.5 + 1e-3
    ambiguous = (np.asarray(result["match_flag_sdss"]) & MatchFlag.AMBIGUOUS) != 0
    np.testing.assert_array_equal(ambiguous, [i in catalogue.doubled for i in ids])
    assert ambiguous.any()


def test_cuts_leave_good_galaxies(settings, mine, catalogue):
    result = crossmatch_sdss(mine, service="tapvizier", settings=settings)
    sdss = catalogue.tables["sdss.sdss16"]
    good = sdss["objid"][(sdss["f_zsp"] == 0) & (sdss["spcl"] == "GALAXY")]
    good = set(good.tolist())
    expected = [catalogue.sdss_of.get(i) in good for i in mine["source_id"].tolist()]
    hidden = np.ma.getmaskarray(np.ma.asarray(result["redshift_sdss"]))
    np.testing.assert_array_equal(~hidden, expected)
    assert set(result["class_sdss"][~hidden]) == {"GALAXY"}
    assert set(result["zwarning_sdss"][~hidden].tolist()) == {0}
