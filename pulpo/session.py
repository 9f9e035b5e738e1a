"""The use cases that every front end shares: declare, compile, draw, preview, run, export."""

from __future__ import annotations

import ast
import contextlib
import functools
import gc
import inspect
import linecache
import os
import re
import shlex
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict, Unpack

from .carry import Recorder
from .engines import ENGINES, RUNNERS
from .errors import (
    CarryError,
    ExportError,
    MissingInputError,
    NoSourceError,
    Problem,
    PulpoError,
    SecretError,
    UnknownNameError,
    UsageError,
    did_you_mean,
)
from .names import parse_name
from .registry import OperationRegistry, default_registry

if TYPE_CHECKING:
    from .backends.document import Manifest, PlanDocument
    from .backends.render import Picture
    from .carry.write import Carried
    from .checks import Subject
    from .compiler import Selection
    from .engines import Engine, Runner
    from .exports import EarlierFlow, Existing
    from .loading import Cells
    from .operations import Operation
    from .parameters import Field
    from .plan import Edge, FlowDefinition, Orchestration, Parameter
    from .reports import (
        Checked,
        Declared,
        Diff,
        Exported,
        Listing,
        Loaded,
        Preview,
        Report,
        SourceView,
    )
    from .reuse import Call, FromRun, FromStorage, Reuse
    from .runs import Run

__all__ = ["ENGINES", "RUNNERS", "Part", "Session", "current"]


class Part(TypedDict, total=False):
    """Which operations are wanted, and as what kind of flows; by default all, nested, async.

    Parameters
    ----------
    upto, from_, only
        Names of operations: these and all that they need; these and all that need them; these
        alone. ``upto`` with ``from_`` is what lies between, ``only`` is in addition. Each is a
        text (several names separated by commas) or several texts.
    flat
        One flow without nesting.
    runner
        Where the operations run: one of `RUNNERS`.
    """

    upto: str | Iterable[str]
    from_: str | Iterable[str]
    only: str | Iterable[str]
    flat: bool
    runner: Runner


class _Kept(NamedTuple):
    """A result that runs left: what made it, in which run, and whose results a person gave then."""

    declared: Any
    value: Any
    number: int
    given: frozenset[str] = frozenset()
    call: Call | None = None


