"""Whether an assigned name can leave the session, and as what text."""

from __future__ import annotations

import ast
import copy
import re
import types
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pulpo.carry.frozen import shared_with
from pulpo.carry.names import root_name
from pulpo.carry.purity import Purity, Verdict, call_text
from pulpo.carry.record import Recorder, Statement
from pulpo.carry.settings import carried_lines, is_named
from pulpo.carry.text import is_marked
from pulpo.carry.values import (
    attribute,
    data_of,
    in_memory,
    is_definition,
    literal,
    live_kind,
    same,
    type_name,
)

__all__ = [
    "INSIDE",
    "IS_MAGIC",
    "WRITE_IT",
    "Constants",
    "Outcome",
    "captured",
    "definitions_in",
    "write_it",
]

INSIDE = "Create it inside the operation, or in a helper that the operation calls."
LOAD_IT = "Load it inside the operation, or make an operation that produces it."
WRITE_IT = "Compute it inside the operation, or write its value as a literal."
#: What IPython makes of % and ! lines.
IS_MAGIC = re.compile(r"get_ipython\(\)\.(?:run_(?:line|cell)_magic|system|getoutput)\b")
_HUGE = 100_000  # characters


def write_it(value: object) -> str:
    """Return how to do without a value that was computed: not all can be written down."""
    kind = type(value)
    told = kind.__module__.partition(".")[0] in _CAN_BE_WRITTEN and kind is not object
    plain = isinstance(value, str | list | dict | tuple)  # what a shell line gives is a list, too
    return WRITE_IT if (told or plain) and not callable(value) else INSIDE


