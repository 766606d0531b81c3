"""The second server: python examples/fedmed/server_second.py [PORT]"""

import sys
from pathlib import Path

import pandas as pd
from waitress import serve

from federated_analytics import fedmed as fm

server = fm.Server(config=Path(__file__).with_name("config.yaml"))
server["test array 2/2"] = [4, 5]
server["people"] = pd.DataFrame(
    {
        "sex": ["m", "f", "f", "m", "f", "m"],
        "age": [58, 39, 45, 73, 31, 60],
        "weight": [88.0, 63.4, 70.7, 79.5, 55.2, 92.6],
    }
)

if __name__ == "__main__":
    serve(server.app, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 5001)
