"""The place of an exception in a net: its message starts with the path of the module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinygrad_kr.nn.module import Module

_ATTRIBUTE = "_module_error_path"


class _ErrorPath:
    """The modules that an exception has passed: a path from `outermost`, and the message."""

    __slots__ = ("body", "note", "outermost", "path")

    def __init__(self, module: Module, body: str) -> None:
        self.outermost, self.body, self.path = module, body, ""
        self.note: int | None = None

    def text(self) -> str:
        return f"{type(self.outermost).__name__.lower()}{self.path}: {self.body}"


def locate(error: Exception, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Prefix the message of `error`, raised inside `module`, with the path of the module.

    An exception whose message is not one string (KeyError, OSError with a number) gets the text as
    a note.
    """
    located = getattr(error, _ATTRIBUTE, None)
    if located is None:
        plain = _is_plain(error)
        located = _ErrorPath(module, _described(module, args, kwargs))
        if plain:
            located.body += f": {error.args[0]}"
        else:
            error.add_note(located.text())
            located.note = len(error.__notes__) - 1
        setattr(error, _ATTRIBUTE, located)
    elif module is not located.outermost:
        located.path = f".{_name_in(module, located.outermost)}{located.path}"
        located.outermost = module
    if located.note is None:
        error.args = (located.text(),)
    else:
        error.__notes__[located.note] = located.text()


def _is_plain(error: Exception) -> bool:
    """Whether the message is the only argument, a string."""
    return (
        type(error).__str__ is BaseException.__str__
        and len(error.args) == 1
        and isinstance(error.args[0], str)
    )


def _described(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    given = [_form(value) for value in args]
    given += [f"{name}={_form(value)}" for name, value in kwargs.items()]
    expected = module.wanted_input()
    return (
        f"{type(module).__name__}({module.extra_repr()}): "
        f"{f'expected {expected}, ' if expected else ''}got {', '.join(given) or 'nothing'}"
    )


def _form(value: Any) -> str:
    """The shape of an array; the type of anything else."""
    shape = getattr(value, "shape", None)
    return str(tuple(shape)) if isinstance(shape, tuple) else type(value).__name__


def _name_in(holder: Module, module: Module) -> str:
    """The path of a module inside the one that called it; its class, if it is not part of it."""
    for path, found in holder.named_modules():
        if found is module:
            return path
    return f"<{type(module).__name__}>"
