"""Clean samples: in Python, and by the expressions for TOPCAT and ADQL, which choose the same."""

import re
import sqlite3

import numpy as np
import pytest

from gaia_redshift import QualityFlag, select_clean
from gaia_redshift.clean import LEVELS, explain_unusable, find_clean, format_clean
from gaia_redshift.errors import InputError
from gaia_redshift.flags import FATAL
from gaia_redshift.table import build_table

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
    chosen = find_clean(table, level)
    assert (evaluate_topcat(format_clean(level), table) == chosen).all()
    assert (evaluate_adql(format_clean(level, language="adql"), table) == chosen).all()


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
