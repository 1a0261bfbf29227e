"""Reads the package as its users see it: every public name is what it stands for."""

import ast
import pathlib
import re

import griffe

FORMULA = re.compile(r"_(?=\{)|(?<=\w)\*(?=[\s_({,;.)])")
"""Marks as in Σ_{j≠k} and y*(x), outside code that anybody writes."""


class PublicNames(griffe.Extension):
    """Mends what a reader of the sources alone gets wrong.

    - A factory, such as ``gaussian = Gaussian``, is the class under another name.
    - A function with the name of its own file, such as `zo.estimators.gradient`, is no module.
    - "Example:" is a section of examples.
    - Stars and underscores in formulas are no emphasis.
    - What a function returns is a sentence, in which a colon does not end a type.
    """

    def on_package(self, *, pkg: griffe.Module, **kwargs: object) -> None:
        """Goes through all that the package has."""
        self._object(pkg)

    def _object(self, obj: griffe.Object) -> None:
        """Mends an object, after those that it holds."""
        for member in list(obj.members.values()):
            if isinstance(member, griffe.Object):
                self._object(member)
        if obj.docstring:
            text = re.sub("(?m)^Example:$", "Examples:", obj.docstring.value)
            text = FORMULA.sub(r"\\\g<0>", text)
            if isinstance(obj, griffe.Function):
                text = re.sub("(?m)^Returns:\n +", f"Returns:\n  {obj.returns}: ", text)
            obj.docstring.value = text
        if isinstance(obj, griffe.Module):
            self._exports(obj)

    def _exports(self, module: griffe.Module) -> None:
        factories = _assigned_names(module) if module.exports else {}
        for name in map(str, module.exports or []):
            member = module.members[name]
            if name in factories:
                target = module.members[factories[name]]
            elif not member.is_alias and member.is_module and name in member.members:
                target = member.members[name]
                for other in module.members.values():  # that come from the same file
                    if not isinstance(other, griffe.Alias):
                        continue
                    if other.target_path.startswith(f"{member.path}."):
                        other.resolve_target()
            else:
                continue
            target = target.final_target if isinstance(target, griffe.Alias) else target
            module.set_member(name, griffe.Alias(name, target, parent=module))


def _assigned_names(module: griffe.Module) -> dict[str, str]:
    """``{"gaussian": "Gaussian"}`` for ``gaussian = Gaussian``."""
    return {
        node.targets[0].id: node.value.id
        for node in ast.parse(pathlib.Path(str(module.filepath)).read_text()).body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Name)
    }
