"""Steps of a population: ours, and those of libraries of evolution strategies.

All take antithetic pairs of one perturbation size and descend plainly, so that they differ in the
law of their perturbations, in how the population is evaluated, and in what they make of its values:

- ours: the values themselves. The network as it is, along full Gaussian directions, along rank-one
  ones, or along rows of H ⊗ H as rank-one signs, of which the last two are never formed; and
  `zo.scalar_newton`, which needs no learning rate. "Ranks" has their centred ranks instead.
- evosax's OpenAI-ES: centred ranks; all parameters flattened, the population stored.
- shardes: centred ranks; full directions drawn again where they are needed, or rank-one ones, in a
  network written with its own product.
- EGGROLL (HyperscaleES): standardised values; rank-one weights and full biases, in a network
  written with its product.

On several devices each asks its share of the queries: ours by `zo.evaluators.sharded`, shardes on
a mesh of its own, EGGROLL as its scripts do, with a `shard_map` of the forwards and the update made
on every device; evosax leaves the evaluation to its user, here a `shard_map` too.

shardes and HyperscaleES are read from clones, as no package index has them; without ``--shardes``
and ``--eggroll`` there are no rows for them.
"""

import contextlib
import dataclasses
import importlib
import io
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

import zovh_jax as zo
from benchmarks.common.clones import importable
from benchmarks.populations import network
from benchmarks.populations.network import Batch, Sizes
from benchmarks.populations.shares import AXIS, mesh_of, on_all, shared

SIGMA = 0.02
"""Standard deviation of a perturbation's entries."""
SHARDES = "https://github.com/andreshernandez-spec/shardes"
EGGROLL = "https://github.com/ESHyperscale/HyperscaleES"


@dataclasses.dataclass(frozen=True)
class Steps:
    """A method at one learning rate.

    Attributes:
      start: from parameters and a key, what is carried from step to step.
      step: from that and a batch, the next.
      params: the parameters in what is carried.
      queries: asked so far, where a step's number varies; None where all steps ask as many.
    """

    start: Callable[[Any, jax.Array], Any]
    step: Callable[[Any, Batch], Any]
    params: Callable[[Any], Any]
    queries: Callable[[Any], jax.Array] | None = None


@dataclasses.dataclass(frozen=True)
class Contender:
    """A method of a library.

    Attributes:
      library, method: their names.
      make: from a learning rate (None where there is none) and the sizes.
      guess: the decade of the learning rate where the search starts; None where there is none.
    """

    library: str
    method: str
    make: Callable[[float | None, Sizes], Steps]
    guess: int | None


def available(shardes: Path | None, eggroll: Path | None) -> list[Contender]:
    """Those whose libraries are there; prints a message for each that is not.

    Args:
      shardes, eggroll: clones of the repositories, or None.
    """
    found = [*ours(), evosax()]
    for path, make, where, option in (
        (shardes, of_shardes, SHARDES, "--shardes"),
        (eggroll, of_eggroll, EGGROLL, "--eggroll"),
    ):
        if path is None:
            print(f"No rows for {where}: git clone it, then {option} PATH")
        elif not (path / "src").is_dir():
            raise ValueError(f"{option} must be a clone of {where}, got {path}, which has no src")
        else:
            found += make(path / "src")
    return found


def ours(reduce: Literal["replay", "psum"] = "replay") -> list[Contender]:
    """ZO-SGD along three families, and scalar Newton.

    Args:
      reduce: how estimates are made on several devices.
    """

    def evaluator(devices: int) -> zo.evaluators.Evaluator:
        if devices == 1:
            return zo.evaluators.vmapped()
        return zo.evaluators.sharded(mesh_of(devices), AXIS, reduce=reduce)

    def descent(
        directions: zo.directions.Directions, shaping: zo.shaping.Shaping = zo.shaping.none()
    ) -> Callable[[float | None, Sizes], Steps]:
        def make(rate, sizes):
            return of_optimizer(
                lambda key: zo.zo_sgd(
                    rate,
                    num_directions=sizes.pairs,
                    radius=SIGMA,
                    key=key,
                    stencil=zo.stencils.central(),
                    baseline=zo.baselines.none(),
                    directions=directions,
                    shaping=shaping,
                    evaluate=evaluator(sizes.devices),
                )
            )

        return make

    def newton(rate, sizes):
        del rate
        evaluate = evaluator(sizes.devices)
        return of_optimizer(
            lambda key: zo.scalar_newton(sizes.queries, SIGMA, key=key, evaluate=evaluate)
        )

    low_rank, signs = zo.directions.low_rank(), zo.directions.hadamard(factored=True)
    methods: dict[str, Callable[[float | None, Sizes], Steps]] = {
        "ZO-SGD": descent(zo.directions.gaussian()),
        "ZO-SGD, rank one": descent(low_rank),
        "ranks, rank one": descent(low_rank, zo.shaping.ranks()),
        "ZO-SGD, H ⊗ H": descent(signs),
        "scalar Newton": newton,
    }
    end = "" if reduce == "replay" else f", {reduce}"
    return [
        Contender("zovh_jax", name + end, make, None if make is newton else -1)
        for name, make in methods.items()
    ]


