"""One flow of a plan → the text of its module, with its operations on the flow's event loop."""

from __future__ import annotations

import ast
import builtins
import functools
import itertools
import keyword
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from ..names import snake_case
from ..plan import (
    Argument,
    FlowDefinition,
    FromList,
    FromParameter,
    FromResult,
    Node,
    Nothing,
    Orchestration,
    Parameter,
    PortPlan,
    Source,
    Step,
    TaskOptions,
    Text,
)

__all__ = ["FlowWriter", "bootstrap", "cache_seconds", "call_lines", "literal"]

_WIDTH = 100
#: What a task's parameters may not be called: Prefect's own.
_TASK_RESERVED = frozenset({"return_state", "wait_for", "self"})


def bootstrap(package: str) -> list[str]:
    """Return the lines by which a module finds its package when it is run by its path."""
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


class FlowWriter:
    """Writes the module of one flow."""

    def __init__(self, orchestration: Orchestration, flow: FlowDefinition, package: str) -> None:
        self.flow = flow
        self.package = package
        self.runner = orchestration.runner
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

    def _annotation(self, name: str) -> str:
        return self._helper(name, "prefect.utilities.annotations")

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
        """Return the whole module."""
        tasks = [self._task(step) for step in self.flow.steps if step.kind == "task"]
        flow = self._flow()
        main = self._main()
        parts = [self._head(), *tasks, flow, main]
        return "\n\n\n".join("\n".join(part) for part in parts) + "\n"

    def _head(self) -> list[str]:
        what = f"group ``{self.flow.hierarchy_path}``" if self.flow.hierarchy_path else "everything"
        if self.flow.name == "standalones_flow":
            what = "the operations without a group"
        if self.flow.doc.startswith("Run a part of "):
            what = f"a part of {what}"
        lines = [f'"""Prefect flow ``{self.flow.name}``: {what}. Generated by pulpo."""', ""]
        stdlib = sorted({"pathlib", "sys", *self.imports.get("", {})})
        own = self.imports.get("", {})
        lines += [
            f"import {m} as {own[m]}" if own.get(m, m) != m else f"import {m}" for m in stdlib
        ]
        lines.append("")
        prefect = sorted(m for m in self.imports if m.split(".")[0].split("_")[0] == "prefect")
        lines += [self._import_line(module) for module in prefect]
        lines.append("")
        lines += bootstrap(self.package)[3:]
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
        locals_ = _Names([*_TASK_RESERVED, *self._task_helpers(node)])
        arguments = {port.name: locals_.new(port.name) for port in node.ports}
        self.arguments[node.name] = arguments
        parameters = []
        for port in node.ports:
            annotation = self._code(port.annotation)
            own = arguments[port.name]
            parameters.append(f"{own}: {annotation}" if annotation else own)
        returns = f" -> {self._code(node.returns)}" if node.returns else ""
        prefix, body = self._task_body(node, [_given(port, arguments) for port in node.ports])
        head = call_lines(f"{prefix}def {self.tasks[node.name]}", parameters, f"{returns}:")
        return [
            *call_lines(f"@{task}", self._task_options(node, step), ""),
            *head,
            *_doc_lines(node.doc, "    "),
            f"    {body}",
        ]

    def _task_helpers(self, node: Node) -> list[str]:
        """Return the names that a task's body uses, which its parameters may not have."""
        helpers = [] if node.is_async else [self._shared(_off_the_loop(node))]
        return [self._operations(), *helpers]

    def _task_body(self, node: Node, given: list[str]) -> tuple[str, str]:
        """Return what stands before ``def``, and the one line of the body."""
        function = f"{self._operations()}[{literal(node.name)}]"
        if node.is_async:
            return "async ", f"return await {function}({', '.join(given)})"
        helper = self._shared(_off_the_loop(node))
        return "async ", f"return await {helper}({', '.join([function, *given])})"

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

    def _flow(self) -> list[str]:
        flow = self._helper("flow", "prefect")
        parameters = [self._flow_parameter(parameter) for parameter in self.flow.parameters]
        returns = self._code(self._return_type())
        if len(self.flow.returns) > 1:
            returns = "dict[str, object]"
        suffix = f" -> {returns}:" if returns else ":"
        return [
            *call_lines(f"@{flow}", self._flow_options(), ""),
            *call_lines(f"async def {self.flow.name}", parameters, suffix),
            *_doc_lines(self.flow.doc, "    "),
            *self._flow_body(),
        ]

    def _flow_options(self) -> list[str]:
        return [f"name={literal(self.flow.name)}"]

    def _flow_body(self) -> list[str]:
        return self._staged() if self.flow.waits else self._started()

    def _flow_parameter(self, parameter: Parameter) -> str:
        annotation = self._code(parameter.annotation)
        default = self._code(parameter.default)
        if annotation and default == "None" and not _takes_none(ast.parse(annotation).body[0]):
            annotation += " | None"  # Prefect validates a default, too
        if parameter.by_reference:
            typing = self._helper("typing", "typing")
            mark = self._shared("by_reference")
            annotation = f"{typing}.Annotated[{annotation or f'{typing}.Any'}, {mark}]"
        text = f"{parameter.name}: {annotation}" if annotation else parameter.name
        return f"{text} = {default}" if parameter.default is not None else text

    def _return_type(self) -> Text | None:
        if len(self.flow.returns) != 1:
            return None
        node = self.nodes[self.flow.returns[0]]
        return _all_returns(node) if node.maps else node.returns

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
        return call_lines(f"    {assign}await {name}", [*arguments, *self._waits_for(step)], "")

    def _gathered(self, steps: list[Step], used: set[str]) -> list[str]:
        asyncio = self._helper("asyncio", "asyncio")
        assign = ""
        if any(step.target in used for step in steps):
            assign = ", ".join(self.results[step.target] for step in steps) + " = "
        lines = [f"    {assign}{self._shared('finished')}(", f"        await {asyncio}.gather("]
        for step in steps:
            name, arguments = self._called(step)
            lines += call_lines(f"            {name}", [*arguments, *self._waits_for(step)], ",")
        return [*lines, "            return_exceptions=True,", "        )", "    )"]

    # - each as soon as it can -

    def _started(self) -> list[str]:
        lines: list[str] = []
        for step in self.flow.steps:
            name, arguments = self._called(step)
            arguments = [name, *arguments, *self._waits_for(step)]
            lines += call_lines(
                f"    {self.results[step.target]} = {self._shared('start')}", arguments, ""
            )
        return [*lines, *self._settled()]

    def _settled(self) -> list[str]:
        """Return the lines that wait for everything and return what the flow gives."""
        names = [self.results[step.target] for step in self.flow.steps]
        lines = call_lines(f"    await {self._shared('settled')}", names, "")
        given = self._given(".result()")
        return [*lines, f"    return {self._shared('give')}({given})"] if given else lines

    # - one call -

    def _called(self, step: Step) -> tuple[str, list[str]]:
        if step.kind == "flow":
            arguments = [
                f"{argument.name}={self._referred(argument.source)}" for argument in step.arguments
            ]
            return self._shared("subflow"), [self.subflows[step.target], *arguments]
        task = self.tasks[step.target]
        if self.nodes[step.target].maps:
            task = self._mapped(self.nodes[step.target], task)
        elif step.target in self._awaited_for_order:
            task = f"{self._shared('state_of')}({task})"
        return task, self._arguments(step)

    def _arguments(self, step: Step) -> list[str]:
        own, maps = self.arguments[step.target], self.nodes[step.target].maps
        return [
            f"{own[argument.name]}={self._argument(argument, maps)}" for argument in step.arguments
        ]

    def _argument(self, argument: Argument, maps: tuple[str, ...]) -> str:
        if argument.name in maps:
            return self._value(argument.source)
        passed = self._passed(argument.source)
        return f"{self._annotation('unmapped')}({passed})" if maps else passed

    def _mapped(self, node: Node, task: str) -> str:
        """Return the call of a task once per element."""
        options = [task]
        if node.options.max_concurrency is not None:
            options.append(f"max_concurrency={node.options.max_concurrency}")
        if node.options.on_element_error != "fail":
            options.append(f"on_error={literal(node.options.on_element_error)}")
        places = [output.index for output in node.outputs if output.index is not None]
        if places:
            options.append(f"parts={max(places) + 1}")
        flat = [output.index or 0 for output in node.outputs if output.flat]
        if flat:
            options.append(f"flatten={flat}")
        return f"{self._shared('mapped')}({', '.join(options)})"

    # - order only -

    @functools.cached_property
    def _awaited_for_order(self) -> set[str]:
        """The tasks that return nothing and that another task waits for."""
        waited = {
            target for step in self.flow.steps if step.kind == "task" for target in step.after
        }
        return {
            target
            for target in waited
            if target in self.tasks
            and not self.nodes[target].gives_value
            and not self.nodes[target].maps
        }

    def _waits_for(self, step: Step) -> list[str]:
        """Return the ``wait_for`` of a step, in a list of arguments."""
        if not step.after or (step.kind == "flow" and self.flow.waits):
            return []  # the stage before has been awaited
        return [f"wait_for=[{', '.join(map(self._waited, step.after))}]"]

    def _waited(self, target: str) -> str:
        """Return what Prefect knows an earlier step by."""
        if target in self._awaited_for_order:
            return self.results[target]
        return self._opaque(self.results[target])

    # - one argument -

    def _passed(self, source: Source) -> str:
        """Return a task's argument; data is opaque, so that Prefect does not walk it."""
        if isinstance(source, Nothing):
            return "None"
        if isinstance(source, FromParameter) and not source.by_reference:
            return source.name
        if isinstance(source, FromList):
            if not _is_joined(source):
                items = [self._opaque(self._value(item)) for item in source.items]
                return f"[{', '.join(items)}]"
            return f"{self._shared('linked')}({self._value(source)})"
        if isinstance(source, FromResult) and self._is_of_several_calls(source):
            return f"{self._shared('linked')}({self._value(source)})"
        return self._opaque(self._value(source))

    def _opaque(self, value: str) -> str:
        return f"{self._annotation('opaque')}({value})"

    def _is_of_several_calls(self, source: FromResult) -> bool:
        """Return whether each element of the result comes from a call of its own."""
        if source.step not in self.tasks:
            return False
        node = self.nodes[source.step]
        flat = any(output.flat and output.index == source.value.index for output in node.outputs)
        return bool(node.maps) and not flat

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
            used.update(step.after if step.kind == "task" else ())
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


