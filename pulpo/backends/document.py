"""A plan as JSON with a schema: what ``compile --json`` prints and ``manifest.json`` holds.

Each class here describes one class of `pulpo.plan`, field by field, by the same names. A field that
has no default is always written; one that has is left out while it has that value, so that a field
that is added later changes no document that does not need it. Readers ignore keys that they do not
know. `SCHEMA` is raised when a key goes or changes its meaning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    model_validator,
)

from .. import errors, plan
from ..carry.secrets import find_secrets

__all__ = [
    "DESCRIBED",
    "HIDDEN",
    "SCHEMA",
    "Argument",
    "Binding",
    "Edge",
    "Expression",
    "Flow",
    "FromList",
    "FromParameter",
    "FromResult",
    "Manifest",
    "Nothing",
    "Operation",
    "Options",
    "Output",
    "Parameter",
    "Part",
    "PlanDocument",
    "Port",
    "Problem",
    "Step",
    "Value",
    "declaration",
    "describe",
    "lasting",
    "plain",
]

SCHEMA = 1
_QUOTE = re.compile("['\"]")
#: What stands where the session has something that looks like a credential.
HIDDEN = "<credential>"


def describe(orchestration: plan.Orchestration) -> PlanDocument:
    """Return the document of a plan; what looks like a credential does not reach it."""
    names = [name for name in PlanDocument.model_fields if name != "schema_version"]
    parts = {name: getattr(orchestration, name) for name in names}
    made = PlanDocument.model_validate({"schema_version": SCHEMA, **parts})
    producers = _producers(made.edges)
    operations = tuple(
        operation.model_copy(
            update={
                "ports": tuple(
                    port.model_copy(update={"producers": producers[operation.name, port.name]})
                    if (operation.name, port.name) in producers
                    else port
                    for port in operation.ports
                )
            }
        )
        for operation in made.operations
    )
    return made.model_copy(update={"operations": operations})


def lasting(orchestration: plan.Orchestration) -> plan.Orchestration:
    """Return the plan without what running a cell once more changes: its number, what is stale."""
    return replace(
        orchestration,
        operations=tuple(node._replace(cell="", stale=False) for node in orchestration.operations),
        problems=(),
    )


def plain(document: BaseModel) -> dict[str, Any]:
    """Return a document as dicts, lists, texts and numbers, in the order of its fields."""
    return document.model_dump(mode="json", exclude_defaults=True)


def declaration(operation: Operation) -> plan.Node:
    """Return of an operation what its declaration says: the name, the function and the flags."""
    options = {name: getattr(operation.options, name) for name in Options.model_fields}
    options["bind"] = tuple((each.port, each.operation) for each in operation.options.bind)
    return plan.Node(
        name=operation.name,
        function=operation.function,
        options=plan.TaskOptions(**options),
        declared=tuple(operation.declared.items()),
    )


def _producers(edges: tuple[Edge, ...]) -> dict[tuple[str, str], tuple[str, ...]]:
    found: dict[tuple[str, str], dict[str, None]] = {}
    for edge in edges:
        if edge.port:
            found.setdefault((edge.target, edge.port), {})[edge.source] = None
    return {place: tuple(names) for place, names in found.items()}


# --- Texts ----------------------------------------------------------------------------------------


def _shown(text: object) -> object:
    """Return a text that every JSON reader takes, or `HIDDEN`."""
    if not isinstance(text, str):
        return text
    if not text.isascii():  # a lone surrogate is no text in UTF-8
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return HIDDEN if _has_credential(repr(text)) else text


@lru_cache(maxsize=65536)  # a flow has the texts of its operations, and so have its parents
def _has_credential(code: str) -> bool:
    try:
        return any(find_secrets(code))
    except (SyntaxError, ValueError):  # a default that is no expression was looked at as a text
        return False


#: Free text of the user's: it may hold anything.
Shown = Annotated[str, BeforeValidator(_shown)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class Expression(_Part):
    """A piece of the user's own source, such as an annotation or a default."""

    text: Shown = Field(
        description=f"The Python expression; {HIDDEN} where it looks like a credential."
    )
    names: Annotated[dict[str, str], BeforeValidator(dict)] = Field(
        default={},
        description="The global names in it, each with the module it is imported from: an empty "
        "one is the export's own operations.py. Builtins are not listed.",
    )


def _without_credential(default: Expression | None, info: ValidationInfo) -> Expression | None:
    """Hide a default whose parameter is called like a credential."""
    if default is None or not _QUOTE.search(default.text):  # no text, no credential
        return default
    code = f"def f(*, {info.data.get('name', '_')}={default.text}): ..."
    return Expression(text=HIDDEN) if _has_credential(code) else default


