"""`python -m tinygrad_kr doctor`: what the package finds on this machine, and what to do.

Each check is a function that yields findings. A check that raises is a finding too, so that the
command ends with a report whatever is broken.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinygrad_kr._version import __version__
from tinygrad_kr.data import download
from tinygrad_kr.data.mnist import files as mnist_files
from tinygrad_kr.data.mnist import searched_folders
from tinygrad_kr.language import Text, same
from tinygrad_kr.native import blas, cache, compiler, cpu, deadline
from tinygrad_kr.native.foreign import why_never
from tinygrad_kr.native.kernels import has_kernels
from tinygrad_kr.tensor import Tensor

__all__ = ["doctor"]

COMPILER_SECONDS, ZIG_SECONDS = 20.0, 120.0
"""Most seconds for one compiler, which may hang. The first run of zig builds a C library."""

OK, MISSING, BROKEN = "ok", "--", "!!"


class Finding(NamedTuple):
    """What a check found.

    mark: OK; MISSING, where the package does without; BROKEN, where something that is there or was
    asked for does not work. advice: what to do.
    """

    mark: str
    subject: Text
    found: Text
    advice: Text | None = None

    def lines(self, lang: str) -> list[str]:
        """The finding as plain text."""
        texts = [getattr(self.subject, lang) + ": " + getattr(self.found, lang)]
        if self.advice is not None:
            texts.append("-> " + getattr(self.advice, lang))
        first, *others = "\n".join(texts).splitlines()
        return [f"{self.mark}  {first}", *(f"      {line}" for line in others)]


Check = Callable[[], Iterable[Finding]]


def doctor(lang: str) -> int:
    """Print every finding. Returns 0 if nothing is broken, else 1."""
    _print(f"tinygrad_kr {__version__}: {Path(__file__).parent}")
    broken = 0
    for finding in findings(CHECKS):
        broken += finding.mark == BROKEN
        _print("\n".join(finding.lines(lang)))
    _print(getattr(_conclusion(broken), lang))
    return int(broken > 0)


def _conclusion(broken: int) -> Text:
    legend = "(--: not there, not needed; !!: broken; ->: what to do)"
    legend_ko = "(--: 없지만 없어도 됨, !!: 고장, ->: 할 일)"
    if not broken:
        return Text(f"Nothing is broken. {legend}", f"고장 난 것이 없습니다. {legend_ko}")
    return Text(f"Broken: {broken}. {legend}", f"고장: {broken}. {legend_ko}")


def _print(text: str) -> None:
    """Print, also where the output has no Korean letters, is read no further, or is full."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  until the end


def findings(checks: Sequence[tuple[Text, Check]]) -> Iterator[Finding]:
    """The findings of all checks; an error of a check is one."""
    for subject, check in checks:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield from check()
            except Exception as error:
                yield Finding(
                    BROKEN, subject, _error(error), _NO_HOME if _homeless(error) else None
                )


_NO_HOME = Text(
    "set HOME, or TINYGRAD_KR_CACHE for compiled code and TINYGRAD_KR_DATA for data",
    "HOME을 설정하세요. 또는 컴파일한 코드의 폴더를 TINYGRAD_KR_CACHE로, "
    "데이터의 폴더를 TINYGRAD_KR_DATA로 알려 주세요",
)


def _homeless(error: Exception) -> bool:
    """Whether `Path.home` raised this: there is no home folder."""
    return isinstance(error, RuntimeError) and "home" in str(error)


def _error(error: Exception) -> Text:
    if isinstance(error, compiler.BuildError):
        return same(error.briefly())
    return same(f"{type(error).__name__}: {compiler.shortened(str(error))}")


# ------------------------------------------------------------------ Python, NumPy, BLAS, processor

PYTHON, NUMPY, ENGINE = Text("Python", "파이썬"), same("NumPy"), Text("derivatives", "미분")
BLAS, PROCESSOR = same("BLAS"), Text("processor", "프로세서")


