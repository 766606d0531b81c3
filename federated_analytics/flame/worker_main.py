"""Started as a file with `python -I`: finds the package that it belongs to, and runs the guard."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> int:
    root = str(Path(__file__).resolve().parents[2])
    sys.path.insert(0, root)
    try:
        from federated_analytics.flame.worker_guard import guard
    finally:
        sys.path.remove(root)  # the script sees installed packages, not what lies beside ours
    return guard()


if __name__ == "__main__":
    sys.exit(main())
