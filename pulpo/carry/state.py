"""What names hold here, and what an export starts with: state that calls and cells left behind."""

from __future__ import annotations

import ast
import functools
import re
import sys
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from pulpo.carry.pieces import Kind, Piece
from pulpo.carry.record import Recorder
from pulpo.carry.values import DIGEST, attribute

__all__ = [
    "KEPT",
    "Kept",
    "is_told_as_older",
    "kept_by",
    "late_future",
    "newest",
    "other_ways",
]

#: Defines ``kept``, here and in a fresh process: digests of what a value is, by what it calls its
#: parts. ``home`` is the name of the module that the text is, here ``"__main__"``.
KEPT = f"""{DIGEST}
import collections
import contextvars
import copyreg
import dis
import enum
import functools
import random
import re
import sys
import types

try:
    import _abc as abstract
except ImportError:
    abstract = None

PLAIN = (bool, int, float, complex, str, bytes, type(None))
LISTS = (list, tuple, set, frozenset, collections.deque)
DICTS = (dict, collections.OrderedDict, collections.defaultdict, collections.Counter)
PARTS = {{*PLAIN, *LISTS, *DICTS, re.Pattern, functools.partial}}
METHODS = {{types.FunctionType, staticmethod, classmethod, property}}
MUCH = 10000

# What their repr tells in full.
REPR = re.compile(
    r"itertools[.]count|datetime[.].*|decimal[.]Decimal|fractions[.]Fraction|uuid[.]UUID"
    r"|pandas[.](?:.*[.])?(?:Timestamp|Timedelta|DateOffset|CategoricalDtype|Interval)"
)

@functools.cache
def is_told_by_repr(kind):
    return bool(REPR.fullmatch(f"{{kind.__module__}}.{{kind.__name__}}"))

# How a module's functions are called depends on whether its import stands in the same file.
SAME = {{"LOAD_METHOD": "LOAD_ATTR"}}
NO_MATTER = ("CACHE", "EXTENDED_ARG", "NOP", "PRECALL", "PUSH_NULL")
TABLE = bytes(dis.opmap.get(SAME.get(name), number) for number, name in enumerate(dis.opname[:256]))
LEFT_OUT = {{dis.opmap[name] for name in NO_MATTER if name in dis.opmap}}
# What these do depends on their argument: x + y, x < y, not in, which constant, which variable.
ARGUED = re.compile("(BINARY|COMPARE|IS|CONTAINS)_OP|LOAD_(CONST|FAST.*|SMALL_INT)|STORE_FAST"
                    "|BUILD_.*|UNPACK_.*|KW_NAMES|FORMAT_VALUE|CONVERT_VALUE")
WITH_ARGUMENT = {{number for name, number in dis.opmap.items() if ARGUED.fullmatch(name)}}

def code_of(code):
    raw = code.co_code
    steps = [
        TABLE[one] << 8 | (argument if one in WITH_ARGUMENT else 0)
        for one, argument in zip(raw[::2], raw[1::2])
        if one not in LEFT_OUT
    ]
    return digest([steps, code.co_varnames, code.co_names, *map(const_of, code.co_consts)])

def const_of(one):
    if isinstance(one, types.CodeType):
        return code_of(one)
    if isinstance(one, (tuple, frozenset)):
        parts = [str(const_of(part)) for part in one]
        return [type(one).__name__, *(parts if isinstance(one, tuple) else sorted(parts))]
    return repr(one)

def unwrapped(one):
    while isinstance(one, (staticmethod, classmethod)):
        one = one.__func__
    if isinstance(one, functools.singledispatchmethod):
        return one.dispatcher
    return one.fget if isinstance(one, property) else one

TO_ITERATE = [[], (), "", b"", range(0), range(1 << 70), set(), {{}}, {{}}.values(), {{}}.items()]
ITERATORS = {{type(iter(one)) for one in TO_ITERATE}}
ITERATORS |= {{enumerate, zip, map, filter, reversed, type(reversed([]))}}

def state_of(one):
    \"\"\"Return what an object of Python or numpy has that its attributes do not show.\"\"\"
    package, name = type(one).__module__, type(one).__name__
    if package.startswith("numpy.random"):
        if hasattr(one, "get_state"):
            return one.get_state(legacy=False)
        return getattr(getattr(one, "bit_generator", one), "state", None)
    if package == "random":
        return one.getstate() if hasattr(one, "getstate") else None
    if package in ("queue", "_queue", "asyncio.queues"):
        held = getattr(one, "queue", None) or getattr(one, "_queue", None)
        return one.qsize() if held is None else list(held)
    if package[:1] == "_" and hasattr(one, "hexdigest") and hasattr(one, "copy"):
        return one.copy().hexdigest()
    if package in ("threading", "asyncio.locks") and name == "Event":
        return one.is_set()
    if package == "_thread" and hasattr(one, "locked"):
        return one.locked()
    if package == "_io" and hasattr(one, "getvalue"):
        return None if one.closed else [one.getvalue(), one.tell()]
    if type(one) in ITERATORS:
        return list(one.__reduce__()[1:])
    if isinstance(one, types.GeneratorType):
        frame = one.gi_frame
        return [code_of(one.gi_code), None if frame is None else frame.f_lasti]
    return None

OLDER = "of an older class "

def is_older(one, home):
    \"\"\"Tell whether the cell of its class has run again since it was made.\"\"\"
    own = type(one)
    now = getattr(sys.modules.get(home), own.__name__, own) if own.__module__ == home else own
    return now is not own and isinstance(now, type)

def told(one, home, depth=6, left=None):
    \"\"\"Return what a part is: plain data, functions by their code, others by their class.\"\"\"
    left = left or [10 * MUCH]  # parts that are looked at
    left[0] -= 1
    if left[0] <= 0:
        return "…"
    one = unwrapped(one)
    if type(one) in PLAIN:
        return repr(one) if len(str(one)) <= MUCH else f"much: {{len(str(one))}}"
    if type(one) is types.FunctionType:
        kinds = getattr(one, "registry", None)  # of functools.singledispatch
        kinds = kinds if isinstance(kinds, types.MappingProxyType) else ()
        own = one.__globals__.get("__name__") == home
        taken = {{**defaults_of(one), **closure_of(one)}} if own else {{}}
        return "function " + code_of(one.__code__) + "".join(
            sorted(kind.__qualname__ for kind in kinds)
        ) + (told(taken, home, depth - 1, left) if taken and depth else "")
    if isinstance(one, types.ModuleType):
        return "module " + one.__name__
    if isinstance(one, (types.BuiltinMethodType, types.MethodWrapperType)) and depth:
        owner = getattr(one, "__self__", None)  # of itertools.count(1).__next__, say
        shared = isinstance(owner, types.ModuleType) or owner is getattr(random, "_inst", None)
        inside = "" if shared else told(owner, home, depth - 1, left)
        return "method " + one.__name__ + " of " + inside
    if type(one).__module__ == "itertools" and type(one).__name__ == "count":
        return repr(one)
    if isinstance(one, type):
        return "class " + one.__qualname__
    if type(one).__name__ == "_lru_cache_wrapper":
        return f"cached {{one.cache_parameters()}} " + told(one.__wrapped__, home, depth, left)
    if not depth:
        return "…"
    if type(one) is re.Pattern:
        return "pattern " + repr((one.pattern, one.flags))
    if type(one) is contextvars.ContextVar:
        one = ("variable", one.get(None))
    if type(one) is functools.partial:
        one = ("partial", one.func, one.args, one.keywords)
    if is_told_by_repr(type(one)):
        return type(one).__name__ + " " + repr(one)
    if type(one) in LISTS or type(one) in DICTS:
        if len(one) > MUCH:
            return f"{{type(one).__name__}} of {{len(one)}}"
        if type(one) in DICTS:
            parts = [told(k, home, depth - 1, left) + ":" + told(v, home, depth - 1, left)
                     for k, v in list(one.items())]
        else:
            parts = [told(item, home, depth - 1, left) for item in list(one)]
        if isinstance(one, (set, frozenset)):
            parts.sort()
        end = getattr(one, "maxlen", None)  # of a deque
        return type(one).__name__ + ("" if end is None else str(end)) + " " + ",".join(parts)
    if (data := data_of(one)) is not None:
        return told(data, home, depth - 1, left)
    if type(one).__module__ == home:
        if is_older(one, home):
            return OLDER + type(one).__qualname__
        if isinstance(one, enum.Enum):
            return "member " + repr(one.name)
        inside = [attributes(one)]
        inside += [kind(kind.__iter__(one)) for kind in (list, tuple) if isinstance(one, kind)]
        inside += [dict(dict.items(one))] if isinstance(one, dict) else []
        return type(one).__qualname__ + " " + told(inside, home, depth - 1, left)
    if (state := state_of(one)) is not None:
        return type(one).__qualname__ + " " + told(state, home, depth - 1, left)
    return type(one).__qualname__

def attributes(one):
    try:
        return dict(object.__getattribute__(one, "__dict__"))
    except AttributeError:
        return {{}}

def closure_of(function):
    found = {{}}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not set yet
            pass
    return found

OWN = {{"builtins", "functools", "typing", "types", "collections"}}
NO_SIZES = (type, types.ModuleType)

def sizes(one, home, path=""):
    \"\"\"Return how much is in what a library's object holds: routes, commands, tables.\"\"\"
    if type(one).__module__ in OWN or type(one).__module__ == home or isinstance(one, NO_SIZES):
        return {{}}
    kinds = (list, dict, set, collections.deque)
    return {{
        f"{{path}}.{{name}}" if path else name: f"size {{len(part)}}"
        for name, part in attributes(one).items()
        if isinstance(part, kinds) and not re.search("cache|memo", name)
    }}

def registered(one, home):
    \"\"\"Return what was registered for a class outside of it.\"\"\"
    found = {{}}
    if abstract is not None and "_abc_impl" in vars(one):
        kinds = [kind for each in abstract._get_dump(one)[0] if (kind := each()) is not None]
        if kinds:
            found["register"] = digest(sorted(kind.__qualname__ for kind in kinds))
    if one in copyreg.dispatch_table:
        found["copyreg.pickle"] = digest(told(copyreg.dispatch_table[one], home))
    return found

def defaults_of(function):
    \"\"\"Return the defaults of a function by the names of its parameters.\"\"\"
    code, values = function.__code__, function.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount]
    found = dict(zip(names[len(names) - len(values) :], values))
    return {{**found, **(function.__kwdefaults__ or {{}})}}

MARKS = re.compile("<[^<>]*>|Model[(][^()]*[)]")

def constraints(field, home):
    \"\"\"Return what else pydantic checks of a field: its annotation, limits, validators.\"\"\"
    text = re.sub("ForwardRef[(]'(.*?)'[^)]*[)]|<class '(.*?)'>", r"\\1\\2", repr(field.annotation))
    found = [MARKS.sub("", text.replace(home + ".", "").replace("'", ""))]
    for one in field.metadata:
        if type(one).__name__ != "Model":  # names data, and is another class in an export
            names = [*getattr(type(one), "__dataclass_fields__", ()), *attributes(one)]
            parts = {{name: getattr(one, name, None) for name in names}}
            found.append(type(one).__name__ + told(parts, home))
    return found

def kept(value, home):
    if isinstance(value, types.ModuleType):  # of random numbers
        import pickle

        state = value.getstate() if hasattr(value, "getstate") else value.get_state()
        return {{"": digest(pickle.dumps(state))}}
    if isinstance(value, type):
        if value.__module__ != home:
            return {{}}
        found = {{
            name: digest(told(part, home))
            for name, part in list(vars(value).items())
            if is_part(name, part) and not (isinstance(value, enum.EnumMeta) and name[0] == "_")
        }}
        for name, part in list(vars(value).items()):
            part = unwrapped(part) if type(part) in METHODS else None
            if type(part) is types.FunctionType and part.__globals__.get("__name__") == home:
                for inner, held in list(vars(part).items()):
                    if inner != "__wrapped__":
                        found[f"{{name}}.{{inner}}"] = digest(told(held, home))
        if isinstance(value, enum.EnumMeta):
            members = list(value.__members__.items())
            found[""] = digest([(name, told(one.value, home)) for name, one in members])
        fields = vars(value).get("__pydantic_fields__") or vars(value).get("model_fields")
        for name, field in fields.items() if isinstance(fields, dict) else ():
            own = told(field.default, home)
            found.setdefault(name, digest([own, *constraints(field, home)]))
        for name, part in list(vars(value).items()):
            if name[0] != "_" and name not in found:
                found.update(sizes(part, home, name))
        return {{**found, **registered(value, home)}}
    found = {{}}
    if type(value) is not types.FunctionType and type(value).__module__ != home:
        text = told(value, home)
        mark = OLDER if OLDER in text else ""
        more = sizes(value, home) if state_of(value) is None else {{}}
        return {{"": mark + digest(text), **more}}
    if is_older(value, home):
        return {{"": OLDER}}
    seen = []

    def look(one, path):
        if len(seen) > 100 or any(one is other for other in seen):
            return
        seen.append(one)
        own = True
        if type(one) is types.FunctionType:
            own = one.__globals__.get("__name__") == home  # a library's wrapper counts for itself
            inside = {{**vars(one), **closure_of(one)}}
            kinds = vars(one).get("registry")
            if not own and isinstance(kinds, types.MappingProxyType):  # of singledispatch
                pairs = sorted((kind.__qualname__, told(f, home)) for kind, f in kinds.items())
                found[f"{{path}}.registry" if path else "registry"] = digest(pairs)
            if not path:
                found.setdefault("()", code_of(one.__code__))  # not of what it wraps
            for name, held in defaults_of(one).items() if own else ():
                found[f"{{path}}.{{name}}" if path else name] = digest(told(held, home))
        elif type(one).__module__ == home:
            inside = attributes(one)
        else:
            return
        for name, held in inside.items():
            inner = path if name == "__wrapped__" else f"{{path}}.{{name}}" if path else str(name)
            if type(held) is types.FunctionType or type(held).__module__ == home:
                look(held, inner)
            elif own:
                found[inner] = digest(told(held, home))

    look(value, "")
    return found

def is_part(name, part):
    \"\"\"Tell whether it is of the user's own in a class or module, not of some machinery.\"\"\"
    part = unwrapped(part)
    if type(part) is types.FunctionType:
        return True
    if name.startswith("__") and name.endswith("__"):
        return False
    if type(part) in PARTS or is_told_by_repr(type(part)):
        return True
    return state_of(part) is not None or data_of(part) is not None

def constants_of(module):
    \"\"\"Return the public numbers and texts of a library's module.\"\"\"
    return {{
        name: digest(repr(value))
        for name, value in list(vars(module).items())
        if type(value) in (int, float, str) and name[0] != "_"
    }}

def kept_module(module):
    home, found = module.__name__, {{}}
    for name, value in list(vars(module).items()):
        if isinstance(value, type):
            for part, digest_ in kept(value, home).items():
                found[f"{{name}}.{{part}}"] = digest_
        elif is_part(name, value) or type(value).__module__ == home:
            found[name] = digest(told(value, home))
    return found
"""


