"""The C compiler of this machine: search, flags and runs."""

from __future__ import annotations

import os
import re
import shlex
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import finalize

from tinygrad_kr._version import __version__
from tinygrad_kr.native import deadline
from tinygrad_kr.native.cache import (
    SUFFIX,
    digest,
    private_folder,
    read_note,
    usable_cache,
    warn_once,
    work_folder,
    write_note,
)
from tinygrad_kr.native.cpu import architecture, helpers, is_arm, machine
from tinygrad_kr.native.foreign import ctypes, why_never

if TYPE_CHECKING:
    import subprocess

Result = TypeVar("Result")

SOURCE = "program.c"
TIMEOUT_SECONDS = 120.0
LOADING_SECONDS = 30.0
LARGE_TEXT = 100_000
"""Threshold: text from which GCC is asked to optimise it in halves, on two cores; characters."""
IN_HALVES = (
    "-flto=2",
    "-flto-partition=balanced",
    "--param=lto-partitions=2",
    "--param=lto-min-partition=1000",
)
QUICK = (
    "-pipe",
    "-O1",
    "-fexpensive-optimizations",
    "-ftree-loop-vectorize",
    "-fpeel-loops",
    "-fversion-loops-for-strides",
    "-floop-unroll-and-jam",
    "-fschedule-insns2",
    "--param=max-inline-insns-single=200",
    "--param=early-inlining-insns=14",
    "--param=inline-min-speedup=15",
)
"""What of GCC's -O3 makes generated loops fast: they are as fast, and built in 0.6 of the time."""
TILES = (
    "-O2",
    "-fvect-cost-model=dynamic",
    "-fno-code-hoisting",
    "-fno-crossjumping",
    "-fno-gcse",
    "-fno-ipa-cp",
    "-fno-ipa-icf",
    "-fno-ipa-sra",
    "-fno-isolate-erroneous-paths-dereference",
    "-fno-optimize-strlen",
    "-fno-thread-jumps",
    "-fno-tree-pre",
    "-fno-tree-tail-merge",
    "-fno-tree-vrp",
)
"""After `QUICK`, for kernels with tiles of vectors. These are as fast as with -O3, and built in 0.7
of the time; with `QUICK` alone, products of small depth are slower by up to 18 %."""
FULL = ("-O3",)
"""After `QUICK`, for kernels that need every pass."""
LINES_SHOWN, LONGEST_LINE, LONGEST_READ = 12, 300, 2000

TRIAL_NAME = "tinygrad_kr_trial"
TRIAL = f"""\
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef _WIN32
__declspec(dllexport)
#endif
double {TRIAL_NAME}(double x) {{ return exp(x); }}
"""


class Compiler(NamedTuple):
    """A C compiler that has built a loadable library.

    command: the words that start it. flags: the options it accepts.
    identity: a digest of its files, the machine and the version of this package.
    """

    command: tuple[str, ...]
    flags: tuple[str, ...]
    identity: str = ""

    def at(self, level: Sequence[str]) -> Compiler:
        """The same with other optimisations, where it was not asked for all of them."""
        return self._replace(flags=(*self.flags, *level)) if "-O1" in self.flags else self

    def line(self, source: str, library: str) -> list[str]:
        """The command that compiles `source` to `library`. Linkers need `-l` flags last."""
        options = [flag for flag in self.flags if not flag.startswith("-l")]
        libraries = [flag for flag in self.flags if flag.startswith("-l")]
        return [*self.command, *options, "-o", library, source, *libraries]


class BuildError(RuntimeError):
    """A failed build.

    problem: one line. command: the command that ran. output: what it printed.
    """

    fix = (
        "this is a fault of the generated program or of the compiler: please report it with "
        "step.source; another compiler in $CC may do meanwhile"
    )

    def __init__(self, problem: str, command: Sequence[str] = (), output: str = "") -> None:
        super().__init__(problem, tuple(command), output)
        self.problem, self.command, self.output = problem, tuple(command), output

    def __str__(self) -> str:
        said = [shortened(line) for line in self.output.splitlines()]
        unsaid = len(said) - LINES_SHOWN
        more = [f"... and {unsaid} lines more"] if unsaid > 0 else []
        ran = [f"command: {shlex.join(self.command)}"] if self.command else []
        return "\n  ".join([self.problem, *ran, *said[:LINES_SHOWN], *more, self.fix])

    def briefly(self) -> str:
        """The problem and the first line of the compiler's output."""
        return ": ".join([self.problem, *map(shortened, self.output.splitlines()[:1])])


