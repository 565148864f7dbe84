"""Fetching spectra: the real client against a double of the archive that fails in every way."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from archive_samples import (
    FIRST_ID,
    check_rows,
    make_archive,
    make_draft_archive,
    make_settings,
    make_sources,
    make_spectra,
)
from astropy.table import Table
from doubles.gaia_archive import NEW_WORDS, OLD_WORDS, Fault, GaiaArchiveDouble
from doubles.gaia_products import pack_members, write_spectra

from gaia_redshift import XPSpectra, fetch_spectra
from gaia_redshift.archive import (
    FetchStatus,
    fetch_with_account,
    open_stream,
    read_ids,
    run_query,
    use_mirror,
)
from gaia_redshift.archive.cache import SpectraCache, list_cache_folders
from gaia_redshift.archive.connection import read_refusal
from gaia_redshift.archive.failures import Answer, parse_retry_after
from gaia_redshift.archive.releases import RELEASES
from gaia_redshift.archive.settings import ArchiveSettings
from gaia_redshift.errors import (
    ArchiveError,
    GaiaRedshiftWarning,
    InputError,
    MissingColumnError,
)
from gaia_redshift.flags import QualityFlag

TESTS = Path(__file__).parent


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("CACHE_DIR", "CACHE_GB", "TAP_URL", "DATA_URL"):
        monkeypatch.delenv(f"GAIA_REDSHIFT_{name}", raising=False)


def ask_for(archive, n_unknown=3, n_repeated=5, seed=3):
    """Ids with spectra, without, unknown ones and repeated ones, mixed."""
    rng = np.random.default_rng(seed)
    table = archive.database.query("SELECT source_id FROM gaiadr3.gaia_source")
    known = np.array(table["source_id"])
    unknown = 10**15 + np.arange(n_unknown)
    ids = np.concatenate([known, unknown, rng.choice(known, n_repeated)])
    return rng.permutation(ids)


def check_flags(got, archive, asked):
    has = np.array([int(i) in archive.row_of for i in asked])
    unknown = np.asarray(asked) < FIRST_ID
    bits = got.flags & ~int(QualityFlag.DUPLICATE_SOURCE_ID)
    assert (bits[has] == 0).all()
    assert (bits[unknown] == QualityFlag.UNKNOWN_SOURCE_ID).all()
    assert (bits[~has & ~unknown] == QualityFlag.NO_PUBLIC_XP).all()
    _, where, counts = np.unique(asked, return_inverse=True, return_counts=True)
    repeated = (got.flags & QualityFlag.DUPLICATE_SOURCE_ID) != 0
    np.testing.assert_array_equal(repeated, counts[where] > 1)


# --- every id is accounted for ------------------------------------------------------------------


def test_every_id_is_answered_through_every_fault():
    """12,001 rows: the result is that of a faultless archive, and says so of each row."""
    spectra = make_spectra(9000)
    with GaiaArchiveDouble(spectra, make_sources(spectra, n_without=2000)) as archive:
        asked = ask_for(archive, n_unknown=500, n_repeated=501)
        assert len(asked) == 12_001
        settings = make_settings(archive, chunk_size=500, parallel=3, tries=20)
        archive.faults += [
            Fault("status", status=500, times=3),
            Fault("status", status=503, retry_after="1", skip=2),
            Fault("reset", times=2, skip=3),
            Fault("cut_zip", times=2, skip=1),
            Fault("truncate", skip=4),
            Fault("corrupt", skip=2),
            Fault("short", times=2, skip=3),
            Fault("short_csv", times=2, skip=2),
            Fault("slow", skip=5, delay=1.0),
            Fault("empty", skip=1),
            Fault("status", endpoint="tap/sync", status=500, times=2),
            Fault("reset", endpoint="tap/sync", skip=4),
            Fault("truncate", endpoint="tap/sync", skip=2),
        ]
        got, account = fetch_with_account(asked, settings=settings)
        assert all(fault.times == 0 for fault in archive.faults), "every fault happened"
        assert account.complete, account.summary()
        check_rows(got, asked, archive)
        check_flags(got, archive, asked)
        counts = account.counts
        assert sum(counts.values()) == len(account) == 12_001
        assert counts.keys() == {"spectrum", "no public XP", "unknown id"}
        assert counts["unknown id"] == 500
        np.testing.assert_array_equal(account.source_id, asked)
        assert "12,001 sources asked for" in account.summary()
        table = account.to_table()
        assert list(table["status"][:1]) == [
            {0: "spectrum", 1: "no public XP", 2: "unknown id"}[int(account.status[0])]
        ]
        busy = [r for r in archive.of("data-server/data") if r.fault == "status"]
        waits = [
            min(r.when for r in archive.of("data") if r.ids == b.ids and r.when > b.when) - b.when
            for b in busy
        ]
        assert max(waits) >= 1.0, "Retry-After is honoured"

        n_before = len(archive.requests)
        again = fetch_spectra(asked, settings=settings)
        assert len(archive.requests) == n_before, "nothing is fetched twice"
        check_rows(again, asked, archive)
        np.testing.assert_array_equal(again.flags, got.flags)


FETCH = """
    import sys, warnings
    sys.path.insert(0, {tests!r})
    import numpy as np
    from gaia_redshift.archive import ArchiveSettings, fetch_with_account
    settings = ArchiveSettings({tap!r}, {data!r}, first_wait=0.01, longest_wait=0.05,
                               first_poll=0.01, chunk_size={chunk}, parallel=2)
    asked = np.load({ids!r})
    got, account = fetch_with_account(asked, settings=settings)
    assert account.complete, account.summary()
    assert len(got) == len(asked)
    print(account.n_requests, account.n_cached)