class _Unfinished(NamedTuple):
    """A run that failed or was interrupted, how it was asked for, and its operations' code then."""

    run: Run
    flow: str | None
    part: Part
    parameters: dict[str, Any]
    codes: dict[str, str]


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
        self._watchers: list[_Listener] = []
        self._unfinished: _Unfinished | None = None
        self._ran: dict[str, _Kept] = {}
        self._runs = 0
        self._cells: dict[str, str] = {}
        self._anchors: dict[str, str] = {}
        #: The plans of one version of the registry, by how they were asked for.
        self._compiled: tuple[int, dict[Any, Orchestration]] = (-1, {})
        #: The code of the plan that ran last.
        self._generated: tuple[Orchestration | None, dict[str, str]] = (None, {})
        #: What is stale, at one point of the record, and the plans in which that is marked.
        self._stale: tuple[Any, tuple[Problem, ...], dict[int, Orchestration]] = (None, (), {})

    def attach(self, namespace: dict[str, Any]) -> None:
        """Work on this namespace from now on, with a record of its own."""
        if namespace is not self.namespace:
            self.namespace = namespace
            self.recorder = Recorder(namespace)

    def note_cell(self, place: str, identity: str) -> None:
        """Remember the frontend's id of the cell that runs as ``place``, for links to it.

        Only an id as Jupyter gives them: others, such as an editor's URL, are no anchor in a page.
        """
        if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", identity):
            self._anchors[place] = f"#cell-id={identity}"

    # - declaring -

    def check_declaration(self, *, name: str, flags: Mapping[str, Any]) -> None:
        """Refuse a declaration whose name or flags make no sense, before its cell runs.

        Raises
        ------
        InvalidNameError, DeclarationError
            The session stays as it was.
        """
        from .operations import options_from_flags

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
        from .operations import make_operation, options_from_flags
        from .reports import Declared

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
        from .reports import Declared

        self.registry.remove(name)
        return Declared(message=f"{name} removed; {_operations(len(self.registry))} left.")

    def clear(self) -> Declared:
        """Forget every operation, and the last run."""
        from .reports import Declared

        count = len(self.registry)
        self.registry.clear()
        self.last_run, self._ran = None, {}
        self._cells.clear()
        return Declared(message=f"{_operations(count)} forgotten.")

    # - looking -

    @property
    def operations(self) -> list[Operation]:
        """The operations, in order."""
        from .operations import as_operation

        return [as_operation(operation) for operation in self.registry.list_all()]

    def plan(
        self,
        *,
        flat: bool = False,
        runner: Runner = "async",
        selection: Selection | None = None,
    ) -> Orchestration:
        """Return the plan of the session, or of a part of it, as it is now.

        Parameters
        ----------
        flat
            One flow without nesting.
        runner
            Where the operations run.
        selection
            The part that is wanted; everything when left out.

        Raises
        ------
        UnknownNameError, UsageError
            When the selection names what does not exist, or leaves nothing.
        """
        from .compiler import compile_plan

        if runner not in RUNNERS:
            hint = did_you_mean(str(runner), RUNNERS)
            raise UsageError(f"runner is one of {', '.join(RUNNERS)}, not {runner!r}.{hint}")
        version = self.registry.version
        if self._compiled[0] != version:
            self._compiled = (version, {})
        known = self._compiled[1]
        how = (flat, runner, selection)
        if how not in known:
            known[how] = compile_plan(
                self.operations, flat=flat, runner=runner, selection=selection
            )
        return self._with_stale(known[how])

    def stale(self) -> tuple[Problem, ...]:
        """Return a problem for each operation that was defined against an older model."""
        from .checks import stale

        # What is stale changes with any cell, and no cell but that which looks waits for it.
        at = (self.registry.version, self.recorder, len(self.recorder.statements))
        if self._stale[0] != at:
            self._stale = (at, stale(self.operations, self.recorder), {})
        return self._stale[1]

    def _with_stale(self, plan: Orchestration) -> Orchestration:
        names = {problem.operation for problem in self.stale()}
        if not names:
            return plan
        marked = self._stale[2]
        if id(plan) not in marked:  # plans live as long as the version of the registry
            nodes = tuple(n._replace(stale=n.name in names) for n in plan.operations)
            marked[id(plan)] = replace(plan, operations=nodes)
        return marked[id(plan)]

    def part(self, part: Part) -> Orchestration:
        """Return the plan of a part of the session; see `plan`.

        Raises
        ------
        UnknownNameError, UsageError
            When the part names what does not exist, or leaves nothing.
        """
        return self.plan(
            flat=part.get("flat", False),
            runner=part.get("runner", "async"),
            selection=_selection(part),
        )

    def compile(self, **part: Unpack[Part]) -> Report:
        """Return what flows come out and what is wrong; problems of operations do not raise."""
        from .reports import Report

        plan = self.part(part)
        cuts = _cuts(plan) if _selection(part) else ()
        return Report(orchestration=plan, problems=(*self._problems(plan), *cuts))

    def check(self, *, export: bool = False) -> Checked:
        """Return every problem, with what only this looks for: blocking calls, shadowed names.

        With ``export``: also everything that an export would refuse, or do differently.
        """
        from .checks import check, in_order
        from .reports import Checked

        plan = self.plan()
        problems = [*plan.problems, *self.stale(), *check(self._subject(plan))]
        if export:
            problems += self._export_problems(plan)
        return Checked(orchestration=plan, problems=in_order(plan, problems))

    def _export_problems(self, plan: Orchestration) -> list[Problem]:
        from .backends.prefect import names_in_signatures, packages_of
        from .carry import refusals, requirements_of, verify
        from .settings import load_settings

        root = load_settings().cache_dir.absolute().parent
        functions, _ = self._functions(plan)
        also = names_in_signatures(plan)
        refused = [
            error
            for error in refusals(self.recorder, functions, root=root, also=also)
            if not (isinstance(error, NoSourceError) and self._is_foreign(error.operation))
        ]
        refused += _credentials_in_options(plan)
        warnings: tuple[str, ...] = ()
        if not refused:
            try:
                carried = self._carry(plan, root)
                differs = verify(_operations_text(plan, carried), root, **carried.expected)
                _, unlisted = requirements_of((*packages_of([plan]), *carried.packages))
                warnings = (*carried.warnings, *differs, *unlisted)
            except CarryError as error:
                refused.append(error)
        cells = {node.name: node.cell for node in plan.operations}
        return [
            *(
                Problem(
                    code="credential" if isinstance(error, SecretError) else "cannot-carry",
                    severity="error",
                    message=f"not to be exported: {error.message}",
                    fix=error.fix,
                    operation=error.operation,
                    cell=cells.get(error.operation, ""),
                )
                for error in refused
            ),
            *(
                Problem(code="export-differs", severity="warning", message=f"export: {warning}.")
                for warning in warnings
            ),
        ]

    def _problems(self, plan: Orchestration) -> tuple[Problem, ...]:
        from .checks import hints

        subject = self._subject(plan)
        names = {operation.name for operation in subject.operations}
        stale = (problem for problem in self.stale() if problem.operation in names)
        return (*plan.problems, *stale, *hints(subject))

    def _subject(self, plan: Orchestration) -> Subject:
        from .checks import Subject

        names = {node.name for node in plan.operations}
        return Subject(
            operations=tuple(each for each in self.operations if each.name in names),
            plan=plan,
            recorder=self.recorder,
            operation_of=self.registry.name_of,
        )

    def graph(
        self,
        view: str = "both",
        *,
        flow: str | None = None,
        depth: int | None = None,
        around: str | None = None,
        hops: int | None = None,
        closed: Collection[str] | None = None,
        direction: str = "",
        **part: Unpack[Part],
    ) -> Picture:
        """Return the picture of the session, of one flow, or of a part.

        Neighbours of what is drawn are pale, so that one sees where it was cut.

        Parameters
        ----------
        view
            ``"both"`` (the dataflow, with groups as frames), ``"dataflow"`` or ``"hierarchy"``.
        flow
            A flow's name or a group; everything when left out.
        depth
            How many levels of names are drawn; a group at the last one is one node.
        around, hops
            One operation, with what is so many edges away from it (1 when left out).
        closed
            The groups that are drawn as one node each, whatever the depth.
        direction
            ``"down"`` or ``"right"``; the dataflow goes down and the hierarchy right when left out.

        Raises
        ------
        UnknownNameError, UsageError
            When there is no such flow or operation, or the numbers make no sense.
        """
        from .backends.render import draw

        plan, shown = self.plan(), None
        if flow or _selection(part):
            wanted = self.part(part)
            # The flows are the selection's, and what is around them the session's.
            plan, shown = replace(plan, flows=wanted.flows), self.flow(flow, wanted).name
        links = self.links(plan)
        return draw(
            plan,
            view,
            flow=shown,
            depth=depth,
            around=around,
            hops=hops,
            closed=closed,
            links=links,
            direction=direction,
        )

    def links(self, plan: Orchestration) -> dict[str, str]:
        """Return the page's anchor of each operation's cell, where it has one."""
        cells = {node.name: self._anchors.get(node.cell, "") for node in plan.operations}
        return {name: anchor for name, anchor in cells.items() if anchor}

    def listing(self, what: str = "operations") -> Listing:
        """Return a table of the ``"operations"``, ``"models"`` or ``"flows"``."""
        return {"models": _models, "flows": _flows}.get(what, _operation_rows)(self.plan())

    def show(self, name: str) -> SourceView:
        """Return one operation's ports and source."""
        from .operations import as_operation

        operation = self.registry.get(name)
        if operation is None:
            raise UnknownNameError(
                f"there is no operation {name!r}.{did_you_mean(name, self._names())}",
                candidates=tuple(self._names()),
            )
        return _source_view(as_operation(operation), self.plan())

    def preview(self, flow: str | None = None, **part: Unpack[Part]) -> Preview:
        """Return the generated Prefect code of one flow, or of all flows.

        Raises
        ------
        BlockedFlowError
            When an error blocks the flow.
        """
        from .backends.prefect import generate_flow
        from .reports import Preview

        plan = self.part(part)
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
            When there is none; an operation's name says how to run it.
        UsageError
            When nothing of it is in the part that ``plan`` is of.
        """
        if not plan.flows:
            raise UnknownNameError(_NO_OPERATIONS)
        wanted = text or "main_flow"
        for flow in plan.flows:
            if wanted == flow.name or (wanted == flow.hierarchy_path and wanted):
                return flow
        if "=" in wanted:
            raise UsageError(f"FLOW is a group or a flow; give a value by '--param {wanted}'.")
        known = [*(f.hierarchy_path for f in plan.flows if f.hierarchy_path)]
        known += [f.name for f in plan.flows]
        if wanted in self.registry:
            raise UnknownNameError(
                f"{wanted!r} is an operation, and FLOW is a group or a flow: use --only {wanted}, "
                f"or --upto {wanted} for all that it needs too.",
                candidates=tuple(known),
            )
        selected = [node.name for node in plan.operations]
        whole = [f for f in self.plan().flows if wanted in (f.name, f.hierarchy_path)]
        if whole and set(selected).isdisjoint(whole[0].covers):
            raise UsageError(
                f"nothing of {wanted!r} is in the selection, which has {_some(selected)}."
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

        from .reports import Listing

        plan = self.plan()
        problems = self._problems(plan)
        errors = sum(problem.severity == "error" for problem in problems)
        run = self.last_run
        used = f", on {_SERVERS[run.server]}" if run is not None and run.server else ""
        rows = [
            ("operations", str(len(plan.operations))),
            ("flows", str(len(plan.flows))),
            ("problems", f"{errors} errors, {len(problems) - errors} others"),
            ("last run", f"{run.flow}: {run.state}{used}" if run is not None else "none"),
            ("Prefect", _next_server()),
            ("pulpo", version("pulpo")),
        ]
        return Listing(head=("what", "now"), rows=tuple(rows))

    def _names(self) -> list[str]:
        return [operation.name for operation in self.registry.list_all()]

    # - running -

    def variable(self, name: str) -> Any:
        """Return the live object that ``@name`` stands for, as the value of a parameter.

        Raises
        ------
        UnknownNameError
            When the notebook has no such variable.
        """
        if name in self.namespace:
            return self.namespace[name]
        known = [key for key in self.namespace if not key.startswith("_")]
        raise UnknownNameError(
            f"there is no variable {name!r} in the notebook.{did_you_mean(name, known)}"
        )

    def form(self, flow: str | None = None, **part: Unpack[Part]) -> tuple[Field, ...]:
        """Return what a form for a flow's parameters shows, field by field.

        What its fields make of a person's input goes into ``parameters`` of `run`, under their
        names.

        Raises
        ------
        UnknownNameError, BlockedFlowError, UsageError
            As `run` does.
        """
        from .backends.prefect import blocked_error
        from .parameters import form

        plan = self.part(part)
        chosen = self.flow(flow, plan)
        if chosen.blocked:
            raise blocked_error(chosen.name, chosen.blocked)
        kept = [p.name for p in chosen.parameters if p.value and self._is_kept(p.value.operation)]
        functions = {each.name: each.function for each in self.operations if each.function}
        return form(
            plan,
            chosen,
            functions,
            self.namespace,
            look_up=self.variable,
            earlier=dict(self._told_of(chosen, kept)),
        )

    def run(
        self,
        flow: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        on_change: Callable[[Run], None] | None = None,
        engine: Engine = "prefect",
        resume: bool = False,
        changed: bool = False,
        **part: Unpack[Part],
    ) -> Run:
        """Run a flow in this process, on Prefect or without, and return its results.

        What it takes from operations outside of it comes from ``parameters``, else from an
        earlier run (see `Run.notes`) unless that is stale.

        Parameters
        ----------
        flow
            A group or a flow's name; everything when left out. With a selection: its part of that.
        parameters
            Values by the name of the flow parameter. Text is converted to the parameter's type.
        on_change
            Called with the run at most ten times a second, and once at the end.
        engine
            One of `ENGINES`. ``"local"`` runs the same plan, with the same results, without
            Prefect: nothing is imported or started for it, and nothing of it is stored.
        resume
            Go on with the last run, which failed or was interrupted: the same flow, part and
            parameters (those in ``parameters`` anew). What it finished is taken from it where the
            code and the inputs are what they were.
        changed
            Keep all results in Prefect's result storage, and take those from there whose
            operations have the code, parameters and inputs of an earlier run with this.

        Raises
        ------
        UnknownNameError, BlockedFlowError, MissingInputError, UsageError, ServerError
            Before anything ran.
        """
        from . import runner

        job = self._job(
            flow, parameters, part, on_change, resume=resume, changed=changed, engine=engine
        )
        return runner.run_flow_blocking(*job.positional(), **job.options())

    async def arun(
        self,
        flow: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        on_change: Callable[[Run], None] | None = None,
        engine: Engine = "prefect",
        resume: bool = False,
        changed: bool = False,
        **part: Unpack[Part],
    ) -> Run:
        """Do the same as `run`, on the event loop that awaits this."""
        from . import runner

        job = self._job(
            flow, parameters, part, on_change, resume=resume, changed=changed, engine=engine
        )
        return await runner.run_flow(*job.positional(), **job.options())

    def start(
        self,
        flow: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        on_change: Callable[[Run], None] | None = None,
        engine: Engine = "prefect",
        resume: bool = False,
        changed: bool = False,
        **part: Unpack[Part],
    ) -> Run:
        """Do the same as `run` in the background, and return the run at once.

        `Run.wait` waits for its end and `Run.cancel` ends it; an interrupt does not. What goes
        wrong from then on stands in `Run.error`. It ends with the process, and its ``on_change``
        is called in a thread of its own.

        Raises
        ------
        UnknownNameError, BlockedFlowError, MissingInputError, UsageError, RunError
            Before anything ran; values are converted here already.
        """
        from . import runner

        told = _Listener(on_change) if on_change is not None else None
        job = self._job(flow, parameters, part, told, resume=resume, changed=changed, engine=engine)
        return runner.start_flow(*job.positional(), **job.options())

    def watch(self, listener: Callable[[Run], None]) -> Callable[[], None]:
        """Call ``listener`` with each run of the session; return a function that ends that.

        It is called as soon as there is a run (``"starting"``), then at most ten times a second
        when something changed, and at the end, in the thread that the run is told in: that of
        ``run`` or ``arun``, or the run's own. When it raises, that is logged, and nothing else.
        """
        told = _Listener(listener)
        self._watchers.append(told)

        def unwatch() -> None:
            if told in self._watchers:
                self._watchers.remove(told)

        return unwatch

    def _job(
        self,
        flow: str | None,
        parameters: Mapping[str, Any] | None,
        part: Part,
        on_change: Callable[[Run], None] | None,
        *,
        resume: bool = False,
        changed: bool = False,
        engine: Engine = "prefect",
    ) -> _Job:
        from .backends.prefect import blocked_error
        from .backends.render import draw
        from .parameters import UNSET
        from .reuse import FromStorage

        _check_outside()
        _check_engine(engine, part, resume=resume, changed=changed)
        _check_reuse(part, resume=resume, changed=changed)
        by_person = {n: value for n, value in (parameters or {}).items() if value is not UNSET}
        then = self._resumable(flow, part) if resume else None
        if then is not None:
            flow, part, by_person = then.flow, then.part, {**then.parameters, **by_person}
        plan = self.part(part)
        chosen = self.flow(flow, plan)
        if chosen.blocked:
            raise blocked_error(chosen.name, chosen.blocked)
        given = dict(by_person)
        kept = self._from_earlier_runs(chosen, given)
        notes = tuple(f"{name}: {told}" for name, told in self._told_of(chosen, kept))
        by_hand = _sources(chosen, given) - _sources(chosen, kept)
        given.update(kept)
        operations = {operation.name: operation for operation in self.operations}
        declared = {name: self.registry.get(name) for name in operations}
        functions = _Functions({n: o.function for n, o in operations.items() if o.function})
        cached = [node.name for node in plan.operations if changed or node.options.cache]
        if engine == "local":
            cached, notes = [], (*notes, *_not_local(plan, chosen))
        for name in [name for name in cached if name in chosen.covers]:
            code, note = self._code_of(name)
            functions.add(name, code)
            notes += note
        reuse: Reuse | None = self._reused(then, plan) if then else None
        drawn = functools.partial(draw, plan, flow=chosen, links=self.links(plan))
        self._runs += 1
        number = self._runs
        recorder, recorded = self.recorder, len(self.recorder.statements)
        begun = time.monotonic()

        def carried_then(name: str) -> Carried | None:
            """Return the code as the run has it, None where a cell may have changed it since."""
            if self.registry.get(name) is not declared[name] or self.recorder is not recorder:
                return None
            since = {each for one in recorder.statements[recorded:] for each in one.binds}
            try:
                carried = self._carried_alone(name)
            except (CarryError, RuntimeError):  # a cell that runs meanwhile changes what is read
                return None
            return carried if since.isdisjoint(_words(carried)) else None

        def code_then(name: str) -> str:
            carried = carried_then(name)
            return self._live_code_of(carried) if carried else os.urandom(16).hex()

        def kept_code_of(name: str) -> str | None:
            carried = carried_then(name)
            return self._digest_of(carried) if carried else None

        storage = None
        if changed:
            reuse = storage = FromStorage(functions.known_code)
        elif engine == "prefect" and plan.runner == "async":
            storage = FromStorage(kept_code_of, renews=True)

        def has_changed(run: Run) -> None:
            self.last_run = run
            run.notes = notes
            run._draw = drawn
            for name in run:
                call = run.operations[name].call
                self._ran[name] = _Kept(declared[name], run[name], number, by_hand, call)
            if run.is_resumable:
                called = [name for name, each in run.operations.items() if each.calls]
                codes = {name: code_then(name) for name in called}
                self._unfinished = _Unfinished(run, flow, part, by_person, codes)
            elif run.state in ("done", "failed", "cancelled"):
                self._unfinished = None
            for watcher in list(self._watchers):
                watcher(run)
            # A server that is up already answers at once: no need to speak of it.
            if on_change is not None and (run.state != "starting" or time.monotonic() - begun > 1):
                on_change(run)

        return _Job(
            plan=plan,
            flow=chosen.name,
            functions=functions,
            namespace=self.namespace,
            parameters=given,
            modules=self._modules(plan) if engine == "prefect" else {},
            on_change=has_changed,
            reuse=reuse,
            storage=storage,
            engine=engine,
        )

    def _told_of(self, flow: FlowDefinition, kept: Iterable[str]) -> list[tuple[str, str]]:
        """Say of each parameter that comes from an earlier run so, and what that was made of."""
        return [
            (
                parameter.name,
                f"the result of {parameter.value.operation} in an earlier run"
                f"{self._given_then(parameter.value.operation)}",
            )
            for parameter in flow.parameters
            if parameter.name in kept and parameter.value
        ]

    def _is_kept(self, name: str) -> bool:
        """Return whether a run would take the result of this operation from an earlier one."""
        if not self._is_fresh(name):
            return False
        call = self._ran[name].call
        return call is None or not call.is_broken

    def _modules(self, plan: Orchestration) -> dict[str, str]:
        from .backends.prefect import generate_modules

        if self._generated[0] is not plan:  # the next run, with no cell in between, has the same
            self._generated = (plan, generate_modules(plan))
        return self._generated[1]

    def _resumable(self, flow: str | None, part: Part) -> _Unfinished:
        """Return the run that ``--resume`` goes on with."""
        if self._unfinished is None:
            last = f"the last run, of {self.last_run.flow}, is done" if self.last_run else ""
            if self.last_run is not None and self.last_run.runner != "async":
                last = f"the last run, of {self.last_run.flow}, was one of {self.last_run.runner!r}"
            raise UsageError(
                f"there is nothing to resume: {last or 'nothing has run yet'}. "
                "Run without --resume; --changed runs only what changed since results were kept."
            )
        if flow or _asked(part):
            raise UsageError(
                f"--resume goes on with the last run, of {self._unfinished.run.flow}, as it was "
                "asked for: leave out FLOW, and what selects operations. --param gives a parameter "
                "anew."
            )
        return self._unfinished

    def _reused(self, then: _Unfinished, plan: Orchestration) -> FromRun:
        """Return what a run finished whose operations, with all that these use, are as then."""
        from .reuse import FromRun

        ran = then.run.operations
        same = [name for name, code in then.codes.items() if code == self._live_code(name)]
        called: dict[str, list[str]] = {}
        for edge in plan.edges:
            user = ran.get(edge.target)
            if edge.kind == "data" and user is not None and user.attempts:
                called.setdefault(edge.source, []).append(edge.target)
        return FromRun({name: ran[name].calls for name in same}, called)

    def _live_code(self, name: str) -> str:
        try:
            return self._live_code_of(self._carried_alone(name))
        except CarryError:
            return ""

    def _live_code_of(self, carried: Carried) -> str:
        """Return `_code_of`, which is another one too when a class that it uses was made anew.

        What ran before has instances of the class that was there then.
        """
        import hashlib

        live = [(each, self.namespace.get(each)) for each in sorted(_words(carried))]
        classes = [(each, id(value)) for each, value in live if isinstance(value, type)]
        return hashlib.sha256(f"{self._digest_of(carried)}{classes}".encode()).hexdigest()

    def _code_of(self, name: str) -> tuple[str | None, tuple[str, ...]]:
        """Return a digest of all code and values that an operation uses, or None and a note."""
        try:
            return self._digest_of(self._carried_alone(name)), ()
        except CarryError as error:
            note = f"{name} was not looked up in the cache, as what it uses is not known: {error}"
            return None, (note,)

    def _carried_alone(self, name: str) -> Carried:
        from .carry import carry

        operation = self.registry.get(name)
        if operation is None:
            raise CarryError(f"there is no operation {name!r} any more.")
        return carry(self.recorder, {name: operation.function}, root=Path.cwd())

    def _digest_of(self, carried: Carried) -> str:
        import hashlib

        held = {each: kept.digests for each, kept in carried.kept.items() if kept.how == "held"}
        loaded = {each: self.recorder.loaded.digest(each) for each in carried.beside}
        code = ast.unparse(
            ast.parse(carried.text)
        )  # comments, and how it is laid out, do not count
        told = repr((code, sorted(held.items()), sorted(loaded.items())))
        return hashlib.sha256(told.encode("utf-8", "backslashreplace")).hexdigest()

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
            kept = self._ran[value.operation]
            if kept.call is not None and kept.call.is_broken:
                raise MissingInputError(
                    f"{flow.name} needs {parameter.name} (the result of {value.operation}), which "
                    "an operation that got it has changed in place since. Make it again by "
                    f"'%pulpo run --upto {value.operation}', or give one by "
                    f"--param {parameter.name}=@variable.",
                    missing=(parameter.name,),
                )
            result = kept.value
            found[parameter.name] = result if value.index is None else result[value.index]
        known = {parameter.name for parameter in flow.parameters}
        if missing and known.issuperset(given):  # else a name is mistyped, which the runner tells
            raise _missing_error(flow, missing, self.stale())
        return found

    def _given_then(self, name: str) -> str:
        """Return what a kept result was made of that a person gave, in words."""
        needs: dict[str, set[str]] = {}
        for edge in self.plan().edges:
            needs.setdefault(edge.target, set()).add(edge.source)
        given: set[str] = set()
        seen, todo = set(), [name]
        while todo:
            each = todo.pop()
            kept = self._ran.get(each)
            if each in seen or kept is None:
                continue
            seen.add(each)
            sources = needs.get(each, set())
            given |= kept.given & sources
            todo += sources - kept.given
        told = ", ".join(sorted(given))
        return f", made with a result of {told} that a person gave" if given else ""

    def _is_fresh(self, name: str) -> bool:
        """Return whether the kept result came from this operation, and its inputs, as they are.

        An input that was made again since, by whatever run, makes it stale; so does an edit of
        what made an input, unless a person gave that input.
        """
        plan = self.plan()
        stale = {node.name for node in plan.operations if node.stale}
        needs: dict[str, list[Edge]] = {}
        for edge in plan.edges:
            needs.setdefault(edge.target, []).append(edge)
        seen, todo = set(), [name]
        while todo:
            each = todo.pop()
            if each in seen:
                continue
            seen.add(each)
            kept = self._ran.get(each)
            if kept is None or kept.declared is not self.registry.get(each) or each in stale:
                return False
            for edge in needs.get(each, ()):
                source = self._ran.get(edge.source)
                if source is not None and source.number > kept.number:
                    return False
                if edge.source in kept.given or (edge.kind == "order" and source is None):
                    continue
                todo.append(edge.source)
        return True

    # - exporting -

    def export(
        self,
        folder: str | Path | None = None,
        *,
        force: bool = False,
        flow: str | None = None,
        freeze: str | Iterable[str] = (),
        lock: bool = False,
        shown_as: str = "",
        **part: Unpack[Part],
    ) -> Exported:
        """Write the flows, and the source that they need, where they run without the notebook.

        An export of one flow, or of a selection, leaves no other flow of the folder behind or
        broken: those are made anew with it, as they were asked for. Where that cannot be, nothing
        is written; see docs/decisions/0005-partial-exports.md.

        Parameters
        ----------
        folder
            The export folder; ``run_cache`` (or what the settings say) when left out.
        force
            Replace files that were edited by hand, keeping them as ``NAME.bak``.
        flow
            A group or a flow's name; everything when left out. With a selection: its part of that.
        freeze
            Variables whose values of now are written as literals: names, or a text of them,
            separated by commas.
        lock
            Write a lock of all packages beside each flow, by which ``uv run`` installs the same.
        shown_as
            What the answer calls the folder; what was given when left out.

        Raises
        ------
        BlockedFlowError, CarryError, SecretError, EditedFileError, ExportError
            Nothing was written then.
        MissingProgramError
            When there is no uv to make a lock; nothing was written then, either.
        UnknownNameError, UsageError
            For a flow or a selection that does not exist; nothing was written then, either.
        """
        from .exports import write_export
        from .reports import Exported
        from .settings import load_settings

        target = Path(folder) if folder is not None else load_settings().cache_dir
        # uv may take minutes for a lock, in which others in this process want a collector.
        with contextlib.nullcontext() if lock else _without_collector():
            made = self._made(target, flow, part, _names_in(freeze), lock=lock)
            written = write_export(target, made.files, made.manifest, force=force)
        flows = tuple(each.name for each in made.chosen.flows if not each.blocked)
        shown = shown_as or target.as_posix()
        return Exported(
            folder=written.folder,
            files=written.files,
            flows=flows,
            kept=tuple(each.name for each in made.plan.flows if each.name not in flows),
            removed=written.removed,
            backed_up=written.backed_up,
            warnings=made.warnings,
            packages=made.carried.packages,
            shown_as=shown,
            usage=_usage(made.chosen, made.flow, shown),
        )

    def _made(
        self,
        target: Path,
        flow: str | None,
        part: Part,
        freeze: tuple[str, ...],
        *,
        lock: bool,
    ) -> _Made:
        """Return what an export into a folder consists of; nothing is written."""
        from .carry import verify
        from .exports import flow_files, locks, together
        from .settings import package_of

        package = package_of(target)
        chosen, name = self._exportable(flow, part)
        pieces = [_Piece(chosen, _asked(part))]
        frozen, there = freeze, _readable(target)
        if name != "main_flow" or _selection(part):
            pieces += self._kept_flows(target, chosen)
            frozen = (*freeze, *(there.manifest.get("freeze", ()) if there else ()))
        plan = together(self.plan(), [piece.plan for piece in pieces])
        for error in _credentials_in_options(plan):
            raise error
        files = flow_files(plan, [piece.plan for piece in pieces], package)
        carried = self._carry_all(plan, chosen, target, frozen)
        if unused := [name for name in freeze if name not in carried.frozen]:
            raise UsageError(
                f"--freeze: no operation of this export uses {_some(unused)}. Name what a refusal "
                "named; '%pulpo check --export' lists them."
            )
        files["operations.py"] = _operations_text(plan, carried)
        differs = verify(files["operations.py"], target.absolute().parent, **carried.expected)
        plans = [piece.plan for piece in pieces]
        files, requires, unlisted = _installable(files, plans, carried)
        locked, stale = locks(files, [each.name for each in plan.flows], there, wanted=lock)
        files |= locked
        asked = {each.name: p.asked for p in reversed(pieces) for each in p.plan.flows}
        return _Made(
            chosen=chosen,
            flow=name,
            plan=plan,
            carried=carried,
            files=files,
            manifest=_manifest(plan, carried, package, asked, requires),
            warnings=(*carried.warnings, *differs, *unlisted, *stale),
        )

    def _exportable(self, flow: str | None, part: Part) -> tuple[Orchestration, str]:
        """Return what is to be exported, and the flow it is for, or raise what blocks it."""
        from .backends.prefect import blocked_error
        from .exports import restricted

        plan = self.part(part)
        chosen = self.flow(flow, plan)
        if chosen.blocked:
            free = [each.hierarchy_path for each in plan.flows if not each.blocked]
            hint = [path for path in free if path]
            error = blocked_error(chosen.name, chosen.blocked)
            if hint and not flow and not _selection(part):
                raise type(error)(
                    f"{error} What works can be exported: %pulpo export {hint[0]}.",
                    problems=error.problems,
                )
            raise error
        everything = chosen.name == "main_flow"
        return plan if everything else restricted(plan, [chosen.name]), chosen.name

    def _kept_flows(self, folder: Path, chosen: Orchestration) -> list[_Piece]:
        """Return the other flows of the folder, made anew as each was asked for."""
        from .exports import OWN_FOLDER, earlier_flows, refusal

        earlier = earlier_flows(folder)
        for flow in chosen.flows:
            old = earlier.pop(flow.name, None)
            lost = [] if old is None or old.is_selected else {*old.operations} - {*flow.covers}
            left = [name for name in self._names() if name in lost]
            if left:
                raise refusal(
                    f"{flow.name} in {folder.name}/ runs {_some(left)} too, and this part of it "
                    "would take its place.",
                    f"Export everything, {OWN_FOLDER}",
                )
        return [self._made_anew(folder, flows) for flows in _alike(earlier.values())]

    def _made_anew(self, folder: Path, flows: list[EarlierFlow]) -> _Piece:
        """Return flows of one earlier export as the session has them now, or refuse."""
        from .exports import OWN_FOLDER, refusal, restricted

        def no(flow: EarlierFlow, why: str, fix: str = "Export everything") -> ExportError:
            there = f"{folder.name}/ has {flow.name} too, which a partial export makes anew"
            return refusal(f"{there}, but {why}", f"{fix}, {OWN_FOLDER}")

        for flow in flows:
            gone = [name for name in flow.operations if name not in self.registry]
            if gone:
                raise no(flow, f"this session has no {_some(gone)}.")
        asked = dict(flows[0].part)
        try:
            plan = self.part(_part(asked))
        except (UnknownNameError, UsageError) as error:
            raise no(flows[0], f"{error}") from error
        for flow in flows:
            now = plan.get_flow(flow.name)
            if now is None:
                raise no(flow, "it has no flow any more.")
            if now.blocked:
                raise no(flow, f"an error blocks it: {now.blocked[0].message}", "Mend that")
        return _Piece(restricted(plan, [flow.name for flow in flows]), asked)

    def load(self, source: str | Path | None = None) -> Cells:
        """Return an export, or a module with operations, as cells, which do not run.

        Parameters
        ----------
        source
            The folder of an export, what the settings say when left out; or a module, by its path
            or dotted name. A module is executed, but not imported.

        Raises
        ------
        ExportError, UnknownNameError, UsageError
            When there is no such thing, or it cannot be read.
        """
        from .loading import load
        from .settings import load_settings

        return load(source, load_settings().cache_dir, self.registry)

    def load_into(
        self, source: str | Path | None, target: str | Path, *, force: bool = False
    ) -> Loaded:
        """Write what `load` returns as a notebook.

        Raises
        ------
        UsageError
            When the target is no ``.ipynb``, or is there and not to be replaced.
        """
        from .loading import notebook

        path = Path(target)
        if path.suffix != ".ipynb":
            raise UsageError(f"-o takes a notebook, such as {path.stem or 'jobs'}.ipynb.")
        if path.exists() and not force:
            raise UsageError(f"{path} is there already. Name another file, or add --force.")
        cells = self.load(source)
        try:
            path.write_text(notebook(cells), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror or error}.") from error
        return self.loaded(cells, written=str(path))

    def loaded(self, cells: Cells, *, written: str = "") -> Loaded:
        """Return what to say of cells that ran, or were written."""
        from .reports import Loaded

        return Loaded(
            operations=cells.operations,
            cells=len(cells.cells) + 1 + bool(cells.doc),  # with '%load_ext pulpo'
            source=cells.title,
            notes=cells.notes,
            written=written,
            flags=cells.flags,
        )

    def replaced_by(self, cells: Cells) -> list[str]:
        """Return the names of this session to which cells would give another meaning."""
        texts: dict[str, list[str]] = {}
        for cell in cells.cells:
            for name in cell.binds:
                texts.setdefault(name, []).append(cell.text)
        found = []
        for name, own in texts.items():
            known = self.recorder.by_name.get(name, ())
            same = known and any(known[-1].text in text for text in own)
            # What IPython put there is no name of the session: _, Out, exit.
            if name in self.namespace and not same and (known or not self._is_of_ipython(name)):
                value = self.namespace[name]
                if not any(_imports(text, name, value) for text in own):
                    found.append(name)
        return found

    def _is_of_ipython(self, name: str) -> bool:
        shell = sys.modules.get("IPython")
        own = getattr(shell.get_ipython(), "user_ns_hidden", {}) if shell else {}
        return name in own or name.strip("_") == ""

    @contextlib.contextmanager
    def undone_on_error(self) -> Iterator[None]:
        """Let the names, the operations and the record be what they were when something fails."""
        names, record = dict(self.namespace), self.recorder.save()
        operations, path = self.registry.list_all(), [*sys.path]
        try:
            yield
        except BaseException:
            self.namespace.clear()
            self.namespace.update(names)
            self.recorder.restore(record)
            self.registry.restore(operations)
            sys.path[:] = path
            raise

    def forget_failed_imports(self, before: Iterable[Any]) -> None:
        """Forget operations, but those of ``before``, of modules that failed to be imported."""
        kept = {id(operation) for operation in before}
        for operation in self.registry.list_all():
            if id(operation) in kept:
                continue
            function = inspect.unwrap(operation.function)
            module = getattr(function, "__module__", None)
            here = getattr(function, "__globals__", self.namespace) is self.namespace
            if not here and isinstance(module, str) and module not in sys.modules:
                self.registry.remove(operation.name)

    def diff(self, folder: str | Path | None = None, *, shown_as: str = "") -> Diff:
        """Return what changed since the last export: what it has, against what it would have now.

        An export of some flows is compared with those flows alone. Nothing is written.

        Parameters
        ----------
        folder
            The export folder; ``run_cache`` (or what the settings say) when left out.
        shown_as
            What the answer calls the folder; what was given when left out.

        Raises
        ------
        ExportError
            When the folder's manifest cannot be read.
        SettingsError
            When the folder's name could be no package's.
        """
        from .exports import earlier_flows, read_export, read_manifest
        from .reports import Diff
        from .settings import load_settings, package_of

        target = Path(folder) if folder is not None else load_settings().cache_dir
        package_of(target)
        shown = shown_as or target.as_posix()
        there = read_export(target)
        if there is None:
            return Diff(folder=shown, exported=False)
        manifest = read_manifest(there.manifest, target.name)
        plans, refused = self._as_exported(_alike(earlier_flows(target).values()))
        return replace(
            self._compared(target, there, manifest.plan, plans, refused, shown),
            notes=_version_notes(manifest),
        )

    def _as_exported(
        self, earlier: Iterable[list[EarlierFlow]]
    ) -> tuple[list[Orchestration], list[str]]:
        """Return the plans that an export was made from as they are now, and what stops them."""
        from .backends.prefect import blocked_error
        from .exports import restricted

        plans, refused = [], []
        for flows in earlier:
            try:
                plan = self.part(_part(flows[0].part))
            except (UnknownNameError, UsageError) as error:
                refused.append(str(error))
                continue
            names = [flow.name for flow in flows if plan.get_flow(flow.name)]
            plan = plan if "main_flow" in names else restricted(plan, names)
            plans.append(plan)
            blocked = [flow for flow in plan.flows if flow.blocked]
            refused += [str(blocked_error(flow.name, flow.blocked)) for flow in blocked[:1]]
        if not self.operations:
            refused.append(_NO_OPERATIONS)
        return plans, refused

    def _compared(
        self,
        target: Path,
        there: Existing,
        old: PlanDocument,
        plans: list[Orchestration],
        refused: list[str],
        shown: str,
    ) -> Diff:
        from . import changes
        from .backends.document import describe, lasting
        from .exports import flow_files, locks, together
        from .reports import Diff

        plan = together(self.plan(), plans)
        frozen = tuple(there.manifest.get("freeze", ()))
        files: dict[str, str] = {}
        if not refused:
            try:
                files = flow_files(plan, plans, target.name)
                carried = self._carry(plan, target.absolute().parent, frozen)
                files["operations.py"] = _operations_text(plan, carried)
                files, _, _ = _installable(files, plans, carried)
                files |= locks(files, [f.name for f in plan.flows], there, wanted=False)[0]
            except PulpoError as error:
                refused = [str(error)]
        new = describe(lasting(plan))
        sources = [
            changes.functions_of(texts.get("operations.py", "")) for texts in (there.texts, files)
        ]
        return Diff(
            folder=shown,
            operations=changes.compare_operations(old, new, (sources[0], sources[1])),
            edges=changes.compare_edges(old, new),
            flows=changes.compare_flows(old, new),
            files=() if refused else changes.compare_files(shown, there.texts, files),
            edited=there.edited,
            deleted=there.deleted,
            refused=" ".join(refused),
        )

    def _carry_all(
        self, plan: Orchestration, chosen: Orchestration, folder: Path, freeze: tuple[str, ...]
    ) -> _Carried:
        """Carry what a plan needs; tell when it is not ``chosen`` that cannot be carried."""
        from .exports import OWN_FOLDER

        root = folder.absolute().parent
        try:
            return self._carry(plan, root, freeze)
        except CarryError as error:
            if plan is chosen:
                raise
            self._carry(chosen, root, freeze)  # raises, too, unless only the others are in the way
            names = {flow.name for flow in chosen.flows}
            others = ", ".join(flow.name for flow in plan.flows if flow.name not in names)
            raise type(error)(
                f"{error} It is for {others}, which {folder.name}/ has too. Mend that, {OWN_FOLDER}"
            ) from error

    def _functions(
        self, plan: Orchestration
    ) -> tuple[dict[str, Callable[..., Any]], dict[str, str]]:
        """Return the functions of a plan's operations, and why others have none."""
        wanted = {node.name for node in plan.operations}
        functions, without = {}, {}
        for operation in self.operations:
            if operation.name not in wanted:
                continue
            if operation.function is None:
                without[operation.name] = "it has no function"
            else:
                functions[operation.name] = operation.function
        return functions, without

    def _carry(self, plan: Orchestration, root: Path, freeze: tuple[str, ...] = ()) -> _Carried:
        from .backends.prefect import names_in_signatures
        from .carry import carry

        functions, without = self._functions(plan)
        also = names_in_signatures(plan)
        while True:
            try:
                carried = carry(self.recorder, functions, root=root, also=also, freeze=freeze)
                break
            except NoSourceError as error:
                name = error.operation
                if name not in functions or not self._is_foreign(name):
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
            frozen=carried.frozen,
            expected={
                "modules": carried.modules,
                "digests": carried.digests,
                "kept": carried.kept,
                "shared": carried.shared,
                "settings": carried.settings,
                "twice": carried.twice,
            },
        )

    def _is_foreign(self, name: str) -> bool:
        """Return whether an operation came as an object, and not from a magic or decorator."""
        from .operations import Operation

        operation = self.registry.get(name)
        return not (isinstance(operation, Operation) and operation.cell)


