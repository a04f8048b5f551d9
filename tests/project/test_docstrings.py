"""Every public name explains itself: a docstring of its own with an example that runs, a signature
with names, a pickle that finds it again; and a module shows nothing but its public names."""

from __future__ import annotations

import copy
import doctest
import importlib
import inspect
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import Tensor

MODULES = [
    "tinygrad_kr",
    "tinygrad_kr.arrays",
    "tinygrad_kr.autograd",
    "tinygrad_kr.compile",
    "tinygrad_kr.creation",
    "tinygrad_kr.data",
    "tinygrad_kr.distributed",
    "tinygrad_kr.export",
    "tinygrad_kr.functional",
    "tinygrad_kr.grad_mode",
    "tinygrad_kr.interop",
    "tinygrad_kr.interop.scipy",
    "tinygrad_kr.linalg",
    "tinygrad_kr.nn",
    "tinygrad_kr.nn.init",
    "tinygrad_kr.nn.utils",
    "tinygrad_kr.optim",
    "tinygrad_kr.optim.lr_scheduler",
    "tinygrad_kr.random",
    "tinygrad_kr.saving",
    "tinygrad_kr.sweep",
    "tinygrad_kr.tensorboard",
    "tinygrad_kr.testing",
    "tinygrad_kr.training",
    "tinygrad_kr.transformations",
    "tinygrad_kr.tree",
]
"""The modules whose public names are looked at: those in `__all__`."""

NAMES = {"tk": tk, "np": np, "nn": tk.nn, "F": tk.functional, "optim": tk.optim}
"""What an example may use without importing it."""


def public_objects() -> Iterator[tuple[str, Any]]:
    """Each public function, class, method and property once, by its shortest name.

    Modules and dtypes (NumPy's own objects) have no docstring of ours here.
    """
    seen: set[int] = set()
    for name in MODULES:
        module = importlib.import_module(name)
        for attribute in getattr(module, "__all__", ()):
            value = getattr(module, attribute)
            if not isinstance(value, ModuleType | np.dtype) and id(value) not in seen:
                seen.add(id(value))
                yield f"{name}.{attribute}".replace("tinygrad_kr", "tk"), value
    for attribute, value in inspect.getmembers(Tensor):
        if not attribute.startswith("_") and id(value) not in seen:
            seen.add(id(value))
            yield f"tk.Tensor.{attribute}", value


PUBLIC = dict(public_objects())


@pytest.mark.parametrize("name", PUBLIC)
def test_it_has_a_docstring_of_its_own(name: str) -> None:
    value = PUBLIC[name]
    doc = vars(value)["__doc__"] if isinstance(value, type) else value.__doc__
    assert doc, "no docstring"
    summary = " ".join(inspect.cleandoc(doc).split("\n\n")[0].split())
    assert re.search(r"[.:]$", summary), "the first paragraph is a sentence"
    assert len(summary.split()) >= 2
    assert doc != getattr(getattr(np, name.rpartition(".")[2], None), "__doc__", None), "NumPy's"
    assert not re.search(r"\b(he|she|who|somebody|nobody|asks|wants)\b", doc), "rule 5 of prose"


@pytest.mark.parametrize("name", PUBLIC)
def test_it_has_an_example_that_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYGRAD_KR_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    if "tinygrad_kr[onnx]" in PUBLIC[name].__doc__:
        pytest.importorskip("onnx")
    assert failures(PUBLIC[name].__doc__, name) == ""


def failures(doc: str, name: str) -> str:
    """What doctest says of the examples in a docstring; that there is none is a failure too."""
    test = doctest.DocTestParser().get_doctest(inspect.cleandoc(doc), dict(NAMES), name, None, 0)
    if not test.examples:
        return "no example"
    said: list[str] = []
    with np.printoptions(legacy=False), tk.enable_grad():
        runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
        runner.run(test, out=said.append)
    return "".join(said)


def test_an_example_that_is_wrong_or_missing_is_found() -> None:
    assert failures(">>> tk.tensor([1.0])\nTensor([1.])", "right") == ""
    assert "Got:" in failures(">>> tk.tensor([1.0])\nTensor([2.])", "wrong")
    assert failures("Says nothing.", "missing") == "no example"


def is_exception(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


CALLABLE = [name for name, value in PUBLIC.items() if callable(value)]


OPAQUE = {"inputs", "params", "args", "kwargs", "of_operand"}


@pytest.mark.parametrize("name", [name for name in CALLABLE if not is_exception(PUBLIC[name])])
def test_its_signature_has_names(name: str) -> None:
    """`*args` may follow a name, as the arguments of a function that is passed do.

    `Identity` ignores all arguments, and has PyTorch's signature.
    """
    if name == "tk.nn.Identity":
        return
    parameters = inspect.signature(PUBLIC[name]).parameters.values()
    opaque = [p for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    opaque = [p for p in opaque if p.name in OPAQUE]
    protocol = getattr(PUBLIC[name], "_is_protocol", False)
    assert protocol or not opaque or len(opaque) < len(parameters)


SYNONYMS = [("axis", "dim"), ("keepdims", "keepdim"), ("axis1", "dim1"), ("axis2", "dim2")]
"""What NumPy and PyTorch call one argument."""


@pytest.mark.parametrize("name", [name for name in CALLABLE if not is_exception(PUBLIC[name])])
def test_it_takes_numpys_and_pytorchs_name_of_an_argument(name: str) -> None:
    """`transpose(dim0=, dim1=)` exchanges two axes; NumPy's `transpose` has no such names."""
    parameters = inspect.signature(PUBLIC[name]).parameters
    for numpys, pytorchs in SYNONYMS:
        if (name.rpartition(".")[2], pytorchs) != ("transpose", "dim1"):
            assert (numpys in parameters) == (pytorchs in parameters)


@pytest.mark.parametrize("name", CALLABLE)
def test_pickle_and_copy_find_it_again(name: str) -> None:
    value = PUBLIC[name]
    assert pickle.loads(pickle.dumps(value)) is value
    assert copy.deepcopy(value) is value


@pytest.mark.parametrize("name", MODULES)
def test_a_module_shows_its_public_names_alone(name: str) -> None:
    module = importlib.import_module(name)
    shown = {attribute for attribute in dir(module) if not attribute.startswith("_")}
    assert shown == set(module.__all__)
    assert len(module.__all__) == len(shown)
