"""One flow of a plan → the text of its module, with its operations on a Prefect task runner."""

from __future__ import annotations

from typing import NamedTuple

from ..plan import FromList, FromResult, Node, Runner, Source, Step
from .flow_code import FlowWriter, call_lines, literal

__all__ = ["RUNNERS", "SubmitWriter", "TaskRunner"]


class TaskRunner(NamedTuple):
    """A Prefect task runner: where it is imported from, and how it is made.

    In ``arguments``, ``{os}`` is that module and ``{ray_options}`` a helper of the export.
    """

    module: str
    name: str
    arguments: str = ""


RUNNERS: dict[Runner, TaskRunner] = {
    "threads": TaskRunner("prefect.task_runners", "ThreadPoolTaskRunner"),
    "process": TaskRunner("prefect.task_runners", "ProcessPoolTaskRunner"),
    "dask": TaskRunner(
        "prefect_dask", "DaskTaskRunner", 'address={os}.environ.get("DASK_SCHEDULER_ADDRESS")'
    ),
    "ray": TaskRunner("prefect_ray", "RayTaskRunner", "init_kwargs={ray_options}()"),
}


class SubmitWriter(FlowWriter):
    """Writes the module of a flow that submits its operations; it has no subflows.

    A call whose arguments are futures as they are is submitted at once, and the task runner waits
    for them. A call that needs a look at a value first, such as how many elements there are, is
    started, which submits it when that value is there.
    """

    def _flow_options(self) -> list[str]:
        runner = RUNNERS[self.runner]
        made = self._helper(runner.name, runner.module)
        arguments = runner.arguments
        if "{os}" in arguments:
            arguments = arguments.format(os=self._helper("os", "os"))
        if "{ray_options}" in arguments:
            arguments = arguments.format(ray_options=self._shared("ray_options"))
        return [*super()._flow_options(), f"task_runner={made}({arguments})"]

    def _task_body(self, node: Node, given: list[str]) -> tuple[str, str]:
        prefix, wait = ("async ", "await ") if node.is_async else ("", "")
        body = f"return {wait}{self._operations()}[{literal(node.name)}]({', '.join(given)})"
        return prefix, body

    def _task_helpers(self, node: Node) -> list[str]:
        return [self._operations()]

    def _opaque(self, value: str) -> str:
        # Dask and Ray take an annotation for the tuple that it is.
        return value if self.runner in ("dask", "ray") else super()._opaque(value)

    def _flow_body(self) -> list[str]:
        started: set[str] = set()
        lines: list[str] = []
        for step in self.flow.steps:
            submit = f"{self.tasks[step.target]}.submit"
            node = self.nodes[step.target]
            given = [*self._arguments(step), *self._waits_for(step)]
            if self._needs_a_look(step, started):
                started.add(step.target)
                call = self._mapped(node, submit) if node.maps else submit
                given, submit = [call, *given], self._shared("start")
            lines += call_lines(f"    {self.results[step.target]} = {submit}", given, "")
        return [*lines, *self._settled()]

    def _needs_a_look(self, step: Step, started: set[str]) -> bool:
        if self.nodes[step.target].maps or not started.isdisjoint(step.after):
            return True
        for argument in step.arguments:
            source = argument.source
            items = source.items if isinstance(source, FromList) else (source,)
            results = [item for item in items if isinstance(item, FromResult)]
            if isinstance(source, FromList) and results and (any(source.many + source.optional)):
                return True
            if any(item.step in started or item.value.index is not None for item in results):
                return True
        return False

    def _waits_for(self, step: Step) -> list[str]:
        """Return the ``wait_for``: what is not passed as the future that it is, too."""
        hidden = [target for argument in step.arguments for target in _hidden(argument.source)]
        waited = dict.fromkeys([*step.after, *hidden])
        if not waited:
            return []
        return [f"wait_for=[{', '.join(self.results[target] for target in waited)}]"]

    def _result(self, source: FromResult) -> str:
        text = self.results[source.step]
        if source.value.index is None:
            return text
        return f"{self._shared('part')}({text}, {source.value.index})"


def _hidden(source: Source) -> list[str]:
    """Return the steps whose results are looked into, so that their futures are not seen."""
    joined = isinstance(source, FromList) and any(source.many + source.optional)
    items = source.items if isinstance(source, FromList) else (source,)
    results = [item for item in items if isinstance(item, FromResult)]
    return [item.step for item in results if joined or item.value.index is not None]