class _Functions(dict[str, Callable[..., Any]]):
    """Operations' functions by name, with digests of all that those use that cache results."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__(functions)
        self._codes: dict[str, str | None] = {}

    def add(self, name: str, code: str | None) -> None:
        """Note the digest; None where it cannot be told."""
        self._codes[name] = code

    def known_code(self, name: str) -> str | None:
        """Return the digest."""
        return self._codes[name]

    def code(self, name: str) -> str:
        """Return the digest, or what is no other; see `pulpo.backends.prefect_runtime`."""
        return self._codes[name] or os.urandom(16).hex()


def _words(carried: Carried) -> set[str]:
    """Return all that may be a name in a text."""
    return {name for name in re.findall(r"\w+", carried.text) if name.isidentifier()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    plan: Orchestration
    flow: str
    functions: dict[str, Callable[..., Any]]
    namespace: dict[str, Any]
    parameters: dict[str, Any]
    modules: dict[str, str]
    on_change: Callable[[Run], None]
    engine: Engine
    reuse: Reuse | None
    storage: FromStorage | None

    def positional(self) -> tuple[Any, ...]:
        return self.plan, self.flow, self.functions, self.namespace, self.parameters

    def options(self) -> dict[str, Any]:
        return {
            "modules": self.modules,
            "on_change": self.on_change,
            "reuse": self.reuse,
            "storage": self.storage,
            "engine": self.engine,
        }


class _Listener:
    """Calls somebody who listens to runs; what they raise is logged once, and breaks no run."""

    def __init__(self, listener: Callable[[Run], None]) -> None:
        self._listener = listener
        self._has_raised = False

    def __call__(self, run: Run) -> None:
        try:
            self._listener(run)
        except Exception:
            import logging

            if not self._has_raised:
                logging.getLogger(__name__).exception("a listener to runs raised")
            self._has_raised = True


class _Piece(NamedTuple):
    """A plan that is exported, and the part it was asked for by, as the manifest has it."""

    plan: Orchestration
    asked: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Carried:
    text: str
    identifiers: dict[str, str]
    stubs: dict[str, str]
    frozen: tuple[str, ...]
    #: What a fresh process has to find in the text: what `verify` takes.
    expected: dict[str, Any]
    warnings: tuple[str, ...]
    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What an export consists of: ``chosen`` is what was asked for, ``plan`` all that it has."""

    chosen: Orchestration
    flow: str
    plan: Orchestration
    carried: _Carried
    files: dict[str, str]
    manifest: dict[str, object]
    warnings: tuple[str, ...]


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


