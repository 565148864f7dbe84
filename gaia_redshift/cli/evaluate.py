"""The command ``evaluate``: metrics of redshifts against the truth, as files and a page."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaia_redshift._extras import import_research
from gaia_redshift._files import removed_if_empty
from gaia_redshift.cli.options import Command, add, add_option, take
from gaia_redshift.cli.output import say
from gaia_redshift.errors import GaiaRedshiftWarning, InputError

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["EVALUATE"]

_TRAIN, _TEST, _TEMPLATES, _LIMIT = 20_000, 2_000, 300_000, 500


def _declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="one table with predicted and true redshifts, or files of spectra with true redshifts",
    )
    add(parser, "--output", metavar="DIR", required=True, help="the report's folder")
    add(parser, "--overwrite", help="replace an earlier report")
    add(parser, "--json", help="print the metrics as JSON, as in metrics.json")
    add(parser, "--truth", default="redshift_true")
    add_option(parser, "--prediction COLUMN", "of a table of predictions (redshift_cnn)")
    add(
        parser,
        "--model",
        default=None,
        action="append",
        metavar="NAME",
        help="predict with this model (the default one); with --baselines these models, else all",
    )
    add_option(
        parser,
        "--against COLUMN",
        "another column to compare with, on common rows, such as redshift_ugc",
        action="append",
    )
    add_option(parser, "--brightness COLUMN", "column to bin by, too")
    group = parser.add_argument_group(
        "baselines (in a checkout, with scikit-learn, the extra `eval`)"
    )
    add_option(group, "--baselines", "compare the models with simple methods and with the limit")
    add_option(
        group,
        "--train N|FILE",
        f"so many simulated galaxies, or spectra with true redshifts ({_TRAIN})",
    )
    add_option(group, "--test N|FILE", f"the same for the test ({_TEST})")
    add(group, "--seed", help="random seed (1)")
    add_option(group, "--survey", "of simulated galaxies (sdss)", choices=["sdss", "flat"])
    add_option(
        group,
        "--templates N",
        f"simulated galaxies behind the limit ({_TEMPLATES}); 0 leaves it out",
        type=int,
    )
    add_option(
        group,
        "--limit-galaxies N",
        f"test galaxies for which the limit is worked out ({_LIMIT})",
        type=int,
    )


def _run(arguments: argparse.Namespace) -> int:
    from gaia_redshift.evaluate.report import METRICS_FILE, check_folder

    of_tables = take(arguments, "against prediction brightness")
    of_baselines = take(arguments, "train test seed survey templates limit_galaxies")
    wrong, words = (of_tables, "does not go") if arguments.baselines else (of_baselines, "goes")
    for name, value in wrong.items():
        if value is not None:
            raise InputError(f"--{name.replace('_', '-')} {words} with --baselines")
    if arguments.baselines and arguments.inputs:
        raise InputError("with --baselines, give files as --train FILE and --test FILE")
    if not arguments.baselines and not arguments.inputs:
        raise InputError("give a table or spectra, or --baselines (evaluate --help)")
    benchmark = import_research("benchmark", "--baselines") if arguments.baselines else None
    check_folder(arguments.output, overwrite=arguments.overwrite)
    with removed_if_empty(arguments.output):
        page = _compare_methods(arguments, benchmark) if benchmark else _judge_table(arguments)
    if arguments.json:
        print((page.parent / METRICS_FILE).read_text(encoding="utf-8").rstrip())
    else:
        say(arguments, f"report: {page}")
    return 0


def _compare_methods(arguments: argparse.Namespace, benchmark: Any) -> Path:
    asked = take(arguments, "seed survey templates limit_galaxies")
    usual = {"seed": 1, "survey": "sdss", "templates": _TEMPLATES, "limit_galaxies": _LIMIT}
    seed, survey, templates, limit = (
        usual[name] if value is None else value for name, value in asked.items()
    )
    result = benchmark.run_benchmark(
        _parse_galaxies(arguments.train, _TRAIN),
        _parse_galaxies(arguments.test, _TEST),
        seed=seed,
        survey=survey,
        truth=arguments.truth,
        models=arguments.model,
        n_templates=templates,
        n_limit=limit,
        progress=arguments.progress,
    )
    page: Path = benchmark.write_benchmark(result, arguments.output, overwrite=arguments.overwrite)
    if not (arguments.json or arguments.quiet):
        kind = result.description["test"]["kind"]
        note = " (simulated galaxies)" if kind == "simulated" else ""
        print(f"{result.comparison.n_common:,} test galaxies{note}:")
        _print_summary(result.comparison.summary)
        if result.limit_comparison is not None and result.limit is not None:
            trust = "" if result.limit["reliable"] else ", not reliable: the true limit is lower"
            print(f"{result.limit_comparison.n_common:,} of them, with the limit{trust}:")
            _print_summary(result.limit_comparison.summary)
            if result.trusted_comparison is not None and not result.limit["reliable"]:
                n = result.trusted_comparison.n_common
                print(f"{n:,} of these, with enough effective templates:")
                _print_summary(result.trusted_comparison.summary)
    return page


def _judge_table(arguments: argparse.Namespace) -> Path:
    from gaia_redshift.evaluate import compare_predictions, evaluate_table, write_report

    prediction = arguments.prediction or "redshift_cnn"
    table = _load_table(arguments)
    truth = arguments.truth
    options = {"brightness": arguments.brightness}
    result: Any
    if arguments.against:
        columns = [prediction, *arguments.against]
        result = compare_predictions(table, columns, truth, **options)
    else:
        result = evaluate_table(table, truth, prediction, **options)
    page = write_report(result, arguments.output, overwrite=arguments.overwrite)
    if arguments.json or arguments.quiet:
        return page
    if arguments.against:
        print(f"{result.n_common:,} of {result.n_rows:,} rows have all of these:")
        _print_summary(result.summary)
    else:
        m = result.metrics
        note = " (simulated galaxies)" if result.simulated else ""
        print(
            f"{prediction} against {truth}{note}: n {m['n']:,}, without prediction"
            f" {m['n_masked']:,}, MAE {m['mae']:.4f}, bias {m['bias']:+.4f},"
            f" sigma_NMAD {m['sigma_nmad']:.4f}, |dz| > 0.05: {100 * m['outliers_05']:.1f} %"
        )
    return page


def _load_table(arguments: argparse.Namespace) -> Table:
    """Return the table of predictions, predicting spectra where that is what the files hold."""
    from gaia_redshift.readers.files import read_table

    if arguments.prediction and arguments.model:
        raise InputError("--prediction is for tables, --model for spectra: give one of them")
    if not arguments.prediction and (
        arguments.model or len(arguments.inputs) > 1 or _holds_spectra(arguments.inputs[0])
    ):
        return _predict(arguments)
    if len(arguments.inputs) > 1:
        raise InputError("give one table (several files are read where they hold spectra)")
    return read_table(arguments.inputs[0])


def _holds_spectra(name: str) -> bool:
    """Whether this is anything but a table of `write_table` without coefficients."""
    from gaia_redshift.readers import iter_spectra
    from gaia_redshift.tables import table_format

    try:
        table_format(name)
    except InputError:
        return True
    if not Path(name).is_file():
        raise InputError(f"{name}: no such file")
    try:
        next(iter(iter_spectra(name, block_size=1, errors=False, correlations=False)), None)
    except InputError:
        return False
    return True


def _predict(arguments: argparse.Namespace) -> Table:
    from gaia_redshift.evaluate.evaluation import find_training_seed
    from gaia_redshift.predict import load_for_prediction, predict_table
    from gaia_redshift.readers import check_columns

    if len(arguments.model or []) > 1:
        raise InputError("give one --model (several go with --baselines)")
    inputs = arguments.inputs if len(arguments.inputs) > 1 else arguments.inputs[0]
    needed = (arguments.truth, *(arguments.against or []), arguments.brightness)
    check_columns(inputs, [n for n in needed if n and not n.startswith("redshift_cnn")])
    model = load_for_prediction(arguments.model[0] if arguments.model else "default")
    table = predict_table(inputs, model=model, keep="all", progress=arguments.progress)
    for name in (arguments.truth, *(arguments.against or [])):  # names that the output has itself
        if f"{name}_in" in table.colnames:
            table[f"{name}_cnn"], table[name] = table[name], table[f"{name}_in"]
    seed = find_training_seed(table["source_id"].data, model.manifest)
    if seed is not None:
        warnings.warn(
            f"the model {model.name} was trained on simulated galaxies of seed {seed}, and some"
            " of these are of that seed: results are too good",
            GaiaRedshiftWarning,
            stacklevel=2,
        )
    return table


def _parse_galaxies(value: str | None, default: int) -> int | str:
    if value is None:
        return default
    return int(value) if value.isdigit() else value


def _print_summary(table: Table) -> None:
    width = max(len(str(name)) for name in table["prediction"])
    print(f"{'':{width}}     MAE     bias  sigma_NMAD  |dz|>0.05  MAE/first")
    for row in table:
        print(
            f"{row['prediction']:{width}}  {row['mae']:.4f}  {row['bias']:+.4f}      "
            f"{row['sigma_nmad']:.4f}     {100 * row['outliers_05']:5.1f} %     "
            f"{row['mae_ratio']:.3f}"
        )


EVALUATE = Command(
    "evaluate",
    "compare redshifts with true ones",
    _declare,
    _run,
    """examples:
  gaia-redshift evaluate redshifts.ecsv -o report
  gaia-redshift evaluate redshifts.fits --truth redshift_sdss --against redshift_ugc -o report
  gaia-redshift evaluate galaxies.parquet --model kiraleos2023 -o report
  python -m gaia_redshift evaluate --baselines --train 20000 --test 2000 --seed 1 -o report
  python -m gaia_redshift evaluate --baselines --train train.parquet --test test.parquet -o report

A file of spectra is predicted first, a table with predictions is taken as it is. The folder gets
metrics.json, tables (.ecsv), pictures (.png), and report.html, which needs no other file and no
network. Galaxies without a prediction are counted.""",
)
