"""Everything that a set of functions needs from the session, statement by statement."""

from __future__ import annotations

import ast
import builtins
import re
import sys
import types
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from pulpo.carry.attach import Attachments
from pulpo.carry.constants import INSIDE, IS_MAGIC, Constants, write_it
from pulpo.carry.definitions import Definitions, unwrapped
from pulpo.carry.frozen import Frozen
from pulpo.carry.modules import Modules, is_type_checking
from pulpo.carry.names import names_in_conditions, names_in_queries, names_of
from pulpo.carry.outside import Outside, put_on_classes
from pulpo.carry.pieces import Kind, Piece
from pulpo.carry.purity import Purity, call_text
from pulpo.carry.record import Recorder, Statement
from pulpo.carry.text import is_marked, strip_decorators
from pulpo.carry.values import (
    attribute,
    error_of,
    in_memory,
    is_definition,
    live_kind,
    same,
    same_code,
)
from pulpo.errors import CarryError, NoSourceError, did_you_mean

__all__ = ["Closure", "imported_in_blocks", "stood_in_for"]

_MODEL_STAND_IN = '''class {name}:
    """Names a data model in an annotation; stands in for pulpo's, so that no pulpo is needed."""

    def __init__(self, name: str) -> None:
        self.name = name'''
_PACKAGE_STAND_IN = '''class {name}:
    """Stands in for the package of that name, so that no pulpo is needed."""

    class Model:
        def __init__(self, name: str) -> None:
            self.name = name'''
_STOOD_IN_FOR = (
    (_MODEL_STAND_IN, "from pulpo import Model", "Model"),
    (_PACKAGE_STAND_IN, "import pulpo", "pulpo"),
)
# IPython puts these among the builtins.
_BUILTINS = frozenset(
    name
    for name, value in vars(builtins).items()
    if getattr(value, "__module__", "") != "__main__"  # a notebook may have put it there
) - {"display", "get_ipython", "__IPYTHON__"}
_ASKS_FRAMES = re.compile(r"@|\.eval\(")
#: What finds names at run time that no text names.
_FINDS_NAMES = frozenset(("globals", "eval", "exec"))
_DUNDERS = frozenset(("__name__", "__doc__", "__builtins__", "__annotations__"))
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def stood_in_for(text: str) -> str:
    """Return the import that a statement of an export stands in for, ``""`` when it does not."""
    name = re.match(r"class (\w+):\n", text)
    for stand_in, line, usual in _STOOD_IN_FOR:
        if name and text == stand_in.format(name=name[1]):
            return line if name[1] == usual else f"{line} as {name[1]}"
    return ""


