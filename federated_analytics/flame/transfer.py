"""Values between a script and its node: written to a file first, so that they cross in pieces."""

from __future__ import annotations

import tempfile
from typing import Any, BinaryIO, cast

from federated_analytics.flame.node_connection import NodeConnection

_IN_MEMORY_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20


def spooled() -> Any:
    """A file in memory, or in the working directory once it is large."""
    return tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=".")


def dumped(data: Any) -> Any:
    """A value as a file; the caller closes it."""
    from federated_analytics.flame.serialisation import dump

    file = spooled()
    try:
        dump(data, cast(BinaryIO, file))
    except BaseException:
        file.close()
        raise
    return file


def loaded(connection: NodeConnection, call: str, **arguments: Any) -> Any:
    """The value that a call's stream holds; read to its end before anything else is asked."""
    from federated_analytics.flame.serialisation import load

    _, stream = connection.open(call, **arguments)
    with spooled() as file:
        while chunk := stream.read(_CHUNK_BYTES):
            file.write(chunk)
        file.seek(0)
        return load(file)
