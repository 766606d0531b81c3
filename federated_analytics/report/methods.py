"""The methods text of a report: what was done, from the result's own settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from federated_analytics.report.cells import View

REFERENCES = {
    "omop": "Hripcsak G, Duke JD, Shah NH, et al. Observational Health Data Sciences and "
    "Informatics (OHDSI): opportunities for observational researchers. Stud Health Technol "
    "Inform 2015;216:574–578.",
    "flower": "Beutel DJ, Topal T, Mathur A, et al. Flower: a friendly federated learning "
    "research framework. arXiv:2007.14390, 2020.",
    "moments": "Chan TF, Golub GH, LeVeque RJ. Updating formulae and a pairwise algorithm for "
    "computing sample variances. Technical report STAN-CS-79-773, Stanford University, 1979.",
    "student": "Student. The probable error of a mean. Biometrika 1908;6:1–25.",
    "quantiles": "Hyndman RJ, Fan Y. Sample quantiles in statistical packages. The American "
    "Statistician 1996;50:361–365.",
}


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of the methods; `cites` are keys of `REFERENCES`."""

    title: str
    text: str
    cites: tuple[str, ...] = ()


ANALYSES = {
    "counts": Paragraph(
        "Populations",
        "Persons were counted at each site after every step of a population's definition, and "
        "the counts were added up. A person whom two sites know is counted at both.",
    ),
    "summary": Paragraph(
        "Means and spread",
        "Each site sent the number of persons with a value, their mean and the sum of squared "
        "deviations from it. These were merged pairwise without going back to sums of squares, "
        "so the pooled mean and standard deviation equal those of the joined data up to the "
        "rounding of double precision. The confidence interval of the mean is Student's, at "
        "95 %. Missing values were left out and counted.",
        ("moments", "student"),
    ),
    "quantiles": Paragraph(
        "Quantiles",
        "Each site counted persons in intervals of a public grid, widened until every interval "
        "held enough persons; no value of a person was sent. A quantile (type 7) was "
        "interpolated in the merged counts. The bounds that the result states hold "
        "whatever the values inside the intervals are.",
        ("quantiles",),
    ),
    "histogram": Paragraph(
        "Histograms",
        "Persons were counted in bins with edges that were known before the data were read. "
        "Percentages are of all persons with a value. Bins that are withheld are hatched up to "
        "the highest value that they can have.",
    ),
    "frequencies": Paragraph(
        "Categories",
        "Persons in each category were counted and added up; a missing value is the category "
        "Unknown. Percentages are of all persons of the group.",
    ),
    "top_concepts": Paragraph(
        "Most frequent concepts",
        "Persons with at least one record of a standard concept were counted. A site lists only "
        "concepts with enough persons, so a pooled count may miss those of sites where the "
        "concept is rare; the number of sites behind each count is given in the data.",
    ),
}


def paragraphs(view: View) -> list[Paragraph]:
    """The methods, with versions, thresholds and one paragraph for each kind of analysis."""
    result = view.result
    found = [_federation(view), _withholding(view)]
    found += [text for kind, text in ANALYSES.items() if result.ids(kind)]
    found.append(_software(view))
    return found


def cited(found: Iterable[Paragraph]) -> list[str]:
    """Keys of the references in the order in which they are cited."""
    return list(dict.fromkeys(key for paragraph in found for key in paragraph.cites))


def readable_time(iso: str) -> str:
    """ "2026-11-23T09:30:00+00:00" → "2026-11-23 09:30:00 UTC"."""
    return iso.replace("T", " ").replace("+00:00", " UTC")


def _federation(view: View) -> Paragraph:
    asked = len(view.of("participation"))
    sites = f" {asked} {'site was' if asked == 1 else 'sites were'} asked." if asked else ""
    return Paragraph(
        "Federated analysis",
        "Each site holds its own database in the OMOP Common Data Model. The study was sent to "
        "the sites; each built the population and its features inside its own database and "
        f"answered with aggregates. Records of persons did not leave a site.{sites}",
        ("omop", "flower"),
    )


def _withholding(view: View) -> Paragraph:
    threshold = view.result.setting("min_cell_count", "0")
    sites = view.result.setting("min_sites")
    text = "Each site's policy decided what may leave it."
    if threshold not in ("0", "1"):
        text += (
            f" A number that rests on fewer than {threshold} persons was withheld, and every "
            "estimate that rests on it."
        )
    if view.result.setting("complementary") == "true":
        text += (
            " A number from which a withheld count would follow, through totals or another table "
            "of the study, was withheld too; a linear programme proved the rest safe."
        )
    share = view.result.setting("largest_share", "1")
    if share not in ("", "1"):
        text += f" No sum or mean left of which one person made up more than {float(share):.0%}."
    if (base := view.result.setting("rounding", "1")) not in ("", "1"):
        text += f" Counts were rounded to multiples of {base}."
    text += _noise(view)
    if sites and sites != "1":
        text += f" Pooled numbers rest on at least {sites} sites."
    if policy := view.result.setting("policy"):
        text += f" Policy: {policy}."
    return Paragraph("Disclosure control", text)


def _noise(view: View) -> str:
    noisy = view.result.setting("noisy_sites", "0")
    if noisy in ("", "0"):
        return ""
    left = [cell.text("epsilon_remaining") for cell in view.of("participation")]
    budget = ", ".join(filter(None, left))
    return (
        f" {noisy} of the sites answered with differential privacy: every number carries discrete "
        f"Gaussian noise, ε at most {view.result.setting('epsilon')} for the study at "
        f"δ = {view.result.setting('delta')} (zero-concentrated inside); confidence intervals "
        f"include the noise. Privacy budget left at each of them: ε = {budget or 'not told'}."
    )


def _software(view: View) -> Paragraph:
    result = view.result
    package = result.setting("package_name", "federated_analytics")
    text = f"{package} {result.setting('package_version')}".rstrip()
    if flower := result.setting("flwr_version"):
        text += f" with Flower {flower}"
    if started := result.setting("started"):
        text += f"; started {readable_time(started)}"
    if digest := result.setting("study_sha256"):
        text += f"; SHA-256 of the study {digest}"
    return Paragraph("Software", text + ".")
