"""The one place that writes a pickle: a final result, for the analyst to open.

None of our processes ever reads one.
"""

from __future__ import annotations

import pickle
from typing import Any

from federated_analytics.flame.errors import InvalidArgument


def pickled(result: Any) -> bytes:
    """Raises: InvalidArgument, when Python cannot pickle the result."""
    try:
        return pickle.dumps(result)
    except (pickle.PicklingError, TypeError, AttributeError, RecursionError):
        raise InvalidArgument(
            f"A {type(result).__name__} cannot be pickled.",
            where="result",
            remedy="Submit its numbers, or use output_type='str'.",
        ) from None
