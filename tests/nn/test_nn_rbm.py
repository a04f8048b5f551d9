"""`RBM` against enumeration of all its states; `DBN` as a stack of machines and as a net."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, autograd, nn, optim
from tinygrad_kr.nn.rbm import Progress
from tinygrad_kr.testing import check_grads

VISIBLE, HIDDEN = 4, 3


def states(units: int) -> np.ndarray:
    """All rows of 0s and 1s, (2^units, units)."""
    return np.array(list(itertools.product([0.0, 1.0], repeat=units)))


V, H = states(VISIBLE), states(HIDDEN)


def machine(n_visible: int = VISIBLE, n_hidden: int = HIDDEN, **settings: Any) -> nn.RBM:
    """One whose parameters are all of the size of 1, so that no term of a formula is small."""
    rbm = nn.RBM(n_visible, n_hidden, dtype=np.float64, **settings)
    random = np.random.default_rng(7)
    for parameter in rbm.parameters():
        parameter.data[...] = random.normal(0, 1, parameter.shape)
    return rbm


def joint(rbm: nn.RBM) -> np.ndarray:
    """p(v, h) of every pair of states, (2^VISIBLE, 2^HIDDEN), from the energy's definition."""
    weight, a, b = (parameter.data for parameter in rbm.parameters())
    energy = np.array([[-a @ v - b @ h - h @ weight @ v for h in H] for v in V])
    unnormalised = np.exp(-energy)
    return np.asarray(unnormalised / unnormalised.sum())


def gibbs_kernel(rbm: nn.RBM) -> np.ndarray:
    """p(next v | v), (2^VISIBLE, 2^VISIBLE), from the conditionals of the joint distribution."""
    p = joint(rbm)
    hidden_given = p / p.sum(axis=1, keepdims=True)
    visible_given = p / p.sum(axis=0)
    return np.asarray(hidden_given @ visible_given.T)


def gradients(rbm: nn.RBM, loss: Any) -> list[np.ndarray]:
    return [g.data for g in autograd.grad(loss, list(rbm.parameters()))]


DATA = V[[0, 3, 3, 5, 12, 15, 15, 15]]
"""Some states, some of them more often: the distribution to learn."""
DATA_SHARES = (DATA[:, None] == V).all(axis=2).mean(axis=0)


# ------------------------------------------------------------------ energies, by enumeration


def test_energy_is_its_definition_on_every_pair_of_states() -> None:
    rbm = machine()
    weight, a, b = (parameter.data for parameter in rbm.parameters())
    expected = [[-a @ v - b @ h - h @ weight @ v for h in H] for v in V]
    np.testing.assert_allclose(rbm.energy(V[:, None], H).data, expected, atol=1e-13)
    one_to_one = rbm.energy(V[:8], H)
    np.testing.assert_allclose(one_to_one.data, np.diagonal(expected), atol=1e-13)


def test_free_energy_sums_the_hidden_states_out() -> None:
    rbm = machine()
    summed = -np.log(np.exp(-rbm.energy(V[:, None], H).data).sum(axis=1))
    np.testing.assert_allclose(rbm.free_energy(V).data, summed, atol=1e-13)
    np.testing.assert_allclose(rbm.free_energy(V[5]).data, summed[5], atol=1e-13)


@pytest.mark.parametrize("sizes", [(4, 3), (3, 4), (1, 1)])
def test_log_partition_sums_all_states_whichever_layer_is_smaller(sizes: tuple[int, int]) -> None:
    rbm = machine(*sizes)
    energies = rbm.energy(states(sizes[0])[:, None], states(sizes[1])).data
    assert rbm.log_partition().item() == pytest.approx(np.log(np.exp(-energies).sum()), abs=1e-12)


def test_log_partition_goes_on_after_the_first_few_thousand_states() -> None:
    """Without weights the units are coins of their own: log Z = sum log (1 + exp(bias))."""
    rbm = nn.RBM(15, 13, dtype=np.float64)
    for parameter in rbm.parameters():
        parameter.data[...] = 0.0
    rbm.visible_bias.data[...] = np.linspace(-2, 2, 15)
    rbm.hidden_bias.data[...] = np.linspace(-1, 3, 13)
    biases = np.concatenate([rbm.visible_bias.data, rbm.hidden_bias.data])
    expected = np.log1p(np.exp(biases)).sum()
    assert rbm.log_partition().item() == pytest.approx(expected, abs=1e-11)


