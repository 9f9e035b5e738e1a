"""The identity of a data model: its qualified name, fields and schema hash."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import sys
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ForwardRef, NewType, Union, get_args, get_origin

from .errors import ModelError

__all__ = ["Model", "ModelRef", "Shape", "is_model", "model_ref", "shape_of"]


@dataclass(frozen=True, slots=True)
class Model:
    """Marks a type as a model of this name: ``Annotated[pd.DataFrame, pulpo.Model("RawJobs")]``."""

    name: str


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
        return hashlib.sha256(repr(self.fields).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What an annotation says: which model, one or many of it, and whether it may be absent."""

    model: ModelRef
    many: bool = False
    optional: bool = False


def is_model(type_: Any) -> bool:
    """Return whether ``type_`` carries data: a pydantic model, dataclass, TypedDict or NewType."""
    if isinstance(type_, NewType):
        return True
    if get_origin(type_) is typing.Annotated:
        return any(isinstance(extra, Model) for extra in type_.__metadata__)
    origin = get_origin(type_) or type_
    if not isinstance(origin, type):
        return False
    if dataclasses.is_dataclass(origin) or typing.is_typeddict(origin):
        return True
    pydantic = sys.modules.get("pydantic")  # a pydantic model cannot exist before its import
    base = getattr(pydantic, "BaseModel", None)
    return base is not None and issubclass(origin, base) and origin is not base


def model_ref(type_: Any) -> ModelRef:
    """Return the identity of a model.

    Parameters
    ----------
    type_
        A model as `is_model` knows it, or the short name of one.

    Raises
    ------
    ModelError
        When it is neither.
    """
    if isinstance(type_, ModelRef):
        return type_
    if isinstance(type_, Model):
        return ModelRef(key=f"pulpo.Model:{type_.name}", name=type_.name)
    if isinstance(type_, str):
        name = type_.strip()
        if not name:
            raise ModelError("a model's name is empty. Give the class, or its name as text.")
        return ModelRef(key="", name=name)
    if get_origin(type_) is typing.Annotated:
        for extra in type_.__metadata__:
            if isinstance(extra, Model):
                return ModelRef(key=f"pulpo.Model:{extra.name}", name=extra.name)
        return model_ref(get_args(type_)[0])
    if not isinstance(type_, type) and not isinstance(type_, NewType) and get_origin(type_) is None:
        raise ModelError(
            f"{type_!r} is no data model. Give a pydantic model, a dataclass, a TypedDict, "
            "a NewType, or the name of one as text."
        )
    module = getattr(type_, "__module__", "")
    name = getattr(type_, "__qualname__", None) or getattr(type_, "__name__", None) or str(type_)
    if get_origin(type_) is not None and not isinstance(type_, type):
        name = str(type_).replace(f"{module}.", "")  # a generic dataclass: Page[Item]
    short = name.rsplit(".", 1)[-1] if "[" not in name else name
    return ModelRef(key=f"{module}.{name}", name=short, fields=_fields(type_))


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


def shape_of(type_: Any) -> Shape | None:
    """Return what an annotation says about a model; None when it mentions none.

    ``M``, ``list[M]`` (and ``Sequence[M]``), and either of them or None.

    Raises
    ------
    ModelError
        For any other union that holds a model, since a value's type would decide the edge.
    """
    if is_model(type_):
        return Shape(model=model_ref(type_))
    if isinstance(type_, ForwardRef):  # a model that is defined in a later cell
        name = type_.__forward_arg__
        return Shape(model=model_ref(name)) if name.isidentifier() else None
    origin = get_origin(type_)
    if origin is typing.Annotated:
        return shape_of(get_args(type_)[0])
    if origin in (Union, types.UnionType):
        return _shape_of_union(type_)
    if origin in (list, Sequence):
        inner = shape_of(get_args(type_)[0]) if get_args(type_) else None
        if inner is not None and not inner.many and not inner.optional:
            return Shape(model=inner.model, many=True)
    return None


def _shape_of_union(type_: Any) -> Shape | None:
    members = [member for member in get_args(type_) if member is not type(None)]
    shapes = [shape for member in members if (shape := shape_of(member)) is not None]
    if not shapes:
        return None
    if len(members) > 1 and not any(shape.model.key for shape in shapes):
        return None  # of names that do not exist yet nobody knows whether they are models
    if len(members) > 1:
        names = " | ".join(getattr(member, "__name__", str(member)) for member in members)
        raise ModelError(
            f"a union of models ({names}) does not say which operation to depend on. Take one "
            "parameter for each model, each optional: 'a: A | None, b: B | None'."
        )
    return Shape(model=shapes[0].model, many=shapes[0].many, optional=True)
