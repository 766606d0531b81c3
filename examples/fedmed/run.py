"""Two servers and a client on this machine, by one command: python examples/fedmed/run.py"""

import os
import secrets
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).parent
SECONDS = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + SECONDS
    while time.monotonic() < limit and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit("A server did not start; what it printed above says why.")


def main() -> int:
    environment = {**os.environ, "FEDMED_TOKEN": secrets.token_urlsafe(24)}
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        for script, port in zip(("server_first.py", "server_second.py"), ports, strict=True):
            command = [sys.executable, str(HERE / script), str(port)]
            server = stack.enter_context(subprocess.Popen(command, env=environment))
            stack.callback(server.terminate)
            wait_for(port, server)
        addresses = [f"http://127.0.0.1:{port}" for port in ports]
        client = [sys.executable, str(HERE / "client.py"), *addresses]
        return subprocess.run(client, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
