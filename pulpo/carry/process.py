"""Settings of the process: precision, options, levels, what the environment holds."""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterable
from typing import Any

__all__ = ["Started", "settings"]


class Started:
    """What the process was like when the record began, or before anything of it was asked for."""

    def __init__(self) -> None:
        self.environment = dict(os.environ)
        self.builtins = frozenset(vars(builtins))
        self.settings = settings()


def settings(loggers: Iterable[str] = ()) -> dict[str, dict[str, str]]:
    """Return the settings of the modules that are there, by package and how they are read.

    Its source runs in fresh processes too, so that it needs nothing from here.
    """
    import re
    import sys

    found: dict[str, dict[str, str]] = {"sys": {}}
    found["sys"]["sys.getrecursionlimit()"] = repr(sys.getrecursionlimit())
    modules: Any = dict(sys.modules)

    def look(name: str) -> Any:
        return modules.get(name)

    if decimal := look("decimal"):
        context = decimal.getcontext()
        parts = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")
        of = {f"decimal.getcontext().{part}": repr(getattr(context, part)) for part in parts}
        traps = sorted(kind.__name__ for kind, on in context.traps.items() if on)
        found["decimal"] = {**of, "decimal.getcontext().traps": repr(traps)}
    if numpy := look("numpy"):
        pairs = [("geterr", numpy.geterr()), ("get_printoptions", numpy.get_printoptions())]
        found["numpy"] = {
            f"numpy.{name}()[{key!r}]": repr(value)
            for name, values in pairs
            for key, value in values.items()
        }
    if look("pandas") and (config := look("pandas._config.config")):
        found["pandas"] = {}
        todo = list(config._global_config.items())
        for name, value in todo:
            if isinstance(value, dict):
                todo += [(f"{name}.{inner}", one) for inner, one in value.items()]
                continue
            option = config._registered_options.get(name)
            # Some defaults depend on where the output goes.
            if option is None or repr(option.defval) != repr(value):
                told = re.sub("0x[0-9a-f]+", "", repr(value))  # of a function: where it is
                found["pandas"][f"pandas.options.{name}"] = told
    if matplotlib := look("matplotlib"):
        # The frontend's business.
        others = ("backend", "backend_fallback", "interactive", "toolbar")
        found["matplotlib"] = {
            f"matplotlib.rcParams[{name!r}]": repr(value)
            for name, value in dict.items(matplotlib.rcParams)
            if name not in others
        }
    if locale := look("locale"):
        found["locale"] = {"locale.setlocale(locale.LC_ALL)": locale.setlocale(locale.LC_ALL)}
    if csv := look("csv"):
        found["csv"] = {
            "csv.field_size_limit()": repr(csv.field_size_limit()),
            "csv.list_dialects()": repr(sorted(csv.list_dialects())),
        }
    if calendar := look("calendar"):
        found["calendar"] = {"calendar.firstweekday()": repr(calendar.firstweekday())}
    if socket := look("socket"):
        found["socket"] = {"socket.getdefaulttimeout()": repr(socket.getdefaulttimeout())}
    if logging := look("logging"):
        found["logging"] = {
            "logging.root.level": repr(logging.root.level),
            "logging.root.manager.disable": repr(logging.root.manager.disable),
        }
        for name in loggers:
            logger = logging.root.manager.loggerDict.get(name)
            handlers = [type(one).__name__ for one in getattr(logger, "handlers", ())]
            more = (getattr(logger, "level", 0), handlers, getattr(logger, "disabled", False))
            found["logging"][f"logging.getLogger({name!r})"] = repr(more)
    if warnings := look("warnings"):
        found["warnings"] = {}
        for action, message, kind, module, line in warnings.filters:
            texts = [getattr(part, "pattern", part) for part in (message, module)]
            key = f"the filter of warnings ({action!r} for {kind.__name__})"
            found["warnings"][key] = found["warnings"].get(key, "") + repr((*texts, line))
    return found
