"""The papers' synthetic functions, each 0 at its least."""

import zovh_jax as zo

FUNCTIONS: dict[str, zo.problems.Problem] = {
    "quadratic": zo.problems.quadratic(),
    "levy": zo.problems.levy(),
    "rosenbrock": zo.problems.rosenbrock(),
    "ackley": zo.problems.ackley(),
}
