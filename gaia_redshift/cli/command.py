"""The command ``gaia-redshift``: one subcommand per capability."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from difflib import get_close_matches
from typing import Any, NoReturn

from gaia_redshift import __version__
from gaia_redshift._files import escape_controls
from gaia_redshift.cli.archive import CACHE, DOCTOR, FETCH
from gaia_redshift.cli.catalogue import CROSSMATCH, ENRICH, INSPECT, SEND, SHOW
from gaia_redshift.cli.dataset import DATASET, SIMULATE
from gaia_redshift.cli.evaluate import EVALUATE
from gaia_redshift.cli.options import Command, UsageError
from gaia_redshift.cli.output import PROGRAM, PlainStream, complain
from gaia_redshift.cli.predict import PREDICT
from gaia_redshift.cli.train import TRAIN
from gaia_redshift.errors import GaiaRedshiftError, GaiaRedshiftWarning
from gaia_redshift.flags import decode_flags, describe_flags
from gaia_redshift.grid import N_FLUX

__all__ = ["COMMANDS", "build_parser", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 after a failure, 2 for wrong usage, 130 if interrupted."""
    parser = build_parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    if arguments.command is None:
        parser.print_help()
        return 2
    arguments.progress = not arguments.quiet and sys.stderr.isatty()
    arguments.piped = False
    streams = PlainStream(sys.stdout), PlainStream(sys.stderr, escape=False)
    with warnings.catch_warnings(), redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        handler = _set_up_messages(arguments)
        try:
            code: int = arguments.run(arguments)
            sys.stdout.flush()
        except KeyboardInterrupt:
            complain(f"interrupted{_advise_resume(arguments)}")
            code = 130
        except BrokenPipeError:  # the reader of our output, such as `head`, has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        except UsageError as error:
            complain(str(error), "usage")
            code = 2
        except (GaiaRedshiftError, OSError, MemoryError) as error:
            complain(str(error) or type(error).__name__)
            code = 1
        finally:
            logging.getLogger("gaia_redshift").removeHandler(handler)
    return code


def _advise_resume(arguments: argparse.Namespace) -> str:
    """How the work goes on that was interrupted."""
    if arguments.command in ("predict", "train") and arguments.output:
        return ": the same command with --resume goes on where it was"
    if arguments.command in ("fetch", "dataset"):
        return ": the same command goes on where it was"
    return ""


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
            complain(str(message), "warning")

    warnings.simplefilter("default" if arguments.verbose else "ignore")
    if not arguments.quiet:
        warnings.simplefilter("always", GaiaRedshiftWarning)
    warnings.showwarning = show
    return handler


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; it sets ``run`` to what runs the subcommand."""
    common = argparse.ArgumentParser(add_help=False)
    _add_loudness(common, argparse.SUPPRESS)  # what stands before the command holds
    parser = _Parser(
        prog=PROGRAM,
        description="Redshifts of galaxies from Gaia BP/RP (XP) low-resolution spectra.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_loudness(parser, 0)
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(
        dest="command", title="commands", metavar="COMMAND", parser_class=argparse.ArgumentParser
    )
    for command in COMMANDS:
        new = commands.add_parser(
            command.name,
            help=command.summary,
            description=command.summary[0].upper() + command.summary[1:] + ".",
            epilog=command.epilog,
            parents=[common],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.declare(new)
        new.set_defaults(run=command.run)
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser that knows what was meant."""

    def error(self, message: str) -> NoReturn:
        """Complain of an option, with the one that is nearest to it."""
        words = message.partition("unrecognized arguments: ")[2].split()
        known = {option for one in self._list_parsers() for option in one._option_string_actions}
        for word in words:
            meant = get_close_matches(word.partition("=")[0], known, 1) if word[:1] == "-" else []
            if meant:
                mine = meant[0] == word.partition("=")[0]
                message += f" ({'of another command' if mine else f'did you mean {meant[0]}?'})"
                break
        super().error(message)

    def _list_parsers(self) -> list[argparse.ArgumentParser]:
        actions = self._subparsers._group_actions if self._subparsers else []
        own: list[argparse.ArgumentParser] = [self]
        return [*own, *(one for a in actions for one in (a.choices or {}).values())]  # type: ignore[attr-defined]


def _add_loudness(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=default,
        help="say more on stderr (-vv: still more)",
    )
    parser.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        default=default if default else False,
        help="no progress bars, warnings and summaries",
    )


def _declare_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="a model to describe")


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


MODELS = Command("models", "list the models, or describe one", _declare_models, _run_models)


def _declare_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "values", nargs="*", metavar="VALUE", help="values to decode, or names of flags"
    )


def _run_flags(arguments: argparse.Namespace) -> int:
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
                raise UsageError(f"'{value}' is neither a value of flags_cnn nor a flag{meant}")
        return 0
    for value, name, meaning in describe_flags():
        print(f"{value:>6}  {name:<23} {meaning}")
    return 0


FLAGS = Command(
    "flags", "explain the flags, or decode values of flags_cnn", _declare_flags, _run_flags
)


def _declare_completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"])


def _run_completion(arguments: argparse.Namespace) -> int:
    import shtab

    print(shtab.complete(build_parser(), shell=arguments.shell))
    return 0


COMPLETION = Command(
    "completion",
    "make a shell complete commands",
    _declare_completion,
    _run_completion,
    """examples:
  gaia-redshift completion bash > ~/.local/share/bash-completion/completions/gaia-redshift
  gaia-redshift completion zsh > ~/.zfunc/_gaia-redshift      (a folder of $fpath)
  gaia-redshift completion tcsh > ~/.gaia-redshift.tcsh

A new shell then completes commands and options with the Tab key.""",
)

COMMANDS = (
    *(PREDICT, FETCH, INSPECT, SHOW, SEND, CACHE, CROSSMATCH, ENRICH),
    *(SIMULATE, DATASET, TRAIN, EVALUATE, MODELS, FLAGS, DOCTOR, COMPLETION),
)
"""In the order of the help."""

_EPILOG = """examples:
  gaia-redshift predict XP_CONTINUOUS_RAW.csv
  gaia-redshift predict *.fits --keep ra,dec -o redshifts.ecsv
  gaia-redshift predict --ids ids.csv -o redshifts.ecsv
  gaia-redshift inspect galaxies.parquet -o vi.html
  gaia-redshift fetch --ids ids.csv -o spectra.parquet
  gaia-redshift simulate -n 1000 --seed 1 -o galaxies.csv.gz
  gaia-redshift predict galaxies.csv.gz --plot predicted.png
  gaia-redshift models kiraleos2023
  gaia-redshift flags 132

Each command explains itself: gaia-redshift predict --help"""
