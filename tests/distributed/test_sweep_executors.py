"""Sweeps on Dask, MPI's pool and processes: the same bits, and nothing lost where a worker dies."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sweep_recipes as recipes

from tinygrad_kr import no_grad, seed_sweep, workers
from tinygrad_kr.sweep import Sweep, WorkerDiedError
from tinygrad_kr.workers import SUBMISSIONS

HERE = Path(__file__).parent
RECIPES = HERE.parent / "support"
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no signal 9")


def swept(**options: Any) -> Sweep:
    return seed_sweep(
        options.pop("build", recipes.build), options.pop("train", recipes.train), 8,
        chunk=2, progress=False, **options,
    )  # fmt: skip


def same(mine: Sweep, other: Sweep) -> None:
    assert mine.seeds.tolist() == other.seeds.tolist()
    assert mine.results.keys() == other.results.keys()
    for name, values in mine.results.items():
        assert values.dtype == other[name].dtype
        has_same_bits = values.tobytes() == other[name].tobytes()
        assert has_same_bits, name


def processes(workers: int, spawn_or_server: str) -> ProcessPoolExecutor:
    if spawn_or_server not in multiprocessing.get_all_start_methods():
        pytest.skip("Windows has no server of forks")
    return ProcessPoolExecutor(workers, multiprocessing.get_context(spawn_or_server))


@pytest.fixture(scope="module")
def serial() -> Sweep:
    return swept()


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Of a cluster of two worker processes."""
    pytest.importorskip("distributed.client")  # this folder is a package of that name
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run(sys.path.append, str(RECIPES))  # where the recipes can be imported
        yield client


# ------------------------------------------------------------------ the same bits