#: The default of a parameter; the field ``name`` stands before it.
Default = Annotated[Expression | None, AfterValidator(_without_credential)]


# --- Operations -----------------------------------------------------------------------------------


class Binding(_Part):
    """One ``--bind port=operation``."""

    port: str = Field(description="The port.")
    operation: str = Field(description="The operation that feeds it.")


def _binding(given: object) -> object:
    return dict(zip(("port", "operation"), given, strict=True)) if type(given) is tuple else given


Bound = Annotated[Binding, BeforeValidator(_binding)]


class Options(_Part):
    """The flags of an operation; each has the default that the declaration has."""

    description: Shown = Field(default="", description="What the task is for.")
    tags: tuple[Shown, ...] = Field(default=(), description="Prefect's tags.")
    retries: int = Field(default=0, description="How often a failed try is repeated.")
    retry_delay: float | None = Field(default=None, description="Seconds before each retry.")
    timeout: float | None = Field(default=None, description="Seconds after which a try has failed.")
    cache: str | None = Field(
        default=None,
        description="How long results for equal inputs are kept, such as 12h; inputs: for good.",
    )
    after: tuple[str, ...] = Field(
        default=(), description="Operations that run before, without passing data."
    )
    bind: tuple[Bound, ...] = Field(
        default=(), description="What was said about who feeds which port."
    )
    strategy: Literal["thread", "process"] | None = Field(
        default=None, description="Where a sync function runs; null leaves it to pulpo."
    )
    max_concurrency: int | None = Field(
        default=None, description="How many elements of a map run at a time; null for all."
    )
    on_element_error: Literal["fail", "skip"] = Field(
        default="fail", description="What a failing element of a map does to the others."
    )


class Port(_Part):
    """One parameter of an operation."""

    name: str = Field(description="The parameter's name.")
    kind: Literal["data", "parameter"] = Field(
        description="data takes a model; the value of a parameter is given by a person."
    )
    model: str = Field(default="", description="The model it takes, by its short name.")
    shape: Literal["one", "all", "any"] = Field(
        default="one",
        description="For data: one value, a list of all, or any (a parameter without annotation).",
    )
    optional: bool = Field(default=False, description="Whether it takes None where nobody gives.")
    passing: Literal["positional", "either", "keyword", "variadic"] = Field(
        default="either", description="How Python wants the argument; a list of all for *args."
    )
    annotation: Expression | None = Field(default=None, description="Its type, as written.")
    default: Default = Field(default=None, description="Its default; null when it has none.")
    missing: bool = Field(
        default=False, description="Whether nobody produces the model, so that a person gives it."
    )
    hint: Shown = Field(default="", description="A bare type that could be a model, if it is one.")
    mapped: bool = Field(
        default=False,
        description="Whether the operation runs once for each element of what it is given.",
    )
    producers: tuple[str, ...] = Field(
        default=(),
        description="The operations that it is bound to, in order; all candidates, when the "
        "binding is ambiguous (their edges are of the kind candidate).",
    )


class Output(_Part):
    """One model that an operation gives."""

    model: str = Field(description="The model, by its short name.")
    many: bool = Field(
        default=False,
        description="Whether it gives a list of them, itself or by running for each element.",
    )
    optional: bool = Field(default=False, description="Whether it may give None.")
    index: int | None = Field(
        default=None, description="Its place in the returned tuple; null when it is all of it."
    )
    annotation: Expression | None = Field(default=None, description="Its type, as written.")
    flat: bool = Field(
        default=False,
        description="Whether it gives a list for each element of a map; all become one.",
    )


class Operation(_Part):
    """One operation."""

    name: str = Field(description="Its dotted name.")
    function: str = Field(description="The name of its function.")
    is_async: bool = Field(description="Whether the function is a coroutine function.")
    ports: tuple[Port, ...] = Field(description="Its parameters, in the order of the signature.")
    outputs: tuple[Output, ...] = Field(description="The models that it gives.")
    options: Options = Field(description="Its flags; those that were not given are left out.")
    returns: Expression | None = Field(default=None, description="The return annotation.")
    gives_value: bool = Field(
        default=True, description="Whether others can have its result, model or not."
    )
    doc: Shown = Field(default="", description="The function's docstring.")
    cell: str = Field(
        default="",
        description="Where it was declared, such as cell 4 or jobs.py:12; not in an export.",
    )
    stale: bool = Field(
        default=False,
        description="Whether a model has changed since it was declared; not in an export.",
    )
    declared: Annotated[dict[str, tuple[str, ...]], BeforeValidator(dict)] = Field(
        default={},
        description="The models that its declaration names, for inputs and outputs.",
    )


