"""What an owner sees of one fragment of her server, and adds to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from federated_analytics.fedmed.fragment_site import FragmentSite


@dataclass(frozen=True)
class ServedFragment:
    """A fragment at its server; numbers are of what clients are shown now.

    >>> from federated_analytics import fedmed as fm
    >>> server = fm.Server(config={"privacy": []}, tokens=["secret"])
    >>> server["ages"] = {"age": [31, 42]}
    >>> server["ages"].append({"age": [50]})
    >>> server["ages"]
    <fragment 'ages': 3 rows of ['age'], version 2>
    """

    name: str
    site: FragmentSite

    def append(self, rows: Any) -> None:
        """Rows behind the fragment's own; shown when the configuration's NewSamples lets them be.

        Raises:
            UnsupportedData: the rows have other columns or kinds.
            ConfigError: the fragment is a table of a database.
        """
        self.site.append(self.name, rows)

    @property
    def rows(self) -> int:
        """Rows that are shown; of columns of different lengths, those of the longest."""
        return self.site.rows(self.name)

    @property
    def kinds(self) -> Mapping[tuple[str, ...], str]:
        """Kind of each column by its path: "number", "text", "truth" or "date"."""
        return self.site[self.name].kinds

    @property
    def columns(self) -> list[str]:
        """Names of the columns; nested ones with "/" between their keys."""
        return ["/".join(path) for path in self.kinds if path]

    @property
    def version(self) -> int | str:
        """Number of the version that is shown; of a table, a text that changes with its rows."""
        return self.site.version(self.name)

    @property
    def is_waiting(self) -> bool:
        """Whether there is data that is not shown yet."""
        return self.site.waiting(self.name) is not None

    @property
    def waiting(self) -> int:
        """Rows that are not shown yet, beyond those that are."""
        latest = self.site.waiting(self.name)
        return 0 if latest is None else max(0, latest.rows - self.rows)

    def __repr__(self) -> str:
        held = f", {self.waiting} rows wait" if self.waiting else ""
        changed = ", changes wait" if self.is_waiting and not held else ""
        columns = f" of {self.columns}" if self.columns else ""
        return (
            f"<fragment {self.name!r}: {self.rows} rows{columns}, version {self.version}"
            f"{held}{changed}>"
        )
