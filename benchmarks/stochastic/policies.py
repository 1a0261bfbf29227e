"""Policies learnt from the returns of episodes alone, in gymnax's games."""

import dataclasses
from collections.abc import Callable
from typing import Any

import gymnax
import jax
import jax.numpy as jnp

from benchmarks.stochastic.problem import Problem, of_runs

HIDDEN = 16
TORQUE = 2.0
"""The largest, of Pendulum."""


def pendulum(batch_size: int = 8) -> Problem:
    """Swing a pendulum up and hold it, in 200 steps; a return is from about −1600 to −150."""
    scale = jnp.array([1.0, 1.0, 1 / 8])
    return _policy(
        "Pendulum",
        "Pendulum-v1",
        3,
        lambda observation: observation * scale,
        lambda out: TORQUE * jnp.tanh(out),
        batch_size,
        curvature=1e4,
    )


def cartpole(batch_size: int = 8) -> Problem:
    """Balance a pole on a cart, up to 500 steps; the return is how many.

    A return is flat with jumps: a small change of the parameters changes an action or does not.
    """
    return _policy(
        "CartPole",
        "CartPole-v1",
        4,
        lambda observation: observation,
        lambda out: (out[0] > 0).astype(jnp.int32),
        batch_size,
        curvature=1e3,
    )


def _policy(
    name: str,
    game: str,
    width: int,
    prepare: Callable[[jax.Array], jax.Array],
    act: Callable[[jax.Array], Any],
    batch_size: int,
    curvature: float,
) -> Problem:
    """The negative return of a network with one hidden layer.

    Args:
      name: of the problem.
      game: gymnax's name.
      width: the length of an observation.
      prepare: what the network sees of it.
      act: an action from the network's output, [1].
      batch_size: episodes that are averaged.
      curvature: about as many units of return as a change of all weights by one may cost.
    """
    env, settings = gymnax.make(game)

    def start(key):
        first, second = jax.random.split(key)
        return {
            "first": {
                "bias": jnp.zeros(HIDDEN),
                "weights": jax.random.normal(first, (width, HIDDEN)) / width**0.5,
            },
            "second": {
                "bias": jnp.zeros(1),
                "weights": jax.random.normal(second, (HIDDEN, 1)) / HIDDEN**0.5,
            },
        }

    def network(params, x):
        first, second = params["first"], params["second"]
        hidden = jnp.tanh(x @ first["weights"] + first["bias"])
        return hidden @ second["weights"] + second["bias"]

    def episode(params, key):
        """The negative sum of rewards; after the end there are none."""
        reset_key, step_key = jax.random.split(key)
        observation, state = env.reset_env(reset_key, settings)

        def step(carry, key):
            observation, state, alive = carry
            action = act(network(params, prepare(observation)))
            observation, state, reward, ended, _ = env.step_env(key, state, action, settings)
            return (observation, state, alive & ~ended), jnp.where(alive, -reward, 0.0)

        keys = jax.random.split(step_key, settings.max_steps_in_episode)
        carry = observation, state, jnp.ones((), bool)
        return jnp.sum(jax.lax.scan(step, carry, keys)[1])

    problem = of_runs(
        name,
        start,
        episode,
        batch_size,
        num_held_out=128,
        curvature=curvature,
        measure="return",
    )
    return dataclasses.replace(problem, test=lambda params: -problem.full(params))
