"""Fit a line to most points, not to their mean.

Four giants among 47 stars turn the line of least squares around. The number of stars far from a
line is a count with derivative zero, yet its values at perturbed lines lead to the main sequence.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import zovh_jax as zo

# The cluster CYG OB1 (Rousseeuw & Leroy 1987): hundredths of log temperature, of log intensity.
STARS = """\
437 456 426 456 430 446 384 457 426 437 349 443 448 401 429 442 423 442 423 349 429 429
442 449 438 442 429 438 422 348 438 456 445 349 423 462 453 445 453 443 438 445 450 445
455 445 442 523 574 493 574 519 546 465 527 557 512 573 545 542 405 426 458 394 418 418
589 438 422 442 485 502 466 466 490 439 605 442 510 522 629 434 562 510 522 518 557 462
506 534 534 554 498 450
"""


def main(steps=200):
    """Draws both lines and the way from one to the other."""
    heat, light = np.array(STARS.split(), float).reshape(2, 47) / 100
    x = (heat - heat.mean()) / heat.std()

    def far(line):  # the share of stars that are not within 0.4 of it
        return jnp.mean(jnp.abs(line[0] + line[1] * x - light) > 0.4)

    line = jnp.asarray(np.polynomial.polynomial.polyfit(x, light, 1))
    assert not jax.grad(far)(line).any()  # of no use
    decay = optax.cosine_decay_schedule(1.0, steps, 0.1)
    estimate = zo.zo_gradient(16, lambda i: 0.5 * decay(i), key=jax.random.key(0))
    optimizer = optax.chain(estimate, optax.adam(lambda i: 0.05 * decay(i)))
    step = jax.jit(lambda line, state: optimizer.update(None, state, line, value_fn=far))
    state, lines = optimizer.init(line), [line]
    for _ in range(steps):
        updates, state = step(lines[-1], state)
        lines.append(optax.apply_updates(lines[-1], updates))
    missed = np.round(47 * np.array(jax.vmap(far)(jnp.stack(lines)))).astype(int)

    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 4), layout="constrained")
    ends = np.array([heat.min() - 0.05, heat.max() + 0.1])
    places = (ends - heat.mean()) / heat.std()
    for i in range(0, steps, 10):
        left.plot(ends, lines[i][0] + lines[i][1] * places, "C2", linewidth=0.6)
    for each, colour, name in (line, "C1", "least squares"), (lines[-1], "C0", "most stars"):
        left.plot(ends, each[0] + each[1] * places, colour, linewidth=2.5, label=name)
    left.plot(heat, light, "k.")
    left.set(xlabel="log temperature", ylabel="log intensity", xlim=ends[::-1], ylim=(3.7, 6.5))
    left.set_title("47 stars")
    left.legend()
    right.plot(16 * np.arange(steps + 1), missed, "C0", drawstyle="steps-post")
    right.axhline(missed[0], color="C1", linestyle="--", label="by jax.grad, which is 0")
    right.set(xlabel="queries", ylim=(0, None), title="stars farther than 0.4 from the line")
    right.legend()
    result = {"queries": int(zo.num_queries(state)), "missed": missed, "line": lines[-1]}
    return figure, result


if __name__ == "__main__":
    print(main()[1])
    plt.show()
