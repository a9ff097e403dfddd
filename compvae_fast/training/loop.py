"""The training loop."""

from __future__ import annotations

import contextlib
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from compvae_fast.data import Batch

from .captured import CapturedSteps
from .checkpoint import Checkpoint
from .config import TrainingConfig
from .errors import BadInput, Failure
from .folder import RunFolder, begin, claimed, settle
from .interrupt import interruptible
from .log import Log
from .optimiser import make_optimiser, set_learning_rate
from .processes import Processes, together
from .state import TERMS, TrainingState, rounding, step_seed
from .threads import at_most

if TYPE_CHECKING:
    from tqdm import tqdm

SKIPPED_IN_A_ROW = 1000
_AT_LEAST_ONE = ("batch", "k_min", "k_start", "k_max", "k_every", "lr_halve_every")


@dataclass(frozen=True)
class Trained:
    """How a call of ``train`` ended: the step reached, steps skipped, the signal that stopped it, or None.

    rank tells apart the processes of one run, which all end alike.
    """

    step: int
    skipped: int
    signal: int | None
    rank: int = 0


def train(
    config: TrainingConfig,
    out: str | Path,
    *,
    show: bool = True,
    stop: Callable[[], bool] = lambda: False,
    set_parallel: int = 1,
) -> Trained:
    """Train into the run folder ``out``, or go on with the run that is there, up to ``config.steps``.

    The noise of a step is a function of (seed, step), and everything else is in the checkpoints: however
    often a run is stopped or killed, the same call again ends in the same weights, optimiser state, averages
    and log, bit for bit (on one machine with one build of torch).

    Args:
        config: what to train; the folder must be new or hold a run of the same configuration.
        out: the run folder.
        show: a progress bar on stderr.
        stop: asked after each step; true saves and returns.
        set_parallel: of the processes that torchrun started, how many share out the parts of the same wholes; the
            others share out the wholes. Losses are those of one process to rounding; process 0 alone has the folder,
            and a run may go on with another number of processes.

    Returns how it ended. A first SIGINT or SIGTERM saves and returns too. Raises BadInput for a folder that
    cannot serve, Failure where saving fails or training has diverged.
    """
    import safetensors  # noqa: F401  # where saving would find it missing, steps would be lost

    check(config)
    with together(set_parallel, config.device) as processes:
        if config.graphs and processes.count > 1:
            raise BadInput(f"graphs: expected one process, got {processes.count}")
        if processes.count > config.recipe.batch:
            raise BadInput(f"recipe.batch: expected at least the number of processes, {processes.count}")
        with _folder(Path(out), processes) as folder:
            config = processes.from_first(None if folder is None else settle(folder, config))
            with at_most(config.threads), products(config), interruptible() as heard:
                return _train(config, folder, processes, heard, show, stop)


@contextlib.contextmanager
def _folder(path: Path, processes: Processes) -> Iterator[RunFolder | None]:
    """The run folder, held by the first process; the others have none, and are told of a refusal."""
    if processes.rank:
        refused = processes.from_first(None)
        if refused is not None:
            raise refused
        yield None
        return
    with contextlib.ExitStack() as held:
        try:
            folder = held.enter_context(claimed(path))
        except (BadInput, Failure) as error:
            processes.from_first(error)
            raise
        processes.from_first(None)
        yield folder


