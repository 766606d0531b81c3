"""Three hospitals with made-up patients in OMOP databases, and a script that runs over them.

    python examples/flame/omop_hospitals.py [--persons 1000] [--out results/blood-pressure]

Starts a PostgreSQL server of its own, makes the patients, writes a site.toml for each hospital,
runs blood_pressure.py as `federated-analytics flame run` does, and removes the server.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from federated_analytics.databases.generator import generate
from federated_analytics.databases.postgres import temporary_cluster
from federated_analytics.flame.local_run import LocalRun, RunOptions
from federated_analytics.flame.testbed import OmopNode, read

HOSPITALS = ("north", "south", "west")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--persons", type=int, default=1000, help="of each hospital")
    parser.add_argument("--out", type=Path, default=Path("results/blood-pressure"))
    options = parser.parse_args()
    with temporary_cluster() as server, TemporaryDirectory() as folder:
        data = Path(folder)
        for number, hospital in enumerate(HOSPITALS):
            place = {"cdm_schema": hospital, "vocabulary_schema": hospital}
            made = {"site": number, "results_schema": hospital, **place}
            generate(server.owner_url(), persons=options.persons, **made)
            (data / hospital).mkdir()
            node = OmopNode(server.owner_url(), **place)
            text = node.site_toml(hospital, data / hospital / "state")
            (data / hospital / "site.toml").write_text(text)
        script = Path(__file__).with_name("blood_pressure.py")
        nodes = [*HOSPITALS, "hub"]
        run = RunOptions(script, nodes, "hub", options.out, data=data, store=data / "store")
        ended = read(LocalRun(run).run())
    print(*(ended.texts or [f"{node}: {said}" for node, said in ended.printed.items()]), sep="\n")
    return 0 if ended.succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