_NO_OPERATIONS = (
    "there are no operations yet: write '%%operation NAME' above a cell with a function, or "
    "decorate one with @pulpo.operation(name=…)."
)


def _check_outside() -> None:
    from .run_logs import in_an_operation

    if inside := in_an_operation():
        raise UsageError(
            f"{inside} is running, and an operation cannot run flows. Take what it needs as a "
            "parameter, and the run makes it before."
        )


def _check_reuse(part: Part, *, resume: bool, changed: bool) -> None:
    flag = "--resume" if resume else "--changed"
    if resume and changed:
        raise UsageError(
            "--resume goes on with the last run, --changed compares with earlier ones: give one."
        )
    runner = part.get("runner", "async")
    if (resume or changed) and runner != "async":
        raise UsageError(
            f"{flag} works with --runner async, the default: with {runner} the operations run in "
            f"other places. Leave out --runner, or {flag}."
        )


_SERVERS = {
    "configured": "the configured server",
    "kept": "the server of 'pulpo prefect start'",
    "private": "a private server",
}


def _next_server() -> str:
    """Say which Prefect server the next run uses."""
    from .prefect_server import find_kept

    if os.environ.get("PREFECT_API_URL"):
        return _SERVERS["configured"]
    return _SERVERS["kept"] if find_kept() else f"{_SERVERS['private']}, at the first run"


