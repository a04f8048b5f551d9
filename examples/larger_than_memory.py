"""Training on a table larger than memory: its rows come from files, shuffled by blocks.

The table is made up: 64 features N(0, 1) and the answer of a fixed random net, 0 or 1. It is
written in pieces, as a table must be that memory cannot hold. A net then learns it in one pass, and
the program says how much memory of its own (anonymous memory) that took.

    python examples/larger_than_memory.py                    # 1 GB, half a minute
    python examples/larger_than_memory.py --gigabytes 20     # needs 20 GB of disk
    python examples/larger_than_memory.py --parquet          # row groups of Parquet (needs pyarrow)

The table lies in out/ (--out names another folder) and is removed at the end. Ctrl-C stops the
training and shows what was reached.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lectures.common import DEFAULT, RATE, SEED, launch, options, positive, progress_bar, whole

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import data, nn, no_grad, optim
from tinygrad_kr.language import Text

FEATURES = 64
ROW = 4 * (FEATURES + 1)
"""Bytes of a row: features and answer in float32."""
PIECE = 1 << 16
"""Rows that are made at once: 17 MB."""
GROUP = 1 << 13
"""Rows of a row group of Parquet."""
HELD_OUT = 10_000
"""Rows that test the net, at the end of the table."""
EVERY = 20
"""Steps between two looks at the memory."""


# ------------------------------------------------------------------ the table


def pieces(rows: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Features (n, 64) and answers (n,), float32, until they are `rows`."""
    draw = np.random.default_rng(seed)
    inner = draw.standard_normal((FEATURES, 8), np.float32)
    for start in range(0, rows, PIECE):
        x = draw.standard_normal((min(PIECE, rows - start), FEATURES), np.float32)
        yield x, (np.maximum(x @ inner, 0).sum(1) > 8 * 3.2).astype(np.float32)


def write_npy(folder: Path, rows: int, seed: int) -> list[Path]:
    """Two files, filled piece by piece through a map of them."""
    paths = [folder / "features.npy", folder / "answers.npy"]
    shapes = [(rows, FEATURES), (rows,)]
    files = [
        np.lib.format.open_memmap(path, "w+", np.float32, shape)
        for path, shape in zip(paths, shapes, strict=True)
    ]
    for number, piece in enumerate(pieces(rows, seed)):
        for file, values in zip(files, piece, strict=True):
            file[number * PIECE :][: len(values)] = values
    return paths


def write_parquet(folder: Path, rows: int, seed: int) -> list[Path]:
    """A file with a column of lists and one of numbers, row group by row group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "table.parquet"
    lists = pa.list_(pa.float32(), FEATURES)
    schema = pa.schema({"features": lists, "answer": pa.float32()})
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as file:
        for x, y in pieces(rows, seed):
            values = pa.FixedSizeListArray.from_arrays(x.ravel(), FEATURES)
            file.write_table(pa.table([values, pa.array(y)], schema), row_group_size=GROUP)
    return [path]


# ------------------------------------------------------------------ memory


def anonymous_memory() -> float:
    """Megabytes of memory of this process that no file stands for; NaN where none tells (Linux)."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return float("nan")
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    return int(found[1]) / 1000 if found else float("nan")


class Run(NamedTuple):
    """What a training reached: rows seen, seconds, and megabytes before it and at most."""

    rows: int
    seconds: float
    before: float
    most: float


# ------------------------------------------------------------------ training


