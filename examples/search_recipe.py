"""A recipe for the 8x8 digits, searched by Optuna: optimizer, rate, width, dropout, batch size.

Each trial trains one net by `tk.fit` on 1,150 digits and is judged on the 287 after them. After
every epoch a callback reports `val_accuracy` from the history; Optuna's median pruner ends trials
that are behind the median of the earlier ones. The 360 test digits are looked at once, at the end.

    python examples/search_recipe.py                        # 40 trials, some seconds
    python examples/search_recipe.py --storage search.log   # goes on with the trials in the file

Start the last command in several terminals at once, and they share the search. The picture of the
trials is saved in out/ (needs matplotlib). Optuna is needed: pip install "tinygrad_kr[search]".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lectures.common import BLUE, ORANGE, label, launch, new_figure, options, save, whole

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import data, nn, optim
from tinygrad_kr.language import Text

IMAGES, LABELS = data.digits("train")
TRAINING, VALIDATION = (IMAGES[:1150], LABELS[:1150]), (IMAGES[1150:], LABELS[1150:])
"""The file is ordered by writer, so most validation digits are from writers not trained on."""
OPTIMIZERS = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW}


def build(recipe: dict[str, Any]) -> nn.Sequential:
    width = recipe["width"]
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, width),
        nn.ReLU(),
        nn.Dropout(recipe["dropout"]),
        nn.Linear(width, 10),
    )


def draw_recipe(trial: Any) -> dict[str, Any]:
    """What the search is free to choose."""
    return {
        "optimizer": trial.suggest_categorical("optimizer", list(OPTIMIZERS)),
        "rate": trial.suggest_float("rate", 1e-4, 1.0, log=True),
        "width": trial.suggest_int("width", 8, 256, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.6),
        "batch": trial.suggest_categorical("batch", [16, 32, 64, 128]),
    }


def train(recipe: dict[str, Any], epochs: int, seed: int, callbacks: Any = ()) -> Any:
    """The net of a recipe, and the history of its training."""
    tk.manual_seed(seed)
    net = build(recipe)
    optimizer = OPTIMIZERS[recipe["optimizer"]](net.parameters(), lr=recipe["rate"])
    history = tk.fit(
        net, TRAINING, F.cross_entropy, optimizer, epochs, validation=VALIDATION,
        metrics=["accuracy"], callbacks=callbacks, batch_size=recipe["batch"], progress=False,
        compile=False,  # each trial is another program, and is over before it would be built
    )  # fmt: skip
    return net, history


def objective(trial: Any, epochs: int, seed: int) -> float:
    """The accuracy of a trial after its last epoch; pruned where it lags behind."""
    import optuna

    def report(training: Any) -> None:
        trial.report(training.history["val_accuracy"][-1], training.epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    _, history = train(draw_recipe(trial), epochs, seed + trial.number, report)
    return float(history["val_accuracy"][-1])


def search(trials: int, epochs: int, seed: int, storage: Path | None = None) -> Any:
    """Optuna's study with so many more trials."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kept = None
    if storage is not None:
        kept = optuna.storages.JournalStorage(JournalFileBackend(str(storage)))
    study = optuna.create_study(
        storage=kept, study_name="digits", load_if_exists=True, direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
    )  # fmt: skip
    study.optimize(lambda trial: objective(trial, epochs, seed), n_trials=trials)
    return study


TRIALS = Text("trials (default: {default})", "시도의 수 (기본값: {default})")
EPOCHS = Text("epochs of a trial (default: {default})", "시도마다 에포크 수 (기본값: {default})")
SEED = Text("of the search (default: {default})", "탐색의 시드 (기본값: {default})")
STORAGE = Text("a file of Optuna's that keeps the trials", "시도를 간직하는 Optuna의 파일")
COUNTED = Text(
    "{all} trials, {pruned} of them pruned, after {epochs} of at most {most} epochs",
    "시도 {all}번, 그 가운데 {pruned}번은 중단. 에포크 {most}번 가운데 {epochs}번만 학습",
)
BEST = Text("best: {recipe}", "가장 좋은 것: {recipe}")
JUDGED = Text(
    "accuracy {validation:.3f} on the validation digits, {test:.3f} on the test digits",
    "정확도: 검증용 숫자 {validation:.3f}, 테스트용 숫자 {test:.3f}",
)
MISSING = Text(
    'this needs Optuna: pip install "tinygrad_kr[search]"',
    'Optuna가 필요합니다: pip install "tinygrad_kr[search]"',
)
RATE, ACCURACY = Text("learning rate", "학습률"), Text("validation accuracy", "검증 정확도")
FINISHED, PRUNED = Text("finished", "끝까지 학습"), Text("pruned", "중단")


