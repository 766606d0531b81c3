"""Every error a user can see: what was wrong, where, and what to write instead.

`code` is stable: scripts may match on it. An error that leaves a site travels as its code,
place and remedy only (`site.py`); its message never holds SQL, a value, a host or a credential.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FederatedAnalyticsError(Exception):
    """Base of every error a user can see.

    Args:
        message: what was wrong, one sentence.
        where: the key path, file, site or option at fault ("analysis[0].features[2]").
        remedy: what to write or do instead.
    """

    code = "error"
    default_remedy = ""

    def __init__(self, message: str, *, where: str = "", remedy: str = "") -> None:
        self.message = message
        self.where = where
        self.remedy = remedy or self.default_remedy
        super().__init__(message)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f" {self.remedy}" if self.remedy else ""
        return f"{place}{self.message}{remedy}"


class StudyError(FederatedAnalyticsError):
    """A study file, or a part of one, that cannot be read."""

    code = "invalid_study"


class UnknownFeature(StudyError):
    """A feature that neither the catalogue nor the study defines."""

    code = "unknown_feature"


class UnknownStratum(StudyError):
    """A stratum that neither the catalogue nor the study defines."""

    code = "unknown_stratum"


class UnknownAnalysis(StudyError):
    """An analysis kind that no file in `analyses/` defines."""

    code = "unknown_analysis"


class CohortError(StudyError):
    """A cohort definition that cannot be compiled."""

    code = "invalid_cohort"


class ConfigError(FederatedAnalyticsError):
    """A run-config, node-config, policy or command-line value that cannot be used."""

    code = "invalid_config"


class WireError(FederatedAnalyticsError):
    """Bytes that are not a request or a release."""

    code = "invalid_message"
    default_remedy = "Use the same version of federated_analytics at the server and at every site."


class ShapeError(FederatedAnalyticsError):
    """Two aggregates that cannot be merged: their shapes or grids differ."""

    code = "shape_mismatch"


class PolicyError(FederatedAnalyticsError):
    """A policy file that cannot be used; the site does not start with it."""

    code = "invalid_policy"


class FormatError(FederatedAnalyticsError):
    """A result file that cannot be read or written."""

    code = "invalid_format"


class MissingExtra(FederatedAnalyticsError):
    """A feature that needs an optional package."""

    code = "missing_package"

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed.",
            remedy=f"Run: pip install 'federated-analytics[{extra}]'",
        )


class DatabaseError(FederatedAnalyticsError):
    """A site's database cannot answer. Subclasses say why."""

    code = "database_error"
    default_remedy = "The site operator finds the cause in the site's own log."


class DatabaseUnreachable(DatabaseError):
    code = "database_unreachable"
    default_remedy = "The site operator starts the database or corrects db-url / db-port."


class DatabaseRefused(DatabaseError):
    code = "database_refused"
    default_remedy = "The site operator checks the user, password and database name of db-url."


class DatabaseTimeout(DatabaseError):
    code = "database_timeout"
    default_remedy = "Ask for fewer features or strata, or raise deadline-seconds."


class MissingTable(DatabaseError):
    code = "missing_table"
    default_remedy = (
        "The site operator runs `federated-analytics check --site URL` and sets cdm-schema."
    )


class MissingGrant(DatabaseError):
    code = "missing_grant"
    default_remedy = "The site operator grants SELECT on the CDM's tables to the site's role."


class MissingColumn(DatabaseError):
    code = "missing_column"
    default_remedy = "Ask for columns that the table has; `federated-analytics check` lists them."


class UnsupportedCdm(DatabaseError):
    code = "unsupported_cdm"
    default_remedy = "CDM 5.3 and 5.4 are read; the site operator migrates or excludes the site."


class NotNumeric(DatabaseError):
    code = "not_numeric"
    default_remedy = 'Use kind = "frequencies" for text and yes/no features.'


class SeveralRowsAPerson(DatabaseError):
    code = "several_rows_a_person"
    default_remedy = "Name a table or view with one row a person."


class RequestRefused(FederatedAnalyticsError):
    """A request that a site does not answer. Subclasses say why; each is written to its audit."""

    code = "refused"
    default_remedy = "Ask the site operator what the site's policy lets you ask."


class BadSignature(RequestRefused):
    code = "bad_signature"
    default_remedy = "Sign with the key whose public half the site has: `federated-analytics key`."


class UnknownAnalyst(RequestRefused):
    code = "unknown_analyst"
    default_remedy = "Send the site operator your public key: `federated-analytics key show`."


class ExpiredKey(RequestRefused):
    code = "key_expired"
    default_remedy = "Make a new key (`federated-analytics key new`) and send its public half."


class ExpiredRequest(RequestRefused):
    code = "request_expired"
    default_remedy = "Run the study again; check that the clocks of both machines agree."


class ReusedNonce(RequestRefused):
    code = "nonce_reused"
    default_remedy = "Run the study again: each request is answered once."


class UnknownProject(RequestRefused):
    code = "unknown_project"
    default_remedy = "Name a project that the site has admitted you to."


class NotGranted(RequestRefused):
    code = "not_granted"
    default_remedy = "Ask the site operator to grant this analysis to your key."


class TooSimilar(RequestRefused):
    """R5: the population differs from an answered one by a few persons."""

    code = "overlapping_population"
    default_remedy = "Ask for the same population as before, or for one that differs by more."


class BudgetSpent(RequestRefused):
    """R10: the privacy budget does not cover the request."""

    code = "budget_spent"
    default_remedy = "Ask for fewer numbers or a larger error, or wait for the next period."


class SaturatedModel(RequestRefused):
    """R7: a model with so many parameters that it repeats the rows."""

    code = "saturated_model"
    default_remedy = "Ask for at most one parameter to ten persons."


class WaitingForApproval(RequestRefused):
    code = "waiting_for_approval"
    default_remedy = "The site operator looks at the study; run it again afterwards."


class RefusedByOperator(RequestRefused):
    code = "refused_by_operator"
    default_remedy = "Ask the site operator for the reason."


class SiteBusy(RequestRefused):
    code = "site_busy"
    default_remedy = "Run the study again in a few minutes."


class LedgerError(RequestRefused):
    """The site's ledger or audit cannot be written or has been tampered with."""

    code = "ledger_unavailable"
    default_remedy = "The site operator runs `federated-analytics site audit verify`."


class SiteFailed(FederatedAnalyticsError):
    """Anything else that went wrong at a site; what it was stays in the site's own log."""

    code = "site_failed"
    default_remedy = "The site operator finds the cause in the site's own log."

    def __init__(self) -> None:
        super().__init__("The site could not answer the study.")


class FederationError(FederatedAnalyticsError):
    """A study that could not be finished."""

    code = "federation_failed"


class NoSites(FederationError):
    code = "no_sites"
    default_remedy = "Start a SuperNode for each hospital and check `flwr supernode list`."


class TooFewSites(FederationError):
    code = "too_few_sites"


class DeadlineExceeded(FederationError):
    code = "deadline_exceeded"
    default_remedy = "Raise deadline-seconds, or look at the sites that did not answer."


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The names of `known` that are most like `name`, best first."""
    return difflib.get_close_matches(name[:100], list(known), n=count, cutoff=0.5)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A remedy sentence that offers the nearest names, or says where to list them."""
    names = nearest(name, known)
    return f"Did you mean {' or '.join(repr(n) for n in names)}?" if names else ""