class Edge(_Part):
    """One operation runs before another."""

    source: str = Field(description="The operation that runs first.")
    target: str = Field(description="The operation that waits for it.")
    kind: Literal["data", "order", "candidate"] = Field(
        description="data passes a result; order only waits; candidate is one of several that an "
        "ambiguous port could mean."
    )
    port: str = Field(default="", description="The target's parameter that gets the result.")
    model: str = Field(default="", description="The model that passes.")
    index: int | None = Field(
        default=None, description="Which item of a returned tuple passes; null for all of it."
    )
    many: bool = Field(default=False, description="Whether a list of the model passes.")


# --- Flows ----------------------------------------------------------------------------------------


class Value(_Part):
    """One result: an operation's, or one item of it."""

    operation: str = Field(description="The operation that gives it.")
    index: int | None = Field(
        default=None, description="Its place in the returned tuple; null for all of it."
    )


class Parameter(_Part):
    """One parameter of a flow."""

    name: str = Field(description="Its name, which is also the flag of the exported script.")
    annotation: Expression | None = Field(default=None, description="Its type, as written.")
    default: Default = Field(default=None, description="Its default; null when it has none.")
    by_reference: bool = Field(
        default=False, description="Whether it is data, which Prefect does not look into."
    )
    value: Value | None = Field(
        default=None, description="The result that a parent flow gives it; null for a person's."
    )
    model: str = Field(default="", description="The model it takes, by its short name.")


class _Source(_Part):
    @model_validator(mode="before")
    @classmethod
    def _of_the_plan(cls, given: Any) -> Any:
        if isinstance(given, Mapping | BaseModel):
            return given
        fields = {name: getattr(given, name) for name in cls.model_fields if name != "kind"}
        return {"kind": _kind_of(given), **fields}


class FromParameter(_Source):
    """The value of one of the flow's parameters."""

    kind: Literal["parameter"] = Field(description="Tells the sources apart.")
    name: str = Field(description="The parameter.")
    by_reference: bool = Field(default=False, description="Whether it is data.")


class FromResult(_Source):
    """A result of an earlier step of the same flow."""

    kind: Literal["result"] = Field(description="Tells the sources apart.")
    step: str = Field(description="The step: an operation's or a subflow's name.")
    value: Value = Field(description="What is taken of what the step gives.")


Item = Annotated[
    Annotated[FromParameter, Tag("parameter")] | Annotated[FromResult, Tag("result")],
    Discriminator(lambda given: _kind_of(given)),
]


class FromList(_Source):
    """Several results as one list."""

    kind: Literal["list"] = Field(description="Tells the sources apart.")
    items: tuple[Item, ...] = Field(description="What is in it, in order.")
    many: tuple[bool, ...] = Field(description="For each item, whether it is a list to flatten.")
    optional: tuple[bool, ...] = Field(description="For each item, whether None is left out.")


class Nothing(_Source):
    """None, for an optional port that nobody feeds."""

    kind: Literal["nothing"] = Field(description="Tells the sources apart.")


def _kind_of(given: Any) -> str | None:
    if type(given) in _KINDS:
        return _KINDS[type(given)]
    return given.get("kind") if isinstance(given, Mapping) else getattr(given, "kind", None)


_KINDS: dict[type, str] = {
    plan.FromParameter: "parameter",
    plan.FromResult: "result",
    plan.FromList: "list",
    plan.Nothing: "nothing",
}
Source = Annotated[
    Annotated[FromParameter, Tag("parameter")]
    | Annotated[FromResult, Tag("result")]
    | Annotated[FromList, Tag("list")]
    | Annotated[Nothing, Tag("nothing")],
    Discriminator(_kind_of),
]


class Argument(_Part):
    """What one parameter of a task or a subflow gets."""

    name: str = Field(description="The parameter.")
    source: Source = Field(description="Where its value comes from.")


class Step(_Part):
    """One call in a flow."""

    kind: Literal["task", "flow"] = Field(description="task calls an operation, flow a subflow.")
    target: str = Field(description="The operation's or the flow's name.")
    arguments: tuple[Argument, ...] = Field(description="What it is called with.")
    after: tuple[str, ...] = Field(
        default=(), description="Steps that it only waits for, without their data."
    )
    stage: int = Field(description="Its stage in the flow, from 0.")
    group: str = Field(default="", description="The group below the flow's own, if there is one.")


