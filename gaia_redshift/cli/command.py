"""The command ``gaia-redshift``: one subcommand per capability."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from difflib import get_close_matches
from typing import Any

from gaia_redshift._files import escape_controls
from gaia_redshift.cli.archive import run_cache, run_fetch
from gaia_redshift.cli.crossmatch import run_crossmatch
from gaia_redshift.cli.dataset import run_dataset
from gaia_redshift.cli.doctor import run_doctor
from gaia_redshift.cli.enrich import run_enrich
from gaia_redshift.cli.evaluate import run_evaluate
from gaia_redshift.cli.inspect import run_inspect, run_show
from gaia_redshift.cli.options import parse_keep
from gaia_redshift.cli.output import PlainStream
from gaia_redshift.cli.parser import PROGRAM, build_parser
from gaia_redshift.cli.predict import run_predict
from gaia_redshift.cli.research import import_research
from gaia_redshift.cli.send import run_send
from gaia_redshift.errors import GaiaRedshiftError, GaiaRedshiftWarning, InputError
from gaia_redshift.grid import N_FLUX

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 after a failure, 2 for wrong usage, 130 if interrupted."""
    parser = build_parser(_COMMANDS)
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    if arguments.command is None:
        parser.print_help()
        return 2
    streams = PlainStream(sys.stdout), PlainStream(sys.stderr, escape=False)
    with warnings.catch_warnings(), redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        handler = _set_up_messages(arguments)
        try:
            code: int = arguments.run(arguments)
            sys.stdout.flush()
        except KeyboardInterrupt:
            _complain(f"interrupted{_advise_resume(arguments)}")
            code = 130
        except BrokenPipeError:  # the reader of our output, such as `head`, has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        except (GaiaRedshiftError, OSError, MemoryError) as error:
            _complain(str(error) or type(error).__name__)
            code = 1
        finally:
            logging.getLogger("gaia_redshift").removeHandler(handler)
    return code


def _advise_resume(arguments: argparse.Namespace) -> str:
    """How the work goes on that was interrupted."""
    if getattr(arguments, "resume", None) is not None and arguments.output:
        return ": the same command with --resume goes on where it was"
    if arguments.command in ("fetch", "dataset"):
        return ": the same command goes on where it was"
    return ""


def _complain(message: str, kind: str = "error") -> None:
    print(f"{PROGRAM}: {kind}: {escape_controls(' '.join(message.split()))}", file=sys.stderr)


class _PlainFormatter(logging.Formatter):
    """Shows control characters in what others have written."""

    def format(self, record: logging.LogRecord) -> str:
        return escape_controls(super().format(record))


def _set_up_messages(arguments: argparse.Namespace) -> logging.Handler:
    """Send the package's log and warnings to stderr, a line each; other warnings only with -v."""
    package = logging.getLogger("gaia_redshift")
    handler = logging.StreamHandler()
    handler.setFormatter(_PlainFormatter(f"{PROGRAM}: %(message)s"))
    levels = [logging.WARNING, logging.INFO, logging.DEBUG]
    package.setLevel(logging.ERROR if arguments.quiet else levels[min(arguments.verbose, 2)])
    package.addHandler(handler)

    shown: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in shown:  # once, however many files it is true of
            shown.add(str(message))
            _complain(str(message), "warning")

    warnings.simplefilter("default" if arguments.verbose else "ignore")
    if not arguments.quiet:
        warnings.simplefilter("always", GaiaRedshiftWarning)
    warnings.showwarning = show
    return handler


def _show_progress(arguments: argparse.Namespace) -> bool:
    return not arguments.quiet and sys.stderr.isatty()


def _run_predict(arguments: argparse.Namespace) -> int:
    return run_predict(arguments, progress=_show_progress(arguments), complain=_complain)


def _run_fetch(arguments: argparse.Namespace) -> int:
    if not (arguments.inputs or arguments.ids or arguments.adql):
        _complain("give source ids, --ids FILE or --adql QUERY (fetch --help)", "usage")
        return 2
    keep = parse_keep(arguments.keep)
    lost = run_fetch(arguments, keep, progress=_show_progress(arguments))
    if lost:
        _complain(f"{lost} sources could not be fetched: the same command asks for them again")
    return 1 if lost else 0


def _run_crossmatch(arguments: argparse.Namespace) -> int:
    return run_crossmatch(arguments, progress=_show_progress(arguments))


def _run_enrich(arguments: argparse.Namespace) -> int:
    return run_enrich(arguments, progress=_show_progress(arguments))


def _run_dataset(arguments: argparse.Namespace) -> int:
    return run_dataset(arguments, progress=_show_progress(arguments))


def _run_evaluate(arguments: argparse.Namespace) -> int:
    return run_evaluate(arguments, progress=_show_progress(arguments))


def _run_inspect(arguments: argparse.Namespace) -> int:
    return run_inspect(arguments, progress=_show_progress(arguments))


def _run_show(arguments: argparse.Namespace) -> int:
    return run_show(arguments, progress=_show_progress(arguments))


