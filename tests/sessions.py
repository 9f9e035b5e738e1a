"""Random sessions for properties: hostile but legal names, every kind of port and output.

Two kinds: `sessions` are as hypothesis finds them, many of them with errors; those of an `Author`
are written to make sense, of up to 40 operations, and `mended` where they do not.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random
from typing import Any

from declared import MODELS, declare, run
from hypothesis import strategies as st
from meaning import Call, Interpreter, Meaning
from pydantic import create_model

from pulpo.operations import Operation, Port, make_operation
from pulpo.plan import TaskOptions

#: Names that generated code has other uses for.
HOSTILE = (
    "asyncio", "task", "flow", "opaque", "OPERATIONS", "main", "main_flow", "self", "list", "give",
    "Ref", "start", "settled", "subflow", "finished", "in_thread", "print", "type", "match", "_",
    "typing", "sys", "pathlib", "a", "b", "a_b", "b_c", "x", "X", "x_2", "operation", "value",
    "result", "datetime", "NO_CACHE", "run_cache", "several", "standalones", "cls", "__init__",
)  # fmt: skip

names = st.sampled_from(HOSTILE)
groups = st.sampled_from(("a", "b", "a_b", "A", "flow", "task", "list"))

#: Models called like what generated code needs, or like what is no name in small letters.
CALLED_LIKE = ("Task", "Ref", "Self", "Class", "If", "_1", "_", "List", "Flow", "Wait_for")
#: One class for each model that a random session may use.
WORLD: dict[str, Any] = {
    **MODELS,
    **{f"M{n}": create_model(f"M{n}", __module__="__main__", n=(int, 0)) for n in range(100)},
    **{name: create_model(name, __module__="__main__", n=(int, 0)) for name in ("Nobody",)},
    **{name: create_model(name, __module__="__main__") for name in CALLED_LIKE},
}
models = st.sampled_from(("Raw", "Clean", "Skills", *(f"M{n}" for n in range(6)), "Task", "Self"))
kinds = st.sampled_from(("{}", "{}", "{}", "list[{}]", "{} | None"))
plain = st.sampled_from(("int", "str", "int = 3", "str = 'x'", "", "'Unknown | int' = 4"))


@st.composite
def operation_names(draw: st.DrawFn) -> str:
    depth = draw(st.integers(0, 4))
    parts = [draw(groups) for _ in range(depth)]
    return ".".join([*parts, draw(names)])


@st.composite
def ports(draw: st.DrawFn) -> list[str]:
    """Return the parameters of a signature, as text."""
    wanted = draw(st.lists(names, max_size=4, unique=True))
    required, optional = [], []
    for name in wanted:
        text = draw(plain | st.builds(str.format, kinds, models))
        (optional if "=" in text else required).append(f"{name}: {text}" if text else name)
    return [*required, *optional]


@st.composite
def returns(draw: st.DrawFn) -> str:
    count = draw(st.sampled_from((0, 1, 1, 1, 2, 3)))
    kinds_ = [draw(kinds).format(draw(models)) for _ in range(count)]
    if count == 0:
        return draw(st.sampled_from(("", "None", "int")))
    return kinds_[0] if count == 1 else f"tuple[{', '.join(kinds_)}]"


@st.composite
def sessions(
    draw: st.DrawFn, *, ordered: bool = True, call: Callable[[str, dict[str, Any]], Any] = max
) -> list[Operation]:
    """Return operations; without ``ordered``, none whose meaning depends on the order.

    Each function returns what ``call`` makes of its operation's name and its arguments.
    """
    wanted = draw(st.lists(operation_names(), min_size=1, max_size=10))
    unique = [name for name in dict.fromkeys(wanted) if not refused(name)]
    made: list[Operation] = []
    for name in unique:
        made.append(draw(one_operation(name, unique, ordered, call)))
    return made


def refused(name: str) -> bool:
    return "." in name and name.partition(".")[0] in ("main", "standalones")


@st.composite
def one_operation(
    draw: st.DrawFn,
    name: str,
    others: list[str],
    ordered: bool,
    call: Callable[[str, dict[str, Any]], Any],
) -> Operation:
    takes, gives = draw(ports()), draw(returns())
    if not ordered and any(model in " ".join(takes) for model in WORLD if model in gives):
        gives = ""  # a transform: those bind in registration order
    function = draw(st.just(name.rpartition(".")[2]) | names)
    prefix = draw(st.sampled_from(("", "async ")))
    arrow = f" -> {gives}" if gives else ""
    scope: dict[str, Any] = {**WORLD, "_call": call, "__name__": "__main__"}
    if takes and draw(st.booleans()):
        takes.insert(draw(st.integers(0, len(takes) - 1)), "*")
    body = f"return _call({name!r}, {{**locals()}})"
    run(f"{prefix}def {function}({', '.join(takes)}){arrow}:\n    {body}", scope)
    # Mostly after what stands before, so that most sessions are free of loops.
    before = others[: others.index(name)] or others
    after = draw(st.lists(st.sampled_from(before), max_size=1))
    return make_operation(
        scope[function],
        name=name,
        options=TaskOptions(after=tuple(other for other in after if other != name)),
    )


# --- Sessions that make sense ---------------------------------------------------------------------

#: Where operations stand: deep, alike, in one another, and colliding once they are identifiers.
PLACES = (
    "a", "a.b", "a.b.c", "a.b.c.d", "a.b_c", "a_b", "a_b.c", "A", "b", "b.a", "c", "c.list", "d",
    "flow", "flow.task", "task", "list", "x.x", "x.x.x", "x.x.x.x.x", "_", "a_flow", "self", "e",
)  # fmt: skip
PORTS = ("data", "raw", "other", "n", "rows", "more", "given", "left", "right", "third", "last")
#: Parameters that a person gives; the last one has no annotation.
PLAIN = ("int", "str", "int = 3", "str = 'x'", "'Unknown | int' = 4", "")
ORDINARY = ("load", "fetch", "clean", "merge", "score", "report", "index", "rank", "plot", "save")


@dataclass(frozen=True)
class Sketch:
    """One operation, as it would be written."""

    name: str
    function: str
    ports: tuple[str, ...] = ()
    returns: str = ""
    flags: tuple[str, ...] = ()

    def line(self) -> str:
        """Return the line from which `declared.declare` makes the operation."""
        same = self.function == self.name.rpartition(".")[2]
        arrow = f" -> {self.returns}" if self.returns else ""
        text = f"{self.name}{'' if same else f'={self.function}'}({', '.join(self.ports)}){arrow}"
        return " ".join([text, *(f"--{flag}" for flag in self.flags)])

    def without(self, port: str) -> Sketch:
        """Return the same without a parameter, by its name."""
        ports = [text for text in self.ports if port_name(text) != port]
        kept = [text for n, text in enumerate(ports) if not idle(ports, n)]
        # What `in` declares is paired with parameters without annotation, of which there are less.
        claims = ("in ",) if port in self.ports else ()
        gone = (f"bind {port}=", *claims)
        flags = [flag for flag in self.flags if not flag.startswith(gone)]
        return replace(self, ports=tuple(kept), flags=tuple(flags))

    def without_order(self) -> Sketch:
        """Return the same that comes after nothing in particular."""
        claims = any(":" not in text and text not in ("*", "/") for text in self.ports)
        gone = ("after ",) if claims else ("after ", "in ")
        return replace(self, flags=tuple(f for f in self.flags if not f.startswith(gone)))

    def with_less(self) -> Iterator[Sketch]:
        """Return simpler ones, each with one thing less."""
        for text in self.ports:
            yield self.without(port_name(text))
        for flag in self.flags:
            yield replace(self, flags=tuple(each for each in self.flags if each != flag))
        if self.returns:
            yield replace(self, returns="")
        for item in self.returns.removeprefix("tuple[").removesuffix("]").split(", "):
            if self.returns.startswith("tuple["):
                yield replace(self, returns=item)
        last = self.name.rpartition(".")[2]
        if self.function != last:
            yield replace(self, function=last)

    def with_port(self, port: str, annotation: str) -> Sketch:
        """Return the same with another annotation of a parameter."""
        texts = [
            f"{text.partition(':')[0]}: {annotation}{default_of(text)}"
            if port_name(text) == port
            else text
            for text in self.ports
        ]
        return replace(self, ports=tuple(texts))


def port_name(text: str) -> str:
    return text.partition(":")[0].partition("=")[0].strip(" *") or text


def default_of(text: str) -> str:
    return " =" + text.partition("=")[2] if "=" in text else ""


def idle(ports: Sequence[str], place: int) -> bool:
    """Return whether a ``/`` has nothing before it, or a ``*`` nothing behind it."""
    return (ports[place] == "/" and place == 0) or (ports[place] == "*" and place == len(ports) - 1)


class Author:
    """Writes one session, in an order in which it could run; then puts it into any order."""

    def __init__(self, random: Random, most: int) -> None:
        self.random = random
        self.size = min(most, random.choice((random.randint(1, 12), random.randint(1, most))))
        self.sketches: list[Sketch] = []
        #: For each model that is given by now: how many times, and whether it is many.
        self.given: dict[str, list[bool]] = {}
        self.fresh = [*CALLED_LIKE, "Report", *(f"M{n}" for n in range(100))]
        random.shuffle(self.fresh)
        self.places = random.sample(PLACES, random.randint(1, min(8, 1 + self.size // 3)))
        self.tidy = random.random() < 0.6  # groups that stand one behind the other
        self.hostile = random.random() < 0.5

    def write(self) -> list[Sketch]:
        for number in range(self.size):
            self.sketches.append(self.sketch(number / self.size))
        order = self.random.choice(("as it runs", "as it runs", "any", "backwards"))
        if order == "any":
            self.random.shuffle(self.sketches)
        return self.sketches[::-1] if order == "backwards" else self.sketches

    # - one operation -

    def sketch(self, progress: float) -> Sketch:
        name = self.name(progress)
        function = name.rpartition(".")[2]
        if self.random.random() < 0.2:
            function = self.random.choice(HOSTILE if self.hostile else ORDINARY)
        taken = self.taken()
        ports, flags, transformed = self.ports(taken)
        if (
            not flags
            and self.given
            and self.random.random() < 0.08
            and all(":" in p for p in ports)
        ):
            flags.append(f"in {self.random.choice(list(self.given))}")  # order, without data
        returns = self.returns(transformed, [model for model, _ in taken])
        if self.random.random() < 0.4:
            flags.append("async")
        if self.sketches and self.random.random() < 0.12:
            flags.append(f"after {self.random.choice(self.sketches).name}")
        if self.random.random() < 0.15:
            flags.append(f"max {self.random.randint(1, 3)}")
        if self.random.random() < 0.15:
            flags.append("skip")
        return Sketch(name, function, tuple(ports), returns, tuple(flags))

    def name(self, progress: float) -> str:
        known = {sketch.name for sketch in self.sketches}
        while True:
            groups = [*self.places, ""]
            at = progress * len(self.places) if self.tidy else self.random.random() * len(groups)
            group = groups[int(at)] if self.random.random() < 0.9 else self.random.choice(groups)
            last = self.random.choice(HOSTILE if self.hostile else ORDINARY)
            if self.random.random() < 0.3:
                last += f"_{self.random.randint(2, 30)}"
            name = f"{group}.{last}" if group else last
            if self.random.random() < 0.03:
                name = self.random.choice(self.places)  # an operation called like a group
            if name not in known and not refused(name):
                return name

    # - what it takes -

    def taken(self) -> list[tuple[str, list[bool]]]:
        """Return models that it takes, rather the latest ones."""
        wanted = self.random.choice((0, 1, 1, 1, 2, 2, 3, 4))
        known = list(self.given.items())[-self.random.choice((4, 12, 100)) :]
        return self.random.sample(known, min(wanted, len(known)))

    def ports(self, taken: list[tuple[str, list[bool]]]) -> tuple[list[str], list[str], str]:
        """Return the parameters, the flags they need, and the model that it transforms."""
        # Few need more than nine, and a larger sample would make every session another.
        spare = ["spare_a", "spare_b", "spare_c"]
        names = spare + self.random.sample(HOSTILE if self.hostile else PORTS, 9)
        ports: list[str] = []
        claimed: list[str] = []
        transformed = ""
        for model, many in taken:
            shape = self.shape(many)
            if shape == "claim":
                claimed.append(model)
                ports.append(names.pop())
                continue
            ports.append(f"{names.pop()}: {shape.format(model)}")
            if not transformed and self.random.random() < 0.15:
                transformed = model
            if self.random.random() < 0.05:  # once more, whole
                ports.append(f"{names.pop()}: list[{model}]")
        claims = bool(claimed)
        ports += [f"{names.pop()}: {self.alone()}" for _ in range(self.random.random() < 0.1)]
        for _ in range(self.random.choice((0, 0, 0, 1, 1, 2))):
            text = self.random.choice(PLAIN if not claims else PLAIN[:-1])
            ports.append(f"{names.pop()}: {text}" if text else names.pop())
        flags = [f"in {','.join(claimed)}"] if claims else []
        return self.marked(ports, names), flags, transformed

    def shape(self, many: list[bool]) -> str:
        if len(many) > 1:
            return self.random.choice(("list[{}]", "list[{}]", "list[{}]", "claim", "{}"))
        if many[0]:
            return self.random.choice(("{}", "{}", "{}", "{} | None", "list[{}]", "claim"))
        return self.random.choice(
            ("{}", "{}", "{}", "{}", "{} | None", "{} = None", "list[{}]", "claim")
        )

    def alone(self) -> str:
        """Return what nobody gives: optional, or a person's."""
        return self.random.choice(("Nobody | None", "Nobody", "list[Nobody]", "Nobody = None"))

    def marked(self, ports: list[str], names: list[str]) -> list[str]:
        """Return the parameters in an order that Python takes, some by keyword or place only."""
        self.random.shuffle(ports)
        ports.sort(key=lambda text: "=" in text)
        if ports and self.random.random() < 0.25:
            ports.insert(self.random.randrange(len(ports)), "*")
        elif self.given and self.random.random() < 0.05:
            ports.append(f"*{names.pop()}: {self.random.choice(list(self.given))}")
        if ports and ports[0][0] != "*" and self.random.random() < 0.15:
            end = next((n for n, text in enumerate(ports) if text[0] == "*"), len(ports))
            ports.insert(self.random.randint(1, end), "/")
        return ports

    # - what it gives -

    def returns(self, transformed: str, taken: list[str]) -> str:
        count = self.random.choice((0, 1, 1, 1, 1, 1, 1, 2, 3))
        models = [transformed] if transformed else []
        while len(models) < count:
            models.append(self.given_model([*taken, *models]))
        if not models:
            return self.random.choice(("", "", "None", "int"))
        texts = []
        for model in models:
            kind = self.random.choice(("{}", "{}", "{}", "{}", "list[{}]", "list[{}]", "{} | None"))
            self.given.setdefault(model, []).append(kind == "list[{}]")
            texts.append(kind.format(model))
        if len(texts) == 1:
            return texts[0]
        if self.random.random() < 0.1:
            texts.insert(0, "int")  # an item that is no model
        return f"tuple[{', '.join(texts)}]"

    def given_model(self, taken: list[str]) -> str:
        again = [model for model in self.given if model not in taken]
        if again and self.random.random() < 0.2:
            return self.random.choice(again)  # one more producer: whoever takes it fans in
        return self.fresh.pop()


