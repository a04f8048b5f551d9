"""`save` and `load`: a model, an optimizer, a schedule, a loader and generators as one unit.

A file holds arrays, and a text beside them, which is JSON. In the text, `{"__array__": name}` is an
array. A file of a model alone holds the arrays of its `state_dict()`, under the same names.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any, Never

import numpy as np
from numpy import ndarray

from tinygrad_kr.changes import Change, make_all
from tinygrad_kr.data.loader import DataLoader
from tinygrad_kr.files import refuse_special, refuse_torch_file, replacing
from tinygrad_kr.nn.module import Module
from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from tinygrad_kr.optim.optimizer import Optimizer
from tinygrad_kr.random import (
    default_generator,
    fitting_state,
    generator_state,
    setting_state,
)
from tinygrad_kr.saving import npz, safetensors
from tinygrad_kr.saving.formats import METADATA, DamagedFileError, Reader, damaged
from tinygrad_kr.saving.generators import generators_in
from tinygrad_kr.tensor import Tensor

Path = str | os.PathLike[str]
Scheduler = LRScheduler | ReduceLROnPlateau

_FORMATS: dict[str, Any] = {".npz": npz, ".safetensors": safetensors}
_VERSION = 1
_ARRAY = "__array__"
_LARGEST = 10**4000
"""Limit: integers in `extra`; Python neither writes nor reads one of more than 4,300 digits."""
_DEEPEST = 100
"""Limit: levels of lists and dicts in `extra`; Python's JSON recurses, and a resumed run loads it
from deeper in the stack."""
_KINDS: dict[str, Any] = {
    "model": Module, "optimizer": Optimizer, "scheduler": Scheduler, "loader": DataLoader,
}  # fmt: skip
_STATES = {
    "save": " np.savez(path, **state) writes a state_dict",
    "load": " module.load_state_dict(np.load(path)) reads a state_dict",
}
"""What to do with a state in place of a part."""
_SEVERAL = {"model": " Put them into one nn.ModuleList"}
"""What to do with several of a part; of the others each has a file of its own."""
_OTHER_VALUES = {"save": "; extra= takes other values", "load": ", which returns other values"}
_DEFAULT = "default"
"""The part to which the generator belongs that `tk.manual_seed` seeds."""


def save(
    path: Path,
    *others: Never,
    model: Module | None = None,
    optimizer: Optimizer | None = None,
    scheduler: Scheduler | None = None,
    loader: DataLoader | None = None,
    extra: Any = None,
) -> None:
    """Save a run in one file, from which `load` resumes it bit for bit.

    path: ends with `.npz`, or with `.safetensors` (`pip install "tinygrad_kr[safetensors]"`).
    model, optimizer, scheduler, loader: what is saved, each or none. Of a loader that is the
        position after the last batch that it yielded.
    extra: any value that JSON holds, up to 100 levels deep: an epoch, losses. `load` returns it.

    A model alone is saved under PyTorch's keys, and its file has no generators. With an optimizer,
    schedule or loader the names begin with `model.`, `optimizer.`, `loader.`. Then the states of
    all generators are saved too: the one of `tk.manual_seed`, and each `np.random.Generator` that a
    part holds in its attributes, such as a `Dropout`. Left out are gradients, Python's `random`,
    `np.random.seed` and `np.random.RandomState`.

    The write is atomic: after a crash the old file or the new one is there. A symbolic link is
    followed, and an existing file keeps its mode.

    Raises ValueError for another suffix, nothing to save, or an `extra` that is too deep; TypeError
        for a part of another type or a value that JSON does not hold; OSError that names the file
        if it cannot be written; ImportError without the library.

    >>> import os, tempfile
    >>> net = nn.Linear(2, 1)
    >>> path = os.path.join(tempfile.mkdtemp(), "net.npz")
    >>> tk.save(path, model=net, extra={"epoch": 3})
    >>> tk.load(path, model=net)
    {'epoch': 3}
    """
    _refuse_positions("save", path, others)
    name = _name(path, "save")
    chosen = _format_of(name, "save")
    parts = _given("save", model, optimizer, scheduler, loader)
    if not parts and extra is None:
        raise ValueError("save: expected a part to save, got none. Pass model=")
    _check_json(extra, "extra")
    arrays: dict[str, ndarray] = {}
    text = _described(parts, extra, arrays)
    with _naming_file(name), replacing(name) as stream:
        chosen.write(stream, arrays, text)


def load(
    path: Path,
    *others: Never,
    model: Module | None = None,
    optimizer: Optimizer | None = None,
    scheduler: Scheduler | None = None,
    loader: DataLoader | None = None,
) -> Any:
    """Restore what `save` has saved, in place, and return its `extra`. All is loaded, or nothing.

    path: ends with `.npz` or `.safetensors`. A file of a stranger's `state_dict`, by `np.savez` or
        by PyTorch's `safetensors`, loads into a model.
    model, optimizer, scheduler, loader: what is restored. A part of the file that is not asked for
        is left out. Parameters keep their identity.

    Generators are restored with an optimizer, schedule or loader: the one of `tk.manual_seed`, and
    those of the parts that are asked for. The next `for` loop of the loader yields the batches that
    remain. Nothing is unpickled. No more memory is taken than twice the size of the file; the
    Python objects of a long `extra` come on top. A weight that two modules share may be in the file
    under one of its names, as `safetensors.torch.save_model` leaves it.

    Raises DamagedFileError, a ValueError, for a file that is not as it was written; KeyError for a
        part that the file lacks; RuntimeError for a model with other keys, shapes or dtypes;
        ValueError or TypeError for another optimizer, schedule, loader or generator; OSError for a
        file that cannot be read. Every message names the file. An error or an interrupt leaves
        everything as it was.

    >>> import os, tempfile
    >>> net, other = nn.Linear(2, 1), nn.Linear(2, 1)
    >>> path = os.path.join(tempfile.mkdtemp(), "net.npz")
    >>> tk.save(path, model=net)
    >>> tk.load(path, model=other)
    >>> tk.equal(other.weight, net.weight).all()
    Tensor(True)
    """
    _refuse_positions("load", path, others)
    name = _name(path, "load")
    chosen = _format_of(name, "load")
    parts = _given("load", model, optimizer, scheduler, loader)
    refuse_special(name)
    with chosen.opened(name) as reader:
        try:
            file = _File(name, reader)
            states = file.states(parts)
        except DamagedFileError:
            raise
        except RecursionError as error:
            raise damaged(name, "a text of too many levels") from error
        except Exception:
            reader.verify()  # damage is the reason, if there is some
            raise
    changes = [_loading(name, part, parts[part], states.pop(part)) for part in parts]
    changes += list(_generator_changes(name, file.generators, parts))
    make_all(chain.from_iterable(changes))
    return file.extra


def _refuse_positions(function: str, first: Any, others: Sequence[Any]) -> None:
    """Raise TypeError for `torch.save(module, path)`, and for a part whose name is left out."""
    if others:
        kinds = ", ".join(type(given).__name__ for given in (first, *others))
        raise TypeError(
            f"{function}: expected a path first and then parts by name, got {kinds}. Call "
            f'tk.{function}("net.npz", model=net)' + _OTHER_VALUES[function]
        )


def _name(path: Path, function: str) -> str:
    if tracer := tracing():
        tracer.give_up(f"tk.{function}(): call it outside, after the function")
    if not isinstance(path, str | bytes | os.PathLike):
        raise TypeError(f"{function}: expected a path first, got {type(path).__name__}.")
    name = os.fsdecode(path)
    if "\0" in name:
        raise ValueError(f"{function}: expected a path without NUL, got {name!r:.60}.")
    return name


def _format_of(path: str, function: str) -> Any:
    """The module of the format that the suffix names."""
    chosen = _FORMATS.get(os.path.splitext(path)[1].lower())
    if chosen is None:
        if function == "load":
            refuse_torch_file(function, path)
        raise ValueError(
            f"{function}: expected a path that ends with .npz or .safetensors, got {path!r}."
        )
    return chosen


def _given(function: str, *parts: Any) -> dict[str, Any]:
    """The parts that are not None, by name."""
    given = {}
    for (name, kind), part in zip(_KINDS.items(), parts, strict=True):
        if part is not None and not isinstance(part, kind):
            expected = getattr(kind, "__name__", "LRScheduler")
            raise TypeError(
                f"{function}: expected {expected} for {name}, got {_named_type(part)}."
                + _in_place_of(function, name, part)
            )
        if part is not None:
            given[name] = part
    return given


def _in_place_of(function: str, name: str, given: Any) -> str:
    """What to do with what was given in place of a part."""
    if isinstance(given, dict | list | tuple):
        members = given.values() if isinstance(given, dict) else given
        if any(isinstance(one, _KINDS[name]) for one in members):
            return _SEVERAL.get(name, f" {function.capitalize()} each in a file of its own")
    if isinstance(given, dict):
        return _STATES[function]
    kinds = {kind.__module__.partition(".")[0] for kind in type(given).__mro__}
    if "torch" in kinds and name == "model":
        return " tk.interop.from_torch_state_dict(net, state) reads its state into a net of ours"
    return ""


@contextmanager
def _naming_file(path: str) -> Iterator[None]:
    """An OSError names the file at `path`, not a temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise OSError(f"save: expected to write {path}, got {error}.") from error
        raise OSError(error.errno, error.strerror, path) from error