def _task_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if name not in ("inputs", "outputs")}


def _check_engine(engine: Engine, part: Part, *, resume: bool, changed: bool) -> None:
    if engine not in ENGINES:
        hint = did_you_mean(str(engine), ENGINES)
        raise UsageError(f"engine is one of {', '.join(ENGINES)}, not {engine!r}.{hint}")
    runner = part.get("runner", "async")
    if engine == "local" and runner != "async":
        raise UsageError(
            f"--runner {runner} is a task runner of Prefect's, and --engine local runs without "
            "Prefect: leave one of them out."
        )
    if engine == "local" and (resume or changed):
        flag = "--resume" if resume else "--changed"
        raise UsageError(
            f"{flag} takes results of runs on Prefect, and --engine local keeps none: leave one of "
            "them out."
        )


def _not_local(plan: Orchestration, flow: FlowDefinition) -> Iterator[str]:
    """Say which flags of a flow's operations mean nothing without Prefect."""
    nodes = [node for node in plan.operations if node.name in flow.covers]
    if names := [node.name for node in nodes if node.options.cache is not None]:
        yield f"{_some(names)}: not looked up in the cache, which is Prefect's (--engine local)"
    if names := [node.name for node in nodes if node.options.strategy == "process"]:
        yield f"{_some(names)}: in a thread, not in a process of its own (--engine local)"


