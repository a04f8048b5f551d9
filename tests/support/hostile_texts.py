"""Texts that would end a comment, splice a line, include a file or run as code, if they could."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

PLAIN = (
    "*/", "/*", "**/", "*\\", "*\\/", "??/", "*??/", "?*/?", "\\", "a\\", "\\\n", "??/\n", "*\\\n/",
    "\n", "\r", "\r\n", "\v", "\f", "\0", "\x1b[2J", "\x85", "\u2028", "\u2029", "'", '"', "'''",
    '"""', '"*/', "%", "%s%n", "%:", "{0}", "{", "}", "#", "# ", "//", "<%", "`", "$(", ";",
    "x;y", "2x", 'f"', "l'1", "soft sign", " ", "", "_", "__", "/", ":", "C:\\Users\\새 폴더\\",
    "값", "학습 단계", "가" * 500, "🙂", "\U0001f469\u200d\U0001f467", "\u202e evil \u202c",
    "\ufeff", "\u2066\u2069\u200f",
    "\udcff", "\ud800", "é\u0301", "x" * 5000, "tk_gemm_panel(", "tk_parallel_for(", "m0", "v1",
    "a0", "h0", "t0", "m0[0] = 1;", "static APART void x_repeated0(", "ﬁ",
)  # fmt: skip
"""Pieces that mean something to C, to Python, to a terminal or to the generators."""

NAMES = (
    "memory", "leaves", "args", "run", "quick", "missed", "gone", "where", "address", "laid",
    "copy", "result", "constant", "copyto", "empty", "partial", "truth", "before", "read", "leaf",
    "tick", "last_write", "rebound", "read_before", "references", "Stale", "watched0", "guards",
    "last_change", "kind", "mode_now", "type0", "x0", "part0", "part0_0", "part0_repeated0", "many",
    "results", "steps", "roots", "tk_parallel_for", "tk_gemm", "tk_self", "EXPORT", "APART",
    "restrict", "main", "start", "stop", "i0", "j", "v12", "m3", "a1", "errno", "I", "M_PI",
    "M_SQRT1", "INFINITY", "NAN", "int64_t", "double", "int", "sum", "best", "lane", "row",
    "class_", "for_", "None_", "__import__", "__builtins__", "__debug", "exec", "print", "global_",
    "x_17", "x_17_i", "_", "__", "값", "é", "ﬁ",
)  # fmt: skip
"""Identifiers that generated programs use, or that C or Python give a meaning."""


def attacks(mark: Path, header: Path) -> list[str]:
    """Texts that create the file `mark`, or include `header`, where they are compiled or run."""
    shell = f'extern int system(const char *); system("touch {mark}");'
    starting = f"__attribute__((constructor)) static void bad(void) {{ {shell} }}"
    python = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    return [
        f"*/ {shell} /*",
        f"*/ }} {starting} /*",
        f"??/\n*/ {starting} /*",
        f"\\\n{starting}",
        f"\n{starting}\n",
        f'*/\n#include "{header}"\n/*',
        f'\n#include "{header}"\n',
        f'\r#include "{header}"\r',
        f"??=include <{header}>",
        f"\n{python}\n",
        f"\n    {python}  #",
        f"\r{python}\r",
        f"\f{python}",
        f"\u2028{python}\u2028",
        f"); {python} #",
        f"x; {python}",
        f"'); {python} #",
        f'"); {python} #',
        f"', {python}, '",
        f"x := {python}",
        f"{{{python}}}",
    ]


pieces = st.sampled_from(PLAIN) | st.sampled_from(NAMES) | st.text(max_size=20)
texts = st.lists(pieces, max_size=6).map("".join)
