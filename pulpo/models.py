"""The identity of a data model: its qualified name, fields and schema hash."""

from __future__ import annotations

import builtins
import collections.abc
import dataclasses
import re
import sys
import types
import typing
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ForwardRef, NewType, Union, get_args, get_origin

from .errors import ModelError

__all__ = [
    "Model",
    "ModelRef",
    "Shape",
    "is_model",
    "misfit",
    "model_ref",
    "shape_of",
    "unaliased",
]

#: What stands for several of a model: a parameter gets a list, a result may be any sequence.
_TAKES_SEVERAL = (
    list,
    collections.abc.Collection,
    collections.abc.Iterable,
    collections.abc.MutableSequence,
    collections.abc.Reversible,
    collections.abc.Sequence,
)
_GIVES_SEVERAL = (list, collections.abc.MutableSequence, collections.abc.Sequence)
#: What names a type without carrying a value of it.
_CARRIES_NOTHING = (type, collections.abc.Callable, typing.Literal)
_ITERABLES = (collections.abc.Iterable, collections.abc.AsyncIterable)
_UNIONS = (Union, types.UnionType)


@dataclass(frozen=True, slots=True)
class Model:
    """Marks a type as a model of this name: ``Annotated[pd.DataFrame, pulpo.Model("RawJobs")]``.

    Raises
    ------
    ModelError
        When the name is empty, or no text.
    """

    name: str

    def __post_init__(self) -> None:
        name: Any = self.name
        if not isinstance(name, str) or not name.strip():
            raise ModelError(f"pulpo.Model({name!r}) has no name. Give one: pulpo.Model('Jobs').")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """A data model, known by name and never by its class object, which a re-run cell replaces.

    Parameters
    ----------
    key
        The qualified name, ``"__main__.RawJobs"``; for a model given as text, ``""``: it means
        the model with that short name, whichever that is.
    name
        The short name.
    fields
        Field names with their types as text, where the model has fields.
    """

    key: str
    name: str
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def schema_hash(self) -> str:
        """A hash of the fields, which tells whether a re-run cell changed them."""
        import hashlib  # slow to load, and rarely wanted

        return hashlib.sha256(repr(self.fields).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What an annotation says: which model, one or many of it, and whether it may be absent.

    ``sequence`` is true when many may come as a tuple, say, and not as a list.
    """

    model: ModelRef
    many: bool = False
    optional: bool = False
    sequence: bool = False


# --- Identity -------------------------------------------------------------------------------------


def is_model(type_: Any) -> bool:
    """Return whether ``type_`` carries data: a pydantic model, dataclass, TypedDict or NewType."""
    type_ = unaliased(type_)
    if isinstance(type_, NewType):
        return True
    if get_origin(type_) is typing.Annotated:
        return any(isinstance(extra, Model) for extra in type_.__metadata__)
    origin = get_origin(type_) or type_
    if not isinstance(origin, type):
        return False
    if dataclasses.is_dataclass(origin) or _is_typed_dict(origin):
        return True
    pydantic = sys.modules.get("pydantic")  # a pydantic model cannot exist before its import
    base = getattr(pydantic, "BaseModel", None)
    return base is not None and issubclass(origin, base) and origin is not base


def _is_typed_dict(type_: type) -> bool:
    """Tell typing's, and that of typing_extensions, which pydantic asks for before Python 3.12."""
    return typing.is_typeddict(type_) or (
        issubclass(type_, dict) and hasattr(type_, "__required_keys__")
    )


def model_ref(type_: Any) -> ModelRef:
    """Return the identity of a model.

    Parameters
    ----------
    type_
        A model as `is_model` knows it, or text: its short name, or its qualified name, such as
        ``"jobs.models.RawJobs"``.

    Raises
    ------
    ModelError
        When it is neither.
    """
    if isinstance(type_, ModelRef):
        return type_
    if isinstance(type_, Model):
        return _marked(type_)
    if isinstance(type_, str):
        return _named(type_)
    type_ = unaliased(type_)
    if get_origin(type_) is typing.Annotated:
        mark = _mark_of(type_)
        return _marked(mark) if mark else model_ref(get_args(type_)[0])
    if not isinstance(type_, type) and not isinstance(type_, NewType) and get_origin(type_) is None:
        raise ModelError(
            f"{type_!r} is no data model. Give a pydantic model, a dataclass, a TypedDict, "
            "a NewType, or the name of one as text."
        )
    # Graphs look models up by their keys, which is quick when equal ones are one object.
    key, name = sys.intern(_label(type_, full=True)), sys.intern(_label(type_))
    return ModelRef(key=key, name=name, fields=_fields(type_))


def misfit(type_: Any, value: Any) -> str:
    """Say in words what a value is instead of what an annotation asks for; "" when it fits.

    Only models are looked at, by their classes and never by their fields: a class of the same name
    will do, since a cell that ran again made another. What cannot be told fits.
    """
    type_ = unaliased(type_)
    origin, members = get_origin(type_), get_args(type_)
    if origin is typing.Annotated:
        return misfit(members[0], value)
    if origin in _UNIONS:
        told = [misfit(member, value) for member in members if member is not type(None)]
        return "" if value is None or not all(told) else told[0]
    if origin is tuple and members and Ellipsis not in members:
        if not isinstance(value, tuple) or len(value) != len(members):
            return f"{_brief(value)}, not a tuple of {len(members)}"
        return _first(misfit(*pair) for pair in zip(members, value, strict=True))
    if origin in (list, tuple) and members and any(True for _ in _models_in(members[0])):
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            return f"{_brief(value)}, not a list"
        inner = _first(misfit(members[0], item) for item in value)
        return f"a list with {inner}" if inner else ""
    wanted: Any = type_
    while isinstance(wanted, NewType):
        wanted = wanted.__supertype__
    wanted = get_origin(wanted) or wanted
    if not isinstance(wanted, type) or not (is_model(type_) or isinstance(type_, NewType)):
        return ""
    if _is_typed_dict(wanted):
        wanted = dict
    try:
        same = [base for base in type(value).__mro__ if base.__qualname__ == wanted.__qualname__]
        if same or isinstance(value, wanted):
            return ""
    except TypeError:  # a protocol that cannot be told at run time
        return ""
    return f"{_brief(value)}, not {_article(_label(type_))}"


def _first(told: Iterable[str]) -> str:
    return next(filter(None, told), "")


def _brief(value: Any) -> str:
    return "None" if value is None else _article(type(value).__name__)


def _article(name: str) -> str:
    return f"an {name}" if name[:1] in "AEIOUaeiou" else f"a {name}"


def unaliased(type_: Any) -> Any:
    """Return what a type is short for, when a ``type X = …`` (a `TypeAliasType`) defines it.

    Raises
    ------
    ModelError
        When that names something that is not defined yet.
    """
    alias = get_origin(type_) or type_
    while type(alias).__name__ == "TypeAliasType":  # Python's from 3.12 on, or the backport
        try:
            value = alias.__value__
        except NameError as error:
            raise ModelError(
                f"the type {alias.__name__} means {error.name!r}, which is not defined yet. "
                f"Define {error.name!r} first."
            ) from None
        given = dict(zip(alias.__type_params__, get_args(type_), strict=False))
        free = getattr(value, "__parameters__", ())
        type_ = value[tuple(given.get(one, one) for one in free)] if given and free else value
        alias = get_origin(type_) or type_
    return type_


def _mark_of(annotated: Any) -> Model | None:
    """Return the outermost mark: a model that is made of another model is one of its own."""
    marks = [extra for extra in annotated.__metadata__ if isinstance(extra, Model)]
    return marks[-1] if marks else None  # nested ones come innermost first


def _marked(mark: Model) -> ModelRef:
    name = _normal(mark.name)
    return ModelRef(key=f"pulpo.Model:{name}", name=name)


def _named(text: str) -> ModelRef:
    name = _normal(text)
    if not name:
        raise ModelError("a model's name is empty. Give the class, or its name as text.")
    parts = name.split(".")
    if len(parts) > 1 and all(part.isidentifier() for part in parts):
        return ModelRef(key=name, name=parts[-1])
    return ModelRef(key="", name=name)


def _normal(text: str) -> str:
    """Return a name as Python reads it in code, where the ligature in ``ﬁle`` is two letters."""
    return unicodedata.normalize("NFKC", text.strip())


def _label(type_: Any, *, full: bool = False) -> str:
    """Return how a type is called: ``Page[Item]``, or in full ``jobs.Page[jobs.Item]``."""
    type_ = unaliased(type_)
    if get_origin(type_) is typing.Annotated:
        mark = _mark_of(type_)
        ref = _marked(mark) if mark else None
        own = get_args(type_)[0]
        return (ref.key if full else ref.name) if ref else _label(own, full=full)
    if get_origin(type_) in _UNIONS:
        return " | ".join(_label(member, full=full) for member in get_args(type_))
    origin, members = _generic(type_)
    if origin is not None:
        inside = ", ".join(_label(member, full=full) for member in members)
        return f"{_label(origin, full=full)}[{inside}]"
    if type_ in (None, type(None), Ellipsis):
        return "..." if type_ is Ellipsis else "None"
    if not isinstance(type_, (type, NewType)):
        name = "" if get_args(type_) else getattr(type_, "__name__", "")
        return name or _type_text(type_).removeprefix("typing.")
    name = getattr(type_, "__qualname__", type_.__name__)
    if not full:
        return name.rsplit(".", 1)[-1]
    return name if getattr(builtins, name, None) is type_ else f"{type_.__module__}.{name}"


def _generic(type_: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the origin and the members of ``Page[Item]``, which pydantic makes a class of."""
    made = getattr(type_, "__pydantic_generic_metadata__", None)
    if isinstance(made, dict):
        return made.get("origin"), tuple(made.get("args", ()))
    origin = get_origin(type_)
    return (origin, get_args(type_)) if isinstance(origin, type) else (None, ())


def _fields(type_: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(type_, NewType):
        return (("", _type_text(type_.__supertype__)),)
    own = get_origin(type_) or type_
    fields = getattr(own, "model_fields", None)
    if isinstance(fields, dict):
        return tuple((name, _type_text(info.annotation)) for name, info in fields.items())
    if dataclasses.is_dataclass(own):
        return tuple((field.name, _type_text(field.type)) for field in dataclasses.fields(own))
    return tuple((k, _type_text(v)) for k, v in getattr(own, "__annotations__", {}).items())


def _type_text(type_: Any) -> str:
    if isinstance(type_, str):
        return type_
    if isinstance(type_, (type, NewType)) and get_origin(type_) is None:
        return str(getattr(type_, "__qualname__", type_))
    # A list[int] has the __qualname__ of list, so that only its repr tells it from list[str].
    return re.sub(r" at 0x[0-9a-f]+", "", repr(type_))


# --- What an annotation says ----------------------------------------------------------------------


def shape_of(type_: Any, *, gives: bool = False) -> Shape | None:
    """Return what an annotation says about a model; None when it mentions none.

    It may be ``M``, several of it, and either of them or None. Several are ``list[M]`` and
    ``Sequence[M]``; for a parameter also ``Iterable[M]`` and ``Collection[M]``, since it gets a
    list; for a result also ``tuple[M, ...]``.

    Parameters
    ----------
    gives
        True for a result, False for a parameter.

    Raises
    ------
    ModelError
        For anything else that holds a model, such as another union (a value's type would decide
        the edge), a set, a mapping or an iterator; and for a type variable.
    """
    type_ = unaliased(type_)
    if type(type_).__name__ in ("TypeVar", "TypeVarTuple", "ParamSpec"):
        raise ModelError(
            f"the type variable {type_.__name__} stands for no type here, since an operation has "
            "one signature. Write the type itself."
        )
    if is_model(type_):
        _refuse_variables(type_)
        return Shape(model=model_ref(type_), optional=_may_be_none(type_))
    if isinstance(type_, ForwardRef):  # a model that is defined in a later cell
        name = type_.__forward_arg__
        return Shape(model=model_ref(name)) if name.isidentifier() else None
    origin, members = get_origin(type_), get_args(type_)
    if origin is typing.Annotated:
        _refuse_bare_mark(type_)
        return shape_of(members[0], gives=gives)
    if origin in _UNIONS:
        return _shape_of_union(type_, gives=gives)
    if not members or origin in _CARRIES_NOTHING:
        return None
    if origin in (_GIVES_SEVERAL if gives else _TAKES_SEVERAL):
        return _shape_of_several(type_, members[0], gives=gives)
    if gives and origin is tuple and members[1:] == (Ellipsis,):
        return _shape_of_several(type_, members[0], gives=gives)
    _refuse_variables(type_)
    model = next(_models_in(type_), None)
    if model is not None:
        raise _no_edge(type_, _way_out(type_, _label(model), gives=gives))
    return None


def _shape_of_several(type_: Any, member: Any, *, gives: bool) -> Shape | None:
    member = unaliased(member)
    if gives and _is_tuple_of_models(member):
        lists = ", ".join(f"list[{_label(one)}]" for one in get_args(member))
        raise _no_edge(type_, f"Return one list for each: tuple[{lists}].")
    inner = shape_of(member, gives=gives)
    if inner is None:
        return None
    verb, name = "Return" if gives else "Take", inner.model.name
    if inner.many:
        raise _no_edge(type_, f"Lists become one list: {verb.lower()} list[{name}].")
    if inner.optional and gives and not is_model(member):
        raise _no_edge(type_, f"Leave None out, and write list[{name}].")
    return Shape(model=inner.model, many=True, sequence=get_origin(type_) is not list)


def _shape_of_union(type_: Any, *, gives: bool) -> Shape | None:
    members = [member for member in get_args(type_) if member is not type(None)]
    for member in map(unaliased, members):
        if gives and _is_tuple_of_models(member):
            items = ", ".join(f"{_label(one)} | None" for one in get_args(member))
            raise _no_edge(type_, f"Let each item be None by itself: tuple[{items}].")
    shapes = [shape for member in members if (shape := shape_of(member, gives=gives)) is not None]
    if not shapes:
        return None
    if len(members) > 1 and not any(shape.model.key for shape in shapes):
        return None  # of names that do not exist yet nobody knows whether they are models
    if len(members) > 1:
        raise ModelError(
            f"a union of models ({' | '.join(map(_label, members))}) does not say which operation "
            "to depend on. Take one parameter for each model, each optional: "
            "'a: A | None, b: B | None'."
        )
    return dataclasses.replace(shapes[0], optional=True)


def _is_tuple_of_models(type_: Any) -> bool:
    fixed = get_origin(type_) is tuple and Ellipsis not in get_args(type_)
    return fixed and next(_models_in(type_), None) is not None


def _may_be_none(model: Any) -> bool:
    inner = unaliased(get_args(model)[0]) if get_origin(model) is typing.Annotated else None
    return get_origin(inner) in _UNIONS and type(None) in get_args(inner)


def _models_in(type_: Any) -> Iterator[Any]:
    type_ = unaliased(type_)
    if is_model(type_):
        yield type_
    elif get_origin(type_) not in _CARRIES_NOTHING:
        annotated = get_origin(type_) is typing.Annotated
        for member in get_args(type_)[: 1 if annotated else None]:
            yield from _models_in(member)


def _refuse_variables(type_: Any) -> None:
    for member in get_args(type_):
        if type(member).__name__ in ("TypeVar", "TypeVarTuple", "ParamSpec"):
            shape_of(member)
        _refuse_variables(member)


def _refuse_bare_mark(annotated: Any) -> None:
    if Model in annotated.__metadata__:
        raise ModelError("pulpo.Model in Annotated needs a name: pulpo.Model('RawJobs').")


def _no_edge(type_: Any, fix: str) -> ModelError:
    return ModelError(f"{_label(type_)} makes no edge, though a model is in it. {fix}")


def _way_out(type_: Any, model: str, *, gives: bool) -> str:
    """Say what to write instead of an annotation that holds a model and makes no edge."""
    verb, origin, members = "Return" if gives else "Take", get_origin(type_), get_args(type_)
    if origin is tuple and Ellipsis not in members:
        return "Make it one flat tuple." if gives else "Take each as a parameter of its own."
    several = isinstance(origin, type) and issubclass(origin, _ITERABLES)
    if several and not issubclass(origin, Mapping):
        used_up = gives and not issubclass(origin, collections.abc.Collection)
        why = "The first that takes it would use it up: " if used_up else ""
        return f"{why}{verb.lower() if why else verb} list[{model}]."
    whole = f"NewType('All{re.sub(r'[^a-zA-Z0-9_]', '', model)}', {_label(type_)})"
    return f"{verb} {model} or list[{model}], or name the whole, which makes it a model: {whole}."
