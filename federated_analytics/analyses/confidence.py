"""Confidence intervals of noisy numbers: sampling error and privacy noise together.

The noise's variances are public (`NoiseStatement.variance`); over several sites they add up.

References: D'Orazio, Honaker & King (2015), Differential Privacy for Social Science Inference;
    Wolter (2007), Introduction to Variance Estimation, chapter 6, for the variance of a ratio
"""

from __future__ import annotations

import math

from federated_analytics.aggregates.moments import Moments

CONFIDENCE = 0.95


def count_interval(
    count: float, variance: float, confidence: float = CONFIDENCE
) -> tuple[int, int]:
    """Where the exact number of persons lies, whole persons, given a count with noise.

    Args:
        count: the estimate, before it was cut at 0
        variance: of its noise, persons squared
    """
    half = _normal(confidence) * math.sqrt(variance)
    # Half a person more: the noise takes whole steps, and an interval must hold its ends.
    low, high = math.floor(count - half - 0.5), math.ceil(count + half + 0.5)
    return max(0, low), max(0, high)


def proportion_interval(
    part: float,
    whole: float,
    part_variance: float,
    whole_variance: float,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Interval of the population's proportion, from two counts with independent noise.

    Var(p) = p (1 - p) / n + (Var(part) + p² Var(whole)) / n², by the delta method, with Agresti
    & Coull's two added successes and failures. [0, 1] where the whole is not above its noise.
    """
    n = whole + 4
    if whole <= 2 * math.sqrt(whole_variance) or n <= 4:
        return 0.0, 1.0
    p = min(max((part + 2) / n, 0.0), 1.0)
    variance = p * (1 - p) / n + (part_variance + p * p * whole_variance) / (n * n)
    half = _normal(confidence) * math.sqrt(variance)
    return max(0.0, p - half), min(1.0, p + half)


def mean_interval(
    moments: Moments,
    bounds: tuple[float, float],
    *,
    n_variance: float,
    sum_variance: float,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Interval of the population's mean, in the feature's unit.

    Var(mean) = s² / n + (Var(sum) + (mean - middle)² Var(n)) / n²: the mean is the middle of the
    bounds plus a noisy sum over a noisy number of persons. Student's quantile at n - 1. The
    whole bounds where n is not above its noise: nothing is known of the mean then.

    Args:
        moments: with noise, of one site or merged
        n_variance, sum_variance: of the noise of n and of the sum; persons squared, and the
            feature's unit squared
    """
    from scipy.special import stdtrit

    low, high = bounds
    n = moments.n
    if n < 2 or n <= 2 * math.sqrt(n_variance):
        return low, high
    offset = moments.mean - (low + (high - low) / 2)
    # The sum's noise, squared, was taken off the squared deviations with it: it is put back.
    spread = (moments.m2 + sum_variance / n) / (n - 1)
    variance = spread / n + (sum_variance + offset * offset * n_variance) / (n * n)
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * math.sqrt(variance)
    return max(low, moments.mean - half), min(high, moments.mean + half)


def _normal(confidence: float) -> float:
    from scipy.special import ndtri

    return float(ndtri((1 + confidence) / 2))