_CAN_BE_WRITTEN = frozenset(
    [
        "__main__",
        "builtins",
        "collections",
        "datetime",
        "decimal",
        "fractions",
        "numpy",
        "pandas",
        "pathlib",
        "re",
        "uuid",
        "zoneinfo",
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What to do with an assignment: refuse it (``problem``), or carry it, perhaps changed.

    ``text`` replaces the user's own unless it is empty; ``also`` are further statements that have
    to follow. One that ``waits`` is asked for again once all names of the export are known.
    """

    problem: str = ""
    fix: str = ""
    text: str = ""
    warnings: tuple[str, ...] = ()
    also: tuple[Statement, ...] = ()
    waits: bool = False


class Constants:
    """Judges assignments by their text and by the values that they left in the session."""

    def __init__(self, recorder: Recorder, purity: Purity) -> None:
        self._recorder = recorder
        self._namespace = recorder.namespace
        self._purity = purity
        self._changers: dict[str, list[Statement]] | None = None

    def check(
        self,
        statement: Statement,
        name: str,
        *,
        current: bool = True,
        carried: Collection[str] | None = None,
    ) -> Outcome:
        """Judge a statement that bound ``name``; unless ``current``, a later one bound it again.

        ``carried`` are all names of the export, None as long as they are not known.
        """
        bound = statement.bound.get(name)
        older = bound.kept() if bound is not None else None
        value = self._namespace[name] if current else older
        node = statement.node
        where = f"in cell {statement.cell}"
        if "get_ipython" in self._recorder.names(statement).now:
            magic = IS_MAGIC.search(statement.text)
            what = "a magic or shell command" if magic else "get_ipython()"
            return _runtime(value, f"by {what} {where}")
        shown = self._shown(node)
        live = live_kind(value)
        if live:
            return Outcome(problem=f"it is {live} made by {shown} {where}", fix=INSIDE)
        data = in_memory(value)
        if data and not self._is_written(statement, name, value):
            return Outcome(problem=f"it is {data}, made by {shown} {where}", fix=LOAD_IT)
        if isinstance(node, ast.If | ast.Try):
            if "__name__" in self._recorder.names(statement).now:
                return Outcome(
                    problem=f"it is bound {where} only if __name__ is '__main__'",
                    fix="Define it without that condition.",
                )
            outcome = self._check_branches(statement, value, where)
            skip = outcome is not None or not current or is_definition(value)
            if skip or isinstance(value, types.ModuleType):
                return outcome or Outcome()
            return self._compare(statement, name, where, carried)
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            return _runtime(value, f"by {_block(node)} {where}")
        outcome = self._check_text(statement, name, node.value, value, where)
        if outcome is not None:
            return outcome
        if current:
            return self._compare(statement, name, where, carried)
        return Outcome(also=tuple(self._between(statement, name)))

    def _is_written(self, statement: Statement, name: str, value: object) -> bool:
        """Tell whether a line makes a small array or table of what it says itself."""
        node = statement.node
        made = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        again = name in self._recorder.names(statement).now  # df = df[df.x > 0]
        if made is None or again or data_of(value) is None:
            return False
        verdict = self._purity.judge(made)
        return verdict.impure is None and not verdict.depends

    def changers(self, name: str) -> list[Statement]:
        """Return the functions and classes that bind a name anew or change it in place."""
        if self._changers is None:
            self._changers = {}
            for statement in self._recorder.statements:
                names = self._recorder.names(statement)
                for one in dict.fromkeys((*names.rebinds, *names.mutates)):
                    self._changers.setdefault(one, []).append(statement)
        return self._changers.get(name, [])

    def evaluate(self, expression: ast.expr) -> object:
        """Return what a pure expression gives now; something like nothing else if it fails."""
        try:
            code = compile(ast.Expression(expression), "<carry>", "eval", dont_inherit=True)
            used = {one.id for one in ast.walk(expression) if isinstance(one, ast.Name)}
            return eval(code, {n: self._namespace[n] for n in used if n in self._namespace})
        except Exception as error:  # the user's own code: whatever it raises is an answer
            return _Failed(type(error).__name__)

    def registrations(self, name: str, after: int) -> list[Statement]:
        """Return the definitions that were put into a container by a decorator or a call.

        ``REGISTRY = {}`` with ``@register def f`` is carried with every ``f``.
        """
        found: list[Statement] = []
        for changer in self.changers(name):
            for own in changer.binds:
                found += self._recorder.decorated_by.get(own, [])
                found += filter(self._passes_definition, self._recorder.calling.get(own, []))
        newest = {self._registration_key(one): one for one in found if one.index > after}
        return sorted(newest.values(), key=lambda one: one.index)

    def _registration_key(self, statement: Statement) -> tuple[str, ...]:
        return statement.binds or (statement.text,)

    def _passes_definition(self, statement: Statement) -> bool:
        call = statement.node.value if isinstance(statement.node, ast.Expr) else None
        if not isinstance(call, ast.Call):
            return False
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        if isinstance(call.func, ast.Call):  # register("a")(handle)
            values += call.func.args
        return any(is_definition(self._purity.value_of(one)) for one in values)

    def _check_text(
        self, statement: Statement, name: str, expression: ast.expr, value: object, where: str
    ) -> Outcome | None:
        """Judge an assignment without evaluating it; None when its value has to be compared."""
        # What a later line of the same cell replaced was never seen: it may have been a function.
        defining = is_definition(value) or name not in statement.bound
        verdict = self._purity.judge(expression, defining=defining)
        if verdict.impure is not None:
            return _runtime(value, f"by {call_text(verdict.impure)} {where}")
        if len(statement.text) > _HUGE:
            size = len(statement.text) // 1000
            return Outcome(
                problem=f"it is a literal of {size} kB {where}",
                fix="Put it into a file beside the notebook and read that inside the operation.",
            )
        if defining and isinstance(value, types.FunctionType):
            return self._check_made_function(value, where)
        if verdict.depends:
            return Outcome(warnings=tuple(self._dependence(name, verdict)))
        return None

    def _dependence(self, name: str, verdict: Verdict) -> list[str]:
        carried = carried_lines(self._recorder) if verdict.variables else ""
        return [
            f"{name!r} reads the environment variable {variable}: set it where the export runs"
            for variable in verdict.variables
            if not is_named(variable, carried)
        ] + [
            f"{name!r} depends on the folder or the user that the export runs in ({place})"
            for place in verdict.places
        ]

    def _check_made_function(self, value: Any, where: str) -> Outcome:
        for cell, held in captured(value):
            live = live_kind(held) or in_memory(held)
            if live:
                return Outcome(
                    problem=f"it holds {cell!r}, {live}, since it ran {where}", fix=INSIDE
                )
        if value.__closure__ and _keeps_state(value):
            return Outcome(
                warnings=(f"{value.__name__!r} keeps a state: the export starts with a new one",)
            )
        return Outcome()

    def _check_branches(self, statement: Statement, value: object, where: str) -> Outcome | None:
        """Judge an ``if`` or ``try`` block; None when its value has to be compared."""
        warnings: list[str] = []
        for part in _leaves(statement.node):
            if isinstance(part, ast.expr):
                expression: ast.expr | None = part
            elif isinstance(part, ast.Assign | ast.AnnAssign):
                expression = part.value
            elif isinstance(part, _HARMLESS):
                continue
            else:
                return _runtime(value, f"by {_block(part)} {where}")
            if expression is None:
                continue
            verdict = self._purity.judge(expression, defining=is_definition(value))
            if verdict.impure is not None:
                return _runtime(value, f"by {call_text(verdict.impure)} {where}")
            warnings += self._dependence(statement.binds[0], verdict)
        return Outcome(warnings=tuple(warnings)) if warnings else None

    # -- does evaluating the text again give the value that is there now?

    def _compare(
        self, statement: Statement, name: str, where: str, carried: Collection[str] | None
    ) -> Outcome:
        value = self._namespace[name]
        versions = self._first_versions(statement, name)
        first = [*self._read_before(statement), *versions]
        if not all(map(self._may_run_again, first[:-1])):
            return Outcome()  # what it was built upon is judged by itself, and refused
        changes = [line for one in versions[:-1] for line in self._between(one, name)]
        first = sorted([*first, *changes], key=lambda one: one.index)
        # What built upon an older version may have changed it in place.
        fresh = self._run(first, name, apart=len(first) > 1)
        if same(fresh, value):
            return Outcome()
        registered = self.registrations(name, statement.index)
        if registered and _explained(value, registered):
            return Outcome(also=tuple(registered))
        later = [
            one for one in self._recorder.touching.get(name, []) if one.index > statement.index
        ]
        # A cell that ran again, perhaps edited, may have done anew what its older run did.
        for lines in (later, [one for one in later if not self._recorder.is_replaced(one)]):
            if lines and all(self._is_pure_change(one, name) for one in lines):
                replayed = self._run([*first, *lines], name, apart=True)
                if same(replayed, value):
                    return self._as_it_is_now(statement, name, value, lines, carried)
        if marked := self._marked(statement, name):
            pure = [one for one in later if self._is_pure_change(one, name)]
            both = {one.index: one for one in (*pure, *marked)}
            return Outcome(also=tuple(both[index] for index in sorted(both)))
        if self.changers(name):
            return Outcome(
                warnings=(
                    f"{name!r} was changed by {_who(self.changers(name))} since it was set "
                    f"{where}: the export starts with its first value",
                )
            )
        return self._changed(statement, name, fresh, later, where)

    def _marked(self, statement: Statement, name: str) -> list[Statement]:
        """Return the lines that change a name, and are marked to be carried and tried there.

        They name it, or a function that changes it.
        """
        changers = {own for one in self.changers(name) for own in one.binds}
        found = []
        for one in self._recorder.statements[statement.index + 1 :]:
            if "pulpo:" in one.text and is_marked(one.text) and name not in one.binds:
                names = self._recorder.names(one)
                if not {name, *changers}.isdisjoint((*names.now, *names.touches)):
                    found.append(one)
        return [one for one in found if not self._recorder.is_replaced(one)]

    def _read_before(self, statement: Statement) -> list[Statement]:
        """Return what a statement read that its cell bound again, with what that read."""
        found = [statement]
        for one in found:
            for used in self._recorder.names(one).now:
                read = self._recorder.read_before(one, used)
                if read is not None and read not in found:
                    found.append(read)
        return sorted(found[1:], key=lambda one: one.index)

    def _first_versions(self, statement: Statement, name: str) -> list[Statement]:
        """Return a statement with what it built upon: ``f = wrap(f)`` comes with ``def f``."""
        found = [statement]
        history = self._recorder.by_name.get(name, [])
        for older in reversed([one for one in history if one.index < statement.index]):
            if name not in self._recorder.names(found[0]).now:
                break
            found.insert(0, older)
        return found

    def _between(self, statement: Statement, name: str) -> list[Statement]:
        """Return what changed a value in place before the name was bound anew; none unless pure.

        ``cols = ["b"]``, ``cols.append("a")``, ``cols = sorted(cols)``.
        """
        newer = [one for one in self._recorder.by_name[name] if one.index > statement.index]
        if not newer:
            return []
        lines = [
            one
            for one in self._recorder.touching.get(name, [])
            if statement.index < one.index < newer[0].index and one not in newer
        ]
        return lines if all(self._is_pure_change(one, name) for one in lines) else []

    def _may_run_again(self, statement: Statement) -> bool:
        node = statement.node
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            return node.value is None or self._purity.judge(node.value).impure is None
        return isinstance(node, _HARMLESS)

    def _as_it_is_now(
        self,
        statement: Statement,
        name: str,
        value: object,
        later: list[Statement],
        carried: Collection[str] | None,
    ) -> Outcome:
        cells = ", ".join(dict.fromkeys(str(one.cell) for one in later))
        text = literal(value)
        # A line that binds several names is not rewritten for the sake of one; and of what has a
        # list in two places a literal would make two lists.
        apart = [other for other in self._apart(name) if carried is None or other in carried]
        shares = shared_with(name, apart, self._namespace)
        # `grid[0] = row` brings the other along.
        read = {used for one in later for used in self._recorder.names(one).now}
        brought = shared_with(name, read.intersection(apart), self._namespace)
        if text is None or len(statement.binds) > 1 or shares == name or brought:
            return Outcome(also=tuple(later))
        if shares:  # with a name that the export may not have
            known = carried is not None
            return Outcome(also=tuple(later)) if known else Outcome(waits=True)
        comments = []
        for line in statement.text.split("\n"):
            if not line.startswith("#"):
                break
            comments.append(line)
        hint = ""
        if isinstance(statement.node, ast.AnnAssign):
            hint = f": {ast.unparse(statement.node.annotation)}"
        warning = f"{name!r} was changed in cell {cells}: the export holds its value of now"
        return Outcome(text="\n".join([*comments, f"{name}{hint} = {text}"]), warnings=(warning,))

    def _apart(self, name: str) -> Iterator[str]:
        """Yield the names that are not made from another, with which they share what it gives."""
        for other, history in self._recorder.by_name.items():
            made_by = self._first_versions(history[-1], other)
            if not any(name in self._recorder.names(one).now for one in made_by):
                yield other

    def _changed(
        self, statement: Statement, name: str, fresh: object, later: list[Statement], where: str
    ) -> Outcome:
        for used in self._recorder.names(statement).now:
            newest = (self._recorder.by_name.get(used) or [statement])[-1]
            if newest.index > statement.index:
                again = newest.cell != statement.cell
                return Outcome(
                    problem=f"it was computed {where} from an older {used!r}, which cell "
                    f"{newest.cell} has changed since",
                    fix=f"Run cell {statement.cell} again."
                    if again
                    else f"Give one {used!r} another name.",
                )
            touched = [
                one for one in self._recorder.touching.get(used, []) if one.index > statement.index
            ]
            if isinstance(self._namespace.get(used), types.ModuleType):
                touched = []  # np.add(a, b)
            if touched and not later:
                again = touched[-1].cell != statement.cell
                return Outcome(
                    problem=f"it was computed {where} from {used!r}, which "
                    f"{_block(touched[-1].node)} in cell {touched[-1].cell} has changed since",
                    fix=f"Run cell {statement.cell} again."
                    if again
                    else write_it(self._namespace.get(statement.binds[0])),
                )
        if isinstance(fresh, _Failed):
            why = f"evaluating its line {where} again fails ({fresh.reason})"
        elif later:
            # The one that cannot be done again.
            last = ([one for one in later if not self._is_pure_change(one, name)] or later)[-1]
            why = f"it was set {where} and changed by {_block(last.node)} in cell {last.cell}"
        else:
            why = f"it is not what its line {where} gives: it was changed at run time"
        return Outcome(problem=why, fix=write_it(self._namespace.get(statement.binds[0])))

    def _is_pure_change(self, statement: Statement, name: str) -> bool:
        node = statement.node
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            call = node.value
            if root_name(call.func) != name:
                return False
            parts: list[ast.AST] = [*call.args, *call.keywords]
        elif isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            slices = [one.slice for one in targets if isinstance(one, ast.Subscript)]
            parts = [node.value, *slices]
        else:
            return isinstance(node, ast.Delete)
        verdicts = [self._purity.judge(part) for part in parts]
        return all(one.impure is None and not one.depends for one in verdicts)

    def _run(self, statements: list[Statement], name: str, *, apart: bool = False) -> object:
        """Return what pure statements make of a name, without touching the session.

        With ``apart`` the containers that they use are copies: the statements change things.
        """
        scratch: dict[str, Any] = {"__name__": "__main__"}
        for statement in statements:
            names = self._recorder.names(statement)
            for used in (*names.now, *names.later, *names.hints):
                if used in self._namespace and used != name:
                    value = self._namespace[used]
                    data = isinstance(value, list | dict | set | deque)
                    if apart and in_memory(value):
                        if data_of(value) is None:
                            return _Failed("it is made of much data")
                        data = True
                    scratch[used] = copy.deepcopy(value) if apart and data else value
        try:
            for statement in statements:
                code = compile(
                    ast.Module(body=[statement.node], type_ignores=[]),
                    "<carry>",
                    "exec",
                    dont_inherit=True,
                )
                exec(code, scratch)
        except Exception as error:  # the user's own code: whatever it raises is an answer
            return _Failed(type(error).__name__)
        return scratch.get(name, _Failed("it binds nothing"))

    def _shown(self, node: ast.stmt) -> str:
        value = getattr(node, "value", None)
        if not isinstance(value, ast.expr):
            return _block(node)
        verdict = self._purity.judge(value)
        return call_text(verdict.impure or value)


@dataclass(frozen=True, slots=True)
class _Failed:
    reason: str


_HARMLESS = (
    ast.Import,
    ast.ImportFrom,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Pass,
)


def _runtime(value: object, how: str) -> Outcome:
    return Outcome(
        problem=f"it is a value computed at run time ({type_name(value)}) {how}",
        fix=write_it(value),
    )


def _block(node: ast.AST) -> str:
    words = {
        ast.For: "a for loop",
        ast.AsyncFor: "an async for loop",
        ast.While: "a while loop",
        ast.With: "a with block",
        ast.AsyncWith: "an async with block",
        ast.Match: "a match block",
        ast.If: "an if block",
        ast.Try: "a try block",
    }
    if type(node) in words:
        return words[type(node)]
    return call_text(node.value if isinstance(node, ast.Expr) else node).split("\n")[0]


def _who(statements: Iterable[Statement]) -> str:
    return " and ".join(dict.fromkeys(one.binds[0] if one.binds else "?" for one in statements))


def _leaves(node: ast.stmt) -> Iterator[ast.AST]:
    """Yield the tests and the simple statements of nested ``if`` and ``try`` blocks."""
    if isinstance(node, ast.If):
        yield node.test
        bodies = [*node.body, *node.orelse]
    elif isinstance(node, ast.Try):
        handlers = [part for one in node.handlers for part in one.body]
        bodies = [*node.body, *handlers, *node.orelse, *node.finalbody]
    else:
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            yield node
        return
    for part in bodies:
        yield from _leaves(part)


def _explained(value: object, registered: list[Statement]) -> bool:
    """Tell whether the definitions in a container are those that were registered."""
    known = {id(bound.kept()) for one in registered for bound in one.bound.values()}
    held = definitions_in(value, 3)
    strange = [one for one in held if id(one) not in known]
    return bool(held) and len(strange) <= len(registered)


def definitions_in(value: object, depth: int) -> list[object]:
    """Return the functions and classes in nested containers."""
    if is_definition(value):
        return [value]
    if depth == 0:
        return []
    if isinstance(value, dict):
        parts: Iterable[object] = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset | deque):
        parts = value
    else:
        return []
    return [found for part in parts for found in definitions_in(part, depth - 1)]


def captured(value: object, depth: int = 3) -> Iterator[tuple[str, object]]:
    """Yield what a function holds on to: its closure, and that of what it wraps."""
    if depth == 0:
        return
    if isinstance(value, types.FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            try:
                held = cell.cell_contents
            except ValueError:  # not filled yet
                continue
            yield name, held
            yield from captured(held, depth - 1)
    wrapped = attribute(value, "__wrapped__") or attribute(value, "func")
    if wrapped is not None and callable(wrapped):
        yield from captured(wrapped, depth - 1)


def _keeps_state(function: Any) -> bool:
    """Tell whether a function rebinds a name of the function that made it."""
    import dis

    free = set(function.__code__.co_freevars)
    return any(
        one.opname == "STORE_DEREF" and one.argval in free for one in dis.get_instructions(function)
    )
