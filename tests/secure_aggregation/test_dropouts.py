"""Sites that go away after each round: the sum is over those that are left, or there is none."""

from __future__ import annotations

import random

import pytest

from federated_analytics import wire
from federated_analytics.errors import TooFewSites
from federated_analytics.messages import Refusal
from federated_analytics.privacy.policy import Policy, refuse
from federated_analytics.secure_aggregation.roster import threshold
from tests.answers import participation
from tests.secure_aggregation.hospitals import (
    BY_SEX,
    Answer,
    by_sex,
    hospitals,
    made_up,
    numbers,
    play,
    run,
)

SEVEN = {name: (10 + i, 100 + 7 * i) for i, name in enumerate("abcdefg")}


def _expected(names: str) -> dict[str, int]:
    women, men = (sum(SEVEN[n][i] for n in names) for i in (0, 1))
    return {"": women + men, "Female": women, "Male": men}


@pytest.mark.parametrize("count", [2, 3, 7])
def test_nobody_goes(count: int) -> None:
    names = "abcdefg"[:count]
    assert play({n: SEVEN[n] for n in names}).sums() == _expected(names)


@pytest.mark.parametrize(
    ("drop", "left"),
    [
        ({1: "ab"}, "cdefg"),
        ({2: "ab"}, "cdefg"),
        ({3: "ab"}, "cdefg"),
        ({4: "ab"}, "abcdefg"),  # their masked numbers are there: others give the shares
        ({2: "a", 3: "b"}, "cdefg"),
        ({1: "a", 2: "b", 3: "c"}, "defg"),
        ({3: "a", 4: "b"}, "bcdefg"),
    ],
)
def test_sites_go_after_each_round(drop: dict[int, str], left: str) -> None:
    gone = {number: frozenset(names) for number, names in drop.items()}
    if len(left) < threshold(7 - len(drop.get(1, "")), 2):
        with pytest.raises(TooFewSites, match="at least 5 must"):
            play(SEVEN, gone).sums()
    else:
        assert play(SEVEN, gone).sums() == _expected(left)


@pytest.mark.parametrize("number", [2, 3, 4])
def test_below_the_threshold_nothing_can_be_read(number: int) -> None:
    with pytest.raises(TooFewSites, match=r"4 sites .* at least 5 must be"):
        play(SEVEN, {number: frozenset("abc")}).sums()


def test_random_dropouts() -> None:
    rng = random.Random(7)
    for _ in range(15):
        number = rng.choice([1, 2, 3])
        gone = frozenset(rng.sample("abcdefg", 2))
        left = "".join(n for n in "abcdefg" if n not in gone)
        assert play(SEVEN, {number: gone}).sums() == _expected(left)


def _refusing_at(number: int, answer: Answer, code: str = "site_busy") -> Answer:
    """A site that answers all rounds before `number`."""
    refusal = Refusal(code, "", "The site gave up.", "Ask again.")

    def reply(body: bytes) -> bytes:
        if wire.decode_request(body).round < number:
            return answer(body)
        return wire.encode_release(refuse(refusal, site="g", study="", round=0, version="0"))

    return reply


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_site_that_goes_is_named_in_the_result(number: int) -> None:
    sites: dict[str, Answer] = {name: one.answer for name, one in hospitals(by_sex(SEVEN)).items()}
    sites["g"] = _refusing_at(number, sites["g"], "database_error")
    result = run(BY_SEX, sites, secure=True)
    plain = run(BY_SEX, by_sex({n: SEVEN[n] for n in "abcdef"}), secure=False)
    assert numbers(result) == numbers(plain)
    found = participation(result)
    assert len(found) == 7
    lost = found["g" if number > 1 else "site-g"]
    assert (lost["status"], lost["code"]) == ("refused", "database_error")
    assert all(p["status"] == "answered" for p in found.values() if p is not lost)


