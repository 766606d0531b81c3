#!/usr/bin/env bash
# Defines the OMOP CDM 5.4 tables and loads synthetic data: ./db_init.sh URL [--persons P] …
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
command=federated-analytics
if [ -x "$here/.venv/bin/$command" ]; then command="$here/.venv/bin/$command"; fi
if ! command -v "$command" >/dev/null 2>&1; then
    echo "federated-analytics is not installed: run  pip install -e '.[demo]'" >&2
    exit 1
fi
exec "$command" db init "$@"