def _selection(part: Part) -> Selection | None:
    """Return which operations are wanted; None when all are."""
    upto, start, only = (_named(part, flag) for flag in ("upto", "from_", "only"))
    if not (upto or start or only):
        return None
    from .compiler import Selection

    return Selection(upto=upto, start=start, only=only)


def _names_in(given: str | Iterable[str]) -> tuple[str, ...]:
    """Return the names in one text or several, in each separated by commas."""
    several = not isinstance(given, str) and isinstance(given, Iterable)
    texts: list[Any] = list(given) if several else [given]
    if wrong := [text for text in texts if not isinstance(text, str)]:
        raise UsageError(f"names are text, or a list of texts, not {wrong[0]!r}.")
    return tuple(dict.fromkeys(name.strip() for text in texts for name in text.split(",")))


def _named(part: Part, flag: Literal["upto", "from_", "only"]) -> tuple[str, ...]:
    names = _names_in(part.get(flag, ()))
    if not all(names):
        raise UsageError(
            f"--{flag.strip('_')} takes names of operations: a, or a,b without a space."
        )
    return names


def _asked(part: Part) -> dict[str, Any]:
    """Return a part as a manifest has it, without what is usual."""
    selection = _selection(part)
    names = (selection.upto, selection.start, selection.only) if selection else ((), (), ())
    asked = {flag: list(found) for flag, found in zip(_FLAGS, names, strict=True) if found}
    flat = {"flat": True} if part.get("flat") else {}
    runner = part.get("runner", "async")
    return {**asked, **flat, **({"runner": runner} if runner != "async" else {})}


