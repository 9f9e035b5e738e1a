"""Plan → Prefect code: one module for each flow, as a Prefect user would write it by hand."""

from __future__ import annotations

import ast
import builtins
import functools
import itertools
import keyword
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

from ..errors import BlockedFlowError, Problem, PulpoError, UnknownNameError, did_you_mean
from ..names import snake_case
from ..plan import (
    FlowDefinition,
    FromList,
    FromParameter,
    FromResult,
    Node,
    Nothing,
    Orchestration,
    Parameter,
    Source,
    Step,
    TaskOptions,
    Text,
)

__all__ = [
    "PrefectCodeGenerator",
    "generate_flow",
    "generate_modules",
    "generate_registry",
    "literal",
    "names_in_signatures",
]

PACKAGE = "run_cache"
_WIDTH = 100
#: What a task's parameters may not be called: Prefect's own.
_TASK_RESERVED = frozenset({"return_state", "wait_for", "self"})


class PrefectCodeGenerator:
    """Generates Prefect code from an `Orchestration`; holds no state but the package's name.

    Parameters
    ----------
    package
        The importable name of the export folder.
    """

    def __init__(self, package: str = PACKAGE) -> None:
        self.package = package

    def generate_flow(self, orchestration: Orchestration, name: str) -> str:
        """Return the code of one flow; see `generate_flow`."""
        return generate_flow(orchestration, name, package=self.package)

    def generate_all_flows(self, orchestration: Orchestration) -> dict[str, str]:
        """Return the code of each flow by name; flows that an error blocks are left out."""
        return {
            flow.name: generate_flow(orchestration, flow.name, package=self.package)
            for flow in orchestration.flows
            if not flow.blocked
        }

    def generate_flow_registry(self, orchestration: Orchestration) -> str:
        """Return the code of ``registry.py``, which holds ``flows_by_name``."""
        return generate_registry(orchestration, package=self.package)


def generate_modules(orchestration: Orchestration, package: str = PACKAGE) -> dict[str, str]:
    """Return every generated module by its dotted name, without ``operations``.

    Flows that an error blocks are left out.
    """
    runtime = resources.files(__package__).joinpath("prefect_runtime.py").read_text("utf-8")
    flows = PrefectCodeGenerator(package).generate_all_flows(orchestration)
    return {
        package: f'"""Prefect flows that pulpo exported; see {package}/orchestration/."""\n',
        f"{package}.orchestration": runtime,
        **{f"{package}.orchestration.{name}": code for name, code in flows.items()},
        f"{package}.orchestration.registry": generate_registry(orchestration, package),
    }


def generate_flow(orchestration: Orchestration, name: str, package: str = PACKAGE) -> str:
    """Return the code of one flow, parsed before it is given.

    Raises
    ------
    UnknownNameError
        When there is no such flow.
    BlockedFlowError
        When an error blocks it.
    """
    flow = orchestration.get_flow(name)
    if flow is None:
        known = tuple(each.name for each in orchestration.flows)
        raise UnknownNameError(
            f"there is no flow {name!r}.{did_you_mean(name, known)} "
            f"The flows are: {', '.join(known) or 'none yet'}.",
            candidates=known,
        )
    if flow.blocked:
        raise blocked_error(flow.name, flow.blocked)
    return _parsed(_FlowWriter(orchestration, flow, package).text(), name)


def blocked_error(name: str, problems: Sequence[Problem]) -> BlockedFlowError:
    """Return the error for a flow that has problems."""
    why = " ".join(f"{problem.message} {problem.fix}".strip() for problem in problems[:3])
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    return BlockedFlowError(f"{name} cannot be made: {why}{more}", problems=tuple(problems))


