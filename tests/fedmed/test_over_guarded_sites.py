"""FedMed's questions at sites with a service: signed, admitted, answered, written down."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pandas as pd
import pytest

from federated_analytics import attested, submit
from federated_analytics import fedmed as fm
from federated_analytics.couriers import InProcessCourier
from federated_analytics.fedmed.errors import AskFailed
from federated_analytics.fedmed.flower import REQUEST_KEY, SIGNED_KEY
from federated_analytics.fedmed.fragment_site import FragmentSite
from federated_analytics.fedmed.over_flower import FragmentsHandler, run
from federated_analytics.guarded_site import GuardedSite
from federated_analytics.signing import SigningKey
from federated_analytics.site_config import SiteConfig

NAMES = ("hospital-a", "hospital-b")
ROWS = {
    "hospital-a": pd.DataFrame({"age": [float(20 + i % 60) for i in range(300)]}),
    "hospital-b": pd.DataFrame({"age": [float(30 + i % 50) for i in range(200)]}),
}
SITE = """\
[site]
name = "{name}"
[database]
url = "postgresql://nobody@127.0.0.1:1/none"
version = "1"
[[project]]
name = "p"
[[analyst]]
name = "ann"
key = "{key}"
projects = ["p"]
"""


class Hospitals:
    """Guarded sites in this process; the ServerApp's half of a run is played here."""

    def __init__(self, folder: Path, admitted: SigningKey) -> None:
        self.sites: dict[str, GuardedSite] = {}
        for name in NAMES:
            own = folder / name
            own.mkdir()
            (own / "site.toml").write_text(SITE.format(name=name, key=admitted.public.text))
            fragments = FragmentSite(state=own / "fragments", name=name)
            fragments["patients"] = ROWS[name]
            config = SiteConfig.load(own / "site.toml")
            handler = FragmentsHandler(fragments, name)
            self.sites[name] = GuardedSite.open(config, {"fedmed": handler})

    def run_app(self, config, superlink, certificates, show, **others) -> str:  # type: ignore[no-untyped-def]
        courier = InProcessCourier({name: site.answer for name, site in self.sites.items()})
        signed = config.get(SIGNED_KEY)
        request = base64.b64decode(config[REQUEST_KEY])
        return run(courier, request, base64.b64decode(signed) if signed else None)


@pytest.fixture
def hospitals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hospitals:
    key = SigningKey.new()
    key.save(tmp_path / "ann.key")
    SigningKey.new().save(tmp_path / "eve.key")
    made = Hospitals(tmp_path, key)
    monkeypatch.setattr(submit, "run_app", made.run_app)
    known = tmp_path / "known_sites.json"
    known.write_text(json.dumps({n: s.state.key.public.text for n, s in made.sites.items()}))
    monkeypatch.setattr(attested, "KNOWN_SITES", known)
    return made


def data(tmp_path: Path, who: str = "ann") -> fm.FedData:
    key = str(tmp_path / f"{who}.key") if who else ""
    return fm.FedData(
        [
            fm.Remote(site=name, fragment="patients", superlink="here", key=key, project="p")
            for name in NAMES
        ]
    )


def lines(site: GuardedSite) -> list[dict[str, object]]:
    return list(site.state.audit.lines())


def test_it_equals_pandas_and_is_written_down(hospitals: Hospitals, tmp_path: Path) -> None:
    ages = pd.concat(ROWS.values())["age"]
    asked = data(tmp_path)
    with fm.Batch():
        mean, old = asked["age"].mean(), (asked["age"] > 64).sum()
    assert float(mean) == pytest.approx(ages.mean(), rel=1e-12)
    assert float(old) == (ages > 64).sum()
    for site in hospitals.sites.values():
        last = lines(site)[-1]
        assert (last["decision"], last["analyst"], last["kind"]) == ("released", "ann", "fedmed")


@pytest.mark.parametrize(
    ("who", "code"), [("eve", "unknown_analyst"), ("", "signed requests alone")]
)
def test_nobody_else_is_answered(hospitals: Hospitals, tmp_path: Path, who: str, code: str) -> None:
    with pytest.raises(AskFailed, match=code):
        float(data(tmp_path, who)["age"].mean())
    for site in hospitals.sites.values():
        assert all(line["decision"] != "released" for line in lines(site))


def test_a_site_s_answer_that_the_server_changed_is_none(
    hospitals: Hospitals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def altered(config, *others, **named) -> str:  # type: ignore[no-untyped-def]
        replies = json.loads(hospitals.run_app(config, *others, **named))
        body = bytearray(base64.b64decode(replies[NAMES[0]]))
        body[len(body) // 2] ^= 1
        return json.dumps({**replies, NAMES[0]: base64.b64encode(body).decode()})

    monkeypatch.setattr(submit, "run_app", altered)
    with pytest.raises(AskFailed, match=NAMES[0]):
        float(data(tmp_path)["age"].mean())
