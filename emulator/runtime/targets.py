"""The functions that child processes run: light to import, since torch is preloaded in the children."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec

from emulator.errors import (
    Deadlock,
    InternalError,
    MethodFailed,
    ProtocolError,
    SplitbedError,
    UserCodeError,
    UserError,
    own_frames,
    root_of,
    told,
    traceback_of,
)
from emulator.host import liveness, resources
from emulator.preflight.dilation import AlgorithmEstimate, MemoryBreakdown, reorder_window_ns
from emulator.runtime.launch_spec import FAILED, LaunchSpec
from emulator.runtime.methods import load_method
from emulator.runtime.watchdog import enter
from emulator.validation import validation_error


def run_node(spec: LaunchSpec, lifeline: Connection, parent: int) -> None:
    """A client or the server."""
    watchdog = enter(spec, lifeline, parent)
    from emulator.runtime import worker

    sys.exit(worker.run_worker(spec, watchdog))


def run_network(spec: LaunchSpec, lifeline: Connection, parent: int, control: Connection, bound: Connection) -> None:
    """The network; ``bound`` is closed when nodes can connect."""
    enter(spec, lifeline, parent)
    from emulator.clock.conductors import CLOCKS
    from emulator.compute.memory import KEEPING, tune_malloc
    from emulator.ledger.events import Started
    from emulator.ledger.files import Ledger
    from emulator.network.fabric import Fabric
    from emulator.transport.router import Router

    tune_malloc(KEEPING)
    names = [client.name for client in spec.scenario.clients] + [spec.scenario.server.name]
    ledger = Ledger(Path(spec.ledger_folder), spec.node)
    ledger.write(Started(due_ns=0, actual_ns=0, role=spec.role, pid=os.getpid()))
    fabric = Fabric(spec.scenario, spec.seed)
    conductor = CLOCKS[spec.clock].conductor(
        spec.dilation, reorder_window_ns(fabric.topology.shared_delay_ns(), spec.dilation)
    )
    router = Router(spec.address, fabric, names, conductor, ledger, control)
    bound.close()
    try:
        router.run()
    except SplitbedError as error:
        control.send(("broken", str(error)))
        sys.exit(FAILED)


def run_evaluator(spec: LaunchSpec, lifeline: Connection, parent: int, control: Connection) -> None:
    """The evaluator."""
    enter(spec, lifeline, parent)
    from emulator.runtime import evaluator

    evaluator.evaluate_snapshots(spec, control)


def run_profiling(spec: LaunchSpec, lifeline: Connection, parent: int, answer: Connection) -> None:
    """Sends back an ``AlgorithmEstimate``, or the error to show."""
    enter(spec, lifeline, parent)
    from emulator.preflight.estimate import estimate_algorithm

    def profile() -> AlgorithmEstimate:
        where = spec.module, spec.settings, spec.scenario, spec.seed
        return estimate_algorithm(*where)

    answer.send(_in_one_thread(profile, spec.algorithm, spec.module, "profiling"))


def run_dry(spec: LaunchSpec, lifeline: Connection, parent: int, answer: Connection) -> None:
    """Profiles and plays dry; writes every node's ledger; sends back the accounts, or the error to show."""
    enter(spec, lifeline, parent)
    from emulator.ledger.files import Ledger
    from emulator.preflight.dry_run import dry_run
    from emulator.preflight.memory_estimate import estimate_memory
    from emulator.preflight.profiling import profile_costs

    where = spec.module, spec.settings, spec.scenario, spec.seed
    folder = Path(spec.ledger_folder)

    def work() -> tuple[list[MemoryBreakdown], list[str]]:
        profiled, breakdowns = profile_costs(*where), estimate_memory(*where)
        with contextlib.ExitStack() as ledgers:
            dry_run(*where, profiled, lambda node: ledgers.enter_context(Ledger(folder, node)).write)
        return breakdowns, profiled.uncharged

    answer.send(_in_one_thread(work, spec.algorithm, spec.module, "the dry run"))


