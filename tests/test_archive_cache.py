"""The cache of what has been fetched: kept, limited, damaged, shared, cleared."""

import os
import time

import numpy as np
import pytest
from archive_samples import FIRST_ID, check_rows, make_archive, make_settings, make_spectra

from gaia_redshift import fetch_spectra
from gaia_redshift.archive import FetchStatus, fetch_with_account, open_stream
from gaia_redshift.archive.cache import SpectraCache, list_cache_folders
from gaia_redshift.archive.releases import RELEASES
from gaia_redshift.archive.settings import find_cache_root
from gaia_redshift.errors import GaiaRedshiftWarning, InputError
from gaia_redshift.flags import QualityFlag
from gaia_redshift.spectra import BandSpectra, XPSpectra


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("CACHE_DIR", "CACHE_GB"):
        monkeypatch.delenv(f"GAIA_REDSHIFT_{name}", raising=False)


def open_cache(root, limit=1e9):
    return SpectraCache(root, RELEASES["DR3"], "https://example.org/data-server/data", limit=limit)


def add(cache, spectra):
    status = np.zeros(len(spectra), dtype=np.int8)
    assert cache.add(spectra.source_id, status, spectra)


def read(cache, ids):
    parts, lost = cache.read(np.asarray(ids))
    return {
        int(i): spectra[[row]] for _, spectra in parts for row, i in enumerate(spectra.source_id)
    }, lost


def data_files(root):
    return sorted((root / "gaia_redshift" / "spectra").rglob("*.chunk"))


def test_the_place_follows_astropy_and_the_environment(tmp_path, monkeypatch):
    assert find_cache_root() == tmp_path / "gaia_redshift"
    monkeypatch.setenv("GAIA_REDSHIFT_CACHE_DIR", str(tmp_path / "mine"))
    assert find_cache_root() == tmp_path / "mine"
    assert find_cache_root(tmp_path / "other") == tmp_path / "other"
    with pytest.raises(InputError, match="cache takes"):
        find_cache_root(3)
    monkeypatch.setenv("GAIA_REDSHIFT_CACHE_GB", "much")
    with pytest.raises(InputError, match="GAIA_REDSHIFT_CACHE_GB"):
        open_cache(tmp_path, limit=None)


def test_what_goes_in_comes_out(tmp_path):
    rich = make_spectra(20, k=55)
    poor = XPSpectra(
        np.array([10, 20, 30]),
        BandSpectra(
            np.array([[1.0, 2.0], [3.0, np.nan], [np.nan, np.nan]]),
            n_coefficients=np.array([2, 1, 0], dtype=np.int16),
        ),
        BandSpectra(np.ones((3, 44)), errors=np.ones((3, 44))),
        flags=np.array([0, 4, 1], dtype=np.int32),
    )
    cache = open_cache(tmp_path)
    add(cache, rich)
    add(cache, poor)
    cache = open_cache(tmp_path)
    found, lost = read(cache, [30, rich.source_id[7], 10, rich.source_id[3], 99])
    assert lost.tolist() == [4]
    for source, i in ((rich, rich.source_id[7]), (rich, rich.source_id[3]), (poor, 30), (poor, 10)):
        truth, got = source[np.flatnonzero(source.source_id == i)], found[int(i)]
        assert got.flags == truth.flags
        for band in ("bp", "rp"):
            ours, theirs = getattr(got, band), getattr(truth, band)
            for name in ("coefficients", "errors", "correlations", "n_coefficients", "basis_id"):
                a, b = getattr(ours, name), getattr(theirs, name)
                assert (a is None) == (b is None)
                if b is not None:
                    np.testing.assert_array_equal(a, b)
                    assert a.dtype == b.dtype


def test_the_oldest_go_when_the_limit_is_reached(tmp_path):
    cache = open_cache(tmp_path, limit=100_000)
    parts = [make_spectra(100, first=1 + 1000 * k) for k in range(10)]  # some 30 kB each
    for part in parts:
        add(cache, part)
    kept = [bool((cache.find(part.source_id) == FetchStatus.SPECTRUM).all()) for part in parts]
    assert kept == sorted(kept)
    assert kept[-1]
    assert not kept[0]
    assert sum(path.stat().st_size for path in cache.folder.glob("*.chunk")) <= 100_000
    assert len(list(cache.folder.glob("*.chunk"))) == sum(kept) > 1


def test_a_fetch_larger_than_the_limit_still_gives_every_row(monkeypatch):
    monkeypatch.setenv("GAIA_REDSHIFT_CACHE_GB", "0.00001")
    with make_archive(n=60) as archive:
        asked = np.concatenate([archive.spectra.source_id, archive.spectra.source_id[::-1]])
        got, account = fetch_with_account(asked, settings=make_settings(archive))
        check_rows(got, asked, archive)
        assert account.complete


