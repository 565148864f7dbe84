"""DataFrames piece by piece: pandas, Dask (also when a worker dies), LSDB and HATS."""

import os
import signal
import time

import numpy as np
import pandas as pd
import pytest

from gaia_redshift._threads import Crew
from gaia_redshift.errors import InputError
from gaia_redshift.flags import QualityFlag
from gaia_redshift.predict import predict_catalog, predict_dask, predict_partition, predict_table

N = 60
MODEL = "kiraleos2023"


@pytest.fixture(scope="module")
def frame():
    """Made-up spectra: what matters here is that each row keeps its result."""
    rng = np.random.default_rng(4)
    columns = {
        "source_id": 4 * 10**18 + 7 * np.arange(N),
        "ra": rng.uniform(0, 360, N),
        "dec": rng.uniform(-80, 80, N),
        "tag": [f"galaxy {i}" for i in range(N)],
    }
    for band, number in (("bp", 56), ("rp", 57)):
        coefficients = 100 * rng.normal(size=(N, 55))  # bright: the unit is not judged
        coefficients[:, 0] += 10_000 + rng.uniform(0, 5000, N)
        coefficients[5, 3] = np.nan
        columns |= {
            f"{band}_basis_function_id": np.full(N, number, dtype=np.int16),
            f"{band}_n_parameters": np.full(N, 55, dtype=np.int16),
            f"{band}_coefficients": list(coefficients),
            f"{band}_coefficient_errors": list(rng.uniform(0.1, 1, size=(N, 55))),
            f"{band}_coefficient_correlations": list(np.zeros((N, 1485), dtype=np.float32)),
        }
    return pd.DataFrame(columns)


@pytest.fixture(scope="module")
def expected(frame):
    return predict_table(frame, model=MODEL).to_pandas(use_nullable_int=False)


def assert_equal(result, expected, atol=1e-6):
    """Partitions are other batches than the whole: the last bit of a float32 may differ."""
    result = result.sort_values("source_id")
    assert result["source_id"].dtype == np.int64 or str(result["source_id"].dtype).startswith("int")
    assert result["source_id"].tolist() == expected["source_id"].tolist()
    assert result["flags_cnn"].tolist() == expected["flags_cnn"].tolist()
    np.testing.assert_allclose(
        result["redshift_cnn"].to_numpy(dtype=float), expected["redshift_cnn"], atol=atol
    )
    assert np.isnan(result["redshift_cnn"].to_numpy(dtype=float)).tolist() == [
        i == 5 for i in range(N)
    ]


def test_a_frame_keeps_its_index_and_the_types_of_an_empty_one(frame, expected):
    indexed = frame.set_index(pd.Index(range(100, 100 + N), name="row"))
    result = predict_partition(indexed, model=MODEL, keep=["tag", "ra"])
    assert result.index.equals(indexed.index)
    assert result.columns[:2].tolist() == ["source_id", "redshift_cnn"]
    assert result["tag"].tolist() == frame["tag"].tolist()
    assert_equal(result, expected, atol=0)
    empty = predict_partition(indexed.iloc[:0], model=MODEL, keep=["tag", "ra"])
    assert len(empty) == 0
    assert empty.dtypes.equals(result.dtypes)
    assert (empty.index.dtype, empty.index.name) == (indexed.index.dtype, "row")


def test_source_id_may_be_the_index(frame, expected):
    result = predict_partition(frame.set_index("source_id"), model=MODEL, keep="all")
    assert result["source_id"].tolist() == result.index.tolist()
    assert {"ra", "dec", "tag"} <= set(result.columns)
    assert "bp_coefficients" not in result.columns
    assert_equal(result.reset_index(drop=True), expected, atol=0)


def test_errors_are_read_where_they_are_asked_for(frame):
    bare = frame.drop(columns=[c for c in frame if "error" in c or "correlation" in c])

    def count(frame, **options):
        flags = predict_partition(frame, model=MODEL, **options)["flags_cnn"]
        return int(((flags & int(QualityFlag.NO_FLUX_ERROR)) != 0).sum())

    assert count(bare) == 0
    assert count(bare, flux_errors=True) == N
    assert count(frame, flux_errors=True) == 0


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda f: f.drop(columns=["bp_coefficients", "rp_coefficients"]), {}, "no BP/RP"),
        (lambda f: f, {"keep": ["z"]}, "no column 'z'"),
        (lambda f: f.assign(bp_coefficients="[1.  2.\n 3.]"), {}, "turned into text"),
    ],
)
def test_frames_that_cannot_be_predicted_say_why(frame, change, options, words):
    with pytest.raises(InputError, match=words) as caught:
        predict_partition(change(frame), model=MODEL, **options)
    assert "\n" not in str(caught.value)