# ------------------------------------------------------------------ what is saved


def _described(parts: dict[str, Any], extra: Any, arrays: dict[str, ndarray]) -> str | None:
    """The text of a file; its arrays are put into `arrays`. None for a model alone."""
    others = {name: part for name, part in parts.items() if name != "model"}
    prefix = "model." if others else ""
    states = {name: _plain(_state(part), name, arrays) for name, part in others.items()}
    if "model" in parts:
        states = {"model": None, **states}
        for name, array in _arrays(parts["model"]):
            arrays[prefix + name] = array
    if METADATA in arrays:
        raise ValueError(f"save: expected other names than {METADATA}, got it in the model.")
    if not others and extra is None:
        return None
    document = {"version": _VERSION, "parts": states, "extra": extra}
    if others:
        document["generators"] = {
            part: {path: generator_state(one) for path, one in held.items()}
            for part, held in _generators(parts).items()
        }
    return json.dumps(document)


def _arrays(model: Module) -> Iterator[tuple[str, ndarray]]:
    """The state of a model, its arrays themselves."""
    if _is_ours(type(model).state_dict):
        state: Any = ((name, tensor._data) for name, tensor in model._state())
    else:
        state = model.state_dict().items()
    for name, value in state:
        array = value._data if isinstance(value, Tensor) else np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"save: expected real numbers in {name}, got {array.dtype}.")
        yield name, array


