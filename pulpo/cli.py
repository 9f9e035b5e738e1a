"""The ``pulpo`` command, and `CLI`: the same from Python."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from .errors import MissingProgramError, PulpoError, UnknownNameError, UsageError, did_you_mean
from .loading import import_source, near
from .session import Session, current

if TYPE_CHECKING:
    from .services.prefect import Status

__all__ = ["CLI", "IDLE", "app", "main"]

#: Set in the kernel that reads a notebook: ``%pulpo run``, ``panel`` and ``export`` idle there.
IDLE = "PULPO_IDLE"


class CLI:
    """The commands of ``pulpo`` over the operations that this process has declared.

    Parameters
    ----------
    run_cache_dir
        The export folder; what the settings say when left out.
    verbose
        Print what is done.
    """

    def __init__(
        self, run_cache_dir: str | Path | None = None, verbose: bool | None = None
    ) -> None:
        from .settings import load_settings

        self.settings = load_settings(cache_dir=run_cache_dir, verbose=verbose)
        self._session = current()

    def compile(self) -> Path:
        """Compile the declared operations, write the export, and return its folder.

        Raises
        ------
        BlockedFlowError, CarryError, ExportError
            Nothing was written then.
        """
        report = self._session.compile()
        report.raise_if_blocked()
        exported = self._session.export(self.settings.cache_dir)
        self._say(exported)
        return exported.folder

    def list_operations(self) -> list[str]:
        """Return the names of the operations, in order."""
        self._say(self._session.listing("operations"))
        return [operation.name for operation in self._session.operations]

    def list_models(self) -> list[str]:
        """Return the short names of the models that operations take and give, in order."""
        listing = self._session.listing("models")
        self._say(listing)
        return [row[0] for row in listing.rows]

    def clean(self) -> list[str]:
        """Remove the export, except for files that were edited by hand; return what was removed."""
        from .exports import remove_export

        removed = remove_export(self.settings.cache_dir)
        self._say(f"{len(removed)} files removed from {self.settings.cache_dir}/")
        return removed

    def up(self) -> None:
        """Start all services."""
        raise _no_services("up", "pulpo prefect start")

    def down(self) -> None:
        """Stop the services that pulpo started."""
        raise _no_services("down", "pulpo prefect stop")

    def prefect(self, cmd: str = "start") -> str:
        """Start, stop or restart the Prefect server that is kept, or tell its status or its log.

        Raises
        ------
        UsageError
            For another ``cmd``.
        ServerError
            When the server does not start, or cannot be stopped.
        """
        if cmd not in _PREFECT:
            near = did_you_mean(cmd, _PREFECT)
            raise UsageError(f"no command 'prefect {cmd}'.{near} There are: {', '.join(_PREFECT)}.")
        said = _PREFECT[cmd](self._say)
        self._say(said)
        return said

    def api(self, cmd: str = "start") -> None:
        """Run the API."""
        raise _no_services(f"api {cmd}", "the session's Python functions, such as pulpo.run()")

    def db(self, cmd: str = "start") -> None:
        """Run Prefect's database."""
        raise _no_services(f"db {cmd}", "prefect server database")

    def ui(self, cmd: str = "start") -> None:
        """Serve the panel as a page."""
        raise _no_services(f"ui {cmd}", "%pulpo panel in JupyterLab")

    def init(self) -> None:
        """Prepare Prefect's database."""
        raise _no_services("init", "prefect server database upgrade -y")

    def _say(self, what: object) -> None:
        if self.settings.verbose:
            print(what)


def _no_services(command: str, instead: str) -> MissingProgramError:
    return MissingProgramError(
        f"'pulpo {command}' is not part of this version, which serves Prefect alone. "
        f"Use {instead} instead."
    )


def _start_prefect(say: Callable[[str], None], **options: Any) -> str:
    from .services import prefect

    server, is_new = prefect.start(say=say, **options)
    return _about(server, "Prefect's server runs at" if is_new else "It runs already, at")


def _restart_prefect(say: Callable[[str], None], **options: Any) -> str:
    from .services import prefect

    return _about(prefect.restart(say=say, **options), "Prefect's server runs at")