def make_step(net: nn.Module, rate: float) -> Any:
    """A step of Adam, as one compiled program."""
    optimizer = optim.Adam(net.parameters(), lr=rate)

    @tk.compile
    def step(x: Any, y: Any) -> Any:
        loss = F.binary_cross_entropy_with_logits(net(x).squeeze(1), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def train(net: nn.Module, paths: list[Path], args: Any) -> Run:
    """One pass through all rows but the last ones."""
    step = make_step(net, args.lr)
    for _ in range(3):  # recorded and built before the memory is looked at
        step(tk.zeros(args.batch, FEATURES), tk.zeros(args.batch))
    before = most = anonymous_memory()
    start = time.perf_counter()
    with data.MemoryMapped(*paths, rows=slice(0, -HELD_OUT)) as table:
        loader = data.DataLoader(table, args.batch, shuffle=True, drop_last=True, prefetch=4)
        bar = progress_bar(len(loader))
        try:
            for number, (x, y) in enumerate(loader):
                loss = step(x, y)
                bar.update()
                if number % EVERY == 0:
                    most = max(most, anonymous_memory())
                    bar.set_postfix_str(LOSS.say(loss=loss.item(), most=most), refresh=False)
        except KeyboardInterrupt:
            print(STOPPED.say())
        finally:
            bar.close()
    return Run((number + 1) * args.batch, time.perf_counter() - start, before, most)


def accuracy(net: nn.Module, paths: list[Path]) -> float:
    """The share of right answers in the last rows."""
    with no_grad(), data.MemoryMapped(*paths, rows=slice(-HELD_OUT, None)) as table:
        x, y = table[:]
        return float(((net(x).squeeze(1) > 0) == (y > 0.5)).float().mean())


LOSS = Text("loss {loss:.3f}, memory {most:.0f} MB", "손실 {loss:.3f}, 메모리 {most:.0f} MB")
STOPPED = Text("\nstopped", "\n중단했습니다")
WRITING = Text(
    "writing {rows:,} rows of {features} features, {gigabytes:g} GB, into {folder}",
    "특징 {features}개짜리 행 {rows:,}개, {gigabytes:g} GB를 {folder}에 씁니다",
)
WRITTEN = Text("written in {seconds:.0f} s", "쓰는 데 걸린 시간 {seconds:.0f}초")
REACHED = Text(
    "trained on {rows:,} rows in {seconds:.1f} s, {speed:,.0f} rows/s\n"
    "accuracy on {held_out:,} other rows: {share:.1%}\n"
    "anonymous memory: {before:.0f} MB before the table was opened, at most {most:.0f} MB after",
    "행 {rows:,}개를 {seconds:.1f}초에 학습, 초당 {speed:,.0f}행\n"
    "다른 행 {held_out:,}개의 정확도: {share:.1%}\n"
    "익명 메모리: 표를 열기 전 {before:.0f} MB, 그 뒤 최대 {most:.0f} MB",
)
KOREAN = """
메모리보다 큰 표로 학습하기: 행을 파일에서 읽고, 블록 단위로 섞습니다.

표는 만들어 낸 것입니다. N(0, 1)에서 뽑은 특징 64개와, 정해진 무작위 신경망의 답 0 또는 1입니다.
메모리에 다 담을 수 없는 표처럼 조각조각 나누어 씁니다. 신경망은 표를 한 번 훑으며 배웁니다.
프로그램은 그동안 자기 메모리(익명 메모리)를 얼마나 썼는지 알려 줍니다.

    python examples/larger_than_memory.py                    # 1 GB, 30초
    python examples/larger_than_memory.py --gigabytes 20     # 디스크 20 GB 필요
    python examples/larger_than_memory.py --parquet          # Parquet의 행 그룹 (pyarrow 필요)

표는 out/에 두었다가(--out으로 다른 폴더를 지정) 끝나면 지웁니다. Ctrl-C를 누르면 학습을 멈추고
그때까지의 결과를 보여 줍니다.
"""


def main() -> None:
    parser = options(__doc__, KOREAN, out="out")
    add = parser.add_argument
    size = Text("of the table (default: {default})", "표의 크기 (기본값: {default})")
    add("--gigabytes", type=positive, default=1.0, help=size.say(default=1))
    parquet = Text("write Parquet instead of .npy", ".npy 대신 Parquet으로 씁니다")
    add("--parquet", action="store_true", help=parquet.say())
    add("--batch", type=whole(1), default=1000, help=DEFAULT.say(default=1000))
    add("--lr", type=positive, default=0.003, help=RATE.say(default="0.003"))
    add("--seed", type=whole(0), default=0, help=SEED.say(default=0))
    args = parser.parse_args()
    tk.manual_seed(args.seed)
    rows = max(round(args.gigabytes * 1e9 / ROW), HELD_OUT + args.batch)
    args.out.mkdir(parents=True, exist_ok=True)
    print(WRITING.say(rows=rows, features=FEATURES, gigabytes=args.gigabytes, folder=args.out))
    with tempfile.TemporaryDirectory(prefix="table-", dir=args.out) as folder:
        start = time.perf_counter()
        write = write_parquet if args.parquet else write_npy
        paths = write(Path(folder), rows, args.seed)
        print(WRITTEN.say(seconds=time.perf_counter() - start))
        net = nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, 1))
        run = train(net, paths, args)
        share = accuracy(net, paths)
    print(
        REACHED.say(
            rows=run.rows, seconds=run.seconds, speed=run.rows / run.seconds, held_out=HELD_OUT,
            share=share, before=run.before, most=run.most,
        )
    )  # fmt: skip


if __name__ == "__main__":
    launch(main)
