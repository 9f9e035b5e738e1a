"""What ``[tool.pulpo]`` in pyproject.toml and ``PULPO_*`` in the environment say."""

from __future__ import annotations

import keyword
import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    PyprojectTomlConfigSettingsSource,
    SettingsConfigDict,
)

from .errors import SettingsError

__all__ = ["Settings", "load_settings", "package_of"]


def _user_state() -> Path:
    from platformdirs import user_state_path

    return user_state_path("pulpo", appauthor=False)


class Settings(BaseSettings):
    """The settings of a project.

    Parameters
    ----------
    cache_dir
        The export folder (``PULPO_CACHE_DIR``).
    verbose
        Say more on the terminal (``PULPO_VERBOSE``).
    auto_compile
        Whether commands that need an export make one first (``PULPO_AUTO_COMPILE``).
    state_dir
        Where a user's services keep their state, logs and databases (``PULPO_STATE_DIR``); the
        system's folder for that by default.
    sources
        Notebooks, modules and packages that the command line reads when it is given none.
    """

    model_config = SettingsConfigDict(
        env_prefix="PULPO_", pyproject_toml_table_header=("tool", "pulpo"), extra="forbid"
    )

    cache_dir: Path = Path("run_cache")
    verbose: bool = False
    auto_compile: bool = True
    state_dir: Path = Field(default_factory=_user_state)
    sources: tuple[str, ...] = Field(default=())

    @field_validator("cache_dir")
    @classmethod
    def _importable(cls, folder: Path) -> Path:
        package_of(folder)
        return folder

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let arguments win over the environment, and that over pyproject.toml."""
        return init_settings, env_settings, PyprojectTomlConfigSettingsSource(settings_cls)


def load_settings(**given: Any) -> Settings:
    """Return the settings that hold in the current folder.

    Raises
    ------
    SettingsError
        For a setting that does not exist or has a wrong value, naming it.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        known = ", ".join(Settings.model_fields)
        why = first["msg"].removeprefix("Value error, ").rstrip(".")
        raise SettingsError(
            f"setting {name!r} ([tool.pulpo] or PULPO_{name.upper()}): {why}. "
            f"The settings are: {known}."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"pyproject.toml cannot be read: {error}.") from None


def package_of(folder: Path) -> str:
    """Return the importable name of an export folder.

    Raises
    ------
    SettingsError
        When its name cannot be imported.
    """
    name = folder.name
    if not name.isidentifier() or keyword.iskeyword(name):
        near = "".join(c if c.isalnum() else "_" for c in name).strip("_") or "run_cache"
        near = f"_{near}" if near[0].isdigit() or keyword.iskeyword(near) else near
        raise SettingsError(
            f"export folder {name!r} cannot be imported: its name is a Python package. "
            f"Call it {near!r}."
        )
    if _is_installed(name):
        raise SettingsError(
            f"export folder {name!r} would hide the installed package of that name from its flows, "
            f"and from what runs beside it. Call it '{name}_flows', for example."
        )
    return name


def _is_installed(name: str) -> bool:
    """Return whether a name is Python's own, or of a package in its library folders."""
    import sys
    import sysconfig
    from importlib.machinery import PathFinder

    if name in sys.stdlib_module_names:
        return True
    folders = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    spec = PathFinder.find_spec(name, [folder for folder in folders if folder])
    return spec is not None and spec.origin is not None