def _in_one_thread(work: Callable[[], Any], algorithm: str, module: str, what: str) -> Any:
    """What ``play`` returns, or the error to show."""
    import torch

    torch.set_num_threads(1)
    try:
        return work()
    except Exception as error:
        root = root_of(error)
        if isinstance(root, UserError):
            return UserError(f"{algorithm}: {root}")
        if isinstance(root, SplitbedError) and not isinstance(root, ProtocolError | Deadlock):
            return root
        if isinstance(root, OSError) and root.errno in resources.FULL:
            where = root.filename or tempfile.gettempdir()
            return UserError(f"{where}: cannot be written ({root.strerror}); make room, or say another --out")
        source = getattr(sys.modules.get(module), "__file__", None)
        return MethodFailed(f"{algorithm}: {what} failed: {told(root, source)}", traceback_of(root))


def prepare_data(
    spec: LaunchSpec, lifeline: Connection, parent: int, answer: Connection, prepare: str, modules: dict[str, Any]
) -> None:
    """Checks every algorithm's settings and calls the dotted ``prepare(task, folder)`` once, before any node starts.

    ``modules``: algorithm -> (module, settings). Sends back the task to give the nodes, warnings to show, all settings
    with their defaults, the facts of the data, for the record: what ``facts(task)`` beside ``prepare`` says, where
    there is one; and how this CPU's kernels are chosen (``arithmetic``). Last, a module may try itself out on the
    prepared task: ``try_out(config)`` raises UserError for what cannot be trained.
    """
    enter(spec, lifeline, parent)
    import importlib

    from emulator.host.kernels import arithmetic

    liveness.PULSE.begin("preparation")
    answer_with: tuple[dict[str, Any], list[str], dict[str, Any], dict[str, Any], dict[str, Any]] | SplitbedError
    try:
        warnings: list[str] = []
        trials: list[tuple[Callable[[Any], None], Any]] = []
        complete: dict[str, Any] = {}
        for name, (module_name, settings) in modules.items():
            module = load_method(name, module_name)
            said = {key: value for key, value in settings.items() if key != "task"}
            if wrong := validation_error(said, module.Config, hidden=("task",)):
                raise UserError(f"--set for {name}: {wrong}")
            config = msgspec.convert(settings, module.Config)
            config.check()
            complete[name] = msgspec.to_builtins(config)
            warnings += [f"{name}: {text}" for text in getattr(module, "warnings", lambda _config: [])(config)]
            trials.append((getattr(module, "try_out", lambda _config: None), config))
        where, _, function = prepare.rpartition(".")
        source = importlib.import_module(where)
        task = getattr(source, function)(config.task, Path(spec.snapshot_folder))
        for try_out, config in trials:
            try_out(msgspec.structs.replace(config, task=task))
        facts: dict[str, Any] = getattr(source, "facts", lambda _task: {})(task)
        answer_with = msgspec.to_builtins(task), warnings, complete, facts, arithmetic()
    except SplitbedError as error:
        answer_with = error
    except Exception as error:
        answer_with = _why_not_prepared(error)
    answer.send(answer_with)


def _why_not_prepared(error: Exception) -> SplitbedError:
    """What the host lacks, or the line of a user's source, or ours, that failed."""
    from emulator.compute.memory import is_out_of_memory

    if isinstance(error, OSError) and error.errno in resources.FULL:
        return resources.full(error, tempfile.gettempdir())
    if is_out_of_memory(error):
        first = " ".join(str(error).split("\n")[0].split()) or type(error).__name__
        return UserError(f"the data or the model are too large for this host's memory ({first}); take smaller ones")
    lines = "".join(traceback.format_exception(error)).rstrip()
    said = f"the preparation failed: {told(error, None)}"
    return UserCodeError(said) if own_frames(lines) else InternalError(f"{said}\n{lines}")
