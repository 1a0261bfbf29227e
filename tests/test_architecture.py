"""The shape of the package: layers, names, docstrings, sizes."""

import ast
import importlib
import inspect
import pathlib
import sys
import types

import jax
import jax.numpy as jnp
import pytest

import zovh_jax as zo

PACKAGE = pathlib.Path(zo.__file__).parent
LAYERS = [
    "_deprecation",
    "_types",
    "_products",
    "_mesh",
    "_factors",
    "_jaxprs",
    "_program",
    "_tree",
    "_rows",
    "_words",
    "_checks",
    "_trig",
    "_random",
    "directions",
    "stencils",
    "plan",
    "queries",
    "shaping",
    "evaluators",
    "explain",
    "history",
    "reuse",
    "baselines",
    "operators",
    "solvers",
    "estimators",
    "functional",
    "bilevel",
    "structures",
    "laplace",
    "transforms",
    "diagnostics",
    "hyperparams",
    "packing",
    "oracles",
    "problems",
]
"""From the bottom up: a module imports from layers below its own only."""
SHARED = ["_state", "_extras", "_door", "_precision", "_rounds", "zo_gradient"]
"""What the transforms share, from the bottom up; else they know nothing of each other."""
FILES = sorted(PACKAGE.rglob("*.py"))
PUBLIC = [
    "directions",
    "stencils",
    "baselines",
    "evaluators",
    "solvers",
    "estimators",
    "problems",
    "reuse",
    "shaping",
    "structures",
]


def module_of(path):
    """("solvers", "cg") of zovh_jax/solvers/cg.py; () of zovh_jax/__init__.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports_of(path):
    """Dotted names of all that a file imports, delayed imports too; a ``from`` with its names."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def name_of(path):
    return str(path.relative_to(PACKAGE))


def own_imports(path):
    """("transforms", "rounds", …) for each import from the package."""
    split = (name.split(".") for name in imports_of(path))
    return [tuple(parts[1:]) for parts in split if parts[0] == "zovh_jax"]


def test_every_module_has_a_layer():
    found = {module_of(path)[0] for path in FILES if module_of(path)}
    assert found == set(LAYERS)


def test_imports_go_down():
    """Never the package's own __init__ either; zovh_jax/__init__.py is on top."""
    offenders = [
        (name_of(path), target)
        for path in FILES
        if (module := module_of(path))
        for target in own_imports(path)
        if target[0] not in LAYERS
        or (target[0] != module[0] and LAYERS.index(target[0]) > LAYERS.index(module[0]))
    ]
    assert not offenders


def test_no_import_cycles_inside_a_layer():
    """Between the files of one sub-package too, its __init__ excepted."""
    files = {module_of(path): path for path in FILES if path.name != "__init__.py"}
    below = {
        module: {target[:2] for target in own_imports(path) if target[:2] in files} - {module}
        for module, path in files.items()
    }
    done = set()
    while len(done) < len(below):
        ready = {module for module in below if module not in done and below[module] <= done}
        assert ready, f"cycle among {sorted(set(below) - done)}"
        done |= ready


def test_transforms_do_not_import_each_other():
    offenders = []
    for path in FILES:
        module = module_of(path)
        if module[:1] == ("transforms",) and len(module) > 1:
            siblings = {t[1] for t in own_imports(path) if t[0] == "transforms"} - {module[1]}
            below = SHARED[: SHARED.index(module[1])] if module[1] in SHARED else SHARED
            offenders += [(name_of(path), name) for name in siblings - set(below)]
    assert not offenders


def test_nothing_private_and_nothing_extra_is_imported():
    """Public names of jax, numpy and optax; a user who installs nothing else can run it."""
    forbidden = ("jax._src", "jax.interpreters", "jax.core", "optax._src", "jaxlib")
    allowed = {"jax", "numpy", "optax", "zovh_jax"} | sys.stdlib_module_names
    offenders = []
    for path in FILES:
        for name in imports_of(path):
            private = f"{name}.".startswith(tuple(f"{f}." for f in forbidden))
            if private or name.split(".")[0] not in allowed:
                offenders.append((name_of(path), name))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node).startswith(forbidden):
                offenders.append((name_of(path), ast.unparse(node)))
    # The type of what is traced has no other name; jax.core itself is documented for it alone.
    tracer = {"jax.core", "jax.core.Tracer"}
    assert not [(file, name) for file, name in offenders if name not in tracer]


