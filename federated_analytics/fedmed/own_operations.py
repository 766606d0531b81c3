"""Runs server owners' own functions: what goes wrong in one is told by a code, never in its words.

An exception's text, a wrong result or what a function prints may hold rows. All of it goes into
the server's log, which its owner reads.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from federated_analytics import wire
from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.table import Key
from federated_analytics.errors import FederatedAnalyticsError, RequestRefused
from federated_analytics.fedmed.fragments import TRUTH
from federated_analytics.fedmed.ops import WrongRelease

if TYPE_CHECKING:
    from federated_analytics.fedmed.protocol import Ask
    from federated_analytics.fedmed.rows import Rows

log = logging.getLogger(__name__)
MOST_LEVELS = 10_000
_one_at_a_time = threading.RLock()


class OwnOperationFailed(RequestRefused):
    """An owner's operation that raised, or wrote where a client could read it."""

    code = "own_operation_failed"
    default_remedy = "The server's owner finds the cause in its own log."


def as_series(rows: Rows) -> Any:
    """What an owner's function sees: a pandas Series of its own, or a constant."""
    import pandas as pd

    if rows.scalar:
        [value] = rows.values.tolist()
        return value
    series = pd.Series(rows.values, copy=True)
    if rows.present.all():
        return series
    return (series.astype("boolean") if rows.kind == TRUTH else series).where(rows.present)


def by_row(operation: Callable[..., Any], arguments: Sequence[Rows], name: str) -> Any:
    """An array of a number or truth value for each row; missing numbers are NaN."""
    size = max(len(argument) for argument in arguments if not argument.scalar)
    found = _run(operation, [as_series(argument) for argument in arguments], {}, name)
    with _explained(name):
        values = _one_a_row(found, size)
    if values is None:
        log.error("the operation %s gave %s for %d rows", name, _shape(found), size)
        raise WrongRelease(
            "The owner's operation did not give one number or truth value for each row.",
            where=name[:100],
        )
    return values


def _one_a_row(found: Any, size: int) -> Any:
    """An array of bool, int64 or float64 in the rows' order; None of anything else."""
    import numpy as np
    import pandas as pd
    from pandas.api import types

    if np.shape(found) != (size,):
        return None
    if isinstance(found, pd.Series) and not found.index.equals(pd.RangeIndex(size)):
        return None
    series = pd.Series(found)
    if types.is_bool_dtype(series.dtype) and not series.isna().any():
        return series.to_numpy(dtype=bool)
    if not types.is_numeric_dtype(series.dtype) or types.is_complex_dtype(series.dtype):
        return None
    if types.is_integer_dtype(series.dtype) and not series.isna().any():
        return series.to_numpy(dtype=np.int64)
    return series.to_numpy(dtype=np.float64, na_value=np.nan)


def table(operation: Callable[..., Any], ask: Ask, operands: Sequence[Rows]) -> dict[Key, Any]:
    """The cells of an owner's reduction: one, or one a level."""
    if ask.by or not operands:
        raise RequestRefused(
            "The owner's own operation is asked of rows, and not by group.",
            where=ask.op[:100],
            remedy="Filter the rows of each group, and ask of those.",
        )
    arguments = [as_series(rows) for rows in operands]
    found = _run(operation, arguments, dict(ask.params), ask.op)
    variable = ", ".join(map(str, ask.rows))
    cells = found if isinstance(found, Mapping) else {"": found}
    fits = len(cells) <= MOST_LEVELS and all(
        isinstance(level, str) and isinstance(cell, Aggregate) and _travels(cell)
        for level, cell in cells.items()
    )
    if not fits or (isinstance(found, Mapping) and "" in found):
        log.error("the operation %s gave no aggregate that can be sent: %s", ask.op, _shape(found))
        raise WrongRelease("The operation did not return what it states.", where=ask.op[:100])
    return {Key((), variable, level, ask.op): cell for level, cell in cells.items()}


def _travels(cell: Aggregate) -> bool:
    """Whether its numbers are of the types that it states, finite, and of no negative count."""
    try:
        plain = json.loads(json.dumps(wire.to_plain(cell), allow_nan=False))
        wire.from_plain(Aggregate, plain, "")
        return all(count >= 0 for count in cell.support)
    except (FederatedAnalyticsError, TypeError, ValueError):
        log.exception("an owner's operation gave an aggregate that cannot be sent")
        return False


def _shape(found: Any) -> str:
    return f"{type(found).__name__} of shape {getattr(found, 'shape', '-')}"


def _run(
    operation: Callable[..., Any], rows: Sequence[Any], params: Mapping[str, Any], name: str
) -> Any:
    with _explained(name), _silenced() as written:
        found = operation(*rows, **params)
    if text := written.getvalue():
        log.error("the operation %s printed: %s", name, text)
        raise OwnOperationFailed(
            "The owner's operation printed something, and was stopped from it.", where=name[:100]
        )
    return found


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Any exception as one of ours, without its text."""
    try:
        yield
    except WrongRelease as error:
        log.error("the operation %s: %s", name, error.message)
        raise WrongRelease(
            "The operation did not return what it states.", where=name[:100]
        ) from None
    except (Exception, SystemExit) as error:
        log.exception("the operation %s failed", name)
        raise OwnOperationFailed("The owner's operation failed.", where=name[:100]) from error


class _OfThisThread(io.TextIOBase):
    """Keeps what its own thread writes, and hands on what others do."""

    def __init__(self, others: TextIO) -> None:
        self._others, self._thread = others, threading.get_ident()
        self._kept = io.StringIO()

    def write(self, text: str, /) -> int:
        if threading.get_ident() == self._thread:
            return self._kept.write(text)
        return self._others.write(text)

    def flush(self) -> None:
        self._others.flush()

    def getvalue(self) -> str:
        return self._kept.getvalue()


@contextlib.contextmanager
def _silenced() -> Iterator[_OfThisThread]:
    """Standard output is the process's: one owner's function at a time."""
    with _one_at_a_time:
        caught = _OfThisThread(sys.stdout)
        with contextlib.redirect_stdout(caught):
            yield caught
