"""Clean samples: in Python, and by the expressions for TOPCAT and ADQL, which choose the same."""

import re
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from gaia_redshift import QualityFlag, predict_table, select_clean, simulate_spectra
from gaia_redshift.clean import LEVELS, explain_unusable, find_clean, format_clean
from gaia_redshift.errors import InputError
from gaia_redshift.flags import FATAL
from gaia_redshift.tables import build_table
from research.clean_samples import measure_levels, measure_passing

N = 400


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(5)
    flags = np.zeros(N, dtype=int)
    for flag in QualityFlag:
        flags[rng.random(N) < 0.02] |= int(flag)
    redshift = rng.uniform(0, 0.5, N)
    redshift[(flags & int(FATAL)) != 0] = np.nan
    half = rng.uniform(0.002, 0.05, N)
    return build_table(np.arange(N), redshift, flags, lower=redshift - half, upper=redshift + half)


def test_levels_lie_within_each_other(table):
    usable, clean, precise = (find_clean(table, level) for level in LEVELS)
    assert N > usable.sum() > clean.sum() > precise.sum() > 0
    assert not (clean & ~usable).any()
    assert not (precise & ~clean).any()
    rows = select_clean(table, "usable")
    assert rows["source_id"].tolist() == np.flatnonzero(usable).tolist()
    assert not np.ma.getmaskarray(rows["redshift_cnn"]).any()
    assert not ((rows["flags_cnn"] & int(QualityFlag.UNLIKE_TRAINING)) != 0).any()
    assert ((rows["flags_cnn"] & int(QualityFlag.MULTIPLE_PEAKS)) != 0).any(), "they are kept"


def test_a_part_with_the_narrowest_intervals(table):
    every, half = select_clean(table), select_clean(table, completeness=0.5)
    assert len(half) == pytest.approx(0.5 * len(every), abs=1)

    def width(rows):
        return (rows["redshift_cnn_upper"] - rows["redshift_cnn_lower"]) / (
            1 + rows["redshift_cnn"]
        )

    left_out = np.isin(every["source_id"], half["source_id"], invert=True)
    assert width(half).max() <= width(every[left_out]).min()
    assert len(select_clean(table, completeness=1)) == len(every)


def evaluate_topcat(expression, table):
    """TOPCAT's expressions are Java's; these few forms are Python's too."""
    words = re.sub(r"!NULL_(\w+)", r"np.isfinite(\1)", expression).replace(" && ", ") & (")
    columns = {n: np.ma.filled(np.ma.asarray(table[n], float), np.nan) for n in table.colnames}
    columns["flags_cnn"] = np.asarray(table["flags_cnn"])
    with np.errstate(invalid="ignore"):
        return eval(f"({words})", {"np": np}, columns)


def evaluate_adql(expression, table):
    """SQLite divides integers as ADQL's databases do."""
    base = sqlite3.connect(":memory:")
    base.create_function("MOD", 2, lambda a, b: a % b)
    names = [n for n in table.colnames if n != "redshift_cnn_pdf"]
    base.execute(f"CREATE TABLE t ({', '.join(names)})")
    marks = ", ".join("?" * len(names))
    for row in table[names]:
        cells = [None if np.ma.is_masked(cell) else cell.item() for cell in row]
        base.execute(f"INSERT INTO t VALUES ({marks})", cells)
    found = [n for (n,) in base.execute(f"SELECT source_id FROM t WHERE {expression}")]
    base.close()
    return np.isin(np.asarray(table["source_id"]), found)


@pytest.mark.parametrize("level", LEVELS)
def test_expressions_choose_the_same_rows(table, level):
    like_default = table.copy()
    like_default["probability_galaxy"] = np.random.default_rng(6).uniform(0.3, 1, N)
    for rows, names in ((like_default, None), (table, table.colnames)):
        chosen = find_clean(rows, level)
        assert (evaluate_topcat(format_clean(level, names), rows) == chosen).all()
        assert (evaluate_adql(format_clean(level, names, language="adql"), rows) == chosen).all()


def test_the_sample_says_how_it_was_chosen(table):
    rows = select_clean(table, "clean", completeness=0.3)
    assert (evaluate_topcat(rows.meta["clean_sample"], table)).sum() == len(rows)


def test_a_probability_of_galaxies_counts_where_there_is_one(table):
    more = table.copy()
    more["probability_galaxy"] = np.linspace(0, 1, N)
    before, after = find_clean(table), find_clean(more)
    assert (after == (before & (more["probability_galaxy"] >= 0.5))).all()
    assert "probability_galaxy >= 0.5" in format_clean("clean", more.colnames)


def test_redshifts_without_intervals(table):
    plain = table["source_id", "redshift_cnn", "flags_cnn"]
    assert find_clean(plain, "precise").sum() == find_clean(plain, "clean").sum()
    assert "lower" not in format_clean("precise", plain.colnames)
    with pytest.raises(InputError, match="no intervals"):
        select_clean(plain, completeness=0.5)