def generate_registry(orchestration: Orchestration, package: str = PACKAGE) -> str:
    """Return the code of ``registry.py``: ``flows_by_name``."""
    names = [flow.name for flow in orchestration.flows if not flow.blocked]
    lines = ['"""The flows of this export, by name."""', ""]
    lines += _bootstrap(package)
    lines += [f"from {package}.orchestration.{name} import {name}" for name in names]
    lines += ["", "flows_by_name = {", *(f"    {literal(name)}: {name}," for name in names), "}"]
    return _parsed("\n".join(lines) + "\n", "registry")


def names_in_signatures(orchestration: Orchestration) -> tuple[str, ...]:
    """Return the names that the generated modules import from ``operations``, sorted."""
    texts: list[Text | None] = []
    for node in orchestration.operations:
        texts.append(node.returns)
        texts.extend(output.annotation for output in node.outputs)
        texts.extend(port.annotation for port in node.ports)
    for flow in orchestration.flows:
        for parameter in flow.parameters:
            texts += [parameter.annotation, parameter.default]
    found = {name for text in texts if text for name, module in text.names if not module}
    return tuple(sorted(found))


def _parsed(code: str, name: str) -> str:
    try:
        ast.parse(code)
    except SyntaxError as error:  # pragma: no cover - a defect of the generator
        raise PulpoError(
            f"the code generated for {name} is no Python (line {error.lineno}: {error.msg}). "
            "This is a defect of pulpo; please report it with the operation's signature."
        ) from error
    return code


def _bootstrap(package: str) -> list[str]:
    # Prefect loads a flow by its path as a package of its own name, so `__package__` is not empty.
    return [
        "import pathlib",
        "import sys",
        "",
        f'if __package__ != "{package}.orchestration":  # run, or loaded, by its path',
        "    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))",
        "",
    ]


def literal(value: str) -> str:
    """Return a Python literal for ``value``; the one place where users' text becomes code."""
    literal = repr(value)
    if literal[0] == "'" and '"' not in literal:
        literal = '"' + literal[1:-1].replace("\\'", "'") + '"'
    return literal


def _number(value: float) -> str:
    """Return a number of seconds as a person writes it, and exactly."""
    return str(int(value)) if value == int(value) else repr(value)


class _Names:
    """Allocates identifiers once, so that none hides another."""

    def __init__(self, taken: Iterable[str]) -> None:
        self.taken = set(taken) | set(keyword.kwlist)
        self.last: dict[str, int] = {}

    def new(self, wanted: str) -> str:
        free, number = wanted, self.last.get(wanted, 1)
        while free in self.taken:
            number += 1
            free = f"{wanted}_{number}"
        self.last[wanted] = number
        self.taken.add(free)
        return free


