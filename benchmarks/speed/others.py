"""What a user would pick instead: steps of other libraries on the same functions.

Each contender names the step of ours that it is compared with: the nearest estimator, with the same
number of directions where the library allows it.

- evosax's OpenAI-ES, compiled like ours. A population has to be even: 4 plain, against our K = 3
  forward differences; 3 antithetic pairs (its default), against K = 3 central ones.
- nevergrad's SPSA: one pair of signs a step, ask and tell on numpy.
- scipy's L-BFGS-B, its choice for many variables, with gradients by finite differences: a step is
  all its queries up to the first accepted iterate, some multiple of d + 1. Its own difference of
  10⁻⁸ would vanish in float32, so it is told a larger one.
- the ZoVH authors' optimisers, in PyTorch on their own functions, from a clone of their repository;
  a step asks for f(θ) besides its K queries, which only their progress report uses. PyTorch gets
  one thread: on arrays of this size more are no faster, and wait for each other if the processor
  is not all theirs, which can take a hundred times as long as the step.

A library that is not installed is skipped; evosax, nevergrad and scipy come with the extra
``bench``, PyTorch does not.
"""

import importlib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.common.clones import importable
from benchmarks.common.methods import Setting
from benchmarks.common.timing import Turn, looped

RATE = 1e-9
"""Every method's learning rate: a step costs the same at any, and at this one none diverges."""
REPOSITORY = "https://github.com/Qjbtiger/ZoVH"
TORCH = "pip install torch"


class Contender(NamedTuple):
    """A step of another library.

    Attributes:
      library: the package's name, or "reference" for the ZoVH authors' code.
      method: its name there.
      against: label of the step of ours that it is compared with.
      queries: function values a step.
      run: takes so many steps.
    """

    library: str
    method: str
    against: str
    queries: int
    run: Turn


def available(reference: Path | None) -> dict[str, Callable[..., list[Contender]]]:
    """The libraries that are installed; prints a message for each that is not.

    Args:
      reference: a clone of the ZoVH authors' repository, or None to leave it out.
    """
    found = {}
    for library, make in {"evosax": evosax, "nevergrad": nevergrad, "scipy": scipy}.items():
        try:
            metadata.version(library)
        except metadata.PackageNotFoundError:
            print(f"{library} is not installed: no rows for it. pip install 'zovh_jax[bench]'")
        else:
            found[library] = make
    if reference is None:
        print(f"No rows for the ZoVH authors' code: git clone {REPOSITORY}, then --reference PATH")
        return found
    if not (reference / "synthetic_and_adversarial" / "optimizer" / "zo_hess.py").exists():
        raise ValueError(
            f"reference must be a clone of {REPOSITORY}, got {reference}, which has no "
            "synthetic_and_adversarial/optimizer/zo_hess.py"
        )
    try:
        metadata.version("torch")
    except metadata.PackageNotFoundError:
        raise ValueError(f"reference needs PyTorch, which is not installed: {TORCH}") from None
    found["torch"] = lambda *arguments: authors(reference, *arguments)
    return found


