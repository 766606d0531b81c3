"""The mean age over all sites. A site sends a count and a sum, nothing else."""

import csv
import io
import json

from flame import FlameCoreSDK


def analyze(flame: FlameCoreSDK) -> None:
    [data] = flame.get_s3_data(["cohort.csv"])
    ages = [float(row["age"]) for row in csv.DictReader(io.StringIO(data["cohort.csv"]))]
    flame.set_progress(50)
    aggregator = flame.get_aggregator_id()
    part = {"count": len(ages), "sum": sum(ages)}
    received, _ = flame.send_message([aggregator], "ages", part, max_attempts=3)
    if not received:
        flame.flame_log("the aggregator did not get this site's part", log_type="error")


def aggregate(flame: FlameCoreSDK) -> None:
    sites = flame.get_participant_ids()
    answers = flame.await_messages(sites, "ages", timeout=300)
    parts = {site: messages[-1].body for site, messages in answers.items() if messages}
    for site in sites:
        if site not in parts:
            flame.flame_log(f"{site} did not answer", log_type="warning")
    count = sum(part["count"] for part in parts.values())
    mean = sum(part["sum"] for part in parts.values()) / count
    result = {"mean_age": mean, "persons": count, "sites": len(parts)}
    flame.submit_final_result(json.dumps(result), output_type="str")
    flame.analysis_finished()


def main() -> None:
    flame = FlameCoreSDK()
    if flame.get_role() == "aggregator":
        aggregate(flame)
    else:
        analyze(flame)


if __name__ == "__main__":
    main()
