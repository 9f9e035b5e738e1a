"""How ``%pulpo run`` at a cell's top level becomes an ``await`` on the kernel's own loop."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from .cells import walk_level

__all__ = ["ARUN", "AwaitedRuns"]

ARUN = "__pulpo_arun__"


class AwaitedRuns:
    """The input transformer that works on finished Python, where a magic is a call already.

    It makes an ``await`` of each run::

        run = get_ipython().run_line_magic('pulpo', 'run')  ->  run = (await __pulpo_arun__('run'))

    Parameters
    ----------
    possible
        Says whether this cell may await; inside functions and ``%%time`` the magic runs instead.
    """

    has_side_effects = True

    def __init__(self, possible: Callable[[], bool]) -> None:
        self._possible = possible

    def __call__(self, lines: list[str]) -> list[str]:
        """Return the lines with each run awaited."""
        source = "".join(lines)
        if "run_line_magic('pulpo', 'run" not in source or not self._possible():
            return lines
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError):
            return lines
        calls = [node for s in tree.body for node in walk_level(s) if _is_run(node)]
        changed = source.encode().split(b"\n")  # the tree counts columns in bytes
        for lineno, start, end, run in sorted(map(_place, calls), reverse=True):
            line = changed[lineno - 1]
            awaited = f"(await {ARUN}({run!r}))".encode()
            changed[lineno - 1] = line[:start] + awaited + line[end:]
        return b"\n".join(changed).decode().splitlines(keepends=True)


def _place(call: Any) -> tuple[int, int, int, str]:
    return call.lineno, call.col_offset, call.end_col_offset, call.args[1].value


def _is_run(node: ast.AST) -> bool:
    match node:
        case ast.Call(
            func=ast.Attribute(
                value=ast.Call(func=ast.Name(id="get_ipython")), attr="run_line_magic"
            ),
            args=[ast.Constant(value="pulpo"), ast.Constant(value=str() as line)],
            lineno=start,
            end_lineno=end,
        ):
            return start == end and line.split()[:1] == ["run"]
    return False