def shortened(line: str) -> str:
    """A line for a message: without control characters, at most LONGEST_LINE long."""
    shown = "".join(c if c.isprintable() else " " for c in line[: LONGEST_LINE + 1])
    return shown if len(shown) <= LONGEST_LINE else f"{shown[: LONGEST_LINE - 3]}..."


_LOCATED = re.compile(
    r"(?:In file included from | +from )?(?P<file>(?:[A-Za-z]:)?[^\s|].*?)"
    r"(?::(?P<line>\d+)(?::\d+)*[:,]|\((?P<row>\d+)(?:,\d+)?\) ?:)"
    r"(?: (?P<kind>(?:fatal )?error|warning|note):)?"
)
_TOOL = re.compile(
    r"(?:\S*/)?(?:collect2|cc1|ld|ld\.\w+|lld\S*|as|gcc\S*|cc|clang\S*|zig)(?:\.exe)?: "
)
_ESCAPES = re.compile("\x1b\\[[0-9;]*[A-Za-z]|\x1b\\].*?(?:\x07|\x1b\\\\)")


def said(output: str, texts: Iterable[str]) -> str:
    """A compiler's output that quotes no files but the generated ones, whose names are `texts`.

    A message about another file is reduced to the file and line, because it may quote that file.
    """
    own, lines, foreign = set(texts), [], False
    for whole in output.splitlines():
        line = _ESCAPES.sub("", whole[:LONGEST_READ])
        if located := _LOCATED.match(line):
            foreign = re.split(r"[\\/]", located["file"])[-1] not in own
            if foreign:
                place = f"{located['file']}:{located['line'] or located['row']}"
                line = f"{place}: {located['kind'] or 'included'}"
        elif _TOOL.match(line):
            foreign = False
        elif foreign or line.startswith(("[{", '{"')):  # JSON: all files in one line
            continue
        lines.append(line)
    return "\n".join(lines)


class NoCompilerError(BuildError):
    """No working C compiler was found. output: the reason for each place that was searched."""

    def __init__(self, problem: str, command: Sequence[str] = (), output: str = "") -> None:
        super().__init__(problem, command, output)
        self.fix = remedy()


def remedy() -> str:
    """What to do where no compiler works; where none can, why that is so."""
    return why_never() or (
        'pip install "tinygrad_kr[compile]" brings one; so does your system '
        "(apt install gcc libc6-dev, xcode-select --install); or set $CC; then start Python again"
    )


class NotInstalledError(BuildError):
    """There is no compiler in one of the `places`."""


class Search(NamedTuple):
    """The result of a search for compilers. skipped: the rejected ones, with reasons."""

    compiler: Compiler | None
    skipped: tuple[str, ...]


def find_compiler() -> Compiler | None:
    """The first that works of `$CC`, `cc`, `gcc`, `clang`, and `zig cc` of the package ziglang.

    `$CC` may hold arguments ("ccache gcc -m64"). A compiler works if it builds a function of one
    line that loads. The cache keeps the answer until the compiler's file changes, so later
    processes do not run the compiler. `skipped_compilers()` gives the reasons against the others.
    """
    return searched().compiler


def likely() -> Compiler | None:
    """The compiler that `find_compiler` gives, or will give if it stands its trial.

    The trial of one that the cache does not know begins in another thread; `searched` waits for it.
    """
    where = _where_to_look()
    known = _searches.get(where)
    untried = None if known is not None else _untried()
    if untried is None:
        return searched().compiler
    if where not in _begun:
        _begun.add(where)
        with suppress(RuntimeError):  # no new thread: who waits for the trial makes it
            threading.Thread(target=searched, name="trial of the compiler", daemon=True).start()
    return untried


def _untried() -> Compiler | None:
    """The first compiler, if only a trial tells whether it works."""
    if not sys.platform.startswith("linux") or why_never() is not None:
        return None
    for place in places():
        try:
            command = command_of(place)
        except BuildError:
            continue
        if _remembered(command) is None:
            return Compiler(command, _wanted(command)[0], _identity(command))
        return None
    return None


def skipped_compilers() -> tuple[str, ...]:
    """The places that `find_compiler` rejected, each with the reason."""
    return searched().skipped


def searched() -> Search:
    """The search for this `$CC` and `$PATH`, done once in a process."""
    with _searching:
        known = _searches.get(_where_to_look())
        return known if known is not None else search()


def search(afresh: bool = False) -> Search:
    """Search the places in order for a working compiler. afresh: ignore answers in the cache."""
    with _searching:
        where = _where_to_look()
        _searches[where] = _look(places(), afresh)
        return _searches[where]