def save_picture(study: Any, path: Path) -> None:
    """Each trial's curve, and its last accuracy against its learning rate."""
    figure = new_figure(9, 3.8)
    if figure is None:
        return
    curves, rates = figure.subplots(1, 2, sharey=True)
    for trial in study.trials:
        values = trial.intermediate_values
        if not values:
            continue
        pruned = trial.state.name == "PRUNED"
        colour, name = (ORANGE, PRUNED) if pruned else (BLUE, FINISHED)
        look = {"marker": "x" if pruned else "o", "color": colour}
        curves.plot(
            [*values], [*values.values()], **look, alpha=0.6, linewidth=1, markevery=[-1],
            markersize=4,
        )  # fmt: skip
        last = values[max(values)]
        rates.plot(trial.params["rate"], last, **look, linestyle="", label=label(name))
    curves.set(xlabel=label(Text("epoch", "에포크")), ylabel=label(ACCURACY))
    rates.set(xlabel=label(RATE), xscale="log")
    handles = dict(zip(*rates.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=2, frameon=False)
    save(figure, path)


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv, out="out")
    add = parser.add_argument
    add("--trials", type=whole(1), default=40, help=TRIALS.say(default=40))
    add("--epochs", type=whole(1), default=12, help=EPOCHS.say(default=12))
    add("--seed", type=whole(0), default=0, help=SEED.say(default=0))
    add("--storage", type=Path, help=STORAGE.say())
    args = parser.parse_args(argv)
    try:
        study = search(args.trials, args.epochs, args.seed, args.storage)
    except ModuleNotFoundError as error:
        raise SystemExit(f"{MISSING.say()} ({error})") from None
    trials, best = study.trials, study.best_trial
    pruned = sum(trial.state.name == "PRUNED" for trial in trials)
    epochs = sum(len(trial.intermediate_values) for trial in trials)
    most = len(trials) * args.epochs
    print(COUNTED.say(all=len(trials), pruned=pruned, epochs=epochs, most=most))
    print(BEST.say(recipe=", ".join(f"{name} {shown(x)}" for name, x in best.params.items())))
    net, _ = train(best.params, args.epochs, args.seed + best.number)
    found = tk.evaluate(net, data.digits("test"), F.cross_entropy, metrics=["accuracy"])
    print(JUDGED.say(validation=best.value, test=found["accuracy"]))
    save_picture(study, args.out / "search.png")


def shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


KOREAN = """
8x8 숫자를 위한 설정을 Optuna로 찾습니다: 옵티마이저, 학습률, 폭, 드롭아웃, 배치 크기.

시도마다 신경망 하나를 `tk.fit`으로 숫자 1,150개에서 학습하고, 그다음 287개로 평가합니다.
에포크가 끝날 때마다 콜백이 학습 기록의 `val_accuracy`를 알리고, Optuna의 중앙값 가지치기가 앞선
시도들의 중앙값에 못 미치는 시도를 중단합니다. 테스트용 숫자 360개는 끝에 한 번만 봅니다.

    python examples/search_recipe.py                        # 시도 40번, 몇 초
    python examples/search_recipe.py --storage search.log   # 파일에 있는 시도에 이어서

마지막 명령을 터미널 여럿에서 한꺼번에 실행하면 탐색을 나누어 합니다. 시도들의 그림은 out/에
저장합니다(matplotlib 필요). Optuna가 필요합니다: pip install "tinygrad_kr[search]".
"""

if __name__ == "__main__":
    launch(main)
