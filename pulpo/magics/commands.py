"""The subcommands of ``%pulpo``: each calls the session and returns its result."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from IPython.core.getipython import get_ipython
from IPython.utils.capture import capture_output

from ..errors import BlockedFlowError, UsageError, did_you_mean
from ..session import ENGINES, RUNNERS, Part, Session
from .arguments import HelpRequested, Parser, split, whole
from .progress import ProgressLine, show

__all__ = ["COMMANDS", "Command", "Text", "arun", "execute", "help_text", "idle", "parse_command"]


class Text(str):
    """Text that a notebook shows as it stands, without quotes."""

    __slots__ = ()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One subcommand.

    Parameters
    ----------
    name, summary
        What it is called, and what it does in one line.
    add
        Adds its arguments to a parser. A metavar names what a completion offers.
    call
        Calls the session and returns what the cell shows.
    """

    name: str
    summary: str
    add: Callable[[Parser], object]
    call: Callable[[Session, argparse.Namespace], Any]


def execute(session: Session, line: str) -> Any:
    """Run what stands after ``%pulpo`` and return its result.

    Raises
    ------
    UsageError
        For a subcommand, flag or value that is not understood; nothing was done then.
    """
    try:
        command, arguments = parse_command(line)
        return idle(command.name) or command.call(session, arguments)
    except HelpRequested as request:
        return Text(request.text.rstrip())


def idle(name: str) -> Text | None:
    """Return what a subcommand answers while ``pulpo compile`` reads the notebook, else None."""
    if os.environ.get("PULPO_IDLE") == "1" and name in ("run", "export", "panel"):
        return Text(f"%pulpo {name} is idle: the notebook is being compiled.")
    return None


def parse_command(line: str) -> tuple[Command, argparse.Namespace]:
    """Return the subcommand of a line, and its arguments."""
    words = split(line.rstrip().removesuffix(";"))  # which hides a cell's last value elsewhere
    if not words or words[0] in ("-h", "--help"):
        raise HelpRequested(help_text())
    command = _command(words[0])
    return command, parser_of(command.name).parse(words[1:])


def _command(name: str) -> Command:
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        raise UsageError(f"%pulpo has no subcommand {name!r}.{hint} It has: {', '.join(COMMANDS)}.")
    return COMMANDS[name]


@cache
def parser_of(name: str) -> Parser:
    """Return the parser of the subcommand called ``name``."""
    command = COMMANDS[name]
    parser = Parser(prog=f"%pulpo {name}", description=f"{command.summary}.")
    command.add(parser)
    return parser


@cache
def help_text() -> str:
    """Return the list of subcommands, each with what it does."""
    width = max(len(name) for name in COMMANDS)
    rows = [f"  {command.name:{width}}  {command.summary}" for command in COMMANDS.values()]
    return "\n".join(
        [
            "usage: %pulpo SUBCOMMAND [...]",
            "",
            *rows,
            "",
            "'%pulpo SUBCOMMAND --help' says more; '%%operation --help' tells how to declare one.",
        ]
    )


def parameters_of(session: Session, words: Sequence[str] | None) -> dict[str, Any]:
    """Return the values of ``--param name=value``; ``name=@variable`` is the user's live object.

    Raises
    ------
    UsageError, UnknownNameError
        For what is no ``name=value``, a name given twice, or a variable that does not exist.
    """
    values: dict[str, Any] = {}
    for word in words or ():
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(
                f"%pulpo run: --param takes name=value or name=@variable, not {word!r}."
            )
        if name in values:
            raise UsageError(f"%pulpo run: --param gives {name!r} twice.")
        values[name] = session.variable(value[1:]) if value.startswith("@") else value
    return values


# --- The subcommands ----------------------------------------------------------------------------


def _compile(session: Session, arguments: argparse.Namespace) -> Any:
    report = session.compile(**_part(arguments))
    answer = Text(report.document().text()) if arguments.json else report
    try:
        report.raise_if_blocked()
    except BlockedFlowError:
        show(answer)
        raise
    return answer


def _graph(session: Session, arguments: argparse.Namespace) -> Any:
    picture = session.graph(
        arguments.view,
        flow=arguments.flow,
        depth=arguments.depth,
        around=arguments.around,
        hops=arguments.hops,
        **_part(arguments),
    )
    if arguments.output:
        return Text(f"written to {picture.save(arguments.output)}")
    if arguments.mermaid:
        return Text(picture.mermaid)
    return Text(picture) if arguments.text else picture


def _run(session: Session, arguments: argparse.Namespace) -> Any:
    run = session.run(arguments.flow, **_run_options(session, arguments))
    run.raise_for_failure()
    return run


async def arun(session: Session, arguments: argparse.Namespace) -> Any:
    """Do what ``%pulpo run`` does, on the running event loop."""
    run = await session.arun(arguments.flow, **_run_options(session, arguments))
    run.raise_for_failure()
    return run


