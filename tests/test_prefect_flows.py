"""Generated flows, from files, on a real Prefect server; one server for the whole file."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import os
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from law import Style, call
from on_prefect import OnPrefect
from sessions import operations_of, written

from pulpo import runner
from pulpo.backends.prefect import generate_modules
from pulpo.compiler import compile_plan
from pulpo.operations import make_operation, options_from_flags
from pulpo.plan import Orchestration
from pulpo.prefect_server import PrivateServer

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.slow,
    # Prefect's client leaves a connection to the garbage collector now and then.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    made = PrivateServer()
    yield made.url()
    made.stop()


@pytest.fixture
def on_prefect(server: str) -> Iterator[None]:
    from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

    with temporary_settings({PREFECT_API_URL: server, PREFECT_LOGGING_TO_API_ENABLED: False}):
        yield


HEAD = """
import asyncio, os, threading, time
from dataclasses import dataclass
from typing import NewType
from pydantic import BaseModel

class Raw(BaseModel):
    n: int = 0

class Clean(BaseModel):
    n: int = 0

class Skills(BaseModel):
    n: int = 0

SEEN = []
"""

_numbers = itertools.count()


class Package:
    """An export of a source in which ``# name`` stands above each operation's function."""

    def __init__(self, root: Path, source: str, flags: dict[str, Any], flat: bool) -> None:
        self.name = f"exported_{next(_numbers)}"
        self.folder = root / self.name
        (self.folder / "orchestration").mkdir(parents=True)
        names = self.write_operations(source)
        self.operations = importlib.import_module(f"{self.name}.operations")
        made = [
            make_operation(
                getattr(self.operations, function),
                name=name,
                options=options_from_flags(flags.get(function, {})),
            )
            for name, function in names.items()
        ]
        self.plan: Orchestration = compile_plan(made, flat=flat)
        assert self.plan.is_valid, self.plan.problems
        self.texts = generate_modules(self.plan, self.name)
        for module, text in self.texts.items():
            file = root.joinpath(*module.split("."))
            is_package = file.is_dir()
            file = file / "__init__.py" if is_package else file.with_suffix(".py")
            file.write_text(text, encoding="utf-8")
        importlib.invalidate_caches()

    def write_operations(self, source: str) -> dict[str, str]:
        source = HEAD + textwrap.dedent(source)
        lines = source.splitlines()
        names = {
            line.removeprefix("# "): after.partition("def ")[2].partition("(")[0]
            for line, after in itertools.pairwise(lines)
            if line.startswith("# ") and "def " in after
        }
        table = "".join(f"    {name!r}: {function},\n" for name, function in names.items())
        text = f"{source}\nOPERATIONS = {{\n{table}}}\n"
        (self.folder / "operations.py").write_text(text, encoding="utf-8")
        return names

    @property
    def seen(self) -> list[Any]:
        return list(self.operations.SEEN)

    def flow(self, name: str = "main_flow") -> Any:
        return getattr(importlib.import_module(f"{self.name}.orchestration.{name}"), name)

    def run(self, name: str = "main_flow", /, **parameters: Any) -> Any:
        async def within() -> Any:
            return await asyncio.wait_for(self.flow(name)(**parameters), 60)

        return asyncio.run(within())

    def text(self, name: str) -> str:
        return self.texts[f"{self.name}.orchestration.{name}"]


@pytest.fixture
def package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_prefect: None
) -> Iterator[Callable[..., Package]]:
    monkeypatch.syspath_prepend(tmp_path)
    made: list[Package] = []

    def make(source: str, *, flat: bool = False, **flags: dict[str, Any]) -> Package:
        made.append(Package(tmp_path, source, flags, flat))
        return made[-1]

    yield make
    for each in made:
        for name in [name for name in sys.modules if name.partition(".")[0] == each.name]:
            del sys.modules[name]


# --- Values ------------------------------------------------------------------------------------