def _train(config, folder: RunFolder | None, processes: Processes, heard, show: bool, stop) -> Trained:
    state = TrainingState(config, processes)
    checkpoint: Checkpoint | None = None
    unusable: list[Path] = []
    if folder is not None:
        begin(folder, config)
        checkpoint, unusable = folder.latest(config.identity())
    checkpoint = processes.from_first(checkpoint)
    if checkpoint is not None:
        state.restore(checkpoint)
        if folder is not None:
            _warn_of_rounding(checkpoint.values["rounding"], rounding(config, processes.count))
    for path in unusable:
        path.rename(path.with_name(path.name + ".damaged"))
    saved = checkpoint.step if checkpoint is not None else None
    with (
        _log(None if folder is None else folder.log_path, state.step) as log,
        _log(None if folder is None else folder.timing_path, state.step) as timing,
        _bar(state.step, config.steps, show and folder is not None) as bar,
    ):

        def save() -> int:
            if folder is not None and log is not None:
                log.flush()
                folder.save(state.checkpoint(), config.keep_every)
            return state.step

        steps = CapturedSteps(state) if config.graphs else None
        begun = time.perf_counter() - (timing.last["seconds"] if timing is not None and timing.last else 0.0)
        while state.step < config.steps:
            if steps is None:
                advance(state)
            else:
                steps.advance()
                if state.step % config.log_every == 0 or state.step % config.checkpoint_every == 0:
                    steps.settle()
            bar.update()
            if state.step % config.log_every == 0:
                row = log_row(state)
                if log is not None and timing is not None:
                    log.write(row)
                    timing.write({"step": state.step, "seconds": round(time.perf_counter() - begun, 3)})
                bar.set_postfix({name: _brief(row[f"{name}_bits"]) for name in ("w", "z", "x")}, refresh=False)
            if state.skipped_in_a_row >= SKIPPED_IN_A_ROW:
                save()
                raise Failure(
                    f"training has diverged: the last {SKIPPED_IN_A_ROW} steps were all skipped; "
                    "the weights are those before them"
                )
            if state.step % config.checkpoint_every == 0:
                saved = save()
            signal = processes.any(heard.signal or 0)
            if signal or processes.any(int(stop())):
                break
        else:
            signal = heard.signal or 0
        if steps is not None:
            steps.settle()
        if saved != state.step:
            save()
    return Trained(state.step, state.skipped, signal or None, processes.rank)


