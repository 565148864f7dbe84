"""Work that threads share: all of it is done once, and what fails is told."""

import threading

import numpy as np
import pytest

from gaia_redshift import sample_spectra, simulate_spectra
from gaia_redshift._threads import Crew, one_thread


def test_every_piece_is_done_once_whoever_else_calls():
    crew = Crew()
    done = [np.zeros(200, dtype=int) for _ in range(4)]

    def work(counts):
        def piece(number):
            counts[number] += 1

        crew.share(piece, len(counts))

    callers = [threading.Thread(target=work, args=(counts,)) for counts in done]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all((counts == 1).all() for counts in done)
    crew.share(pytest.fail, 0)


def test_the_first_failure_ends_the_work_and_the_crew_stays_usable():
    crew = Crew()
    begun = []

    def work(number):
        begun.append(number)
        if number == 3:
            raise ValueError("piece 3")

    with pytest.raises(ValueError, match="piece 3"):
        crew.share(work, 10_000)
    assert len(begun) < 10_000
    done = []
    crew.share(done.append, 50)
    assert sorted(done) == list(range(50))


def test_who_is_to_keep_to_one_thread_starts_no_other(monkeypatch):
    monkeypatch.setattr("gaia_redshift._threads._count_threads", lambda: 4)
    crew, threads = Crew(), set()
    with one_thread():
        crew.share(lambda _: threads.add(threading.current_thread()), 1000)
        assert crew.n_threads == 1
    assert threads == {threading.current_thread()}
    assert crew.n_threads == 4


def test_flux_errors_of_many_blocks_stand_in_their_rows():
    spectra = simulate_spectra(600, seed=3)
    spectra.bp.errors[500] = np.nan
    whole = sample_spectra(spectra)
    parts = [sample_spectra(spectra[start : start + 100]) for start in range(0, 600, 100)]
    flux_error = np.concatenate([part.flux_error for part in parts])
    np.testing.assert_allclose(whole.flux_error, flux_error, rtol=1e-12)
    assert np.flatnonzero(np.isnan(whole.flux_error).any(axis=1)).tolist() == [500]
    assert whole.quality.tolist() == [flag for part in parts for flag in part.quality.tolist()]