PRODUCTS = {"dot", "einsum", "inner", "matmul", "matvec", "tensordot", "vdot", "vecdot", "vecmat"}
REPLAYED = {"dot_general", "conv_general_dilated"}
"""Products of the user's own, which keep the precision that the user gave them."""


def test_products_are_in_full_precision():
    """Accelerators multiply in less unless told, as `_products` does; nothing multiplies else."""
    offenders = []
    for path in FILES:
        module = module_of(path)
        known = PRODUCTS if module == ("_products",) else set()
        known |= REPLAYED if module == ("evaluators", "factored", "products") else set()
        for node in ast.walk(ast.parse(path.read_text())):
            matrices = isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)
            named = isinstance(node, ast.Attribute) and node.attr in (PRODUCTS | REPLAYED) - known
            if matrices or (named and ast.unparse(node.value) in ("jnp", "lax", "jax.lax")):
                offenders.append((name_of(path), node.lineno, ast.unparse(node)))
    assert not offenders


def test_files_are_short():
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in FILES}
    assert not {name: length for name, length in lengths.items() if length > 400}


def public_objects():
    yield from ((f"zo.{name}", getattr(zo, name)) for name in zo.__all__)
    for name in PUBLIC:
        module = getattr(zo, name)
        yield from ((f"zo.{name}.{each}", getattr(module, each)) for each in module.__all__)


OBJECTS = dict(public_objects())


def test_top_level_names_have_runnable_examples():
    functions = [
        name
        for name, thing in OBJECTS.items()
        if name.count(".") == 1 and isinstance(thing, types.FunctionType)
    ]
    assert len(functions) > 20
    assert not [name for name in functions if ">>>" not in inspect.getdoc(OBJECTS[name])]


def test_public_methods_have_docstrings():
    """Their own or that of a base, which is why this is no rule of the linter's."""
    offenders = []
    for path in FILES:
        module = importlib.import_module(".".join(["zovh_jax", *module_of(path)]))
        for kind in [x for x in vars(module).values() if inspect.isclass(x)]:
            if kind.__module__ == module.__name__ and not kind.__name__.startswith("_"):
                offenders += [f"{kind.__name__}.{name}" for name in undocumented(kind)]
    assert not offenders


def undocumented(kind):
    callables = (types.FunctionType, property, classmethod, staticmethod)
    for name, value in vars(kind).items():
        own = not name.startswith("_") and not any(hasattr(base, name) for base in kind.__bases__)
        if own and isinstance(value, callables) and not inspect.getdoc(getattr(kind, name)):
            yield name


def test_all_is_complete():
    """What __all__ promises exists, without repeats, and star-imports."""
    for name in ["", *PUBLIC]:
        module = getattr(zo, name) if name else zo
        assert len(set(module.__all__)) == len(module.__all__), name
        assert not [each for each in module.__all__ if not hasattr(module, each)], name
        assert importlib.import_module(module.__name__) is module


SPECS = {
    "gaussian": (zo.directions.gaussian, {"fast": True}),
    "sphere": (zo.directions.sphere, {"fast": True}),
    "rademacher": (zo.directions.rademacher, {}),
    "orthogonal": (zo.directions.orthogonal, {}),
    "hadamard": (zo.directions.hadamard, {}),
    "masked": (
        zo.directions.masked,
        {"directions": zo.directions.gaussian(), "mask": {"a": True, "b": [False]}},
    ),
    "forward": (zo.stencils.forward, {}),
    "central": (zo.stencils.central, {}),
    "three_point": (zo.stencils.three_point, {}),
    **{name: (getattr(zo.baselines, name), {}) for name in ("none", "origin", "mean")},
    "vmapped": (zo.evaluators.vmapped, {}),
    "chunked": (zo.evaluators.chunked, {"size": 3}),
    "sharded": (zo.evaluators.sharded, {"mesh": jax.make_mesh((1,), ("q",)), "axis": "q"}),
    "woodbury": (zo.solvers.woodbury, {}),
    "gram_diagonal": (zo.solvers.gram_diagonal, {"guard": False}),
    "cg": (zo.solvers.cg, {"max_steps": 3}),
    "neumann": (zo.solvers.neumann, {"num_terms": 3}),
}


def test_specs_are_values():
    """Equal, hashable, frozen and without leaves: constants of a compiled function."""
    for name, (factory, options) in SPECS.items():
        spec = factory(**options)
        assert spec == factory(**options) and hash(spec) == hash(factory(**options)), name
        assert spec != object(), name
        assert jax.tree.leaves(spec) == [], name
        with pytest.raises(AttributeError):
            spec.anything = 1


