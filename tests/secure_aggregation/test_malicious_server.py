"""A server that does not keep to the protocol, and what a site says to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from federated_analytics import wire
from federated_analytics.errors import (
    ConfigError,
    FederatedAnalyticsError,
    TooFewSites,
    WireError,
)
from federated_analytics.privacy.draft import Evidence
from federated_analytics.privacy.policy import Policy
from federated_analytics.secure_aggregation import SecureSite
from federated_analytics.secure_aggregation.errors import (
    AlteredPeer,
    AskedTwice,
    NoSuchRun,
    OtherSites,
    TooFewPeers,
    UnknownPeer,
    UnmaskingFailed,
)
from federated_analytics.secure_aggregation.messages import (
    Advertisement,
    Contribution,
    Delivery,
    Roster,
    Shares,
    Survivors,
    Unmasking,
    bytes_in,
    opened,
    sealed,
    text_of,
    written,
)
from federated_analytics.signing import SigningKey
from tests.secure_aggregation.hospitals import OPEN, Memory, Play, play

SEVEN = {name: (10 + i, 20 + i) for i, name in enumerate("abcdefg")}
THREE = {name: SEVEN[name] for name in "abc"}


def _roster(done: Play, *, without: str = "", more: tuple[bytes, ...] = ()) -> str:
    kept = [body for name, body in done.replies[1].items() if name not in without]
    return written(Roster(tuple(text_of(body) for body in [*kept, *more])))


def _advertised(done: Play, of: str, key: SigningKey, **changes: str) -> bytes:
    """An advertisement that the server made, under a key of its own."""
    own = opened(Advertisement, done.replies[1][of]).message
    fields = {name: getattr(own, name) for name in own.__dataclass_fields__}
    return sealed(Advertisement(**{**fields, **changes}), key)


def test_a_key_that_is_not_the_site_s_own_is_refused() -> None:
    """The server in the middle: it puts its own keys in place of b's."""
    done = play(THREE).until(1)
    forged = _advertised(done, "b", SigningKey.new())
    with pytest.raises(AlteredPeer):
        done.told(2, "a", _roster(done, without="b", more=(forged,)))


def test_a_changed_byte_of_an_advertisement_is_refused() -> None:
    done = play(THREE).until(1)
    whole = done.replies[1]["b"]
    for position in range(0, len(whole), 7):
        changed = bytes([*whole[:position], whole[position] ^ 1, *whole[position + 1 :]])
        with pytest.raises(FederatedAnalyticsError) as caught:
            done.told(2, "a", _roster(done, without="b", more=(changed,)))
        assert caught.value.code in ("altered_peer", "unknown_peer", "invalid_message")


def test_an_unknown_site_is_refused() -> None:
    done = play(THREE).until(1)
    stranger = _advertised(done, "b", SigningKey.new(), site="z")
    with pytest.raises(UnknownPeer, match="whose key is not known"):
        done.told(2, "a", _roster(done, more=(stranger,)))


def test_a_site_is_not_put_in_twice() -> None:
    done = play(THREE).until(1)
    with pytest.raises(AlteredPeer, match="twice"):
        done.told(2, "a", _roster(done, more=(done.replies[1]["b"],)))


def test_an_advertisement_of_another_run_is_refused() -> None:
    """b's own signature, from the run before."""
    done, before = play(THREE).until(1), play(THREE)
    key = before.participants["b"].key
    old = _advertised(done, "b", key, run="0" * 32)
    participant = done.participants["a"]
    participant.peers = {**participant.peers, "b": key.public}
    with pytest.raises(AlteredPeer, match="another run"):
        done.told(2, "a", _roster(done, without="b", more=(old,)))


def test_its_own_advertisement_must_be_in_the_list() -> None:
    done = play(THREE).until(1)
    with pytest.raises(AlteredPeer, match="own advertisement"):
        done.told(2, "a", _roster(done, without="a"))


@pytest.mark.parametrize("others", ["", "b"])
def test_too_few_peers_are_refused_before_the_database_is_asked(others: str) -> None:
    done = play(SEVEN, min_sites=3).until(1)
    participant = done.participants["a"]
    asked = []
    participant.release = lambda: asked.append(1) or b""  # type: ignore[func-returns-value]
    without = "".join(n for n in "bcdefg" if n not in others)
    with pytest.raises(TooFewPeers):
        done.told(2, "a", _roster(done, without=without))
    assert not asked


def test_another_list_is_not_answered_after_the_first() -> None:
    done = play(SEVEN).until(2)
    with pytest.raises(AskedTwice):
        done.told(2, "a", _roster(done, without="g"))
    assert done.told(2, "a") == done.replies[2]["a"]  # the same one is: a reply may get lost