def test_no_spectrum_is_remembered_but_not_for_ever(tmp_path):
    with make_archive(n=5, n_without=5) as archive:
        settings = make_settings(archive, chunk_size=100)
        ids = np.array(
            archive.database.query("SELECT source_id FROM gaiadr3.gaia_source")["source_id"]
        )
        fetch_spectra(ids, settings=settings)
        fetch_spectra(ids, settings=settings)
        assert len(archive.of("data-server/data")) == 1
        (path,) = data_files(tmp_path)
        os.utime(path, (time.time() - 31 * 86_400,) * 2)
        fetch_spectra(ids, settings=settings)
        assert len(archive.of("data-server/data")[-1].ids) == 5, "those without are asked again"


@pytest.mark.parametrize("damage", ["gone", "cut", "nonsense", "swapped"])
def test_damaged_files_are_fetched_again(tmp_path, damage):
    with make_archive(n=40, n_without=0) as archive:
        settings = make_settings(archive, chunk_size=20)
        fetch_spectra(archive.spectra.source_id, settings=settings)
        first, second = data_files(tmp_path)
        if damage == "gone":
            first.unlink()
        elif damage == "cut":
            first.write_bytes(first.read_bytes()[:-100])
        elif damage == "nonsense":
            first.write_bytes(os.urandom(first.stat().st_size))
        else:
            first.write_bytes(second.read_bytes())
        got = fetch_spectra(archive.spectra.source_id, settings=settings)
        check_rows(got, archive.spectra.source_id, archive)
        assert set(archive.asked.values()) == {1, 2}, "only the damaged chunk"


@pytest.mark.parametrize(("n_absent", "n_spectra"), [(10, 0), (2, 8), (1, 1)])
def test_what_another_fetch_finds_meanwhile_is_not_asked_for_again(tmp_path, n_absent, n_spectra):
    with make_archive(n=10, n_without=10) as archive:
        absent = FIRST_ID + 2 * np.arange(n_absent)
        ids = np.concatenate([absent, archive.spectra.source_id[:n_spectra]])
        settings = make_settings(archive, chunk_size=10)
        stream = open_stream(ids, settings=settings, cache=tmp_path)  # nothing is known yet
        fetch_spectra(absent, settings=settings, cache=tmp_path)
        flags = np.concatenate([block.flags for block in stream.blocks(100)])
    no_public_xp = int(QualityFlag.NO_PUBLIC_XP)
    assert flags.tolist() == [no_public_xp] * n_absent + [0] * n_spectra
    with pytest.raises(InputError, match="open the stream again"):
        next(stream.blocks(100))


@pytest.mark.parametrize(
    ("what", "place"),
    [
        ("what it is", 3),
        ("the number of sources", 8),
        ("the size", 13),
        ("an id", 24),
        ("what the archive had", 32),
        ("the header of the records", b"'<f8'"),
        ("a number", -100),
    ],
)
def test_a_flipped_bit_in_a_file_is_not_believed(what, place, tmp_path):
    with make_archive(n=10, n_without=2) as archive:
        settings = make_settings(archive, chunk_size=20)
        asked = np.append(archive.spectra.source_id, FIRST_ID)
        fetch_spectra(asked, settings=settings, cache=tmp_path)
        (path,) = tmp_path.rglob("*.chunk")
        content = bytearray(path.read_bytes())
        at = content.index(place) + 2 if isinstance(place, bytes) else place
        content[at] ^= 0x0F if isinstance(place, bytes) else 0x04  # 'f' to 'i'
        path.write_bytes(content)
        for _ in range(2):
            got = fetch_spectra(asked, settings=settings, cache=tmp_path)
            check_rows(got, asked, archive)
            assert got.flags[-1] == QualityFlag.NO_PUBLIC_XP
        assert max(archive.asked.values()) == 2


def test_files_that_are_none_of_the_cache_are_let_be(tmp_path):
    with make_archive(n=10) as archive:
        ids, settings = archive.spectra.source_id, make_settings(archive)
        fetch_spectra(ids, settings=settings, cache=tmp_path)
        (folder,) = (tmp_path / "spectra").iterdir()
        np.save(folder / "mine.npy", np.arange(3))
        with (folder / "other.chunk").open("wb") as stream:
            np.save(stream, np.arange(3))
        check_rows(fetch_spectra(ids, settings=settings, cache=tmp_path), ids, archive)
        assert max(archive.asked.values()) == 1
        (listed,) = list_cache_folders(tmp_path)
        assert listed.n_spectra == 10
        listed.clear()
    assert [path.name for path in folder.iterdir()] == ["mine.npy"]


