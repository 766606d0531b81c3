from __future__ import annotations

import numpy as np
import pytest

from federated_analytics.databases.draws import Draws

IDS = np.arange(1, 100_001)
DRAWS = Draws(seed=1, site=0)


def test_uniform_is_uniform_and_open() -> None:
    u = DRAWS.uniform("u", IDS)
    assert 0 < u.min() < 0.001
    assert 0.999 < u.max() < 1
    counts = np.histogram(u, bins=20, range=(0, 1))[0]
    # Chi-square with 19 degrees of freedom: beyond 50 once in 10,000 seeds.
    assert ((counts - 5_000) ** 2 / 5_000).sum() < 50


def test_a_draw_depends_on_seed_site_channel_and_id_alone() -> None:
    u = DRAWS.uniform("u", IDS)
    assert np.array_equal(u[10:20], DRAWS.uniform("u", IDS[10:20]))
    for other in (
        Draws(2, 0).uniform("u", IDS),
        Draws(1, 1).uniform("u", IDS),
        DRAWS.uniform("v", IDS),
        DRAWS.uniform("u", IDS + 1),
    ):
        assert abs(np.corrcoef(u, other)[0, 1]) < 0.02


def test_normal_and_exponential_have_their_moments() -> None:
    z, e = DRAWS.normal("z", IDS), DRAWS.exponential("e", IDS)
    assert z.mean() == pytest.approx(0, abs=0.02)
    assert z.std() == pytest.approx(1, abs=0.02)
    assert (np.abs(z) > 1.96).mean() == pytest.approx(0.05, abs=0.005)
    assert e.mean() == pytest.approx(1, abs=0.02)
    assert e.min() > 0


@pytest.mark.parametrize("mean", [0.0, 0.3, 4.0, 40.0])
def test_poisson_has_its_mean_and_variance(mean: float) -> None:
    n = DRAWS.poisson("n", IDS, np.full(len(IDS), mean))
    assert n.mean() == pytest.approx(mean, rel=0.03)
    assert n.var() == pytest.approx(mean, rel=0.05)


def test_choice_follows_the_weights() -> None:
    shares = np.bincount(DRAWS.choice("c", IDS, [1, 2, 0, 7]), minlength=4) / len(IDS)
    assert shares == pytest.approx([0.1, 0.2, 0, 0.7], abs=0.01)
