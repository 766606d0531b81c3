"""The order of the numbers follows from the study; a study that has none is refused at once."""

from __future__ import annotations

import pytest

from federated_analytics.aggregates.base import Aggregate
from federated_analytics.aggregates.count import Count
from federated_analytics.aggregates.moments import Moments
from federated_analytics.aggregates.table import Key
from federated_analytics.couriers import InProcessCourier
from federated_analytics.errors import RequestRefused
from federated_analytics.federation import Terms, run_study
from federated_analytics.secure_aggregation.errors import NotAdditive
from federated_analytics.secure_aggregation.layout import LARGEST, MAX_SITES, Layout, Place
from federated_analytics.study import Study

HEAD = '[study]\nname = "S"\n'


def study(text: str) -> Study:
    return Study.parse(HEAD + text)


def test_cells_stand_once_and_without_gaps() -> None:
    asked = study(
        '[[analysis]]\nkind = "summary"\nfeatures = ["age", "bmi"]\nby = ["sex", "age_group"]\n'
        '[[analysis]]\nkind = "quantiles"\nfeatures = ["bmi"]\n'
    )
    layout = Layout.of(asked)
    assert len({slot.place for slot in layout.slots}) == len(layout.slots)
    ends = [0, *(slot.end for slot in layout.slots)]
    assert ends[:-1] == [slot.start for slot in layout.slots]
    assert ends[-1] == layout.size
    # 1 + 3 + 6 + 3 × 6 groups (no, yes, unknown; five ages, unknown) of 2 features × 3 cells
    assert sum(slot.place[0] == 0 for slot in layout.slots) == 28 * 2 * 3


def test_equal_studies_have_equal_layouts() -> None:
    text = '[[analysis]]\nkind = "summary"\nfeatures = ["age"]\nby = ["sex"]\n'
    assert Layout.of(study(text)) == Layout.of(Study.from_json(study(text).to_json()))


def test_the_steps_of_a_population_are_known_without_a_database() -> None:
    asked = study(
        '[population]\nkind = "condition"\nconcepts = [201826]\nprior_observation_days = 365\n'
        'min_age = 18\nname = "d"\n[[analysis]]\nkind = "counts"\n'
    )
    steps = [slot.place[2].level for slot in Layout.of(asked).slots if slot.place[2].level]
    assert steps == [
        "00 Persons in the database",
        "01 With a condition record of the concept set",
        "02 Index date within an observation period",
        "03 At least 365 days of prior observation",
        "04 Aged 18 or over",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[analysis]]\nkind = "top_concepts"\ndomain = "condition"\n', "top_concepts"),
        ('[[analysis]]\nkind = "frequencies"\nfeatures = ["race"]\n', "frequencies"),
        ('[[analysis]]\nkind = "counts"\nby = ["race"]\n', "race"),
        (
            '[population]\nkind = "table"\ntable = "t"\n'
            '[[analysis]]\nkind = "summary"\nfeatures = ["x"]\n',
            "no plausible range",
        ),
    ],
)
def test_what_is_no_sum_is_refused_before_anything_is_sent(text: str, words: str) -> None:
    sent: list[bytes] = []
    courier = InProcessCourier({"a": lambda body: sent.append(body) or b""})  # type: ignore[func-returns-value]
    with pytest.raises(NotAdditive, match=words) as caught:
        run_study(study(text), courier, Terms(2, 5), secure=True)
    assert caught.value.where.startswith("analysis[0]")
    assert caught.value.remedy
    assert not sent


def test_too_many_numbers_are_refused() -> None:
    populations = "".join(
        f'[[population]]\nkind = "everyone"\nname = "p{i}"\nmin_age = {i}\n' for i in range(20)
    )
    asked = study(
        f'{populations}[[analysis]]\nkind = "quantiles"\nby = ["sex", "age_group"]\n'
        'features = ["bmi", "systolic_bp", "hba1c", "diastolic_bp", "weight"]\n'
    )
    with pytest.raises(NotAdditive, match="more than 400,000 numbers"):
        Layout.of(asked)


TABLE = study(
    '[population]\nkind = "table"\ntable = "t"\n[feature.x]\nrange = [0, 10]\nstep = 0.1\n'
    '[[analysis]]\nkind = "summary"\nfeatures = ["x"]\n'
)


def _cells(x: Moments, missing: int = 0) -> dict[Place, Aggregate]:
    found = {"moments": x, "missing": Count(missing)}
    return {(0, "table", Key((), "x", "", name)): value for name, value in found.items()}


def test_presence_is_told_of_cells_whose_numbers_are_not() -> None:
    layout = Layout.of(TABLE)
    cells = _cells(Moments(4, 5.0, 2.0))
    told = layout.numbers(cells, frozenset())
    assert sum(map(abs, told)) == 2
    assert layout.cells(told, frozenset()) == {
        place: (1, type(cell).zero()) for place, cell in cells.items()
    }


def test_zero_and_no_cell_are_two_things() -> None:
    layout, cells = Layout.of(TABLE), _cells(Moments(4, 5.0, 2.0))
    found = layout.cells(layout.numbers(cells, cells.keys()), cells.keys())
    assert found == {place: (1, cell) for place, cell in cells.items()}
    assert layout.cells([0] * layout.size, cells.keys()) == {}


def test_a_sum_that_could_wrap_around_does_not_leave() -> None:
    """A flat table's values are not held to their range: a thousand sites of these overflow."""
    layout = Layout.of(TABLE)
    assert LARGEST * MAX_SITES <= 2**127
    fits = _cells(Moments(1_000, 5.0 + 5.0 * 2**13, 0.0))
    assert max(layout.numbers(fits, fits.keys())) < LARGEST
    for value in (1e30, -1e30, 5.0 * 2**19):
        cells = _cells(Moments(1_000, value, 0.0))
        with pytest.raises(RequestRefused, match="plausible range") as caught:
            layout.numbers(cells, cells.keys())
        assert str(value) not in str(caught.value)
