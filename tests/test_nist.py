"""Correct digits of mean and standard deviation on NIST's reference data, at 1, 2, 3 and 7 sites.

The digits are the log relative error, -log10(|found - certified| / |certified|), at most 15: as
many as are certified. Double precision does not allow all 15 where the values themselves are
not binary fractions.

References: NIST StRD, univariate summary statistics, https://www.itl.nist.gov/div898/strd/
    McCullough (1998), The American Statistician 52:358 (log relative error)
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from decimal import Decimal, localcontext
from pathlib import Path

import pandas as pd
import pytest

from tests.sites import ask, load, sites, values

FOLDER = Path(__file__).parent / "data" / "nist"
SITES = (1, 2, 3, 7)
MEAN_DIGITS = 15
LOST = 0.2
"""What a found number may fall short of the ceiling, in digits."""


@dataclass(frozen=True)
class DataSet:
    """Values as text, their certified mean and sd, and the digits of sd that doubles allow."""

    name: str
    values: tuple[str, ...]
    mean: str
    sd: str
    sd_digits: float


def from_file(name: str) -> DataSet:
    data = tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8"))
    listed = tuple(data["values"].split())
    certified = data["certified_mean"], data["certified_sd"]
    return DataSet(name, listed, *certified, data["sd_digits"])


def pi_digits(count: int) -> str:
    """The first digits of pi, the 3 included, by Machin's formula in whole numbers."""
    guard = 10
    unit = 10 ** (count - 1 + guard)

    def arctan_of_inverse(x: int) -> int:
        power, total, sign, n = unit // x, 0, 1, 1
        while power:
            total += sign * (power // n)
            power, sign, n = power // (x * x), -sign, n + 2
        return total

    left = 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239)) // 10**guard
    pieces: list[str] = []  # Python writes no number of more than 4,300 digits at once
    while left:
        left, piece = divmod(left, 10**1_000)
        pieces.append(str(piece).zfill(1_000))
    return "".join(reversed(pieces)).lstrip("0")


def nist_pi_digits() -> str:
    """The 5,000 digits as NIST has them: the 957th is a 3, where pi has an 8."""
    pi = pi_digits(5_000)
    assert pi[950:960] == "8185778053"
    return f"{pi[:956]}3{pi[957:]}"


def alternating(name: str, whole: str, mean: str, sd_digits: float) -> DataSet:
    listed = (f"{whole}.2", *(f"{whole}.1", f"{whole}.3") * 500)
    return DataSet(name, listed, mean, "0.1", sd_digits)


DATA_SETS = [
    DataSet("pidigits", tuple(nist_pi_digits()), "4.53480000000000", "2.86733906028871", 15),
    from_file("lottery"),
    from_file("michelso"),
    from_file("mavro"),
    DataSet("numacc1", ("10000001", "10000003", "10000002"), "10000002", "1", 15),
    alternating("numacc2", "1", "1.2", 15),
    alternating("numacc3", "1000000", "1000000.2", 9.5),
    alternating("numacc4", "10000000", "10000000.2", 8.3),
]


def digits(found: float | Decimal, certified: str) -> float:
    """Correct digits of a number, at most 15."""
    error = abs((Decimal(found) - Decimal(certified)) / Decimal(certified))
    return min(15.0, -math.log10(error)) if error else 15.0


def exact(listed: tuple[str, ...]) -> tuple[Decimal, Decimal]:
    """Mean and standard deviation of the decimals themselves."""
    with localcontext(prec=60):
        numbers = [Decimal(v) for v in listed]
        mean = sum(numbers, Decimal(0)) / len(numbers)
        squares = sum(((v - mean) ** 2 for v in numbers), Decimal(0))
        return mean, (squares / (len(numbers) - 1)).sqrt()


@pytest.mark.parametrize("data", DATA_SETS, ids=lambda d: d.name)
def test_the_values_are_those_that_were_certified(data: DataSet) -> None:
    mean, sd = exact(data.values)
    assert digits(mean, data.mean) > 14.5
    assert digits(sd, data.sd) > 14.5


def test_pi() -> None:
    assert pi_digits(50) == "31415926535897932384626433832795028841971693993751"
    assert pi_digits(1_000)[761:769] == "49999998"  # six nines from the 762nd decimal


@pytest.fixture(scope="module")
def split(database: str) -> dict[int, list[str]]:
    """Schemas of each split, with one table a data set; a site may hold none of a small one."""
    made: dict[int, list[str]] = {}
    for count in SITES:
        made[count] = [f"nist_{count}_{i}" for i in range(count)]
        for i, schema in enumerate(made[count]):
            tables = {d.name: _part(d, i, count) for d in DATA_SETS}
            load(database, schema, tables)
    return made


def _part(data: DataSet, site: int, count: int) -> pd.DataFrame:
    numbers = [float(v) for v in data.values]
    table = pd.DataFrame({"person_id": range(1, len(numbers) + 1), "value": numbers})
    return table[table.person_id % count == site]


@pytest.mark.parametrize("count", SITES)
@pytest.mark.parametrize("data", DATA_SETS, ids=lambda d: d.name)
def test_digits(database: str, split: dict[int, list[str]], data: DataSet, count: int) -> None:
    study = f"""
        [study]
        name = "digits"
        [population]
        kind = "table"
        table = "{data.name}"
        [[analysis]]
        kind = "summary"
        features = ["value"]
    """
    found = values(ask(study, sites(database, split[count])))
    numbers = {key[5]: float(text) for key, text in found.items() if key[3] == "value"}
    assert numbers["count"] == len(data.values)
    mean, sd = digits(numbers["mean"], data.mean), digits(numbers["sd"], data.sd)
    print(f"{data.name} at {count} sites: mean {mean:.2f}, sd {sd:.2f} of {data.sd_digits}")
    assert mean >= MEAN_DIGITS - LOST
    assert sd >= data.sd_digits - LOST