"""


def start_fetch(archive, ids, tmp_path, chunk=200, **options):
    path = tmp_path / "ids.npy"
    np.save(path, ids)
    script = textwrap.dedent(FETCH).format(
        tests=str(TESTS), tap=archive.tap_url, data=archive.data_url, chunk=chunk, ids=str(path)
    )
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_killed_fetch_goes_on_where_it_was(tmp_path):
    spectra = make_spectra(3000)
    with GaiaArchiveDouble(spectra, make_sources(spectra, n_without=600)) as archive:
        asked = ask_for(archive)
        archive.faults.append(Fault("slow", times=1000, delay=0.1))
        process = start_fetch(archive, asked, tmp_path)
        for _ in range(3000):
            if len(archive.of("data-server/data")) >= 9 or process.poll() is not None:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        time.sleep(0.3)  # requests under way come in

        n_first = len(archive.of("data-server/data"))
        cache = SpectraCache(tmp_path / "gaia_redshift", RELEASES["DR3"], archive.data_url)
        distinct = np.unique(asked)
        kept = distinct[cache.find(distinct) != FetchStatus.PENDING]
        assert len(kept) > 0
        assert len(kept) >= 200 * (n_first - 4), "at most the chunks in flight are lost"

        archive.faults.clear()
        process = start_fetch(archive, asked, tmp_path)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        second = archive.of("data-server/data")[n_first:]
        asked_again = {i for request in second for i in request.ids}
        assert not asked_again & set(kept.tolist()), "only what is missing is asked for"
        assert asked_again | set(kept.tolist()) == set(distinct.tolist())
        check_rows(
            fetch_spectra(asked, settings=make_settings(archive), offline=True), asked, archive
        )


def test_two_processes_share_the_cache(tmp_path):
    spectra = make_spectra(2000)
    with GaiaArchiveDouble(spectra, make_sources(spectra, n_without=100)) as archive:
        asked = ask_for(archive)
        archive.faults.append(Fault("slow", times=1000, delay=0.1))
        folder = tmp_path / "second"
        folder.mkdir()
        first = start_fetch(archive, asked, tmp_path, chunk=100)
        second = start_fetch(archive, asked[::-1], folder, chunk=100)
        for process in (first, second):
            _, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
        times = archive.asked
        once = sum(count == 1 for count in times.values())
        assert once > 0.5 * len(times), "they do not both fetch everything"
        offline = fetch_spectra(asked, settings=make_settings(archive), offline=True)
        check_rows(offline, asked, archive)


def test_spectra_lost_on_the_way_are_asked_for_again_and_then_given_up():
    with make_archive(n=30) as archive:
        archive.faults.append(Fault("short", times=100, fraction=0.5))
        settings = make_settings(archive, tries=2, chunk_size=100)
        got, account = fetch_with_account(archive.spectra.source_id, settings=settings)
        failed = account.status == FetchStatus.FAILED
        assert 0 < failed.sum() < 30
        assert not account.complete
        np.testing.assert_array_equal((got.flags & QualityFlag.FETCH_FAILED) != 0, failed)
        assert "left out" in account.summary()
        reasons = account.to_table()["reason"]
        assert all("left out" in reason for reason in reasons[failed])
        assert all(reason == "" for reason in reasons[~failed])

        archive.faults.clear()
        n_before = len(archive.of("data-server/data"))
        got, account = fetch_with_account(archive.spectra.source_id, settings=settings)
        assert account.complete
        check_rows(got, archive.spectra.source_id, archive)
        (request,) = archive.of("data-server/data")[n_before:]
        assert len(request.ids) == failed.sum(), "only the failed ones are asked for"


def test_one_source_that_the_archive_cannot_serve_does_not_spoil_its_chunk():
    with make_archive(n=40, n_without=3) as archive:
        poison = int(archive.spectra.source_id[17])
        pack = archive.pack

        def fail_on_poison(ids, fields, fault):
            if poison in ids:
                return b"PK\x03\x04 nonsense"
            return pack(ids, fields, fault)

        archive.pack = fail_on_poison
        asked = ask_for(archive)
        settings = make_settings(archive, chunk_size=100, tries=3)
        got, account = fetch_with_account(asked, settings=settings)
        failed = account.status == FetchStatus.FAILED
        assert set(asked[failed].tolist()) == {poison}
        keep = ~failed
        check_rows(got[np.flatnonzero(keep)], asked[keep], archive)
        assert len(archive.of("data-server/data")) < 25


def test_when_the_archive_dies_the_rest_is_accounted_for():
    with make_archive(n=200, n_without=0) as archive:
        archive.faults.append(Fault("status", status=500, times=10_000, skip=5))
        settings = make_settings(archive, tries=2, parallel=2)
        got, account = fetch_with_account(archive.spectra.source_id, settings=settings)
        counts = account.counts
        assert counts["spectrum"] >= 40
        assert counts["spectrum"] + counts["failed"] == 200
        assert len(archive.of("data-server/data")) < 60, "it is not asked for ever"
        missing = account.status == FetchStatus.FAILED
        assert (got.flags[missing] == QualityFlag.FETCH_FAILED).all()

        archive.faults.clear()
        got, account = fetch_with_account(archive.spectra.source_id, settings=settings)
        assert account.complete
        check_rows(got, archive.spectra.source_id, archive)


def test_rows_keep_their_order_with_repeats_far_apart_and_without_cache():
    with make_archive(n=60, n_without=20) as archive:
        once = ask_for(archive, n_repeated=0)
        asked = np.concatenate([once, once[::-1], once[:7]])
        got = fetch_spectra(asked, settings=make_settings(archive), cache=False)
        check_rows(got, asked, archive)
        check_flags(got, archive, asked)
        assert max(archive.asked.values()) == 1


def test_blocks_come_in_order_and_add_up():
    with make_archive(n=60, n_without=20) as archive:
        asked = ask_for(archive)
        stream = open_stream(asked, settings=make_settings(archive))
        blocks = list(stream.blocks(7))
        assert max(map(len, blocks)) == 7
        check_rows(XPSpectra.concatenate(blocks), asked, archive)
        assert stream.account.complete


# --- whole calls that cannot work -----------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["data-server", "tap-server"])
def test_a_server_that_never_answers_ends_within_the_deadline(endpoint):
    with make_archive() as archive:
        archive.faults.append(Fault("never", endpoint=endpoint, times=1000))
        settings = make_settings(archive, timeout=0.3, deadline=2, query_deadline=2, tries=3)
        started = time.monotonic()
        query = "SELECT source_id FROM gaiadr3.gaia_source"
        sources = query if endpoint == "tap-server" else archive.spectra.source_id
        with pytest.raises(ArchiveError, match=r"did not answer within 0.3 s; tried 3 times"):
            fetch_spectra(sources, settings=settings)
        assert time.monotonic() - started < 60


QUERY = "SELECT source_id FROM gaiadr3.gaia_source"


def test_a_query_that_waits_for_long_is_taken_up_again_by_a_second_run():
    with make_archive(n=6, phases=["QUEUED"] * 10_000) as archive:
        settings = make_settings(archive, query_deadline=1.0)
        with pytest.raises(ArchiveError, match=r"did not finish the query within 1 s.*again"):
            fetch_spectra(QUERY, settings=settings)
        (job,) = archive.jobs.values()
        assert "aborted" not in job, "it keeps its place in the queue"
        archive.phases = ()
        check_rows(fetch_spectra(QUERY, settings=settings), fetched_ids(archive), archive)
        assert len(archive.of("async$")) == 1
        fetch_spectra(QUERY, settings=settings)
        assert len(archive.of("async$")) == 2, "a job that has been read is not taken up"


def fetched_ids(archive):
    return np.array(archive.database.query(QUERY)["source_id"])


@pytest.mark.parametrize("state", ["gone", "failed", "damaged note"])
def test_a_job_that_cannot_be_taken_up_is_begun_anew(state, tmp_path):
    with make_archive(n=6, phases=["QUEUED"] * 10_000) as archive:
        settings = make_settings(archive, query_deadline=0.5)
        with pytest.raises(ArchiveError, match="did not finish"):
            run_query(QUERY, settings=settings)
        archive.phases = ()
        (name,) = archive.jobs
        if state == "gone":
            del archive.jobs[name]
        elif state == "failed":
            archive.jobs[name]["error"] = "the server was restarted"
        else:
            (path,) = tmp_path.rglob("servers/*.json")
            path.write_text(path.read_text().replace(name, "../../elsewhere"))
        assert len(run_query(QUERY, settings=settings)) == 16
        assert len(archive.of("async$")) == 2


def test_a_query_that_nobody_could_take_up_is_not_left_running():
    with make_archive(phases=["EXECUTING"] * 10_000) as archive:
        settings = make_settings(archive, query_deadline=3)
        with pytest.raises(ArchiveError, match=r"within 3 s \(the job is executing\)$"):
            fetch_spectra(QUERY, settings=settings, cache=False)
        (job,) = archive.jobs.values()
        assert job["aborted"]


def test_a_queue_is_told_of(monkeypatch):
    monkeypatch.setattr("gaia_redshift.archive.jobs._FIRST_NOTICE", 0.05)
    told: list[str] = []
    with make_archive(phases=["QUEUED"] * 12) as archive:
        run_query(QUERY, settings=make_settings(archive), notice=told.append)
    assert told
    assert "the query has been queued for 0 s (users who log in wait less" in told[0]


@pytest.mark.parametrize(
    ("pack", "words"),
    [
        (lambda body: [("a.fits", bytes(30_000_000))], "unpacks to more than"),
        (lambda body: [("a.fits", body), ("a.fits", body)], "two files of one name"),
    ],
    ids=["a bomb", "one name twice"],
)
def test_odd_zips_are_refused(pack, words):
    with make_archive(n=4) as archive:
        whole = write_spectra(archive.spectra, "fits")
        with warnings.catch_warnings(action="ignore"):
            body = pack_members(pack(whole))
        archive.pack = lambda *_: body
        settings = make_settings(archive, largest_answer=20_000_000, tries=2)
        with pytest.raises(ArchiveError, match=words):
            fetch_spectra(archive.spectra.source_id, settings=settings)


def test_redirects_to_another_host_are_not_followed():
    with make_archive(n=4) as archive, make_archive(n=4) as other:
        settings = make_settings(archive)
        archive.moved_to = f"{other.base}/elsewhere"
        with pytest.raises(ArchiveError, match=r"redirects to .*, which is not followed|HTTP 302"):
            run_query(QUERY, settings=settings)
        with pytest.raises(ArchiveError, match="HTTP 302"):
            fetch_spectra([FIRST_ID + 1], settings=settings)
        assert other.requests == []


def test_a_drip_ends_at_the_deadline():
    with make_archive() as archive:
        archive.faults.append(Fault("slow", times=100, delay=20))
        settings = make_settings(archive, deadline=1.0, chunk_size=100)
        started = time.monotonic()
        with pytest.raises(ArchiveError, match="still sending at the deadline"):
            fetch_spectra(archive.spectra.source_id, settings=settings)
        assert time.monotonic() - started < 18


def test_nobody_there():
    with make_archive() as archive:
        settings = make_settings(archive, tries=2)
    with pytest.raises(ArchiveError, match=r"^127.0.0.1:\d+ refuses connections; tried 2 times$"):
        fetch_spectra([FIRST_ID + 1], settings=settings)


def test_retry_after_beyond_the_deadline_is_not_waited_for():
    with make_archive() as archive:
        archive.faults.append(Fault("status", status=503, retry_after="3600", times=100))
        started = time.monotonic()
        with pytest.raises(ArchiveError, match=r"HTTP 503.*asks to wait 3600 s"):
            fetch_spectra(archive.spectra.source_id[:5], settings=make_settings(archive))
        assert time.monotonic() - started < 60


def test_retry_after_is_read_as_number_and_as_date():
    assert parse_retry_after("7") == 7
    assert parse_retry_after("Fri, 31 Dec 1999 23:59:59 GMT") == 0
    assert parse_retry_after("soon") is None
    assert parse_retry_after(None) is None


@pytest.mark.parametrize(
    ("adql", "words"),
    [
        ("SELECT source_id FROM gaiadr3.gaia_source LIMIT 5", "LIMIT"),
        ("SELECT nothing FROM gaiadr3.gaia_source", "nothing"),
        ("SELECT source_id FROM gaiadr3.no_such_table", "no_such_table"),
        ("SELECT source_id FRM gaiadr3.gaia_source", "Cannot parse|could not run|refused"),
    ],
)
def test_malformed_adql_gives_one_line(adql, words):
    with make_archive() as archive, pytest.raises(ArchiveError, match=words) as caught:
        fetch_spectra(adql, settings=make_settings(archive))
    assert "\n" not in str(caught.value)
    assert "could not run the query" in str(caught.value)
    assert len(archive.of("async$")) == 1, "it is not tried again"


@pytest.mark.parametrize(
    "endpoint", ["async$", r"async/\w+$", "results/result", "data-server/data"]
)
def test_a_maintenance_page_gives_one_line(endpoint):
    with make_archive() as archive:
        archive.faults.append(Fault("html", endpoint=endpoint, times=100))
        sources = "SELECT source_id FROM gaiadr3.gaia_source"
        with pytest.raises(ArchiveError, match=r"scheduled maintenance.*try again later") as caught:
            fetch_spectra(sources, settings=make_settings(archive))
        assert "\n" not in str(caught.value)
        assert "<" not in str(caught.value)


def test_the_cached_part_is_offered_when_the_archive_is_down():
    with make_archive() as archive:
        settings = make_settings(archive)
        fetch_spectra(archive.spectra.source_id[:8], settings=settings)
        archive.faults.append(Fault("html", times=100))
        with pytest.raises(ArchiveError, match=r"8 of the sources are in the cache: offline=True"):
            fetch_spectra(archive.spectra.source_id, settings=settings)
        got = fetch_spectra(archive.spectra.source_id, settings=settings, offline=True)
        assert (got.flags[:8] == 0).all()
        assert (got.flags[8:] == QualityFlag.FETCH_FAILED).all()


def test_a_cut_result_is_not_taken_for_the_whole():
    with (
        make_archive(n=30, max_rows=12) as archive,
        pytest.warns(GaiaRedshiftWarning, match="limit of 12 rows"),
    ):
        result = run_query(
            "SELECT source_id FROM gaiadr3.gaia_source", settings=make_settings(archive)
        )
    assert len(result) == 12


def test_a_server_that_waits_to_be_told_runs_the_job():
    with make_archive(starts_jobs=False) as archive:
        query = "SELECT TOP 3 source_id FROM gaiadr3.gaia_source"
        assert len(run_query(query, settings=make_settings(archive))) == 3


def test_uploads_keep_their_digits():
    with make_archive(n=5) as archive:
        ids = archive.spectra.source_id
        result = run_query(
            "SELECT u.source_id, u.name FROM tap_upload.mine AS u ORDER BY u.source_id",
            upload={"mine": Table({"source_id": ids, "name": ["a<&>b"] * 5})},
            settings=make_settings(archive),
        )
        assert result["source_id"].dtype == np.int64
        np.testing.assert_array_equal(result["source_id"], ids)
        assert set(result["name"]) == {"a<&>b"}
        with pytest.raises(InputError, match="cannot be the name"):
            run_query("SELECT 1", upload={"x; drop": Table()}, settings=make_settings(archive))


# --- what may be asked for ------------------------------------------------------------------


def all_forms(ids):
    import pandas as pd
    import pyarrow as pa

    return {
        "list": [int(i) for i in ids],
        "list of numpy": list(ids),
        "list of strings": [str(i) for i in ids],
        "tuple": tuple(ids.tolist()),
        "array": ids,
        "series": pd.Series(ids),
        "nullable": pd.Series(ids, dtype="Int64"),
        "strings": pd.Series(ids).astype(str),
        "frame": pd.DataFrame({"SOURCE_ID": ids, "mag": 1.0}),
        "table": Table({"source_id": ids, "mag": np.ones(len(ids))}),
        "arrow": pa.table({"source_id": ids}),
        "mapping": {"source_id": ids},
        "structured": np.array([(i,) for i in ids], dtype=[("source_id", "i8")]),
    }


@pytest.mark.parametrize("form", list(all_forms(np.array([1]))))
def test_ids_in_any_form(form):
    with make_archive(n=4, n_without=1) as archive:
        ids = archive.spectra.source_id[[2, 0, 3]]
        got = fetch_spectra(all_forms(ids)[form], settings=make_settings(archive))
        check_rows(got, ids, archive)


def test_a_single_id_and_wrong_ones():
    with make_archive(n=4) as archive:
        settings = make_settings(archive)
        one = archive.spectra.source_id[1]
        for form in (int(one), np.int64(one), str(one)):
            check_rows(fetch_spectra(form, settings=settings), [one], archive)
        got = fetch_spectra([0, -5, int(one)], settings=settings)
        assert got.flags.tolist() == [QualityFlag.UNKNOWN_SOURCE_ID] * 2 + [0]
        assert {0, 5} & set(archive.asked) == set(), "what is no id is not asked for"
        for wrong, words in (
            (np.array([5.9e18]), "lost its last digits"),
            ([], "no source_id given"),
            (Table({"source_id": []}), "has no rows"),
            ({"x": [1]}, "neither source_id nor ra and dec"),
            (object(), "expected source ids"),
            (Table({"source_id": np.ma.array([1, 2], mask=[False, True])}), "row 2: no source_id"),
        ):
            with pytest.raises(InputError, match=words):
                fetch_spectra(wrong, settings=settings)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.txt", "{0}\n{1}\n{2}\n"),
        ("commas.txt", "{0}, {1},\n{2}"),
        ("ids.csv", "source_id,name\n{0},a\n{1},b\n{2},c\n"),
        ("with_comment.csv", "# my galaxies\nname,SOURCE_ID\na,{0}\nb,{1}\nc,{2}\n"),
        (
            "ids.ecsv",
            "# %ECSV 1.0\n# ---\n# datatype:\n# - {{name: source_id, datatype: int64}}\n"
            "source_id\n{0}\n{1}\n{2}\n",
        ),
    ],
)
def test_files_of_ids(tmp_path, name, content):
    with make_archive(n=4) as archive:
        ids = archive.spectra.source_id[:3]
        path = tmp_path / name
        path.write_text(content.format(*ids))
        check_rows(fetch_spectra(path, settings=make_settings(archive)), ids, archive)


@pytest.mark.parametrize("extension", ["fits", "vot", "parquet"])
def test_tables_of_ids(tmp_path, extension):
    from gaia_redshift import write_table

    ids = FIRST_ID + np.arange(3)
    write_table(Table({"source_id": ids, "z": [0.1, 0.2, 0.3]}), tmp_path / f"ids.{extension}")
    np.testing.assert_array_equal(read_ids(tmp_path / f"ids.{extension}")["source_id"], ids)


def test_wrong_files_of_ids(tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "page.html").write_text("<html><body>no</body></html>")
    for name, words in (
        ("empty.txt", "is empty"),
        ("none.txt", "cannot be opened"),
        ("page.html", "page.html"),
    ):
        with pytest.raises(InputError, match=words):
            read_ids(tmp_path / name)


def test_a_query_brings_its_columns_along():
    with make_archive(n=20, n_without=5) as archive:
        adql = (
            "-- the bright half\nSELECT source_id, phot_g_mean_mag, ra FROM gaiadr3.gaia_source"
            " WHERE phot_g_mean_mag < 18 ORDER BY phot_g_mean_mag"
        )
        settings = make_settings(archive)
        expected = archive.database.query(adql)
        got = fetch_spectra(adql, settings=settings, keep=["phot_g_mean_mag"])
        check_rows(got, np.array(expected["source_id"]), archive)
        assert got.columns.colnames == ["phot_g_mean_mag"]
        np.testing.assert_array_equal(got.columns["phot_g_mean_mag"], expected["phot_g_mean_mag"])
        assert str(got.columns["phot_g_mean_mag"].unit) == "mag"
        assert fetch_spectra(adql, settings=settings, keep="all").columns.colnames == [
            "phot_g_mean_mag",
            "ra",
        ]
        with pytest.raises(MissingColumnError, match="no column 'redshift'"):
            fetch_spectra(adql, settings=settings, keep="redshift")
        with pytest.raises(InputError, match="neither source_id nor ra and dec"):
            fetch_spectra("SELECT phot_g_mean_mag FROM gaiadr3.gaia_source", settings=settings)
        empty = "SELECT source_id FROM gaiadr3.gaia_source WHERE phot_g_mean_mag < 0"
        with pytest.raises(InputError, match="has no rows"):
            fetch_spectra(empty, settings=settings)


def test_positions_find_the_nearest_source():
    from astropy.coordinates import SkyCoord

    spectra = make_spectra(6)
    sources = make_sources(spectra, n_without=1)
    arcsec = 1 / 3600
    # Two close together; one across RA 0; one near the pole; the last has no public spectrum.
    sources["ra"] = [10.0, 10.0 + 0.8 * arcsec, 359.99999, 200.0, 120.0, 121.0, 250.0]
    sources["dec"] = [5.0, 5.0, -20.0, 89.999, 30.0, 31.0, 60.0]
    with GaiaArchiveDouble(spectra, sources) as archive:
        settings = make_settings(archive)
        ids = np.array(sources["source_id"])
        table = Table(
            {
                "name": list("abcdefgh"),
                "RAJ2000": [10 + 0.7 * arcsec, 10, 0.00001, 200.1, 120, 121, 250, np.nan],
                "DEJ2000": [5, 5, -20, 89.999, 30 + 3 * arcsec, 31, 60, 0],
            }
        )
        table["RAJ2000"].unit = table["DEJ2000"].unit = "deg"
        got = fetch_spectra(table, settings=settings, keep="all", radius=1.0)
        expected = [ids[1], ids[0], ids[2], ids[3], 0, ids[5], ids[6], 0]
        np.testing.assert_array_equal(got.source_id, expected)
        none = int(QualityFlag.NO_GAIA_SOURCE)
        bits = got.flags & ~int(QualityFlag.DUPLICATE_SOURCE_ID)
        assert bits.tolist() == [0, 0, 0, 0, none, 0, int(QualityFlag.NO_PUBLIC_XP), none]
        separation = np.asarray(got.columns["separation_gaia"])
        assert separation[0] == pytest.approx(0.1 * np.cos(np.radians(5)), abs=1e-3)
        assert separation[2] == pytest.approx(0.072 * np.cos(np.radians(20)), abs=1e-3)
        assert np.isnan(separation[[4, 7]]).all()
        assert list(got.columns["name"]) == list("abcdefgh")

        wide = SkyCoord([0.00001, 120], [-20, 30 + 3 * arcsec], unit="deg")
        got = fetch_spectra(wide, settings=settings, radius=4.0)
        np.testing.assert_array_equal(got.source_id, [ids[2], ids[4]])
        with pytest.raises(InputError, match="radius"):
            fetch_spectra(wide, settings=settings, radius=0)


# --- releases --------------------------------------------------------------------------------

ALL_OF_DR4 = "SELECT source_id FROM gaiadr4.all_source_astrometry"
draft = pytest.mark.filterwarnings("ignore:.*names are a draft")


@draft
@pytest.mark.parametrize(("flag", "n"), [("boolean", 12_001), ("byte", 300), ("rows", 300)])
def test_every_id_of_dr4_is_answered_as_its_draft_has_it(flag, n):
    n_without = n // 6
    with make_draft_archive(n - 3 * n_without, n_without, flag=flag) as archive:
        rng = np.random.default_rng(3)
        known = np.array(archive.database.query(ALL_OF_DR4)["source_id"])
        unknown = 10**15 + np.arange(n_without)
        asked = np.concatenate([known, unknown])
        asked = rng.permutation(np.concatenate([asked, rng.choice(known, n - len(asked))]))
        assert len(asked) == n
        settings = make_settings(archive, chunk_size=500, parallel=4)
        got, account = fetch_with_account(asked, release="DR4", settings=settings)
        assert account.complete
        assert got.release == "DR4"
        check_rows(got, asked, archive)
        check_flags(got, archive, asked)
        asked_for_tables = [r for r in archive.of("tap/sync") if "TAP_SCHEMA" in r.fields["QUERY"]]
        assert len(asked_for_tables) == 1, "once for a server and release"
        fetch_spectra(asked[:50] + 10, release="DR4", settings=settings)
        again = [r for r in archive.of("tap/sync") if "TAP_SCHEMA" in r.fields["QUERY"]]
        assert len(again) == 1, "it is noted"


@draft
def test_positions_find_sources_of_dr4_that_its_main_table_lacks():
    with make_draft_archive(20, 4) as archive:
        table = archive.database.query(
            "SELECT source_id, ra, dec FROM gaiadr4.all_source_astrometry ORDER BY source_id"
        )
        got = fetch_spectra(table["ra", "dec"], release="DR4", settings=make_settings(archive))
        np.testing.assert_array_equal(got.source_id, table["source_id"])


@draft
@pytest.mark.parametrize("said", ["Error 500: null", "Error 500: internal error"])
def test_a_release_that_is_not_open_is_said_at_once(said):
    with make_archive(n=10) as archive:
        archive.faults.append(Fault("status", status=500, times=99, body=said.encode()))
        settings = make_settings(archive, tries=20, parallel=1)
        with pytest.raises(ArchiveError, match=r"no tables of Gaia DR4.*2 December 2026"):
            fetch_spectra([FIRST_ID + 1], release="DR4", settings=settings)
        assert len(archive.of("data-server/data")) == 1


@draft
def test_a_table_that_is_not_found_is_named_with_a_query_to_look_it_up():
    with make_draft_archive(10, 4) as archive:
        for name in ("all_source_flags", "all_source_astrometry"):
            archive.database.columns.pop(f"gaiadr4.{name}")
        archive.describe_itself()
        settings = make_settings(archive)
        ids = np.append(archive.spectra.source_id, FIRST_ID)
        _, account = fetch_with_account(ids, release="DR4", settings=settings)
        assert account.counts == {"spectrum": 10, "failed": 1}, "what came is kept"
        words = r"gaiadr4.all_source_flags.*SELECT .*TAP_SCHEMA.columns .*gaiadr4"
        assert re.search(words, account.summary())


def test_a_release_is_asked_for_by_its_own_names():
    with make_archive(n=3) as archive:
        archive.release = "Gaia DR4"
        with pytest.raises(ArchiveError, match="Invalid Release parameter"):
            fetch_spectra(archive.spectra.source_id, settings=make_settings(archive))
        with pytest.raises(InputError, match="no data release 'DR9'; known are DR3, DR4"):
            fetch_spectra([1], release="DR9", settings=make_settings(archive))


@pytest.mark.parametrize(
    ("structures", "wasted"),
    [(NEW_WORDS, 0), (OLD_WORDS, 1), ((*OLD_WORDS, *NEW_WORDS), 0), (("DATAMODEL_STANDARD",), 1)],
    ids=["new words", "old words", "both", "a file for each source alone"],
)
def test_every_id_is_answered_whatever_the_words_of_the_day(structures, wasted, tmp_path):
    """12,001 rows by four threads: one request at most is wasted, and none by a second call."""
    n = 12_001 if len(structures) > 1 else 201
    spectra = make_spectra(n - n // 4)
    sources = make_sources(spectra, n_without=n // 8)
    with GaiaArchiveDouble(spectra, sources, structures=structures) as archive:
        asked = ask_for(archive, n_unknown=n - len(sources) - 20, n_repeated=20)
        assert len(asked) == n
        settings = make_settings(archive, chunk_size=500, parallel=4)
        got, account = fetch_with_account(asked, settings=settings)
        assert account.complete
        check_rows(got, asked, archive)
        check_flags(got, archive, asked)
        words = [request.fields["DATA_STRUCTURE"] for request in archive.of("data-server/data")]
        assert sum(word not in structures for word in words) == wasted
        more = spectra.source_id[:100]
        check_rows(
            fetch_spectra(more, settings=settings, cache=tmp_path / "elsewhere"), more, archive
        )

        archive.requests.clear()
        cache = list_cache_folders()[0]
        cache.clear()
        check_rows(fetch_spectra(more, settings=settings), more, archive)
        words = [request.fields["DATA_STRUCTURE"] for request in archive.of("data-server/data")]
        assert set(words) <= set(structures), "the word is remembered"


def test_a_server_that_changes_its_words_is_followed():
    with make_archive(n=30) as archive:
        settings = make_settings(archive)
        fetch_spectra(archive.spectra.source_id[:10], settings=settings)
        archive.structures = OLD_WORDS
        ids = archive.spectra.source_id
        check_rows(fetch_spectra(ids, settings=settings), ids, archive)
        words = Counter(r.fields["DATA_STRUCTURE"] for r in archive.of("data-server/data"))
        assert words["RAW"] == 2
        assert words["DATAMODEL_GAIA"] <= 1 + settings.parallel


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        (
            "Invalid Data Structure parameter: 'X', valid ones are: RAW, INDIVIDUAL",
            "RAW INDIVIDUAL",
        ),
        ("Invalid DATA_STRUCTURE parameter: valid values: ['A B', 'C_D']. Sorry", "A_B C_D"),
        ("Invalid data_structure 'X'", ""),
        (
            "Invalid data structure 'X'; valid ones are: DATAMODEL_GAIA\nCannot process",
            "DATAMODEL_GAIA",
        ),
        ("Code: 500, msg: out of memory", None),
    ],
)
def test_the_words_that_a_server_takes_are_read_from_its_refusal(words, taken):
    found = read_refusal(Answer(500, {}, words.encode()))
    assert found == (None if taken is None else taken.split())


QUOTA = (
    "Error 500: DB quota exceeded for user anonymous. Registered users have an increased quota,"
    " please log in."
)


@pytest.mark.parametrize(
    ("endpoint", "said", "advice"),
    [
        ("async$", QUOTA, "--login"),
        ("data-server/data", QUOTA, "--login"),
        ("data-server/data", "Invalid Release parameter: 'Gaia DR4'", "2 December 2026"),
        ("data-server/data", "Release Gaia DR4 is not available", "2 December 2026"),
        ("data-server/data", "Invalid Retrieval Type parameter: 'MEAN'", "Invalid Retrieval Type"),
        ("data-server/data", "None of them: DATA_STRUCTURE X", "update the package"),
    ],
)
def test_what_will_not_pass_is_not_tried_again(endpoint, said, advice):
    with make_archive(n=5) as archive:
        archive.faults.append(
            Fault("status", endpoint=endpoint, status=500, times=100, body=said.encode())
        )
        sources = (
            "SELECT source_id FROM gaiadr3.gaia_source"
            if endpoint == "async$"
            else archive.spectra.source_id
        )
        with pytest.raises(ArchiveError, match=advice) as caught:
            fetch_spectra(sources, settings=make_settings(archive))
        assert "\n" not in str(caught.value)
        assert said.split(".")[0].removeprefix("Error 500: ")[:20] in str(caught.value)
        assert len(archive.of(endpoint)) <= 2


# --- mirrors, and ids of DR3 --------------------------------------------------------------------


def make_mirror(n=40, n_without=10, **options):
    """A plain TAP service with a table of coefficients, and no DataLink."""
    spectra = make_spectra(n)
    table = Table({"source_id": spectra.source_id})
    for name in ("bp", "rp"):
        band = getattr(spectra, name)
        table[f"{name}_basis_function_id"] = band.basis_id
        table[f"{name}_n_parameters"] = band.n_coefficients.astype(np.int16)
        table[f"{name}_coefficients"] = band.coefficients
        table[f"{name}_coefficient_errors"] = band.errors
        table[f"{name}_coefficient_correlations"] = band.correlations
    tables = {"gaiadr3.xp_continuous_mean_spectrum": table}
    return GaiaArchiveDouble(spectra, make_sources(spectra, n_without), tables, **options)


@pytest.mark.parametrize("max_rows", [None, 7])
def test_a_mirror_answers_for_every_id_even_if_it_cuts_its_answers(max_rows):
    with make_mirror() as mirror:
        asked = ask_for(mirror)
        settings = use_mirror(mirror.tap_url, make_settings(mirror))
        if max_rows:  # of spectra alone
            query = mirror.database.query

            def cut(adql, uploads=None, maxrec=None):
                short = "xp_continuous" in adql
                return query(adql, uploads, min(maxrec, max_rows) if short else maxrec)

            mirror.database.query = cut
        got, account = fetch_with_account(asked, settings=settings)
        assert account.complete, account.summary()
        check_rows(got, asked, mirror)
        check_flags(got, mirror, asked)
        assert mirror.of("data-server") == []
        assert "127.0.0.1" in got.meta["inputs"][0]


def test_a_cut_answer_to_which_have_spectra_calls_no_id_unknown():
    with make_archive() as archive:
        asked = ask_for(archive)
        query = archive.database.query

        def cut(adql, uploads=None, maxrec=None):
            return query(adql, uploads, min(maxrec, 2) if " IN (" in adql else maxrec)

        archive.database.query = cut
        _, account = fetch_with_account(asked, settings=make_settings(archive))
        unknown = account.source_id[account.status == 2]
        assert (unknown < FIRST_ID).all()
        assert account.counts["failed"]
        archive.database.query = query
        _, account = fetch_with_account(asked, settings=make_settings(archive))
        assert account.counts["unknown id"] == 3  # nothing wrong was remembered


def test_a_mirror_without_the_table_says_so(monkeypatch):
    with make_archive(n=3) as archive:
        settings = use_mirror(f"{archive.tap_url}#gaiadr3.nothing", make_settings(archive))
        with pytest.raises(ArchiveError, match=r"gaiadr3.nothing"):
            fetch_spectra(archive.spectra.source_id, settings=settings)
    with pytest.raises(InputError, match="no mirror 'esa'; known are aip, ari"):
        use_mirror("esa")
    with pytest.raises(InputError, match="no name of a table"):
        use_mirror("https://a.org/tap#x; DROP")
    monkeypatch.setenv("GAIA_REDSHIFT_TAP_TOKEN", "secret")
    settings = use_mirror("aip")
    assert settings.gaia_tap_url == "https://gaia.aip.de/tap"
    assert "secret" not in repr(settings)


@draft
def test_ids_of_dr3_are_brought_over():
    with make_draft_archive(12, 4) as archive:
        new = np.array(archive.database.query(ALL_OF_DR4)["source_id"])
        neighbours = archive.database.query("SELECT * FROM gaiadr4.dr3_neighbourhood")
        expected = {}
        for row in sorted(
            neighbours, key=lambda r: (bool(r["probable_match"]), -r["angular_distance"])
        ):
            expected[int(row["dr3_source_id"])] = int(row["source_id"])
        old = np.concatenate([new[::-1] + 1000, [77], new[:2] + 1000])
        settings = make_settings(archive)
        got = fetch_spectra(old, release="DR4", settings=settings, from_dr3=True)
        np.testing.assert_array_equal(got.source_id, [expected.get(int(i), 0) for i in old])
        assert set(expected.values()) == set(new.tolist())
        np.testing.assert_array_equal(got.columns["dr3_source_id"], old)
        assert got.flags[len(new)] == QualityFlag.NO_GAIA_SOURCE
        with pytest.raises(InputError, match="later release"):
            fetch_spectra(old, settings=settings, from_dr3=True)


def test_positions_do_without_an_upload_where_the_quota_is_used_up(caplog):
    with make_archive(n=150, n_without=0) as archive:
        table = archive.database.query("SELECT source_id, ra, dec FROM gaiadr3.gaia_source")
        archive.faults.append(Fault("status", endpoint="async$", times=9, body=QUOTA.encode()))
        got = fetch_spectra(table["ra", "dec"], settings=make_settings(archive, chunk_size=500))
        np.testing.assert_array_equal(got.source_id, table["source_id"])
        assert "asking without an upload" in caplog.text
        archive.requests.clear()
        fetch_spectra(table["ra", "dec"][:20], settings=make_settings(archive))
        assert archive.of("async$") == [], "a few positions need no upload at all"


# --- manners ---------------------------------------------------------------------------------


def test_requests_are_no_larger_nor_more_at_a_time_than_allowed():
    with make_archive(n=100, n_without=0) as archive:
        archive.faults.append(Fault("slow", times=100, delay=0.05))
        fetch_spectra(archive.spectra.source_id, settings=make_settings(archive, parallel=2))
        assert max(len(r.ids) for r in archive.of("data-server/data")) == 10
    for wrong in ({"chunk_size": 5001}, {"parallel": 9}, {"timeout": 0}, {"tries": 0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            ArchiveSettings(**wrong)
    with pytest.raises(InputError, match="http"):
        ArchiveSettings(gaia_tap_url="ftp://example.org/tap")


def test_addresses_come_from_the_environment(monkeypatch):
    with make_archive(n=3) as archive:
        monkeypatch.setenv("GAIA_REDSHIFT_TAP_URL", archive.tap_url)
        monkeypatch.setenv("GAIA_REDSHIFT_DATA_URL", archive.data_url)
        check_rows(fetch_spectra(archive.spectra.source_id), archive.spectra.source_id, archive)


def test_a_reader_that_stops_early_leaves_no_thread_behind():
    with make_archive(n=100) as archive:
        archive.faults.append(Fault("never", times=100, skip=2))
        settings = make_settings(archive, timeout=60.0)
        stream = open_stream(archive.spectra.source_id, settings=settings)
        blocks = stream.blocks(10)
        next(blocks)
        started = time.monotonic()
        blocks.close()
        assert time.monotonic() - started < 30, "requests under way are broken off"
        names = [thread.name for thread in threading.enumerate()]
        assert not [name for name in names if name.startswith("gaia_redshift")]


NO_TRACES = """
    import os, socket, sys, tempfile
    def refuse(*args, **kwargs):
        raise AssertionError("no temporary files")
    for name in ("mkstemp", "mkdtemp", "NamedTemporaryFile", "TemporaryDirectory"):
        setattr(tempfile, name, refuse)
    real = socket.socket.connect
    def only_here(self, address):
        assert address[0] == "127.0.0.1", address
        return real(self, address)
    socket.socket.connect = only_here
    from gaia_redshift.archive import ArchiveSettings, fetch_spectra
    settings = ArchiveSettings({tap!r}, {data!r}, first_poll=0.01)
    got = fetch_spectra({ids!r}, settings=settings)
    assert len(got) == {n}
    positions = {{"ra": [10.0], "dec": [10.0]}}
    fetch_spectra(positions, settings=settings)