@contextlib.contextmanager
def products(config: TrainingConfig) -> Iterator[None]:
    """Matrix products in TF32 where the configuration says so, and not where it does not, whatever was set before."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if config.precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = config.precision == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def _log(path: Path | None, step: int) -> contextlib.AbstractContextManager[Log | None]:
    return contextlib.nullcontext() if path is None else Log(path, step=step)


def _warn_of_rounding(there: dict[str, str], here: dict[str, str]) -> None:
    there = {"processes": "1", "steps": "launched", **there}
    different = [f"{name} {there.get(name)} there, {here[name]} here" for name in here if there.get(name) != here[name]]
    if different:
        warnings.warn(f"the run goes on, but not bit for bit as it would have: {'; '.join(different)}", stacklevel=4)


def check(config: TrainingConfig) -> None:
    """Raise BadInput for a configuration that cannot train, before anything is written."""
    if config.device != "cpu" and not torch.cuda.is_available():
        raise BadInput(f"device: no CUDA device is here, got {config.device!r}")
    if config.precision == "tf32" and config.device == "cpu":
        raise BadInput("precision: tf32 is of CUDA devices, got device 'cpu'")
    if config.graphs and config.device == "cpu":
        raise BadInput("graphs: expected a CUDA device beside it, got device 'cpu'")
    if config.graphs and not config.problem.takes_within:
        raise BadInput(f"graphs: not offered for the problem {config.model.problem!r}, whose data wait for the device")
    recipe, model = config.recipe, config.model
    first, last = model.first_label, model.first_label + model.num_labels - 1
    rules = {
        **{name: (getattr(recipe, name) >= 1, "at least 1") for name in _AT_LEAST_ONE},
        **{name: (getattr(recipe, name) >= 0, "at least 0") for name in ("warmup", "lr_min")},
        **{name: (getattr(recipe, name) > 0, "more than 0") for name in ("lr", "eps")},
        "betas": (_decays(recipe.betas), "two values in [0, 1)"),
        "rates": (all(factor >= 0 for _, factor in recipe.rates), "factors of at least 0"),
        "momenta": (all(_decays(betas) for _, betas in recipe.momenta), "pairs of values in [0, 1)"),
        "labels": (first <= recipe.labels[0] <= recipe.labels[1] <= last, f"a range within {first}..{last}"),
        "clip": (recipe.clip is None or recipe.clip > 0, "more than 0, or null"),
        "averaging": (recipe.averaging is None or _decays([recipe.averaging]), "a value in [0, 1), or null"),
    }
    for name, (holds, expected) in rules.items():
        if not holds:
            raise BadInput(f"recipe.{name}: expected {expected}, got {getattr(recipe, name)}")
    try:
        config.recipe.learning_rate(0)
        make_optimiser(config.recipe, torch.nn.ParameterList([torch.zeros(1)]), capturable=config.graphs)
        config.problem.open()
        most = config.problem.most_parts
        if most is not None and recipe.k_max > most:
            raise BadInput(f"recipe.k_max: expected at most {most}, the parts that there are, got {recipe.k_max}")
        draw_batch(config, 0)
    except (ValueError, TypeError, ImportError) as error:
        raise BadInput(str(error)) from error


def _decays(values: Iterable[float]) -> bool:
    return all(0 <= value < 1 for value in values)


def draw_batch(config: TrainingConfig, step: int) -> Batch:
    """The data of a step."""
    recipe, asked = config.recipe, config.problem
    return asked.draw(
        recipe.batch,
        recipe.largest_k(step),
        seed=step_seed(config, step),
        k_min=recipe.k_min,
        k_exponent=recipe.k_exponent,
        k_per_batch=recipe.k_per_batch,
        labels=recipe.labels,
        device=config.device,
        **{name: getattr(recipe, name) for name in asked.recipe_options},
    )


def advance(state: TrainingState) -> None:
    """One step; skipped and counted where its objective or gradient is not finite or beyond the recipe's bound."""
    config, recipe = state.config, state.config.recipe
    batch = draw_batch(config, state.step)
    buffers = [(buffer, buffer.clone()) for buffer in state.model.buffers()]
    x, labels, layout = state.processes.share(batch)
    device = torch.device(config.device).type
    with torch.autocast(device, torch.bfloat16, enabled=config.precision == "bf16"):
        losses = state.losses(
            x,
            labels,
            **layout,
            seed=step_seed(config, state.step),
            progress=min(state.step / recipe.steps, 1.0),
        )
    terms = state.processes.mean(torch.stack([getattr(losses, name).detach() for name in TERMS]), recipe.batch)
    for parameter in state.parameters:
        parameter.grad = None
    if taken := _within(terms[TERMS.index("objective")].item(), recipe.skip_above):
        state.processes.objective(losses.objective, recipe.batch).backward()
        norm = torch.nn.utils.clip_grad_norm_(state.parameters, recipe.clip or math.inf)
        taken = math.isfinite(norm.item())
    if taken:
        set_learning_rate(state.optimiser, recipe.learning_rate(state.step))
        state.optimiser.step()
        state.averages.update(state.step - state.skipped)
        state.sums += terms.cpu()
        state.summed += 1
        state.skipped_in_a_row = 0
    else:
        for buffer, before in buffers:
            buffer.copy_(before)
        state.skipped += 1
        state.skipped_in_a_row += 1
    state.step += 1


def _within(objective: float, bound: float | None) -> bool:
    return math.isfinite(objective) and (bound is None or objective <= bound)


def log_row(state: TrainingState) -> dict[str, float | int | None]:
    """The mean losses since the last row (None where every step was skipped), and begin the next row's sums."""
    recipe, last = state.config.recipe, state.step - 1
    row: dict[str, float | int | None] = {"step": state.step}
    for name, total in zip(TERMS, state.sums.tolist()):
        nats = total / state.summed if state.summed else None
        row[f"{name}_nats"] = nats
        row[f"{name}_bits"] = None if nats is None else nats / math.log(2)
    row |= {"k_max": recipe.largest_k(last), "lr": recipe.learning_rate(last), "skipped": state.skipped}
    state.sums.zero_()
    state.summed = 0
    return row


def _brief(bits: float | None) -> str:
    return "-" if bits is None else f"{bits:.1f}b"


def _bar(done: int, steps: int, show: bool) -> tqdm:
    """A bar with steps a second and the time left; on what is no terminal, a line every ten seconds."""
    from tqdm import tqdm

    return tqdm(
        total=steps,
        initial=min(done, steps),
        unit="step",
        disable=not show,
        dynamic_ncols=True,
        mininterval=0.2 if sys.stderr.isatty() else 10.0,
    )