def _part(asked: Mapping[str, Any]) -> Part:
    """Return the part that a manifest tells of."""
    part = Part(flat=bool(asked.get("flat")), runner=asked.get("runner", "async"))
    part["upto"], part["from_"], part["only"] = (asked.get(flag, ()) for flag in _FLAGS)
    return part


_FLAGS = ("upto", "from", "only")


def _alike(flows: Iterable[EarlierFlow]) -> list[list[EarlierFlow]]:
    """Return the flows of a folder in lists, each of flows that were asked for as the same part."""
    alike: dict[str, list[EarlierFlow]] = {}
    for each in flows:
        alike.setdefault(repr(each.part), []).append(each)
    return list(alike.values())


def _sources(flow: FlowDefinition, names: Iterable[str]) -> frozenset[str]:
    """Return the operations whose results these parameters of a flow stand for."""
    return frozenset(
        parameter.value.operation
        for parameter in flow.parameters
        if parameter.value and parameter.name in names
    )


def _missing_error(
    flow: FlowDefinition, missing: list[Parameter], stale: Iterable[Problem]
) -> MissingInputError:
    sources = {p.name: p.value.operation for p in missing if p.value}
    told = ", ".join(f"{name} (the result of {source})" for name, source in sources.items())
    first = next(iter(sources))
    that, it = ("that as it is", "it") if len(sources) == 1 else ("those as they are", "them")
    if old := [problem for problem in stale if problem.operation in sources.values()]:
        return MissingInputError(
            f"{flow.name} needs {told}, and {old[0].message} {old[0].fix}",
            missing=tuple(sources),
        )
    return MissingInputError(
        f"{flow.name} needs {told}, and no run of this session has {that} now. Make {it} by "
        f"'%pulpo run --upto {','.join(dict.fromkeys(sources.values()))}', or give {it} by "
        f"--param {first}=@variable.",
        missing=tuple(sources),
    )


