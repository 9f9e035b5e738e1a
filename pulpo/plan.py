"""The intermediate representation: what flows come out, as frozen strings and tuples.

Grammar (every target, from Prefect code to pictures, is a function of an `Orchestration`)::

    Orchestration = operations: Node*, edges: Edge*, flows: FlowDefinition*, problems: Problem*
    Node          = name, ports: PortPlan*, outputs: OutputPlan*, options, where it was declared
    Edge          = source -> target, by port (or order only), with the models it carries
    FlowDefinition= name, hierarchy_path, parameters: Parameter*, steps: Step*, returns: Value*
    Step          = a task or a subflow, its arguments: Argument*, what it only waits for, its stage
    Argument      = parameter name := Source
    Source        = FromParameter | FromResult | FromList(FromParameter | FromResult ...) | Nothing

Nothing here holds a callable or a class, so a plan can be compared, stored and sent. What a plan
has by the ten thousand is a named tuple, which is made in a fraction of a frozen dataclass's time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from .engines import Engine, Runner
from .errors import Problem

__all__ = [
    "Argument",
    "Edge",
    "Engine",
    "FlowDefinition",
    "FromList",
    "FromParameter",
    "FromResult",
    "Node",
    "Nothing",
    "Orchestration",
    "OutputPlan",
    "Parameter",
    "PortPlan",
    "Runner",
    "Source",
    "Step",
    "TaskOptions",
    "Text",
    "Value",
]


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the user's own source, such as an annotation or a default.

    Parameters
    ----------
    text
        The expression as written, for example ``"list[RawJobs]"``.
    names
        The global names in it, each with the module it is imported from; an empty module means
        the exported ``operations.py``. Builtins are not listed.
    """

    text: str
    names: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """The flags of an operation, as Prefect's ``@task`` understands them (times in seconds)."""

    description: str = ""
    tags: tuple[str, ...] = ()
    retries: int = 0
    retry_delay: float | None = None
    timeout: float | None = None
    cache: str | None = None
    after: tuple[str, ...] = ()
    bind: tuple[tuple[str, str], ...] = ()
    strategy: Literal["thread", "process"] | None = None
    max_concurrency: int | None = None
    on_element_error: Literal["fail", "skip"] = "fail"


class Value(NamedTuple):
    """One result: an operation's, or one item of it when it returns a tuple of models."""

    operation: str
    index: int | None = None  # type: ignore[assignment]  # hides tuple.index


class PortPlan(NamedTuple):
    """One parameter of an operation.

    Parameters
    ----------
    kind
        ``"data"`` when it takes a model, ``"parameter"`` when a person gives the value.
    shape
        For data: ``"one"`` (``M``), ``"all"`` (``list[M]``) or ``"any"`` (unannotated).
    passing
        How Python wants it: ``"positional"``, ``"either"``, ``"keyword"`` or ``"variadic"``: a
        list that goes to ``*args``.
    missing
        True when nobody produces the model, so that a person has to give it.
    mapped
        True when it takes one of many: the operation runs once for each element.
    """

    name: str
    kind: Literal["data", "parameter"]
    model: str = ""
    shape: Literal["one", "all", "any"] = "one"
    optional: bool = False
    passing: Literal["positional", "either", "keyword", "variadic"] = "either"
    annotation: Text | None = None
    default: Text | None = None
    missing: bool = False
    hint: str = ""
    mapped: bool = False


class OutputPlan(NamedTuple):
    """One model that an operation gives; ``index`` is its place in a returned tuple.

    ``many`` is true for ``list[M]``, and for what an operation gives that runs once per element;
    ``flat`` when it does so and gives a list each time: all of them are made one.
    """

    model: str
    many: bool = False
    optional: bool = False
    index: int | None = None  # type: ignore[assignment]  # hides tuple.index
    annotation: Text | None = None
    flat: bool = False