def test_nested_flows_pass_what_each_port_wants(package: Callable[..., Package]) -> None:
    made = package("""
        # a.deep.one
        async def one(start: int) -> Raw:
            return Raw(n=start)

        # a.deep.many
        def many(start: int, more: int = 2) -> list[Raw]:
            return [Raw(n=start + k) for k in range(1, more + 1)]

        # a.deep.none
        async def none() -> Raw | None:
            return None

        # a.pair
        def pair(raws: list[Raw]) -> tuple[Clean, list[Skills]]:
            SEEN.append([raw.n for raw in raws])
            return Clean(n=len(raws)), [Skills(n=7), Skills(n=8)]

        # b.use
        async def use(clean: Clean, skills: list[Skills], absent: "Nobody | None") -> str:
            return f"{clean.n} {[s.n for s in skills]} {absent}"

        # last
        def last(skills: list[Skills], clean: Clean) -> int:
            return len(skills) + clean.n

        class Nobody(BaseModel):
            n: int
        """)
    assert made.run(start=10) == {"b.use": "3 [7, 8] None", "last": 5}
    assert made.seen == [[10, 11, 12]]
    assert [flow.name for flow in made.plan.flows] == [
        "a_deep_flow",
        "a_flow",
        "b_flow",
        "main_flow",
        "standalones_flow",
    ]
    assert made.run("a_deep_flow", start="3", more=1)["a.deep.many"][0].n == 4


def test_what_a_person_gives_is_validated(package: Callable[..., Package]) -> None:
    from prefect.exceptions import ParameterTypeError

    made = package("""
        # a.use
        def use(raw: Raw, n: int = 1, other: Clean = None, m: int = None) -> str:
            return f"{type(raw).__name__} {raw.n + n} {other} {m}"
        """)
    assert made.run(raw={"n": "3"}, n="4") == "Raw 7 None None"
    assert made.run(raw={"n": 3}, clean={"n": 1}, m="5") == "Raw 4 n=1 5"
    with pytest.raises(ParameterTypeError):
        made.run(raw={"n": "three"})
    with pytest.raises(ParameterTypeError):
        made.run(raw={"n": 3}, n="four")


BIG = """
import pandas as pd

Frame = NewType("Frame", pd.DataFrame)
TOUCHED = []

class Item(BaseModel):
    n: int

    def __getattribute__(self, name):
        TOUCHED.append(name)
        return super().__getattribute__(name)

# a.make
def make(count: int) -> tuple[Frame, list[Item]]:
    frame = pd.DataFrame({"x": range(count * 128)})
    items = [Item(n=n) for n in range(count)]
    SEEN.append((id(frame), id(items), frame.memory_usage().sum()))
    TOUCHED.clear()
    return frame, items

# a.keep
def keep(items: list[Item]) -> Raw:
    return Raw()

# b.use
def use(frame: Frame, items: list[Item], raw: Raw) -> str:
    SEEN.append((id(frame), id(items), len(TOUCHED)))
    return f"{len(frame)} {len(items)}"
"""


@pytest.mark.parametrize("flat", [False, True])
def test_big_data_passes_between_flows_by_reference_and_is_not_walked(
    package: Callable[..., Package], flat: bool
) -> None:
    made = package(BIG, flat=flat)
    assert made.run(count=50_000) == "6400000 50000"
    (frame, items, size), (same_frame, same_items, touched) = made.seen
    assert size > 50_000_000
    assert (same_frame, same_items) == (frame, items)
    assert touched < 100, "Prefect looked into the models"


def test_a_person_gets_the_value_itself_and_not_a_reference(
    package: Callable[..., Package],
) -> None:
    made = package("""
        # a.make
        def make() -> list[Raw]:
            return [Raw(n=1)]

        # b.use
        def use(raws: list[Raw]) -> int:
            return raws[0].n
        """)
    raws = made.run("a_flow")
    assert raws[0].n == 1
    assert made.run("b_flow", raw=raws) == 1


# --- Order ---------------------------------------------------------------------------------------


def test_an_operation_starts_when_its_own_inputs_are_there(
    package: Callable[..., Package],
) -> None:
    made = package("""
        c_runs = asyncio.Event()

        # a.a
        async def a() -> Raw:
            return Raw()

        # a.b
        async def b() -> Clean:
            await c_runs.wait()  # a stage of its own would wait here for ever
            SEEN.append("b")
            return Clean()

        # a.c
        async def c(raw: Raw):
            SEEN.append("c")
            c_runs.set()

        # a.d
        async def d(clean: Clean):
            SEEN.append("d")
        """)
    made.run()
    assert made.seen == ["c", "b", "d"]
    assert "settled(" in made.text("a_flow")


