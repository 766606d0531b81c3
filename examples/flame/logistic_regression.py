"""Logistic regression over all sites with the star pattern: the estimate of the pooled rows.

Each round a site sends the gradient and the Fisher information of its own log-likelihood. Both
are sums over persons, so that the sites' sums are those of all rows together, and Newton's steps
at the aggregator are the steps that a fit of the pooled rows takes (Dobson & Barnett 2018, 4.3).
"""

import csv
import io
import json

import numpy as np
from flame.star import StarAggregator, StarAnalyzer, StarModel

COLUMNS = ["age", "female", "treated"]
OUTCOME = "readmitted"
TERMS = ["intercept", *COLUMNS]


class Site(StarAnalyzer):
    def analysis_method(self, data, aggregator_results):
        x, y = self.rows(data)
        beta = np.zeros(len(TERMS))
        if aggregator_results is not None:
            beta = np.array([json.loads(aggregator_results)["coefficients"][t] for t in TERMS])
        risk = 1.0 / (1.0 + np.exp(-x @ beta))
        return {
            "persons": len(y),
            "gradient": x.T @ (y - risk),
            "information": (x * (risk * (1.0 - risk))[:, None]).T @ x,
        }

    def rows(self, data):
        table = list(csv.DictReader(io.StringIO(data[0]["cohort.csv"])))
        x = np.array([[1.0, *(float(row[name]) for name in COLUMNS)] for row in table])
        return x, np.array([float(row[OUTCOME]) for row in table])


class Pooled(StarAggregator):
    def __init__(self, flame, tolerance):
        super().__init__(flame)
        self.tolerance = tolerance
        self.beta = np.zeros(len(TERMS))

    def aggregation_method(self, analysis_results):
        information = sum(part["information"] for part in analysis_results)
        gradient = sum(part["gradient"] for part in analysis_results)
        self.beta = self.beta + np.linalg.solve(information, gradient)
        errors = np.sqrt(np.diag(np.linalg.inv(information)))
        result = {
            "persons": sum(part["persons"] for part in analysis_results),
            "coefficients": dict(zip(TERMS, self.beta.tolist(), strict=True)),
            "standard_errors": dict(zip(TERMS, errors.tolist(), strict=True)),
            "rounds": self.num_iterations + 1,
        }
        return json.dumps(result)

    def has_converged(self, result, last_result):
        new, old = (json.loads(each)["coefficients"] for each in (result, last_result))
        return max(abs(new[term] - old[term]) for term in TERMS) < self.tolerance


if __name__ == "__main__":
    StarModel(
        analyzer=Site,
        aggregator=Pooled,
        data_type="s3",
        query="cohort.csv",
        simple_analysis=False,
        aggregator_kwargs={"tolerance": 1e-10},
    )
