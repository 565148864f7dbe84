"""Logging in, over https as astroquery does it; the password never shows."""

import logging
import ssl

import pytest
from archive_samples import check_rows, make_archive, make_settings

from gaia_redshift import fetch_spectra
from gaia_redshift.archive import ArchiveSettings, run_query
from gaia_redshift.archive.settings import Credentials, find_credentials
from gaia_redshift.errors import ArchiveError, InputError

SECRET = "correct horse & battery=staple"


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """An archive behind https, whose certificate authority is known to this process alone."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with make_archive(n=12, n_without=3, users={"ada": SECRET}, tls=context) as archive:
        yield archive


def test_logged_in_requests_carry_the_session(archive, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    ids = archive.spectra.source_id
    got = fetch_spectra(ids, settings=make_settings(archive), login=("ada", SECRET))
    check_rows(got, ids, archive)
    assert {r.user for r in archive.of("data-server/data")} == {"ada"}
    query = "SELECT source_id FROM gaiadr3.gaia_source"
    assert len(run_query(query, settings=make_settings(archive), login=("ada", SECRET))) == 15
    assert {r.user for r in archive.of("async")} == {"ada"}
    assert archive.jobs == {}, "jobs of a user are not left on the server"
    printed = capfd.readouterr()
    assert not printed.out
    for text in (printed.err, caplog.text):
        assert "horse" not in text
        assert "staple" not in text


def test_without_login_there_is_no_session(archive):
    fetch_spectra(archive.spectra.source_id, settings=make_settings(archive))
    assert {r.user for r in archive.requests} == {None}
    assert not archive.of("login")


def test_wrong_credentials_give_one_line(archive, capfd, caplog):
    with pytest.raises(ArchiveError, match=r"did not let 'ada' log in: HTTP 401") as caught:
        fetch_spectra([1], settings=make_settings(archive), login=("ada", "wrong " + SECRET))
    text = str(caught.value) + repr(caught.value.__context__) + caplog.text
    assert "\n" not in str(caught.value)
    assert "horse" not in text
    printed = capfd.readouterr()
    assert "horse" not in printed.out + printed.err
    assert len(archive.of("login")) == 1, "a wrong password is not sent again and again"


def test_a_maintenance_page_instead_of_a_session(archive):
    from doubles.loopback import Fault

    archive.faults.append(Fault("html", endpoint="login", times=5))
    with pytest.raises(ArchiveError, match="gave no session"):
        fetch_spectra([1], settings=make_settings(archive), login=("ada", SECRET))


def test_an_unknown_certificate_is_refused(archive, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(ArchiveError, match="certificate cannot be verified"):
        fetch_spectra([1], settings=make_settings(archive))


def test_passwords_are_not_sent_in_the_open():
    settings = ArchiveSettings("http://127.0.0.1:1/tap-server/tap", "http://127.0.0.1:1/data")
    with pytest.raises(InputError, match="needs an https address"):
        fetch_spectra([1], settings=settings, login=("ada", SECRET), cache=False)


def test_where_credentials_come_from(tmp_path, monkeypatch):
    import keyring

    path = tmp_path / "credentials"
    path.write_text(f"ada\n{SECRET}\n")
    assert find_credentials(path, "host") == Credentials("ada", SECRET)
    assert find_credentials(str(path), "host") == Credentials("ada", SECRET)
    assert find_credentials(None, "host") is None
    stored = {("astroquery:host", "grace"): "kept"}
    monkeypatch.setattr(keyring, "get_password", lambda service, user: stored.get((service, user)))
    assert find_credentials("grace", "host") == Credentials("grace", "kept")
    assert SECRET not in repr(Credentials("ada", SECRET))
    path.write_text("only one line\n")
    for wrong, words in (
        (path, "must hold two lines"),
        (tmp_path / "none", "no such file"),
        ("somebody", "no password for 'somebody'"),
        (("ada",), "login takes"),
        (7, "login takes"),
    ):
        with pytest.raises(InputError, match=words):
            find_credentials(wrong, "host")