def test_the_operations_of_a_stage_overlap(package: Callable[..., Package]) -> None:
    made = package("""
        meeting = threading.Barrier(3, timeout=30)

        # a.a
        def a() -> Raw:
            meeting.wait()
            return Raw(n=1)

        # a.b
        def b() -> Raw:
            meeting.wait()
            return Raw(n=2)

        # a.c
        async def c() -> Raw:
            await asyncio.to_thread(meeting.wait)
            return Raw(n=3)

        # a.all
        async def all_of(raws: list[Raw]) -> int:
            return sum(raw.n for raw in raws)
        """)
    assert made.run() == 6
    assert "asyncio.gather(" in made.text("a_flow")


def test_independent_subflows_overlap(package: Callable[..., Package]) -> None:
    made = package("""
        here, there = asyncio.Event(), asyncio.Event()

        # a.x
        async def x() -> Raw:
            here.set()
            await there.wait()
            return Raw(n=1)

        # b.y
        async def y() -> Clean:
            there.set()
            await here.wait()
            return Clean(n=2)

        # c
        async def c(raw: Raw, clean: Clean) -> int:
            return raw.n + clean.n
        """)
    assert made.run() == 3


def test_order_alone_is_kept_within_and_between_flows(package: Callable[..., Package]) -> None:
    made = package(
        """
        # a.late
        async def late():
            SEEN.append("late")

        # b.first
        async def first():
            await asyncio.sleep(0.05)
            SEEN.append("first")

        # b.second
        def second():
            SEEN.append("second")

        # b.free
        async def free():
            pass
        """,
        late={"after": "b.second"},
        second={"after": "b.first"},
    )
    made.run()
    assert made.seen == ["first", "second", "late"]


# --- Failure -------------------------------------------------------------------------------------

FAILING = """
started = asyncio.Event()

# a.bad
async def bad() -> Raw:
    await started.wait()
    raise ZeroDivisionError("bad")

# a.good
async def good() -> Clean:
    started.set()
    await asyncio.sleep(0.2)
    SEEN.append("good")
    return Clean()

# a.never
async def never(raw: Raw, clean: Clean):
    SEEN.append("never")
"""
BESIDE = """
# a.after_good
def after_good(clean: Clean) -> Skills:
    SEEN.append("after good")
    return Skills()

# b.never
def never_b(skills: Skills):
    SEEN.append("never")

# c.independent
async def independent():
    await asyncio.sleep(0.3)
    SEEN.append("independent")
"""


@pytest.mark.parametrize(
    ("source", "shape", "seen"),
    [
        (FAILING, "asyncio.gather(", ["good"]),
        (FAILING + BESIDE, "settled(", ["good", "after good", "independent"]),
    ],
)
def test_a_failing_operation_stops_only_what_needs_it(
    package: Callable[..., Package], source: str, shape: str, seen: list[str]
) -> None:
    made = package(source)
    assert shape in made.text("a_flow")
    with pytest.raises(ZeroDivisionError, match="bad"):
        made.run()
    assert sorted(made.seen) == sorted(seen)


def test_two_failures_are_both_told(package: Callable[..., Package]) -> None:
    made = package("""
        # a.bad
        async def bad():
            raise ZeroDivisionError("bad")

        # a.worse
        def worse():
            raise KeyError("worse")
        """)
    with pytest.raises(ZeroDivisionError) as failed:
        made.run()
    assert any("KeyError('worse')" in note for note in failed.value.__notes__)


def test_retries_run_the_operation_again(package: Callable[..., Package]) -> None:
    made = package(
        """
        # a.flaky
        def flaky() -> int:
            SEEN.append("try")
            if len(SEEN) < 3:
                raise OSError("not yet")
            return len(SEEN)
        """,
        flaky={"retries": 2, "retry_delay": 0},
    )
    assert made.run() == 3


# --- Sync functions ------------------------------------------------------------------------------


def test_a_sync_function_runs_off_the_loop_with_its_run_s_logger(
    package: Callable[..., Package],
) -> None:
    made = package("""
        from prefect import get_run_logger

        # a.work
        def work() -> str:
            assert threading.current_thread() is not threading.main_thread()
            logger = get_run_logger()
            logger.info("hello")
            return logger.extra["task_name"]
        """)
    assert made.run() == "a.work"