def of_optimizer(make: Callable[[jax.Array], optax.GradientTransformationExtraArgs]) -> Steps:
    """Steps of one of our optimisers, made from a key."""
    update = make(jax.random.key(0)).update  # the key is in the state

    def step(carry, batch):
        params, state = carry
        value_fn = lambda p: network.loss(p, batch)  # noqa: E731
        updates, state = update(None, state, params, value_fn=value_fn)
        return optax.apply_updates(params, updates), state

    return Steps(
        lambda params, key: (params, make(key).init(params)),
        step,
        lambda carry: carry[0],
        lambda carry: zo.num_queries(carry[1]),
    )


def evosax() -> Contender:
    """OpenAI-ES with plain descent."""
    from evosax.algorithms import Open_ES

    def make(rate, sizes):
        def strategy(params):
            return Open_ES(
                population_size=sizes.queries,
                solution=params,
                use_antithetic_sampling=True,
                optimizer=optax.sgd(rate),
                std_schedule=optax.constant_schedule(SIGMA),
            )

        evaluate = shared(jax.vmap(network.loss, (0, None)), sizes.devices)

        def start(params, key):
            one = strategy(params)
            state = one.init(key, params, one.default_params)
            state = jax.tree.map(lambda x: jnp.asarray(x, x.dtype), state)  # no weak types
            return key, state, params

        def step(carry, batch):
            key, state, params = carry
            one = strategy(params)
            key, ask_key, tell_key = jax.random.split(key, 3)
            points, state = one.ask(ask_key, state, one.default_params)
            values = evaluate(points, batch)
            state, _ = one.tell(tell_key, points, values, state, one.default_params)
            return key, state, one.get_mean(state)

        return Steps(start, step, lambda carry: carry[2])

    return Contender("evosax", "OpenAI-ES", make, -1)


def of_shardes(source: Path) -> list[Contender]:
    """Both of its published algorithms."""
    with importable(source):
        core, nn, sharding = (
            importlib.import_module(f"shardes.{name}") for name in ("core", "nn", "sharding")
        )
        low_rank, mirrored, regenerated = (
            importlib.import_module(f"shardes.strategies.{name}")
            for name in ("lowrank", "mirrored", "seed_regenerated")
        )

    def of(strategy):
        def make(rate, sizes):
            es = core.ShardedES(
                strategy=mirrored.Mirrored(strategy()),
                n=sizes.queries,
                sigma=SIGMA,
                lr=rate,
                mesh=sharding.make_mesh(sizes.devices),
            )

            def step(state, batch):
                model = lambda p, batch: network.loss(p, batch, nn.dense)  # noqa: E731
                perturbation, asked = es.ask(state)
                return es.tell(asked, perturbation, es.apply(model, state, perturbation)(batch))

            return Steps(lambda params, key: es.init(key, params), step, lambda s: s.params)

        return make

    return [
        Contender("shardes", "full rank, regenerated", of(regenerated.SeedRegenerated), -1),
        Contender("shardes", "rank one", of(lambda: low_rank.LowRank(r=1)), -1),
    ]


def of_eggroll(source: Path) -> list[Contender]:
    """Rank-one perturbations, standardised values."""
    # What the package itself imports, language models among it, is not needed.
    package = types.ModuleType("hyperscalees")
    package.__path__ = [str(source / "hyperscalees")]
    sys.modules["hyperscalees"] = package
    noiser = importlib.import_module("hyperscalees.noiser.eggroll").EggRoll

    def make(rate, sizes):
        members = jnp.arange(sizes.queries)

        def fixed(params):
            """What never changes, its structure taken from the parameters."""
            options = {"solver": optax.sgd, "rank": 1, "noise_reuse": 1}  # 0: the same for ever
            return noiser.init_noiser(params, SIGMA, rate, **options)

        def keys_of(params, key):
            leaves, tree = jax.tree.flatten(params)
            return jax.tree.unflatten(tree, list(jax.random.split(key, len(leaves))))

        def value(params, keys, noise, frozen, epoch, member, batch):
            def leaf(name):
                return params[name]["weight"], keys[name]["weight"]

            x, info = batch.images, (epoch, member)
            for i in range(len(params)):
                x = x if i == 0 else jax.nn.relu(x)
                x = noiser.do_mm(frozen, noise, *leaf(str(i)), info, x)
                bias = params[str(i)]["bias"], keys[str(i)]["bias"]
                x = x + noiser.get_noisy_standard(frozen, noise, *bias, info)
            return network.cross_entropy(x, batch.labels)

        def start(params, key):
            return params, fixed(params)[1], keys_of(params, key), jnp.int32(0)

        def step(carry, batch):
            params, noise, keys, epoch = carry
            frozen = fixed(params)[0]

            def forwards(members, params, keys, noise, epoch, batch):
                one = lambda m: value(params, keys, noise, frozen, epoch, m, batch)  # noqa: E731
                return jax.vmap(one)(members)

            def update(values, params, keys, noise, epoch):
                info = jnp.full(sizes.queries, epoch), members
                scores = noiser.convert_fitnesses(frozen, noise, -values)  # it climbs
                kinds = {name: {"weight": 1, "bias": 0} for name in params}
                with contextlib.redirect_stdout(io.StringIO()):  # it prints shapes
                    return noiser.do_updates(frozen, dict(noise), params, keys, scores, info, kinds)

            state = params, keys, noise, epoch
            values = shared(forwards, sizes.devices)(members, *state, batch)
            noise, params = on_all(update, sizes.devices)(values, *state)
            return params, noise, keys, epoch + 1

        return Steps(start, step, lambda carry: carry[0])

    return [Contender("EGGROLL", "rank one", make, -1)]