def mended(sketches: list[Sketch], random: Random) -> list[Sketch]:
    """Return a session without errors: as a user would mend it, one port after the other."""
    for _ in range(300):
        wrong = trouble(Meaning(operations_of(sketches, call=max)))
        if wrong is None:
            return sketches
        name, change = wrong
        sketches = [change(each, random) if each.name == name else each for each in sketches]
    raise AssertionError([sketch.line() for sketch in sketches])


Change = Callable[[Sketch, Random], Sketch]


def trouble(meaning: Meaning) -> tuple[str, Change] | None:
    """Return an operation with an error, and what mends it."""
    for name, port in meaning.unsettled():
        return name, settled(meaning, name, port)
    behind = meaning.operations.keys() - {operation.name for operation in meaning.in_order()}
    if behind:
        return loop(meaning, behind)
    maps = run_dry(meaning).out_of_step
    return next(((name, whole(meaning, name, ports)) for name, ports in maps.items()), None)


def settled(meaning: Meaning, name: str, port: str) -> Change:
    heads = meaning.takes[name, port].heads
    model = next(p for p in meaning.operations[name].ports if p.name == port).model.name
    givers = [giver for giver, _ in heads]
    single = [giver for giver in givers if len(meaning.gives(giver, model)) == 1]

    def change(sketch: Sketch, random: Random) -> Sketch:
        bound = any(flag.startswith(f"bind {port}=") for flag in sketch.flags)
        if single and not bound and random.random() < 0.6:
            flag = f"bind {port}={random.choice(single)}"
            return replace(sketch, flags=(*sketch.flags, flag))
        return sketch.with_port(port, f"list[{model}]")

    return change


