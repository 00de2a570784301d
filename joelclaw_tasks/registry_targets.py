"""Targets: `package.module:function` of a task handler, imported and looked at."""

from __future__ import annotations

import difflib
import importlib
import inspect
from types import ModuleType


def target_fault(target: str) -> str | None:
    """What keeps a target from being run as `function(event, deps)`, or None. Imports its module."""
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            return f"no module is named {error.name}; correct the target or install what provides it"
        return f"{module_name} does not import: no module is named {error.name}, which it needs"
    except (Exception, SystemExit) as error:  # noqa: BLE001 (a module may raise anything while it is imported)
        return f"{module_name} does not import: {type(error).__name__}: {error}"
    if not hasattr(module, attribute):
        return f"{module_name} has no function {attribute}{_near(attribute, module)}"
    function = getattr(module, attribute)
    if not callable(function):
        return f"{target} is {type(function).__name__} and not a function"
    if inspect.iscoroutinefunction(function):
        return f"{target} is an async function; a handler is a plain one"
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        return f"{target} must take two arguments, (event, deps)"
    except ValueError:
        return None  # a built-in that does not tell its arguments
    return None


def _near(attribute: str, module: ModuleType) -> str:
    public = [
        name for name in dir(module) if not name.startswith("_") and callable(getattr(module, name, None))
    ]
    near = difflib.get_close_matches(attribute, public, n=1)
    return f"; did you mean {near[0]}?" if near else ""