def _all_returns(node: Node) -> Text | None:
    """Return the annotation of what all calls of a mapped operation give together."""
    returns = node.returns
    if returns is None or any(output.index is not None for output in node.outputs):
        return None
    if any(output.flat for output in node.outputs):
        return returns
    return Text(f"list[{returns.text}]", returns.names)


def _is_joined(source: FromList) -> bool:
    return any(source.many) or any(source.optional)


def call_lines(head: str, arguments: Sequence[str], tail: str) -> list[str]:
    """Return ``head(arguments)tail`` on one line where it fits, else one argument a line."""
    line = f"{head}({', '.join(arguments)}){tail}"
    if len(line) <= _WIDTH or not arguments:
        return [line]
    indent = head[: len(head) - len(head.lstrip())]
    return [f"{head}(", *(f"{indent}    {a}," for a in arguments), f"{indent}){tail}"]


def _doc_lines(text: str, indent: str) -> list[str]:
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


def _takes_none(type_: ast.AST) -> bool:
    """Return whether an annotation says, by its own words, that None is a value of it."""
    match type_:
        case ast.Expr(value=inner):
            return _takes_none(inner)
        case ast.BinOp(left=left, right=right):
            return _takes_none(left) or _takes_none(right)
        case ast.Subscript(value=outer, slice=inner):
            members = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            kind = ast.unparse(outer).rpartition(".")[2]
            union = kind in ("Union", "Literal") and any(map(_takes_none, members))
            return kind == "Optional" or union or (kind == "Annotated" and _takes_none(members[0]))
        case ast.Constant(value=None):
            return True
    return ast.unparse(type_).rpartition(".")[2] in ("Any", "object")


def _given(port: PortPlan, arguments: Mapping[str, str]) -> str:
    """Return how the operation itself gets one of its parameters."""
    own = arguments[port.name]
    return {"keyword": f"{port.name}={own}", "variadic": f"*{own}"}.get(port.passing, own)


def _off_the_loop(node: Node) -> str:
    return "in_process" if node.options.strategy == "process" else "in_thread"


def _plain(name: str) -> str:
    return name if name.isidentifier() and not keyword.iskeyword(name) else "operation"