def _cuts(plan: Orchestration) -> list[Problem]:
    """Return a note for each input that a selection cut off."""
    main = plan.get_flow("main_flow")
    return [
        Problem(
            code="cut-input",
            severity="note",
            message=f"the selection leaves out {parameter.value.operation!r}: its result becomes "
            f"the flow parameter {parameter.name!r}.",
            fix=f"A run takes it from the last run, or from --param {parameter.name}=@variable.",
        )
        for parameter in (main.parameters if main else ())
        if parameter.value
    ]


def _some(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" * (len(names) > most))


def _operations(count: int) -> str:
    return f"{count} operation{'' if count == 1 else 's'}"


def _operation_rows(plan: Orchestration) -> Listing:
    from .reports import Listing

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
    from .reports import Listing

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
    from .reports import Listing

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
    from .reports import SourceView

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


def _credentials_in_options(plan: Orchestration) -> Iterator[SecretError]:
    """Yield the operations whose tags or description look like a credential; exports hold both."""
    from .carry.secrets import find_secrets

    for node in plan.operations:
        told = [node.options.description, *node.options.tags]
        for found in find_secrets(repr(told)) if any(told) else ():
            yield SecretError(
                f"operation {node.name!r}: its tags or its description look like a credential "
                f"({found.why}), and an export is a file that people share.",
                fix="Leave it out of the operation's line.",
                operation=node.name,
            )


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


def _imports(text: str, name: str, value: Any) -> bool:
    """Return whether a cell's import gives a name the very value that it has."""
    for node in ast.parse(text).body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for alias in node.names:
            if isinstance(node, ast.ImportFrom):
                there = getattr(sys.modules.get(node.module or ""), alias.name, None)
            else:
                whole = alias.name if alias.asname else alias.name.partition(".")[0]
                there = sys.modules.get(whole)
            bound = alias.asname or alias.name.partition(".")[0]
            if bound == name and value is not None and there is value:
                return True
    return False


_STUB = """
def _no_source(name):
    def operation(*args, **kwargs):
        raise NotImplementedError(
            f"operation {name!r} was exported without its source, which could not be reached. "
            "Define it in a notebook cell or in a module, and export again."
        )

    return operation
""".strip()


def _readable(folder: Path) -> Existing | None:
    """Return the export that is there, if it can be read."""
    from .exports import read_export

    try:
        return read_export(folder)
    except ExportError:
        return None


def _installable(
    files: Mapping[str, str], plans: Sequence[Orchestration], carried: _Carried
) -> tuple[dict[str, str], tuple[str, ...], tuple[str, ...]]:
    """Return files with what each flow needs to be installed, that, and what it does not say."""
    from .backends.prefect import packages_of
    from .carry import python_version, requirements_of
    from .exports import headed

    requires, unlisted = requirements_of((*packages_of(plans), *carried.packages))
    flows = [flow.name for plan in plans for flow in plan.flows]
    return headed(files, flows, requires, python_version()), requires, unlisted


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Let the garbage collector rest for about a second.

    An export of a thousand operations makes some hundred thousand objects, nearly all of which live
    until its end. A fifth of its time would go into looking through them, and through all that the
    session has, for garbage that is not there.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _manifest(
    plan: Orchestration,
    carried: _Carried,
    package: str,
    asked: Mapping[str, dict[str, Any]],
    requires: tuple[str, ...],
) -> dict[str, object]:
    from importlib.metadata import version

    from .backends.document import describe, lasting, plain

    made = replace(plan, flows=tuple(flow for flow in plan.flows if not flow.blocked))
    return {
        "pulpo": version("pulpo"),
        "prefect": version("prefect"),
        "package": package,
        "plan": plain(describe(lasting(made))),
        "parts": {flow.name: asked[flow.name] for flow in made.flows},
        "packages": list(carried.packages),
        "requirements": list(requires),
        "freeze": list(carried.frozen),
    }


def _version_notes(manifest: Manifest) -> tuple[str, ...]:
    from importlib.metadata import version

    return tuple(
        f"exported by {name} {then}; this is {version(name)}"
        for name, then in (("pulpo", manifest.pulpo), ("prefect", manifest.prefect))
        if then != version(name)
    )


def _usage(plan: Orchestration, flow: str, folder: str) -> str:
    definition = plan.get_flow(flow)
    needed = [p for p in definition.parameters if p.default is None] if definition else []
    flags = "".join(
        f" --{p.name.replace('_', '-')} {'FILE.json' if p.by_reference else p.name.upper()}"
        for p in needed
    )
    return f"python {shlex.quote(f'{folder}/orchestration/{flow}.py')}{flags}"
