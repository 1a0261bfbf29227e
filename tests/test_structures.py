"""Shapes of Hessians, on quadratics whose Hessian has that shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo
from zovh_jax.structures.kronecker import LeafByLeaf

pytestmark = pytest.mark.usefixtures("fast_compilation")
ALPHA = 0.5
PARAMS = {"a": jnp.ones(3), "w": jnp.ones((4, 2))}
RNG = np.random.default_rng(0)


def positive(n):
    root = RNG.normal(size=(n, n))
    return root @ root.T / n + 0.3 * np.eye(n)


def block(*parts):
    whole = np.zeros([sum(map(len, parts))] * 2)
    at = 0
    for part in parts:
        whole[at : at + len(part), at : at + len(part)] = part
        at += len(part)
    return whole


LEFT, RIGHT = positive(4), positive(2)
HESSIANS = {
    "full": positive(11),
    "diagonal": np.diag(RNG.uniform(0.5, 2, 11)),
    "kronecker": block(positive(3), np.kron(LEFT, RIGHT)),
}
STRUCTURES = {
    "full": zo.structures.full(),
    "diagonal": zo.structures.diagonal(),
    "kronecker": zo.structures.kronecker(400),
}


def posterior(name, structure=None, spoilt=None, **options):
    hessian = jnp.asarray(HESSIANS[name], jnp.float32)

    def loss(p):
        x = jnp.concatenate([p["a"] - 1, (p["w"] - 1).reshape(-1)])
        value = 0.5 * x @ jnp.matmul(hessian, x, precision="highest")
        return value if spoilt is None else jnp.where(spoilt(x), jnp.nan, value)

    # Compiled at once, which is faster than op by op.
    return jax.jit(
        lambda: zo.laplace(
            loss,
            PARAMS,
            prior_precision=ALPHA,
            structure=structure or STRUCTURES[name],
            radius=1.0,
            key=jax.random.key(0),
            **options,
        )
    )()


@jax.jit
def summary(found):
    """All of a posterior, compiled at once."""
    return {
        "precision": found.precision.as_matrix(),
        "covariance": found.covariance.as_matrix(),
        "trace": found.precision.trace(),
        "variance": found.variance(),
        "evidence": found.log_evidence(),
        "determined": found.num_determined,
        "samples": found.sample(jax.random.key(1), 3000),
    }


def flat(tree):
    return jnp.concatenate([tree["a"], tree["w"].reshape(*tree["a"].shape[:-1], 8)], -1)


@pytest.mark.parametrize("name", ["full", "diagonal", "kronecker"])
def test_a_hessian_of_its_shape_is_found(name):
    found = posterior(name)
    assert found.num_queries == {"full": 133, "diagonal": 23, "kronecker": 801}[name]
    want, all_of_it = HESSIANS[name] + ALPHA * np.eye(11), summary(found)
    inverse = np.linalg.inv(want)
    near = {"atol": 0.02 if name == "kronecker" else 2e-3}
    np.testing.assert_allclose(all_of_it["precision"], want, **near)
    np.testing.assert_allclose(all_of_it["covariance"], inverse, **near)
    np.testing.assert_allclose(all_of_it["trace"], np.trace(want), rtol=1e-3)
    diagonal = np.diag(all_of_it["covariance"])
    np.testing.assert_allclose(flat(all_of_it["variance"]), diagonal, rtol=1e-3)
    weights = ALPHA * 11 + np.linalg.slogdet(want / ALPHA)[1]
    np.testing.assert_allclose(all_of_it["evidence"], -weights / 2, rtol=1e-2)
    gamma = np.trace(HESSIANS[name] @ inverse)
    np.testing.assert_allclose(all_of_it["determined"], gamma, rtol=1e-2)
    covariance = np.cov(flat(all_of_it["samples"]).T)
    np.testing.assert_allclose(covariance, inverse, atol=0.1 * inverse.max())


def test_some_leaves_alone():
    found = posterior("kronecker", mask={"a": False, "w": True})
    matrix = HESSIANS["kronecker"][3:, 3:]
    np.testing.assert_allclose(
        found.precision.as_matrix()[3:, 3:] - ALPHA * np.eye(8), matrix, atol=0.02
    )
    assert not np.any(found.precision.as_matrix()[:3])


def test_a_diagonal_from_fewer_pairs():
    found, exact = posterior("diagonal", zo.structures.diagonal(4)), np.diag(HESSIANS["diagonal"])
    measured = np.asarray(found.curvature.measured)
    assert found.num_queries == 9 and measured.sum() == 4
    np.testing.assert_allclose(found.curvature.eigenvalues[measured], exact[measured], rtol=1e-3)
    mean = exact[measured].mean()
    np.testing.assert_allclose(found.curvature.eigenvalues[~measured], mean, rtol=1e-3)
    assert found.num_determined < 4


def test_missing_curvatures_are_assumed():
    """Along the first coordinate nothing is known: the mean on the diagonal, zeros beside it."""
    found = posterior("full", spoilt=lambda x: jnp.abs(x[0]) > 0.5)
    matrix = np.asarray(found.precision.as_matrix()) - ALPHA * np.eye(11)
    want = HESSIANS["full"].copy()
    want[0], want[:, 0] = 0, 0
    want[0, 0] = np.diag(HESSIANS["full"])[1:].mean()
    np.testing.assert_allclose(matrix, want, atol=2e-3)
    found = posterior("diagonal", spoilt=lambda x: jnp.abs(x[0]) > 0.5)
    assert not found.curvature.measured[0] and found.curvature.measured[1:].all()


def test_missing_pairs_are_left_out_of_the_products():
    spoilt = posterior("kronecker", spoilt=lambda x: x[5] > 1)
    np.testing.assert_allclose(
        spoilt.precision.as_matrix(), HESSIANS["kronecker"] + ALPHA * np.eye(11), atol=0.05
    )


def test_leaves_in_turn_make_blocks():
    """Interpolation along them is one for each leaf."""
    structure = zo.structures.interpolated(100, directions=LeafByLeaf(zo.directions.gaussian()))
    matrix = np.asarray(posterior("full", structure).precision.as_matrix()) - ALPHA * np.eye(11)
    want = HESSIANS["full"]
    np.testing.assert_allclose(matrix, block(want[:3, :3], want[3:, 3:]), atol=5e-3)


def test_few_pairs_make_no_products_that_are_worse_than_one_number():
    """The fit stops by what it does not see."""
    found = posterior("kronecker", zo.structures.kronecker(20)).precision.as_matrix()
    exact = HESSIANS["kronecker"] + ALPHA * np.eye(11)
    mean = np.trace(exact) / 11 * np.eye(11)
    assert np.linalg.norm(found - exact) < 1.2 * np.linalg.norm(mean - exact)


def test_wrong_numbers_of_directions():
    for structure, message in (
        (zo.structures.diagonal(12), "num_directions=12 are more than the 11"),
        (zo.structures.kronecker(1), "must be at least the number of parameter arrays, 2"),
    ):
        with pytest.raises(ValueError, match=message):
            posterior("full", structure)
    for make in (zo.structures.interpolated, zo.structures.diagonal, zo.structures.kronecker):
        with pytest.raises((TypeError, ValueError), match="num_directions"):
            make(0)
    with pytest.raises(TypeError, match="structure"):
        posterior("full", "full")


def test_products_keep_queries_factored():
    """The perturbed matrix is formed in no query."""
    x = jnp.ones((5, 4))
    loss = lambda p: jnp.sum((x @ p["w"]) ** 2)  # noqa: E731
    family = zo.structures.kronecker(8).family()
    assert "formed" not in str(zo.explain(loss, {"w": jnp.ones((4, 2))}, family))
