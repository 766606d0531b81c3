"""Local differential privacy of a final result: the Laplace mechanism, through OpenDP."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

from federated_analytics.errors import MissingExtra
from federated_analytics.flame.errors import FlameError


class CannotAddNoise(FlameError, ValueError):
    """A value or parameters for which the Laplace mechanism has no meaning."""

    code = "invalid_local_dp"
    default_remedy = (
        "Give a number or a numeric numpy array, with epsilon and sensitivity above 0: "
        "local_dp={'epsilon': 1.0, 'sensitivity': 1.0}."
    )


def noisy(
    value: Any,
    *,
    epsilon: float,
    sensitivity: float,
    charge: Callable[[float], None] | None = None,
) -> Any:
    """The value with Laplace noise of scale sensitivity/epsilon (Dwork et al. 2006).

    Args:
        value: an int or float, or a numeric numpy array.
        epsilon: the loss of privacy, above 0.
        sensitivity: how far one person can move the value; for an array the sum of the absolute
            changes over all its numbers.
        charge: called with the loss that OpenDP proves, before noise is drawn; where it
            raises, nothing is released.

    Returns:
        A float, or a float64 array of the same shape.

    Raises:
        CannotAddNoise: another type, a value that is not finite, or parameters that are not
            finite and positive.
    """
    for name, number in (("epsilon", epsilon), ("sensitivity", sensitivity)):
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise CannotAddNoise(f"{name} is a number.", where=f"local_dp.{name}")
        if not (math.isfinite(number) and number > 0):
            raise CannotAddNoise(f"{name} is finite and above 0.", where=f"local_dp.{name}")
    scale = float(sensitivity) / float(epsilon)
    if not (math.isfinite(scale) and scale > 0):
        raise CannotAddNoise("sensitivity / epsilon is not a usable scale.", where="local_dp")
    flat, shape = _numbers(value)
    measurement = _measurement(scale)
    if charge is not None:
        charge(max(float(epsilon), float(measurement.map(float(sensitivity)))))
    released = measurement(flat)
    if shape is None:
        return float(released[0])
    import numpy

    return numpy.array(released, dtype=numpy.float64).reshape(shape)


def _numbers(value: Any) -> tuple[list[float], tuple[int, ...] | None]:
    """The value's finite numbers, and its shape where it is an array."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        if value.dtype.kind not in "iuf" or isinstance(value, numpy.ma.MaskedArray):
            raise CannotAddNoise(f"An array of {value.dtype} has no noise to add.", where="result")
        flat = [float(number) for number in value.ravel()]
        shape = value.shape if isinstance(value, numpy.ndarray) else None
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        flat, shape = [float(value)], None
    else:
        raise CannotAddNoise(
            f"local_dp is for numbers and arrays, not for a {type(value).__name__}.",
            where="result",
            remedy="Submit a number or numpy.array([...]), or leave out local_dp.",
        )
    if not all(math.isfinite(number) for number in flat):
        raise CannotAddNoise("The result is not finite.", where="result")
    return flat, shape


def _measurement(scale: float) -> Any:
    try:
        import opendp.prelude as dp
    except ImportError:
        raise MissingExtra("opendp", "flame", "local_dp") from None

    dp.enable_features("contrib")
    numbers = dp.vector_domain(dp.atom_domain(T=float, nan=False))
    return dp.m.make_laplace(numbers, dp.l1_distance(T=float), scale=scale)