class _FlowWriter:
    """Writes the module of one flow."""

    def __init__(self, orchestration: Orchestration, flow: FlowDefinition, package: str) -> None:
        self.flow = flow
        self.package = package
        self.nodes = {node.name: node for node in orchestration.operations}
        self.flows = {each.name: each for each in orchestration.flows}
        self.imports: dict[str, dict[str, str]] = {}
        types = self._types()
        parameters = [parameter.name for parameter in flow.parameters]
        # Flow parameters are public and types are the user's: they keep their names.
        self.names = _Names([*parameters, flow.name, *dir(builtins)])
        self.types: dict[tuple[str, str], str] = {}
        for name, module in types:
            self._import_type(name, module)
        self.helpers: dict[str, str] = {}
        self.subflows = {
            step.target: self._helper(step.target, f"{package}.orchestration.{step.target}")
            for step in flow.steps
            if step.kind == "flow"
        }
        self.tasks: dict[str, str] = {}
        self.arguments: dict[str, dict[str, str]] = {}
        for step in flow.steps:
            if step.kind == "task":
                self.tasks[step.target] = self.names.new(_plain(self.nodes[step.target].function))
        self.results = self._result_names()

    # - names -

    def _types(self) -> list[tuple[str, str]]:
        texts: list[Text | None] = [self._return_type()]
        for parameter in self.flow.parameters:
            texts += [parameter.annotation, parameter.default]
        for step in self.flow.steps:
            if step.kind == "task":
                node = self.nodes[step.target]
                texts += [node.returns, *(port.annotation for port in node.ports)]
        return list(dict.fromkeys(name for text in texts if text for name in text.names))

    def _import_type(self, name: str, module: str) -> None:
        local = name if name not in self.names.taken or name in dir(builtins) else ""
        local = local or self.names.new(f"{name}_type")
        self.names.taken.add(local)
        self.types[name, module] = local
        source = module or f"{self.package}.operations"
        self.imports.setdefault(source, {})[name] = local

    def _helper(self, name: str, module: str) -> str:
        """Import a helper and return the name it has here."""
        if name not in self.helpers:
            self.helpers[name] = self.names.new(name)
            if module == name:
                self.imports.setdefault("", {})[name] = self.helpers[name]
            else:
                self.imports.setdefault(module, {})[name] = self.helpers[name]
        return self.helpers[name]

    def _shared(self, name: str) -> str:
        return self._helper(name, f"{self.package}.orchestration")

    def _operations(self) -> str:
        return self._helper("OPERATIONS", f"{self.package}.operations")

    def _opaque(self) -> str:
        return self._helper("opaque", "prefect.utilities.annotations")

    def _result_names(self) -> dict[str, str]:
        """Name the variable of each step: by its model where that is unique, else by function."""
        models: dict[str, str] = {}
        for step in self.flow.steps:
            node = self.nodes.get(step.target) if step.kind == "task" else None
            if node is not None and len(node.outputs) == 1:
                models[step.target] = snake_case(node.outputs[0].model)
        count = list(models.values())
        names: dict[str, str] = {}
        for step in self.flow.steps:
            if step.kind == "flow":
                path = self.flows[step.target].hierarchy_path
                wanted = _plain(path.rpartition(".")[2])
            else:
                wanted = models.get(step.target, "")
                if not wanted or count.count(wanted) > 1 or wanted in self.names.taken:
                    wanted = f"{_plain(self.nodes[step.target].function)}_result"
            names[step.target] = self.names.new(wanted)
        return names

    def _code(self, text: Text | None) -> str:
        """Return the user's expression with the names that it has in this module."""
        if text is None:
            return ""
        renamed = {name: self.types[name, module] for name, module in text.names}
        if all(name == local for name, local in renamed.items()):
            return text.text
        tree = ast.parse(text.text, mode="eval")
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                node.id = renamed.get(node.id, node.id)
        return ast.unparse(tree)

    # - text -

    def text(self) -> str:
        tasks = [self._task(step) for step in self.flow.steps if step.kind == "task"]
        flow = self._flow()
        main = self._main()
        parts = [self._head(), *tasks, flow, main]
        return "\n\n\n".join("\n".join(part) for part in parts) + "\n"

    def _head(self) -> list[str]:
        what = f"group ``{self.flow.hierarchy_path}``" if self.flow.hierarchy_path else "everything"
        if self.flow.name == "standalones_flow":
            what = "the operations without a group"
        lines = [f'"""Prefect flow ``{self.flow.name}``: {what}. Generated by pulpo."""', ""]
        stdlib = sorted({"pathlib", "sys", *self.imports.get("", {})})
        own = self.imports.get("", {})
        lines += [
            f"import {m} as {own[m]}" if own.get(m, m) != m else f"import {m}" for m in stdlib
        ]
        lines.append("")
        prefect = sorted(m for m in self.imports if m.split(".")[0] == "prefect")
        lines += [self._import_line(module) for module in prefect]
        lines.append("")
        lines += _bootstrap(self.package)[3:]
        package = sorted(m for m in self.imports if m and m not in prefect)
        lines += [self._import_line(module) for module in package]
        return [line for n, line in enumerate(lines) if line or (n and lines[n - 1])]

    def _import_line(self, module: str) -> str:
        names = [
            name if name == local else f"{name} as {local}"
            for name, local in sorted(self.imports[module].items())
        ]
        line = f"from {module} import {', '.join(names)}"
        if len(line) <= _WIDTH:
            return line
        return "\n".join([f"from {module} import (", *(f"    {name}," for name in names), ")"])

    def _task(self, step: Step) -> list[str]:
        node = self.nodes[step.target]
        task = self._helper("task", "prefect")
        used = (
            [self._operations()]
            if node.is_async
            else [self._operations(), self._shared(_off_the_loop(node))]
        )
        locals_ = _Names([*_TASK_RESERVED, *used])
        arguments = {port.name: locals_.new(port.name) for port in node.ports}
        self.arguments[node.name] = arguments
        parameters = []
        for port in node.ports:
            annotation = self._code(port.annotation)
            own = arguments[port.name]
            parameters.append(f"{own}: {annotation}" if annotation else own)
        returns = f" -> {self._code(node.returns)}" if node.returns else ""
        head = _call(f"async def {self.tasks[node.name]}", parameters, f"{returns}:")
        return [
            *_call(f"@{task}", self._task_options(node, step), ""),
            *head,
            *_doc(node.doc, "    "),
            f"    return {self._body(node, arguments)}",
        ]

    def _task_options(self, node: Node, step: Step) -> list[str]:
        options: TaskOptions = node.options
        policies = "prefect.cache_policies"
        given = [f"name={literal(node.name)}"]
        if options.description:
            given.append(f"description={literal(options.description)}")
        tags = [*options.tags, *([step.group] if step.group else [])]
        if tags:
            given.append(f"tags=[{', '.join(literal(tag) for tag in tags)}]")
        if options.retries:
            given.append(f"retries={options.retries}")
        if options.retry_delay is not None:
            given.append(f"retry_delay_seconds={_number(options.retry_delay)}")
        if options.timeout is not None:
            given.append(f"timeout_seconds={_number(options.timeout)}")
        if options.cache is None:
            # Without this Prefect hashes every argument of every call, whatever its size.
            given.append(f"cache_policy={self._helper('NO_CACHE', policies)}")
            return given
        # INPUTS alone is one key for every task: equal inputs would give another task's result.
        inputs, code = self._helper("INPUTS", policies), self._shared("code_of")
        function = f"{self._operations()}, {literal(node.name)}"
        given.append(f"cache_policy={inputs} + {code}({function})")
        given.append("persist_result=True")
        seconds = cache_seconds(options.cache)
        if seconds is not None:
            datetime = self._helper("datetime", "datetime")
            given.append(f"cache_expiration={datetime}.timedelta(seconds={_number(seconds)})")
        return given

    def _body(self, node: Node, arguments: Mapping[str, str]) -> str:
        function = f"{self._operations()}[{literal(node.name)}]"
        given = [
            f"{port.name}={arguments[port.name]}"
            if port.passing == "keyword"
            else arguments[port.name]
            for port in node.ports
        ]
        if node.is_async:
            return f"await {function}({', '.join(given)})"
        helper = _off_the_loop(node)
        return f"await {self._shared(helper)}({', '.join([function, *given])})"

    def _flow(self) -> list[str]:
        flow = self._helper("flow", "prefect")
        parameters = [self._flow_parameter(parameter) for parameter in self.flow.parameters]
        returns = self._code(self._return_type())
        if len(self.flow.returns) > 1:
            returns = "dict[str, object]"
        suffix = f" -> {returns}:" if returns else ":"
        return [
            f"@{flow}(name={literal(self.flow.name)})",
            *_call(f"async def {self.flow.name}", parameters, suffix),
            *_doc(self.flow.doc, "    "),
            *(self._staged() if self.flow.waits else self._started()),
        ]

    def _flow_parameter(self, parameter: Parameter) -> str:
        annotation = self._code(parameter.annotation)
        if parameter.by_reference:
            typing = self._helper("typing", "typing")
            mark = self._shared("by_reference")
            annotation = f"{typing}.Annotated[{annotation or f'{typing}.Any'}, {mark}]"
        text = f"{parameter.name}: {annotation}" if annotation else parameter.name
        if parameter.default is not None:
            text += f" = {self._code(parameter.default)}"
        return text

    def _return_type(self) -> Text | None:
        if len(self.flow.returns) != 1:
            return None
        return self.nodes[self.flow.returns[0]].returns

    # - stages awaited one after the other -

    def _staged(self) -> list[str]:
        lines: list[str] = []
        used = self._used()
        for _, stage in itertools.groupby(self.flow.steps, key=lambda step: step.stage):
            steps = list(stage)
            if len(steps) == 1:
                lines += self._awaited(steps[0], used)
            else:
                lines += self._gathered(steps, used)
        given = self._given("")
        return [*lines, f"    return {self._shared('give')}({given})"] if given else lines

    def _awaited(self, step: Step, used: set[str]) -> list[str]:
        assign = f"{self.results[step.target]} = " if step.target in used else ""
        name, arguments = self._called(step)
        return _call(f"    {assign}await {name}", arguments, "")

    def _gathered(self, steps: list[Step], used: set[str]) -> list[str]:
        asyncio = self._helper("asyncio", "asyncio")
        assign = ""
        if any(step.target in used for step in steps):
            assign = ", ".join(self.results[step.target] for step in steps) + " = "
        lines = [f"    {assign}{self._shared('finished')}(", f"        await {asyncio}.gather("]
        for step in steps:
            name, arguments = self._called(step)
            called = _call(f"            {name}", arguments, ",")
            lines += called
        return [*lines, "            return_exceptions=True,", "        )", "    )"]

    # - each as soon as it can -

    def _started(self) -> list[str]:
        lines: list[str] = []
        for step in self.flow.steps:
            name, arguments = self._called(step)
            shared, first = "start", [name]
            if step.kind == "flow":
                first, arguments = [name, arguments[0]], arguments[1:]
            if step.after:
                shared = "start_after"
                others = ", ".join(self.results[target] for target in step.after)
                first = [f"[{others}]", *first]
            lines += _call(
                f"    {self.results[step.target]} = {self._shared(shared)}",
                [*first, *arguments],
                "",
            )
        names = [self.results[step.target] for step in self.flow.steps]
        lines += _call(f"    await {self._shared('settled')}", names, "")
        given = self._given(".result()")
        return [*lines, f"    return {self._shared('give')}({given})"] if given else lines

    # - one call -

    def _called(self, step: Step) -> tuple[str, list[str]]:
        if step.kind == "flow":
            arguments = [
                f"{argument.name}={self._referred(argument.source)}" for argument in step.arguments
            ]
            return self._shared("subflow"), [self.subflows[step.target], *arguments]
        own = self.arguments[step.target]
        arguments = [
            f"{own[argument.name]}={self._passed(argument.source)}" for argument in step.arguments
        ]
        return self.tasks[step.target], arguments

    def _passed(self, source: Source) -> str:
        """Return a task's argument; data is opaque, so that Prefect does not walk it."""
        if isinstance(source, Nothing):
            return "None"
        if isinstance(source, FromParameter) and not source.by_reference:
            return source.name
        return f"{self._opaque()}({self._value(source)})"

    def _referred(self, source: Source) -> str:
        """Return a subflow's argument; data goes by reference."""
        if isinstance(source, FromParameter) and not source.by_reference:
            return source.name
        return f"{self._shared('Ref')}({self._value(source)})"

    def _value(self, source: Source) -> str:
        if isinstance(source, FromParameter):
            return source.name
        if isinstance(source, FromResult):
            return self._result(source)
        if isinstance(source, Nothing):
            return "None"
        return self._list(source)

    def _list(self, source: FromList) -> str:
        items = [self._value(item) for item in source.items]
        many = [str(place) for place, flag in enumerate(source.many) if flag]
        optional = [str(place) for place, flag in enumerate(source.optional) if flag]
        later = not self.flow.waits and any(isinstance(item, FromResult) for item in source.items)
        if not many and not optional and not later:
            return f"[{', '.join(items)}]"
        if many:
            items.append(f"many=[{', '.join(many)}]")
        if optional:
            items.append(f"optional=[{', '.join(optional)}]")
        return f"{self._shared('several')}({', '.join(items)})"

    def _result(self, source: FromResult) -> str:
        text = self.results[source.step]
        child = self.flows.get(source.step)
        if source.step not in self.tasks and child is not None and len(child.returns) > 1:
            text += f"[{literal(source.value.operation)}]"
        if source.value.index is not None:
            text += f"[{source.value.index}]"
        return text

    def _given(self, suffix: str) -> str:
        """Return the expression of what the flow returns; empty when it returns nothing."""
        values = {}
        for operation in self.flow.returns:
            step = self._steps[operation]
            text = self.results[step]
            child = self.flows.get(step) if step not in self.tasks else None
            if child is not None and len(child.returns) > 1:
                text += f"[{literal(operation)}]"
            values[operation] = f"{text}{suffix}"
        if len(values) < 2:
            return next(iter(values.values()), "")
        lines = [f"        {literal(name)}: {value}," for name, value in values.items()]
        return "\n".join(["{", *lines, "    }"])

    @functools.cached_property
    def _steps(self) -> dict[str, str]:
        """The step of this flow in which each operation runs."""
        return {
            operation: step.target
            for step in self.flow.steps
            for operation in (
                [step.target] if step.kind == "task" else self.flows[step.target].covers
            )
        }

    def _used(self) -> set[str]:
        """Return the steps whose result something in this flow takes or returns."""
        used = {self._steps[operation] for operation in self.flow.returns}
        for step in self.flow.steps:
            for argument in step.arguments:
                source = argument.source
                items = source.items if isinstance(source, FromList) else (source,)
                used |= {item.step for item in items if isinstance(item, FromResult)}
        return used

    def _main(self) -> list[str]:
        command_line = self._shared("command_line")
        return ['if __name__ == "__main__":', f"    {command_line}({self.flow.name})"]


