"""evosax's algorithms as optimisers, to be run and tuned beside ours.

``update`` takes ``value_fn`` like ours, asks it at the whole population, and emits what moves the
parameters to the algorithm's mean. The parameters must be moved by nothing else.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import evosax.algorithms
import jax
import jax.numpy as jnp
import optax

from benchmarks.common.methods import Method


class EvolutionState(NamedTuple):
    """State of an algorithm.

    Attributes:
      key: for all that is random.
      inner: evosax's own state; its mean is not known before the first step.
      num_queries: evaluations so far, which `zo.num_queries` finds.
    """

    key: jax.Array
    inner: Any
    num_queries: jax.Array


Make = Callable[[Any], tuple[Any, Any]]
"""From parameters, evosax's algorithm for them and its settings."""


def evolution(make: Make, *, key: jax.Array) -> optax.GradientTransformationExtraArgs:
    """An optimiser of one of evosax's distribution-based algorithms.

    Args:
      make: the algorithm for some parameters, and its settings.
      key: a PRNG key.
    """

    def init(params):
        algorithm, settings = make(params)
        inner = _strong(algorithm.init(key, jax.tree.map(jnp.zeros_like, params), settings))
        return EvolutionState(jax.random.fold_in(key, 0), inner, jnp.zeros((), jnp.int32))

    def update(updates, state, params, *, value_fn, **extra):
        del updates, extra
        # Made anew: evosax caches by the object, and settings may be traced.
        algorithm, settings = make(params)
        start = algorithm.init(key, params, settings).mean
        inner = state.inner.replace(mean=jnp.where(state.num_queries == 0, start, state.inner.mean))
        new_key, ask, tell = jax.random.split(state.key, 3)
        points, inner = algorithm.ask(ask, inner, settings)
        values = jax.vmap(value_fn)(points)
        inner, _ = algorithm.tell(tell, points, values, inner, settings)
        spent = state.num_queries + values.size
        step = jax.tree.map(jnp.subtract, algorithm.get_mean(inner), params)
        return step, EvolutionState(new_key, _strong(inner), spent)

    return optax.GradientTransformationExtraArgs(init, update)


def _strong(tree: Any) -> Any:
    """The tree without weak types, which a loop would not keep."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), tree)


def openai_es(rate: Any, key: jax.Array, population: int, std: float):
    """OpenAI-ES: antithetic pairs, centred ranks, Adam."""

    def make(params):
        algorithm = evosax.algorithms.Open_ES(
            population_size=population,
            solution=params,
            optimizer=optax.adam(rate),
            std_schedule=optax.constant_schedule(std),
        )
        return algorithm, algorithm.default_params

    return evolution(make, key=key)


def sep_cma(std: Any, key: jax.Array, population: int):
    """CMA-ES with a diagonal covariance, from this standard deviation."""

    def make(params):
        algorithm = evosax.algorithms.Sep_CMA_ES(population_size=population, solution=params)
        return algorithm, algorithm.default_params.replace(std_init=std)

    return evolution(make, key=key)


def of_population(label: str, make: Callable[[Any, jax.Array, int, float], Any]) -> Method:
    """A method whose population is as large as K pairs are."""
    return Method(
        label,
        lambda rate, key, setting: make(rate, key, 2 * setting.num_directions, setting.radius),
        lambda setting: 2 * setting.num_directions,
        "coordinate",
    )


RIVALS = {
    "openai_es": of_population("OpenAI-ES, Adam", openai_es),
    "sep_cma": of_population(
        "sep-CMA-ES", lambda rate, key, population, radius: sep_cma(rate, key, population)
    ),
}
"""For objectives with noise; what is tuned is Adam's rate, and the first standard deviation."""
