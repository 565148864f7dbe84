"""Cross-matches through the real clients of CDS XMatch, TAPVizieR and SkyServer, on doubles."""

import os
import time

import numpy as np
import pytest
from astropy.table import Table, vstack
from doubles.loopback import Fault
from doubles.skyserver import SkyServerDouble
from doubles.xmatch import CdsDouble
from sky import FIELDS, make_field, make_specobj, read_numbers, shift, to_sdss16

from gaia_redshift import crossmatch_sdss
from gaia_redshift.archive import ArchiveSettings
from gaia_redshift.cli import main
from gaia_redshift.crossmatch import MatchFlag, sdss
from gaia_redshift.errors import ArchiveError, InputError

SERVICES = ("xmatch", "tapvizier", "skyserver")


@pytest.fixture(scope="module")
def sky():
    """Sources across RA 0, at the poles, crowded; three in four have a spectrum."""
    rng = np.random.default_rng(5)
    fields = [make_field(centre, 40, 30.0, rng) for centre in FIELDS.values()]
    fields.append(make_field((200.0, 30.0), 60, 1.5, rng))  # crowded
    fields.append((rng.uniform(0, 360, 40), rng.uniform(-60, 60, 40)))
    ra, dec = (np.concatenate(parts) for parts in zip(*fields, strict=True))
    n = len(ra)
    table = Table({"source_id": np.arange(n) + 10**18, "ra": ra, "dec": dec})
    specobj = make_specobj(np.arange(n), *shift(ra, dec, *rng.normal(0, 0.05, (2, n))))
    specobj["zWarning"][::10] = 4
    specobj["class"][1::10] = "STAR"
    return table, specobj[rng.random(n) < 0.75]


@pytest.fixture(scope="module")
def services(sky):
    with CdsDouble(to_sdss16(sky[1])) as cds, SkyServerDouble(sky[1]) as skyserver:
        yield cds, skyserver


@pytest.fixture
def settings(services):
    cds, skyserver = services
    for double in services:
        double.faults.clear()
        double.requests.clear()
    return ArchiveSettings(
        xmatch_url=cds.xmatch_url,
        vizier_tap_url=cds.vizier_tap_url,
        skyserver_url=skyserver.url,
        timeout=10.0,
        first_wait=0.01,
        longest_wait=0.05,
        tries=4,
        query_deadline=60.0,
    )


def double_of(services, service):
    return services[1] if service == "skyserver" else services[0]


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_gives_what_the_catalogue_at_hand_gives(service, sky, settings):
    table, specobj = sky
    expected = crossmatch_sdss(table, local=specobj)
    matched = crossmatch_sdss(table, service=service, settings=settings)
    assert (read_numbers(matched) >= 0).sum() > 100
    assert (read_numbers(matched) == read_numbers(expected)).all()
    for name in ("match_flag_sdss", "class_sdss", "zwarning_sdss", "id_sdss"):
        assert matched[name].tolist() == expected[name].tolist(), name
    np.testing.assert_allclose(
        np.ma.filled(matched["separation_sdss"], -1),
        np.ma.filled(expected["separation_sdss"], -1),
        atol=1e-5,
    )
    flags = np.asarray(matched["match_flag_sdss"])
    assert (flags & MatchFlag.AMBIGUOUS).any()
    assert (flags & MatchFlag.REJECTED).any()


@pytest.mark.parametrize("service", SERVICES)
def test_many_positions_go_in_several_requests(service, sky, services, settings, monkeypatch):
    monkeypatch.setattr(sdss, "POSITIONS_AT_ONCE", 50)
    table, specobj = sky
    matched = crossmatch_sdss(vstack([table, table]), service=service, settings=settings)
    once = read_numbers(crossmatch_sdss(table, local=specobj))
    assert (read_numbers(matched) == np.tile(once, 2)).all()
    requests = double_of(services, service).requests
    assert len(requests) >= 3  # of each source once, though the table has it twice
    if service == "skyserver":
        assert max(len(request.fields["cmd"]) for request in requests) < 1600


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", "", status=503, retry_after="0"),
        Fault("status", "", status=500, times=2),
        Fault("reset", ""),
        Fault("truncate", ""),
        Fault("never", ""),
    ],
    ids=lambda fault: f"{fault.kind}{fault.status if fault.kind == 'status' else ''}",
)
def test_what_may_pass_is_tried_again(service, fault, sky, services, settings):
    from dataclasses import replace

    table = sky[0][-20:]
    expected = read_numbers(crossmatch_sdss(table, service=service, settings=settings))
    double = double_of(services, service)
    before = len(double.requests)
    double.faults.append(replace(fault))
    if fault.kind == "never":
        settings = replace(settings, timeout=1.0)
    matched = crossmatch_sdss(table, service=service, settings=settings)
    assert (read_numbers(matched) == expected).all()
    asked = double.requests[before:]
    assert [request.fault for request in asked[: fault.times + 1]] == [
        *[fault.kind] * fault.times,
        None,
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_rubbish_with_http_200_is_not_kept_and_replayed(service, sky, services, settings):
    """astroquery would cache it."""
    table = sky[0][-5:]
    double = double_of(services, service)
    double.faults.append(Fault("body", "", body=b"<VOTABLE><oh", times=1))
    matched = crossmatch_sdss(table, service=service, settings=settings)
    assert (read_numbers(matched) == read_numbers(crossmatch_sdss(table, local=sky[1]))).all()
    double.faults.append(Fault("body", "", body=b"<VOTABLE><oh", times=99))
    with pytest.raises(ArchiveError, match=r"damaged answer|cut short|part of the rows"):
        crossmatch_sdss(table, service=service, settings=settings)


def test_a_csv_cut_short_inside_valid_http_is_noticed(sky, services, settings):
    _, skyserver = services
    table = sky[0][:40]
    skyserver.faults.append(Fault("short_csv", ""))
    matched = crossmatch_sdss(table, service="skyserver", settings=settings)
    assert (read_numbers(matched) == read_numbers(crossmatch_sdss(table, local=sky[1]))).all()
    assert [request.fault for request in skyserver.requests][:2] == ["short_csv", None]


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("html", "", times=99), "web page instead of data"),
        (Fault("status", "", status=404, times=99), "does not know"),
        (Fault("status", "", status=403, times=99), "refused"),
        (Fault("status", "", status=500, times=99), "tried 4 times"),
    ],
    ids=["maintenance", "404", "403", "500"],
)
def test_failures_are_one_clear_line(service, fault, words, sky, services, settings):
    from dataclasses import replace

    double = double_of(services, service)
    double.faults.append(replace(fault))
    with pytest.raises(ArchiveError, match=words) as error:
        crossmatch_sdss(sky[0][:3], service=service, settings=settings)
    assert "\n" not in str(error.value)
    assert "127.0.0.1" in str(error.value)