def test_sites_that_were_given_different_lists_do_not_add_up() -> None:
    """a is told of six sites, the others of seven: nobody takes the other's contribution."""
    done = play(SEVEN).until(1)
    lists = {"a": _roster(done, without="g")} | dict.fromkeys("bcdef", _roster(done))
    replies = {name: done.told(2, name, text) for name, text in lists.items()}

    shares = {name: opened(Shares, body).message for name, body in replies.items()}
    sealed_for_b = {n: s.sealed["b"] for n, s in shares.items() if n != "b"}
    text = written(Delivery(tuple(s.contribution for s in shares.values()), sealed_for_b))
    with pytest.raises(AlteredPeer, match="another run"):
        done.told(3, "b", text)


def test_shares_for_another_site_do_not_open() -> None:
    done = play(THREE).until(2)
    messages = done.server.deliveries(done.replies[2])
    swapped = {**messages["a"].sealed, "b": messages["c"].sealed["b"]}
    with pytest.raises(WireError, match="sealed share"):
        done.told(3, "a", written(Delivery(messages["a"].contributions, swapped)))


def _contributed(done: Play, of: str, key: SigningKey, **changes: object) -> bytes:
    """A contribution that the server made of a site's own, under a key of its own."""
    shares = opened(Shares, done.replies[2][of]).message
    own = opened(Contribution, bytes_in(shares.contribution)).message
    return sealed(replace(own, **changes), key)  # type: ignore[arg-type]


def _with(done: Play, forged: bytes, of: str) -> str:
    """The message to a, with one contribution put in place of a site's own."""
    message = done.server.deliveries(done.replies[2])["a"]
    shares = opened(Shares, done.replies[2][of]).message
    kept = [body for body in message.contributions if body != shares.contribution]
    return written(Delivery((*kept, text_of(forged)), message.sealed))


def test_a_contribution_that_the_server_wrote_is_refused() -> None:
    """It says that b withheld nothing, so that a adds a cell that b keeps back."""
    counts = {"a": (400, 50), "b": (3, 70), "c": (2, 30)}
    done = play(counts, policy=Policy(complementary=False)).until(2)
    shares = opened(Shares, done.replies[2]["b"]).message
    own = opened(Contribution, bytes_in(shares.contribution)).message
    answers = tuple(replace(answer, withheld=()) for answer in own.disclosure.answers)
    assert own.disclosure.answers != answers
    told = replace(own.disclosure, answers=answers)
    forged = _contributed(done, "b", SigningKey.new(), disclosure=told)
    with pytest.raises(AlteredPeer, match="not as the site signed"):
        done.told(3, "a", _with(done, forged, "b"))


@pytest.mark.parametrize("change", [{"run": "0" * 32}, {"roster": "0" * 64}])
def test_a_contribution_to_another_run_is_refused(change: dict[str, str]) -> None:
    done = play(THREE).until(2)
    forged = _contributed(done, "b", done.participants["b"].key, **change)
    with pytest.raises(AlteredPeer, match="another run"):
        done.told(3, "a", _with(done, forged, "b"))


def test_a_site_s_own_contribution_is_not_replaced() -> None:
    done = play(THREE).until(2)
    forged = _contributed(done, "a", done.participants["a"].key, commitment="0" * 64)
    with pytest.raises(AlteredPeer, match="own contribution"):
        done.told(3, "a", _with(done, forged, "a"))


def test_two_sites_with_one_key_are_refused() -> None:
    """b's key under c's name and signature: their masks would be the same."""
    done = play(THREE).until(1)
    b = opened(Advertisement, done.replies[1]["b"]).message
    forged = _advertised(done, "c", done.participants["c"].key, masking=b.masking)
    with pytest.raises(AlteredPeer, match="same key"):
        done.told(2, "a", _roster(done, without="c", more=(forged,)))


def test_too_few_contributions_are_not_masked() -> None:
    done = play(SEVEN).until(2)
    few = {name: done.replies[2][name] for name in "abcde"}
    messages = done.server.deliveries(few)
    kept = messages["a"].contributions
    own = [c for c in kept if b'"a"' in bytes_in(c)]
    four = tuple(dict.fromkeys([*own, *kept]))[:4]
    with pytest.raises(TooFewPeers, match="4 of 7"):
        done.told(3, "a", written(Delivery(four, messages["a"].sealed)))


def _named(*names: str) -> str:
    return written(Survivors(names))


def test_no_site_gives_both_secrets_of_one() -> None:
    """First g is said to be there, then to have dropped out."""
    done = play(SEVEN).until(3)
    first = opened(Unmasking, done.told(4, "a", _named(*"abcdefg"))).message
    assert set(first.seeds) == set("abcdefg")
    assert not first.keys
    with pytest.raises(AskedTwice):
        done.told(4, "a", _named(*"abcdef"))
    second = opened(Unmasking, done.told(4, "b", _named(*"abcdef"))).message
    assert not set(second.seeds) & set(second.keys)
    assert set(second.keys) == {"g"}


@pytest.mark.parametrize(
    ("names", "error"),
    [
        ("bcdefg", AlteredPeer),  # a itself is said to have dropped out
        ("a", TooFewPeers),
        ("abcd", TooFewPeers),
        ("abcdefz", AlteredPeer),
        ("abcdeff", AlteredPeer),
        ("", AlteredPeer),
    ],
)
def test_survivors_that_a_site_does_not_believe(
    names: str, error: type[FederatedAnalyticsError]
) -> None:
    done = play(SEVEN).until(3)
    with pytest.raises(error):
        done.told(4, "a", _named(*names))


