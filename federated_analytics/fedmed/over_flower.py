"""What carries FedMed's requests over Flower: the ServerApp's half and the node's."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from federated_analytics import wire
from federated_analytics.errors import (
    ConfigError,
    FederatedAnalyticsError,
    NoSites,
    RequestRefused,
    WireError,
)

if TYPE_CHECKING:
    from federated_analytics.couriers import Courier
    from federated_analytics.fedmed.fragment_site import FragmentSite
    from federated_analytics.messages import Request


class NotAsked(RequestRefused):
    """A request that names other sites than this one."""

    code = "not_asked"
    default_remedy = "Name the site as its operator does: Remote(site=…)."


class NoFragments(RequestRefused):
    """A node that was given no fragments."""

    code = "no_fragments"
    default_remedy = (
        "The site operator lists its fragments in a file and gives the SuperNode "
        '--node-config=\'site="NAME" fragments="/path/fragments.yaml"\'.'
    )


def request_to_sites(requests: Mapping[str, bytes]) -> bytes:
    """One message that holds what each site is asked; all sites get the same bytes."""
    decoded = {site: wire.decode_request(body) for site, body in requests.items()}
    study = json.dumps({site: request.study for site, request in sorted(decoded.items())})
    return wire.encode_request(replace(next(iter(decoded.values())), study=study))


def sites_asked(body: bytes) -> dict[str, str]:
    """What each site is asked, as JSON of `protocol.Asks`. WireError for anything else."""
    try:
        plain = json.loads(wire.decode_request(body).study)
    except ValueError as error:
        raise WireError("The request names no sites.") from error
    if not isinstance(plain, dict) or not all(isinstance(v, str) for v in plain.values()):
        raise WireError("The request names no sites.")
    return plain


def request_of_site(body: bytes, site: str) -> bytes:
    """The part of a request that is for one site. NotAsked where there is none."""
    asked = sites_asked(body).get(site)
    if asked is None:
        raise NotAsked("The request is for other sites.")
    return wire.encode_request(replace(wire.decode_request(body), study=asked))


def run(courier: Courier, request: bytes, signed: bytes | None = None) -> str:
    """Carry a request to every site and bring back the replies of those that it names.

    Args:
        request: as `request_to_sites` makes it.
        signed: the same in the analyst's envelope, which is sent in its place.
    Returns:
        JSON: the reply of each site, in base64, by the site's name.
    Raises:
        NoSites: none is connected.
    """
    from federated_analytics.exchange import released

    wanted = set(sites_asked(request))
    addresses = courier.addresses()
    if not addresses:
        raise NoSites("No site is connected.")
    found: dict[str, str] = {}
    deadline = time.monotonic() + wire.decode_request(request).seconds
    for reply in courier.exchange(dict.fromkeys(addresses, signed or request), deadline):
        try:
            body = reply.body or b""
            name = wire.decode_release(released(body)).site
        except FederatedAnalyticsError:
            continue  # it is among those that did not answer
        if name in wanted:
            found[name] = base64.b64encode(body).decode()
        if wanted <= set(found):
            break
    return json.dumps(found)


def answer_at_node(node_config: Mapping[str, Any], body: bytes) -> bytes:
    """A node's answer over the fragments of its own file. Raises what the desk turns to refusals.

    Node config: `site`, the node's name; `fragments`, a file as `load_fragments` reads it.
    """
    name = str(node_config.get("site", ""))
    file = str(node_config.get("fragments", ""))
    asked = request_of_site(body, name)
    if not file:
        raise NoFragments("The site has no fragments for FedMed.")
    return load_fragments(Path(file), name).answer(asked)


@dataclass(frozen=True)
class FragmentsHandler:
    """FedMed's requests at a guarded site: its service has checked who asks.

    Fields:
        name: the site's own, by which requests name it
    """

    fragments: FragmentSite
    name: str
    quick = True

    def answer(self, asker: object, request: Request, guarded: object) -> bytes:
        """The encoded release. Refusals as of `request_of_site`."""
        return self.fragments.answer(request_of_site(wire.encode_request(request), self.name))


def load_fragments(file: Path, name: str) -> FragmentSite:
    """The site that a YAML file describes.

    Keys: `config`, the server's configuration; `state`, a folder that keeps versions and what
    was answered; `fragments`, by name: a Parquet or CSV file, or a table of a PostgreSQL database
    (`table` and one of `url`, `url_env`, `url_file`; also `key`, as of `fm.SQLTable`).
    Paths are relative to the file.

    Raises:
        ConfigError: the file cannot be used.
    """
    import yaml

    from federated_analytics.fedmed.config import Config
    from federated_analytics.fedmed.fragment_site import FragmentSite

    try:
        plain = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError("The file of fragments cannot be read.", where=file.name) from error
    keys = {"config", "state", "fragments"}
    if not isinstance(plain, dict) or not {"state", "fragments"} <= set(plain) <= keys:
        raise ConfigError(
            "A file of fragments has config, state and fragments.",
            where=file.name,
            remedy='Write config: config.yaml, state: state, fragments: {"name": rows.parquet}.',
        )
    config = Config.load(file.parent / plain["config"]) if "config" in plain else Config()
    site = FragmentSite(config, file.parent / plain["state"], name=name)
    for fragment, place in plain["fragments"].items():
        site[str(fragment)] = _data_at(place, file)
    return site


_URLS = {"url": "db-url", "url_env": "db-url-env", "url_file": "db-url-file"}


def _data_at(place: Any, file: Path) -> Any:
    from federated_analytics.fedmed.sql.table import SQLTable
    from federated_analytics.site import URL_READERS

    if isinstance(place, str):
        return file.parent / place
    given = set(place) if isinstance(place, dict) else set()
    [*urls] = given & set(_URLS)
    named = len(urls) == 1 and "table" in given and given <= {*_URLS, "table", "key"}
    if not named or not all(isinstance(value, str) for value in place.values()):
        raise ConfigError(
            "A fragment is the path of a Parquet or CSV file, or a table of a database.",
            where=f"{file.name}: fragments",
            remedy="Write people.parquet, or {url_file: url.txt, table: visits, key: patient_id}.",
        )
    value = place[urls[0]]
    if urls[0] == "url_file":
        value = file.parent / value
    return SQLTable(URL_READERS[_URLS[urls[0]]](value), place["table"], key=place.get("key", ""))
