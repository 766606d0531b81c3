"""Women and men at all sites, from their FHIR servers; small counts stay at the site."""

import json

from flame import FlameCoreSDK

GENDERS = ["female", "male"]
SMALLEST = 10


def analyze(flame: FlameCoreSDK) -> None:
    queries = {gender: f"Patient?gender={gender}&_summary=count" for gender in GENDERS}
    servers = flame.get_fhir_data(list(queries.values()))
    counts = {}
    for gender, query in queries.items():
        total = sum(answers[query]["total"] for answers in servers if query in answers)
        counts[gender] = total if total >= SMALLEST else None
    flame.send_message([flame.get_aggregator_id()], "counts", {"counts": counts}, max_attempts=3)


def aggregate(flame: FlameCoreSDK) -> None:
    sites = flame.get_participant_ids()
    answers = flame.await_messages(sites, "counts", timeout=300)
    parts = [messages[-1].body["counts"] for messages in answers.values() if messages]
    result = {gender: sum(part[gender] or 0 for part in parts) for gender in GENDERS}
    result["withheld"] = sum(part[gender] is None for part in parts for gender in GENDERS)
    result["sites"] = len(parts)
    flame.submit_final_result(json.dumps(result))
    flame.analysis_finished()


if __name__ == "__main__":
    flame = FlameCoreSDK()
    if flame.get_role() == "aggregator":
        aggregate(flame)
    else:
        analyze(flame)