@pytest.mark.parametrize("start", ["spawn", "forkserver"])
@pytest.mark.parametrize("workers", [1, 3])
def test_processes_of_the_user(serial: Sweep, start: str, workers: int) -> None:
    with processes(workers, start) as pool:
        same(serial, swept(executor=pool))


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_take_turns(serial: Sweep, threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        same(serial, swept(executor=pool))


def test_gradients_are_recorded_wherever_the_nets_are_trained(serial: Sweep) -> None:
    with no_grad(), ThreadPoolExecutor(1) as pool:
        same(serial, swept())
        same(serial, swept(executor=pool))


def test_the_number_of_jobs_decides_nothing() -> None:
    found = [
        seed_sweep(recipes.wide, recipes.shapes, 5, jobs=jobs, progress=False) for jobs in (1, 2)
    ]
    same(*found)
    assert found[0]["nets"].tolist() == [3, 3, 3, 2, 2]


def test_dask(client: Any, serial: Sweep) -> None:
    executor = client.get_executor()
    same(serial, swept(executor=executor))
    found = swept(executor=executor, train=recipes.with_process)
    assert len(set(found["process"].tolist())) == 2
    assert os.getpid() not in found["process"]


def test_dask_sends_functions_that_pickle_cannot(client: Any, serial: Sweep) -> None:
    same(serial, swept(executor=client.get_executor(), train=lambda nets: recipes.train(nets)))


def test_a_dask_client_is_no_executor(client: Any) -> None:
    with pytest.raises(TypeError, match=r"got Client\. Of a Dask client it is client\.get_exec"):
        swept(executor=client)


def test_a_dask_worker_that_has_chosen_otherwise_is_refused(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it multiplied by BLAS before, it does so for good."""
    if os.name == "nt":
        pytest.skip("Windows has no C kernels to choose")
    swept(executor=client.get_executor())
    monkeypatch.setenv("TINYGRAD_KR_PRODUCTS", "numpy")
    with pytest.raises(RuntimeError, match=r"multiplies float32 by c/c, .* client\.restart\(\)"):
        swept(executor=client.get_executor())


# ------------------------------------------------------------------ workers that die


@posix
def test_dask_repeats_the_work_of_a_killed_worker(
    client: Any, serial: Sweep, tmp_path: Path
) -> None:
    killing = recipes.KilledOnce(str(tmp_path / "killed"))
    file = tmp_path / "sweep.jsonl"
    same(serial, swept(executor=client.get_executor(), train=killing, path=file))
    assert (tmp_path / "killed").exists()
    assert len(file.read_bytes().splitlines()) == 1 + 8


@posix
def test_a_net_that_kills_every_worker_is_named_by_dask(client: Any, tmp_path: Path) -> None:
    with pytest.raises(WorkerDiedError, match=r"without a result: seeds 4 to 5\.") as caught:
        swept(executor=client.get_executor(), train=recipes.killed_at_seed_4)
    assert type(caught.value.__cause__).__name__ == "KilledWorker"
    assert caught.value.done.seeds.tolist() == [0, 1, 2, 3, 6, 7]


@posix
@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_processes_that_are_killed_leave_what_is_done(
    serial: Sweep, tmp_path: Path, start: str
) -> None:
    file = tmp_path / "sweep.jsonl"
    killing = recipes.KilledOnce(str(tmp_path / "killed"))
    with (
        processes(1, start) as pool,
        pytest.raises(WorkerDiedError, match=r"without a result: seeds 4 to 7\.") as caught,
    ):
        swept(executor=pool, train=killing, path=file)
    assert type(caught.value.__cause__).__name__ == "BrokenProcessPool"
    assert caught.value.done.seeds.tolist() == [0, 1, 2, 3]
    with processes(1, start) as pool:
        same(serial, swept(executor=pool, train=killing, path=file))


@posix
def test_dask_workers_that_are_killed_with_results_lose_nothing(
    client: Any, serial: Sweep, tmp_path: Path
) -> None:
    file = tmp_path / "sweep.jsonl"
    killing = recipes.KilledAfter(str(tmp_path), 3)
    same(serial, swept(executor=client.get_executor(), train=killing, path=file))
    assert len(list(tmp_path.glob("kill *"))) == 3
    seeds = [json.loads(line)["key"] for line in file.read_text("utf-8").splitlines()[1:]]
    assert sorted(seeds) == list(range(8))


def timed(**options: Any) -> Sweep:
    """The sweep, in a thread: where it waits for ever, a TimeoutError."""
    found: Future[Sweep] = Future()

    def work() -> None:
        try:
            found.set_result(swept(**options))
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return found.result(timeout=60)


def test_a_result_of_dask_that_is_lost_while_it_is_fetched(
    client: Any, serial: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of the future is that of a worker killed just after it has sent the result."""
    gather, lost = client._gather, []

    async def losing(futures: Any, *arguments: Any, **options: Any) -> Any:
        results = await gather(futures, *arguments, **options)
        futures[0]._state.lose()
        lost.append(futures[0].key)
        return results

    monkeypatch.setattr(client, "_gather", losing)
    same(serial, timed(executor=client.get_executor()))
    assert len(lost) == len(set(lost)) == 4


def test_a_result_of_dask_that_cannot_be_fetched_at_once(
    client: Any, serial: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather, failed = client._gather, []

    async def failing(*arguments: Any, **options: Any) -> Any:
        if len(failed) < 2:
            failed.append(arguments)
            raise OSError("the scheduler is gone")
        return await gather(*arguments, **options)

    monkeypatch.setattr(client, "_gather", failing)
    same(serial, timed(executor=client.get_executor()))
    assert len(failed) == 2


# ------------------------------------------------------------------ executors that fail


class Faulty(Executor):
    """Its futures of one call fail, though the call is done; the first `times` of them."""

    def __init__(self, times: int, seed: int = 4) -> None:
        self.times, self.seed = times, seed
        self.seeds: list[int] = []

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        seeds = args[-1][2]
        self.seeds.append(seeds[0])
        result = function(*args, **kwargs)
        if seeds[0] == self.seed and self.seeds.count(self.seed) <= self.times:
            future.set_exception(ValueError("not enough values to unpack (expected 3, got 2)"))
        else:
            future.set_result(result)
        return future


@pytest.mark.parametrize("times", [1, SUBMISSIONS - 1])
def test_a_call_at_which_the_executor_fails_is_submitted_again(
    serial: Sweep, tmp_path: Path, times: int
) -> None:
    executor, file = Faulty(times), tmp_path / "sweep.jsonl"
    same(serial, swept(executor=executor, path=file))
    assert executor.seeds == [0, 2, 4, 6, *[4] * times]
    seeds = [json.loads(line)["key"] for line in file.read_text("utf-8").splitlines()[1:]]
    assert sorted(seeds) == list(range(8))


def test_an_executor_that_always_fails_is_told_with_what_is_missing(serial: Sweep) -> None:
    executor = Faulty(10**9)
    with pytest.raises(
        WorkerDiedError,
        match=rf"executor failed at seeds 4 to 5, {SUBMISSIONS} times each; without a result: seeds"
        r" 4 to 5\. its last error was ValueError: not enough values",
    ) as caught:
        swept(executor=executor)
    assert executor.seeds.count(4) == SUBMISSIONS
    assert caught.value.lost == [2]
    assert isinstance(caught.value.__cause__, ValueError)
    kept = caught.value.done
    assert kept.seeds.tolist() == [0, 1, 2, 3, 6, 7]
    assert kept["loss"].tobytes() == serial["loss"][kept.seeds].tobytes()


def test_an_executor_that_closes_meanwhile_is_told(serial: Sweep) -> None:
    class Closing(Faulty):
        def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            if len(self.seeds) == 4:
                raise RuntimeError("cannot schedule new futures after shutdown")
            return super().submit(function, *args, **kwargs)

    with pytest.raises(WorkerDiedError, match="its last error was RuntimeError: cannot schedule"):
        swept(executor=Closing(1))


# ------------------------------------------------------------------ errors of the user


@contextmanager
def pool(kind: str, request: pytest.FixtureRequest) -> Iterator[Executor]:
    if kind == "dask":
        yield request.getfixturevalue("client").get_executor()
    elif kind == "threads":
        with ThreadPoolExecutor(2) as threads:
            yield threads
    else:
        with processes(2, kind) as found:
            yield found


KINDS = ["threads", "forkserver", "dask"]


def raised(kind: str, request: pytest.FixtureRequest, train: Any, error: type[Exception]) -> Any:
    with pool(kind, request) as executor, pytest.raises(error, match="no such rate") as caught:
        swept(executor=executor, train=train)
    assert not isinstance(caught.value, WorkerDiedError)
    return caught.value


def told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("kind", KINDS)
def test_errors_arrive_with_seeds_and_traceback(kind: str, request: pytest.FixtureRequest) -> None:
    error = raised(kind, request, recipes.fails_by_a_cause, ZeroDivisionError)
    assert str(error) == "no such rate"
    (note,) = error.__notes__
    assert note.startswith("in seed_sweep, seeds ")
    text = told(error)
    assert 'raise ZeroDivisionError("no such rate") from cause' in text
    assert 'raise KeyError("deep")' in text
    assert "direct cause" in text
    assert "CallError" not in text


@pytest.mark.parametrize("kind", KINDS)
def test_long_errors_arrive_whole(kind: str, request: pytest.FixtureRequest) -> None:
    error = raised(kind, request, recipes.fails_at_length, ZeroDivisionError)
    assert len(str(error)) == 20_012


@pytest.mark.parametrize("name", ["unreadably", "unsendably"])
@pytest.mark.parametrize("kind", KINDS)
def test_errors_that_cannot_be_pickled_are_told(
    kind: str, request: pytest.FixtureRequest, name: str
) -> None:
    train = getattr(recipes, f"fails_{name}")
    kinds = recipes.UnreadableError if name == "unreadably" else recipes.UnsendableError
    error = raised(kind, request, train, kinds if kind == "threads" else RuntimeError)
    if kind != "threads":
        assert f"cannot be sent by a worker: sweep_recipes.{kinds.__name__}: no such" in str(error)
    assert "in seed_sweep, seeds " in told(error)
    assert f'raise {kinds.__name__}("no such rate"' in told(error)


def test_errors_that_this_process_cannot_read_are_told() -> None:
    arrived = workers._arrived(b"no pickle", "Strange: no such rate", "Traceback ...")
    assert str(arrived.error) == "an error that cannot be sent by a worker: Strange: no such rate"
    assert "Traceback ..." in str(arrived.error.__cause__)


def test_dask_brings_errors_whose_classes_no_file_has(client: Any) -> None:
    class OwnError(Exception):
        """Of this function."""

    def fails(nets: Any) -> dict[str, Any]:
        raise OwnError("no such rate")

    with pytest.raises(OwnError, match="no such rate"):
        swept(executor=client.get_executor(), train=fails)


def test_an_error_about_types_in_a_lambda_is_the_users(client: Any) -> None:
    """It was taken for one of pickling."""
    with ThreadPoolExecutor(1) as threads:
        for executor in (threads, client.get_executor()):
            with pytest.raises(TypeError, match="unsupported operand"):
                swept(executor=executor, train=lambda nets: {"loss": nets + "a"})


@pytest.mark.parametrize("kind", ["threads", "forkserver"])
def test_an_interrupt_in_a_worker_interrupts(kind: str, request: pytest.FixtureRequest) -> None:
    with pool(kind, request) as executor, pytest.raises(KeyboardInterrupt):
        swept(executor=executor, train=recipes.interrupts)


def test_dask_runs_a_call_again_where_its_executor_is_told_to(
    client: Any, serial: Sweep, tmp_path: Path
) -> None:
    """An error of a call is one to Dask as well, so that `retries=` holds."""
    failing = recipes.FailsOnce(str(tmp_path / "failed"))
    same(serial, swept(executor=client.get_executor(retries=1), train=failing))
    assert (tmp_path / "failed").exists()


# ------------------------------------------------------------------ functions that cannot be sent


@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_a_lambda_is_refused_by_name(start: str) -> None:
    with (
        processes(1, start) as pool,
        pytest.raises(ValueError, match=r"expected what can be pickled .*<lambda>.*cloudpickle"),
    ):
        swept(executor=pool, train=lambda nets: recipes.train(nets))


PROMPT = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from tinygrad_kr import nn, seed_sweep
def build(generator): return nn.Linear(1, 1, generator=generator)
def train(net): return {"done": 1.0}
with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
    seed_sweep(build, train, n=2, stacked=False, executor=pool, progress=False)
"""


def test_functions_typed_at_a_prompt_are_explained() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROMPT], capture_output=True, text=True, timeout=120,
        encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "WorkerDiedError" in last
    assert "functions typed at a prompt cannot be imported by other processes" in last


# ------------------------------------------------------------------ MPI


def mpirun() -> str:
    """The launcher: beside this Python (the wheel), or the cluster's."""
    pytest.importorskip("mpi4py")
    beside = Path(sys.executable).parent / "mpirun"
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    if found is None:
        pytest.skip("mpirun is needed")
    return found


def pool_of_mpi(
    script: str, folder: Path, ranks: int, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a script under mpirun: rank 0 is the client, the others are the workers."""
    path = folder / "on_mpi.py"
    path.write_text(textwrap.dedent(script), encoding="utf-8")
    command = [mpirun(), "--allow-run-as-root", "--oversubscribe", "-n", str(ranks)]
    return subprocess.run(
        [*command, sys.executable, "-W", "error", "-m", "mpi4py.futures", str(path)],
        capture_output=True, text=True, timeout=timeout, encoding="utf-8",
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(RECIPES), str(HERE.parents[1])])},
        cwd=folder,
    )  # fmt: skip


ON_MPI = """
    import sys
    from pathlib import Path
    import numpy as np
    import sweep_recipes as recipes
    from mpi4py.futures import MPIPoolExecutor
    from tinygrad_kr import seed_sweep

    if __name__ == "__main__":
        train = {train}
        with MPIPoolExecutor() as executor:
            found = seed_sweep(
                recipes.build, train, 8, chunk=2, executor=executor, path={path!r}, progress=False
            )
        np.savez("found.npz", seeds=found.seeds, **found.results)
"""


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_pool_of_mpi(serial: Sweep, tmp_path: Path, ranks: int) -> None:
    done = pool_of_mpi(ON_MPI.format(train="recipes.train", path=None), tmp_path, ranks)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "found.npz") as found:
        assert found["seeds"].tolist() == serial.seeds.tolist()
        for name, values in serial.results.items():
            assert found[name].tobytes() == values.tobytes()


@posix
def test_a_killed_rank_ends_the_job_and_the_next_one_resumes(serial: Sweep, tmp_path: Path) -> None:
    train = f"recipes.KilledOnce({str(tmp_path / 'killed')!r})"
    script = ON_MPI.format(train=train, path="sweep.jsonl")
    done = pool_of_mpi(script, tmp_path, 2)
    assert done.returncode != 0
    assert (tmp_path / "killed").exists()
    kept = (tmp_path / "sweep.jsonl").read_bytes()
    assert len(kept.splitlines()) == 1 + 4
    done = pool_of_mpi(script, tmp_path, 3)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sweep.jsonl").read_bytes().startswith(kept)
    with np.load(tmp_path / "found.npz") as found:
        for name, values in serial.results.items():
            assert found[name].tobytes() == values.tobytes()


def test_a_pool_of_mpi_brings_errors(tmp_path: Path) -> None:
    """Rank 0's traceback has that of the worker, also of an error that cannot be pickled."""
    done = pool_of_mpi(ON_MPI.format(train="recipes.fails_by_a_cause", path=None), tmp_path, 2)
    assert done.returncode != 0
    assert 'raise ZeroDivisionError("no such rate") from cause' in done.stderr
    assert "\nZeroDivisionError: no such rate\nin seed_sweep, seeds " in done.stderr
    done = pool_of_mpi(ON_MPI.format(train="recipes.fails_unsendably", path=None), tmp_path, 2)
    assert done.returncode != 0
    assert "cannot be sent by a worker: sweep_recipes.UnsendableError: no such rate" in done.stderr


def test_a_pool_of_mpi_refuses_a_lambda_by_name(tmp_path: Path) -> None:
    done = pool_of_mpi(ON_MPI.format(train="lambda nets: {}", path=None), tmp_path, 2)
    assert done.returncode != 0
    assert "expected what can be pickled for another process, got <function <lambda>" in done.stderr


# ------------------------------------------------------------------ the benchmark


DEPTH = HERE.parents[1] / "benchmarks/sigmoid_vs_relu_depth.py"
OPTIONS = ["--depths", "1", "2", "--activations", "relu", "elu", "--seeds", "3", "--steps", "6"]


def depth_rows(folder: Path, on: str, launcher: list[str]) -> list[dict[str, Any]]:
    """The results that the benchmark writes, without their times."""
    done = subprocess.run(
        [*launcher, str(DEPTH), *OPTIONS, "--on", on, "--jobs", "2", "--out", on],
        cwd=folder, capture_output=True, text=True, timeout=170, encoding="utf-8",
        env=os.environ | {"PYTHONPATH": str(HERE.parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads((folder / on / "depth.json").read_text(encoding="utf-8"))["results"]
    for row in rows:
        del row["processor_seconds"]
    return list(rows)


@pytest.mark.parametrize("on", ["dask", "mpi"])
def test_the_depth_benchmark_gives_the_same_everywhere(tmp_path: Path, on: str) -> None:
    python = [sys.executable, "-W", "error"]
    if on == "dask":
        pytest.importorskip("distributed.client")
        launcher = python
    else:
        command = [mpirun(), "--allow-run-as-root", "--oversubscribe", "-n", "3"]
        launcher = [*command, *python, "-m", "mpi4py.futures"]
    expected = depth_rows(tmp_path, "processes", python)
    assert len(expected) == 4
    assert depth_rows(tmp_path, on, launcher) == expected


# ------------------------------------------------------------------ a cluster that ends


class Unheard(Executor):
    """Accepts work and cancels it, as a cluster that was closed."""

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        from concurrent.futures import Future

        future: Future[Any] = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future


def test_a_cluster_that_is_closed_leaves_nothing_unsaid() -> None:
    with pytest.raises(WorkerDiedError, match=r"without a result: seeds 0 to 7\.") as caught:
        swept(executor=Unheard())
    assert caught.value.lost == [0, 1, 2, 3]
    assert not len(caught.value.done.seeds)