class Node(NamedTuple):
    """One operation.

    ``declared`` are the models that its declaration names, besides the annotations, by flag:
    ``("inputs", ("RawJobs",))`` and ``("outputs", ("list[Jobs]",))``.
    """

    name: str
    function: str
    ports: tuple[PortPlan, ...] = ()
    outputs: tuple[OutputPlan, ...] = ()
    returns: Text | None = None
    gives_value: bool = True
    is_async: bool = False
    doc: str = ""
    options: TaskOptions = TaskOptions()
    cell: str = ""
    stale: bool = False
    declared: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def maps(self) -> tuple[str, ...]:
        """The ports that take one of many; empty unless the operation runs once per element."""
        return tuple(port.name for port in self.ports if port.mapped)


class Edge(NamedTuple):
    """``source`` runs before ``target``.

    ``kind`` is ``"data"``, ``"order"`` (``--after``, or a model that no parameter takes) or
    ``"candidate"`` (an ambiguous port: drawn to every candidate, and marked).
    """

    source: str
    target: str
    port: str = ""
    model: str = ""
    kind: Literal["data", "order", "candidate"] = "data"
    index: int | None = None  # type: ignore[assignment]  # hides tuple.index
    many: bool = False


class Parameter(NamedTuple):
    """A flow's parameter.

    ``value`` is the operation's result that it stands for when a parent flow passes it; None for
    what only a person can give. ``by_reference`` is true for data, which Prefect must not walk.
    """

    name: str
    annotation: Text | None = None
    default: Text | None = None
    by_reference: bool = False
    value: Value | None = None
    model: str = ""


class FromParameter(NamedTuple):
    """The value of one of the flow's parameters."""

    name: str
    by_reference: bool = False


class FromResult(NamedTuple):
    """A result of an earlier step of the same flow: the operation's, or what a subflow returned."""

    step: str
    value: Value


@dataclass(frozen=True, slots=True)
class FromList:
    """Several results as one list; items marked many are flattened, absent ones left out."""

    items: tuple[FromParameter | FromResult, ...]
    many: tuple[bool, ...]
    optional: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Nothing:
    """None, for an optional port that nobody feeds."""


Source = FromParameter | FromResult | FromList | Nothing


class Argument(NamedTuple):
    """What one parameter of a task or a subflow gets."""

    name: str
    source: Source


class Step(NamedTuple):
    """One call in a flow: ``target`` is an operation's name, or a flow's."""

    kind: Literal["task", "flow"]
    target: str
    arguments: tuple[Argument, ...] = ()
    after: tuple[str, ...] = ()
    stage: int = 0
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowDefinition:
    """One Prefect flow.

    Parameters
    ----------
    name
        The flow's name, which is also its identifier and its file's, such as ``scraping_flow``.
    hierarchy_path
        The dotted group, ``""`` for ``main_flow`` and ``standalones_flow``.
    operations
        The operations that this flow calls itself, in order.
    parallel_groups
        Its children (operations and subflows, by name) by stage.
    waits
        True when every child of a stage needs all of the stage before, so that awaiting the
        stages one after the other loses nothing.
    returns
        The results it gives back: one as itself, several as a dict keyed by operation.
    covers
        Every operation that runs when the flow runs, subflows included.
    blocked
        The errors that stop it.
    """

    name: str
    hierarchy_path: str = ""
    operations: tuple[str, ...] = ()
    parallel_groups: tuple[tuple[str, ...], ...] = ()
    subflows: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    steps: tuple[Step, ...] = ()
    waits: bool = True
    returns: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()
    blocked: tuple[Problem, ...] = ()
    doc: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orchestration:
    """The whole plan, in registration order.

    ``runner`` is where the operations run: ``"async"`` on the flow's own event loop, else by that
    task runner.
    """

    operations: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()
    flows: tuple[FlowDefinition, ...] = ()
    problems: tuple[Problem, ...] = ()
    runner: Runner = "async"

    @property
    def is_valid(self) -> bool:
        """True when no problem is an error."""
        return not any(problem.severity == "error" for problem in self.problems)

    def get_flow(self, name: str) -> FlowDefinition | None:
        """Return the flow called ``name``, or None."""
        return next((flow for flow in self.flows if flow.name == name), None)

    def get_operation(self, name: str) -> Node | None:
        """Return the operation called ``name``, or None."""
        return next((node for node in self.operations if node.name == name), None)