def places() -> tuple[str, ...]:
    """Where compilers are looked for, in order."""
    return ("$CC",) * bool(_where_to_look()[0]) + ("cc", "gcc", "clang", "ziglang")


def _look(places: tuple[str, ...], afresh: bool) -> Search:
    if why_never() is not None:
        return Search(None, ())
    skipped: list[str] = []
    for place in places:
        try:
            command = command_of(place)
            known = None if afresh else _remembered(command)
            return Search(known or verified(command), tuple(skipped))
        except BuildError as error:
            skipped.append(f"{place}: {error.briefly()}")
    return Search(None, tuple(skipped))


def forget_searches() -> None:
    _searches.clear()
    _begun.clear()


_searches: dict[tuple[str, str], Search] = {}
_begun: set[tuple[str, str]] = set()
"""Where a search was begun in another thread."""
_searching = threading.RLock()


def _where_to_look() -> tuple[str, str]:
    return os.environ.get("CC", "").strip(), os.environ.get("PATH", "")


def command_of(place: str) -> tuple[str, ...]:
    """The words that start the compiler of one place; BuildError if there is none."""
    if place == "ziglang":
        return _zig()
    first, *arguments = _words(os.environ["CC"].strip()) if place == "$CC" else [place]
    found = _program(os.path.expanduser(first))
    if found is None:
        raise NotInstalledError(f"{first} is not on the PATH")
    return (os.path.abspath(found), *arguments)


def _program(name: str) -> str | None:
    """The path of a program by `$PATH`: `shutil.which` without its slow import."""
    if os.name != "posix":
        import shutil

        return shutil.which(name)
    path = os.environ.get("PATH", os.defpath)
    for folder in [""] if os.sep in name else path.split(os.pathsep):
        program = os.path.join(folder, name)
        if os.path.isfile(program) and os.access(program, os.X_OK):
            return program
    return None


def _words(line: str) -> list[str]:
    if os.path.isfile(line):
        return [line]
    try:
        if os.name == "nt":  # a backslash separates folders
            return [word.strip('"') for word in shlex.split(line, posix=False)]
        return shlex.split(line)
    except ValueError as error:
        raise BuildError(f"{line!r} cannot be read as a command: {error}") from error


def _zig() -> tuple[str, ...]:
    """`zig cc`, started directly if possible instead of through a Python process."""
    import importlib.util

    package = importlib.util.find_spec("ziglang")
    if package is None or not package.submodule_search_locations:
        raise NotInstalledError("the package is not installed")
    program = Path(package.submodule_search_locations[0], "zig.exe" if os.name == "nt" else "zig")
    if program.is_file():
        return (str(program), "cc")
    return (sys.executable, "-m", "ziglang", "cc")


def verified(command: tuple[str, ...]) -> Compiler:
    """The compiler of `command`, with the flags that work; BuildError if none do."""
    _refuse_stub(command[0])
    identity = _identity(command)
    wanted = _wanted(command)
    for given in wanted:
        compiler = Compiler(command, given, identity)
        try:
            _try(compiler)
            break
        except BuildError:
            if given is wanted[-1]:
                raise
    if (folder := usable_cache()) is not None:
        with suppress(OSError):
            write_note(_note(folder, identity), compiler.flags)
    return compiler


