"""Attack 15: code in the app bundle that looks around, as another system user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from federated_analytics.local.guarded import GuardedHospital
from federated_analytics.signing import SigningKey
from tests.attacks.attacker import HEAD, told
from tests.sites import load

# Runs with the bundle's rights: it knows the node config, that is, where the socket is.
ATTACK = r"""
import glob, json, os, socket, sys
sys.path.insert(0, sys.argv[2])
from federated_analytics.site_service.socket_client import ask
from federated_analytics import wire
from federated_analytics.messages import Request
folder, secret = sys.argv[1], sys.stdin.read()  # of its own command line it knows
found = []
def look(text, where):
    if secret in text:
        found.append(where)
look(" ".join(os.environ.values()), "environment")
for path in glob.glob(folder + "/**", recursive=True) + [
    os.path.join(folder, n) for n in
    ("site.toml", "database-url", "state/ledger.sqlite", "state/audit.jsonl", "state/site.key")
]:
    try:
        look(open(path, "rb").read().decode("latin1"), path)
        found.append("read " + path)
    except OSError:
        pass
for name in ("environ", "cmdline", "maps"):
    for path in glob.glob("/proc/[0-9]*/" + name):
        try:
            look(open(path, "rb").read().decode("latin1"), path)
        except OSError:
            pass
address = "unix:" + os.path.join(folder, "site.sock")
codes = []
def send(body):
    try:
        reply = ask(address, body, 20.0)
    except Exception as error:
        codes.append(type(error).__name__)
        return
    look(reply.decode("latin1"), "a reply")
    codes.append(len(reply))
study = open(sys.argv[3]).read()
unsigned = wire.encode_request(Request(study, 1, "r", 9.0))
http = b"GET / HTTP/1.1\r\n\r\n"
for body in (b"", b"\0" * 100, b"\xff" * 9_000_000, unsigned, http, study.encode()):
    send(body)
held = []
for _ in range(1_000):
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(1)
    try:
        one.connect(address[5:])
        held.append(one)
    except OSError:
        break
print(json.dumps({"found": found, "codes": codes, "connections": len(held)}))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="fa-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


def as_another_user() -> list[str]:
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("the attack runs as another system user, which takes root and setpriv")
    return [setpriv, "--reuid=nobody", "--regid=nogroup", "--clear-groups"]


@pytest.mark.slow
def test_the_bundle_learns_nothing_but_a_refusal(folder: Path, database: str, root: Path) -> None:
    load(database, "flat15", {"t": pd.DataFrame({"person_id": range(40)})})
    secret = database.split("@")[0].rsplit(":", 1)[-1] + "@" + database.split("@")[1]
    user = as_another_user()
    key = SigningKey.new().public.text
    hospital = GuardedHospital(folder / "a", "hospital-a", database, "", key, [])
    hospital.start()
    try:
        (folder / "a" / "site.sock").chmod(0o666)  # even where its group lets everybody in
        study = folder / "study.json"
        from federated_analytics.study import Study

        text = HEAD.format(table="t") + '[[analysis]]\nkind = "counts"\n'
        study.write_text(Study.parse(text).to_json())
        study.chmod(0o644)
        script = folder / "attack.py"
        script.write_text(ATTACK)
        script.chmod(0o644)
        done = subprocess.run(
            [*user, sys.executable, str(script), str(folder / "a"), str(root), str(study)],
            cwd="/",
            input=secret,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if "Permission denied" in done.stderr and not done.stdout:
            pytest.skip("another system user may not run this Python")
        seen = json.loads(done.stdout)
        assert hospital.process is not None
        assert hospital.process.is_running()
    finally:
        assert hospital.process is not None
        hospital.process.stop()
    # The quickstart instead: the credential stands in the SuperNode's own command line.
    quickstart = subprocess.Popen(
        [sys.executable, "-c", "input()", database], stdin=subprocess.PIPE
    )
    try:
        limit = time.monotonic() + 10
        line = ""
        while secret not in line and time.monotonic() < limit:
            line = Path(f"/proc/{quickstart.pid}/cmdline").read_bytes().decode()
            time.sleep(0.05)
    finally:
        quickstart.kill()
        quickstart.wait()
    told("15 malicious bundle", "the database's URL", seen["found"] or None, "in its command line")
    assert secret in line
    assert seen["found"] == []
    assert seen["codes"]