class Closure:
    """Grows from operations to all that they need; refuses what cannot be carried.

    Values of the names in ``freeze`` are written as literals. Where a list ``refused`` is given,
    what cannot be carried goes there, and is not raised.

    After :meth:`drain`, ``pieces`` holds what has to be written, by the index of its statement,
    ``stand_ins`` the texts that replace what exports do not have, ``modules_used`` the modules
    that are imported inside functions.
    """

    def __init__(
        self,
        recorder: Recorder,
        modules: Modules,
        *,
        freeze: Collection[str] = (),
        refused: list[CarryError] | None = None,
    ) -> None:
        self.refused = refused
        self.frozen = Frozen(recorder, freeze)
        self.pieces: dict[int, Piece] = {}
        self.warnings: dict[str, None] = {}
        self.stand_ins: dict[str, str] = {}
        self.modules_used: dict[str, None] = {}
        self.tolerated: set[str] = set()
        #: What other packages put on the classes of libraries, and texts use.
        self.outside: list[Outside] = []
        #: The constants that are there what they are here.
        self.settled: set[str] = set()
        self.recorder = self._recorder = recorder
        self._namespace = recorder.namespace
        self._builtins = _BUILTINS & recorder.started.builtins
        self._modules = modules
        self.purity = self._purity = Purity(recorder)
        self._constants = Constants(recorder, self._purity)
        self._definitions = Definitions(recorder, self._purity, self._constants)
        self._attachments = Attachments(recorder, self._purity)
        self._todo: deque[Piece] = deque()
        #: What statements that run at once are given, by their index and the name.
        self._links: dict[tuple[int, str], Statement] = {}
        self._waiting: list[tuple[Piece, str]] = []
        self._changed: set[Piece] = set()  # the export starts with another value
        self._operation = ""
        self._asker = ""
        self._counts_subclasses = False
        self._queries: bool | None = None  # not looked for yet
        self._with_subclasses: set[Piece] = set()

    def add_operation(self, name: str, function: Callable[..., Any], place: int) -> Piece:
        """Add an operation's function.

        Raises
        ------
        NoSourceError
            If no recorded statement made the function.
        CarryError
            If something that it needs cannot be carried.
        """
        self._operation = name
        statement = self._statement_of(function)
        if statement is None:
            why, fix = _without_source(name, function)
            raise NoSourceError(f"operation {name!r}: {why}.", fix=fix, operation=name)
        piece = self.pieces.get(statement.index)
        if piece is None:
            piece = self._new_piece(statement, None)
        piece.kind, piece.place = Kind.OPERATION, place
        for own in statement.binds:
            piece.needed[own] = None
        self.drain()
        return piece

    def add_name(self, name: str) -> None:
        """Add a name that the text has to bind, with all that it needs."""
        self._operation = ""
        with self._may_be_refused():
            statement = self._find(name, None, "now")
            if statement is not None:
                self._ask(statement, name, None)
        self.drain()

    def add_marked(self) -> None:
        """Add the statements that are marked to be carried as they stand, ``pd.set_option(…)``."""
        newest = {one.binds or one.text: one for one in self._recorder.statements}
        for statement in newest.values():
            gone = [name for name in statement.binds if name not in self._namespace]
            if is_marked(statement.text) and not gone:
                self._operation, self._asker = "", f"a marked line in cell {statement.cell}"
                for name in statement.binds or ("",):
                    self._ask(statement, name, None)
                self.drain()
        self._asker = ""

    def add_imports_for_effect(self) -> None:
        """Add the imports that put on a library's classes what texts use of them."""
        self.outside = list(put_on_classes([piece.node for piece in self.pieces.values()]))
        packages = {one.package for one in self.outside}
        for statement in self._recorder.statements if packages else ():
            node = statement.node
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            named = [node.module] if isinstance(node, ast.ImportFrom) else []
            named += [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if packages.isdisjoint((one or "").partition(".")[0] for one in named):
                continue
            for name in statement.binds:
                if self._recorder.by_name[name][-1] is statement and name in self._namespace:
                    self._ask(statement, name, None)
        self.drain()

    def settle(self) -> None:
        """Decide what depended on which names the export has."""
        while self._waiting:
            piece, name = self._waiting.pop(0)
            carried = {one for other in self._as_here() for one in other.needed}
            with self._may_be_refused():
                self._check_constant(piece, name, carried)
            self._todo.append(piece)
            self.drain()

    def _as_here(self) -> list[Piece]:
        """Return the pieces that are there what they are here, and are made of such."""
        other = set(self._changed)
        while more := [
            piece
            for piece in self.pieces.values()
            if piece not in other and not other.isdisjoint(piece.now)
        ]:
            other.update(more)
        return [piece for piece in self.pieces.values() if piece not in other]

    def drain(self) -> None:
        """Follow every name until nothing new is needed."""
        while self._todo or self._add_subclasses():
            piece = self._todo.popleft()
            # First: what a value is says more than what its line uses.
            for name in [one for one in piece.needed if one not in piece.checked]:
                piece.checked.add(name)
                with self._may_be_refused():
                    self._check(piece, name)
            if not piece.done and all(piece is not waiting for waiting, _ in self._waiting):
                piece.done = True
                self._expand(piece)

    @contextmanager
    def _may_be_refused(self) -> Iterator[None]:
        try:
            yield
        except CarryError as error:
            if self.refused is None:
                raise
            self.refused.append(error)

    # -- from names to statements

    def _statement_of(self, function: object) -> Statement | None:
        statement = self._recorder.by_object.get(id(function))
        held = statement is not None and any(b.holds(function) for b in statement.bound.values())
        if statement is not None and held and _made(statement, function):
            return None if isinstance(statement.node, ast.Import | ast.ImportFrom) else statement
        if not isinstance(function, types.FunctionType):
            return None
        # The first of two definitions of one name in one cell: nothing refers to its object.
        for one in reversed(self._recorder.by_name.get(function.__name__, [])):
            if isinstance(one.node, ast.FunctionDef | ast.AsyncFunctionDef) and _made(
                one, function
            ):
                return one
        return None

    def _new_piece(self, statement: Statement, user: Piece | None) -> Piece:
        node, text, names = statement.node, statement.text, self._recorder.names(statement)
        if isinstance(node, _Definition) and any(map(self._is_ours, node.decorator_list)):
            text = strip_decorators(text, self._is_ours)
            node = ast.parse(text).body[0]
            names = names_of(node, lazy_annotations=statement.future)
        piece = Piece(
            statement=statement,
            kind=self._kind(statement),
            text=text,
            node=node,
            names=names,
            place=statement.place,
            label=statement.binds[0] if statement.binds else _label(node),
            operation=self._operation,
            user=user,
        )
        self.pieces[statement.index] = piece
        self._todo.append(piece)
        return piece

    def _ask(self, statement: Statement, name: str, user: Piece | None) -> Piece:
        piece = self.pieces.get(statement.index) or self._new_piece(statement, user)
        if name and name not in piece.needed:
            piece.needed[name] = None
            self._todo.append(piece)
        return piece

    def _is_ours(self, decorator: ast.expr) -> bool:
        """Tell whether a decorator declares an operation; exports have no pulpo to do that."""
        node: ast.AST = decorator
        while isinstance(node, ast.Call):
            node = node.func
        value = self._purity.value_of(node)
        if isinstance(node, ast.Attribute) and not _module_of(value):
            value = self._purity.value_of(node.value)  # @registry.register
        inner = attribute(value, "func", value)  # partial(operation, retries=2)
        return "pulpo" in (
            _module_of(value),
            _module_of(inner),
            type(value).__module__.split(".")[0],
        )

    def _kind(self, statement: Statement) -> Kind:
        node = statement.node
        if isinstance(node, ast.Import | ast.ImportFrom):
            return Kind.IMPORT
        if isinstance(node, ast.ClassDef):
            return Kind.MODEL
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return Kind.HELPER
        if isinstance(node, ast.If | ast.Try) and _holds_only_imports(node):
            read = [
                self._recorder.by_name[name][-1].node
                for name in self._recorder.names(statement).now
                if name in self._recorder.by_name and name not in statement.binds
            ]
            # `if FAST: import …` stands below what it reads.
            own = any(not isinstance(one, ast.Import | ast.ImportFrom) for one in read)
            return Kind.CONSTANT if own else Kind.IMPORT
        # By what its names are now: what `f = g` bound before `f = twice(f)` is not known when both
        # stand in one cell, as they do once an export is loaded.
        values = [self._namespace[name] for name in statement.binds if name in self._namespace]
        if any(isinstance(value, type) or _is_type_like(value) for value in values):
            return Kind.MODEL
        return Kind.HELPER if any(map(is_definition, values)) else Kind.CONSTANT

    def _find(self, name: str, user: Piece | None, when: str) -> Statement | None:
        """Return the statement that gave a name its value of now, None for builtins."""
        if name in self.frozen.names:
            return self._frozen(name, user)
        history = self._recorder.by_name.get(name, [])
        if name not in self._namespace or (not history and name in ("display", "get_ipython")):
            return self._missing(name, user, when, history)
        if not history:
            if name in self._builtins or name in _DUNDERS:  # IPython has an `open` of its own
                return None
            self._refuse_what_fails(name, self._namespace[name], user)
            self._refuse_unrecorded(name, user)
        value = self._namespace[name]
        self._refuse_what_fails(name, value, user)
        latest = history[-1]
        bound = latest.bound.get(name)
        rebound = any(name in self._recorder.names(s).rebinds for s in self._changers(name, bound))
        made = bound is not None and (bound.holds(value) and _made(latest, value))
        if not (made or (bound is not None and rebound)):
            self._refuse(
                name,
                user,
                f"it is not what cell {latest.cell} bound any more: something that runs outside "
                "the cells has changed it",
                f"Run cell {latest.cell} again.",
            )
        while isinstance(latest.node, ast.AugAssign) and len(history) > 1:  # n += 1
            history = history[:-1]
            latest = history[-1]
        return latest

    def _frozen(self, name: str, user: Piece | None) -> Statement:
        """Return a statement that gives a name its value of now."""
        statement = self.frozen.statement(name)
        if isinstance(statement, str):
            self._refuse(name, user, f"it cannot be frozen: {statement}", INSIDE)
        self.warnings[f"{name!r} is frozen: the export holds its value of now"] = None
        return statement

    def _changers(self, name: str, bound: Any) -> list[Statement]:
        """Look for them only when they matter: it takes a walk over the whole record."""
        if bound is None or bound.holds(self._namespace[name]):
            return []
        return self._constants.changers(name)

    def _missing(
        self, name: str, user: Piece | None, when: str, history: list[Statement]
    ) -> Statement | None:
        if when == "hints":  # only for type checkers: nobody may ever evaluate it
            typed = [one for one in history if is_type_checking(one.node)]
            return typed[-1] if typed else None
        if name in _FINDS_NAMES:
            self._warn(
                f"{name!r} finds only what the export holds, and it holds what is named", user
            )
        if name == "__file__":
            self._warn("'__file__' is the export's own file there", user)
        if name in self._builtins or name in _DUNDERS:
            return None
        if user is not None and isinstance(user.node, ast.If | ast.Try):
            self.tolerated.add(name)  # of a branch that was not taken
            return None
        if name == "display":
            self.stand_ins[name] = "display = print"
            self._warn("'display' becomes 'print' in the export", user)
            return None
        if name == "get_ipython":
            magic = user is None or IS_MAGIC.search(user.text)
            self._refuse(
                name,
                user,
                "a % or ! line needs IPython, which an export does not have"
                if magic
                else "it is there in a notebook only",
                "Use Python for it (subprocess.run, pathlib), or move it to a cell of its own."
                if magic
                else "Leave it out of what operations use: an export runs without IPython.",
            )
        if name in vars(builtins):
            why = "this session has put it among the builtins, or in place of one"
            self._refuse(name, user, why, "Give yours another name.")
        if name in self._recorder.deleted:
            why = f"it was deleted in cell {self._recorder.deleted[name]}"
        elif any(is_type_checking(one.node) for one in self._recorder.by_name.get(name, ())):
            why = "it is imported for type checkers only"
            fix = "A flow checks what it is given: import it without 'if TYPE_CHECKING'."
            self._refuse(name, user, why, fix)
        else:
            why = "it is not defined"
        others = [one for one in self._recorder.by_name if one != name]
        self._refuse(name, user, why, f"Define it in a cell.{did_you_mean(name, others)}")

    def _find_for_definition(self, name: str, piece: Piece) -> Statement | None:
        """Return what a name has to be bound to when a statement runs.

        That is its newest definition, unless the statement wraps an older one:
        ``old = f`` followed by a new ``def f`` that calls ``old``.
        """
        if name in piece.fixed:
            return piece.fixed[name]
        if name in self.frozen.names:
            return self._frozen(name, piece)
        here = piece.statement
        history = self._recorder.by_name.get(name, [])
        before = [one for one in history if one.index < here.index]
        if here in history or (before and before[-1] is not history[-1]):
            prior = before[-1] if before else None
            if here in history and not isinstance(here.node, ast.AugAssign):
                # f = wrap(f); a class that is called like a class it derives from
                if prior is None and name not in self._builtins:
                    self._refuse(name, piece, "it is used before it is defined", "Define it above.")
                return prior
            newest = history[-1]
            if prior is not None and self._wraps(here, prior, newest, name):
                return prior
            if read := self._recorder.read_before(here, name):
                return read
            if prior is not None and self._differs(name, prior, newest):
                fix = f"Run cell {here.cell} again"
                if newest.cell == prior.cell == here.cell:  # which does the same again
                    fix = f"Give one {name!r} another name"
                self._warn(
                    f"{piece.label!r} (cell {here.cell}) was made with an older {name!r}; the "
                    f"export makes it with that of cell {newest.cell}. {fix}",
                    None,
                )
        return self._find(name, piece, "now")

    def _differs(self, name: str, prior: Statement, newest: Statement) -> bool:
        """Tell whether a name means something else since a statement read it."""
        old = prior.bound.get(name)
        if old is not None and same(old.kept(), self._namespace.get(name)):
            return False  # an import cell that got one more name
        return ast.dump(prior.node) != ast.dump(newest.node)

    def _wraps(self, here: Statement, prior: Statement, newest: Statement, name: str) -> bool:
        """Tell whether ``here`` keeps an older definition alive for the newest, or for itself."""
        if self._leads_back(newest, here):
            return True
        if isinstance(here.node, ast.Assign) and isinstance(here.node.value, ast.Name):
            if not here.bound:  # its cell bound it again: `g = f; f = h; g = wrap(g)`
                return True
            kept = [bound.kept() for bound in here.bound.values()]
            old = prior.bound.get(name)
            return old is not None and any(one is not None and old.holds(one) for one in kept)
        return False

    def _leads_back(self, newest: Statement, here: Statement) -> bool:
        """Tell whether a statement reads what ``here`` binds, itself or by way of others."""
        names = self._recorder.names(newest)
        todo, seen = [(newest, name) for name in (*names.now, *names.later)], {newest.index}
        for one, name in todo:
            if name in here.binds:
                return True
            history = self._recorder.by_name.get(name)
            found = self._links.get((one.index, name)) or (history[-1] if history else None)
            if found is not None and found.index not in seen:
                seen.add(found.index)
                todo += [(found, each) for each in self._recorder.names(found).now]
        return False

    # -- what one piece needs

    def _expand(self, piece: Piece) -> None:
        if isinstance(piece.node, ast.Import | ast.ImportFrom):
            self._expand_attachments(piece)
            return
        own = set(piece.statement.binds)
        for name in piece.names.now:
            with self._may_be_refused():
                found = self._find_for_definition(name, piece)
                if found is not None:
                    self._links[piece.statement.index, name] = found
                self._link(piece, piece.now, found, name)
        for name in piece.names.later:
            if not (name in own and piece.kind is Kind.OPERATION):
                with self._may_be_refused():
                    self._link(piece, piece.later, self._find(name, piece, "later"), name)
        for name in self._asked_of_frames(piece) if _ASKS_FRAMES.search(piece.text) else ():
            if name in self._recorder.by_name and name in self._namespace:
                with self._may_be_refused():
                    self._link(piece, piece.later, self._find(name, piece, "later"), name)
        for name in piece.names.hints:
            with self._may_be_refused():
                self._link(piece, piece.hints, self._find(name, piece, "hints"), name)
        if "__subclasses__" in piece.text:
            self._counts_subclasses = True
        for module in imported_in_blocks(piece.node):
            with self._may_be_refused():
                self._reach(module, piece)
        for module in piece.names.modules:
            with self._may_be_refused():
                self._reach(module, piece)
            if module.split(".")[0] == "IPython":
                self._warn("'IPython' is there without a notebook", piece)
            self.modules_used[module] = None
        if isinstance(piece.node, _Definition) and not is_marked(piece.statement.text):
            with self._may_be_refused():
                self._check_definition(piece)
        self._expand_attachments(piece)

    def _asked_of_frames(self, piece: Piece) -> list[str]:
        names = names_in_queries(piece.node)
        if self._queries is None:
            texts = [one.text for one in self._recorder.statements]
            self._queries = any(".query(" in text or ".eval(" in text for text in texts)
        return [*names, *(names_in_conditions(piece.node) if self._queries else ())]

    def _link(
        self, piece: Piece, into: dict[Piece, None], statement: Statement | None, name: str
    ) -> None:
        if statement is not None and statement is not piece.statement:
            into[self._ask(statement, name, piece)] = None
            for other in self._submodules(statement, name):
                into[self._ask(other, name, piece)] = None
        elif statement is piece.statement:
            piece.needed[name] = None

    def _submodules(self, statement: Statement, name: str) -> Iterator[Statement]:
        """Yield the other imports behind a name: ``import a.b`` and ``import a.c`` both bind a."""
        if not isinstance(statement.node, ast.Import):
            return
        seen = {statement.text}
        for one in self._recorder.by_name.get(name, []):
            dotted = isinstance(one.node, ast.Import) and any(
                alias.name.startswith(f"{name}.") and not alias.asname for alias in one.node.names
            )
            if dotted and one.text not in seen:
                seen.add(one.text)
                yield one

    def _expand_attachments(self, piece: Piece) -> None:
        for name in piece.statement.binds:
            for statement in self._attachments.of(piece.statement, name):
                if self._recorder.is_replaced(statement):  # what it left is compared
                    continue
                problem = self._attachments.problem(statement, name)
                if problem and not is_marked(statement.text):
                    with self._may_be_refused():
                        self._refuse(
                            name, piece.user, problem, "Do it inside the operation.", of=piece
                        )
                self._warn_if_stale(statement)
                self._attach(piece, statement)

    def _warn_if_stale(self, statement: Statement) -> None:
        found = self._attachments.expression(statement)
        if found is None or is_marked(statement.text):
            return
        target, expression = found
        holder = self._purity.value_of(target.value)
        value = vars(holder).get(target.attr) if isinstance(holder, type) else None
        plain = type(value) in (bool, int, float, str, bytes, list, tuple, dict, set)
        if plain and not same(self._constants.evaluate(expression), value):
            self._warn(
                f"{ast.unparse(target)} is not what its line in cell {statement.cell} gives now: "
                "it was changed, or what it was made from. Run that cell again to see that here",
                None,
            )

    def _add_subclasses(self) -> bool:
        """Carry all subclasses where something asks for ``__subclasses__()``."""
        if not self._counts_subclasses:
            return False
        fresh = [one for one in self.pieces.values() if one not in self._with_subclasses]
        for piece in fresh:
            self._with_subclasses.add(piece)
            if isinstance(piece.node, ast.ClassDef):
                for statement in self._attachments.subclasses(piece.statement, piece.node.name):
                    self._attach(piece, statement)
        return bool(self._todo)

    def _attach(self, piece: Piece, statement: Statement) -> None:
        other = self._ask(statement, "", piece)
        piece.attached[other] = None
        if not statement.binds:
            other.kind = max(piece.kind, Kind.CONSTANT)
            if other.kind is Kind.OPERATION:
                other.kind = Kind.HELPER
        other.now[piece] = None
        other.fixed.update(dict.fromkeys(piece.statement.binds, piece.statement))

    def _is_current(self, piece: Piece, name: str) -> bool:
        history = self._recorder.by_name.get(name, [])
        newest = [one for one in history if not isinstance(one.node, ast.AugAssign)]
        return not newest or newest[-1] is piece.statement or piece.kind is Kind.IMPORT

    # -- may it leave?

    def _check(self, piece: Piece, name: str) -> None:
        node = piece.node
        if isinstance(node, ast.Import | ast.ImportFrom):
            self._check_import(piece, node, name)
        elif not isinstance(node, _Definition) and name in self._namespace:
            self._check_constant(piece, name)

    def _check_import(self, piece: Piece, node: ast.Import | ast.ImportFrom, name: str) -> None:
        for alias in node.names:
            if isinstance(node, ast.ImportFrom):
                if name not in (alias.asname or alias.name, "*") and alias.name != "*":
                    continue
                if node.level:
                    self._refuse(
                        name, piece.user, "a relative import", "Import it by its full name."
                    )
                module = node.module or ""
            else:
                if name != (alias.asname or alias.name.split(".")[0]):
                    continue
                module = alias.name
            if module.split(".")[0] == "pulpo":
                self._stand_in(piece, node, name)
            else:
                self._reach(module, piece)
                if module.split(".")[0] == "IPython":
                    self._warn(f"{name!r} needs IPython where the export runs", piece.user)

    def _stand_in(self, piece: Piece, node: ast.Import | ast.ImportFrom, name: str) -> None:
        value = self._namespace.get(name)
        if isinstance(value, types.ModuleType):
            for one in self.pieces.values():
                for part in ast.walk(one.node):
                    if (
                        isinstance(part, ast.Attribute)
                        and isinstance(part.value, ast.Name)
                        and part.value.id == name
                        and part.attr != "Model"
                    ):
                        self._refuse_pulpo(f"{name}.{part.attr}", one)
            self.stand_ins[name] = _PACKAGE_STAND_IN.format(name=name)
        elif attribute(value, "__name__", "") == "Model":
            self.stand_ins[name] = _MODEL_STAND_IN.format(name=name)
        else:
            self._refuse_pulpo(name, piece.user)

    def _refuse_pulpo(self, name: str, user: Piece | None) -> NoReturn:
        self._refuse(
            name, user, "an export runs without pulpo", "Leave it out of what operations use."
        )

    def _check_constant(
        self, piece: Piece, name: str, carried: Collection[str] | None = None
    ) -> None:
        if name in self.frozen.names or is_marked(piece.statement.text):
            return
        current = self._is_current(piece, name)
        outcome = self._constants.check(piece.statement, name, current=current, carried=carried)
        if outcome.waits:
            self._waiting.append((piece, name))
            return
        if outcome.problem:
            self._refuse(name, piece.user, outcome.problem, self._way_out(name, outcome.fix))
        if current and not outcome.warnings:
            self.settled.add(name)
        if outcome.warnings and not outcome.text:
            self._changed.add(piece)
        if outcome.text:  # what it was made of is not needed
            piece.text = outcome.text
            piece.node = ast.parse(outcome.text).body[0]
            piece.names = names_of(piece.node, lazy_annotations=piece.statement.future)
        for warning in outcome.warnings:
            self._warn(warning, None)
        for statement in outcome.also:
            self._attach(piece, statement)

    def _check_definition(self, piece: Piece) -> None:
        for name, why in self._definitions.live(piece.statement):
            self._refuse(name, piece, why, INSIDE)
        for warning in self._definitions.warnings(piece.statement):
            self._warn(warning, None)
        for warning in self._definitions.computed(piece.statement):
            self._warn(warning, None)

    def _reach(self, module: str, piece: Piece) -> None:
        file = self._modules.unreachable_file(module)
        if file:
            self._refuse(
                module,
                piece.user if isinstance(piece.node, ast.Import | ast.ImportFrom) else piece,
                f"it is a module in {file}, which the export cannot import",
                self._modules.way_in(module),
            )

    # -- saying so

    def _warn(self, text: str, user: Piece | None) -> None:
        path = f" (used by {' → '.join(user.path)})" if user is not None else ""
        self.warnings[f"{text}{path}"] = None

    def _refuse_what_fails(self, name: str, value: object, user: Piece | None) -> None:
        if error := error_of(value):
            why = (
                f"it is an object ({type(value).__name__}) that raises {error} when it is looked at"
            )
            self._refuse(name, user, why, INSIDE)

    def _refuse_unrecorded(self, name: str, user: Piece | None) -> NoReturn:
        setters = self._constants.changers(name)
        if setters:
            who = " and ".join(dict.fromkeys(repr(one.binds[0]) for one in setters if one.binds))
            fix = self._way_out(name, write_it(self._namespace[name]))
            self._refuse(name, user, f"it was set at run time by {who}", fix)
        if name.lstrip("_").isdigit() or name in ("In", "Out", "_", "__", "___"):
            self._refuse(name, user, "it is IPython's history", "Give the value a name of its own.")
        value = self._namespace[name]
        kind = live_kind(value) or in_memory(value) or f"a value ({type(value).__name__})"
        self._refuse(
            name,
            user,
            f"it is {kind} that no recorded cell made (a magic such as %run, exec, or a cell that "
            "ran before pulpo was loaded)",
            self._way_out(name, "Define it in a cell, and run that cell."),
        )

    def _way_out(self, name: str, fix: str) -> str:
        """Return a fix, with the offer to freeze a value that is small and plain enough."""
        if isinstance(self.frozen.text(name), str):
            return f"{fix} Or export its value of now, with --freeze {name}."
        return fix

    def _refuse(
        self, name: str, user: Piece | None, why: str, fix: str, *, of: Piece | None = None
    ) -> NoReturn:
        operation = (user or of).operation if (user or of) is not None else self._operation  # type: ignore[union-attr]
        who = f"operation {operation!r}" if operation else self._asker
        who = who or "the signatures of the flows"
        path = f" (used by {' → '.join(user.path)})" if user is not None else ""
        raise CarryError(
            f"{who}: cannot carry {name!r}{path}: {why}.", fix=fix, operation=operation
        )


def _made(statement: Statement, value: object) -> bool:
    """Tell whether a definition is the one that made a function, as far as can be seen."""
    node, inner = statement.node, unwrapped(value)
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return True
    if not isinstance(inner, types.FunctionType) or inner.__code__.co_name != node.name:
        return bool(node.decorator_list)  # a decorator may give anything
    lines = {node.lineno, *(decorator.lineno for decorator in node.decorator_list)}
    if inner.__code__.co_firstlineno in lines:
        return True
    body = ast.Module(body=[node], type_ignores=[])
    code = compile(body, "<carry>", "exec", dont_inherit=True)
    made = [one for one in code.co_consts if isinstance(one, types.CodeType)]
    return any(same_code(one, inner.__code__) for one in made)


def _module_of(value: object) -> str:
    return str(attribute(value, "__module__") or "").split(".")[0]


def _without_source(name: str, function: Callable[..., Any]) -> tuple[str, str]:
    """Return why no cell, and no name of a module, stands for an operation's function; the fix."""
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    path = getattr(function, "__qualname__", "")
    named = isinstance(function, types.FunctionType) and not path.endswith("<lambda>")
    if not named or module is None or module is sys.modules["__main__"]:
        return (
            "the source of its function cannot be reached",
            "Define it with def in a cell or in a module.",
        )
    outer, inside, _ = f"{module.__name__}.{path}".rpartition(".<locals>.")
    if inside:
        return (
            f"an export imports it by its name, and it was made inside of {outer}",
            "Define it at the top of the module; a decorator keeps its name with functools.wraps.",
        )
    if not hasattr(module, path.partition(".")[0]):
        return (
            f"the module {module.__name__} has no {path} any more",
            f"Forget it with '%pulpo remove {name}'.",
        )
    return (
        f"an export imports it by its name, and {module.__name__}.{path} is something else now",
        "Give each function of the module a name of its own, put @operation above all other "
        "decorators, and leave the module as it was imported.",
    )


def imported_in_blocks(node: ast.stmt) -> list[str]:
    """Return the modules that an ``if`` or ``try`` imports, as far as they are there."""
    found: dict[str, None] = {}
    if isinstance(node, ast.If | ast.Try) and not is_type_checking(node):
        for part in ast.walk(node):
            if isinstance(part, ast.Import):
                found.update((alias.name, None) for alias in part.names)
            elif isinstance(part, ast.ImportFrom) and part.module and not part.level:
                found[part.module] = None
    return [name for name in found if name in sys.modules]


def _label(node: ast.stmt) -> str:
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0])
    return call_text(node.value if isinstance(node, ast.Expr) else node).split("\n")[0]


def _is_type_like(value: object) -> bool:
    return type(value).__module__ in ("typing", "types", "typing_extensions") and not isinstance(
        value, types.FunctionType | types.BuiltinFunctionType | types.ModuleType
    )


def _holds_only_imports(node: ast.If | ast.Try) -> bool:
    bodies: list[ast.stmt] = [*node.body, *node.orelse]
    if isinstance(node, ast.Try):
        bodies += [part for one in node.handlers for part in one.body] + node.finalbody
    return all(
        isinstance(one, ast.Import | ast.ImportFrom | ast.Pass | ast.Assign) for one in bodies
    ) and any(isinstance(one, ast.Import | ast.ImportFrom) for one in bodies)