def _state(part: Any) -> Any:
    """The state of any other part, its arrays themselves."""
    if isinstance(part, Optimizer) and _is_ours(type(part).state_dict):
        return part._described()
    return part.state_dict()


def _is_ours(method: Any) -> bool:
    """Whether a method is this package's, not one of a subclass of the user's."""
    return str(method.__module__).startswith("tinygrad_kr.")


def _generators(parts: dict[str, Any]) -> dict[str, dict[str, np.random.Generator]]:
    """The default generator, and those of each part. That of a loader itself is in its state."""
    found = {_DEFAULT: {"": default_generator()}}
    for name, part in parts.items():
        held = generators_in(part)
        if name == "loader":
            held.pop("generator", None)
        found[name] = held
    return found


def _plain(value: Any, where: str, arrays: dict[str, ndarray]) -> Any:
    """A state in values that JSON holds; its arrays are put into `arrays`."""
    if isinstance(value, dict):
        if _ARRAY in value or not all(isinstance(key, str | int) for key in value):
            raise TypeError(
                f"save: expected strings and integers as keys of {where}, got {list(value)!r:.60}."
            )
        return {str(key): _plain(x, f"{where}.{key}", arrays) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(x, f"{where}.{i}", arrays) for i, x in enumerate(value)]
    if isinstance(value, ndarray):
        if where in arrays:
            raise ValueError(f"save: expected one array named {where}, got two.")
        arrays[where] = value
        return {_ARRAY: where}
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"save: expected numbers, text, arrays, lists and dicts, got {type(value).__name__} in "
        f"{where}."
    )


def _check_json(value: Any, where: str, holders: tuple[int, ...] = ()) -> None:
    """Raise TypeError or ValueError for a value that would not come back equal from JSON."""
    if isinstance(value, int) and not -_LARGEST < value < _LARGEST:
        raise ValueError(f"save: expected integers of up to 4,000 digits, got more at {where:.60}.")
    if value is None or isinstance(value, bool | int | float | str):
        return
    if not isinstance(value, dict | list):
        fix = " Write .tolist()" if hasattr(value, "tolist") else ""
        fix = " Write list(...)" if isinstance(value, tuple | set | frozenset) else fix
        raise TypeError(
            f"save: expected a dict, list, str, number, bool or None at {where}, got "
            f"{_named_type(value)}.{fix}"
        )
    if id(value) in holders:
        raise ValueError(f"save: expected values without a circle, got {where} in itself.")
    if len(holders) >= _DEEPEST:
        raise ValueError(f"save: expected up to {_DEEPEST} levels, got more at {where:.60}.")
    named = value.items() if isinstance(value, dict) else enumerate(value)
    for key, x in named:
        if isinstance(value, dict) and not isinstance(key, str):
            raise TypeError(f"save: expected text as keys of {where}, got {key!r:.60}.")
        _check_json(x, f"{where}[{key!r}]", (*holders, id(value)))


def _named_type(value: Any) -> str:
    """The name of a type, with the package of NumPy's and PyTorch's: both have names of ours."""
    package = type(value).__module__.partition(".")[0]
    prefix = {"numpy": "np.", "torch": "torch."}.get(package, "")
    return prefix + type(value).__name__