def evosax(name: str, f: Callable, x: jax.Array, setting: Setting) -> list[Contender]:
    """Steps of OpenAI-ES, plain and antithetic."""
    from evosax.algorithms import Open_ES

    del name
    contenders = []
    for antithetic, population, against in (
        (False, 2 * -(-setting.num_directions // 2), "zoar N=1"),
        (True, 2 * setting.num_directions, "zo_sgd central"),
    ):
        strategy = Open_ES(
            population_size=population,
            solution=x,
            use_antithetic_sampling=antithetic,
            optimizer=optax.sgd(RATE),
            std_schedule=optax.constant_schedule(setting.radius),
        )
        params = strategy.default_params
        start = jax.random.key(0), strategy.init(jax.random.key(1), x, params)

        def step(carry, strategy=strategy, params=params):
            key, ask_key, tell_key = jax.random.split(carry[0], 3)
            points, state = strategy.ask(ask_key, carry[1], params)
            state, _ = strategy.tell(tell_key, points, jax.vmap(f)(points), state, params)
            return key, state

        # Weak types in a fresh state would change its type in the loop.
        start = jax.tree.map(lambda leaf, kept: jnp.asarray(leaf, kept.dtype), start, step(start))
        label = f"OpenAI-ES, {population} {'antithetic' if antithetic else 'plain'}"
        contenders.append(Contender("evosax", label, against, population, looped(step, start)))
    return contenders


def nevergrad(name: str, f: Callable, x: jax.Array, setting: Setting) -> list[Contender]:
    """Steps of SPSA."""
    import nevergrad as ng

    del name, setting
    value = on_numpy(f)
    optimizer = ng.optimizers.SPSA(ng.p.Array(init=np.asarray(x, float)), budget=10**6)

    def run(steps):
        for _ in range(2 * steps):
            candidate = optimizer.ask()
            optimizer.tell(candidate, value(candidate.value))

    return [Contender("nevergrad", "SPSA", "zo_sgd central", 2, run)]


def scipy(name: str, f: Callable, x: jax.Array, setting: Setting) -> list[Contender]:
    """Steps of L-BFGS-B with finite differences."""
    from scipy.optimize import minimize

    del name, setting
    value = on_numpy(f)

    def step():
        options = {"maxiter": 1, "maxfun": 10**6, "finite_diff_rel_step": 1e-3}
        start = np.asarray(x, float)
        return minimize(value, start, method="L-BFGS-B", jac="2-point", options=options).nfev

    def run(steps):
        for _ in range(steps):
            step()

    return [Contender("scipy", "L-BFGS-B, 2-point", "zoar N=1", step(), run)]


def authors(
    reference: Path, name: str, f: Callable, x: jax.Array, setting: Setting
) -> list[Contender]:
    """Steps of the ZoVH authors' ZoAR and ZoVH, without reuse and with it."""
    import torch

    torch.set_num_threads(1)
    with importable(reference / "synthetic_and_adversarial"):
        functions = importlib.import_module("model.synthetic_functions")
        first_order = importlib.import_module("optimizer.zo")
        second_order = importlib.import_module("optimizer.zo_hess")

    past = setting.history_size - 1  # theirs does not count the current round
    gradient: dict[str, Any] = {"update_rule": "sgd"}
    damped: dict[str, Any] = {"lambda_hess": setting.damping}
    kinds: list[tuple[str, str, Callable, dict[str, Any]]] = [
        ("ZoAR", "zoar N=1", first_order.ZoAR, gradient | {"num_histories": 0}),
        ("ZoVH", "zovh N=1", second_order.ZoHessVanilla, damped),
        ("ZoAR", "zoar N=4 stored", first_order.ZoAR, gradient | {"num_histories": past}),
        ("ZoVH", "zovh N=4 stored", second_order.ZoARHess, damped | {"num_histories": past}),
    ]
    contenders = []
    for method, against, make, options in kinds:
        rounds = 1 if against.endswith("N=1") else setting.history_size
        function = functions.get_synthetic_funcs(name, torch.tensor(np.asarray(x)))
        np.testing.assert_allclose(function().item(), f(x), rtol=1e-4)
        options = options | {"lr": RATE, "num_queries": setting.num_directions}
        optimizer = make(function.parameters(), mu=setting.radius, **options)

        def run(steps, optimizer=optimizer, function=function):
            for _ in range(steps):
                optimizer.step(function)

        label = f"{method} N={rounds}, PyTorch"
        contenders.append(Contender("reference", label, against, setting.num_directions + 1, run))
    return contenders


def on_numpy(f: Callable) -> Callable[[np.ndarray], float]:
    """The compiled function as a library on numpy calls it."""
    compiled = jax.jit(f)
    return lambda point: float(compiled(point))


def versions(found: dict[str, Any]) -> dict[str, str]:
    """Versions of the libraries that are compared with."""
    return {library: metadata.version(library) for library in found}