@pytest.mark.parametrize("service", SERVICES)
def test_a_server_that_never_answers_ends_within_the_deadline(service, sky, services, settings):
    from dataclasses import replace

    double_of(services, service).faults.append(Fault("never", "", times=99))
    settings = replace(settings, timeout=0.3, query_deadline=2.0)
    started = time.monotonic()
    with pytest.raises(ArchiveError, match="did not answer"):
        crossmatch_sdss(sky[0][:3], service=service, settings=settings)
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("service", SERVICES)
def test_nobody_listens(service, sky, settings):
    from dataclasses import replace

    nobody = "http://127.0.0.1:9/x"
    settings = replace(
        settings, xmatch_url=nobody, vizier_tap_url=nobody, skyserver_url=nobody, tries=2
    )
    with pytest.raises(ArchiveError, match=r"refuses connections; tried 2 times"):
        crossmatch_sdss(sky[0][:3], service=service, settings=settings)


def test_a_neighbour_without_a_spectrum_is_no_galaxy_with_one(sky):
    """VizieR has photometric objects too: the nearest one is what the source is."""
    specobj = make_specobj([1, 2], [10.0, 10.0], [0.0, 0.7 / 3600])
    rows = to_sdss16(specobj)
    rows = Table(rows, masked=True)
    for name in ("zsp", "e_zsp", "spCl"):
        rows[name].mask[0] = True
    with CdsDouble(rows) as cds:
        settings = ArchiveSettings(xmatch_url=cds.xmatch_url, vizier_tap_url=cds.vizier_tap_url)
        for service in ("xmatch", "tapvizier"):
            matched = crossmatch_sdss(
                {"ra": [10.0], "dec": [0.0]}, service=service, settings=settings
            )
            assert read_numbers(matched).tolist() == [-1]
            expected = MatchFlag.NO_SPECTRUM | MatchFlag.AMBIGUOUS
            assert matched["match_flag_sdss"][0] == expected
    rows["mode"][0] = 2  # a second detection of something: no object of its own
    with CdsDouble(rows) as cds:
        settings = ArchiveSettings(xmatch_url=cds.xmatch_url)
        matched = crossmatch_sdss({"ra": [10.0], "dec": [0.0]}, settings=settings)
        assert read_numbers(matched).tolist() == [2]


def test_sql_that_skyserver_refuses_is_said(sky, services, settings, monkeypatch):
    monkeypatch.setattr(sdss, "_list_boxes", lambda *_: iter(["s.nonsense = 1"]))
    with pytest.raises(ArchiveError, match=r"refused the cross-match.*nonsense"):
        crossmatch_sdss(sky[0][:3], service="skyserver", settings=settings)


def test_addresses_come_from_the_environment_and_nothing_is_left_behind(
    sky, services, settings, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.setenv("GAIA_REDSHIFT_XMATCH_URL", services[0].xmatch_url)
    sky[0].write(tmp_path / "sources.ecsv")
    monkeypatch.chdir(folder)
    command = ["crossmatch", str(tmp_path / "sources.ecsv"), "-o", str(tmp_path / "out.fits")]
    assert main(command) == 0
    assert "redshifts" in capsys.readouterr().out
    assert os.listdir(folder) == []
    assert {request.path for request in services[0].requests} == {"/xmatch/api/v1/sync"}


def test_no_position_no_request(services, settings):
    matched = crossmatch_sdss({"ra": [np.nan], "dec": [1.0]}, settings=settings)
    assert matched["match_flag_sdss"].tolist() == [MatchFlag.NO_POSITION]
    assert not services[0].requests
    with pytest.raises(InputError, match="no service"):
        crossmatch_sdss({"ra": [1.0], "dec": [1.0]}, service="simbad", settings=settings)