def _run_simulate(arguments: argparse.Namespace) -> int:
    if arguments.n < 1:
        raise InputError(f"-n must be at least 1, not {arguments.n}")
    galaxies = arguments.kind == "galaxy"
    if not (arguments.output or arguments.report):
        raise InputError("nothing to do: give -o FILE, --report DIR or both")
    if not galaxies and (arguments.report or arguments.survey):
        raise InputError(f"--report and --survey are for galaxies, not for --kind {arguments.kind}")
    if arguments.noise_sources and not arguments.report:
        raise InputError("--noise-sources goes with --report")
    report = import_research("simulator.report", "--report") if arguments.report else None
    if arguments.output:
        _write_simulated(arguments)
    if report is not None:
        report.report_simulation(
            arguments.n,
            arguments.seed,
            arguments.survey or "sdss",
            arguments.report,
            noise_sources=arguments.noise_sources,
            progress=_show_progress(arguments),
        )
        if not arguments.quiet:
            print(f"report: {os.path.join(arguments.report, 'report.md')}")
    return 0


def _write_simulated(arguments: argparse.Namespace) -> None:
    from gaia_redshift.simulate import simulate_blocks
    from gaia_redshift.simulate.contaminants import simulate_contaminant_blocks
    from gaia_redshift.writers import SpectraWriter

    options: dict[str, Any] = {
        "seed": arguments.seed,
        "correlations": not arguments.no_correlations,
        "progress": _show_progress(arguments),
    }
    if arguments.kind == "galaxy":
        blocks = simulate_blocks(arguments.n, survey=arguments.survey or "sdss", **options)
        what = "galaxies"
    else:
        blocks = simulate_contaminant_blocks(arguments.n, kind=arguments.kind, **options)
        words = arguments.kind.replace("_", " ")
        what = "stars beside galaxies" if words == "star galaxy" else f"{words}s"
    with SpectraWriter(arguments.output, overwrite=arguments.overwrite) as writer:
        for block in blocks:
            writer.write(block)
    if not arguments.quiet:
        print(f"{arguments.n:,} simulated {what} (not observed ones): {arguments.output}")


def _run_train(arguments: argparse.Namespace) -> int:
    from gaia_redshift.train.command import run_training

    print(run_training(arguments, progress=not arguments.quiet))
    return 0


def _run_models(arguments: argparse.Namespace) -> int:
    from gaia_redshift.model.registry import DEFAULT_MODEL, available_models, load_model

    if arguments.name is None:
        for name in available_models():
            model = load_model(name)
            note = " (default)" if name == DEFAULT_MODEL else ""
            trained_on = model.manifest.get("trained_on", "not stated")
            print(f"{name} {model.version}{note}: trained on {trained_on}")
        return 0
    model = load_model(arguments.name)
    grid = ", ".join(
        f"{band.upper()} {values[0]:g}-{values[-1]:g} nm"
        for band, values in (("bp", model.grid.bp), ("rp", model.grid.rp))
    )
    rows = {
        "name": model.name,
        "version": model.version,
        "trained on": model.manifest.get("trained_on", "not stated"),
        "redshifts": f"{model.redshift_range[0]:g} to {model.redshift_range[1]:g}",
        "input": f"{N_FLUX} fluxes ({grid})" + (", errors" if model.uses_errors else ""),
        "sha256": model.sha256,
    }
    for key, value in rows.items():
        print(f"{key:<11} {value}")
    print(f"\n{model.card.rstrip()}")
    return 0


def _run_flags(arguments: argparse.Namespace) -> int:
    from gaia_redshift.flags import decode_flags, describe_flags

    if arguments.values:
        known = {name: (value, meaning) for value, name, meaning in describe_flags()}
        for value in arguments.values:
            name = value.lower()
            if name in known:
                print(f"{name}: {known[name][0]}, {known[name][1]}")
            elif value.isdigit():
                print(f"{value}: {', '.join(decode_flags(int(value))) or 'clean'}")
            else:
                near = get_close_matches(name, known, 1)
                meant = f"; did you mean {near[0]}?" if near else ""
                _complain(f"'{value}' is neither a value of flags_cnn nor a flag{meant}", "usage")
                return 2
        return 0
    for value, name, meaning in describe_flags():
        print(f"{value:>6}  {name:<23} {meaning}")
    return 0


def _run_completion(arguments: argparse.Namespace) -> int:
    import shtab

    print(shtab.complete(build_parser(_COMMANDS), shell=arguments.shell))
    return 0


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "predict": _run_predict,
    "fetch": _run_fetch,
    "cache": run_cache,
    "inspect": _run_inspect,
    "show": _run_show,
    "send": run_send,
    "crossmatch": _run_crossmatch,
    "enrich": _run_enrich,
    "simulate": _run_simulate,
    "dataset": _run_dataset,
    "train": _run_train,
    "evaluate": _run_evaluate,
    "models": _run_models,
    "flags": _run_flags,
    "doctor": run_doctor,
    "completion": _run_completion,
}