def _wanted(command: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The flags to try with a compiler, best first."""
    quick = [flags(quick=True)] if _is_gcc(command[0]) else []
    return [*quick, flags(), flags(portable=True)]


def _is_gcc(program: str) -> bool:
    """Whether the file of a compiler is GCC's, by its name. macOS calls Clang so."""
    name = os.path.basename(os.path.realpath(program))
    return sys.platform != "darwin" and "gcc" in name and "clang" not in name


def _refuse_stub(program: str) -> None:
    """Raise BuildError for Apple's /usr/bin/cc without Xcode, which opens an installer."""
    if sys.platform == "darwin" and program.startswith("/usr/bin/"):
        code, _, _ = run(["/usr/bin/xcode-select", "-p"], Path("/"))
        if code:
            raise NotInstalledError("Xcode's command line tools are not installed")


def flags(portable: bool = False, quick: bool = False) -> tuple[str, ...]:
    """The flags of a build. portable: for a compiler that rejects some of the usual ones. quick:
    for GCC.

    No flag changes results for NaN, infinities or -0. On ARM `-march` is called `-mcpu`. On Windows
    the C library has the mathematical functions, and code needs no `-fPIC`.
    """
    system = () if sys.platform == "win32" else ("-fPIC", "-lm")
    if portable:
        return ("-shared", "-std=c99", "-O2", "-ffp-contract=off", *system)
    return (
        "-shared",
        "-std=c99",
        *(QUICK if quick else FULL),
        "-mcpu=native" if is_arm() else architecture(),
        "-fno-math-errno",
        "-fno-trapping-math",
        "-ffp-contract=off",
        # With AVX-512, GCC 12 mixes up two short rows that are copied side by side.
        "-fno-tree-slp-vectorize",
        "-Werror=implicit-function-declaration",
        *system,
    )


def _try(compiler: Compiler) -> None:
    """Build one function and load it in a child process: code for another machine may crash."""

    def attempt(folder: Path) -> None:
        with work_folder(folder) as work:
            load_apart(compiled({SOURCE: TRIAL}, compiler, work))

    in_some_folder(attempt)


_LOADER = """\
import ctypes, sys
try:
    library = ctypes.CDLL(sys.argv[1])
except OSError as error:
    sys.exit(f"it does not load: {error}")
if not hasattr(library, sys.argv[2]):
    sys.exit("it lacks the function that was compiled")
print(sys.argv[3])
"""


def load_apart(library: Path) -> None:
    """Load a library in a child process, and look up the trial's function.

    Loading may end the process (a sanitizer) or wait for a licence. If no Python can be started, as
    in some programs that embed it, this process loads the library.
    """
    known = python()
    if known is None:
        if not hasattr(load(library), TRIAL_NAME):
            raise BuildError("what it builds lacks the function that was compiled")
        return
    mark = os.urandom(16).hex()
    line = [*known, "-S", "-c", _LOADER, str(library), TRIAL_NAME, mark]
    code, output, errors = run(line, library.parent, library.parent, deadline.left(LOADING_SECONDS))
    if code or mark not in output.splitlines():
        end = f"exit {code}" if code else "the process that loads it ends"
        raise BuildError(f"what it builds cannot be used ({end})", line[:1], errors.lstrip())


def python() -> list[str] | None:
    """The words that start a Python process; None if another program embeds this Python."""
    program = sys.executable or ""
    known = _PYTHON.match(os.path.basename(program)) and os.access(program, os.X_OK)
    return [program, "-P", "-s"] if known else None


_PYTHON = re.compile(r"(python|pypy)[0-9.]*[a-z]*(\.exe)?$", re.IGNORECASE)


def _remembered(command: tuple[str, ...]) -> Compiler | None:
    """This compiler from the cache, without starting it; None if the cache lacks it."""
    if (folder := usable_cache()) is None:
        return None
    identity = _identity(command)
    try:
        return Compiler(command, tuple(read_note(_note(folder, identity))), identity)
    except (OSError, ValueError):
        return None


def _identity(command: tuple[str, ...]) -> str:
    stamps = [_stamp(word) for word in command]
    return digest(map(digest, (command, stamps, flags(), QUICK, [machine(), __version__])))


def _note(folder: Path, identity: str) -> Path:
    """The file with a compiler's flags; its name depends on variables that affect loading."""
    loading = [f"{name}={value}" for name, value in sorted(os.environ.items()) if _loads(name)]
    return folder / f"{digest([identity, *loading])}.compiler"


def _loads(name: str) -> bool:
    """Whether an environment variable affects which libraries a process can load."""
    return name.startswith(("LD_", "DYLD_")) or name.endswith("SAN_OPTIONS")


def _stamp(word: str) -> str:
    """Path, time of change and size of the file or program `word`; empty if there is none."""
    found = word if os.path.isfile(word) else _program(word)
    if found is None:
        return ""
    status = os.stat(found)
    return f"{os.path.realpath(found)} {status.st_mtime_ns} {status.st_size}"


def compiled(texts: Mapping[str, str], compiler: Compiler, work: Path) -> Path:
    """Write `texts` into the folder `work` and compile them there; the path of the library."""
    for name, text in texts.items():
        (work / name).write_bytes(text.encode("utf-8", "backslashreplace"))
    library = work / f"program{SUFFIX}"
    line = compiler.line(SOURCE, library.name)
    code, output, errors = 1, "", ""
    if len(texts[SOURCE]) >= LARGE_TEXT and helpers():
        halves = compiler._replace(flags=(*compiler.flags, *IN_HALVES))
        code, output, errors = run(halves.line(SOURCE, library.name), work, temporary=work)
    if code:  # also where a compiler does not know those flags
        code, output, errors = run(line, work, temporary=work)
    if code:
        problem = f"the C compiler failed (exit {code})"
        raise BuildError(problem, line, said(errors or output, texts))
    if not library.is_file() or not library.stat().st_size:
        raise BuildError("the C compiler wrote no library", line, said(errors or output, texts))
    return library


class Library(ctypes.CDLL):
    """A loaded library. `library["name"]` is a function that keeps it loaded.

    A function that ctypes looks up is in a reference cycle, which the garbage collector must free.
    """

    def __getitem__(self, name: Any) -> Any:
        try:
            found = ctypes.c_char.in_dll(self, name)
        except ValueError as error:
            raise AttributeError(f"the library has no function {name!r}") from error
        function: Any = self._FuncPtr(ctypes.addressof(found))
        function.__name__, function.library = name, self
        return function


class HoldingLibrary(Library):
    """The same library for short calls: they keep the GIL."""

    _func_flags_ = ctypes.PyDLL._func_flags_

    def __init__(self, library: ctypes.CDLL) -> None:
        super().__init__("", handle=library._handle)
        self._owner = library


def load(library: Path) -> Library:
    """Load a library. Unloads it when nothing refers to it or its functions, but not at exit."""
    try:
        loaded = Library(str(library))
    except OSError as error:
        raise BuildError(f"what the C compiler built does not load: {error}") from error
    finalize(loaded, _unload, loaded._handle).atexit = False
    return loaded


def _unload(handle: int) -> None:
    import _ctypes

    if sys.platform == "win32":
        _ctypes.FreeLibrary(handle)
    else:
        _ctypes.dlclose(handle)


def in_some_folder(attempt: Callable[[Path], Result]) -> Result:
    """The result of `attempt` in the cache or, if that fails, in a private temporary folder.

    The cache may be on a full disk or in a home mounted `noexec`, which looks like a failure of the
    compiler.
    """
    failure: Exception | None = None
    if (folder := usable_cache()) is not None:
        try:
            return attempt(folder)
        except (OSError, BuildError) as error:
            failure = error
    try:
        result = attempt(private_folder())
    except OSError as error:
        raise BuildError(f"there is no folder to build in: {error}") from error
    if failure is not None:
        why = failure.briefly() if isinstance(failure, BuildError) else str(failure)
        warn_once(f"nothing can be built in the cache, {folder}", why)
    return result


def run(
    line: Sequence[str],
    folder: Path,
    temporary: Path | None = None,
    seconds: float | None = None,
) -> tuple[int, str, str]:
    """Run a command in `folder`, without a shell: its exit status, output and errors.

    temporary: for the compiler's own temporary files, so that they are private and removed too.
    seconds: a longer run is killed; by default TIMEOUT_SECONDS, or what is left of `deadline`.
    """
    seconds = deadline.left(TIMEOUT_SECONDS) if seconds is None else seconds
    import subprocess

    try:
        process = subprocess.Popen(
            line,
            cwd=folder,
            env=_environment(temporary),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0 if os.name == "posix" else None,
        )
    except OSError as error:
        raise BuildError(f"cannot be run: {error}", line) from error
    _running[threading.get_ident()] = process
    with process:
        try:
            output, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            _kill(process)
            deadline.check()
            raise BuildError(f"took longer than {seconds:g} s", line) from None
        except BaseException:
            _kill(process)
            raise
        finally:
            waited_for = _running.pop(threading.get_ident(), None)
    if waited_for is None:
        raise SystemExit(f"{line[0]} was stopped")
    return process.returncode, output.decode("utf-8", "replace"), errors.decode("utf-8", "replace")


_running: dict[int, subprocess.Popen[bytes]] = {}
"""The compiler process of each thread that waits for one."""


def stop(thread: threading.Thread) -> None:
    """Kill the compiler that a thread waits for, which ends the thread."""
    process = _running.pop(thread.ident or 0, None)
    if process is not None:
        _kill(process)
        thread.join(1)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the compiler and its child processes."""
    if sys.platform != "win32":
        import signal

        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def _environment(temporary: Path | None) -> dict[str, str]:
    """The compiler's environment: English messages, and a cache for zig if HOME is read-only."""
    environment = {**os.environ, "LC_ALL": "C"}
    if temporary is not None:
        environment |= dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(temporary))
    if os.name == "posix" and not os.access(os.environ.get("HOME", ""), os.W_OK):
        environment.setdefault("ZIG_GLOBAL_CACHE_DIR", str(private_folder() / "zig"))
    return environment


def _forget_lock() -> None:
    """After fork: another thread may have held the lock, and the child lacks that thread."""
    global _searching
    _searching = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)