def test_log_likelihood_is_the_logarithm_of_a_distribution() -> None:
    rbm = machine()
    expected = np.log(joint(rbm).sum(axis=1))
    np.testing.assert_allclose(rbm.log_likelihood(V).data, expected, atol=1e-12)


def test_conditionals_are_those_of_the_joint_distribution() -> None:
    rbm = machine()
    p = joint(rbm)
    hidden = (p / p.sum(axis=1, keepdims=True)) @ H
    visible = (p / p.sum(axis=0)).T @ V
    np.testing.assert_allclose(rbm.transform(V).data, hidden, atol=1e-13)
    np.testing.assert_allclose(rbm(V).data, hidden, atol=1e-13)
    np.testing.assert_allclose(rbm.visible_probabilities(H).data, visible, atol=1e-13)


def test_large_machines_are_not_enumerated() -> None:
    with pytest.raises(ValueError, match=r"2\^21 states are too many .* at most 20 units"):
        nn.RBM(21, 22).log_partition()
    with pytest.raises(ValueError, match="too many"):
        nn.RBM(22, 21).log_likelihood(np.zeros(22))


# ------------------------------------------------------------------ samples


def counts_of(rows: np.ndarray) -> np.ndarray:
    """How often each state of V is among the rows."""
    places = (rows @ 2 ** np.arange(VISIBLE)[::-1]).astype(int)
    return np.bincount(places, minlength=len(V))


def chi_squared(counts: np.ndarray, shares: np.ndarray) -> float:
    expected = shares * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


CHI_SQUARED_15 = 44.26
"""Exceeded once in 10,000 by 15 degrees of freedom: `scipy.stats.chi2.isf(1e-4, 15)`."""


@pytest.mark.parametrize("steps", [1, 2])
def test_a_gibbs_step_is_a_draw_from_the_enumerated_kernel(steps: int) -> None:
    rbm, random = machine(), np.random.default_rng(1)
    kernel = np.linalg.matrix_power(gibbs_kernel(rbm), steps)
    for start in (0, 6, 15):
        drawn = rbm.gibbs(np.tile(V[start], (40_000, 1)), steps, generator=random)
        assert chi_squared(counts_of(drawn.data), kernel[start]) < CHI_SQUARED_15
        other = np.linalg.matrix_power(gibbs_kernel(rbm), 3 - steps)[start]
        assert chi_squared(counts_of(drawn.data), other) > 100 or start == 0


def test_samples_come_from_the_distribution() -> None:
    rbm = machine()
    drawn = rbm.sample(40_000, 60, generator=np.random.default_rng(2))
    assert drawn.shape == (40_000, VISIBLE)
    assert not drawn.requires_grad
    assert chi_squared(counts_of(drawn.data), joint(rbm).sum(axis=1)) < CHI_SQUARED_15


def test_samples_start_where_they_are_told_to() -> None:
    """Strong couplings hold every chain in one of two patterns."""
    rbm = nn.RBM(4, 2)
    rbm.weight.data[...] = [[30, 30, -30, -30], [-30, -30, 30, 30]]
    start = np.array([[1, 1, 0, 0], [0, 0, 1, 1]] * 3)
    np.testing.assert_array_equal(rbm.sample(6, 5, start=start).data, start)
    with pytest.raises(ValueError, match=r"2 chains cannot begin from \(6, 4\)"):
        rbm.sample(2, 5, start=start)


def test_one_generator_gives_one_result_and_the_default_one_is_seeded() -> None:
    def results(generator: Any = None) -> list[np.ndarray]:
        rbm = nn.RBM(4, 3, chains=5, generator=generator)
        rbm.fit(DATA, 2, generator=generator, batch_size=3)
        drawn = rbm.sample(3, 4, generator=generator).data
        return [*rbm.state_dict().values(), drawn]

    def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
        return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))

    first = results(np.random.default_rng(3))
    assert same(first, results(np.random.default_rng(3)))
    assert not same(first, results(np.random.default_rng(4)))
    tk.manual_seed(5)
    seeded = results()
    tk.manual_seed(5)
    untouched = results(np.random.default_rng(3))
    assert same(first, untouched)
    assert same(seeded, results())


# ------------------------------------------------------------------ the gradient


def test_the_gradient_is_the_difference_of_expected_products(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hinton's dW = <h v'>data - <h v'>model and its like, downhill, for a given v~."""
    rbm, dreamt = machine(), V[[1, 2, 9]]
    monkeypatch.setattr(nn.RBM, "gibbs", lambda *_, **__: Tensor(dreamt))
    found = gradients(rbm, rbm.contrastive_divergence(DATA))
    above, above_dreamt = rbm.transform(DATA).data, rbm.transform(dreamt).data
    expected = [
        above_dreamt.T @ dreamt / 3 - above.T @ DATA / 8,
        dreamt.mean(axis=0) - DATA.mean(axis=0),
        above_dreamt.mean(axis=0) - above.mean(axis=0),
    ]
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-15)


