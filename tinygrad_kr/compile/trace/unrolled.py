"""The loop that a recording is in, for the message about one that is too long."""

from __future__ import annotations

import linecache
import re
from types import CodeType, FrameType

from tinygrad_kr.ops.node import PACKAGE, user_frame

_LOOP = re.compile(r"\s*(async\s+)?(for|while)\b")
_COMPREHENSION = re.compile(r"\bfor\b.+\bin\b")


def enclosing_loop(recording: CodeType) -> str | None:
    """The user's innermost loop that is being recorded, as `file:line`; None outside any, or
    without source. recording: the code that runs the user's function."""
    frame = user_frame()
    while frame is not None and frame.f_code is not recording:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            line = _loop_line(frame)
            if line is not None:
                return f"{frame.f_code.co_filename}:{line}"
        frame = frame.f_back
    return None


def _loop_line(frame: FrameType) -> int | None:
    """The line of the loop around the line that a frame is at."""
    file, number = frame.f_code.co_filename, frame.f_lineno
    line = linecache.getline(file, number, frame.f_globals)
    if _COMPREHENSION.search(line):
        return number
    indent = _indent(line)
    for above in range(number - 1, frame.f_code.co_firstlineno - 1, -1):
        line = linecache.getline(file, above, frame.f_globals)
        if line.strip() and _indent(line) < indent:
            if _LOOP.match(line):
                return above
            indent = _indent(line)
    return None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