_OLDER = "of an older class "
_How = Literal["called", "seeded", "edited", "held", "imported"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What something keeps, here and now.

    Parameters
    ----------
    cell
        The cell that defined it.
    digests
        By what the function calls it; see `KEPT`.
    how
        ``"called"`` for functions, ``"seeded"`` for a generator of numbers, ``"edited"`` for a
        module whose file is not what was imported, ``"imported"`` for the numbers and texts of a
        library's module, else ``"held"``.
    """

    cell: int | str
    digests: Mapping[str, str]
    how: _How = "held"

    def warnings(self, name: str, there: Mapping[str, str]) -> Iterator[str]:
        """Say what differs from what a fresh process has."""
        keys = dict.fromkeys((*self.digests, *there))
        if self.how == "imported":  # a module may make some when they are asked for
            keys = dict.fromkeys(key for key in keys if key in self.digests and key in there)
        other = [key for key in keys if self.digests.get(key) != there.get(key)]
        # Libraries make some containers when they are first asked for.
        other = [key for key in other if not _is_made_late(self.digests.get(key), there.get(key))]
        parts = " and ".join(repr(f"{name}.{key}" if key else name) for key in sorted(other)[:3])
        if not other:
            return
        older = [key for key, digest in self.digests.items() if digest.startswith(_OLDER)]
        if older:
            yield (
                f"{name!r} holds what a class made before its cell ran again, and in the export "
                f"there is one class: run cell {self.cell} again"
            )
        elif self.how == "seeded":
            yield (
                f"numbers were drawn from {name!r} since cell {self.cell} seeded it, and the "
                "export starts right after the seed: seed it inside the operation for equal "
                "numbers everywhere"
            )
        elif self.how == "edited":
            yield (
                f"{name!r} was edited after it was imported here, and the export imports it as it "
                "is now: load it again (importlib.reload) and run the cells that use it"
            )
        elif self.how == "called" and not {"", "()"}.intersection(other):
            what = " and ".join(map(repr, other[:3]))
            yield (
                f"{name!r} keeps {what}, which calls or cells have changed: the export starts with "
                f"what the text gives; run cell {self.cell} again to see that here"
            )
        else:
            other, parts = ([name], repr(name)) if "()" in other else (other, parts)
            more = f" (nor are {len(other) - 3} more)" if len(other) > 3 else ""
            yield (
                f"{parts} {'is' if len(other) == 1 else 'are'} not in the export what is here"
                f"{more}: something changed it that is not carried. The comment '# pulpo: carry' "
                "carries a line, and running the cells again, from the top, shows what is missing"
            )


#: What differs from process to process in these is no change of a cell.
_OF_THE_PROCESS = frozenset(
    [
        "builtins",
        "locale",
        "multiprocessing",
        "os",
        "platform",
        "random",
        "socket",
        "sys",
        "tempfile",
        "threading",
        "time",
    ]
)
_NAMED = re.compile(r"'(\w+)[.']|(?:^|\bran )(\w+)\.")


def _is_made_late(here: str | None, there: str | None) -> bool:
    size = here if there is None else there if here is None else None
    return size is not None and size.startswith("size ")


def kept_by(
    recorder: Recorder,
    pieces: Iterable[Piece],
    modules: Iterable[str],
    told: Iterable[str],
    apart: Iterable[str] = (),
    drawn: Collection[str] = ("random", "numpy"),
) -> dict[str, Kept]:
    """Return what the names in carried text, and in modules beside it, hold here.

    Parameters
    ----------
    modules
        Modules beside the export that it imports.
    told
        Warnings that there are already: what they name is left out.
    apart
        Names of which something else is said already.
    drawn
        Whose numbers, seeded by a cell, operations draw from.
    """
    found: dict[str, Kept] = {}
    beside = frozenset(modules)
    scope = _scope()
    home = recorder.namespace.get("__name__", "__main__")
    known = {name for text in told for name in re.findall(_NAMED, text)}
    words = {*apart, *(name for pair in known for name in pair)}
    for piece, names in newest(pieces):
        with suppress(Exception):  # a user's object may fail when it is looked at
            for name, value, how in _holders(piece, names, recorder):
                numbers = "random" if attribute(value, "__name__") == "random" else "numpy"
                if not _is_its_own(piece, name, recorder) or (
                    how == "seeded" and numbers not in drawn
                ):
                    continue
                digests = scope["kept"](value, home)
                if digests and name not in words:
                    found[name] = Kept(cell=piece.statement.cell, digests=digests, how=how)
        for name in names if piece.kind is Kind.IMPORT else ():
            value = recorder.namespace.get(name)
            if name in words or attribute(value, "__module__", "") in beside:
                continue
            if isinstance(value, types.ModuleType) and value.__name__ in beside:
                continue  # which are looked at as a whole
            if isinstance(value, types.ModuleType) and value.__name__ not in _OF_THE_PROCESS:
                constants = scope["constants_of"](value)
                found[f"{name}="] = Kept(cell="", digests=constants, how="imported")
            for chain, function in _patched(name, value, recorder.namespace):
                if chain.rpartition(".")[2] not in words:
                    digests = scope["kept"](function, home)
                    found[chain] = Kept(cell=piece.statement.cell, digests=digests)
    for name in sorted(beside):
        with suppress(Exception):
            digests = scope["kept_module"](sys.modules[name])
            edited = recorder.loaded.is_edited(name)
            if digests:
                found[f"{name}:"] = Kept(
                    cell="", digests=digests, how="edited" if edited else "held"
                )
    return found


def is_told_as_older(value: object, recorder: Recorder) -> bool:
    """Tell whether a comparison says of a value that it is, or holds, of a class of before."""
    if isinstance(value, types.FunctionType | type):
        return False
    home = recorder.namespace.get("__name__", "__main__")
    try:
        return any(one.startswith(_OLDER) for one in _scope()["kept"](value, home).values())
    except Exception:  # a user's object may fail when it is looked at
        return False


@functools.cache
def _scope() -> dict[str, Any]:
    scope: dict[str, Any] = {}
    exec(KEPT, scope)
    return scope


def newest(pieces: Iterable[Piece]) -> Iterator[tuple[Piece, list[str]]]:
    """Yield each piece with the names that the text has from it in the end."""
    pieces = sorted(pieces, key=lambda piece: piece.statement.index)
    last: dict[str, Piece] = {}
    for piece in pieces:
        if not piece.renamed:
            names = piece.needed if piece.kind is Kind.IMPORT else piece.statement.binds
            last.update(dict.fromkeys(names, piece))
    found: dict[Piece, list[str]] = {piece: [] for piece in pieces}
    for name, piece in last.items():
        found[piece].append(name)
    yield from found.items()


def _holders(
    piece: Piece, names: Iterable[str], recorder: Recorder
) -> Iterator[tuple[str, object, _How]]:
    statement = piece.statement
    if isinstance(statement.node, ast.Expr):
        yield from _seeded(statement.node.value, recorder)
    defines = isinstance(statement.node, ast.FunctionDef | ast.AsyncFunctionDef)
    for name in names:
        value = recorder.namespace.get(name)
        if type(value).__module__.startswith("pulpo.") or isinstance(value, types.ModuleType):
            continue
        if value is sys.argv:  # what reads it is told
            continue
        is_called = defines or isinstance(value, types.FunctionType)
        yield name, value, "called" if is_called else "held"


def _is_its_own(piece: Piece, name: str, recorder: Recorder) -> bool:
    """Tell whether a name is what a piece made: a registry may hold functions of other names."""
    newest = (recorder.by_name.get(name) or [piece.statement])[-1]
    defines = isinstance(newest.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    is_older = newest is not piece.statement and newest.index > piece.statement.index and defines
    return name.partition(".")[0] in recorder.namespace and not is_older


def _patched(
    name: str, value: object, namespace: dict[str, Any]
) -> Iterator[tuple[str, types.FunctionType]]:
    """Yield the notebook's functions that something has put into a module or a library's class."""
    if not isinstance(value, types.ModuleType | type) or value is object:
        return
    if isinstance(value, type) and value.__module__ in ("builtins", namespace.get("__name__")):
        return
    todo = [(f"{name}.{each}", part) for each, part in list(vars(value).items())]
    for chain, part in todo:
        part = part.fget if type(part) is property else part
        if type(part) is types.FunctionType and part.__globals__ is namespace:
            yield chain, part
        elif (
            isinstance(part, type)
            and isinstance(value, types.ModuleType)
            and part.__module__ != "builtins"
            and chain.count(".") == 1
        ):
            todo += [(f"{chain}.{each}", one) for each, one in list(vars(part).items())]


def _seeded(node: ast.expr, recorder: Recorder) -> Iterator[tuple[str, object, _How]]:
    """Yield the module in ``np.random.seed(…)``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        chain = ast.unparse(node.func.value)
        root, *rest = chain.split(".")
        value = recorder.namespace.get(root)
        for part in rest:
            value = attribute(value, part)
        modules = ("random", "numpy.random")
        if node.func.attr == "seed" and attribute(value, "__name__", "") in modules:
            yield chain, value, "seeded"


def late_future(pieces: Iterable[Piece]) -> Iterator[str]:
    """Yield a warning for annotations that were values here and are texts in the export."""
    pieces = list(pieces)
    future = [piece for piece in pieces if piece.statement.future]
    if not future:
        return
    before = [
        piece.label
        for piece in pieces
        if not piece.statement.future and any(map(_is_annotated, ast.walk(piece.node)))
    ]
    if before:
        names = ", ".join(map(repr, before[:5]))
        yield (
            f"'from __future__ import annotations' holds for a whole file, and here it came after "
            f"{names}: their annotations are texts in the export. Run its cell first, and theirs "
            "again"
        )


_FRAMES = frozenset({"__globals__", "f_globals", "f_locals", "f_builtins"})


def other_ways(pieces: Iterable[Piece]) -> Iterator[str]:
    """Yield a warning for each piece that finds the notebook's names where no text names them."""
    for piece in pieces:
        found = next(filter(None, map(_other_way, ast.walk(piece.node))), "")
        if found:
            yield (
                f"{piece.label!r} finds names through {found}, and there is only what the export "
                "holds, which is what is named: name what it needs"
            )


def _other_way(node: ast.AST) -> str:
    match node:
        case ast.Import(names=names) if any(alias.name == "__main__" for alias in names):
            return "'import __main__'"
        case ast.ImportFrom(module="__main__"):
            return "'from __main__ import'"
        case ast.Attribute(attr=name) if name in _FRAMES:
            return repr(name)
        case ast.Subscript(
            value=ast.Attribute(value=ast.Name(id="sys"), attr="modules"),
            slice=ast.Constant(value="__main__") | ast.Name(id="__name__"),
        ):
            return "'sys.modules'"
    return ""


def _is_annotated(node: ast.AST) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return node.returns is not None
    return isinstance(node, ast.AnnAssign) or (
        isinstance(node, ast.arg) and node.annotation is not None
    )
