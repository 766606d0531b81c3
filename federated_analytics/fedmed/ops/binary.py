"""The original's operations on rows, by name, and what each is in an expression.

The functions work on pandas Series row by row, so that an owner's own operation can wrap them:

>>> import pandas as pd
>>> from federated_analytics.fedmed import ops
>>> ops.binary.mul(pd.Series([1, 2]), 10).tolist()
[10, 20]
"""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from federated_analytics.fedmed.ops import element_wise

NAMES = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "div": "div",
    "truediv": "div",
    "pow": "pow",
    "eq": "eq",
    "ne": "ne",
    "lt": "lt",
    "le": "le",
    "gt": "gt",
    "ge": "ge",
    "abs": "abs",
    "neg": "neg",
    "and": "and",
    "and_": "and",
    "or": "or",
    "or_": "or",
    "not": "not",
    "not_": "not",
    "round": "round",
}
"""A name in a configuration → the operation in an expression."""
DUNDERS = {
    **{f"__{name}__": name for name in NAMES.values()},
    **{f"__r{name}__": name for name in ("add", "sub", "mul", "pow", "div", "and", "or")},
    "__truediv__": "div",
    "__rtruediv__": "div",
    "__invert__": "not",
}
"""The original's names of arithmetic in a configuration."""


@element_wise
def add(left: Any, right: Any) -> Any:
    """Sums, row by row.

    >>> import pandas as pd
    >>> add(pd.Series([1, 2]), 3).tolist()
    [4, 5]
    """
    return left + right


@element_wise
def sub(left: Any, right: Any) -> Any:
    """Differences.

    >>> import pandas as pd
    >>> sub(pd.Series([1, 2]), 3).tolist()
    [-2, -1]
    """
    return left - right


@element_wise
def mul(left: Any, right: Any) -> Any:
    """Products.

    >>> import pandas as pd
    >>> mul(pd.Series([1, 2]), 3).tolist()
    [3, 6]
    """
    return left * right


@element_wise
def div(left: Any, right: Any) -> Any:
    """Quotients.

    >>> import pandas as pd
    >>> div(pd.Series([1, 2]), 4).tolist()
    [0.25, 0.5]
    """
    return left / right


@element_wise
def pow(left: Any, right: Any) -> Any:
    """Powers.

    >>> import pandas as pd
    >>> pow(pd.Series([1, 2]), 3).tolist()
    [1, 8]
    """
    return left**right


@element_wise
def eq(left: Any, right: Any) -> Any:
    """Whether values are equal.

    >>> import pandas as pd
    >>> eq(pd.Series([1, 2]), 2).tolist()
    [False, True]
    """
    return left == right


@element_wise
def ne(left: Any, right: Any) -> Any:
    """Whether values differ.

    >>> import pandas as pd
    >>> ne(pd.Series([1, 2]), 2).tolist()
    [True, False]
    """
    return left != right


@element_wise
def lt(left: Any, right: Any) -> Any:
    """Whether the left value is less.

    >>> import pandas as pd
    >>> lt(pd.Series([1, 2]), 2).tolist()
    [True, False]
    """
    return left < right


@element_wise
def le(left: Any, right: Any) -> Any:
    """Whether the left value is not greater.

    >>> import pandas as pd
    >>> le(pd.Series([1, 2]), 2).tolist()
    [True, True]
    """
    return left <= right


@element_wise
def gt(left: Any, right: Any) -> Any:
    """Whether the left value is greater.

    >>> import pandas as pd
    >>> gt(pd.Series([1, 2]), 1).tolist()
    [False, True]
    """
    return left > right


@element_wise
def ge(left: Any, right: Any) -> Any:
    """Whether the left value is not less.

    >>> import pandas as pd
    >>> ge(pd.Series([1, 2]), 2).tolist()
    [False, True]
    """
    return left >= right


@element_wise
def and_(left: Any, right: Any) -> Any:
    """Whether both are true.

    >>> import pandas as pd
    >>> and_(pd.Series([True, False]), True).tolist()
    [True, False]
    """
    return left & right


@element_wise
def or_(left: Any, right: Any) -> Any:
    """Whether one is true.

    >>> import pandas as pd
    >>> or_(pd.Series([True, False]), False).tolist()
    [True, False]
    """
    return left | right


@element_wise
def abs(rows: Any) -> Any:
    """Distances from 0.

    >>> import pandas as pd
    >>> abs(pd.Series([-1, 2])).tolist()
    [1, 2]
    """
    return builtins.abs(rows)


@element_wise
def neg(rows: Any) -> Any:
    """Values with the other sign.

    >>> import pandas as pd
    >>> neg(pd.Series([-1, 2])).tolist()
    [1, -2]
    """
    return -rows


@element_wise
def not_(rows: Any) -> Any:
    """Whether it is not true.

    >>> import pandas as pd
    >>> not_(pd.Series([True, False])).tolist()
    [False, True]
    """
    return ~rows


@element_wise
def round(rows: Any, step: float = 1.0) -> Any:
    """The nearest multiples of a step, halves up.

    >>> import pandas as pd
    >>> round(pd.Series([1.25, 2.16, -0.3]), 0.5).tolist()
    [1.5, 2.0, -0.5]
    """
    return np.floor(rows / step + 0.5) * step


truediv = div
