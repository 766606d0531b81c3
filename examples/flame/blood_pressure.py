"""Blood pressure in three hospitals' OMOP databases, with the star pattern.

What a hospital sends is a release of its own site: its policy has withheld what rests on too few
persons before this script sees a number.
"""

from flame import StarAggregator, StarAnalyzer, StarModel

QUESTION = {
    "features": ["age", "systolic_bp"],
    "by": ["sex"],
    "population": {"kind": "condition", "concepts": [201826]},  # type 2 diabetes, at first
}


class Hospital(StarAnalyzer):
    def analysis_method(self, data, aggregator_results):
        release = data.summary(**QUESTION)
        persons = [r for r in release.rows if r.estimate_name == "count" and not r.strata]
        print(f"{self.id}: {len(release.rows)} rows; {persons[0].estimate_value} persons")
        return release


class Result(StarAggregator):
    def aggregation_method(self, analysis_results):
        result = self.flame.aggregate.merge(analysis_results, "summary", **QUESTION)
        shown = [
            (row.strata_level, row.variable_name, row.estimate_name, row.estimate_value)
            for row in result.rows
            if row.estimate_name in ("count", "mean", "sd")
        ]
        return "\n".join(",".join(line) for line in shown)

    def has_converged(self, result, last_result):
        return True


if __name__ == "__main__":
    StarModel(analyzer=Hospital, aggregator=Result, data_type="omop")
