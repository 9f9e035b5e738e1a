"""The use cases that every front end shares: declare, compile, draw, preview, run, export."""

from __future__ import annotations

import inspect
import linecache
import os
import shlex
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .carry import Recorder
from .errors import (
    MissingInputError,
    NoSourceError,
    Problem,
    UnknownNameError,
    UsageError,
    did_you_mean,
)
from .names import parse_name
from .operations import (
    Operation,
    as_operation,
    make_operation,
    options_from_flags,
    returns_a_value,
)
from .registry import OperationRegistry, default_registry
from .reports import Declared, Exported, Listing, Preview, Report, SourceView

if TYPE_CHECKING:
    from .backends.render import Picture
    from .plan import FlowDefinition, Orchestration
    from .runs import Run

__all__ = ["Session", "current"]


class Session:
    """The registry, plus everything that the notebook has executed.

    Attributes
    ----------
    registry
        The operations.
    namespace
        The user's variables; the magics put the shell's own there.
    recorder
        The record of executed cells.
    last_run
        What the newest run gave, also when it failed or was interrupted.
    """

    def __init__(self, registry: OperationRegistry, namespace: dict[str, Any]) -> None:
        self.registry = registry
        self.namespace = namespace
        self.recorder = Recorder(namespace)
        self.last_run: Run | None = None
        # By operation: what ran, its result, and the number of the run that made it.
        self._ran: dict[str, tuple[Any, Any, int]] = {}
        self._runs = 0
        self._cells: dict[str, str] = {}
        self._compiled: tuple[int, bool, Orchestration] | None = None

    def attach(self, namespace: dict[str, Any]) -> None:
        """Work on this namespace from now on, with a record of its own."""
        if namespace is not self.namespace:
            self.namespace = namespace
            self.recorder = Recorder(namespace)

    # - declaring -

    def check_declaration(self, *, name: str, flags: Mapping[str, Any]) -> None:
        """Refuse a declaration whose name or flags make no sense, before its cell runs.

        Raises
        ------
        InvalidNameError, DeclarationError
            The session stays as it was.
        """
        parse_name(name)
        options_from_flags(_task_flags(flags))

    def declare(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        cell: str = "",
        identity: str = "",
        flags: Mapping[str, Any] | None = None,
    ) -> Declared:
        """Declare a function as an operation.

        Parameters
        ----------
        name
            Its dotted name; an operation of that name is replaced in its place.
        cell
            Where it stands, for messages: ``"cell 4"``.
        identity
            The frontend's id of the cell: the same cell with a new name replaces the old name.
        flags
            Task options, and ``inputs`` and ``outputs``.

        Raises
        ------
        DeclarationError, InvalidNameError, ModelError
            When the function makes no operation; the session stays as it was.
        """
        flags = dict(flags or {})
        operation = make_operation(
            function,
            name=name,
            inputs=flags.pop("inputs", None),
            outputs=flags.pop("outputs", None),
            options=options_from_flags(flags),
            cell=cell,
        )
        replaced = name in self.registry
        before = self._cells.get(identity, "") if identity else ""
        renamed = before if before != name and before in self.registry else ""
        if renamed:
            self.registry.rename(renamed, operation)
        else:
            self.registry.register(operation)
        if identity:
            self._cells[identity] = name
        message = f"{name}: {operation.signature()}"
        if renamed:
            message += f"  (replaces {renamed}, which this cell was called before)"
        return Declared(
            message=message,
            operation=operation,
            replaced=name if replaced else "",
            renamed_from=renamed,
        )

    def remove(self, name: str) -> Declared:
        """Forget one operation."""
        self.registry.remove(name)
        return Declared(message=f"{name} removed; {_operations(len(self.registry))} left.")

    def clear(self) -> Declared:
        """Forget every operation, and the last run."""
        count = len(self.registry)
        self.registry.clear()
        self.last_run, self._ran = None, {}
        self._cells.clear()
        return Declared(message=f"{_operations(count)} forgotten.")

    # - looking -

    @property
    def operations(self) -> list[Operation]:
        """The operations, in order."""
        return [as_operation(operation) for operation in self.registry.list_all()]

    def plan(self, *, flat: bool = False) -> Orchestration:
        """Return the plan of the session as it is now."""
        from .compiler import compile_plan

        version = self.registry.version
        if self._compiled is None or self._compiled[:2] != (version, flat):
            self._compiled = (version, flat, compile_plan(self.operations, flat=flat))
        return self._compiled[2]

    def compile(self, *, flat: bool = False) -> Report:
        """Return what flows come out and what is wrong; problems do not raise."""
        plan = self.plan(flat=flat)
        return Report(orchestration=plan, problems=self._problems(plan))

    def check(self) -> Report:
        """Return the problems alone."""
        plan = self.plan()
        return Report(orchestration=plan, problems=self._problems(plan), flows=False)

    def _problems(self, plan: Orchestration) -> tuple[Problem, ...]:
        lost = [o for o in self.operations if not o.gives_value and returns_a_value(o.function)]
        return (*plan.problems, *map(_lost_result, lost), *_bare_types(plan))

    def graph(self, view: str = "both", *, flow: str | None = None) -> Picture:
        """Return the picture of the session, or of one flow.

        Parameters
        ----------
        view
            ``"both"`` (the dataflow, with groups as frames), ``"dataflow"`` or ``"hierarchy"``.
        flow
            A flow's name or a group; everything when left out.
        """
        from .backends.render import draw

        plan = self.plan()
        name = self.flow(flow, plan).name if flow else None
        return draw(plan, view, flow=name)

    def listing(self, what: str = "operations") -> Listing:
        """Return a table of the ``"operations"``, ``"models"`` or ``"flows"``."""
        return {"models": _models, "flows": _flows}.get(what, _operation_rows)(self.plan())

    def show(self, name: str) -> SourceView:
        """Return one operation's ports and source."""
        operation = self.registry.get(name)
        if operation is None:
            raise UnknownNameError(
                f"there is no operation {name!r}.{did_you_mean(name, self._names())}",
                candidates=tuple(self._names()),
            )
        return _source_view(as_operation(operation), self.plan())

    def preview(self, flow: str | None = None, *, flat: bool = False) -> Preview:
        """Return the generated Prefect code of one flow with its subflows, or of all flows.

        Raises
        ------
        BlockedFlowError
            When an error blocks the flow.
        """
        from .backends.prefect import generate_flow

        plan = self.plan(flat=flat)
        if flow is None:
            names = [each.name for each in plan.flows]
            blocked = [each.name for each in plan.flows if each.blocked]
            names = [name for name in names if name not in blocked] or names
        else:
            names = [self.flow(flow, plan).name]
        return Preview(code=tuple((name, generate_flow(plan, name)) for name in names))

    def flow(self, text: str | None, plan: Orchestration) -> FlowDefinition:
        """Return the flow that a person means by a flow's name or a group; main when left out.

        Raises
        ------
        UnknownNameError
            When there is none; an operation's name says which flow runs it.
        """
        if not plan.flows:
            raise UnknownNameError(
                "there are no operations yet: write '%%operation NAME' above a cell with a "
                "function, or decorate one with @pulpo.operation(name=…)."
            )
        wanted = text or "main_flow"
        for flow in plan.flows:
            if wanted == flow.name or (wanted == flow.hierarchy_path and wanted):
                return flow
        if "=" in wanted:
            raise UsageError(f"FLOW is a group or a flow; give a value by '--param {wanted}'.")
        known = [*(f.hierarchy_path for f in plan.flows if f.hierarchy_path)]
        known += [f.name for f in plan.flows]
        if plan.get_operation(wanted):
            runs = next(f.name for f in plan.flows if wanted in f.covers)
            raise UnknownNameError(
                f"{wanted!r} is an operation, and FLOW is a group or a flow: {runs} runs it.",
                candidates=tuple(known),
            )
        group = f"{wanted}."
        if any(node.name.startswith(group) for node in plan.operations):
            names = [n.name for n in plan.operations if n.name.startswith(group)]
            runs = next(f.name for f in plan.flows if names[0] in f.covers)
            raise UnknownNameError(
                f"group {wanted!r} has no flow of its own: {runs} runs {', '.join(names)}.",
                candidates=tuple(known),
            )
        raise UnknownNameError(
            f"there is no flow or group {wanted!r}.{did_you_mean(wanted, known)} "
            f"The flows are: {', '.join(f.name for f in plan.flows)}.",
            candidates=tuple(known),
        )

    def status(self) -> Listing:
        """Return what the session holds and what it is connected to."""
        from importlib.metadata import version

        plan = self.plan()
        errors = sum(problem.severity == "error" for problem in plan.problems)
        run = self.last_run
        server = os.environ.get("PREFECT_API_URL", "")
        rows = [
            ("operations", str(len(plan.operations))),
            ("flows", str(len(plan.flows))),
            ("problems", f"{errors} errors, {len(plan.problems) - errors} others"),
            ("last run", f"{run.flow}: {run.state}" if run is not None else "none"),
            (
                "Prefect",
                "the configured server" if server else "a private server, at the first run",
            ),
            ("pulpo", version("pulpo")),
        ]
        return Listing(head=("what", "now"), rows=tuple(rows))

    def _names(self) -> list[str]:
        return [operation.name for operation in self.registry.list_all()]

    # - running -

    def run(
        self,
        flow: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        flat: bool = False,
        on_change: Callable[[Run], None] | None = None,
    ) -> Run:
        """Run a flow on Prefect, in this process, and return its results.

        Parameters
        ----------
        flow
            A group or a flow's name; everything when left out.
        parameters
            Values by the name of the flow parameter. Text is converted to the parameter's type.
        on_change
            Called with the run at most ten times a second, and once at the end.

        Raises
        ------
        UnknownNameError, BlockedFlowError, MissingInputError, UsageError, ServerError
            Before anything ran.
        """
        from . import runner

        job = self._job(flow, parameters, flat=flat, on_change=on_change)
        return runner.run_flow_blocking(*job.positional(), **job.options())

    async def arun(
        self,
        flow: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        flat: bool = False,
        on_change: Callable[[Run], None] | None = None,
    ) -> Run:
        """Do the same as `run`, on the event loop that awaits this."""
        from . import runner

        job = self._job(flow, parameters, flat=flat, on_change=on_change)
        return await runner.run_flow(*job.positional(), **job.options())

    def _job(
        self,
        flow: str | None,
        parameters: Mapping[str, Any] | None,
        *,
        flat: bool,
        on_change: Callable[[Run], None] | None,
    ) -> _Job:
        from .backends.prefect import blocked_error, generate_modules

        plan = self.plan(flat=flat)
        chosen = self.flow(flow, plan)
        if chosen.blocked:
            raise blocked_error(chosen.name, chosen.blocked)
        given = dict(parameters or {})
        kept = self._from_earlier_runs(chosen, given)
        notes = tuple(
            f"{parameter.name}: the result of {parameter.value.operation} in an earlier run"
            for parameter in chosen.parameters
            if parameter.name in kept and parameter.value
        )
        given.update(kept)
        operations = {operation.name: operation for operation in self.operations}
        declared = {name: self.registry.get(name) for name in operations}
        self._runs += 1
        number = self._runs

        def changed(run: Run) -> None:
            self.last_run = run
            run.notes = notes
            self._ran.update({name: (declared[name], run[name], number) for name in run})
            if on_change is not None:
                on_change(run)

        return _Job(
            plan=plan,
            flow=chosen.name,
            functions={n: o.function for n, o in operations.items() if o.function is not None},
            namespace=self.namespace,
            parameters=given,
            modules=generate_modules(plan),
            on_change=changed,
        )

    def _from_earlier_runs(self, flow: FlowDefinition, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what other flows' results, kept from the session's runs, can feed."""
        found: dict[str, Any] = {}
        missing = []
        for parameter in flow.parameters:
            value = parameter.value
            if value is None or parameter.name in given:
                continue
            if not self._is_fresh(value.operation):
                missing.append(parameter)
                continue
            _, result, _ = self._ran[value.operation]
            found[parameter.name] = result if value.index is None else result[value.index]
        if missing:
            names = ", ".join(
                f"{p.name} (the result of {p.value.operation})" for p in missing if p.value
            )
            raise MissingInputError(
                f"{flow.name} needs {names}, and no run of this session has that as it is now. "
                f"Run everything with '%pulpo run', or give --param {missing[0].name}=@variable.",
                missing=tuple(p.name for p in missing),
            )
        return found

    def _is_fresh(self, name: str) -> bool:
        """Return whether the kept result came from this operation, and its inputs, as they are.

        An input that was made again since, by whatever run, makes it stale.
        """
        needs: dict[str, list[str]] = {}
        for edge in self.plan().edges:
            needs.setdefault(edge.target, []).append(edge.source)
        seen, todo = set(), [name]
        while todo:
            each = todo.pop()
            if each in seen:
                continue
            seen.add(each)
            if each not in self._ran or self._ran[each][0] is not self.registry.get(each):
                return False
            sources = needs.get(each, ())
            if any(s in self._ran and self._ran[s][2] > self._ran[each][2] for s in sources):
                return False
            todo.extend(sources)
        return True

    # - exporting -

    def export(
        self,
        folder: str | Path | None = None,
        *,
        force: bool = False,
        flow: str | None = None,
        shown_as: str = "",
    ) -> Exported:
        """Write the flows, and the source that they need, where they run without the notebook.

        Parameters
        ----------
        folder
            The export folder; ``run_cache`` (or what the settings say) when left out.
        force
            Replace files that were edited by hand, keeping them as ``NAME.bak``.
        flow
            A group or a flow's name; everything when left out.
        shown_as
            What the answer calls the folder; what was given when left out.

        Raises
        ------
        BlockedFlowError, CarryError, SecretError, EditedFileError, ExportError
            Nothing was written then.
        """
        from .carry import verify
        from .exports import write_export
        from .settings import load_settings, package_of

        target = Path(folder) if folder is not None else load_settings().cache_dir
        package = package_of(target)
        plan = self._exportable(flow)
        carried = self._carry(plan, target.absolute().parent)
        files = _files(plan, package, carried)
        verify(files["operations.py"], target.absolute().parent)
        written = write_export(target, files, _manifest(plan, carried, package), force=force)
        flows = tuple(each.name for each in plan.flows if not each.blocked)
        shown = shown_as or target.as_posix()
        main = "main_flow" if "main_flow" in flows else flows[-1]
        return Exported(
            folder=written.folder,
            files=written.files,
            flows=flows,
            removed=written.removed,
            backed_up=written.backed_up,
            warnings=carried.warnings,
            packages=carried.packages,
            shown_as=shown,
            usage=_usage(plan, main, shown),
        )

    def _exportable(self, flow: str | None) -> Orchestration:
        """Return the part of the plan that is to be exported, or raise what blocks it."""
        from .backends.prefect import blocked_error

        plan = self.plan()
        chosen = self.flow(flow, plan)
        if chosen.blocked:
            free = [each.hierarchy_path for each in plan.flows if not each.blocked]
            hint = [path for path in free if path]
            error = blocked_error(chosen.name, chosen.blocked)
            if hint and not flow:
                raise type(error)(
                    f"{error} What works can be exported: %pulpo export {hint[0]}.",
                    problems=error.problems,
                )
            raise error
        if flow is None or chosen.name == "main_flow":
            return plan
        names = {chosen.name}
        for each in reversed(plan.flows):  # parents stand behind their children
            if each.name in names:
                names.update(each.subflows)
        covered = set(chosen.covers)
        return replace(
            plan,
            flows=tuple(each for each in plan.flows if each.name in names),
            operations=tuple(node for node in plan.operations if node.name in covered),
            edges=tuple(e for e in plan.edges if e.source in covered and e.target in covered),
        )

    def _carry(self, plan: Orchestration, root: Path) -> _Carried:
        from .backends.prefect import names_in_signatures
        from .carry import carry

        wanted = {node.name for node in plan.operations}
        functions, without = {}, {}
        for operation in self.operations:
            if operation.name not in wanted:
                continue
            if operation.function is None:
                without[operation.name] = "it has no function"
            else:
                functions[operation.name] = operation.function
        also = names_in_signatures(plan)
        while True:
            try:
                carried = carry(self.recorder, functions, root=root, also=also)
                break
            except NoSourceError as error:
                name = error.operation
                if name not in functions or self._is_declared_here(name):
                    raise
                del functions[name]
                without[name] = str(error)
        warnings = [
            f"operation {name!r} has no source that can be reached, so its entry raises when "
            f"it is called: {why}"
            for name, why in without.items()
        ]
        return _Carried(
            text=carried.text,
            identifiers=dict(carried.identifiers),
            stubs=without,
            warnings=(*carried.warnings, *warnings),
            packages=carried.packages,
        )

    def _is_declared_here(self, name: str) -> bool:
        """Return whether an operation came from a magic or decorator, not as a foreign object."""
        operation = self.registry.get(name)
        return isinstance(operation, Operation) and bool(operation.cell)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    plan: Orchestration
    flow: str
    functions: dict[str, Callable[..., Any]]
    namespace: dict[str, Any]
    parameters: dict[str, Any]
    modules: dict[str, str]
    on_change: Callable[[Run], None]

    def positional(self) -> tuple[Any, ...]:
        return self.plan, self.flow, self.functions, self.namespace, self.parameters

    def options(self) -> dict[str, Any]:
        return {"modules": self.modules, "on_change": self.on_change}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Carried:
    text: str
    identifiers: dict[str, str]
    stubs: dict[str, str]
    warnings: tuple[str, ...]
    packages: tuple[str, ...]


_session: Session | None = None
_lock = threading.Lock()


def current() -> Session:
    """Return the process's one session, made at first use."""
    global _session
    with _lock:
        if _session is None:
            _session = Session(default_registry(), vars(sys.modules["__main__"]))
        return _session


# --- Texts ----------------------------------------------------------------------------------------


def _task_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if name not in ("inputs", "outputs")}