def test_a_site_that_is_busy_is_asked_again() -> None:
    sites: dict[str, Answer] = {name: one.answer for name, one in hospitals(by_sex(SEVEN)).items()}
    honest, refused = sites["c"], _refusing_at(2, sites["c"])
    asked = {"count": 0}

    def busy_once(body: bytes) -> bytes:
        asked["count"] += 1
        return (refused if asked["count"] == 2 else honest)(body)

    sites["c"] = busy_once
    result = run(BY_SEX, sites, secure=True)
    assert asked["count"] == 5
    assert participation(result)["c"]["status"] == "answered"


def test_too_few_sites_are_named_with_their_reasons() -> None:
    sites: dict[str, Answer] = {name: one.answer for name, one in hospitals(by_sex(SEVEN)).items()}
    for name in "abc":
        sites[name] = _refusing_at(3, sites[name], "database_error")
    with pytest.raises(TooFewSites) as caught:
        run(BY_SEX, sites, secure=True)
    assert "4 sites are left after the sums were masked; at least 5 must be" in str(caught.value)
    assert "a: database_error" in str(caught.value)


def test_a_policy_that_wants_more_sites_than_there_are() -> None:
    sites = {name: one.answer for name, one in hospitals(by_sex(SEVEN), 8).items()}
    with pytest.raises(TooFewSites, match="7 sites as the strictest policy asks; at least 8"):
        run(BY_SEX, sites, secure=True)


def test_a_site_that_refuses_the_study_is_left_out() -> None:
    answers = by_sex(SEVEN)
    refusal = Refusal("missing_table", "", "The database lacks a table.", "Set cdm-schema.")
    body = wire.encode_release(refuse(refusal, site="d", study="", round=1, version="0"))
    answers["d"] = lambda request: body
    result = run(BY_SEX, {n: h.answer for n, h in hospitals(answers).items()}, secure=True)
    assert participation(result)["d"]["code"] == "missing_table"
    del answers["d"]
    assert numbers(result) == numbers(run(BY_SEX, answers, secure=False))


def test_cells_that_sites_withhold_are_missing_where_they_are_in_clear() -> None:
    """b has 3 women: without her R1 cell the others' sum stands, and says that one is missing."""
    counts = {"a": (40, 50), "b": (3, 70), "c": (20, 30)}
    policy = Policy(complementary=False)
    answers = by_sex(counts, policy)
    plain = run(BY_SEX, answers, secure=False)
    secure = run(BY_SEX, {n: h.answer for n, h in hospitals(answers).items()}, secure=True)
    assert numbers(secure) == numbers(plain)
    assert ("1", "pooled", "everyone", "sex", "Female", "persons", "", "count", "overall") in (
        numbers(secure)
    )


def test_a_site_with_nobody_stands_behind_the_sum() -> None:
    answers = by_sex({"a": (40, 50), "b": (0, 0)})
    answers["c"] = made_up("c", [{}], BY_SEX)
    plain = run(BY_SEX, answers, secure=False)
    secure = run(BY_SEX, {n: h.answer for n, h in hospitals(answers).items()}, secure=True)
    assert numbers(secure) == numbers(plain)


def test_no_site_s_own_rows_are_shown_whatever_its_policy_lets() -> None:
    policy = Policy(min_count=1, complementary=False, per_site=True)
    answers = by_sex({"a": (40, 50), "b": (20, 30)}, policy)
    assert "a" in {key[1] for key in numbers(run(BY_SEX, answers, secure=False))}
    secure = run(BY_SEX, {n: h.answer for n, h in hospitals(answers).items()}, secure=True)
    assert {key[1] for key in numbers(secure)} == {"pooled"}


def test_a_site_that_is_silent_on_zeros_stands_behind_what_it_tells_alone() -> None:
    """c may have some women that it withholds: two sites are behind their number, not three."""
    for silent in (True, False):
        policy = Policy(zero_is_sensitive=silent, complementary=False, min_sites=3)
        answers = by_sex({"a": (40, 50), "b": (20, 30)}, policy)
        answers["c"] = made_up("c", [{}], BY_SEX, policy)
        plain = run(BY_SEX, answers, secure=False)
        held = {n: h.answer for n, h in hospitals(answers).items()}
        secure = run(BY_SEX, held, secure=True)
        assert numbers(secure) == numbers(plain)
        assert ("60" in numbers(secure).values()) is not silent
