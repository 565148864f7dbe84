"""Work that threads share: all of it is done once, and what fails is told."""

import threading

import numpy as np
import pytest

from gaia_redshift import sample_spectra, simulate_spectra
from gaia_redshift._threads import Crew, map_ahead, one_thread, read_ahead


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


def test_who_is_to_keep_to_one_thread_reads_nothing_ahead():
    begun = []

    def count():
        for number in range(5):
            begun.append((number, threading.current_thread()))
            yield number

    with one_thread():
        for n, result in enumerate(map_ahead(str, read_ahead(count(), 2), n_threads=2, ahead=3)):
            assert (result, len(begun)) == (str(n), n + 1)
    assert {thread for _, thread in begun} == {threading.current_thread()}


def test_results_come_in_order_and_no_more_is_begun_than_waits():
    begun, most = [], []

    def count():
        for number in range(100):
            begun.append(number)
            yield number

    found = []
    for result in map_ahead(lambda n: n * n, read_ahead(count(), 2), n_threads=2, ahead=3):
        found.append(result)
        most.append(len(begun) - len(found))
    assert found == [n * n for n in range(100)]
    assert max(most) <= 2 + 1 + 3


def test_what_is_read_ahead_fails_where_it_stands_and_can_be_left():
    def read():
        yield from range(5)
        raise ValueError("damaged")

    found = []
    with pytest.raises(ValueError, match="damaged"):
        found.extend(read_ahead(read(), 2))
    steps = read_ahead(read(), 2)
    assert next(steps) == 0
    n_threads = threading.active_count()
    steps.close()
    assert threading.active_count() == n_threads - 1


def test_flux_errors_of_many_blocks_stand_in_their_rows():
    spectra = simulate_spectra(600, seed=3)
    spectra.bp.errors[500] = np.nan
    whole = sample_spectra(spectra)
    parts = [sample_spectra(spectra[start : start + 100]) for start in range(0, 600, 100)]
    flux_error = np.concatenate([part.flux_error for part in parts])
    np.testing.assert_allclose(whole.flux_error, flux_error, rtol=1e-12)
    assert np.flatnonzero(np.isnan(whole.flux_error).any(axis=1)).tolist() == [500]
    assert whole.quality.tolist() == [flag for part in parts for flag in part.quality.tolist()]
