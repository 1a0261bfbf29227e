"""The package's public names, read from its sources: nothing is imported, JAX is not needed."""

import functools
import pathlib

import griffe

ROOT = pathlib.Path(__file__).parents[1]


@functools.cache
def package() -> griffe.Module:
    """The package as its sources have it."""
    names = griffe.load_extensions(str(pathlib.Path(__file__).with_name("griffe_names.py")))
    found = griffe.load("zovh_jax", search_paths=[ROOT], extensions=names)
    assert isinstance(found, griffe.Module)
    return found


@functools.cache
def public() -> dict[str, griffe.Object | griffe.Alias]:
    """All public names, such as "zoar", "estimators" and "estimators.gradient"."""
    names = {}
    for name in map(str, package().exports or ()):
        names[name] = member = package()[name]
        if member.is_module:
            names |= {f"{name}.{inner}": member[inner] for inner in map(str, member.exports or ())}
    return names
