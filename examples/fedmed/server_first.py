"""The first server: python examples/fedmed/server_first.py [PORT]"""

import sys
from pathlib import Path

from waitress import serve

from federated_analytics import fedmed as fm

server = fm.Server(config=Path(__file__).with_name("config.yaml"))
server["test array 1/2"] = [1, 2, 3]
server["people"] = {
    "sex": ["f", "m", "f", "f", "m", "f", "m", "m"],
    "age": [34, 51, 47, 62, 29, 70, 66, 41],
    "weight": [61.5, 80.2, None, 72.0, 77.3, 58.9, 90.1, 84.4],
}

if __name__ == "__main__":
    serve(server.app, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
