"""Muon: by its formula, of any shape and layout, compiled, saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import Tensor, optim
from tinygrad_kr.compile import Compiled
from tinygrad_kr.optim import rules

SETTINGS: list[dict[str, Any]] = [
    {},
    {"lr": 0.1, "momentum": 0.5, "nesterov": False, "weight_decay": 0.0},
    {
        "lr": 0.05,
        "ns_steps": 3,
        "adjust_lr_fn": "match_rms_adamw",
        "ns_coefficients": (2, -1.5, 0.5),
    },
    {"lr": 0.05, "momentum": 0.0, "adjust_lr_fn": "original"},
]
SHAPES = [(3, 4), (5, 2), (1, 1), (200, 150), (0, 3)]


def matrices(dtype: Any = np.float64) -> list[Tensor]:
    random = np.random.default_rng(0)
    made = [random.standard_normal(shape).astype(dtype) for shape in SHAPES]
    made.append(random.standard_normal((4, 6)).astype(dtype).T)  # not contiguous
    return [Tensor(array, requires_grad=True) for array in made]


def give_gradients(params: list[Tensor], seed: int) -> None:
    random = np.random.default_rng(seed)
    for p in params:
        p.grad = Tensor((p.data + random.standard_normal(p.shape)).astype(p.dtype))


@pytest.mark.parametrize("options", SETTINGS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_optimizer_is_its_rule(options: dict[str, Any], dtype: Any) -> None:
    params = matrices(dtype)
    optimizer = optim.Muon(params, **options)
    expected = [(p.data.copy(), {}) for p in params]
    settings = {"lr": 1e-3} | options
    for step in range(4):
        give_gradients(params, step)
        expected = [
            rules.muon(x, p.grad.data, state, **settings)  # type: ignore[union-attr]
            for (x, state), p in zip(expected, params, strict=True)
        ]
        optimizer.step()
        for p, (x, state) in zip(params, expected, strict=True):
            tolerance = 1e-4 if dtype == np.float32 else 1e-11
            np.testing.assert_allclose(p.data, x, rtol=tolerance, atol=tolerance)
            kept = optimizer.state[p]["momentum_buffer"]
            np.testing.assert_allclose(kept, state["momentum_buffer"], atol=tolerance)
            assert p.dtype == dtype == kept.dtype


@pytest.mark.parametrize("shape", [(6, 6), (8, 3), (3, 8)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(0).standard_normal(shape)
    turned = rules.orthogonalized(x, 3.4445, -4.775, 2.0315, 1e-7, steps=5, adjust=None)
    ratio = max(1.0, shape[0] / shape[1]) ** 0.5
    s = np.linalg.svd(turned / ratio, compute_uv=False)
    assert (s > 0.5).all() and (s < 1.3).all()
    u, _, v = np.linalg.svd(x, full_matrices=False)
    exact = rules.orthogonalized(x, 1.875, -1.25, 0.375, 1e-7, steps=40, adjust=None) / ratio
    np.testing.assert_allclose(exact, u @ v, atol=1e-8)


@pytest.mark.parametrize("options", SETTINGS)
def test_compiled_it_is_the_same(options: dict[str, Any]) -> None:
    x = Tensor(np.random.default_rng(5).standard_normal((7, 3)))
    ends = []
    for compiled in (False, True):
        random = np.random.default_rng(1)
        w, v = (Tensor(random.standard_normal(s), requires_grad=True) for s in ((3, 5), (5, 2)))
        optimizer = optim.Muon([w, v], **options)

        def step(x: Tensor, w: Any = w, v: Any = v, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = ((tk.tanh(x @ w) @ v) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss.detach()

        run: Any = Compiled(step) if compiled else step
        losses = [run(x).item() for _ in range(5)]
        optimizer.param_groups[0]["lr"] = 0.02
        losses += [run(x).item() for _ in range(3)]
        assert not compiled or run.programs, run.explain()
        ends.append(
            [losses, w.data, v.data, *(s["momentum_buffer"] for s in optimizer.state.values())]
        )
    for eager, other in zip(*ends, strict=True):
        np.testing.assert_allclose(eager, other, rtol=1e-8, atol=1e-10)


def test_it_goes_on_from_its_state(tmp_path: Path) -> None:
    params = matrices()
    optimizer = optim.Muon(params, lr=0.1)
    for seed in range(3):
        give_gradients(params, seed)
        optimizer.step()
    tk.save(tmp_path / "run.npz", optimizer=optimizer)
    others = [Tensor(p.data.copy(), requires_grad=True) for p in params]
    resumed = optim.Muon(others, lr=7.0)
    tk.load(tmp_path / "run.npz", optimizer=resumed)
    for seed in range(3, 6):
        for one, its in ((optimizer, params), (resumed, others)):
            give_gradients(its, seed)
            one.step()
    for p, q in zip(params, others, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ns_steps": 100}, r"an integer ns_steps in \[0, 100\), got 100"),
        ({"ns_steps": 1.5}, r"an integer ns_steps in \[0, 100\), got 1\.5"),
        ({"ns_coefficients": (1.0, 2.0)}, "3 ns_coefficients, got"),
        ({"adjust_lr_fn": "rms"}, "adjust_lr_fn 'original', .*, got 'rms'"),
        ({"momentum": 1.0}, r"momentum in \[0, 1\), got 1\.0"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^Muon: expected {message}"):
        optim.Muon(matrices(), **options)


def test_only_matrices_are_taken() -> None:
    with pytest.raises(
        ValueError, match=r"^Muon: expected two axes for parameter 1, got shape \(2,"
    ):
        optim.Muon([*matrices()[:1], Tensor(np.ones(2), requires_grad=True)])