def _operations(count: int) -> str:
    return f"{count} operation{'' if count == 1 else 's'}"


def _operation_rows(plan: Orchestration) -> Listing:
    rows = tuple(
        (
            node.name,
            ", ".join(_takes(node)) or "–",
            ", ".join(output.model for output in node.outputs) or "–",
            "async" if node.is_async else "sync",
            node.cell or "–",
        )
        for node in plan.operations
    )
    return Listing(
        head=("operation", "takes", "gives", "kind", "where"),
        rows=rows,
        empty="No operations yet: write '%%operation NAME' above a cell with a function.",
    )


def _takes(node: Any) -> list[str]:
    shapes = {"all": "list[{}]", "any": "{}", "one": "{}"}
    return [
        shapes[port.shape].format(port.model) if port.kind == "data" else port.name
        for port in node.ports
    ]


def _models(plan: Orchestration) -> Listing:
    rows: dict[str, tuple[list[str], list[str]]] = {}
    for node in plan.operations:
        for output in node.outputs:
            rows.setdefault(output.model, ([], []))[0].append(node.name)
        for port in node.ports:
            if port.kind == "data":
                rows.setdefault(port.model, ([], []))[1].append(node.name)
    return Listing(
        head=("model", "given by", "taken by"),
        rows=tuple(
            (
                name,
                ", ".join(dict.fromkeys(gives)) or "nobody",
                ", ".join(dict.fromkeys(takes)) or "nobody",
            )
            for name, (gives, takes) in rows.items()
        ),
        empty="No models yet: annotate an operation with a pydantic model or a NewType.",
    )


