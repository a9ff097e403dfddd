"""The commands: their arguments, and what each of them calls."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import NoReturn

from jsonargparse import ArgumentParser, Namespace
from tqdm import tqdm

import compvae_fast
from compvae_fast import generation, report
from compvae_fast.bench.command import bench
from compvae_fast.data.households import RecordFiles
from compvae_fast.data.households.files import PLACES
from compvae_fast.models import CompVAEConfig, TrainingRecipe, preset_config, presets, recipe
from compvae_fast.streaming import open_parts
from compvae_fast.training import BadInput, Run, Trained, TrainingConfig, load_run, paced, train
from compvae_fast.training.files import new_output, write_json
from compvae_fast.training.threads import at_most

PROGRAM = "compvae_fast"


class _Parser(ArgumentParser):
    """A parser whose refusals are BadInput."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise BadInput(_readable(message)) from ex


def run(arguments: list[str]) -> int:
    """Parse ``arguments``, run the command they name, and return its exit code."""
    preset = next((argument for argument in arguments if argument in presets()), presets()[0])
    try:
        options = _parser(preset).parse_args(arguments)
    except UnicodeDecodeError as error:
        raise BadInput("--config: expected a YAML file, got one that is no text") from error
    return _COMMANDS[options.command][0](options[options.command])


def _parser(preset: str) -> ArgumentParser:
    """All commands; ``train`` has the defaults of ``preset``."""
    parser = _Parser(prog=PROGRAM, description=compvae_fast.__doc__, version=compvae_fast.__version__)
    commands = parser.add_subcommands(dest="command")
    for name, (function, add_arguments) in _COMMANDS.items():
        command = _Parser(description=function.__doc__)
        add_arguments(command, preset)
        commands.add_subcommand(name, command, help=function.__doc__)
    return parser


# What jsonargparse names by their types.
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "tuple": "numbers as [2,4]",
          "NoneType": "null"}


def _readable(message: str) -> str:
    """A refusal of jsonargparse in the words of the others."""
    refused = re.search(r'Parser key "(.+?)":.*(?:Got|Given) value: (.*)', message, re.DOTALL)
    kinds = re.findall(r"Expected a <class '(\w+)'>", message)
    if refused and kinds:
        wanted = " or ".join(_KINDS.get(kind, kind) for kind in kinds)
        return f"--{refused[1]}: expected {wanted}, got {refused[2].strip()!r}"
    return re.sub(rf"\b(?:{'|'.join(_COMMANDS)})\.(\w+)", r"\1", message)


def _train(options: Namespace) -> int:
    """Train a preset into a run folder; the same command again goes on where it stopped."""
    settings = ("steps", "horizon", "seed", "log_every", "checkpoint_every", "keep_every", "threads", "device",
                "precision", "graphs")
    try:
        preset_config(options.preset)
        config = TrainingConfig(
            model=CompVAEConfig(**vars(options.model), preset=options.preset),
            recipe=TrainingRecipe(**vars(options.recipe)),
            data=_records(options.data),
            **{name: options[name] for name in settings},
        )
    except (ValueError, TypeError) as error:
        raise BadInput(str(error)) from error
    return _ending(train(config, options.out, set_parallel=options.set_parallel), config.steps, options.out)


