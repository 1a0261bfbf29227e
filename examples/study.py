"""A study of hyper-parameters by hand: ask, evaluate as you please, tell.

    python examples/study.py

Names, ranges and logarithmic scales are a dict, and the optimiser works on a unit cube. Values are
told in whatever order they come, one of them never comes, and between two rounds everything is
written to a file and read again, as if another process went on.
"""

import argparse
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax

import zovh_jax as zo

SPACE = {  # name: least, greatest, whether on a logarithmic scale
    "learning_rate": (1e-4, 1e1, True),
    "weight_decay": (1e-5, 1e1, True),
    "momentum": (0.0, 0.95, False),
}


def settings(unit):
    """Hyper-parameters from numbers between 0 and 1."""
    found = {}
    for name, (low, high, logarithmic) in SPACE.items():
        share = float(unit[name])
        found[name] = low * (high / low) ** share if logarithmic else low + share * (high - low)
    return found


def train(learning_rate, weight_decay, momentum):
    """Validation loss of a logistic regression on few and noisy examples."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(560, 40))
    truth = random.normal(size=40) * (np.arange(40) < 8)
    labels = np.where(inputs @ truth + 2 * random.normal(size=560) > 0, 1, -1)
    seen, told = inputs[:60], labels[:60]
    w, speed = np.zeros(40), np.zeros(40)
    for _ in range(60):
        margins = np.clip(told * (seen @ w), -500, 500)
        gradient = -seen.T @ (told / (1 + np.exp(margins))) / 60 + weight_decay * w
        speed = momentum * speed - learning_rate * gradient
        w = w + speed
    return np.mean(np.logaddexp(0, -labels[60:] * (inputs[60:] @ w)))


def evaluate(points, num_points):
    """A dict of values, the last point first; the one that took too long is not in it."""
    values = {}
    for i in reversed(range(num_points)):
        values[i] = np.log(train(**settings({name: x[i] for name, x in points.items()})))
    if num_points > 1:
        del values[1]
    return values


def main(argv=None):
    """Runs the study and returns the losses at the start and at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args(argv)

    adam = optax.chain(zo.zo_gradient(6, 0.05, key=jax.random.key(0)), optax.adam(0.05))
    optimizer = zo.bounded(adam, 0.0, 1.0)
    start = {"learning_rate": 0.85, "weight_decay": 0.1, "momentum": 0.9}  # it overfits
    params = jax.tree.map(jnp.asarray, start)
    run = params, optimizer.init(params)
    first = train(**settings(params))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "study.npz")
        for _ in range(options.rounds):
            params, state = run
            asked = zo.ask(optimizer, state, params)
            values = evaluate(jax.device_get(asked.points), asked.num_points)
            updates, state = zo.tell(optimizer, state, params, asked, values)
            np.savez(path, **zo.pack((optax.apply_updates(params, updates), state)))
            with np.load(path) as arrays:
                run = zo.unpack((params, optimizer.init(params)), arrays)
    params, state = run
    last, known = train(**settings(params)), zo.diagnostics(state)
    for name, value in settings(params).items():
        print(f"{name}: {value:.2g}")
    print(f"loss {first:.3f} at the start, {last:.3f} at the end")
    print(f"{known.num_queries} trainings, {known.num_nonfinite} without a value")
    return first, last


if __name__ == "__main__":
    main()
