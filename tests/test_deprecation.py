"""Old names work and warn, at the line that uses them."""

import warnings

import pytest

import zovh_jax as zo
from zovh_jax._deprecation import deprecated

RENAMED = {"subspace_newton": "low_rank_newton", "zo_subspace_newton": "zo_sah_direction"}


@pytest.mark.parametrize("name", RENAMED)
def test_old_names_are_the_new_ones(name):
    with pytest.warns(DeprecationWarning, match=rf"zo\.{name} is now zo\.{RENAMED[name]}, .*0\.3"):
        assert getattr(zo, name) is getattr(zo, RENAMED[name])
    assert name not in zo.__all__


def test_other_names_are_missing():
    with pytest.raises(AttributeError, match="no attribute 'subspace_newtons'"):
        _ = zo.subspace_newtons
    assert not hasattr(zo, "nothing")


def test_each_line_warns_once():
    """By Python's own rule; the warning names the line that uses the old name."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            zo.subspace_newton  # noqa: B018
        zo.subspace_newton  # noqa: B018
    assert [warning.filename for warning in caught] == [__file__] * 2
    assert caught[0].lineno != caught[1].lineno


def test_functions_warn_where_they_are_called():
    def old():
        deprecated("old", "new", "1.0")

    with pytest.warns(DeprecationWarning, match="old is now new") as caught:
        old()
    assert caught[0].filename == __file__