def test_specs_with_other_settings_differ():
    assert zo.evaluators.chunked(2) != zo.evaluators.chunked(3)
    gaussian = zo.directions.gaussian()
    assert gaussian != zo.directions.gaussian(fast=True)
    masks = [zo.directions.masked(gaussian, m) for m in ({"a": True}, {"a": False}, {"b": True})]
    assert len(set(masks)) == 3


def test_explicit_directions_are_leaves():
    assert len(jax.tree.leaves(zo.directions.explicit({"a": jnp.ones(2), "b": jnp.ones(3)}))) == 2


SIGNATURES = {
    zo.query: ("value_fn params key", "num_directions radius"),
    zo.zo_gradient: ("num_directions radius", "key"),
    zo.zo_newton: ("num_directions radius", "damping key"),
    zo.scale_by_inverse_hessian: ("num_directions radius", "damping key"),
    zo.zo_sgd: ("learning_rate", "num_directions radius key"),
    zo.zoar: ("learning_rate", "num_directions radius key"),
    zo.zovh: ("learning_rate", "num_directions radius damping key"),
    zo.radazo: ("learning_rate", "num_directions radius key"),
    zo.zo_adamm: ("learning_rate", "num_directions radius key"),
    zo.zo_signsgd: ("learning_rate", "num_directions radius key"),
    zo.mezo: ("learning_rate", "radius key"),
    zo.rspg: ("learning_rate", "num_directions radius key"),
    zo.random_iterate: ("opt_state", ""),
    zo.fzoo: ("learning_rate", "num_directions radius key"),
    zo.poem: ("num_directions radius", "key"),
    zo.zo_hizoo: ("num_directions radius", "key"),
    zo.hizoo: ("learning_rate", "radius key"),
    zo.zoha: ("learning_rate", "radius damping key"),
    zo.spsa: ("learning_rate", "radius key"),
    zo.zo_spsa2: ("num_directions radius", "key"),
    zo.spsa2: ("learning_rate", "radius key"),
    zo.spsa_gains: ("a c", ""),
    zo.stochastic_rounding: ("", "key"),
    zo.zo_sah_direction: ("num_subspaces radius", "key"),
    zo.diagonal_newton: ("num_directions radius", "key"),
    zo.scalar_newton: ("num_directions radius", "key"),
    zo.low_rank_newton: ("num_directions radius", "key"),
    zo.quasi_newton: ("num_directions radius", "key"),
    zo.zo_sah: ("learning_rate", "num_subspaces radius key"),
    zo.estimators.gradient: ("queries params", ""),
    zo.estimators.hessian: ("queries params", ""),
    zo.estimators.hessian_diagonal: ("queries params", ""),
    zo.estimators.newton_direction: ("queries params", "damping"),
    zo.solve: ("operator v", "damping"),
    zo.inverse: ("operator", "damping"),
    zo.neumann_solve: ("matvec v", "num_terms"),
    zo.num_queries: ("opt_state", ""),
}
OPTIONAL = {
    zo.query: "directions stencil evaluate value origin",
    zo.zo_gradient: "directions stencil baseline history_size evaluate",
    zo.zo_newton: "history_size solver bias_correction structure",
    zo.scale_by_inverse_hessian: "solver",
    zo.estimators.gradient: "baseline",
    zo.estimators.hessian: "baseline identity_term",
    zo.estimators.hessian_diagonal: "prior ridge",
    zo.estimators.newton_direction: "baseline solver bias_correction structure",
    zo.solve: "solver",
    zo.neumann_solve: "damping step_size",
}


def test_signatures():
    """Required arguments, positional and keyword-only, and the names of the optional ones."""
    for function, (want, want_keywords) in SIGNATURES.items():
        parameters = inspect.signature(function).parameters.values()
        required = [p for p in parameters if p.default is p.empty]
        positional = [p.name for p in required if p.kind is p.POSITIONAL_OR_KEYWORD]
        keywords = [p.name for p in required if p.kind is p.KEYWORD_ONLY]
        assert positional == want.split(), function
        assert sorted(keywords) == sorted(want_keywords.split()), function
        optional = {p.name for p in parameters if p.default is not p.empty}
        assert set(OPTIONAL.get(function, "").split()) <= optional, function
        assert all(p.kind is p.KEYWORD_ONLY for p in parameters if p.default is not p.empty)


def test_from_values_takes_a_plan_and_no_key():
    assert {"plan", "directions", "radius"} <= set(parameters := names(zo.Queries.from_values))
    assert "key" not in parameters


def names(function):
    return inspect.signature(function).parameters