def _python() -> Iterator[Finding]:
    bits = 64 if sys.maxsize > 2**32 else 32
    version = f"{platform.python_implementation()} {platform.python_version()}, {bits} bit"
    system = f"{platform.system() or sys.platform} {platform.machine()}".strip()
    found = same(f"{version}, {system}, {sys.executable or '?'}")
    yield Finding(OK, PYTHON, found)


def _numpy() -> Iterator[Finding]:
    found = same(f"{np.__version__}, {os.path.dirname(np.__file__)}")
    if int(np.__version__.split(".")[0]) < 2:
        yield Finding(BROKEN, NUMPY, found, same('pip install "numpy>=2"'))
    else:
        yield Finding(OK, NUMPY, found)


def _engine() -> Iterator[Finding]:
    x = Tensor([3.0, -2.0], requires_grad=True)
    (x * x).sum().backward()
    if x.grad is not None and x.grad.tolist() == [6.0, -4.0]:
        yield Finding(OK, ENGINE, Text("right for x * x", "x * x에서 맞습니다"))
    else:
        advice = Text("install tinygrad_kr again", "tinygrad_kr을 다시 설치하세요")
        yield Finding(BROKEN, ENGINE, Text(f"of x * x: {x.grad}", f"x * x: {x.grad}"), advice)


def _blas() -> Iterator[Finding]:
    built: Any = np.show_config(mode="dicts") or {}
    library = built.get("Build Dependencies", {}).get("blas", {})
    name = f"{library.get('name', '?')} {library.get('version', '')}".strip()
    threads, kernel = blas.threads(), blas.kernel()
    settings = (*cpu.LIMITS, "MKL_NUM_THREADS", "OPENBLAS_CORETYPE")
    limits = {name: os.environ[name] for name in settings if name in os.environ}
    english, korean = [name], [name]
    if threads is not None:
        english.append(f"threads: {threads}")
        korean.append(f"스레드: {threads}")
    if kernel:
        english.append(f"kernel: {kernel}")
        korean.append(f"커널: {kernel}")
    english += [f"{name}={value}" for name, value in limits.items()]
    korean += [f"{name}={value}" for name, value in limits.items()]
    yield Finding(OK, BLAS, Text(", ".join(english), ", ".join(korean)))


_VECTORS = {
    "AVX2": {"avx2", "x86_v3"},
    "AVX-512": {"avx512f", "x86_v4"},
    "FMA": {"fma", "fma3", "x86_v3"},
    "NEON": {"asimd", "neon"},
    "SVE": {"sve"},
    "VSX": {"vsx"},
    "RVV": {"rvv"},
}
"""Vector instructions, as Linux and NumPy name them."""


def _processor() -> Iterator[Finding]:
    features = set(cpu.machine().lower().split())
    vectors = [name for name, words in _VECTORS.items() if words & features]
    count = f"{cpu.helpers() + 1}/{os.cpu_count() or 1}"
    names = ", ".join(vectors)
    english = f"{names or 'no vectors known'}; threads of our C, of all cores: {count}"
    korean = f"{names or '아는 벡터 명령 없음'}. C 스레드/전체 코어: {count}"
    if has_kernels():
        english += f"; vectors of our C: {cpu.vectors()}; it may multiply large matrices"
        korean += f". C의 벡터: {cpu.vectors()}. 큰 행렬 곱은 C로 계산할 수 있음"
    yield Finding(OK, PROCESSOR, Text(english, korean))


# ------------------------------------------------------------------ compiler

COMPILER = Text("C compiler", "C 컴파일러")
_NONE = Text(
    "none; compiled steps run as NumPy calls", "없음. 컴파일한 스텝은 NumPy 호출로 실행됩니다"
)
_INSTALL = Text(
    'pip install "tinygrad_kr[compile]", or your system\'s: apt install gcc libc6-dev, '
    "xcode-select --install; or set CC",
    'pip install "tinygrad_kr[compile]"을 실행하거나, 시스템의 컴파일러를 설치하거나'
    "(apt install gcc libc6-dev, xcode-select --install), CC를 설정하세요",
)


