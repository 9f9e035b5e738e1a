"""Statements that change what another statement defined, and go with it."""

from __future__ import annotations

import ast
import types

from pulpo.carry.names import root_name
from pulpo.carry.purity import Purity, call_text
from pulpo.carry.record import REGISTRARS, Recorder, Statement
from pulpo.carry.values import attribute, is_definition

__all__ = ["OF_THE_PROCESS", "Attachments", "package_of"]

# What is done to these is done to the notebook's process, not to the operations.
OF_THE_PROCESS = frozenset(("os", "sys", "asyncio", "nest_asyncio", "gc", "site"))


class Attachments:
    """Finds ``Model.x = …``, ``@f.register``, subclasses that are registered, ``pd.options``."""

    def __init__(self, recorder: Recorder, purity: Purity) -> None:
        self._recorder = recorder
        self._namespace = recorder.namespace
        self._purity = purity
        self._of_packages: dict[str, list[Statement]] | None = None

    def of(self, statement: Statement, name: str) -> list[Statement]:
        """Return what was done to the definition of ``name`` since ``statement`` ran, in order."""
        if isinstance(statement.node, ast.Import | ast.ImportFrom):
            return self._of_package(package_of(self._namespace.get(name), statement))
        bound = statement.bound.get(name)
        made = isinstance(statement.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if not made and not is_definition(bound.kept() if bound is not None else None):
            return []
        # What came after the name was bound anew was done to something else.
        newer = [one for one in self._recorder.by_name[name] if one.index > statement.index]
        until = newer[0].index if newer else len(self._recorder.statements)
        found = [*self._recorder.touching.get(name, [])]
        found += [one for one in self._recorder.decorated_by.get(name, []) if _registers(one, name)]
        if isinstance(statement.node, ast.ClassDef) and "__init_subclass__" in statement.text:
            found += self._recorder.derived_from.get(name, [])
        later = [one for one in found if statement.index < one.index < until]
        newest = {self._key(one): one for one in sorted(later, key=lambda one: one.index)}
        return sorted(newest.values(), key=lambda one: one.index)

    def subclasses(self, statement: Statement, name: str) -> list[Statement]:
        """Return the newest definitions of the classes that derive from a class."""
        derived = self._recorder.derived_from.get(name, [])
        later = [one for one in derived if one.index > statement.index]
        newest = {one.binds[0]: one for one in later if one.binds[0] in self._namespace}
        return sorted(newest.values(), key=lambda one: one.index)

    def problem(self, statement: Statement, name: str) -> str:
        """Say why a change cannot be carried, ``""`` if it can."""
        node = statement.node
        where = f"in cell {statement.cell}"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Delete):
            return ""
        if isinstance(node, ast.Assign | ast.AugAssign):
            parts: list[ast.AST] = [node.value]
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            parts = [*node.value.args, *node.value.keywords]
        else:
            return f"it was changed by a block {where}, not by a line of its own"
        defining = any(is_definition(value) for value in self._assigned(node))
        for part in parts:
            impure = self._purity.judge(part, defining=defining).impure
            if impure is not None:
                return f"it was changed {where} with a value made by {call_text(impure)}"
        return ""

    def expression(self, statement: Statement) -> tuple[ast.Attribute, ast.expr] | None:
        """Return what ``Model.x = …`` set last and from what, where that can be evaluated again."""
        node = statement.node
        if not isinstance(node, ast.Assign) or self._builds_on_itself(node):
            return None
        [target, *others] = node.targets
        name = root_name(target)
        if others or not isinstance(target, ast.Attribute) or name is None:
            return None
        later = [one for one in self._recorder.touching[name] if one.index > statement.index]
        verdict = self._purity.judge(node.value)
        return None if later or verdict.impure or verdict.depends else (target, node.value)

    def _assigned(self, node: ast.stmt) -> list[object]:
        """Return the live values of ``Model.x = …``."""
        targets = node.targets if isinstance(node, ast.Assign) else []
        return [
            attribute(self._purity.value_of(one.value), one.attr)
            for one in targets
            if isinstance(one, ast.Attribute)
        ]

    def _of_package(self, package: str) -> list[Statement]:
        if self._of_packages is None:
            self._of_packages = {}
            for name, statements in self._recorder.touching.items():
                value = self._namespace.get(name)
                history = self._recorder.by_name.get(name, [])
                if not history or not isinstance(history[-1].node, ast.Import | ast.ImportFrom):
                    continue
                package_of_name = package_of(value, history[-1])
                lines = [one for one in statements if _is_line(one)]
                self._of_packages.setdefault(package_of_name, []).extend(lines)
            for name, statements in self._recorder.decorated_by.items():
                history = self._recorder.by_name.get(name, [])
                if history and isinstance(history[-1].node, ast.Import | ast.ImportFrom):
                    package_of_name = package_of(self._namespace.get(name), history[-1])
                    lines = [one for one in statements if _is_accessor(one)]
                    self._of_packages.setdefault(package_of_name, []).extend(lines)
        if package in OF_THE_PROCESS:
            return []
        newest = {self._key(one): one for one in self._of_packages.get(package, [])}
        return sorted(newest.values(), key=lambda one: one.index)

    def _key(self, statement: Statement) -> tuple[str, ...]:
        """Tell apart what replaces itself when its cell runs again, and what adds to the rest."""
        node = statement.node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = [ast.unparse(one) for one in node.decorator_list]
            return (node.name, *decorators, ast.unparse(node.args))
        if self._builds_on_itself(node):
            return (statement.text, str(statement.index))
        return statement.binds or (statement.text,)

    def _builds_on_itself(self, node: ast.stmt) -> bool:
        """Tell whether a line does more when it runs twice: ``Job.run = traced(Job.run)``."""
        if isinstance(node, ast.AugAssign):
            return True
        if not isinstance(node, ast.Assign):
            return False
        changed = {one.attr for one in node.targets if isinstance(one, ast.Attribute)}
        for part in ast.walk(node.value):
            # Of a subclass, too: it may have the attribute from here.
            if isinstance(part, ast.Attribute) and part.attr in changed:
                return True
            if isinstance(part, ast.Name):
                known = self._recorder.by_name.get(part.id, [])
                texts = [one.text for one in known[-1:]]
                if any(f".{attr}" in text for attr in changed for text in texts):
                    return True
        return False


def package_of(value: object, statement: Statement) -> str:
    """Return the top-level package of an imported name."""
    if isinstance(value, types.ModuleType):
        return value.__name__.split(".")[0]
    node = statement.node
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0]
    return str(attribute(value, "__module__", "")).split(".")[0]


def _is_line(statement: Statement) -> bool:
    return isinstance(statement.node, ast.Assign | ast.AugAssign | ast.Expr)


def _is_accessor(statement: Statement) -> bool:
    """Tell whether a decorator registers with a package, ``register_dataframe_accessor("geo")``."""
    for node in getattr(statement.node, "decorator_list", ()):
        part = node.func if isinstance(node, ast.Call) else node
        if isinstance(part, ast.Attribute) and part.attr.startswith("register_"):
            return True
    return False


def _registers(statement: Statement, name: str) -> bool:
    """Tell whether ``@name.register`` stands above a definition."""
    for node in getattr(statement.node, "decorator_list", ()):
        part = node.func if isinstance(node, ast.Call) else node
        if (
            isinstance(part, ast.Attribute)
            and part.attr in REGISTRARS
            and isinstance(part.value, ast.Name)
            and part.value.id == name
        ):
            return True
    return False
