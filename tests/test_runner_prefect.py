"""Flows on a real Prefect server, one for the whole file; interrupts in a real kernel."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from jupyter_core.utils import ensure_event_loop
from recorded import Notebook
from runner_sample import NAMES, CleanedJobs, RawJobs, Sample, sample

from pulpo import runner
from pulpo.errors import RunError, ServerError, UnknownNameError
from pulpo.plan import TaskOptions
from pulpo.prefect_server import PrivateServer
from pulpo.runs import OperationFailedError, Run, RunInterrupted

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.slow,
    # Prefect's client leaves a connection to the garbage collector now and then.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateServer]:
    made = PrivateServer()
    made.url()
    yield made
    made.stop()
    gc.collect()  # what Prefect left open is closed here, where its warnings are expected


def run(the: Sample, server: PrivateServer, flow: str = "main_flow", /, **parameters: Any) -> Run:
    given, options = the.arguments(flow, **(parameters or {"query": "python"}))
    return runner.run_flow_blocking(*given, **options, server=server)


# --- Runs ----------------------------------------------------------------------------------------


def test_nested_flows_give_every_operations_value(
    server: PrivateServer, capfd: pytest.CaptureFixture[str]
) -> None:
    done = run(sample(), server)
    assert done.state == "done"
    assert done.result == CleanedJobs(titles=["python dev", "python ops"])
    assert done["parsing.clean"] is done.result
    assert list(done) == NAMES
    assert all(operation.attempts == 1 for operation in done.operations.values())
    assert done.seconds > 0
    assert capfd.readouterr() == ("", "")


def test_values_are_the_very_objects(server: PrivateServer) -> None:
    made: list[RawJobs] = []

    def linkedin(query: str) -> RawJobs:
        made.append(RawJobs(titles=[query]))
        return made[-1]

    def merge(stepstone: RawJobs, linkedin: RawJobs) -> RawJobs:
        assert linkedin is made[-1]
        return linkedin

    the = sample({"scraping.linkedin.fetch": linkedin, "scraping.merge": merge})
    for _ in range(2):
        done = run(the, server)
        assert done["scraping.linkedin.fetch"] is made[-1]
        assert done["scraping.merge"] is made[-1]


def test_an_edited_operation_needs_no_new_code(server: PrivateServer) -> None:
    the = sample()
    the.functions["scraping.merge"] = lambda stepstone, linkedin: RawJobs(titles=["edited"])
    assert run(the, server, query="x")["parsing.clean"].titles == ["edited"]


def test_data_given_by_reference_reaches_the_operation_unchanged(server: PrivateServer) -> None:
    seen: list[object] = []

    def clean(data: RawJobs) -> CleanedJobs:
        seen.append(data)
        return CleanedJobs(titles=[])

    given = object()
    run(sample({"parsing.clean": clean}), server, "parsing_flow", raw_jobs=given)
    assert seen == [given]


def test_a_failure_keeps_what_came_before_and_shows_only_the_users_lines(
    server: PrivateServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))

    def merge(stepstone: RawJobs, linkedin: RawJobs) -> RawJobs:
        raise ValueError("no titles")  # the line to see

    failed = run(sample({"scraping.merge": merge}), server)
    assert failed.state == "failed"
    assert failed.failed == ["scraping.merge"]
    assert failed.not_reached == ["parsing.clean"]
    assert failed["scraping.linkedin.fetch"].titles == ["python ops"]
    with pytest.raises(OperationFailedError) as caught:
        failed.raise_for_failure()
    assert isinstance(caught.value.__cause__, ValueError)
    shown = caught.value._render_traceback_()
    assert shown[0] == "OperationFailedError: scraping.merge failed; not reached: parsing.clean"
    assert shown[1] == "What it was called with: pulpo.last_run().inputs('scraping.merge')"
    assert shown[-1] == "ValueError: no titles"
    assert "the line to see" in "\n".join(shown)
    assert sum(line.startswith('  File "') for line in shown) == 1
    assert list(tmp_path.iterdir()) == []  # Prefect would keep the exception in its home


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_operation_that_exits_fails_and_the_process_goes_on(
    server: PrivateServer, kind: str
) -> None:
    def linkedin(query: str) -> RawJobs:
        sys.exit(3)

    async def stepstone(query: str) -> RawJobs:
        sys.exit(3)

    replaced = {"scraping.linkedin.fetch": linkedin, "scraping.stepstone.fetch": stepstone}
    name = list(replaced)[kind == "async"]
    failed = run(sample({name: replaced[name]}), server)
    assert failed.failed == [name]
    with pytest.raises(OperationFailedError, match=r"called sys\.exit\(3\)"):
        failed.raise_for_failure()
    assert run(sample(), server).state == "done"


def test_an_operation_that_raises_a_keyboard_interrupt_fails_too(server: PrivateServer) -> None:
    def linkedin(query: str) -> RawJobs:
        raise KeyboardInterrupt

    failed = run(sample({"scraping.linkedin.fetch": linkedin}), server)
    assert failed.failed == ["scraping.linkedin.fetch"]
    assert "the operation raised KeyboardInterrupt()" in str(failed.error)
    assert run(sample(), server).state == "done"


def test_what_loggers_and_warnings_say_is_kept_with_the_operation(
    server: PrivateServer, capfd: pytest.CaptureFixture[str]
) -> None:
    def linkedin(query: str) -> RawJobs:
        warnings.warn("careful", stacklevel=1)
        logging.getLogger("mine").error("logged")
        print("to stderr", file=sys.stderr)
        return RawJobs(titles=[])

    stream = sys.stderr
    handler = logging.StreamHandler(stream)  # as logging.basicConfig() in a cell makes one
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda *told, **more: print(told[0], file=sys.stderr)
            done = run(sample({"scraping.linkedin.fetch": linkedin}), server)
        assert handler.stream is stream is sys.stderr
    finally:
        logging.getLogger().removeHandler(handler)
    said = done.logs("scraping.linkedin.fetch")
    for line in ("careful", "logged", "to stderr"):
        assert f"scraping.linkedin.fetch: {line}" in said
    assert "to stderr" in capfd.readouterr().err  # in a terminal it is shown, too


def test_retries_are_counted_and_the_log_lines_kept(server: PrivateServer) -> None:
    calls: list[str] = []

    async def stepstone(query: str) -> RawJobs:
        from prefect import get_run_logger

        get_run_logger().info("asking for %s", query)
        calls.append(query)
        if len(calls) < 3:
            raise ConnectionError("again")
        return RawJobs(titles=[])

    def linkedin(query: str) -> RawJobs:
        from prefect import get_run_logger

        get_run_logger().warning("from a thread")
        return RawJobs(titles=[])

    the = sample(
        {"scraping.stepstone.fetch": stepstone, "scraping.linkedin.fetch": linkedin},
        {"scraping.stepstone.fetch": TaskOptions(retries=2)},
    )
    done = run(the, server)
    assert done.state == "done"
    assert done.operations["scraping.stepstone.fetch"].attempts == 3
    assert done.operations["scraping.stepstone.fetch"].error is None
    assert done.logs().count("INFO scraping.stepstone.fetch: asking for python") == 3
    assert "WARNING scraping.linkedin.fetch: from a thread" in done.logs()
    assert not [line for line in done.logs() if "hook" in line]


def test_what_operations_print_is_kept_with_each(
    server: PrivateServer, capfd: pytest.CaptureFixture[str]
) -> None:
    async def stepstone(query: str) -> RawJobs:
        for number in range(3):
            print("stepstone", number, end="\n" if number else " then\n")
            await asyncio.sleep(0.05)
        print("the end", end="")
        return RawJobs(titles=[])

    def linkedin(query: str) -> RawJobs:
        for number in range(3):
            print("linkedin", number)
            time.sleep(0.05)
        sys.stdout.writelines(["10 %\r20 %\r", "100 %\n"])
        return RawJobs(titles=[])

    before = sys.stdout
    operations = {"scraping.stepstone.fetch": stepstone, "scraping.linkedin.fetch": linkedin}
    done = run(sample(operations), server)
    print("afterwards")
    assert sys.stdout is before

    def printed(operation: str) -> list[str]:
        lines = done.logs(operation)
        assert lines == [line for line in done.logs() if f"{operation}: " in line]
        return [line.partition(": ")[2] for line in lines if line.startswith(operation)]

    assert printed("scraping.stepstone.fetch") == [
        "stepstone 0 then",
        "stepstone 1",
        "stepstone 2",
        "the end",
    ]
    assert printed("scraping.linkedin.fetch") == ["linkedin 0", "linkedin 1", "linkedin 2", "100 %"]
    assert printed("parsing.clean") == []
    assert str(done).endswith(
        "scraping.stepstone.fetch and scraping.linkedin.fetch printed 8 lines: "
        "run.logs('scraping.stepstone.fetch')"
    )
    shown = capfd.readouterr().out  # by a terminal; in a kernel they are not
    assert "linkedin 2\n" in shown
    assert shown.endswith("afterwards\n")
    with pytest.raises(UnknownNameError, match=r"Did you mean 'parsing\.clean'"):
        done.logs("parsing.claen")


def test_of_very_many_lines_the_last_are_kept(server: PrivateServer) -> None:
    def linkedin(query: str) -> RawJobs:
        print("\n".join(map(str, range(100_000))))
        return RawJobs(titles=[])

    done = run(sample({"scraping.linkedin.fetch": linkedin}), server)
    assert len(done.logs()) == 20_000
    assert "scraping.linkedin.fetch: 99999" in done.logs("scraping.linkedin.fetch")
    assert "printed 100,000 lines" in str(done)


def test_a_failed_call_can_be_made_again_from_its_inputs(server: PrivateServer) -> None:
    def merge(stepstone: RawJobs, linkedin: RawJobs) -> RawJobs:
        raise ValueError(len(stepstone.titles))

    failed = run(sample({"scraping.merge": merge}), server)
    given = failed.inputs("scraping.merge")
    assert list(given) == ["stepstone", "linkedin"]
    assert given["stepstone"] is failed["scraping.stepstone.fetch"]
    with pytest.raises(ValueError, match=str(len(given["stepstone"].titles))):
        merge(**given)
    with pytest.raises(RunError, match=r"'parsing\.clean' has no inputs in this run: it was not"):
        failed.inputs("parsing.clean")


def test_a_run_is_a_table(server: PrivateServer) -> None:
    def merge(stepstone: RawJobs, linkedin: RawJobs) -> RawJobs:
        raise ValueError("no")

    frame = run(sample({"scraping.merge": merge}), server).to_frame()
    assert list(frame.index) == NAMES
    assert frame.index.name == "operation"
    fetched, merged, cleaned = (
        frame.loc[name] for name in ("scraping.stepstone.fetch", "scraping.merge", "parsing.clean")
    )
    assert (fetched.state, fetched.value, fetched.attempts) == ("done", "RawJobs", 1)
    assert isinstance(merged.error, ValueError)
    assert 0 <= fetched.start < fetched.start + fetched.seconds <= merged.start
    assert (cleaned.state, cleaned.attempts) == ("not reached", 0)
    assert cleaned[["start", "seconds"]].isna().all()
    assert str(frame.dtypes["start"]) == "float64"


def test_a_cached_result_is_forgotten_when_what_it_was_made_with_changes(
    server: PrivateServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", server.url())
    monkeypatch.setenv("PREFECT_LOCAL_STORAGE_PATH", str(tmp_path))
    book = Notebook()
    book.cell("import random\nfrom typing import NewType\nMade = NewType('Made', int)\nK = 1")
    book.cell("def more(n):\n    return n + K")
    grow = "def grow(n: int = 3) -> Made:\n    return Made(more(n))"
    book.operation("grow", grow, cache="inputs")

    def made(**parameters: Any) -> tuple[Any, int]:
        done = book.session.run(parameters=parameters)
        done.raise_for_failure()
        return done["grow"], done.operations["grow"].attempts

    assert made() == (4, 1)
    assert made() == (4, 0)
    assert made(n=5) == (6, 1)
    book.cell("K = 2")
    assert made() == (5, 1)
    book.cell("def more(n):\n    return n * K")
    assert made() == (6, 1)
    assert made() == (6, 0)
    book.cell("K = random.choice([7])")  # nobody knows what it will be, so it is not looked up
    assert (made(), made()) == ((21, 1), (21, 1))
    run = book.session.last_run
    assert run is not None
    assert "grow was not looked up in the cache, as what it uses is not known" in str(run)


def test_a_timeout_is_told_from_a_failure(server: PrivateServer) -> None:
    def linkedin(query: str) -> RawJobs:
        while True:
            time.sleep(0.02)

    the = sample(
        {"scraping.linkedin.fetch": linkedin},
        {"scraping.linkedin.fetch": TaskOptions(timeout=0.5)},
    )
    failed = run(the, server)
    assert failed.states["scraping.linkedin.fetch"] == "timed out"
    assert failed.failed == ["scraping.linkedin.fetch"]
    with pytest.raises(OperationFailedError, match="took longer than its timeout") as caught:
        failed.raise_for_failure()
    assert len(caught.value._render_traceback_()) == 1


def test_several_runs_at_once_keep_their_results_apart(server: PrivateServer) -> None:
    async def main() -> list[Run]:
        runs = []
        for query in ("a", "b", "c"):
            given, options = sample().arguments(query=query)
            runs.append(runner.run_flow(*given, **options, server=server))
        return await asyncio.gather(*runs)

    runs = asyncio.run(main())
    assert [each["parsing.clean"].titles[0] for each in runs] == ["a dev", "b dev", "c dev"]
    for each in runs:
        assert len([line for line in each.logs() if line.startswith("INFO parsing.clean:")]) == 1


def test_a_blocking_run_inside_a_running_loop_uses_a_thread(server: PrivateServer) -> None:
    threads: set[int] = set()

    async def stepstone(query: str) -> RawJobs:
        threads.add(threading.get_ident())
        return RawJobs(titles=[])

    async def main() -> Run:
        return run(sample({"scraping.stepstone.fetch": stepstone}), server)

    assert asyncio.run(main()).state == "done"
    assert threads
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("inside", ["a loop", "none"])
def test_changes_are_told_in_the_callers_thread(server: PrivateServer, inside: str) -> None:
    told: list[tuple[int, str]] = []
    given, options = sample().arguments(query="python")

    def on_change(each: Run) -> None:
        told.append((threading.get_ident(), each.state))

    def blocking() -> Run:
        return runner.run_flow_blocking(*given, **options, on_change=on_change, server=server)

    async def main() -> Run:
        return blocking()

    asyncio.run(main()) if inside == "a loop" else blocking()
    assert {thread for thread, _ in told} == {threading.get_ident()}
    assert [state for _, state in told][-1] == "done"
    assert "running" in [state for _, state in told]


def test_cancelling_the_task_cancels_the_run_and_keeps_results(server: PrivateServer) -> None:
    started = threading.Event()

    async def stepstone(query: str) -> RawJobs:
        started.set()
        await asyncio.sleep(60)
        raise AssertionError

    async def main() -> RunInterrupted:
        given, options = sample({"scraping.stepstone.fetch": stepstone}).arguments(query="x")
        seen: list[Run] = []
        task = asyncio.create_task(
            runner.run_flow(*given, **options, on_change=seen.append, server=server)
        )
        while not started.is_set() or "scraping.linkedin.fetch" not in seen[-1]:
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert task.cancelled()
        assert isinstance(caught.value, RunInterrupted)
        return caught.value

    ended = asyncio.run(main()).run
    assert ended.state == "cancelled"
    assert ended["scraping.linkedin.fetch"].titles == ["x ops"]
    assert ended.states["scraping.stepstone.fetch"] == "cancelled"
    assert ended.not_reached == ["scraping.merge", "parsing.clean"]
    assert run(sample(), server).state == "done"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own handling of SIGINT, which a shell turns off for what it starts in background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_a_blocking_run(server: PrivateServer) -> None:
    def linkedin(query: str) -> RawJobs:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(3000):  # a minute: should the signal be lost, the test fails and ends
            time.sleep(0.02)
        return RawJobs(titles=[])

    with pytest.raises(KeyboardInterrupt) as caught:
        run(sample({"scraping.linkedin.fetch": linkedin}), server)
    assert isinstance(caught.value, RunInterrupted)
    assert caught.value.run.states["scraping.linkedin.fetch"] == "cancelled"


def test_a_run_whose_server_dies_goes_on_with_another_one_once() -> None:
    # Its own server, which is killed in the middle.
    own = PrivateServer()
    died: list[int] = []

    def killing(times: int) -> Callable[[str], RawJobs]:
        def linkedin(query: str) -> RawJobs:
            if len(died) == times:
                return RawJobs(titles=[query])
            assert own.pid is not None
            died.append(own.pid)
            os.kill(own.pid, signal.SIGKILL)
            while True:
                time.sleep(0.02)

        return linkedin

    try:
        done = run(sample({"scraping.linkedin.fetch": killing(1)}), own)
        assert (done.state, done["parsing.clean"].titles) == ("done", ["python", "python dev"])
        *_, note = str(done).split("\n")
        assert note.startswith(
            "the private Prefect server ended during the run, which went on with another one; "
        )
        assert note.endswith("scraping.linkedin.fetch ran again")
        del died[:]
        failed = run(sample({"scraping.linkedin.fetch": killing(2)}), own)
        assert len(died) == 2
        assert failed.state == "failed"
        with pytest.raises(ServerError, match="ended during the run of main_flow: run it again"):
            failed.raise_for_failure()
        assert run(sample(), own).state == "done"
        pid, home = own.pid, own.home
    finally:
        own.stop()
    assert pid is not None
    assert home is not None
    assert not home.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_nothing_leaves_loopback_and_proxies_are_not_asked(
    server: PrivateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses: list[Any] = []
    sys.addaudithook(_note_connections(addresses, lambda: done is None))
    done = None
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    done = run(sample(), server)
    assert done.state == "done"
    hosts = {address[0] for address in addresses if isinstance(address, tuple)}
    assert hosts == {"127.0.0.1"}
    assert 9 not in {address[1] for address in addresses if isinstance(address, tuple)}


def _note_connections(
    addresses: list[Any], wanted: Callable[[], bool]
) -> Callable[[str, Any], None]:
    def hook(event: str, arguments: Any) -> None:  # a hook stays for the process's whole life
        if event == "socket.connect" and wanted():
            addresses.append(arguments[1])

    return hook


def test_a_configured_server_that_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    url = f"http://127.0.0.1:{free_port}/api"
    monkeypatch.setenv("PREFECT_API_URL", url)
    idle = PrivateServer()
    with pytest.raises(ServerError, match=f"the Prefect server at {url} does not answer"):
        run(sample(), idle)
    assert idle.pid is None


def test_a_configured_server_is_used(
    server: PrivateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", server.url())
    idle = PrivateServer()
    assert run(sample(), idle).state == "done"
    assert idle.pid is None


# --- A part of a session -------------------------------------------------------------------------

JOBS = """
from pydantic import BaseModel

