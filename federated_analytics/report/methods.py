"""The methods text of a report: what was done, from the result's own settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from federated_analytics.report.cells import Cell, View, ordered
from federated_analytics.report.numerals import power
from federated_analytics.report.survival import KIND as SURVIVAL
from federated_analytics.report.survival import curves

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
    "kaplan_meier": "Kaplan EL, Meier P. Nonparametric estimation from incomplete observations. "
    "J Am Stat Assoc 1958;53:457–481.",
    "life_table": "Cutler SJ, Ederer F. Maximum utilization of the life table method in analyzing "
    "survival. J Chronic Dis 1958;8:699–712.",
    "greenwood": "Greenwood M. The natural duration of cancer. Reports on Public Health and "
    "Medical Subjects 1926;33:1–26.",
    "log_minus_log": "Kalbfleisch JD, Prentice RL. The statistical analysis of failure time data. "
    "2nd ed. Hoboken: Wiley, 2002.",
    "least_squares": "Golub GH, Van Loan CF. Matrix computations. 4th ed. Baltimore: Johns "
    "Hopkins University Press, 2013.",
    "dp": "Dwork C, McSherry F, Nissim K, Smith A. Calibrating noise to sensitivity in private "
    "data analysis. Theory of Cryptography (TCC) 2006;265–284.",
    "zcdp": "Bun M, Steinke T. Concentrated differential privacy: simplifications, extensions, "
    "and lower bounds. Theory of Cryptography (TCC) 2016;635–658.",
    "discrete_gaussian": "Canonne CL, Kamath G, Steinke T. The discrete Gaussian for differential "
    "privacy. Advances in Neural Information Processing Systems 2020;33:15676–15688.",
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
    "survival": Paragraph(
        "Time to event",
        "Follow-up began on the index date and was censored at the end of observation, or of the "
        "cohort, and at the horizon; on one day, events come before censorings. Each site sent "
        "the persons with the event and the persons censored in the steps of a public grid, with "
        "neighbouring steps joined until each held enough persons or none; no person's day was "
        "sent. From the sums of all sites the probability to be without event was estimated by "
        "the actuarial form of the product-limit estimator, which takes exits as spread evenly "
        "over the days of their step. The 95 % confidence interval rests on Greenwood's variance, "
        "on the log(−log) scale. The bounds that the data state hold whatever the days inside the "
        "steps are. The median is the first day of the grid on which at most half of the persons "
        "are without event.",
        ("kaplan_meier", "life_table", "greenwood", "log_minus_log"),
    ),
    "linear_regression": Paragraph(
        "Linear regression",
        "Ordinary least squares with an intercept, of the persons with a value of the outcome and "
        "of every covariate (complete cases). Each site sent the number of persons, the means of "
        "the columns and their sums of squares and products about the means; merged, these are "
        "the normal equations of all persons, so that coefficients and standard errors equal those "
        "of the joined data up to the rounding of double precision. They were solved on columns of "
        "unit variance by Cholesky's factor. Standard errors assume errors of one variance; "
        "intervals (95 %) and p values are Student's, two-sided and not corrected for their "
        "number. Yes/no features are 0 and 1; a category is compared with its reference level.",
        ("moments", "least_squares", "student"),
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
    if (noise := _noise(view)) is not None:
        found.append(noise)
    found += [_of_kind(view, kind) for kind in ANALYSES if result.ids(kind)]
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
    if sites and sites != "1":
        text += f" Pooled numbers rest on at least {sites} sites."
    if policy := view.result.setting("policy"):
        text += f" Policy: {policy}."
    return Paragraph("Disclosure control", text)


def _of_kind(view: View, kind: str) -> Paragraph:
    """A kind's paragraph; of survival with the grids that were asked."""
    paragraph = ANALYSES[kind]
    if kind != SURVIVAL:
        return paragraph
    grids: dict[tuple[int, str], None] = {}
    events: dict[tuple[int, str, str], list[Cell]] = {}
    for cell in view.of(SURVIVAL):
        events.setdefault((cell.result_id, cell.population, cell.variable), []).append(cell)
    for here in events.values():
        curve = max(curves(here, ordered(c.strata for c in here)), key=lambda c: c.horizon)
        if curve.grid_days:
            grids[curve.grid_days, f"{curve.horizon:,.0f}"] = None
    texts = [f"steps of {days} days up to day {last}" for days, last in grids]
    text = f"{paragraph.text} Grid: {'; '.join(texts)}." if texts else paragraph.text
    return replace(paragraph, text=text)


def _noise(view: View) -> Paragraph | None:
    result = view.result
    noisy = result.setting("noisy_sites", "0")
    if noisy in ("", "0"):
        return None
    answered = result.setting("sites_answered") or noisy
    text = (
        f"{noisy} of the {answered} sites that answered did so with differential privacy: every "
        "number carries discrete Gaussian noise, drawn at the site, whose width was fixed before "
        "the data were read. Adding or removing one person changes the probability of any answer "
        f"to the study by a factor of at most exp(ε), but for δ; ε is at most "
        f"{result.setting('epsilon')} at δ = {power(result.setting('delta'))}. Losses are added "
        "up as zero-concentrated differential privacy. Which cells an answer has does not depend "
        "on the data, and counts were made consistent (not negative, parts and totals) after the "
        "noise. Confidence intervals include the noise."
    )
    budgets = [
        f"{cell.site}: charged ε = {charged}, remaining ε = {cell.text('epsilon_remaining')}"
        for cell in view.of("participation")
        if (charged := cell.text("epsilon_charged"))
    ]
    if budgets:
        text += f" Privacy budget of the analyst at each site: {'; '.join(budgets)}."
    return Paragraph("Differential privacy", text, ("dp", "zcdp", "discrete_gaussian"))


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