def loop(meaning: Meaning, behind: set[str]) -> tuple[str, Change]:
    """Walk back until an operation is met again; take away what it needs of the one before."""
    name, met, port = min(behind), [], ""
    while name not in met:
        met.append(name)
        edges = [edge for edge in meaning.edges if edge[1] == name and edge[0] in behind]
        name, _, port, _ = min(edge for edge in edges if edge[3] != "candidate")
    if port:
        return met[-1], lambda sketch, _: sketch.without(port)
    return met[-1], lambda sketch, _: sketch.without_order()


def whole(meaning: Meaning, name: str, ports: list[str]) -> Change:
    models = {port.name: port.model.name for port in meaning.operations[name].ports if port.model}

    def change(sketch: Sketch, random: Random) -> Sketch:
        port = random.choice(ports)
        return sketch.with_port(port, f"list[{models[port]}]")

    return change


def run_dry(meaning: Meaning) -> Interpreter:
    """Run a session in which all lists are empty."""
    return Interpreter(meaning, Anything(), lambda *_: [[], [], [], []], set())


class Anything(dict[Any, Any]):
    def __missing__(self, key: Any) -> Any:
        return "anything"


@lru_cache(maxsize=20_000)
def operation_of(sketch: Sketch, call: Call) -> Operation:
    """Return what `declare` makes of a sketch's line; put together, which is ten times as fast."""
    claims = any(flag.startswith(("in ", "out ")) for flag in sketch.flags)
    if claims or sketch.function in WORLD or sketch.function in vars(builtins):
        return declare(sketch.line(), WORLD, call=call)
    scope: dict[str, Any] = {"_call": call, "__name__": "__main__"}
    bare = ", ".join(re.sub(r":[^=]*", "", text) for text in sketch.ports)
    prefix = "async " if "async" in sketch.flags else ""
    body = f"return _call({sketch.name!r}, {{**locals()}})"
    run(f"{prefix}def {sketch.function}({bare}): {body}", scope)
    return replace(
        like(f"f() -> {sketch.returns}" if sketch.returns else "f()"),
        name=sketch.name,
        function=scope[sketch.function],
        ports=tuple(ports_of(sketch.ports)),
        is_async=bool(prefix),
        options=like(" ".join(["f()", *(f"--{flag}" for flag in sketch.flags)])).options,
    )


def ports_of(texts: tuple[str, ...]) -> Iterator[Port]:
    places = texts.index("/") if "/" in texts else 0
    words = texts.index("*") if "*" in texts else len(texts)
    for place, text in enumerate(texts):
        if text in ("*", "/"):
            continue
        (port,) = like(f"f({re.sub(NAME, 'x', text, count=1)})").ports
        kind = "positional" if place < places else "keyword" if place > words else port.passing
        yield replace(port, name=port_name(text), passing=kind)


NAME = re.compile(r"\w+")


@lru_cache(maxsize=20_000)
def like(line: str) -> Operation:
    return declare(line, WORLD)


def operations_of(sketches: Sequence[Sketch], call: Call) -> list[Operation]:
    return [operation_of(sketch, call) for sketch in sketches]


def written(seed: int, *, most: int = 40, mend: bool = True) -> list[Sketch]:
    """Return the session of a number; without ``mend`` it may hold errors."""
    random = Random(seed)
    sketches = Author(random, most).write()
    return mended(sketches, random) if mend else sketches
