"""A warehouse: how much of each item should be in stock, or on its way?

Periods follow each other. In each of them what was ordered `LEAD` periods ago arrives, customers
ask (what is not there is owed to them), and orders bring every item back to its level, in stock and
on its way together. All items come by one truck: if the orders are more than it carries, all are
cut alike. A period costs what lies in stock and, several times as much, what is owed. Demands are
log-normal, and items sell well or badly together.

A parameter is an item's level, in units of the mean demand until an order arrives.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.stochastic.problem import Problem, of_runs

LEAD = 3
NUM_PERIODS = 60
SPREAD = 0.6
"""Standard deviation of a demand's logarithm; half of its variance is common to all items."""
TRUCK = 1.3
"""What a truck carries, over the mean demand of a period."""


def inventory(batch_size: int, num_items: int = 20) -> Problem:
    """The mean cost of a period.

    Args:
      batch_size: simulated histories of `NUM_PERIODS` periods that are averaged.
      num_items: d.
    """
    demand = np.linspace(0.5, 1.5, num_items).astype(np.float32)
    owed = np.geomspace(3, 20, num_items).astype(np.float32)

    def run(levels, key):
        common, own = jax.random.split(key)
        z = jax.random.normal(own, (NUM_PERIODS, num_items))
        z = (z + jax.random.normal(common, (NUM_PERIODS, 1))) / np.sqrt(2)
        demands = demand * jnp.exp(SPREAD * z - SPREAD**2 / 2)
        target = levels * demand * (LEAD + 1)

        def period(carry, asked):
            stock, coming = carry
            stock = stock + coming[0] - asked
            wanted = jnp.maximum(target - stock - jnp.sum(coming[1:], 0), 0)
            room = TRUCK * demand.sum() / jnp.maximum(jnp.sum(wanted), TRUCK * demand.sum())
            coming = jnp.concatenate([coming[1:], room * wanted[None]])
            cost = jnp.sum(jnp.maximum(stock, 0) + owed * jnp.maximum(-stock, 0))
            return (stock, coming), cost

        start = jnp.asarray(demand), jnp.tile(demand, (LEAD, 1))
        return jnp.mean(jax.lax.scan(period, start, demands)[1])

    return of_runs(
        f"inventory, d = {num_items}",
        lambda key: jnp.ones(num_items),
        run,
        batch_size,
        num_held_out=512,
        curvature=10.0,
    )