def _compiler() -> Iterator[Finding]:
    """The first that works, as `find_compiler` looks for it; before it those that do not."""
    if (reason := why_never()) is not None:
        found = Text(f"{_NONE.en}: {reason}", f"{_NONE.ko}: {reason}")
        yield Finding(MISSING, COMPILER, found)
        return
    for place in compiler.places():
        try:
            command = compiler.command_of(place)
            yield deadline.within(_seconds(place), _working, command)
            return
        except compiler.NotInstalledError as error:
            if place == "$CC":
                yield _broken_compiler(place, error)
        except (compiler.BuildError, deadline.TooLongError, OSError) as error:
            yield _broken_compiler(place, error)
    yield Finding(MISSING, COMPILER, _NONE, _INSTALL)


def _seconds(place: str) -> float:
    return ZIG_SECONDS if place == "ziglang" else COMPILER_SECONDS


def _broken_compiler(place: str, error: Exception) -> Finding:
    if isinstance(error, deadline.TooLongError):
        after = f"{_seconds(place):g}"
        problem = Text(f"no answer after {after} s", f"{after}초가 지나도 답이 없습니다")
    else:
        problem = _error(error)
    found = Text(f"{place}: {problem.en}", f"{place}: {problem.ko}")
    advice = Text("mend it, or set CC to another", "고치거나, CC로 다른 컴파일러를 알려 주세요")
    return Finding(BROKEN, COMPILER, found, advice)


_CALL = """\
import ctypes, sys
function = getattr(ctypes.CDLL(sys.argv[1]), sys.argv[2])
function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double]
print("exp(1) =", function(1.0))
"""