def test_a_timeout_interrupts_a_sync_function(package: Callable[..., Package]) -> None:
    made = package(
        """
        ended = threading.Event()

        # a.stuck
        def stuck():
            try:
                while True:
                    time.sleep(0.01)
            finally:
                ended.set()
        """,
        stuck={"timeout": 0.5},
    )
    with pytest.raises(TimeoutError):
        made.run()
    assert made.operations.ended.wait(10), "the function still runs"


def test_a_process_takes_the_work_that_keeps_a_core_busy(
    package: Callable[..., Package],
) -> None:
    made = package(
        """
        # a.here
        def here() -> Raw:
            return Raw(n=os.getpid())

        # a.there
        def there(raw: Raw) -> Clean:
            assert os.getpid() != raw.n
            return Clean(n=os.getpid())
        """,
        there={"strategy": "process"},
    )
    try:
        assert made.run().n != os.getpid()
    finally:
        importlib.import_module(f"{made.name}.orchestration")._processes().shutdown()


def test_a_process_that_dies_does_not_spoil_the_next_run(
    package: Callable[..., Package], tmp_path: Path
) -> None:
    from concurrent.futures.process import BrokenProcessPool

    made = package(
        """
        # a.fatal
        def fatal(mark: str) -> int:
            if not os.path.exists(mark):
                open(mark, "w").close()
                os._exit(1)
            return 3
        """,
        fatal={"strategy": "process"},
    )
    mark = str(tmp_path / "mark")
    try:
        with pytest.raises(BrokenProcessPool):
            made.run(mark=mark)
        assert made.run(mark=mark) == 3
    finally:
        importlib.import_module(f"{made.name}.orchestration")._processes().shutdown()


# --- Caching -------------------------------------------------------------------------------------

CACHED = """
# a.twice
def twice(n: int) -> Raw:
    SEEN.append("twice")
    return Raw(n=2 * n)

# a.thrice
async def thrice(n: int) -> Clean:
    SEEN.append("thrice")
    return Clean(n=3 * n)

# a.add
def add(raw: Raw, clean: Clean) -> int:
    SEEN.append("add")
    return raw.n + clean.n
"""


def test_cached_results_are_kept_by_operation_and_inputs(
    package: Callable[..., Package],
) -> None:
    cached = {name: {"cache": "inputs"} for name in ("twice", "thrice", "add")}
    made = package(CACHED, **cached)
    assert made.run(n=2) == 10
    assert made.run(n=2) == 10
    assert sorted(made.seen) == ["add", "thrice", "twice"]
    assert made.run(n=3) == 15
    assert len(made.seen) == 6


# --- As files ------------------------------------------------------------------------------------

GREETING = """
# a.greet
def greet(query: str, times: int = 1) -> Raw:
    return Raw(n=len(query) * times)

# b.show
async def show(raw: Raw) -> str:
    return f"n is {raw.n}"
"""

KINDS = """
import datetime

class Own: ...

# a.kinds
def kinds(
    rows: list[int], day: datetime.date, raws: list[Raw], flag: bool, own: Own | None = None
) -> str:
    return f"{len(rows)} {day.year} {raws[0].n} {flag}"
"""


def script(made: Package, server: str, name: str, *arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-I", f"{made.folder}/orchestration/{name}.py", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PREFECT_API_URL": server},
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FACTOR = """
import pathlib
import cached_beside

FACTOR = 3

def times(n):
    return n * FACTOR

# a.grow
def grow(n: int = 2) -> Raw:
    with pathlib.Path(__file__).with_name("calls").open("a") as calls:
        calls.write("grow ")
    return Raw(n=times(n) + cached_beside.MORE)
"""