"""


@pytest.mark.parametrize("folder", ["read-only", "proc"])
def test_nothing_is_left_in_the_current_folder_or_tmp(tmp_path, folder):
    """Also where neither may be written to: /proc is such a folder even for root."""
    here, tmp = tmp_path / "here", tmp_path / "tmp"
    here.mkdir()
    tmp.mkdir()
    if folder == "proc" and not os.path.isdir("/proc/self"):
        pytest.skip("no /proc")
    with make_archive(n=8, n_without=2) as archive:
        ids = [*archive.spectra.source_id.tolist(), FIRST_ID, 77]
        script = textwrap.dedent(NO_TRACES).format(
            tap=archive.tap_url, data=archive.data_url, ids=ids, n=len(ids)
        )
        for path in (here, tmp):
            path.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=here if folder == "read-only" else "/proc",
            env={**os.environ, "TMPDIR": str(tmp), "XDG_CACHE_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        for path in (here, tmp):
            path.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert not done.stdout
    assert list(here.iterdir()) == []
    assert list(tmp.iterdir()) == []


def test_importing_and_preparing_touches_no_network(tmp_path):
    script = """
import socket
def refuse(*args, **kwargs):
    raise AssertionError("a socket was opened")
socket.socket.connect = refuse
socket.create_connection = refuse
socket.getaddrinfo = refuse
import gaia_redshift
import gaia_redshift.archive as archive
for name in archive.__all__:
    getattr(archive, name)
