"""Read and predict block by block: reading runs ahead in a thread of its own."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaia_redshift._quiet import preserve_settings
from gaia_redshift._threads import map_ahead, read_ahead
from gaia_redshift.errors import InputError
from gaia_redshift.predict.blocks import Findings, predict_block
from gaia_redshift.predict.table import predict_rows, read_blocks
from gaia_redshift.readers.content import ReadMeter
from gaia_redshift.readers.sources import is_for_archive, name_source

if TYPE_CHECKING:
    from gaia_redshift.predict.progress import Progress
    from gaia_redshift.predict.settings import Settings
    from gaia_redshift.spectra import XPSpectra
    from gaia_redshift.tables import PredictedRows

__all__ = ["Step", "iter_steps", "warn_once"]

logger = logging.getLogger(__name__)

READ_AHEAD = 2
"""Blocks that wait for the network."""
WORKERS = 2
"""Blocks that are sampled and predicted at once."""


@dataclass(frozen=True)
class Step:
    """What has become of one block, or of one input, by its number from 0.

    ``rows`` are the predictions of the input's next rows; ``failure`` says why it could not be
    read: its rows so far then do not count. ``ended``: the input is done, or has failed.
    """

    index: int
    rows: PredictedRows | None = None
    failure: str | None = None
    ended: bool = False


@dataclass(frozen=True)
class _Read:
    """A block of an input, or what is to be fetched; neither: the input ends, or has failed."""

    index: int
    block: XPSpectra | None = None
    fetch: Any = None
    failure: str | None = None


def iter_steps(
    sources: Sequence[Any],
    settings: Settings,
    *,
    start: tuple[int, int] = (0, 0),
    progress: Progress,
) -> Generator[Step, None, None]:
    """Predict the inputs in order, a block at a time, from an input's number and row on.

    Memory is bounded by the size of a block: some are read ahead, and some are worked on. After an
    input's last predictions comes a step that ends it.
    """
    from gaia_redshift.model.registry import RedshiftModel

    # Of other models it is not known whether they may be used from several threads.
    workers = WORKERS if isinstance(settings.model, RedshiftModel) else 1
    failed: set[int] = set()

    def read() -> Iterator[_Read]:
        for index, source in enumerate(sources[start[0] :], start[0]):
            if not isinstance(source, Path) and is_for_archive(source):
                if (index, 0) >= start:  # its rows come all at once: none are there yet
                    yield _Read(index, fetch=source)
                yield _Read(index)
                continue
            meter, row = ReadMeter(), start[1] if index == start[0] else 0
            try:
                for block in read_blocks(source, settings, start=row, meter=meter):
                    row += len(block)
                    progress.follow(index, row, meter.tell())
                    yield _Read(index, block=block)
                    if index in failed:
                        break
            except InputError as error:
                yield _Read(index, failure=str(error))
            else:
                progress.follow(index, row)
                yield _Read(index)

    def predict(item: _Read) -> tuple[Step, Findings]:
        findings = Findings()
        if item.fetch is not None:
            rows = predict_rows(item.fetch, settings, findings, progress=progress.shown)
            return Step(item.index, rows), findings
        if item.block is None or item.index in failed:
            return Step(item.index, failure=item.failure, ended=True), findings
        try:
            return Step(item.index, predict_block(item.block, settings, findings)), findings
        except InputError as error:
            return Step(item.index, failure=str(error), ended=True), findings

    with (
        preserve_settings(),
        warn_once(),
        closing(read_ahead(read(), READ_AHEAD)) as items,
        closing(map_ahead(predict, items, n_threads=workers, ahead=workers)) as steps,
    ):
        for step, findings in steps:
            if step.index in failed:
                continue
            findings.warn()
            if step.failure is not None:
                failed.add(step.index)
            elif step.ended:
                logger.info("%s: read and predicted", name_source(sources[step.index]))
            if step.rows is not None:
                progress.update(len(step.rows))
            yield step


@contextmanager
def warn_once() -> Iterator[None]:
    """Show each warning once, however many blocks it is true of."""
    seen: set[str] = set()
    shown = warnings.showwarning

    def show(message: Warning | str, *about: Any, **more: Any) -> None:
        if str(message) not in seen:
            seen.add(str(message))
            shown(message, *about, **more)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