def test_what_changes_an_operation_s_code_forgets_its_cached_results(
    package: Callable[..., Package], server: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = package(GREETING).folder.parent
    beside = root / "cached_beside.py"
    beside.write_text("MORE = 10\n")
    importlib.invalidate_caches()
    made = package(FACTOR, grow={"cache": "1h"})
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    operations = made.folder / "operations.py"

    def given() -> Any:
        return json.loads(script(made, server, "a_flow", cwd=elsewhere))["n"]

    def replace(file: Path, old: str, new: str) -> None:
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    assert (given(), given()) == (16, 16)
    assert (made.folder / "calls").read_text() == "grow "
    replace(operations, "FACTOR = 3", "FACTOR = 4")
    assert given() == 18
    replace(operations, "n=times(n) +", "n=1 + times(n) +")
    assert given() == 19
    replace(beside, "10", "100")
    assert (given(), given()) == (109, 109)
    assert (made.folder / "calls").read_text() == "grow " * 4
    del sys.modules["cached_beside"]


def test_a_flow_runs_as_a_script_from_anywhere(
    package: Callable[..., Package], server: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = package(GREETING)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert script(made, server, "a_flow", "--query", "abc", cwd=elsewhere) == '{\n  "n": 3\n}\n'
    given = elsewhere / "raw.json"
    given.write_text('{"n": 42}')
    assert script(made, server, "b_flow", "--raw", "raw.json", cwd=elsewhere) == "n is 42\n"


def test_a_script_reads_each_kind_of_parameter(
    package: Callable[..., Package], server: str, tmp_path: Path
) -> None:
    made = package(KINDS)
    (tmp_path / "raws.json").write_text('[{"n": 7}]')
    given = ("--rows", "[1, 2]", "--day", "2020-01-02", "--raw", "raws.json", "--flag", "yes")
    assert script(made, server, "main_flow", *given, cwd=tmp_path) == "2 2020 7 True\n"


def test_a_flow_loads_by_its_path_as_deployments_do(package: Callable[..., Package]) -> None:
    from prefect.flows import load_flow_from_entrypoint

    made = package(GREETING)
    path = made.folder / "orchestration" / "main_flow.py"
    sys.path.remove(str(made.folder.parent))
    for name in [name for name in sys.modules if name.partition(".")[0] == made.name]:
        del sys.modules[name]
    flow: Any = load_flow_from_entrypoint(f"{path}:main_flow")
    assert asyncio.run(flow(query="ab", times=2)) == "n is 4"


def test_the_registry_names_every_flow(package: Callable[..., Package]) -> None:
    made = package(GREETING)
    registry: ModuleType = importlib.import_module(f"{made.name}.orchestration.registry")
    assert list(registry.flows_by_name) == ["a_flow", "b_flow", "main_flow"]
    assert registry.flows_by_name["main_flow"] is made.flow()


# --- Random sessions -----------------------------------------------------------------------------


NESTED, FLAT = Style(), Style(flat=True)
EIGHT = (NESTED, NESTED, FLAT, NESTED, NESTED, Style("threads"), NESTED, FLAT)


@pytest.mark.parametrize("eight", range(5))
def test_eight_sessions_do_on_prefect_what_they_mean(on_prefect: None, eight: int) -> None:
    seen: Counter[str] = Counter()
    for number, style in enumerate(EIGHT, start=10_000 + 8 * eight):
        OnPrefect(operations_of(written(number), call), seen).holds_for(style)
    assert seen["flows run"] == 8


# --- Names ---------------------------------------------------------------------------------------


def test_names_that_prefect_and_python_use_themselves(on_prefect: None) -> None:
    from test_prefect_code import HOSTILE, session

    operations = session(HOSTILE)
    functions: dict[str, Any] = {o.name: o.function for o in operations}
    modules = generate_modules(compile_plan(operations))
    namespace = getattr(operations[0].function, "__globals__", {})
    flows = runner.load_flows(modules, functions, namespace)
    raw = namespace["Raw"](n=3)
    result = asyncio.run(flows["main_flow"](raw=raw, list_self=4))
    assert result == dict.fromkeys(["flow.OPERATIONS", "list", "OPERATIONS"])


@pytest.mark.parametrize(
    "name", ["_hidden", "__x", "_", "wait_for", "return_state", "self", "model_config", "v__args"]
)
def test_parameters_that_prefect_refuses_still_arrive(
    package: Callable[..., Package], name: str
) -> None:
    made = package(f"""
        # a.f
        def f(first: int, {name}: int) -> int:
            return 10 * first + {name}
        """)
    (parameter,) = (p.name for p in made.plan.flows[-1].parameters if p.name != "first")
    assert made.run(first=1, **{parameter: "2"}) == 12