def test_words_that_are_wrong(table):
    with pytest.raises(InputError, match=r"no level 'pure'.*usable, clean, precise"):
        select_clean(table, "pure")
    with pytest.raises(InputError, match="completeness must be"):
        select_clean(table, completeness=90)
    with pytest.raises(InputError, match="no column 'redshift_cnn'"):
        select_clean(table["source_id", "flags_cnn"])
    with pytest.raises(InputError, match="topcat or adql"):
        format_clean(language="sql")


def test_how_many_are_usable_in_words():
    assert explain_unusable(2000, 0, {"unlike_training": 2000, "multiple_peaks": 70}) == (
        "0 of 2,000 usable: all unlike the training galaxies"
    )
    assert explain_unusable(10, 9, {"unlike_training": 1}) == (
        "9 of 10 usable: the others unlike the training galaxies"
    )
    assert explain_unusable(5, 5, {"multiple_peaks": 3}) == "5 of 5 usable"
    assert explain_unusable(9, 5, {"unlike_training": 3, "missing_bp": 1}) == (
        "5 of 9 usable: 3 unlike the training galaxies, 1 without BP"
    )


NUMBERS = Path(__file__).parents[1] / "docs" / "explanation" / "clean_numbers.md"
SHARED = Path(__file__).parents[2] / "shared" / "data"


def read_promises():
    """The published tables: (level, bin) to kept, accurate; kind to the part of each level."""
    lines = [line.strip("| \n") for line in NUMBERS.read_text(encoding="utf-8").splitlines()]
    cells = [[cell.strip(" `") for cell in line.split("|")] for line in lines if "|" in line]
    galaxies = {(row[0], row[1]): (float(row[3]), row[4]) for row in cells if row[0] in LEVELS}
    kinds = {
        row[0]: dict(zip(LEVELS, map(float, row[2:]), strict=True))
        for row in cells
        if len(row) == 2 + len(LEVELS) and row[1].isdigit()
    }
    return galaxies, kinds


def test_the_published_numbers_hold_on_fresh_galaxies():
    promised, kinds = read_promises()
    n = 3000
    table = predict_table(simulate_spectra(n, seed=1234), keep="all")
    for row in measure_levels(table):
        if row["bin"] != "all":
            continue
        kept, accurate = promised[row["level"], "all"]
        for found, stated in ((row["completeness"], kept), (row["accurate"], float(accurate))):
            assert found == pytest.approx(
                stated, abs=4 * np.sqrt(stated * (1 - stated) / n) + 0.005
            )
    for kind in ("star", "quasar"):
        others = predict_table(simulate_spectra(600, seed=1234, kind=kind))
        (passing,) = measure_passing({kind: others})
        for level in LEVELS:
            stated = kinds[f"simulated {kind}s"][level]
            assert passing[level] <= stated + 4 * np.sqrt(stated / 600) + 0.005


@pytest.mark.skipif(not SHARED.is_dir(), reason="real spectra are not here")
def test_the_published_numbers_hold_on_real_sources_that_are_no_galaxies():
    _, kinds = read_promises()
    for name in ("xp_continuous_616_dr3_sources.csv.gz", "xp_coefficients_2000_dr3_sources.fits"):
        table = predict_table(SHARED / name, flux_errors=True)
        (passing,) = measure_passing({"real": table})
        stated = kinds[f"{len(table):,} real DR3 sources"]
        assert {level: round(float(passing[level]), 4) for level in LEVELS} == stated
        assert passing["clean"] < 0.01


def test_the_measures_of_a_sample_made_by_hand():
    table = build_table(
        np.arange(6), [0.1, 0.2, 0.3, 0.4, 0.5, np.nan], [0, 0, 0, 1 << 20, 1 << 17, 1]
    )
    table["redshift_true"] = [0.1, 0.2, 0.5, 0.4, 0.5, 0.1]
    table["mag"] = [15.0, 16, 17, 18, 19, 20]
    found = measure_levels(table, brightness="mag", redshift_edges=[0, 0.25, 1])
    rows = {(row["level"], row["bin"]): row for row in found}
    assert rows["usable", "all"]["completeness"] == pytest.approx(4 / 6)
    assert rows["clean", "all"]["completeness"] == pytest.approx(3 / 6)
    assert rows["clean", "all"]["accurate"] == pytest.approx(2 / 3)
    assert rows["clean", "z 0 to 0.25"]["n"] == 3
    assert rows["clean", "brightest third"]["completeness"] == 1
    assert rows["clean", "faintest third"]["n_kept"] == 0
    with pytest.raises(InputError, match="no column 'z'"):
        measure_levels(table, "z")