def _run_options(session: Session, arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "parameters": parameters_of(session, arguments.param),
        "on_change": _progress(),
        "resume": arguments.resume,
        "changed": arguments.changed,
        "engine": arguments.engine,
        **_part(arguments),
    }


def _part(arguments: argparse.Namespace) -> Part:
    """Return the part of the session that the flags of a subcommand speak of."""
    flags = {name: getattr(arguments, name, None) for name in Part.__annotations__}
    return cast(Part, {name: value for name, value in flags.items() if value is not None})


def _progress() -> ProgressLine:
    return ProgressLine(in_a_kernel=getattr(get_ipython(), "kernel", None) is not None)


def _help(_session: Session, arguments: argparse.Namespace) -> Any:
    if arguments.subcommand is None:
        return Text(help_text())
    return Text(parser_of(_command(arguments.subcommand).name).format_help().rstrip())


def _panel(_session: Session, _arguments: argparse.Namespace) -> Any:
    # By name: the magics know no widgets, and most sessions never open a panel.
    return importlib.import_module("pulpo").panel()


def _load(session: Session, arguments: argparse.Namespace) -> Any:
    if arguments.output:
        return session.load_into(arguments.source, arguments.output, force=arguments.force)
    with session.undone_on_error():
        cells = session.load(arguments.source)
        replaced = session.replaced_by(cells)
        if replaced and not arguments.force:
            raise UsageError(
                f"loading {cells.title} would give {', '.join(map(repr, replaced))} another "
                "meaning in this session. Load it into a notebook of its own (-o FILE.ipynb), or "
                "with --force."
            )
        _run_cells(cells)
    return session.loaded(cells)


def _run_cells(cells: Any) -> None:
    shell: Any = get_ipython()
    said = []
    with _quietly(shell):
        for cell in cells.cells:
            with capture_output() as captured:
                done = shell.run_cell(cell.text, store_history=False)
            error = done.error_before_exec or done.error_in_exec
            if error is not None:
                raise UsageError(
                    f"{cells.title} was not loaded: {_begin(cell.text)} failed: "
                    f"{type(error).__name__}: {error}"
                ) from error
            said.append(captured)
    for captured in said:  # all of it, or nothing
        captured.show()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _quietly(shell: Any) -> Iterator[None]:
    """Let no cell show its last value, nor a traceback."""
    usual, shell.ast_node_interactivity = shell.ast_node_interactivity, "none"
    shell.showtraceback = shell.showsyntaxerror = lambda *_args, **_options: None
    try:
        yield
    finally:
        shell.ast_node_interactivity = usual
        del shell.showtraceback, shell.showsyntaxerror


def _begin(text: str) -> str:
    """Return the first line of a cell that says what it is."""
    lines = [line for line in text.split("\n") if line and not line.startswith("#")]
    return repr(lines[0] if lines else text)


def _flow(parser: Parser) -> None:
    parser.add_argument("flow", nargs="?", metavar="FLOW", help="a flow or group; default: all")


def _selection(parser: Parser) -> None:
    for flag, name, what in (
        ("--upto", "upto", "these operations and all that they need; a,b or several times"),
        ("--from", "from_", "these operations and all that need them; with --upto: in between"),
        ("--only", "only", "these operations alone"),
    ):
        parser.add_argument(flag, dest=name, action="append", metavar="OP", help=what)


def _shape(parser: Parser) -> None:
    parser.add_argument("--flat", action="store_true", help="one flow, no subflows")
    parser.add_argument("--runner", choices=RUNNERS, help="where operations run; default: async")


def _add_compile(parser: Parser) -> None:
    _selection(parser)
    _shape(parser)
    parser.add_argument("--json", action="store_true", help="the whole plan, for machines")


def _add_graph(parser: Parser) -> None:
    _flow(parser)
    views = ("both", "dataflow", "hierarchy")
    parser.add_argument("--view", choices=views, default="both", help="what is drawn")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--text", action="store_true", help="as a text tree")
    form.add_argument("--mermaid", action="store_true", help="as Mermaid text, for Markdown")
    form.add_argument(
        "--output", "-o", metavar="FILE", help="into a .svg .png .pdf .dot .txt .mmd or .md file"
    )
    parser.add_argument("--depth", type=whole, metavar="N", help="so many levels of groups")
    parser.add_argument("--around", metavar="OPERATION", help="what is next to one operation")
    parser.add_argument("--hops", type=whole, metavar="N", help="how far --around goes; default: 1")
    _selection(parser)


def _add_list(parser: Parser) -> None:
    what = ("operations", "models", "flows")
    parser.add_argument("what", nargs="?", choices=what, default="operations", help="of what")


def _add_preview(parser: Parser) -> None:
    _flow(parser)
    _selection(parser)
    _shape(parser)