def log_likelihood_gradients(rbm: nn.RBM) -> list[np.ndarray]:
    """Of -mean log p(v) over DATA, from the enumerated joint distribution alone."""
    p = joint(rbm)
    data = DATA_SHARES[:, None] * p / p.sum(axis=1, keepdims=True)
    difference = p - data
    return [
        np.einsum("vh,hj,vi->ji", difference, H, V),
        difference.sum(axis=1) @ V,
        difference.sum(axis=0) @ H,
    ]


def test_autodiff_of_the_exact_log_likelihood_is_its_enumerated_gradient() -> None:
    rbm = machine()
    found = gradients(rbm, -rbm.log_likelihood(DATA).mean())
    for mine, theirs in zip(found, log_likelihood_gradients(rbm), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-14)


def expected_cd_gradients(rbm: nn.RBM, k: int) -> list[np.ndarray]:
    """The mean over all that chance can do: every v~ with its probability under k Gibbs steps."""
    shares = DATA_SHARES @ np.linalg.matrix_power(gibbs_kernel(rbm), k)
    return gradients(rbm, (rbm.free_energy(V) * (DATA_SHARES - shares)).sum())


def test_expected_cd_gradient_tends_to_the_exact_one() -> None:
    """At the rate of the chain's mixing, its second eigenvalue, until no bias is left."""
    rbm = machine()
    exact = np.concatenate([g.ravel() for g in log_likelihood_gradients(rbm)])
    bias = {
        k: np.abs(np.concatenate([g.ravel() for g in expected_cd_gradients(rbm, k)]) - exact).max()
        for k in (1, 4, 8, 40)
    }
    second_eigenvalue = np.sort(np.abs(np.linalg.eigvals(gibbs_kernel(rbm))))[-2]
    assert bias[1] > 0.01
    assert bias[8] / bias[4] == pytest.approx(second_eigenvalue**4, rel=0.01)
    assert bias[40] < 1e-14


def per_chain_gradients(rbm: nn.RBM, dreamt: np.ndarray) -> list[np.ndarray]:
    """The part of the gradient that each v~ contributes, for the error of their mean."""
    above = rbm.transform(dreamt).data
    return [np.einsum("nj,ni->nji", above, dreamt), dreamt, above]


def assert_unbiased(
    rbm: nn.RBM, found: list[np.ndarray], expected: list[np.ndarray], dreamt: np.ndarray
) -> None:
    """Every entry within 4.5 standard errors: 19 entries stray so far once in 7,700 runs."""
    for mine, theirs, parts in zip(found, expected, per_chain_gradients(rbm, dreamt), strict=True):
        error = parts.std(axis=0) / len(parts) ** 0.5
        assert error.max() < 0.003
        assert (np.abs(mine - theirs) < 4.5 * error).all()


@pytest.mark.parametrize("k", [1, 3, 40])
def test_mean_cd_gradient_is_the_enumerated_one(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """CD-k of 40,000 chains at once; at k = 40 against the log-likelihood's own gradient."""
    rbm, kept = machine(), []
    gibbs = nn.RBM.gibbs

    def remembered(self: nn.RBM, *args: Any, **settings: Any) -> Tensor:
        kept.append(gibbs(self, *args, **settings))
        return kept[-1]

    monkeypatch.setattr(nn.RBM, "gibbs", remembered)
    rows = np.tile(DATA, (5_000, 1))
    loss = rbm.contrastive_divergence(rows, k, generator=np.random.default_rng(k))
    expected = expected_cd_gradients(rbm, k) if k < 40 else log_likelihood_gradients(rbm)
    assert_unbiased(rbm, gradients(rbm, loss), expected, kept[0].data)


def test_persistent_chains_give_the_exact_gradient_though_each_step_is_short() -> None:
    rbm = machine(chains=40_000, generator=np.random.default_rng(11))
    random = np.random.default_rng(12)
    for _ in range(40):
        loss = rbm.contrastive_divergence(DATA, 1, generator=random)
    assert rbm.chains is not None
    assert_unbiased(rbm, gradients(rbm, loss), log_likelihood_gradients(rbm), rbm.chains.data)


def test_chains_move_on_from_where_they_were_left() -> None:
    rbm = nn.RBM(4, 2, chains=3)
    assert rbm.chains is not None
    patterns = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0]])
    rbm.weight.data[...] = [[30, 30, -30, -30], [-30, -30, 30, 30]]
    rbm.chains.data[...] = patterns
    loss = rbm.contrastive_divergence([[0, 0, 1, 1]])
    np.testing.assert_array_equal(rbm.chains.data, patterns)
    expected = rbm.free_energy([0, 0, 1, 1]) - rbm.free_energy(patterns).mean()
    assert loss.item() == pytest.approx(expected.item())
    rbm.visible_bias.data[...] = -100
    rbm.contrastive_divergence([[0, 0, 1, 1]])
    assert not rbm.chains.data.any()