def cache_seconds(cache: str) -> float | None:
    """Return how long ``--cache 30m`` keeps a result, in seconds; None for ``inputs``: always.

    Raises
    ------
    ValueError
        When it is neither ``inputs`` nor a number with ``s``, ``m``, ``h`` or ``d``.
    """
    if cache == "inputs":
        return None
    return float(cache[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[cache[-1]]


def _call(head: str, arguments: Sequence[str], tail: str) -> list[str]:
    """Return ``head(arguments)tail`` on one line where it fits, else one argument a line."""
    line = f"{head}({', '.join(arguments)}){tail}"
    if len(line) <= _WIDTH or not arguments:
        return [line]
    indent = head[: len(head) - len(head.lstrip())]
    return [f"{head}(", *(f"{indent}    {a}," for a in arguments), f"{indent}){tail}"]


def _doc(text: str, indent: str) -> list[str]:
    """Return a docstring's lines; what triple quotes cannot hold is written as one literal."""
    text = text.strip()
    if not text:
        return []
    plain = all(line.isprintable() for line in text.split("\n"))
    if not plain or '"""' in text or "\\" in text or text.endswith('"'):
        return [f"{indent}{literal(text)}"]
    if "\n" not in text:
        return [f'{indent}"""{text}"""']
    body = textwrap.indent(text, indent, lambda line: bool(line.strip())).strip()
    return [f'{indent}"""{body}', f'{indent}"""']


def _off_the_loop(node: Node) -> str:
    return "in_process" if node.options.strategy == "process" else "in_thread"


def _plain(name: str) -> str:
    return name if name.isidentifier() and not keyword.iskeyword(name) else "operation"
