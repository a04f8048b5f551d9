"""연습 문제를 확인합니다. Checks the exercises of a chapter: what is right, what is wrong, and why.

python examples/exercises/check.py 1                  # chapter_1.py
python examples/exercises/check.py 1 --lang ko
python examples/exercises/check.py 1 --file mine.py   # 다른 파일. Another file
"""

from __future__ import annotations

import sys
from pathlib import Path

from exercise import CHAPTERS, FOLDER, exercises, judge, load

import tinygrad_kr as tk
from tinygrad_kr.command_line import LANG, Parser, named_language
from tinygrad_kr.language import LANGUAGES, Text

ABOUT = Text(
    """Checks the exercises of a chapter: what is right, what is wrong, and why.

    python examples/exercises/check.py 1                  # chapter_1.py
    python examples/exercises/check.py 1 --lang ko
    python examples/exercises/check.py 1 --file mine.py   # another file""",
    """한 장의 연습 문제를 확인합니다. 무엇이 맞고, 무엇이 왜 틀렸는지 알려 줍니다.

    python examples/exercises/check.py 1                  # chapter_1.py
    python examples/exercises/check.py 1 --lang ko
    python examples/exercises/check.py 1 --file mine.py   # 다른 파일""",
)
CHAPTER = Text("of the course, 1 to 8", "강좌의 장, 1부터 8까지")
FILE = Text(
    "the answers (default: chapter_N.py here)", "답을 쓴 파일 (기본값: 이 폴더의 chapter_N.py)"
)
SCORE = Text("{right} of {all} are right", "{all}문제 가운데 {right}문제를 맞혔습니다")


def main(argv: list[str] | None = None) -> int:
    """Print a line for each exercise; 0 if all are right, else 1."""
    if (lang := named_language(argv)) is not None:
        tk.set_language(lang)
    parser = Parser(description=ABOUT.say())
    parser.add_argument("chapter", type=int, choices=CHAPTERS, help=CHAPTER.say())
    parser.add_argument("--file", type=Path, help=FILE.say())
    parser.add_argument("--lang", choices=LANGUAGES, help=LANG.say())
    args = parser.parse_args(argv)
    path = (args.file or FOLDER / f"chapter_{args.chapter}.py").resolve()
    try:
        module = load(path)
    except (OSError, SyntaxError) as error:
        parser.exit(2, f"error: {error}\n")
    found, right = exercises(args.chapter), 0
    for number, exercise in enumerate(found, 1):
        verdict = judge(exercise, module, path)
        right += verdict.right
        mark = "O" if verdict.right else "X"
        print(f"{mark} {args.chapter}.{number} {exercise.title.say()} ({exercise.name})")
        print("    " + verdict.said.replace("\n", "\n    "))
    print(SCORE.say(right=right, all=len(found)))
    return int(right < len(found))


if __name__ == "__main__":
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    sys.exit(main())