class Jobs(BaseModel):
    titles: list[str]

class Report(BaseModel):
    lines: int
"""


@pytest.fixture
def book(server: PrivateServer, monkeypatch: pytest.MonkeyPatch) -> Notebook:
    monkeypatch.setenv("PREFECT_API_URL", server.url())
    book = Notebook()
    book.cell(JOBS)
    for name, source in (
        ("get.web", "def web(query: str) -> list[Jobs]:\n    return [Jobs(titles=[query])] * 3\n"),
        ("get.file", "def file() -> Jobs:\n    return Jobs(titles=['file'])\n"),
        (
            "join",
            "def join(jobs: list[Jobs]) -> Report:\n"
            "    return Report(lines=sum(len(each.titles) for each in jobs))\n",
        ),
        ("tell.all", "def tell(report: Report) -> str:\n    return f'{report.lines} lines'\n"),
    ):
        book.operation(name, source)
    return book


def test_a_selection_runs_on_what_the_last_run_left_or_a_person_gives(book: Notebook) -> None:
    session = book.session
    first = session.run(upto="get.web,get.file", parameters={"query": "python"})
    assert list(first) == ["get.web", "get.file"]
    assert first.notes == ()
    second = session.run(only="join")
    assert second.result.lines == 4
    assert second.notes == (
        "get_web: the result of get.web in an earlier run",
        "get_file: the result of get.file in an earlier run",
    )
    jobs = book.namespace["Jobs"](titles=["a", "b"])
    third = session.run(from_="join", parameters={"get_web": [jobs, jobs]})
    assert third["tell.all"] == "5 lines"
    assert third.notes == ("get_file: the result of get.file in an earlier run",)
    text = '{"titles": ["x"]}'
    fourth = session.run("tell", upto="tell.all", parameters={"report": '{"lines": 7}'})
    assert fourth.result == "7 lines"
    on_threads = session.run(
        only="get.file,join", parameters={"jobs": f"[{text}]"}, runner="threads"
    )
    assert on_threads["join"].lines == 2


def exported(folder: Path, flow: str, *arguments: str) -> str:
    """Run an exported flow from another folder, where nothing but the export can be found."""
    (folder.parent / "elsewhere").mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-I", str(folder / f"orchestration/{flow}.py"), *arguments],
        cwd=folder.parent / "elsewhere",
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_flow_runs_after_partial_exports_with_files_for_what_was_cut(
    book: Notebook, tmp_path: Path
) -> None:
    session, whole, part = book.session, tmp_path / "whole", tmp_path / "part"
    session.export(whole)
    session.export(whole, flow="tell")
    (tmp_path / "report.json").write_text('{"lines": 12}')
    (tmp_path / "jobs.json").write_text('[{"titles": ["a", "b"]}]')
    report, jobs = str(tmp_path / "report.json"), str(tmp_path / "jobs.json")
    assert exported(whole, "main_flow", "--query", "python") == "4 lines"
    assert exported(whole, "tell_flow", "--report", report) == "12 lines"
    session.export(part, from_="join")
    session.export(part, flow="get", only="get.file", runner="threads")
    given = ("--get-web", jobs, "--get-file", str(tmp_path / "one.json"))
    (tmp_path / "one.json").write_text('{"titles": ["c"]}')
    assert exported(part, "main_flow", *given) == "3 lines"
    assert '"file"' in exported(part, "get_flow")
    assert exported(part, "tell_flow", "--report", report) == "12 lines"


# --- In a kernel ---------------------------------------------------------------------------------

PRELUDE = f"""
import asyncio, sys, time
sys.path.insert(0, {str(HERE)!r})
from runner_sample import *
from pulpo.runner import run_flow, run_flow_blocking
from pathlib import Path
async def waits(data: RawJobs) -> CleanedJobs:
    Path("started").touch()
    await asyncio.sleep(60)