def test_the_machine_that_plans_needs_no_gpu(frame, expected, tmp_path, monkeypatch):
    """The workers' GPU is faked: Keras then runs on the processor."""
    dd = pytest.importorskip("dask.dataframe")
    pytest.importorskip("tensorflow")
    from gaia_redshift.model import keras_engine

    for i in range(2):
        frame.iloc[i * 30 : (i + 1) * 30].to_parquet(tmp_path / f"{i}.parquet")
    parts = dd.read_parquet(tmp_path)
    monkeypatch.setattr(keras_engine, "_list_gpus", lambda backend: [])
    found = predict_dask(parts, model=MODEL, device="gpu")
    with pytest.raises(InputError, match="device must be one of"):
        predict_dask(parts, model=MODEL, device="tpu")
    monkeypatch.setattr(keras_engine, "_list_gpus", lambda backend: ["a GPU"])
    assert_equal(found.compute(scheduler="threads"), expected, atol=1e-4)


def test_a_dask_frame_reads_only_what_it_needs(frame, expected, tmp_path):
    dd = pytest.importorskip("dask.dataframe")
    for i in range(4):
        frame.iloc[i * 15 : (i + 1) * 15].to_parquet(tmp_path / f"{i}.parquet")
    found = predict_dask(dd.read_parquet(tmp_path), model=MODEL, keep="tag")
    whole = found.compute(scheduler="threads")
    assert found.dtypes.equals(whole.dtypes)
    assert_equal(whole, expected)
    assert whole["tag"].tolist() == frame["tag"].tolist()
    # Dask turns arrays of a pandas frame into text unless it is told not to.
    with pytest.raises(InputError, match="convert-string"):
        predict_dask(dd.from_pandas(frame, npartitions=2), model=MODEL).compute(scheduler="sync")
    with pytest.raises(InputError, match="takes a Dask DataFrame"):
        predict_dask(frame)


def test_a_task_of_dask_takes_the_one_thread_that_it_was_given(frame, tmp_path, monkeypatch):
    dd = pytest.importorskip("dask.dataframe")
    frame.to_parquet(tmp_path / "0.parquet")
    given, share = [], Crew.share

    def watch(crew, work, n):
        monkeypatch.setattr(crew, "_most", 4)
        given.append(crew.n_threads)
        share(crew, work, n)

    monkeypatch.setattr(Crew, "share", watch)
    predict_partition(frame, model=MODEL)
    assert set(given) == {4}
    found = predict_dask(dd.read_parquet(tmp_path), model=MODEL)
    given.clear()
    found.compute(scheduler="threads")
    assert set(given) == {1}


def test_a_cluster_that_loses_a_worker_still_gives_everything(frame, expected, tmp_path):
    """Two workers; one is killed when a few partitions are done and most are not."""
    dd = pytest.importorskip("dask.dataframe")
    distributed = pytest.importorskip("distributed")
    for i in range(30):
        frame.iloc[i * 2 : (i + 1) * 2].to_parquet(tmp_path / f"{i:02d}.parquet")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=None,
            host="127.0.0.1",
            local_directory=str(tmp_path / "scratch"),
            silence_logs=50,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        partitions = client.compute(
            predict_dask(dd.read_parquet(tmp_path), model=MODEL).to_delayed()
        )
        deadline = time.monotonic() + 120
        while sum(future.done() for future in partitions) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        victim = client.run(os.getpid)
        waiting = sum(not future.done() for future in partitions)
        os.kill(next(iter(victim.values())), signal.SIGKILL)
        result = pd.concat(client.gather(partitions))
    assert waiting > 0, "everything was done before the kill"
    assert_equal(result, expected)


def test_an_lsdb_catalogue_becomes_one_of_redshifts(frame, expected, tmp_path):
    lsdb = pytest.importorskip("lsdb")
    made = lsdb.from_dataframe(frame, ra_column="ra", dec_column="dec", partition_rows=20)
    made.write_catalog(tmp_path / "spectra", catalog_name="spectra", progress_bar=False)
    catalog = lsdb.open_catalog(tmp_path / "spectra", columns="all")
    assert catalog.npartitions > 1
    redshifts = predict_catalog(catalog, model=MODEL, keep="tag")
    redshifts.write_catalog(tmp_path / "redshifts", catalog_name="redshifts", progress_bar=False)
    saved = lsdb.open_catalog(tmp_path / "redshifts", columns="all").compute(progress_bar=False)
    assert saved.columns.tolist() == [*expected.columns, "ra", "dec", "tag"]
    assert_equal(pd.DataFrame(saved), expected)
    plain = catalog.map_partitions(predict_partition, model=MODEL, keep=["ra", "dec"])
    assert_equal(pd.DataFrame(plain.compute(progress_bar=False)), expected)
    with pytest.raises(InputError, match="takes an LSDB catalogue"):
        predict_catalog(frame)