def _working(command: tuple[str, ...]) -> Finding:
    """Build a function and call it in a child process; BuildError if that fails."""
    found = compiler.verified(command)
    with tempfile.TemporaryDirectory(prefix="tinygrad_kr-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        version = _version(command, folder)
        library = compiler.compiled({compiler.SOURCE: compiler.TRIAL}, found, folder)
        python = compiler.python()
        if python is not None:
            line = [*python, "-S", "-c", _CALL, str(library), compiler.TRIAL_NAME]
            code, output, errors = compiler.run(line, folder, folder)
            if code or not output.startswith("exp(1) = 2.71828182845"):
                problem = f"what it builds computes nothing (exit {code})"
                raise compiler.BuildError(problem, line[:1], output + errors)
    name = " ".join(command)
    return Finding(
        OK,
        COMPILER,
        Text(
            f"{name}, {version}; it built a function, which ran",
            f"{name}, {version}. 함수 하나를 빌드해 실행했습니다",
        ),
    )


def _version(command: tuple[str, ...], folder: Path) -> str:
    try:
        _, output, errors = compiler.run([*command, "--version"], folder, folder, 5.0)
    except compiler.BuildError:
        return "?"
    first, *_ = [*(output or errors).splitlines(), "?"]
    return compiler.shortened(first)


# ------------------------------------------------------------------ cache, data, extras

CACHE, DATA, EXTRAS = Text("cache", "캐시"), same("MNIST"), Text("extras", "추가 기능")


def _cache() -> Iterator[Finding]:
    """Whether compiled code can be kept, and how much there is."""
    folder = cache.cache_folder()
    try:
        trusted = cache.trusted_cache()
        with cache.work_folder(trusted) as work:
            (work / "trial").write_bytes(b"\0")
    except OSError as error:
        advice = Text(
            "mend the folder, or set TINYGRAD_KR_CACHE to one that is yours; until then each "
            "process compiles anew",
            "폴더를 고치거나 TINYGRAD_KR_CACHE로 자신의 폴더를 알려 주세요. "
            "그때까지는 프로세스마다 새로 컴파일합니다",
        )
        found = Text(f"{folder} cannot be used: {error}", f"{folder}: 쓸 수 없습니다: {error}")
        yield Finding(BROKEN, CACHE, found, advice)
        return
    count, size = cache.usage(trusted)
    megabytes = f"{size / 2**20:.1f}"
    limit = f"{cache.LIMIT_BYTES / 2**20:.0f}"
    english = f"{folder}, writable, files: {count}, {megabytes} of at most {limit} MiB"
    korean = f"{folder}, 쓸 수 있음, 파일 {count}개, {megabytes} MiB(최대 {limit})"
    yield Finding(OK, CACHE, Text(english, korean))


def _data() -> Iterator[Finding]:
    shared = os.environ.get("TINYGRAD_KR_DATA")
    if shared and not Path(shared).is_dir():
        found = Text(
            f"TINYGRAD_KR_DATA={shared} is no folder", f"TINYGRAD_KR_DATA={shared}: 폴더가 아닙니다"
        )
        advice = Text("create or unset it", "폴더를 만들거나 설정을 지우세요")
        yield Finding(BROKEN, DATA, found, advice)
    files = mnist_files()
    damaged = [f"{path}: {why}" for path, why in _damage(files)]
    missing = [published.name for published, path in files if path is None]
    if damaged:
        advice = Text(
            "delete what is damaged; tk.data.mnist() downloads it again",
            "손상된 파일을 지우세요. tk.data.mnist()가 다시 내려받습니다",
        )
        yield Finding(BROKEN, DATA, same("\n".join(damaged)), advice)
    elif missing:
        yield Finding(MISSING, DATA, _not_there(missing), _how_to_get())
    else:
        folders = ", ".join(sorted({str(path.parent) for _, path in files if path}))
        yield Finding(OK, DATA, Text(f"whole, in {folders}", f"온전함, {folders}"))


def _damage(files: Sequence[tuple[download.Published, Path | None]]) -> Iterator[tuple[Path, str]]:
    for published, path in files:
        if path is not None:
            try:
                download.verify(str(path), published)
            except (OSError, ValueError) as error:
                yield path, str(error)


def _not_there(missing: Sequence[str]) -> Text:
    names = ", ".join(missing)
    return Text(f"not here: {names}", f"없는 파일: {names}")


def _how_to_get() -> Text:
    searched = searched_folders()
    if "cache" not in searched:
        return _NO_HOME
    folders = ", ".join(map(str, searched.values()))
    if (why := download.why_no_https()) is not None:
        return Text(f"put the files into {folders} ({why})", f"{folders}에 파일을 넣으세요 ({why})")
    return Text(
        f"tk.data.mnist() downloads them; or put them into {folders}",
        f"tk.data.mnist()가 내려받습니다. 또는 {folders}에 넣으세요",
    )


FOR_DEVELOPERS = {"bench", "docs", "examples", "lint", "parity", "proof", "test"}


def _extras() -> Iterator[Finding]:
    """The packages of the extras that are for users, as this package's metadata lists them."""
    from importlib import metadata

    try:
        required = metadata.requires("tinygrad_kr") or []
    except metadata.PackageNotFoundError:
        found = Text(
            "not known: tinygrad_kr was not installed by pip",
            "pip으로 설치하지 않아 알 수 없습니다",
        )
        yield Finding(MISSING, EXTRAS, found)
        return
    there, missing = [], []
    for package, extra in dict(_by_package(required)).items():
        try:
            there.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            missing.append(f'{package}: pip install "tinygrad_kr[{extra}]"')
    names = ", ".join(there)
    found = Text(names or "none installed", names or "설치된 것 없음")
    advice = same("\n-> ".join(missing)) if missing else None
    yield Finding(MISSING if missing else OK, EXTRAS, found, advice)


def _by_package(required: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each package and its extra, of lines like `tqdm>=4.66; extra == "progress"`."""
    import re

    for line in required:
        extra = re.search(r"extra == ['\"]([^'\"]+)['\"]", line)
        name = re.match(r"[A-Za-z0-9._-]+", line)
        if extra and name and extra[1] not in FOR_DEVELOPERS:
            yield name[0], extra[1]


CHECKS: Sequence[tuple[Text, Check]] = (
    (PYTHON, _python),
    (NUMPY, _numpy),
    (ENGINE, _engine),
    (BLAS, _blas),
    (PROCESSOR, _processor),
    (COMPILER, _compiler),
    (CACHE, _cache),
    (DATA, _data),
    (EXTRAS, _extras),
)
