"""What can go wrong for a client of FedMed: each error names the place and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from federated_analytics.errors import FederatedAnalyticsError, did_you_mean

SHOWN = 40
"""How many names an error lists."""


@dataclass(frozen=True)
class Failure:
    """Why one server gave no number for one operation.

    Fields:
        server: its address, or the site's name
        operation: the reduction as it was asked, such as "data['age'].sum()"
        code: stable; of the server's refusal, or of the way to it
    """

    server: str
    fragment: str
    operation: str
    code: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        place = f"{self.server}, fragment {self.fragment!r}, {self.operation}"
        return f"{place}: {self.message} [{self.code}]" + (f" {self.remedy}" if self.remedy else "")


class FedMedError(FederatedAnalyticsError):
    """Base of the errors of FedMed's client."""

    code = "fedmed_error"


class AskFailed(FedMedError):
    """At least one server did not answer: there is no number over all fragments.

    Args:
        failures: one for each server that gave none.
        servers: how many were asked.
    """

    code = "ask_failed"

    def __init__(self, failures: Sequence[Failure], servers: int) -> None:
        self.failures = tuple(failures)
        lines = "\n".join(f"  {failure}" for failure in self.failures)
        super().__init__(
            f"{len(self.failures)} of {servers} fragments gave no answer:\n{lines}\n",
            remedy="FedData(…, partial=True) answers from the others, and marks it.",
        )


class Mismatch(FedMedError):
    """Two data sets that cannot be combined row by row."""

    code = "not_row_by_row"


class WrongKind(FedMedError):
    """An operation on a kind of value that it is not for, such as a sum of texts."""

    code = "wrong_kind"


class UnknownColumn(FedMedError):
    """A column that the fragments do not have."""

    code = "unknown_column"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        listed = ", ".join(map(repr, names[:SHOWN])) + (" …" if len(names) > SHOWN else "")
        super().__init__(
            f"There is no column {name!r}.",
            remedy=" ".join(filter(None, [did_you_mean(name, names), f"There are: {listed}."])),
        )


class UnknownMethod(FedMedError, AttributeError):
    """A method that neither FedMed nor the client's configuration has."""

    code = "unknown_method"


class NotAnswered(FedMedError):
    """A number that the servers' policies kept back where a statistic needs it."""

    code = "withheld"