# ------------------------------------------------------------------ what is loaded


class _File:
    """The contents of an open file: which parts it has, their states, generators and `extra`."""

    def __init__(self, path: str, reader: Reader) -> None:
        self.path, self.reader = path, reader
        document = self._document()
        self.parts, self.extra = document["parts"], document["extra"]
        self.generators = document.get("generators", {})
        self.prefix = "model." if set(self.parts) - {"model"} else ""

    def _document(self) -> dict[str, Any]:
        if self.reader.text is None:
            return {"parts": {"model": None}, "extra": None}
        try:
            document: Any = json.loads(self.reader.text)
        except (ValueError, RecursionError) as error:
            raise damaged(self.path, f"a text that is no JSON ({error})") from error
        version = document.get("version") if isinstance(document, dict) else None
        if version != _VERSION:
            raise ValueError(
                f"load: expected version {_VERSION} in {self.path}, got {version!r:.60}. A newer "
                "tinygrad_kr may read it"
            )
        kinds = {"parts": dict, "generators": dict, "extra": object}
        if not {"parts", "extra"} <= set(document) or not all(
            isinstance(document.get(name, {}), kind) for name, kind in kinds.items()
        ):
            raise damaged(self.path, "another text than `save` writes")
        return dict(document)

    def states(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The states of the parts that are asked for; what a model needs is checked first."""
        if lacking := [name for name in asked if name not in self.parts]:
            raise KeyError(
                f"load: expected {', '.join(lacking)} in {self.path}, got "
                f"{', '.join(self.parts) or 'no part'}. Leave out what it lacks"
            )
        names = [x for x in self.reader.forms if x.startswith(self.prefix) and "model" in asked]
        own = {name.removeprefix(self.prefix): name for name in names}
        if own and _is_ours(type(asked["model"]).load_state_dict):
            forms = {key: self.reader.forms[name].stand_in() for key, name in own.items()}
            _loading(self.path, "model", asked["model"], forms)
        others = {name: self.parts[name] for name in asked if name != "model"}
        arrays = self.reader.read({*own.values(), *self._named(others)})
        states: dict[str, Any] = {name: _joined(x, arrays) for name, x in others.items()}
        if "model" in asked:
            states["model"] = {key: arrays[name] for key, name in own.items()}
        return states

    def _named(self, state: Any) -> Iterator[str]:
        """The arrays that a state names."""
        if isinstance(state, dict) and _ARRAY in state:
            name = state[_ARRAY]
            form = self.reader.forms.get(name) if isinstance(name, str) else None
            if form is None or isinstance(form.dtype, str):
                raise damaged(self.path, f"no array of the name {name!r:.60}")
            yield name
        elif isinstance(state, dict | list):
            for x in state.values() if isinstance(state, dict) else state:
                yield from self._named(x)


def _joined(state: Any, arrays: Mapping[str, ndarray]) -> Any:
    """A state with its arrays in place."""
    if isinstance(state, dict):
        if _ARRAY in state:
            return arrays[state[_ARRAY]]
        return {key: _joined(x, arrays) for key, x in state.items()}
    return [_joined(x, arrays) for x in state] if isinstance(state, list) else state


def _loading(path: str, name: str, part: Any, state: Any) -> Iterator[Change]:
    """The changes that load a part, after all checks of its state."""
    if not _is_ours(type(part).load_state_dict):
        load, before = part.load_state_dict, copy.deepcopy(part.state_dict())
        return iter([(partial(load, state), partial(load, before))])
    with _naming_part(path, name):
        if isinstance(part, Module):
            return part._loading(state, of_file=True)[0]
        changes: Iterator[Change] = part._loading(state)
    return changes


def _generator_changes(path: str, saved: Any, parts: dict[str, Any]) -> Iterator[Iterator[Change]]:
    """The changes that restore the generators, after all checks of their states."""
    if not set(parts) - {"model"}:
        return
    for part, held in _generators(parts).items():
        states = saved.get(part)
        with _naming_part(path, f"generators of {part}"):
            if not isinstance(states, dict) or set(states) != set(held):
                raise ValueError(f"expected {_listed(held)}, got {_listed(states)}.")
            yield iter(
                [setting_state(g, fitting_state(g, states[at], at)) for at, g in held.items()]
            )


def _listed(names: Any) -> str:
    return ", ".join(names or ()) or "none"


@contextmanager
def _naming_part(path: str, part: str) -> Iterator[None]:
    """An error names the file and the part."""
    try:
        yield
    except Exception as error:
        kind: type[Exception] = ValueError
        for known in (RuntimeError, TypeError):
            kind = known if isinstance(error, known) else kind
        raise kind(f"load: {path}: {part}: {error}") from error