def _flows(plan: Orchestration) -> Listing:
    rows = tuple(
        (
            flow.name,
            flow.hierarchy_path or "–",
            ", ".join(parameter.name for parameter in flow.parameters) or "–",
            "blocked" if flow.blocked else ", ".join((*flow.operations, *flow.subflows)),
        )
        for flow in plan.flows
    )
    return Listing(
        head=("flow", "group", "parameters", "runs"),
        rows=rows,
        empty="No flows yet: they come from operations.",
    )


def _source_view(operation: Operation, plan: Orchestration) -> SourceView:
    node = plan.get_operation(operation.name)
    lines = [f"{'async' if operation.is_async else 'sync'}, declared in {operation.cell or 'code'}"]
    for port in node.ports if node else ():
        sources = [
            e.source for e in plan.edges if e.target == operation.name and e.port == port.name
        ]
        if port.kind == "parameter":
            lines.append(f"{port.name}: a flow parameter")
        else:
            gives = (
                " or ".join(sources)
                if _is_ambiguous(plan, operation, port.name)
                else ", ".join(sources)
            )
            lines.append(f"{port.name} takes {port.model} from {gives or 'nobody'}")
    after = [e.source for e in plan.edges if e.target == operation.name and e.kind == "order"]
    if after:
        lines.append(f"runs after {', '.join(after)}")
    takers = [e.target for e in plan.edges if e.source == operation.name and e.kind == "data"]
    for output in operation.outputs:
        lines.append(f"gives {output.model.name} to {', '.join(dict.fromkeys(takers)) or 'nobody'}")
    return SourceView(
        title=f"{operation.name}: {operation.signature()}",
        lines=tuple(lines),
        source=_source(operation),
    )