def _add_run(parser: Parser) -> None:
    _flow(parser)
    parser.add_argument(
        "--param",
        action="append",
        metavar="NAME=VALUE",
        help="a flow parameter; NAME=@variable gives an object of the notebook",
    )
    parser.add_argument(
        "--engine", choices=ENGINES, default="prefect", help="local: the same, without Prefect"
    )
    earlier = parser.add_mutually_exclusive_group()
    earlier.add_argument(
        "--resume", action="store_true", help="go on with the last run, which failed or was stopped"
    )
    earlier.add_argument(
        "--changed",
        action="store_true",
        help="keep results, and run what changed since they were kept",
    )
    _selection(parser)
    _shape(parser)


def _add_export(parser: Parser) -> None:
    _flow(parser)
    parser.add_argument("--to", metavar="FOLDER", help="default: run_cache")
    parser.add_argument(
        "--force", action="store_true", help="replace files that were edited by hand (backed up)"
    )
    parser.add_argument(
        "--freeze",
        action="append",
        metavar="NAME",
        help="write a variable's value of now as a literal; a,b or several times",
    )
    parser.add_argument(
        "--lock", action="store_true", help="lock all packages beside each flow, for uv run"
    )
    _selection(parser)
    _shape(parser)


def _add_check(parser: Parser) -> None:
    parser.add_argument("--export", action="store_true", help="also what an export would refuse")


def _add_diff(parser: Parser) -> None:
    parser.add_argument(
        "folder", nargs="?", metavar="FOLDER", help="the export; default: run_cache"
    )


def _add_load(parser: Parser) -> None:
    parser.add_argument(
        "source",
        nargs="?",
        metavar="SOURCE",
        help="an export's folder, or a module, which is executed; default: run_cache",
    )
    parser.add_argument(
        "--output", "-o", metavar="FILE", help="into a new notebook, instead of this session"
    )
    parser.add_argument(
        "--force", action="store_true", help="give names of this session, or a file, a new content"
    )


def _add_operation(parser: Parser) -> None:
    parser.add_argument("operation", metavar="OPERATION", help="its dotted name")


def _add_help(parser: Parser) -> None:
    parser.add_argument("subcommand", nargs="?", metavar="SUBCOMMAND", help="which")


def _nothing(_parser: Parser) -> None:
    pass


def _table(*commands: Command) -> dict[str, Command]:
    return {command.name: command for command in commands}


COMMANDS = _table(
    Command(
        name="compile",
        summary="Say which flows come out, what is wrong and how to mend it",
        add=_add_compile,
        call=_compile,
    ),
    Command(
        name="graph",
        summary="Draw the operations and the data between them",
        add=_add_graph,
        call=_graph,
    ),
    Command(
        name="list",
        summary="List the operations, the models or the flows",
        add=_add_list,
        call=lambda session, arguments: session.listing(arguments.what),
    ),
    Command(
        name="show",
        summary="Show one operation: its source and its ports",
        add=_add_operation,
        call=lambda session, arguments: session.show(arguments.operation),
    ),
    Command(
        name="preview",
        summary="Show the Prefect code of the flows",
        add=_add_preview,
        call=lambda session, arguments: session.preview(arguments.flow, **_part(arguments)),
    ),
    Command(
        name="run",
        summary="Run a flow in this kernel, and keep its results",
        add=_add_run,
        call=_run,
    ),
    Command(
        name="export",
        summary="Write files that run without the notebook",
        add=_add_export,
        call=lambda session, arguments: session.export(
            arguments.to,
            force=arguments.force,
            flow=arguments.flow,
            freeze=arguments.freeze or (),
            lock=arguments.lock,
            **_part(arguments),
        ),
    ),
    Command(
        name="load",
        summary="Turn an export, or a module, back into operations of this session",
        add=_add_load,
        call=_load,
    ),
    Command(
        name="diff",
        summary="Say what changed since the last export",
        add=_add_diff,
        call=lambda session, arguments: session.diff(arguments.folder),
    ),
    Command(
        name="check",
        summary="Look for problems and give hints",
        add=_add_check,
        call=lambda session, arguments: session.check(export=arguments.export),
    ),
    Command(name="panel", summary="Show all of this as a panel", add=_nothing, call=_panel),
    Command(
        name="status",
        summary="Say what the session holds",
        add=_nothing,
        call=lambda session, _arguments: session.status(),
    ),
    Command(
        name="remove",
        summary="Forget one operation",
        add=_add_operation,
        call=lambda session, arguments: session.remove(arguments.operation),
    ),
    Command(
        name="clear",
        summary="Forget every operation",
        add=_nothing,
        call=lambda session, _arguments: session.clear(),
    ),
    Command(name="help", summary="Show this list, or the help of one", add=_add_help, call=_help),
)