def _stop_prefect(say: Callable[[str], None]) -> str:
    from .services import prefect

    was = prefect.stop()
    if was.health == "stopped":
        return "No Prefect server that pulpo started is running."
    return f"Stopped Prefect's server at {was.address} (process {was.pid})."


def _prefect_log(say: Callable[[str], None], lines: int = 50) -> str:
    from .services import prefect

    path = prefect.log_file()
    if not path.is_file():
        return "There is no log: no server was started yet."
    kept = path.read_text("utf-8", "replace").rstrip().split("\n")
    return "\n".join(kept[-lines:])


def _about(server: Status, lead: str) -> str:
    """Say in a few lines where a server is, what stays of it, and how to use it."""
    from .services import prefect

    stays = f"Its history stays in {server.database}"
    if server.database == prefect.MEMORY:
        stays = "Its history is in memory, and ends with it"
    pages = "" if server.ui else " (without pages)"
    return (
        f"{lead} {server.address}{pages}. {stays}.\n"
        "Notebooks find it by themselves; for other programs: "
        f"export PREFECT_API_URL={server.api}"
    )


def _prefect_status(say: Callable[[str], None]) -> str:
    from .services import prefect

    return str(prefect.status())


_PREFECT: dict[str, Callable[..., str]] = {
    "start": _start_prefect,
    "stop": _stop_prefect,
    "restart": _restart_prefect,
    "status": _prefect_status,
    "logs": _prefect_log,
}


# --- The command ----------------------------------------------------------------------------------

app = typer.Typer(
    name="pulpo",
    help="Turn notebook cells and typed functions into orchestrated Prefect flows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SOURCE]...",
        help="A notebook, or modules or packages (paths or dotted names); "
        "default: [tool.pulpo] sources.",
        show_default=False,
    ),
]
Flow = Annotated[str | None, typer.Option("--flow", help="A flow or group; default: everything.")]
Upto = Annotated[
    list[str] | None,
    typer.Option(
        "--upto",
        metavar="OP",
        help="These operations and all that they need; a,b or several times.",
    ),
]
From = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        metavar="OP",
        help="These operations and all that need them; with --upto: what lies between.",
    ),
]
Only = Annotated[
    list[str] | None, typer.Option("--only", metavar="OP", help="These operations alone.")
]
Flat = Annotated[bool, typer.Option("--flat", help="One flow, no subflows.")]
Where = Annotated[
    str,
    typer.Option("--runner", help="Where operations run: async, threads, process, dask or ray."),
]
Folder = Annotated[Path | None, typer.Option("--to", help="The export folder; default: run_cache.")]


@app.command("compile")
def compile_command(
    sources: Sources = None,
    to: Folder = None,
    flow: Flow = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files edited by hand (each is kept as .bak).")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report only; write no export.")
    ] = False,
    freeze: Annotated[
        list[str] | None,
        typer.Option("--freeze", metavar="NAME", help="Write a variable's value as a literal."),
    ] = None,
    lock: Annotated[
        bool, typer.Option("--lock", help="Lock all packages beside each flow, for uv run.")
    ] = False,
    upto: Upto = None,
    from_: From = None,
    only: Only = None,
    flat: Flat = False,
    runner: Where = "async",
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the whole plan, for machines; the rest goes to stderr."),
    ] = False,
) -> None:
    """Say which flows come out of SOURCE and what is wrong, and write the export."""
    part = _part(upto, from_, only, flat=flat, runner=runner)
    options = {
        "force": force,
        "dry_run": dry_run,
        "freeze": freeze or (),
        "lock": lock,
        "as_json": as_json,
        **_export_folder(to),
    }
    _on(sources, "compile", flow=flow, part=part, **options)


