#!/usr/bin/env bash
# Starts PostgreSQL databases with synthetic OMOP CDM data: ./db_start.sh [N] [--persons P] …
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
command=federated-analytics
if [ -x "$here/.venv/bin/$command" ]; then command="$here/.venv/bin/$command"; fi
if ! command -v "$command" >/dev/null 2>&1; then
    echo "federated-analytics is not installed: run  pip install -e '.[demo]'" >&2
    exit 1
fi
exec "$command" db start "$@"
