"""Objectives outside JAX: programs, simulators, services, people."""

from zovh_jax.oracles.ask_tell import Asked, Midway, ask, tell
from zovh_jax.oracles.from_host import from_host
from zovh_jax.oracles.minimize import Progress, Result, minimize

__all__ = ["Asked", "Midway", "Progress", "Result", "ask", "from_host", "minimize", "tell"]
