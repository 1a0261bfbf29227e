"""Old names: they work for one more release, and warn."""

import warnings


def deprecated(name: str, instead: str, removal: str, *, stacklevel: int = 2) -> None:
    """Warns that a name goes away. Python shows it once for each line that uses the name.

    Call it in the function that goes away, or in a module's ``__getattr__``.

    Args:
      name: what was used, such as ``"zo.subspace_newton"``.
      instead: what to use now.
      removal: the version that no longer has it.
      stacklevel: how many calls lie between this function and the user's line, that one included:
        2 where the user calls the caller of this function.

    Example:
      >>> import warnings
      >>> from zovh_jax._deprecation import deprecated
      >>> def old():
      ...     deprecated("old", "new", "0.3.0")
      >>> with warnings.catch_warnings(record=True) as caught:
      ...     warnings.simplefilter("always")
      ...     old()
      >>> print(caught[0].message)
      old is now new, and will be removed in version 0.3.0.
    """
    message = f"{name} is now {instead}, and will be removed in version {removal}."
    warnings.warn(message, DeprecationWarning, stacklevel=stacklevel + 1)


__all__ = ["deprecated"]