def blocks(data: RawJobs) -> CleanedJobs:
    Path("started").touch()
    while True: time.sleep(.02)
def fails(stepstone: RawJobs, linkedin: RawJobs) -> RawJobs:
    raise ValueError("no titles")
def call(run, name=None, function=None):
    given, options = sample({{name: function}} if name else None).arguments(query="x")
    return run(*given, **options)
"""


class Kernel:
    """A real kernel, in a folder of its own."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.manager = KernelManager()
        self.manager.start_kernel(env=env, cwd=str(folder))
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def execute(self, code: str, interrupt: bool = False) -> dict[str, Any]:
        started = self.folder / "started"
        started.unlink(missing_ok=True)
        heard: dict[str, Any] = {"text": "", "error": None, "streams": ""}

        def hear(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                heard["streams"] += content["text"]
            elif message["msg_type"] == "error":
                heard["error"] = content
            elif message["msg_type"] == "execute_result":
                heard["text"] = content["data"]["text/plain"]

        def press() -> None:
            while not started.exists():
                time.sleep(0.02)
            self.manager.interrupt_kernel()

        if interrupt:
            threading.Thread(target=press, daemon=True).start()
        self.client.execute_interactive(code, output_hook=hear, timeout=120)
        return heard

    def stop(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
        ensure_event_loop().close()  # jupyter_client made it, and leaves it open
        asyncio.set_event_loop(None)


@pytest.fixture
def kernel(server: PrivateServer, private_env: dict[str, str], tmp_path: Path) -> Iterator[Kernel]:
    made = Kernel(tmp_path, {**private_env, "PREFECT_API_URL": server.url()})
    try:
        yield made
    finally:
        made.stop()


def test_a_kernel_runs_fails_and_is_interrupted_on_its_own_loop_and_in_a_thread(
    kernel: Kernel,
) -> None:
    assert kernel.execute(PRELUDE)["error"] is None
    for run_it, slow in (
        ("await call(run_flow{})", "waits"),
        ("call(run_flow_blocking{})", "blocks"),
    ):
        done = kernel.execute(run_it.format(""))
        assert done == {"text": done["text"], "error": None, "streams": ""}
        assert "main_flow: done" in done["text"]

        slowly = run_it.format(f", 'parsing.clean', {slow}")
        ended = kernel.execute(slowly, interrupt=True)
        assert ended["error"]["ename"] == "RunInterrupted"
        assert len(ended["error"]["traceback"]) == 1
        assert "3 of 4 operations had finished" in ended["error"]["traceback"][0]
        assert ended["streams"] == ""

        failing = run_it.format(", 'scraping.merge', fails")
        failed = kernel.execute(f"run = {failing}\nrun.raise_for_failure()")
        shown = "\n".join(failed["error"]["traceback"])
        assert 'File "Cell In[1]", line' in shown
        assert shown.count("File ") == 1
        assert failed["streams"] == ""


# --- The server's process ------------------------------------------------------------------------

STARTER = """
import threading, time
from pulpo.prefect_server import PrivateServer
server = PrivateServer()
threading.Thread(target=server.url, daemon=True).start()
while server.pid is None or server.home is None:
    time.sleep(.01)
print(server.pid, server.home, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_ends_with_the_process_that_started_it(
    way: signal.Signals, private_env: dict[str, str]
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", STARTER], env=private_env, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        pid, home = child.stdout.readline().split()
        child.send_signal(way)
    # The child is no child of ours: it is gone when its id is.
    for _ in range(600):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), 0)
            time.sleep(0.05)
            continue
        break
    else:
        os.kill(int(pid), signal.SIGKILL)
        pytest.fail("the server outlived the process that started it")
    assert not Path(home).exists()


def test_a_server_that_cannot_start_shows_the_end_of_its_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pulpo.prefect_server._CHILD", "raise SystemExit('no disk')")
    with pytest.raises(ServerError, match=r"it ended with code 1\. The end of its log:\n  no disk"):
        PrivateServer().url()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_does_not_end_the_server(server: PrivateServer) -> None:
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            server.stop()
        os._exit(0)
    os.waitpid(child, 0)
    assert server.is_running