@app.command("diff")
def diff_command(
    sources: Sources = None,
    to: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Say what of SOURCE changed since the last export, and write nothing.

    The exit status is 0 when nothing did, and 1 when something did, there is no export, or SOURCE
    cannot be read.
    """
    _on(sources, "diff", as_json=as_json, **_export_folder(to))


@app.command("run")
def run_command(
    sources: Sources = None,
    flow: Flow = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="NAME=VALUE", help="A flow parameter; may be repeated."),
    ] = None,
    upto: Upto = None,
    from_: From = None,
    only: Only = None,
    flat: Flat = False,
    runner: Where = "async",
    engine: Annotated[
        str, typer.Option("--engine", help="prefect, or local: the same, without Prefect.")
    ] = "prefect",
    changed: Annotated[
        bool,
        typer.Option("--changed", help="Keep results, and run what changed since they were kept."),
    ] = False,
) -> None:
    """Run a flow of SOURCE, and print what each operation did and the result."""
    parameters = {}
    for word in param or []:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"--param takes NAME=VALUE, not {word!r}.")
        parameters[name] = value
    part = _part(upto, from_, only, flat=flat, runner=runner)
    options = {"parameters": parameters, "engine": engine, "changed": changed}
    _on(sources, "run", flow=flow, part=part, **options)


@app.command("graph")
def graph_command(
    sources: Sources = None,
    flow: Flow = None,
    view: Annotated[
        str, typer.Option("--view", help="What is drawn: both, dataflow or hierarchy.")
    ] = "both",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file: .svg .png .pdf .dot .txt .mmd or .md."),
    ] = None,
    depth: Annotated[
        int | None, typer.Option("--depth", help="Draw so many levels of groups.")
    ] = None,
    around: Annotated[
        str | None,
        typer.Option("--around", metavar="OPERATION", help="Draw what is next to one operation."),
    ] = None,
    hops: Annotated[
        int | None, typer.Option("--hops", help="How far --around goes; 1 by default.")
    ] = None,
    mermaid: Annotated[
        bool, typer.Option("--mermaid", help="Print Mermaid text, for Markdown.")
    ] = False,
    upto: Upto = None,
    from_: From = None,
    only: Only = None,
) -> None:
    """Draw the graph of SOURCE: as text, or into a file."""
    if mermaid and output and output.suffix.lower() not in (".mmd", ".md"):
        raise UsageError(
            f"--mermaid writes .mmd or .md, not {output.name!r}: leave it out, or end the name so."
        )
    target = str(output.absolute()) if output else None
    _on(
        sources,
        "graph",
        flow=flow,
        part={**_part(upto, from_, only), "depth": depth, "around": around, "hops": hops},
        view=view,
        output=target,
        shown=str(output or ""),
        mermaid=mermaid,
    )


@app.command("check")
def check_command(
    sources: Sources = None,
    export: Annotated[
        bool, typer.Option("--export", help="Also what an export would refuse.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """List every problem of SOURCE with its place and its fix; status 1 if one is an error."""
    _on(sources, "check", export=export, as_json=as_json)


@app.command("load")
def load_command(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[SOURCE]",
            help="The folder of an export, or a module; default: run_cache.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The notebook; default: its name."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a notebook that is there.")
    ] = False,
) -> None:
    """Write an export, or a module with operations, as a notebook of %%operation cells."""
    stem = Path(source or _folder(None)).name.removesuffix(".py").rpartition(".")[2]
    print(current().load_into(source, output or f"{stem}.ipynb", force=force))


@app.command("clean")
def clean_command(
    to: Folder = None,
    force: Annotated[
        bool, typer.Option("--force", help="Remove files edited by hand too.")
    ] = False,
) -> None:
    """Remove the export: the files that pulpo wrote, and nothing else."""
    from .exports import remove_export

    folder = _folder(to)
    removed = remove_export(folder, force=force)
    typer.echo(f"{len(removed)} files removed from {folder.name}/")


@app.command("version")
def version_command(
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Print the versions of pulpo, Prefect and Python."""
    from importlib.metadata import version

    found = {name: version(name) for name in ("pulpo", "prefect")}
    found["python"] = ".".join(map(str, sys.version_info[:3]))
    if as_json:
        typer.echo(json.dumps(found))
    else:
        typer.echo("\n".join(f"{name} {number}" for name, number in found.items()))


prefect_app = typer.Typer(
    help="A Prefect server on this machine that outlives notebooks, which find it by themselves.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(prefect_app, name="prefect")

Port = Annotated[
    int | None,
    typer.Option("--port", help="Its port on 127.0.0.1; default: 4200, or one that is free."),
]
Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="postgresql+asyncpg://…, sqlite+aiosqlite:///…, or memory; default: an SQLite file.",
    ),
]


