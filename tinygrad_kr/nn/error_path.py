"""Where in a net an exception came up: its message begins with the path of the module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinygrad_kr.nn.module import Module

_ATTRIBUTE = "_module_error_path"


class _ErrorPath:
    """The modules an exception has passed through: a path from `outermost`, and what was said."""

    __slots__ = ("body", "note", "outermost", "path")

    def __init__(self, module: Module, body: str) -> None:
        self.outermost, self.body, self.path = module, body, ""
        self.note: int | None = None

    def text(self) -> str:
        return f"{type(self.outermost).__name__.lower()}{self.path}: {self.body}"


def locate(error: Exception, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Have the message of `error`, on its way out of `module`, begin with where it comes from.

    An exception whose message is not one string of its own (KeyError, OSError with a number) gets
    the text as a note.
    """
    found = getattr(error, _ATTRIBUTE, None)
    if found is None:
        plain = _is_plain(error)
        found = _ErrorPath(module, _described(module, args, kwargs))
        if plain:
            found.body += f": {error.args[0]}"
        else:
            error.add_note(found.text())
            found.note = len(error.__notes__) - 1
        setattr(error, _ATTRIBUTE, found)
    elif module is not found.outermost:
        found.path = f".{_name_in(module, found.outermost)}{found.path}"
        found.outermost = module
    if found.note is None:
        error.args = (found.text(),)
    else:
        error.__notes__[found.note] = found.text()


def _is_plain(error: Exception) -> bool:
    """Whether the message is the one argument, a string."""
    return (
        type(error).__str__ is BaseException.__str__
        and len(error.args) == 1
        and isinstance(error.args[0], str)
    )


def _described(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    given = [_form(value) for value in args]
    given += [f"{name}={_form(value)}" for name, value in kwargs.items()]
    wanted = module.wanted_input()
    return (
        f"{type(module).__name__}({module.extra_repr()}) got {', '.join(given) or 'nothing'}"
        f"{', wants ' + wanted if wanted else ''}"
    )


def _form(value: Any) -> str:
    """The shape of an array; anything else by its type."""
    shape = getattr(value, "shape", None)
    return str(tuple(shape)) if isinstance(shape, tuple) else type(value).__name__


def _name_in(holder: Module, module: Module) -> str:
    """The path of a module inside the one that called it; its class, if it is not a part of it."""
    for path, found in holder.named_modules():
        if found is module:
            return path
    return f"<{type(module).__name__}>"
