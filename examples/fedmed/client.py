"""What a client asks: python examples/fedmed/client.py [FIRST_URL SECOND_URL]

The servers' token stands in the variable FEDMED_TOKEN.
"""

import sys
from pathlib import Path

from federated_analytics import fedmed as fm

first, second = sys.argv[1:3] or ("http://127.0.0.1:5000", "http://127.0.0.1:5001")
config = Path(__file__).with_name("config.yaml")

sources = [
    fm.Remote(ip=first, fragment="test array 1/2"),
    fm.Remote(ip=second, fragment="test array 2/2"),
]
data = fm.FedData(sources, config=config)
mean = data.sum() / data.len()
print("Mean", mean)

people = fm.FedData([fm.Remote(first, "people"), fm.Remote(second, "people")], config=config)
print(people)

with fm.Batch():  # one request a server for all of these
    weight = people["weight"].mean()
    spread = people["weight"].std()
    older = (people["age"] >= 50).sum()
    by_sex = people.groupby("sex")["weight"].mean()
print(f"Weight {weight:.2f} (sd {spread:.2f}), {weight.missing} missing; {older} are 50 or older")
print(by_sex)

test = fm.stats.test.Welch(alpha=0.05)
women, men = people[people["sex"] == "f"], people[people["sex"] == "m"]
print(f"Welch's t-test of weight by sex: p = {test.pvalue(women['weight'], men['weight']):.5f}")
