"""The end of what scripts have saved at a site: with its project, or with its age."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from federated_analytics.flame.local_storage import LocalStorage, expire_folder
from federated_analytics.privacy.accounting import SECONDS_A_DAY

log = logging.getLogger(__name__)
_EVERY_SECONDS = 3_600.0


@dataclass(frozen=True)
class StorageEnd:
    """When local storage ends.

    Fields:
        folder: of a node's local storage, all projects'
        projects: the last day of each project; None: it goes on
        days: how long anything is kept, whosever it is
    """

    folder: Path
    projects: Mapping[str, date | None]
    days: int

    def apply(self, now: float | None = None) -> int:
        """Remove what has ended at `now` (seconds since 1970); how many objects that were."""
        now = time.time() if now is None else now
        today = datetime.fromtimestamp(now, UTC).date()
        removed = 0
        for project, until in self.projects.items():
            if until is not None and until < today and LocalStorage.exists(self.folder, project):
                removed += LocalStorage(self.folder, project).expire(now + 1)
        for own in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            removed += expire_folder(own, now - self.days * SECONDS_A_DAY)
        return removed

    def hourly(self) -> threading.Thread:
        """Apply it now, and every hour as long as this process lives."""
        thread = threading.Thread(target=self._again, name="storage", daemon=True)
        thread.start()
        return thread

    def _again(self) -> None:
        while True:
            try:
                if removed := self.apply():
                    log.info("%d objects of scripts have ended", removed)
            except Exception:  # tried again in an hour; the site goes on answering
                log.exception("the end of scripts' data could not be applied")
            time.sleep(_EVERY_SECONDS)