def _is_ambiguous(plan: Orchestration, operation: Operation, port: str) -> bool:
    return any(
        e.kind == "candidate" and e.target == operation.name and e.port == port for e in plan.edges
    )


def _source(operation: Operation) -> str:
    try:
        linecache.checkcache()
        return inspect.getsource(operation.function) if operation.function else ""
    except (OSError, TypeError):
        return f"# The source of {operation.function_name} cannot be reached."


def _lost_result(operation: Operation) -> Problem:
    return Problem(
        code="no-return-annotation",
        severity="warning",
        message=f"operation {operation.name!r} returns something, but its function has no return "
        "annotation, so nobody gets it.",
        fix=f"Say what it gives: def {operation.function_name}(…) -> Model.",
        operation=operation.name,
        cell=operation.cell,
    )


def _bare_types(plan: Orchestration) -> list[Problem]:
    return [
        Problem(
            code="bare-type",
            severity="note",
            message=f"operation {node.name!r}: the parameter {port.name!r} is a bare {port.hint}, "
            "which makes no edge.",
            fix=f"Name the data: RawJobs = NewType('RawJobs', {port.hint}), and use RawJobs in the "
            "signatures.",
            operation=node.name,
            port=port.name,
            cell=node.cell,
        )
        for node in plan.operations
        for port in node.ports
        if port.hint
    ]


