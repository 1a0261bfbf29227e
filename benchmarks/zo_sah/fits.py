"""How good the fitted curvatures are, beside coordinate differences, along runs of ZO-SAH."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import zovh_jax as zo
from benchmarks.common.steps import stepping
from benchmarks.common.tuning import Task, tidy
from benchmarks.zo_sah import problems
from benchmarks.zo_sah.contenders import EVERY, moving

RATE = 0.3
AGES = (0, 1, 2, 5, 10, 19)
"""Steps since the planes were drawn."""
RADIUS = 1e-2


def compared(data: dict[str, Task], num_steps: int) -> list[dict[str, Any]]:
    """Rows of the JSON file: errors by problem and age."""
    found = zo.problems.rosenbrock()
    tasks: dict[str, tuple[Callable[[jax.Array], jax.Array], Task, int]] = {
        "Rosenbrock": (found, problems.rosenbrock(0, 1), 1),
        **{
            f"{name}, {planes} planes": (value_of(task), task, planes)
            for name, task in data.items()
            for planes in (moving(task.dimension),)
        },
    }
    return [
        {"problem": name, "num_subspaces": planes} | row
        for name, (f, task, planes) in tasks.items()
        for row in errors(f, task.start(jax.random.key(0)), planes, num_steps)
    ]


def value_of(task: Task) -> Callable[[jax.Array], jax.Array]:
    """The function that a task's queries ask."""
    return lambda x: task.query(x, jax.random.key(0), jnp.zeros((), jnp.int32), jnp.zeros(()))


def errors(
    f: Callable[[jax.Array], jax.Array], start: jax.Array, num_subspaces: int, num_steps: int
) -> list[dict[str, Any]]:
    """Relative errors of planes' Hessians some steps after the draw, medians over all."""
    optimizer = zo.zo_sah(
        RATE,
        num_subspaces=num_subspaces,
        radius=RADIUS,
        curvature_radius=RADIUS,
        key=jax.random.key(0),
        switch_every=EVERY,
    )
    step = stepping(optimizer, f)

    def body(carry, _):
        after = step(carry)
        sah = after[1][0]
        planes = sah.coordinates
        exact = jax.hessian(f)(carry[0])[planes[:, :, None], planes[:, None, :]]
        fresh = differences(f, carry[0], planes)
        return after, Seen(exact, sah.hessians, fresh)

    _, seen = jax.jit(lambda c: jax.lax.scan(body, c, length=num_steps))(
        (start, optimizer.init(start))
    )
    return [{"age": age} | seen.at(age) for age in AGES]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Seen:
    """The Hessians of planes at each step, [steps, planes, 2, 2].

    Attributes:
      exact: by derivatives.
      fitted: ZO-SAH's.
      fresh: by coordinate differences at this point.
    """

    exact: jax.Array
    fitted: jax.Array
    fresh: jax.Array

    def at(self, age: int) -> dict[str, float]:
        """Median errors at steps of this age; ``kept``: of what was measured at age 0."""
        exact, drawn = self.exact[age::EVERY], self.fitted[::EVERY]

        def error(hessians):
            size = np.linalg.norm(exact, axis=(2, 3))
            return tidy(float(np.median(np.linalg.norm(hessians - exact, axis=(2, 3)) / size)))

        return {
            "fit": error(self.fitted[age::EVERY]),
            "kept": error(drawn[: len(exact)]),
            "fresh": error(self.fresh[age::EVERY]),
        }


def differences(f: Callable[[jax.Array], jax.Array], x: jax.Array, planes: jax.Array) -> jax.Array:
    """Central second differences of planes [J, 2], [J, 2, 2]: eight values and f(x) each.

    (f(x + μe_a) − 2f(x) + f(x − μe_a))/μ², and for two coordinates the values at ±e_a ± e_b.
    """

    def of(plane):
        ends = RADIUS * jnp.zeros((2, x.size)).at[jnp.arange(2), plane].set(1.0)

        def second(u):
            return f(x + u) - 2 * f(x) + f(x - u)

        a, b = second(ends[0]), second(ends[1])
        mixed = (second(ends[0] + ends[1]) - second(ends[0] - ends[1])) / 4
        return jnp.array([[a, mixed], [mixed, b]]) / RADIUS**2

    return jax.lax.map(of, planes)