def test_steps_come_in_their_order() -> None:
    done = play(THREE)
    with pytest.raises(NoSuchRun):
        done.participants["a"].unmask(_named("a", "b", "c"))
    done.until(2)
    with pytest.raises(NoSuchRun):
        done.participants["a"].unmask(_named("a", "b", "c"))


def test_a_server_that_tells_each_site_another_story_gets_no_secret_twice() -> None:
    """For every way to say to each of seven sites whether g survived: never both thresholds."""
    done = play(SEVEN).until(3)
    need = 5
    for mask in range(2**6):
        said_alive = bin(mask).count("1") + 1  # g itself is only ever told that it is there
        said_gone = 6 - bin(mask).count("1")
        assert not (said_alive >= need and said_gone >= need)
    seeds = keys = 0
    for i, name in enumerate("abcdef"):
        names = "abcdefg" if i < 3 else "abcdef"
        message = opened(Unmasking, done.told(4, name, _named(*names))).message
        seeds, keys = seeds + ("g" in message.seeds), keys + ("g" in message.keys)
    assert (seeds, keys) == (3, 3)


def test_the_signed_replies_tell_of_different_survivors() -> None:
    """Whoever adds up again, as the analyst does, sees it."""
    done = play(SEVEN).until(3)
    replies = {n: done.told(4, n, _named(*"abcdefg")) for n in "abcd"}
    replies |= {n: done.told(4, n, _named(*"abcdef")) for n in "ef"}
    done.server.survivors(done.replies[3])
    with pytest.raises(TooFewSites, match="4 sites have given their shares"):
        done.server.sums(replies)
    assert {error.code for error in done.server.dropped.values()} == {"invalid_message"}


def test_shares_of_another_secret_do_not_make_a_number() -> None:
    """All sites give c's for a's, under their own signatures: they are of one secret, not a's."""
    done = play(SEVEN, {3: frozenset("fg")}).until(4)
    for part, words in (("seeds", "another seed"), ("keys", "another key")):
        replies = {}
        for name, body in done.replies[4].items():
            own = opened(Unmasking, body).message
            shares = dict(getattr(own, part))
            first, second, *_ = sorted(shares)
            shares[first] = shares[second]
            wrong = replace(own, **{part: shares})  # type: ignore[arg-type]
            replies[name] = sealed(wrong, done.participants[name].key)
        with pytest.raises(UnmaskingFailed, match=words):
            done.server.sums(replies)
    assert done.server.sums(done.replies[4])


def test_the_same_question_over_other_sites_is_refused() -> None:
    """Two sums that differ by one site would tell that site's own numbers."""
    memory = {name: Memory() for name in SEVEN}
    assert play(SEVEN, memory=memory).sums()[""] == sum(map(sum, SEVEN.values()))
    assert play(SEVEN, memory=memory).sums()[""]  # over the same sites: the same answer
    with pytest.raises(OtherSites):
        play(SEVEN, {2: frozenset("g")}, memory=memory).sums()


def test_with_noise_the_difference_of_two_sums_is_as_noisy_as_the_site() -> None:
    memory = {name: Memory() for name in SEVEN}
    for gone in ("", "g"):
        one = play(SEVEN, {2: frozenset(gone)}, memory=memory)
        for participant in one.participants.values():
            participant.release = _as_noisy(participant.release)
        assert one.sums()
    assert not any(m.kept for m in memory.values())


def _as_noisy(release: Callable[[], bytes]) -> Callable[[], bytes]:
    """The release of a site whose policy says that its numbers carry noise."""
    disclosure = wire.decode_release(release())
    evidence = [
        Evidence(a.analysis, a.population, {c.key: c.value for c in a.cells}, {}, frozenset())
        for a in disclosure.answers
    ]
    answers = OPEN.disclose(evidence)
    body = wire.encode_release(
        Policy(mode="dp").release(
            (),
            answers=answers,
            site=disclosure.site,
            study=disclosure.study,
            round=1,
            version="0",
            database="",
            synthetic=True,
            seconds=0.0,
        )
    )
    return lambda: body


@pytest.mark.parametrize("text", ["", "[]", "{}", '["x"]', "[" * 5_000, '[[["a"]]]', "null"])
def test_nonsense_is_no_message(text: str) -> None:
    for number in (2, 3, 4):
        done = play(THREE).until(number - 1)
        with pytest.raises(FederatedAnalyticsError):
            done.told(number, "a", text)


def test_a_site_does_not_take_two_peers_with_one_key() -> None:
    key, peer = SigningKey.new(), SigningKey.new().public
    with pytest.raises(ConfigError, match="same key or name"):
        SecureSite("a", key, {"b": peer, "c": peer}, 2, Memory().keep)
    with pytest.raises(ConfigError, match="same key or name"):
        SecureSite("a", key, {"a": peer}, 2, Memory().keep)