def _files(plan: Orchestration, package: str, carried: _Carried) -> dict[str, str]:
    from .backends.prefect import generate_modules

    files = {}
    for module, text in generate_modules(plan, package).items():
        parts = module.split(".")[1:]
        is_package = module in (package, f"{package}.orchestration")
        path = "/".join([*parts, "__init__.py"]) if is_package else "/".join(parts) + ".py"
        files[path] = text
    files["operations.py"] = _operations_text(plan, carried)
    return files


def _operations_text(plan: Orchestration, carried: _Carried) -> str:
    from .backends.prefect import literal

    head = '"""The operations of this export, as their cells and modules have them."""'
    lines = [head, "", carried.text.strip(), "", ""]
    if carried.stubs:
        lines += [_STUB.rstrip(), "", ""]
    lines.append("OPERATIONS = {")
    for node in plan.operations:
        if node.name in carried.stubs:
            lines.append(f"    {literal(node.name)}: _no_source({literal(node.name)}),")
        else:
            lines.append(f"    {literal(node.name)}: {carried.identifiers[node.name]},")
    return "\n".join([*lines, "}"]).lstrip("\n") + "\n"


_STUB = """
def _no_source(name):
    def operation(*args, **kwargs):
        raise NotImplementedError(
            f"operation {name!r} was exported without its source, which could not be reached. "
            "Define it in a notebook cell or in a module, and export again."
        )

    return operation
""".strip()