def _train_arguments(parser: ArgumentParser, preset: str) -> None:
    parser.add_argument("preset", type=str, help=f"one of {', '.join(presets())}")
    parser.add_argument("--config", action="config", help="a YAML file with any of these options")
    parser.add_argument("--out", type=str, required=True, help="the run folder: new, empty, or this run's")
    parser.add_argument(
        "--steps", type=int, default=recipe(preset).steps, help="where to stop, from the run's beginning"
    )
    parser.add_argument(
        "--horizon", type=int | None, help="where the schedules end; null: where the first start was to stop"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, data and noise")
    parser.add_argument("--log_every", type=int, default=50, help="steps to a row of the log")
    parser.add_argument("--checkpoint_every", type=int, default=500, help="steps to a checkpoint")
    parser.add_argument("--keep_every", type=int | None, help="steps to a checkpoint that is kept; null: the last two")
    parser.add_argument("--threads", type=int | None, help="CPU threads; null: torch's choice at the first start")
    parser.add_argument("--device", type=str, default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", type=str, default="float32", help="of the networks: float32, tf32 or bf16")
    parser.add_argument("--graphs", type=bool, default=False, help="whole steps as CUDA graphs; of CUDA devices")
    parser.add_argument(
        "--set_parallel",
        type=int,
        default=1,
        help="of the processes that torchrun started, how many share out the parts of the same wholes",
    )
    defaults = {"recipe": recipe(preset).to_dict(), "model": preset_config(preset).to_dict()}
    del defaults["recipe"]["steps"], defaults["model"]["preset"]
    parser.add_class_arguments(TrainingRecipe, "recipe", skip={"steps"})
    parser.add_class_arguments(CompVAEConfig, "model", skip={"preset"})
    parser.add_class_arguments(RecordFiles, "data", skip={"sha256"})
    parser.set_defaults(defaults)


def _records(options: Namespace) -> RecordFiles | None:
    """Users' files, where any is named."""
    named = any(getattr(options, name) is not None for name in PLACES)
    return RecordFiles(**vars(options)) if named else None


def _ending(ended: Trained, steps: int, out: str) -> int:
    """Say how training ended; the exit code."""
    skipped = f", {ended.skipped} of them skipped" if ended.skipped else ""
    if ended.rank:
        return 0 if ended.signal is None else 128 + ended.signal
    if ended.signal is not None:
        _say(f"stopped at step {ended.step} of {steps}{skipped}, saved in {out}; the same command goes on from there")
        return 128 + ended.signal
    _say(f"{out} holds {ended.step} of {steps} steps{skipped}")
    return 0


def _generate(options: Namespace) -> int:
    """Draw wholes of one multiset of labels from a run, into an .npz; or those of a table, into a folder."""
    if options.jobs is not None:
        return _generate_table(options)
    out = new_output(Path(options.out), overwrite=options.overwrite)
    trained = load_run(options.run)
    config, asked = trained.model.config, trained.model.problem
    file = None if options.labels_file is None else Path(options.labels_file)
    labels = None if options.labels is None else generation.parse_labels(options.labels, config)
    features = context = None
    if options.features is not None:
        features = generation.parse_features(options.features, len(labels or ()), asked)
    if options.context is not None:
        context = generation.read_context(Path(options.context), asked)
    with _progress_bar("part", 0 if file is None else _parts_in(file)) as bar:
        wholes = generation.generate_wholes(
            trained,
            labels=labels,
            features=features,
            context=context,
            counts=None if options.counts is None else generation.parse_counts(options.counts, config),
            labels_file=file,
            n=options.n,
            first=options.first,
            seed=options.seed,
            noise=options.noise,
            progress=bar.update,
        )
    generation.write_wholes(out, wholes)
    _say(f"{out} holds x {list(wholes['x'].shape)}")
    return 0


def _generate_table(options: Namespace) -> int:
    for name in ("labels", "counts", "labels_file", "features", "context"):
        if options[name] is not None:
            raise BadInput(f"--{name}: expected none beside --jobs")
    trained = load_run(options.run)
    jobs = generation.read_jobs(Path(options.jobs), trained.model.config)
    worker = generation.Worker.of_environment()
    with _progress_bar("whole", jobs.wholes // worker.count if worker.rank == 0 else 0) as bar:
        ended = generation.generate_shards(
            trained, jobs, Path(options.out), per_shard=options.wholes_per_shard, noise=options.noise, worker=worker,
            progress=bar.update,
        )
    if worker.rank:
        return 0 if ended.signal is None else 128 + ended.signal
    if ended.signal is not None:
        _say(f"stopped at {ended.wholes} of {ended.asked} wholes; the same command goes on from there")
        return 128 + ended.signal
    _say(f"{options.out} holds {ended.wholes} of {ended.asked} wholes")
    return 0


def _generate_arguments(parser: ArgumentParser, _preset: str) -> None:
    _run_argument(parser)
    parser.add_argument("--labels", type=str | None, help="the parts' labels, as 1,1,5,7")
    parser.add_argument("--counts", type=str | None, help="instead of labels: label:count, as 1:1000000,5:3")
    parser.add_argument("--labels_file", type=str | None, help="instead of both: a .npy, .txt or .csv of labels")
    parser.add_argument(
        "--jobs", type=str | None, help="instead of these: a .csv, .parquet or .npz with labels or counts, seed and n"
    )
    parser.add_argument(
        "--features", type=str | None, help="beside labels of parts that have features: of each part, as 0.1,-0.3;0.5,0"
    )
    parser.add_argument("--context", type=str | None, help="external factors, where wholes have them: a .npy file")
    parser.add_argument("--n", type=int, default=1, help="wholes to draw")
    parser.add_argument("--first", type=int, default=0, help="index of the first of them, to draw one of many alone")
    parser.add_argument("--noise", type=bool, default=True, help="whether observation noise is added")
    parser.add_argument("--wholes_per_shard", type=int, default=1024, help="with --jobs, whose --out is a folder")
    _output_arguments(parser)


def _edit(options: Namespace) -> int:
    """Take parts away from observed wholes and put new ones in, from .npz to .npz."""
    out = new_output(Path(options.out), overwrite=options.overwrite)
    trained = load_run(options.run)
    config = trained.model.config
    remove, add = (
        [] if text is None else generation.parse_labels(text, config, name=name)
        for name, text in (("--remove", options.remove), ("--add", options.add))
    )
    if not remove and not add:
        raise BadInput("--remove, --add: expected labels for at least one of them")
    wholes = generation.read_wholes(Path(options.input), trained.model.problem)
    features = None
    if options.add_features is not None:
        features = generation.parse_features(
            options.add_features, len(add), trained.model.problem, name="--add_features"
        )
    edited = generation.edit_wholes(
        trained, **wholes, remove=remove, add=add, added_features=features, seed=options.seed
    )
    generation.write_wholes(out, edited)
    _say(f"{out} holds x {list(edited['x'].shape)}")
    return 0


def _edit_arguments(parser: ArgumentParser, _preset: str) -> None:
    _run_argument(parser)
    parser.add_argument(
        "--input", type=str, required=True, help="an .npz with x [n, ...] and labels [K] or [n, K], as generate writes"
    )
    parser.add_argument("--remove", type=str | None, help="labels of parts to take away, as 2 or 2,2,9")
    parser.add_argument("--add", type=str | None, help="labels of parts to put in")
    parser.add_argument("--add_features", type=str | None, help="their features, where parts have any: 0.1,-0.3;0,0")
    _output_arguments(parser)


def _evaluate(options: Namespace) -> int:
    """Measure a run's wholes against true ones: distances, amplitude, bits, bounds and edits."""
    out = None if options.out is None else new_output(Path(options.out), overwrite=options.overwrite)
    trained = _measured(options.run)
    rows = report.measure(
        trained.model,
        sizes=options.sizes,
        n=options.n,
        multisets=options.multisets,
        importance=options.importance,
        seed=options.seed,
    )
    edits = report.measure_edits(trained.model, seed=options.seed)
    print(report.as_text(rows, report.COLUMNS))
    if edits:
        print()
        print(report.as_text(edits, report.EDIT_COLUMNS))
    if out is not None:
        write_json(out, {"step": trained.step, "rows": rows, "edits": edits})
    return 0


def _evaluate_arguments(parser: ArgumentParser, _preset: str) -> None:
    _run_argument(parser)
    parser.add_argument("--sizes", type=tuple[int, ...] | None, help="numbers of parts; null: the problem's own")
    _measure_arguments(parser, importance=64)
    _output_arguments(parser, required=False)


def _report(options: Namespace) -> int:
    """Write a run's report, one page: RUN/index.html."""
    return _write_report(options.run, options)


def _write_report(run: str, options: Namespace) -> int:
    print(report.write_report(_measured(run), **_measurement(options)))
    return 0


def _measurement(options: Namespace) -> dict[str, int]:
    return {name: options[name] for name in ("n", "multisets", "importance", "seed")}


def _measured(path: str) -> Run:
    """The run at ``path``, and what true wholes are made of."""
    run = load_run(path)
    try:
        run.model.problem.open()
    except (OSError, ValueError, ImportError) as error:
        raise BadInput(str(error)) from error
    return run


def _report_arguments(parser: ArgumentParser, _preset: str) -> None:
    _run_argument(parser)
    _measure_arguments(parser, importance=16)
    parser.add_argument("--seed", type=int, default=0, help="of the draws")


def _explore(options: Namespace) -> int:
    """Serve a page on this machine to put parts together and see the distribution of their whole."""
    try:
        from compvae_fast.explore.server import serve
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(PROGRAM):
            raise
        missing = error.name.partition(".")[0]
        raise BadInput(f"{missing} is not installed; explore needs pip install 'compvae-fast[explore]'") from None
    run = load_run(options.run)
    serve(run, port=options.port, address=options.address, browser=options.browser, tell=_say)
    return 0


def _explore_arguments(parser: ArgumentParser, _preset: str) -> None:
    _run_argument(parser)
    parser.add_argument("--port", type=int, default=5006, help="where to serve; 0: a free port")
    parser.add_argument("--address", type=str, default="127.0.0.1", help="the interface: this machine alone by default")
    parser.add_argument("--no-browser", dest="browser", action="store_false", help="open no browser")


def _info(_options: Namespace) -> int:
    """Print versions, the processor's features, threads and the backends."""
    print(report.info_text())
    return 0


def _demo(options: Namespace) -> int:
    """Train sines-small for some minutes and write its report; again, it goes on where it stopped."""
    config = TrainingConfig.from_preset("sines-small", seed=options.seed)
    report.check_measured(**_measurement(options))
    config = paced(config, Path(options.out), options.minutes)
    latest = time.monotonic() + 60 * options.minutes * 1.3
    ended = train(config, options.out, stop=lambda: time.monotonic() > latest)
    code = _ending(ended, config.steps, options.out)
    with at_most(config.threads):
        return code or _write_report(options.out, options)


def _demo_arguments(parser: ArgumentParser, _preset: str) -> None:
    parser.add_argument("--out", type=str, default="runs/demo", help="the run folder")
    parser.add_argument("--minutes", type=float, default=4.5, help="about how long to train, on this machine")
    _measure_arguments(parser, importance=16)
    parser.add_argument("--seed", type=int, default=0, help="of weights, data, noise and pictures")


def _bench(options: Namespace) -> int:
    """Time the operations beside plain PyTorch and established libraries, and write a page of the results."""
    print(
        bench(
            options.operations,
            chosen=options.backend,
            dtype=options.dtype,
            seconds=(0.1 if options.quick else 2.0) if options.seconds is None else options.seconds,
            quick=options.quick,
            out=options.out,
            overwrite=options.overwrite,
            resume=options.resume,
            tell=_say,
        )
    )
    return 0


def _bench_arguments(parser: ArgumentParser, _preset: str) -> None:
    parser.add_argument("operations", type=str, nargs="*", default=[], help="names of operations; none: all")
    parser.add_argument("--quick", action="store_true", help="small shapes, and without torch.compile")
    parser.add_argument("--backend", type=str, nargs="+", default=[], help="backends to time; none: the fastest here")
    parser.add_argument(
        "--dtype", type=str, default="float32", help="of the inputs: float32, float64, bfloat16, float16"
    )
    parser.add_argument("--seconds", type=float | None, help="for each call that is timed; null: 2, in a hurry 0.1")
    parser.add_argument("--out", type=str, default="runs/bench", help="the folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the run that the folder holds")
    parser.add_argument("--resume", action="store_true", help="go on with the run that the folder holds")


def _no_arguments(_parser: ArgumentParser, _preset: str) -> None:
    pass


def _run_argument(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="a run folder, or one of its checkpoints")


def _measure_arguments(parser: ArgumentParser, *, importance: int) -> None:
    parser.add_argument("--n", type=int, default=1000, help="wholes per multiset of labels")
    parser.add_argument("--multisets", type=int, default=4, help="random multisets per number of parts")
    parser.add_argument("--importance", type=int, default=importance, help="samples of the importance-weighted bound")


def _output_arguments(parser: ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--out", type=str if required else str | None, required=required, help="the file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace that file if it is there")


def _parts_in(path: Path) -> int:
    """How many parts a file has; 0 for one that cannot serve, of which generating tells more."""
    try:
        return len(open_parts(path))
    except (OSError, ValueError):
        return 0


def _progress_bar(unit: str, total: int) -> tqdm:
    """A bar with the rate and the time left; none where there is nothing to wait for."""
    return tqdm(
        total=total,
        unit=unit,
        unit_scale=True,
        disable=not total,
        dynamic_ncols=True,
        mininterval=0.2 if sys.stderr.isatty() else 10.0,
    )


def _say(text: str) -> None:
    """One line on stderr: stdout is for results."""
    print(f"{PROGRAM}: {text}", file=sys.stderr)


_COMMANDS = {
    "train": (_train, _train_arguments),
    "generate": (_generate, _generate_arguments),
    "edit": (_edit, _edit_arguments),
    "evaluate": (_evaluate, _evaluate_arguments),
    "report": (_report, _report_arguments),
    "explore": (_explore, _explore_arguments),
    "info": (_info, _no_arguments),
    "demo": (_demo, _demo_arguments),
    "bench": (_bench, _bench_arguments),
}