def test_a_loss_outlives_the_next_step_of_the_chains() -> None:
    rbm = nn.RBM(4, 2, chains=3)
    loss, _ = rbm.contrastive_divergence(DATA), rbm.contrastive_divergence(DATA)
    loss.backward()
    assert rbm.visible_bias.grad is not None
    assert rbm.chains is not None and not rbm.chains.requires_grad


def test_derivatives_of_the_energies() -> None:
    rbm = machine()
    names = dict(rbm.named_parameters())

    class Energies(nn.Module):
        def __init__(self) -> None:
            self.rbm = rbm

        def forward(self, v: Any) -> Any:
            return self.rbm.log_likelihood(v) + self.rbm.energy(v, np.full(HIDDEN, 0.3))

    def energies(v: Any, *values: Any) -> Any:
        paths = [f"rbm.{name}" for name in names]
        return nn.functional_call(Energies(), dict(zip(paths, values, strict=True)), v)

    inside = np.random.default_rng(4).uniform(0.2, 0.8, (2, VISIBLE))
    check_grads(energies, (inside, *(p.data for p in names.values())), order=2)


# ------------------------------------------------------------------ learning

BARS = np.array([np.repeat(row, 3) for row in states(3)] + [np.tile(row, 3) for row in states(3)])[
    [0, *range(1, 7), 7, *range(9, 15)]
]
"""Bars and stripes on 3 x 3 pixels: 14 pictures, so log p is at best log(1/14) = -2.64."""


@pytest.mark.trains
@pytest.mark.parametrize(
    ("chains", "k"), [(0, 1), (0, 5), (500, 1)], ids=["CD-1", "CD-5", "persistent"]
)
def test_log_likelihood_rises_in_training(chains: int, k: int) -> None:
    """By the exact partition function, from that of a fair coin for each pixel.

    Ten seeds of each rose in every quarter, to between -3.67 and -2.92.
    """
    rbm = nn.RBM(9, 12, chains=chains, generator=np.random.default_rng(0))
    random = np.random.default_rng(1)
    likelihood = [rbm.log_likelihood(BARS).mean().item()]
    errors = []
    for _ in range(4):
        errors += rbm.fit(
            BARS, 400, lr=0.1, momentum=0.5, weight_decay=0.0, k=k, batch_size=14, generator=random
        )
        likelihood.append(rbm.log_likelihood(BARS).mean().item())
    assert likelihood[0] == pytest.approx(9 * np.log(0.5), abs=0.01)
    assert (np.diff(likelihood) > 0).all(), likelihood
    assert np.log(1 / 14) > likelihood[-1] > -3.8, likelihood
    assert len(errors) == 1600
    assert errors[-1] < errors[0] / 2
    assert errors[-1] == pytest.approx(rbm.reconstruction_error(BARS))