def test_leftovers_of_a_killed_process_go_after_a_day(tmp_path):
    cache = open_cache(tmp_path)
    old, new = cache.folder / ".old.chunk.1a2b.part", cache.folder / ".new.chunk.1a2b.part"
    for path in (old, new):
        path.write_bytes(b"half a chunk")
    os.utime(old, (time.time() - 90_000,) * 2)
    open_cache(tmp_path)
    assert not old.exists()
    assert new.exists(), "another process may be writing it"


def test_a_full_disk_costs_the_cache_not_the_spectra(monkeypatch, caplog):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gaia_redshift.archive.cache.write_records", refuse)
    with make_archive(n=40) as archive:
        asked = np.concatenate([archive.spectra.source_id, archive.spectra.source_id])
        check_rows(fetch_spectra(asked, settings=make_settings(archive)), asked, archive)
        assert "No space left" in caplog.text
        assert max(archive.asked.values()) == 1


def test_no_place_for_a_cache(tmp_path):
    (tmp_path / "file").write_text("")
    with make_archive(n=4) as archive:
        options = {"settings": make_settings(archive), "cache": tmp_path / "file" / "cache"}
        with pytest.warns(GaiaRedshiftWarning, match="cannot be used as cache"):
            got = fetch_spectra(archive.spectra.source_id, **options)
        check_rows(got, archive.spectra.source_id, archive)
        with pytest.raises(InputError, match="no cache to use offline"):
            fetch_spectra(archive.spectra.source_id, offline=True, **options)
        with pytest.raises(InputError, match="offline=True needs the cache"):
            fetch_spectra(archive.spectra.source_id, offline=True, cache=False)


def test_offline_asks_nothing(tmp_path):
    with make_archive(n=8, n_without=2) as archive:
        settings = make_settings(archive)
        fetch_spectra(archive.spectra.source_id[:5], settings=settings, cache=tmp_path / "c")
    got, account = fetch_with_account(
        archive.spectra.source_id, settings=settings, cache=tmp_path / "c", offline=True
    )
    assert account.counts == {"spectrum": 5, "failed": 3}
    assert "not in the cache" in account.summary()
    np.testing.assert_array_equal(got.bp.coefficients[:5], archive.spectra.bp.coefficients[:5])
    assert (got.flags[5:] == QualityFlag.FETCH_FAILED).all()
    with pytest.raises(InputError, match="not possible when offline"):
        fetch_spectra("SELECT source_id FROM x.y", cache=tmp_path / "c", offline=True)


def test_releases_and_servers_are_kept_apart(tmp_path):
    names = [
        SpectraCache(tmp_path, RELEASES[release], url).folder.name
        for release, url in (
            ("DR3", "https://gea.esac.esa.int/data-server/data"),
            ("DR4", "https://gea.esac.esa.int/data-server/data"),
            ("DR3", "http://127.0.0.1:8000/data-server/data"),
        )
    ]
    assert names == ["DR3-gea.esac.esa.int", "DR4-gea.esac.esa.int", "DR3-127.0.0.1_8000"]


def test_a_read_only_cache_is_still_read(tmp_path):
    with make_archive(n=10) as archive:
        settings = make_settings(archive)
        fetch_spectra(archive.spectra.source_id[:5], settings=settings)
        (folder,) = (tmp_path / "gaia_redshift" / "spectra").iterdir()
        cache = SpectraCache(tmp_path / "gaia_redshift", RELEASES["DR3"], archive.data_url)
        cache.writable = False  # root may write anywhere: the file system cannot be made to refuse
        assert not cache.add(np.array([1]), np.array([1], dtype=np.int8), None)
        folder.chmod(0o555)
        got = fetch_spectra(archive.spectra.source_id, settings=settings)
        folder.chmod(0o755)
        check_rows(got, archive.spectra.source_id, archive)
        assert len(set(archive.asked)) == 10
        assert max(archive.asked.values()) == 1


def test_info_and_clear():
    with make_archive(n=12, n_without=3) as archive:
        ids = np.array(
            archive.database.query("SELECT source_id FROM gaiadr3.gaia_source")["source_id"]
        )
        fetch_spectra(ids, settings=make_settings(archive))
        (folder,) = list_cache_folders()
        assert (folder.n_spectra, folder.n_absent) == (12, 3)
        assert folder.n_bytes > 1000
        folder.clear()
        assert list_cache_folders() == []
        assert not folder.path.exists()
        check_rows(fetch_spectra(ids, settings=make_settings(archive)), ids, archive)