@prefect_app.command("start")
def prefect_start(
    port: Port = None,
    database: Database = None,
    ui: Annotated[bool, typer.Option("--ui/--no-ui", help="Serve Prefect's pages.")] = True,
) -> None:
    """Start the server, unless it runs, and print its address."""
    typer.echo(_start_prefect(_whisper, port=port, database=database, ui=ui))


@prefect_app.command("stop")
def prefect_stop() -> None:
    """Stop the server that pulpo started, and nothing else."""
    typer.echo(_stop_prefect(_whisper))


@prefect_app.command("restart")
def prefect_restart(
    port: Port = None,
    database: Database = None,
    ui: Annotated[
        bool | None, typer.Option("--ui/--no-ui", help="Serve Prefect's pages; default: as before.")
    ] = None,
) -> None:
    """Stop the server and start it again, with what it had where nothing else is said."""
    typer.echo(_restart_prefect(_whisper, port=port, database=database, ui=ui))


@prefect_app.command("status")
def prefect_status(
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Say where the server is and how it is; the exit status is 1 when it does not answer."""
    from .services import prefect

    server = prefect.status()
    typer.echo(json.dumps(server.as_json()) if as_json else str(server))
    if server.health != "ok":
        raise typer.Exit(1)


@prefect_app.command("logs")
def prefect_logs(
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=1, help="How many, from the end.")
    ] = 50,
) -> None:
    """Print the end of the server's log."""
    typer.echo(_prefect_log(_whisper, lines))


def _whisper(text: str) -> None:
    typer.echo(text, err=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the ``pulpo`` command; our errors end it with one line and status 1."""
    try:
        app(args=list(arguments) if arguments is not None else None, prog_name="pulpo")
    except PulpoError as error:
        Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(f"pulpo: {error}")
        raise SystemExit(1) from None


def _part(
    upto: list[str] | None, from_: list[str] | None, only: list[str] | None, **shape: Any
) -> dict[str, Any]:
    names = {"upto": upto, "from_": from_, "only": only}
    return {**{flag: given for flag, given in names.items() if given}, **shape}


def _export_folder(given: Path | None) -> dict[str, str]:
    """Return the export folder for another process, and what it is called in this one."""
    folder = _folder(given)
    return {"to": str(folder.absolute()), "shown": folder.as_posix()}


def _folder(given: Path | None) -> Path:
    from .settings import load_settings

    return load_settings(cache_dir=given).cache_dir


# --- Sources --------------------------------------------------------------------------------------


def _on(sources: Sequence[str] | None, action: str, **options: Any) -> None:
    """Read the sources, then act on the session that they make."""
    from .settings import load_settings

    given = list(sources or load_settings().sources)
    if not given:
        raise UsageError(
            "nothing to read: name a notebook, a module or a package, or set 'sources' under "
            "[tool.pulpo] in pyproject.toml."
        )
    notebooks = [source for source in given if source.endswith(".ipynb")]
    if notebooks and len(given) > 1:
        raise UsageError("give one notebook alone, or modules and packages.")
    if notebooks:
        _act_in_notebook(Path(notebooks[0]), action, options)
        return
    for source in given:
        import_source(source)
    act(current(), action, options)


def act(session: Session, action: str, options: dict[str, Any]) -> None:
    """Do one command on a session, and print what came of it."""
    if action == "check":
        checked = session.check(export=options["export"])
        print(checked.json() if options["as_json"] else checked)
        checked.raise_if_invalid()
        return
    if action == "diff":
        diff = session.diff(options["to"], shown_as=options["shown"])
        print(diff.json() if options["as_json"] else diff)
        if diff.differs:
            raise typer.Exit(1)
        return
    part = options["part"]
    if action == "graph":
        picture = session.graph(options["view"], flow=options["flow"], **part)
        if options["output"]:
            picture.save(options["output"])
            print(f"written to {options['shown']}")
        else:
            print(picture.mermaid if options["mermaid"] else picture)
        return
    if action == "compile":
        report = session.compile(**part)
        print(report.document().text() if options["as_json"] else report)
        report.raise_if_blocked()
        if not options["dry_run"]:
            exported = session.export(
                options["to"],
                flow=options["flow"],
                force=options["force"],
                freeze=options["freeze"],
                lock=options["lock"],
                shown_as=options["shown"],
                **part,
            )
            print(exported, file=sys.stderr if options["as_json"] else sys.stdout)
        return
    how = {name: options[name] for name in ("engine", "changed")}
    run = session.run(options["flow"], options["parameters"], **how, **part)
    print(run)
    if run.url:
        print(f"in Prefect: {run.url}", file=sys.stderr)
    run.raise_for_failure()
    if run.result is not None:
        print(f"\n{run.result}")


def _act_in_notebook(path: Path, action: str, options: dict[str, Any]) -> None:
    """Execute a notebook in a fresh kernel, in its own folder, and act on its session there."""
    import nbformat
    from nbclient import NotebookClient
    from traitlets.config import Config

    if not path.is_file():
        raise UnknownNameError(f"there is no notebook {str(path)!r}.{near(path)}")
    try:
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    except Exception as error:
        raise UsageError(f"{str(path)!r} is no notebook: {error}") from error
    with tempfile.TemporaryDirectory(prefix="pulpo-") as private:
        client = NotebookClient(
            notebook,
            timeout=None,
            allow_errors=True,
            config=Config(KernelManager=_transport(private)),
            resources={"metadata": {"path": str(path.absolute().parent)}},
        )
        with client.setup_kernel(env={**os.environ, IDLE: "1"}):
            failed = _execute_cells(client, notebook)
            source = _worker(action, options)
            cell = nbformat.v4.new_code_cell(source)  # type: ignore[no-untyped-call]
            notebook.cells.append(cell)
            client.execute_cell(cell, len(notebook.cells) - 1)
    for output in cell.outputs:
        if output.output_type == "stream":
            stream = sys.stdout if output.name == "stdout" else sys.stderr
            stream.write(output.text)
    _raise_error_of(cell)
    if failed:
        number, why = failed[0]
        more = f", and {len(failed) - 1} after it" if len(failed) > 1 else ""
        typer.echo(
            f"note: cell {number}{more} failed, since nothing runs while a notebook is compiled: "
            f"{why}",
            err=True,
        )


def _transport(private: str) -> dict[str, str]:
    """Let the kernel talk through files of this user, where the system has such sockets."""
    return {} if os.name == "nt" else {"transport": "ipc", "ip": str(Path(private) / "kernel")}


def _execute_cells(client: Any, notebook: Any) -> list[tuple[int, str]]:
    """Execute the cells; return those that failed after something in the notebook was idle.

    Raises
    ------
    UsageError
        When a cell fails of itself.
    """
    idle, failed = False, []
    number = 0
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        number += 1
        idle = idle or bool(re.search(r"^[^#\n]*%pulpo\s+(run|export|panel)", cell.source, re.M))
        client.execute_cell(cell, place)
        errors = [output for output in cell.outputs if output.output_type == "error"]
        if errors:
            why = f"{errors[0].ename}: {errors[0].evalue}".splitlines()[0]
            if not idle:
                raise UsageError(f"cell {number} of the notebook failed: {why}")
            failed.append((number, why))
    return failed


def _worker(action: str, options: dict[str, Any]) -> str:
    return (
        "from pulpo.cli import act as __pulpo_act\n"
        "from pulpo.session import current as __pulpo_current\n"
        f"__pulpo_act(__pulpo_current(), {action!r}, {options!r})"
    )


def _raise_error_of(cell: Any) -> None:
    """Raise what the cell raised: an exit status, or as ours, with the lines of an operation."""
    for output in cell.outputs:
        if output.output_type == "error":
            if output.ename == "Exit":
                raise typer.Exit(int(output.evalue))
            failed = output.ename == "OperationFailedError"
            detail = "\n".join(["", *output.traceback[1:]]) if failed else ""
            raise PulpoError(f"{output.evalue}{detail}")


if __name__ == "__main__":
    main()