import sys
assert "astroquery" not in sys.modules
archive.open_gaia()
import astroquery.gaia
stream = archive.open_stream([5937083312263887616])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert not done.stdout


def test_one_refusal_fails_one_chunk_alone():
    with make_archive(n=100) as archive:
        archive.faults.append(Fault("status", status=400))
        settings = make_settings(archive, parallel=2, chunk_size=10)
        _, account = fetch_with_account(archive.spectra.source_id, settings=settings, cache=False)
        assert account.counts == {"spectrum": 90, "failed": 10}
        assert all("HTTP 400" in reason for reason in account.reasons.values())


def test_what_comes_after_all_has_no_reason():
    """Halving finds a source that fails, and the next try gets it."""
    with make_archive(n=4, n_without=0) as archive:
        archive.faults += [
            Fault("status", status=500, times=3),
            Fault("status", status=500, skip=1),
            Fault("reset", skip=1),
        ]
        _, account = fetch_with_account(
            archive.spectra.source_id, settings=make_settings(archive, tries=2), cache=False
        )
        assert account.counts == {"spectrum": 4}
        assert account.reasons == {}


@pytest.mark.parametrize("importer", ["open_gaia()", "__import__('astroquery.gaia')"])
def test_a_client_waits_for_another_thread_that_imports_astroquery(importer, tmp_path):
    """The second thread comes while the module is half made, which is kept so for a while."""
    script = f"""
import importlib.machinery, sys, threading, time
from gaia_redshift.archive import open_gaia
half_made = threading.Event()
class Slow(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "astroquery.gaia.core":
            return None
        spec = super().find_spec(name, path, target)
        execute = spec.loader.exec_module
        def wait_and_execute(module):
            half_made.set()
            time.sleep(0.5)
            execute(module)
        spec.loader.exec_module = wait_and_execute
        return spec
sys.meta_path.insert(0, Slow)
if "open_gaia" not in {importer!r}:  # the user's own import, which asks the archive for news
    import socket
    def refuse(*args, **kwargs):
        raise OSError("no network in tests")
    socket.socket.connect = socket.getaddrinfo = refuse
first = threading.Thread(target=lambda: {importer})
first.start()
assert half_made.wait(60)
open_gaia()
first.join()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_settings_of_the_process_survive():
    with make_archive(n=30) as archive:
        before, options = list(warnings.filters), np.get_printoptions()
        fetch_spectra(archive.spectra.source_id, settings=make_settings(archive, parallel=4))
        assert warnings.filters == before
        assert np.get_printoptions() == options
