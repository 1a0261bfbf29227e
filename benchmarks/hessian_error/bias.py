"""The bias of Hessian estimates against the radius, and what it is in closed form."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import zovh_jax as zo
from benchmarks.hessian_error.measure import bias, in_the_ball
from zovh_jax.problems.curvature import BandedPlusLowRank

DIMENSION = 10


class Kink(zo.problems.Problem):
    """The sum of ½x² + |x|³/6: its Hessian I + diag|x| is Lipschitz and no more, worst at 0."""

    def _value(self, x):
        return jnp.sum(jnp.square(x) / 2 + jnp.abs(x) ** 3 / 6)

    def _gradient(self, x):
        return x + x * jnp.abs(x) / 2

    def _hessian(self, x):
        return BandedPlusLowRank(1 + jnp.abs(x))


def rows(problems: Mapping[str, Any], num_directions: int) -> list[dict[str, Any]]:
    """Measured and known biases against the radius; of ``problems``, those that are known."""
    d = DIMENSION
    x = in_the_ball(d)(jax.random.key(1))
    rosenbrock, styblinski = problems["rosenbrock"], problems["styblinski_tang"]
    # The bias ∇²F_μ − ∇²f of a quartic is ½μ² times the Laplacian of ∇²f.
    cases = {
        "styblinski_tang": (styblinski, x, lambda mu: 6 * mu**2 * np.sqrt(d)),
        "rosenbrock": (rosenbrock, x, lambda mu: 12 * rosenbrock.valley * mu**2 * np.sqrt(d - 1)),
        "levy": (zo.problems.levy(), x, None),
        "kink": (Kink(), jnp.zeros(d), lambda mu: mu * np.sqrt(2 / np.pi) * np.sqrt(d)),
    }
    found = []
    for name, (problem, theta, closed_form) in tqdm(cases.items(), desc="bias"):
        function = functools.partial(bias, problem, num_directions=num_directions)
        compiled = jax.jit(function)
        norm = float(jnp.sqrt(problem.hessian(theta).squared_norm()))
        for radius in np.geomspace(1e-3, 0.3, 6):
            measured = compiled(theta, jax.random.key(2), radius)
            known = None if closed_form is None else float(closed_form(radius)) / norm
            found.append(
                {
                    "problem": name,
                    "dimension": d,
                    "radius": float(radius),
                    "relative": float(measured),
                    "closed_form": known,
                }
            )
    return found
