"""Everything that loading pulpo puts into an IPython shell, and unloading takes out again."""

from __future__ import annotations

import builtins
import importlib
import os
import weakref
from collections.abc import Callable
from typing import Any

from IPython.core.magic import no_var_expand

from .. import session as sessions
from ..errors import UsageError
from ..session import Session
from .arguments import HelpRequested, operation_parser, parse_operation
from .awaiting import ARUN, AwaitedRuns
from .cells import BEGIN, DECLARE, CellText, CellTree, Content, choose_function
from .commands import Text, arun, execute, help_text, idle, parse_command
from .completion import make_matcher
from .progress import show
from .running import RunningCells

__all__ = ["Extension"]

_extensions: weakref.WeakKeyDictionary[Any, Extension] = weakref.WeakKeyDictionary()


class Extension:
    """Pulpo in one shell.

    Parameters
    ----------
    shell
        The IPython shell.
    session
        Where everything goes; it outlives reloading.
    """

    def __init__(self, shell: Any, session: Session) -> None:
        self.session = session
        self._shell = weakref.ref(shell)
        self._cells = RunningCells(weakref.proxy(shell), session)
        self._loaded = False
        self._matcher = make_matcher(session)
        self._text = CellText(self._transform_magics)
        self._tree = CellTree()
        self._awaited = AwaitedRuns(self._may_await)
        self._note_inner = self._cells.note_inner
        self._magics = _magics(self)

    @classmethod
    def of(cls, shell: Any) -> Extension:
        """Return the shell's extension, loaded or not."""
        if shell not in _extensions:
            _extensions[shell] = cls(shell, sessions.current())
        return _extensions[shell]

    @property
    def shell(self) -> Any:
        """The IPython shell."""
        return self._shell()

    def load(self) -> None:
        """Register magics, transformers, completion and the record of cells."""
        if self._loaded:
            return
        self._loaded = True
        shell = self.shell
        self.session.attach(shell.user_ns)
        for kind, name, magic in self._magics:
            shell.register_magic_function(magic, kind, name)
        shell.input_transformers_cleanup.append(self._text)
        shell.input_transformers_post.extend([self._awaited, self._note_inner])
        shell.ast_transformers.append(self._tree)
        shell.Completer.custom_matchers.append(self._matcher)
        shell.events.register("pre_run_cell", self._cells.before)
        shell.events.register("pre_run_cell", self._note_place)
        shell.events.register("post_run_cell", self._cells.after)
        # Cells call these by name. As builtins they stay out of the namespace, and survive %reset.
        for name, function in self._builtins():
            setattr(builtins, name, function)
        self._cells.start()

    def unload(self) -> None:
        """Take everything out again."""
        if not self._loaded:
            return
        self._loaded = False
        shell = self.shell
        for kind, name, _ in self._magics:
            shell.magics_manager.magics[kind].pop(name, None)
        _drop(shell.input_transformers_cleanup, self._text)
        _drop(shell.input_transformers_post, self._awaited)
        _drop(shell.input_transformers_post, self._note_inner)
        _drop(shell.ast_transformers, self._tree)
        _drop(shell.Completer.custom_matchers, self._matcher)
        shell.events.unregister("pre_run_cell", self._cells.before)
        shell.events.unregister("pre_run_cell", self._note_place)
        shell.events.unregister("post_run_cell", self._cells.after)
        for name, _ in self._builtins():
            if hasattr(builtins, name):
                delattr(builtins, name)
        self._cells.stop()

    def _note_place(self, _info: Any) -> None:
        """Let @operation know in which cell it stands."""
        cell = self._cells.current
        place = self.session.registry.cell = f"cell {cell.number}" if cell else ""
        if cell:
            self.session.note_cell(place, cell.identity)

    # --- What cells call ------------------------------------------------------------------------

    def begin(self, line: str, **content: Any) -> None:
        """Check an operation's line, before anything else in its cell runs."""
        if not content:
            raise UsageError("pulpo's part in compiling cells is gone. Run '%reload_ext pulpo'.")
        arguments = parse_operation(line)
        self.session.check_declaration(name=arguments.name, flags=arguments.flags)
        choose_function(arguments, Content(**content))

    def declare(self, line: str, function: Callable[..., Any]) -> None:
        """Declare the cell's function, and answer with one line."""
        arguments = parse_operation(line)
        cell = self._cells.current
        declared = self.session.declare(
            function,
            name=arguments.name,
            cell=f"cell {cell.number}" if cell else "",
            identity=self._cells.identity,
            flags=arguments.flags,
        )
        show({"text/plain": str(declared)}, raw=True)
        _warm_up()

    async def arun(self, line: str) -> Any:
        """Run a flow on the loop of the cell that awaits this."""
        try:
            command, arguments = parse_command(line)
        except HelpRequested as request:
            return Text(request.text.rstrip())
        return idle(command.name) or await arun(self.session, arguments)

    def _builtins(self) -> list[tuple[str, Callable[..., Any]]]:
        return [(BEGIN, self.begin), (DECLARE, self.declare), (ARUN, self.arun)]

    def _transform_magics(self, lines: list[str]) -> list[str]:
        done: list[str] = self.shell.input_transformer_manager.do_token_transforms(lines)
        return done

    def _may_await(self) -> bool:
        shell = self.shell
        if self._cells.is_inside_a_cell():
            return False
        runner = getattr(shell, "loop_runner_map", {}).get("asyncio", (None,))[0]
        in_a_kernel = getattr(shell, "kernel", None) is not None
        return in_a_kernel and bool(shell.autoawait) and shell.loop_runner is runner


def _warm_up() -> None:
    """Start to import Prefect in the background; ``PULPO_NO_WARMUP=1`` leaves that to the run."""
    if os.environ.get("PULPO_NO_WARMUP") != "1":
        importlib.import_module("pulpo.runner").warm_up()


def _drop(items: list[Any], item: Any) -> None:
    items[:] = [other for other in items if other is not item]


def _magics(extension: Extension) -> list[tuple[str, str, Callable[..., Any]]]:
    """Return the magics, as kind, name and function."""

    @no_var_expand  # type: ignore[untyped-decorator, unused-ignore]
    def pulpo(line: str) -> Any:
        return execute(extension.session, line)

    @no_var_expand  # type: ignore[untyped-decorator, unused-ignore]
    def operation(line: str, cell: str | None = None) -> Any:
        try:
            arguments = parse_operation(line)
        except HelpRequested as request:
            return Text(request.text.rstrip())
        if cell is None:
            raise UsageError(
                f"%operation {arguments.name} goes on the first line of its cell, "
                "above everything but comments."
            )
        # A magic above this one, or run_cell_magic, hands over the body; there, like in %%time,
        # the cell is compiled as a whole and cannot await.
        shell = extension.shell
        source = shell.transform_cell(f"%%operation {line}\n{cell}")
        tree = shell.transform_ast(shell.compile.ast_parse(source))
        filename = shell.compile.cache(source, raw_code=cell)
        exec(shell.compile(tree, filename, "exec"), shell.user_ns)
        return None

    pulpo.__doc__ = help_text()
    operation.__doc__ = operation_parser().format_help()
    return [
        ("line", "pulpo", pulpo),
        ("line", "operation", operation),
        ("cell", "operation", operation),
        # '%%operation' below the first line is to IPython the line magic '%operation'.
        ("line", "%operation", operation),
    ]
