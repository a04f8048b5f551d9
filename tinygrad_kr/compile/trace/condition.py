"""The test under which a program is valid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

GONE = (LookupError, ValueError, AttributeError)


class Condition(NamedTuple):
    """A test of a call's `leaves`: a Python expression, and what its names stand for; a statement
    for where it holds."""

    text: str
    names: dict[str, Any]
    then: str = "pass"

    def test(self) -> Callable[[tuple[Any, ...]], bool]:
        """The test by itself."""
        names = dict(self.names)
        exec(compile(f"def test(leaves):\n    return {self.text}\n", "<condition>", "exec"), names)
        test: Callable[[tuple[Any, ...]], bool] = names.pop("test")
        return test

    def before(
        self, lines: str, names: dict[str, Any], missed: Any, parameters: str = ""
    ) -> Callable[..., Any]:
        """A function of these lines, which gives `missed` at once where the test fails.

        It takes `leaves`, and further `parameters` that have defaults.
        """
        source = (
            f"def replay(leaves{parameters}):\n"
            f"    try:\n        if not ({self.text}):\n            return missed\n"
            f"    except gone:\n        return missed\n    {self.then}\n    {lines}\n"
        )
        names |= {**self.names, "gone": GONE, "missed": missed}
        exec(compile(source, "<compiled step>", "exec"), names)
        replay: Callable[..., Any] = names.pop("replay")  # which refers to the names: no cycle
        return replay