@pytest.mark.trains
def test_the_likelihood_itself_can_be_climbed() -> None:
    rbm = nn.RBM(9, 12, dtype=np.float64)
    optimizer = optim.Adam(rbm.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        loss = -rbm.log_likelihood(BARS).mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 2.75


@pytest.mark.trains
def test_fit_is_ordinary_sgd_with_momentum_and_decay_of_the_weights_alone() -> None:
    rbm, by_hand = machine(), machine()
    errors = rbm.fit(
        DATA, 3, lr=0.2, momentum=0.8, weight_decay=0.5, k=2, batch_size=8,
        generator=np.random.default_rng(6),
    )  # fmt: skip
    random = np.random.default_rng(6)
    parameters = list(by_hand.parameters())
    velocity = [np.zeros(p.shape) for p in parameters]
    for epoch in range(3):
        rows = DATA[random.permutation(8)]
        slopes = gradients(by_hand, by_hand.contrastive_divergence(rows, 2, generator=random))
        for p, v, g, decay in zip(parameters, velocity, slopes, [0.5, 0, 0], strict=True):
            v[...] = 0.8 * v + g + decay * p.data
            p.data[...] -= 0.2 * v
        reconstruction = by_hand.reconstruct(DATA).data
        assert errors[epoch] == pytest.approx(((DATA - reconstruction) ** 2).mean())
    for mine, theirs in zip(rbm.parameters(), parameters, strict=True):
        np.testing.assert_allclose(mine.data, theirs.data, atol=1e-12)


def test_progress_is_told_after_every_step() -> None:
    seen: list[Progress] = []
    rbm = nn.RBM(VISIBLE, HIDDEN)
    rbm.fit(DATA, 2, batch_size=3, progress=seen.append)
    assert seen == [Progress(0, 1 + step // 3, step + 1, 6) for step in range(6)]


def test_reconstruction_error_of_more_rows_than_fit_in_one_block() -> None:
    rbm = machine()
    rows = np.random.default_rng(0).random((9_000, VISIBLE))
    up = 1 / (1 + np.exp(-rows @ rbm.weight.data.T - rbm.hidden_bias.data))
    down = 1 / (1 + np.exp(-up @ rbm.weight.data - rbm.visible_bias.data))
    np.testing.assert_allclose(rbm.reconstruct(rows).data, down, atol=1e-14)
    assert rbm.reconstruction_error(rows) == pytest.approx(((rows - down) ** 2).mean(), rel=1e-12)


# ------------------------------------------------------------------ as a module


def test_start() -> None:
    rbm = nn.RBM(300, 200, chains=50)
    assert {name: p.shape for name, p in rbm.named_parameters()} == {
        "weight": (200, 300),
        "visible_bias": (300,),
        "hidden_bias": (200,),
    }
    assert rbm.weight.data.std() == pytest.approx(0.01, rel=0.02)
    assert not rbm.visible_bias.data.any() and not rbm.hidden_bias.data.any()
    assert rbm.chains is not None
    assert set(np.unique(rbm.chains.data)) == {0, 1}
    assert rbm.chains.data.mean() == pytest.approx(0.5, abs=0.02)
    before = rbm.state_dict()
    rbm.visible_bias.data[...] = 1
    rbm.reset_parameters()
    after = rbm.state_dict()
    assert not after["visible_bias"].any()
    assert not np.array_equal(before["weight"], after["weight"])
    assert not np.array_equal(before["chains"], after["chains"])
    assert repr(rbm) == "RBM(n_visible=300, n_hidden=200, chains=50)"
    assert repr(nn.RBM(3, 2)) == "RBM(n_visible=3, n_hidden=2)"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_that_of_the_parameters_whatever_the_input(dtype: Any) -> None:
    rbm = nn.RBM(VISIBLE, HIDDEN, chains=2, dtype=dtype)
    for rows in (V, V.astype(np.float32), V.astype(np.uint8), V > 0, V.tolist(), Tensor(V)):
        for result in (rbm(rows), rbm.free_energy(rows), rbm.gibbs(rows), rbm.reconstruct(rows)):
            assert result.dtype == dtype
        np.testing.assert_array_equal(rbm(rows).data, rbm(V).data)
    loss = rbm.contrastive_divergence(V)
    assert loss.dtype == rbm.log_partition().dtype == dtype
    loss.backward()
    rbm.fit(V, 1)
    assert {value.dtype for value in rbm.state_dict().values()} == {np.dtype(dtype)}


def test_state_goes_round_with_the_chains() -> None:
    rbm, other = nn.RBM(VISIBLE, HIDDEN, chains=4), nn.RBM(VISIBLE, HIDDEN, chains=4)
    rbm.fit(DATA, 3)
    assert set(rbm.state_dict()) == {"weight", "visible_bias", "hidden_bias", "chains"}
    other.load_state_dict(rbm.state_dict())
    copies = [other, copy.deepcopy(rbm), pickle.loads(pickle.dumps(rbm))]
    rbm.fit(DATA, 3, generator=np.random.default_rng(0))
    for twin in copies:
        twin.fit(DATA, 3, generator=np.random.default_rng(0))
        for key, value in rbm.state_dict().items():
            np.testing.assert_array_equal(value, twin.state_dict()[key])
    with pytest.raises(RuntimeError, match="unexpected: chains"):
        nn.RBM(VISIBLE, HIDDEN).load_state_dict(rbm.state_dict())


def test_gradients_flow_through_a_machine_used_as_a_layer() -> None:
    net = nn.Sequential(nn.RBM(VISIBLE, HIDDEN), nn.Linear(HIDDEN, 2))
    x = Tensor(V.astype(np.float32), requires_grad=True)
    F.cross_entropy(net(x), np.arange(16) % 2).backward()
    assert x.grad is not None and x.grad.data.any()
    assert net[0].weight.grad.data.any()
    assert net[0].visible_bias.grad is None


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (np.zeros((2, 5)), r"got \(2, 5\), wants \(..., 4\): a value for each of the visible"),
        (np.zeros(()), r"got \(\), wants \(..., 4\)"),
        (np.full((2, 4), 255), r"not values from 255 to 255; pixels .* divided by 255"),
        ([[0, 0.5, 1, 1.001]], "0, 1 or a probability between them, not values from 0 to 1.001"),
        (-0.1 * np.ones((1, 4)), "values from -0.1 to -0.1"),
        (np.array([[0.0, 1.0, np.nan, 0.0]]), "not NaN"),
        (np.array([[0.0, 1.0, np.inf, 0.0]]), "not values from 0 to inf"),
    ],
)
def test_what_is_no_state_is_refused_everywhere(rows: Any, complaint: str) -> None:
    rbm, net = nn.RBM(4, 3), nn.DBN((4, 3, 2))
    calls: list[Any] = [
        rbm, rbm.transform, rbm.free_energy, rbm.gibbs, rbm.reconstruct, rbm.reconstruction_error,
        rbm.contrastive_divergence, rbm.fit, rbm.log_likelihood, net, net.pretrain,
        lambda rows: rbm.energy(rows, np.zeros(3)), lambda rows: rbm.sample(2, start=rows),
        lambda rows: net.fine_tune(rows, [0, 1]), lambda rows: net.sample(2, start=rows),
    ]  # fmt: skip
    before = net.state_dict() | rbm.state_dict()
    for call in calls:
        with pytest.raises(ValueError, match=complaint):
            call(rows)
    for key, value in (net.state_dict() | rbm.state_dict()).items():
        np.testing.assert_array_equal(value, before[key])


def test_hidden_states_are_checked_too() -> None:
    rbm = nn.RBM(4, 3)
    with pytest.raises(ValueError, match=r"wants \(..., 3\): a value for each of the hidden"):
        rbm.visible_probabilities(np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"hidden units are 0, 1 or .* not values from 0 to 2"):
        rbm.energy(np.zeros(4), [0, 1, 2])


def test_learning_takes_rows() -> None:
    rbm = nn.RBM(4, 3)
    for call in (rbm.fit, rbm.contrastive_divergence, rbm.reconstruction_error):
        with pytest.raises(ValueError, match=r"got \(4,\), wants samples in rows, \(N, 4\)"):
            call(np.zeros(4))
        with pytest.raises(ValueError, match=r"got \(0, 4\), wants samples in rows"):
            call(np.zeros((0, 4)))


def test_wrong_settings_are_named() -> None:
    rbm = nn.RBM(4, 3)
    with pytest.raises(ValueError, match="n_visible must be at least 1"):
        nn.RBM(0, 3)
    with pytest.raises(TypeError, match="n_hidden must be an integer"):
        nn.RBM(4, 3.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="chains must be at least 1, not -1"):
        nn.RBM(4, 3, chains=-1)
    with pytest.raises(TypeError, match="floating dtype"):
        nn.RBM(4, 3, dtype=np.int64)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        rbm.gibbs(V, 0)
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        rbm.fit(V, 0)
    with pytest.raises(ValueError, match="SGD: lr must be in"):
        rbm.fit(V, 1, lr=-1)
    with pytest.raises(TypeError, match=r"expected a np\.random\.Generator"):
        rbm.sample(1, generator=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^rbm: RBM\(n_visible=4, .* got \(2, 5\), wants"):
        rbm(np.zeros((2, 5)))


# ------------------------------------------------------------------ deep belief nets


def test_a_net_is_its_machines_in_a_row() -> None:
    net = nn.DBN([4, 3, 2], dtype=np.float64)
    first, second = net.rbms
    assert [(rbm.n_visible, rbm.n_hidden) for rbm in net.rbms] == [(4, 3), (3, 2)]
    np.testing.assert_array_equal(net(V).data, second(first(V)).data)
    assert net.output is None
    assert [type(layer) for layer in net.network()] == [nn.Linear, nn.Sigmoid] * 2
    classifier = nn.DBN((4, 3, 2), 5, dtype=np.float64)
    assert classifier.output is not None
    expected = classifier.output(classifier.rbms[1](classifier.rbms[0](V)))
    np.testing.assert_array_equal(classifier(V).data, expected.data)
    assert classifier.output.weight.dtype == np.float64
    weight, bias = list(nn.DBN((4, 99), 99).parameters())[-2:]
    assert weight.data.std() == pytest.approx(0.01, rel=0.05)
    assert not bias.data.any()


def test_the_ordinary_net_is_the_same_function_of_the_same_parameters() -> None:
    net = nn.DBN((4, 3, 2), 5)
    ordinary = net.network()
    assert [type(layer) for layer in ordinary] == [nn.Linear, nn.Sigmoid] * 2 + [nn.Linear]
    x = V.astype(np.float32)
    np.testing.assert_array_equal(ordinary(x).data, net(x).data)
    optimizer = optim.SGD(ordinary.parameters(), lr=0.5)
    F.cross_entropy(ordinary(x), np.arange(16) % 5).backward()
    before = net(x).data
    optimizer.step()
    assert not np.array_equal(net(x).data, before)
    np.testing.assert_array_equal(ordinary(x).data, net(x).data)
    assert list(ordinary.state_dict()) == [
        f"{place}.{kind}" for place in (0, 2, 4) for kind in ("weight", "bias")
    ]


def test_the_ordinary_net_leaves_the_random_numbers_alone() -> None:
    net = nn.DBN((4, 3), 2)
    tk.manual_seed(1)
    expected = tk.rand(1).item()
    tk.manual_seed(1)
    net.network()
    assert tk.rand(1).item() == expected


@pytest.mark.trains
def test_pretraining_teaches_each_machine_what_the_one_below_makes() -> None:
    """As each by itself would learn it; more rows than one block; nothing else is touched."""
    net, alone = nn.DBN((4, 3, 2), 3, dtype=np.float64), nn.DBN((4, 3, 2), 3, dtype=np.float64)
    alone.load_state_dict(net.state_dict())
    rows = np.random.default_rng(2).random((5_000, 4))
    settings: dict[str, Any] = {"lr": 0.3, "momentum": 0.1, "k": 2, "batch_size": 1_000}
    errors = net.pretrain(rows, 2, generator=np.random.default_rng(3), **settings)
    random = np.random.default_rng(3)
    lower, upper = alone.rbms
    expected = [
        lower.fit(rows, 2, generator=random, **settings),
        upper.fit(lower.transform(rows).detach(), 2, generator=random, **settings),
    ]
    np.testing.assert_allclose(errors, expected, rtol=1e-12)
    for key, value in alone.state_dict().items():
        np.testing.assert_allclose(net.state_dict()[key], value, atol=1e-12, err_msg=key)


@pytest.mark.trains
def test_fine_tuning_is_ordinary_backpropagation() -> None:
    net, alone = nn.DBN((4, 3, 2), 3, dtype=np.float64), nn.DBN((4, 3, 2), 3, dtype=np.float64)
    alone.load_state_dict(net.state_dict())
    labels = np.arange(8) % 3
    costs = net.fine_tune(
        DATA, labels, 4, lr=0.7, momentum=0.5, weight_decay=0.1, batch_size=8,
        generator=np.random.default_rng(9),
    )  # fmt: skip
    random, ordinary = np.random.default_rng(9), alone.network()
    optimizer = optim.SGD(ordinary.parameters(), lr=0.7, momentum=0.5, weight_decay=0.1)
    for cost in costs:
        order = random.permutation(8)
        loss = F.cross_entropy(ordinary(DATA[order]), labels[order])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert cost == pytest.approx(loss.item())
    assert len(costs) == 4
    for key, value in alone.state_dict().items():
        np.testing.assert_allclose(net.state_dict()[key], value, atol=1e-12, err_msg=key)


def test_fine_tuning_adds_the_output_that_is_missing() -> None:
    net = nn.DBN((4, 3))
    net.fine_tune(DATA, [0, 1, 2, 3, 4, 5, 5, 5], 1)
    assert net.output is not None
    assert net(DATA).shape == (8, 6)
    fewer = nn.DBN((4, 3), 10)
    kept = fewer.output
    fewer.fine_tune(DATA, Tensor(np.zeros(8, np.int64)), 1)
    assert fewer.output is kept


@pytest.mark.parametrize("labels", [[0, -1], [-2, -1]])
def test_refused_labels_add_no_output(labels: list[int]) -> None:
    net, data = nn.DBN((4, 3)), np.eye(2, 4)
    with pytest.raises(IndexError, match=r"fine_tune: label -\d at \(\d,\) is not in"):
        net.fine_tune(data, labels)
    assert net.output is None
    net.fine_tune(data, [0, 1], epochs=1)
    assert net(data).shape == (2, 2)


def test_progress_names_the_layer() -> None:
    net, seen = nn.DBN((4, 3, 2)), list[Progress]()
    net.pretrain(DATA, 2, batch_size=4, progress=seen.append)
    net.fine_tune(DATA, np.arange(8) % 2, 2, batch_size=4, progress=seen.append)
    assert seen == [
        Progress(layer, 1 + step // 2, step + 1, 4) for layer in range(3) for step in range(4)
    ]


def test_samples_come_down_from_the_top_machine() -> None:
    """Every unit copies the one below it, so the start comes back, whatever it is."""
    net = nn.DBN((2, 2, 2))
    for rbm in net.rbms:
        rbm.weight.data[...] = 40 * np.eye(2)
        rbm.visible_bias.data[...] = rbm.hidden_bias.data[...] = -20
    start = np.array([[0, 1], [1, 1], [0, 0]])
    np.testing.assert_array_equal(net.sample(3, 4, start=start).data, start)
    free = net.sample(2_000, 1)
    assert set(np.unique(free.data)) == {0, 1}
    assert free.data.mean(axis=0) == pytest.approx(0.5, abs=0.06)
    assert not free.requires_grad


def test_a_lower_machine_is_sampled_too_on_the_way_down() -> None:
    net = nn.DBN((1, 1, 1))
    lower, top = net.rbms
    top.visible_bias.data[...] = 40
    lower.visible_bias.data[...], lower.weight.data[...] = -1.0, 2.0
    mean = net.sample(20_000, 1).data.mean()
    assert mean == pytest.approx(1 / (1 + np.exp(-1)), abs=4.5 * 0.45 / 20_000**0.5)


def test_samples_pass_through_every_machine() -> None:
    assert nn.DBN((4, 3, 2, 1)).sample(5, 1).shape == (5, 4)
    assert nn.DBN((4, 3, 2, 1)).sample(5, 1, start=V[:5]).shape == (5, 4)


def test_state_of_a_net_goes_round() -> None:
    net, other = nn.DBN((4, 3, 2), 3, chains=2), nn.DBN((4, 3, 2), 3, chains=2)
    net.pretrain(DATA, 1)
    other.load_state_dict(net.state_dict())
    np.testing.assert_array_equal(net(V).data, other(V).data)
    assert "rbms.1.chains" in net.state_dict()
    assert {p.dtype for p in net.double().network().parameters()} == {np.dtype(np.float64)}


def test_wrong_nets_and_labels_are_named() -> None:
    net = nn.DBN((4, 3), 2)
    with pytest.raises(ValueError, match=r"at least two layers, not \(4,\)"):
        nn.DBN((4,))
    with pytest.raises(ValueError, match="sizes must be at least 1"):
        nn.DBN((4, 0))
    with pytest.raises(ValueError, match=r"\(8, 4\) needs labels \(8,\), not \(7,\)"):
        net.fine_tune(DATA, np.zeros(7, int))
    with pytest.raises(ValueError, match=r"needs labels \(8,\), not \(8, 1\)"):
        net.fine_tune(DATA, np.zeros((8, 1), int))
    with pytest.raises(TypeError, match="labels must be integers, not float64"):
        net.fine_tune(DATA, np.zeros(8))
    with pytest.raises(IndexError, match=r"label 2 at \(3,\) is not in \[0, 2\)"):
        net.fine_tune(DATA, np.array([0, 1, 0, 2, 0, 0, 0, 0]))
    with pytest.raises(TypeError, match="unexpected keyword argument 'rate'"):
        net.pretrain(DATA, rate=0.1)


@pytest.mark.slow
@pytest.mark.trains
def test_pretraining_brings_a_deep_sigmoid_net_to_learn_where_it_stood_still() -> None:
    """The lectures' history in small: same start, same data, same descent."""
    images, labels = (array[:600] for array in tk.data.digits("train"))
    rows = images.reshape(600, 64)

    def accuracy(pretrained: bool) -> float:
        tk.manual_seed(0)
        net = nn.DBN((64, 50, 50, 50), 10)
        if pretrained:
            net.pretrain(rows, 15, lr=0.1, batch_size=10)
        net.fine_tune(rows, labels, 25, lr=0.5, batch_size=10)
        return float((net(rows).data.argmax(axis=1) == labels).mean())

    assert accuracy(pretrained=False) < 0.2
    assert accuracy(pretrained=True) > 0.95
