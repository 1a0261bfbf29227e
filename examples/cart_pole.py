"""A simulator in plain numpy: carts that balance poles, each pushed by a small network.

It imports no JAX: worker processes import this file, and JAX would take each of them seconds.
"""

import itertools
import os

import numpy as np

GRAVITY, CART, POLE, LENGTH, FORCE = 9.8, 1.0, 0.1, 0.5, 20.0  # LENGTH is half the pole's
STEP, STEPS = 0.02, 200


def controller(hidden=4):
    """The parameters at the start, from (position, speed, angle, its speed) to a force of zero."""
    w = np.random.default_rng(0).normal(size=(4, hidden)) / 2
    return {"w": w, "b": np.zeros(hidden), "v": np.zeros(hidden)}


def force(params, seen):
    """How the carts are pushed."""
    return FORCE * np.tanh(np.tanh(seen @ params["w"] + params["b"]) @ params["v"])


def cost(params):
    """How far poles are from upright and carts from the middle, on average: 0 at best."""
    x, v, angle, turn = np.zeros((4, 4))
    angle = np.array([-0.2, -0.1, 0.1, 0.2])  # four carts at once
    total = 0.0
    for _ in range(STEPS):  # semi-implicit Euler: energy does not grow by itself
        push = force(params, np.stack([x, v, angle, turn], -1))
        sin, cos = np.sin(angle), np.cos(angle)
        swing = (push + POLE * LENGTH * turn**2 * sin) / (CART + POLE)
        inertia = LENGTH * (4 / 3 - POLE * cos**2 / (CART + POLE))
        faster = (GRAVITY * sin - cos * swing) / inertia
        turn = turn + STEP * faster
        angle = angle + STEP * turn
        v = v + STEP * (swing - POLE * LENGTH * faster * cos / (CART + POLE))
        x = x + STEP * v
        total += np.mean(1 - np.cos(angle) + 0.1 * x**2 / (1 + x**2))
    return total / STEPS


_calls = itertools.count(1)


def fragile_cost(params):
    """The same from a program with a bug: its 40th call takes its process with it."""
    if next(_calls) == 40:
        os._exit(1)
    return cost(params)