class Problem(_Part):
    """One thing that is wrong, or worth a look."""

    code: str = Field(description="A short, stable word for the kind, such as ambiguous-port.")
    severity: Literal["error", "warning", "note"] = Field(
        description="An error blocks the flows that contain the operation; others block nothing."
    )
    message: Shown = Field(description="What is wrong, on what.")
    fix: Shown = Field(default="", description="What to do about it.")
    operation: str = Field(default="", description="The operation, if it is about one.")
    port: str = Field(default="", description="The port, if it is about one.")
    cell: str = Field(default="", description="Where the operation was declared.")
    candidates: tuple[str, ...] = Field(default=(), description="The names to choose among.")


class Flow(_Part):
    """One Prefect flow."""

    name: str = Field(description="Its name, which is also its file's, such as scraping_flow.")
    hierarchy_path: str = Field(
        description="Its group, dotted; empty for main_flow and standalones_flow."
    )
    parameters: tuple[Parameter, ...] = Field(description="What it takes, in order.")
    operations: tuple[str, ...] = Field(description="The operations that it calls itself.")
    subflows: tuple[str, ...] = Field(description="The flows that it calls itself.")
    parallel_groups: tuple[tuple[str, ...], ...] = Field(
        description="Its stages: what it calls, operations and subflows, by stage."
    )
    steps: tuple[Step, ...] = Field(description="Its calls, in order.")
    waits: bool = Field(
        description="Whether everything in a stage needs all of the stage before, so that the "
        "code awaits stage after stage."
    )
    returns: tuple[str, ...] = Field(description="The operations whose results it gives back.")
    covers: tuple[str, ...] = Field(
        description="Every operation that runs when it runs, those of subflows included."
    )
    blocked: tuple[Problem, ...] = Field(description="The errors that stop it; empty when it runs.")
    doc: Shown = Field(default="", description="Its docstring.")


class PlanDocument(_Part):
    """A plan: everything that the flows are made from."""

    schema_version: Literal[1] = Field(
        description="The version of this schema; raised when a key goes or changes its meaning."
    )
    runner: plan.Runner = Field(
        description="Where the operations run: async on the flow's own event loop, else by that "
        "task runner."
    )
    operations: tuple[Operation, ...] = Field(description="Its operations, as declared.")
    edges: tuple[Edge, ...] = Field(description="Who runs before whom, and with whose data.")
    flows: tuple[Flow, ...] = Field(description="Its flows; subflows stand before their parents.")
    problems: tuple[Problem, ...] = Field(
        description="What is wrong or worth a look; empty in an export."
    )

    def text(self) -> str:
        """Return the JSON; equal plans give equal text."""
        return self.model_dump_json(indent=2, exclude_defaults=True)


class Part(_Part):
    """As what a flow was exported: which operations were selected, and what kind of flow."""

    model_config = ConfigDict(populate_by_name=True)

    upto: tuple[str, ...] = Field(default=(), description="These operations and all they need.")
    from_: tuple[str, ...] = Field(
        default=(), alias="from", description="These operations and all that need them."
    )
    only: tuple[str, ...] = Field(default=(), description="These operations alone.")
    flat: bool = Field(default=False, description="Whether it is one flow without nesting.")
    runner: plan.Runner = Field(default="async", description="Where its operations run.")


class Manifest(_Part):
    """What ``manifest.json`` says of an export."""

    pulpo: str = Field(description="The version of pulpo that wrote it.")
    prefect: str = Field(description="The version of Prefect that it was written for.")
    package: str = Field(description="The folder's name, by which its modules import each other.")
    plan: PlanDocument = Field(
        description="The plan of what was exported, without cells, problems and what is stale."
    )
    parts: dict[str, Part] = Field(
        description="For each flow, as what it was exported; nothing of it for the usual."
    )
    packages: tuple[str, ...] = Field(description="What has to be installed where it runs.")
    requirements: tuple[str, ...] = Field(
        default=(), description="The same, with the versions it was exported with."
    )
    freeze: tuple[str, ...] = Field(
        default=(), description="The variables whose values are written as literals."
    )
    files: dict[str, str] = Field(
        description="The files that were written, each with the SHA-256 of its text."
    )
    sha256: str = Field(description="The SHA-256 of all of the above.")


#: What each class of the plan is described by.
DESCRIBED: dict[type, type[BaseModel]] = {
    plan.Text: Expression,
    plan.TaskOptions: Options,
    plan.PortPlan: Port,
    plan.OutputPlan: Output,
    plan.Node: Operation,
    plan.Edge: Edge,
    plan.Value: Value,
    plan.Parameter: Parameter,
    plan.FromParameter: FromParameter,
    plan.FromResult: FromResult,
    plan.FromList: FromList,
    plan.Nothing: Nothing,
    plan.Argument: Argument,
    plan.Step: Step,
    plan.FlowDefinition: Flow,
    plan.Orchestration: PlanDocument,
    errors.Problem: Problem,
}