def _manifest(plan: Orchestration, carried: _Carried, package: str) -> dict[str, object]:
    from importlib.metadata import version

    return {
        "pulpo": version("pulpo"),
        "prefect": version("prefect"),
        "package": package,
        "operations": [
            {
                "name": node.name,
                "function": node.function,
                "takes": [port.model for port in node.ports if port.kind == "data"],
                "gives": [output.model for output in node.outputs],
            }
            for node in plan.operations
        ],
        "edges": [
            {"from": e.source, "to": e.target, "model": e.model, "kind": e.kind} for e in plan.edges
        ],
        "flows": [
            {
                "name": flow.name,
                "group": flow.hierarchy_path,
                "parameters": [parameter.name for parameter in flow.parameters],
                "operations": list(flow.operations),
                "subflows": list(flow.subflows),
            }
            for flow in plan.flows
            if not flow.blocked
        ],
        "packages": list(carried.packages),
    }


def _usage(plan: Orchestration, flow: str, folder: str) -> str:
    definition = plan.get_flow(flow)
    needed = [p for p in definition.parameters if p.default is None] if definition else []
    flags = "".join(
        f" --{p.name.replace('_', '-')} {'FILE.json' if p.by_reference else p.name.upper()}"
        for p in needed
    )
    return f"python {shlex.quote(f'{folder}/orchestration/{flow}.py')}{flags}"
