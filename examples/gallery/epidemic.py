"""Fit a simulator to an epidemic.

SciPy integrates how a flu went through a boarding school in 1978, and JAX cannot look inside. From
the misfit's values alone `zo.model_newton` learns the shape of the valley that it is in, and finds
how fast the flu spread and how long boys stayed in bed.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np
from scipy.integrate import solve_ivp

import zovh_jax as zo

IN_BED = np.array([3, 8, 26, 76, 225, 298, 258, 233, 189, 128, 68, 29, 14, 4])  # of 763, each day


def ill(p, days):
    """How many are ill, by the SIR model: p has the logarithms of its rates, per day."""
    spread, recovery = np.exp(p["spread"]), np.exp(p["recovery"])

    def change(_, state):
        caught, well = spread * state[0] * state[1] / 763, recovery * state[1]
        return -caught, caught - well

    return solve_ivp(change, (0, days[-1]), (762, 1), "LSODA", days, rtol=1e-6).y[1]


def misfit(p):
    """The mean square of differences of roots, whose errors are alike for few and for many."""
    return np.mean((np.sqrt(ill(p, np.arange(14))) - np.sqrt(IN_BED)) ** 2)


def main(most=80, size=40):
    """Draws the fit before and after, and the way through the misfits."""
    start = {"spread": np.log(1.0), "recovery": np.log(0.2)}
    optimizer, way = zo.model_newton(4, 0.1, key=jax.random.key(0)), [start]
    found = zo.minimize(
        misfit, start, optimizer, max_queries=most, callback=lambda now: way.append(now.params)
    )

    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 4), layout="constrained")
    days = np.linspace(0, 13, 200)
    left.bar(np.arange(14), IN_BED, color="C2", label="in bed")
    left.plot(days, ill(start, days), "C1--", linewidth=2, label="before")
    left.plot(days, ill(found.params, days), "C0", linewidth=2, label="after")
    left.set(xlabel="day", ylabel="boys")
    left.legend()
    spread, recovery = np.linspace(0.7, 3, size), np.linspace(0.1, 1, size)
    grid = np.log(np.stack(np.meshgrid(spread, recovery), -1))
    misfits = np.apply_along_axis(lambda p: misfit({"spread": p[0], "recovery": p[1]}), 2, grid)
    right.contourf(spread, recovery, np.log(misfits), 12, cmap="cividis")
    right.plot(*np.exp([[p["spread"], p["recovery"]] for p in way]).T, "w.-")
    right.plot(np.exp(way[-1]["spread"]), np.exp(way[-1]["recovery"]), "w*", markersize=14)
    right.set(xlabel="infections a day", ylabel="recoveries a day")
    right.set_title("the way through the misfits")
    result = {"queries": found.num_queries, "misfits": (misfit(start), misfit(found.params))}
    return figure, result | jax.tree.map(lambda rate: float(np.exp(rate)), found.params)


if __name__ == "__main__":
    print(main()[1])
    plt.show()
