"""The training run: both stages under one time budget, with logs, checkpoints and the export.

Owns the loop, time and files. What a stage learns is `stages`, what it sees is `data`.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from vlm_dlm.checkpoint.model_types import read_config
from vlm_dlm.errors import CheckpointError
from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.model.weights import load_model, new_model
from vlm_dlm.training.data import Batch, stream
from vlm_dlm.training.export import export
from vlm_dlm.training.folder import STATE_FOLDER, open_folder
from vlm_dlm.training.optimizer import lr_factor
from vlm_dlm.training.recipe import MAY_CHANGE, Recipe
from vlm_dlm.training.stages import JointStage, Metrics, Stage, VisionStage, scale_embeddings
from vlm_dlm.training.state import (
    AFTER_VISION,
    RunState,
    keep_state,
    load_state,
    save_state,
)
from vlm_dlm.training.tokenizer import build_tokenizer, training_texts

Progress = Callable[[dict[str, Any]], None]
LOG_FILE = "log.jsonl"

log = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    out: Path,
    minutes: float,
    seed: int | None = None,
    resume: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
    start: Path | None = None,
) -> None:
    """Train the checkpoint and leave it in `out`; intermediate state lives in `out/state`.

    Args:
        recipe: hyperparameters.
        out: folder of the finished checkpoint.
        minutes: time budget of both stages; a stage with fixed steps ignores it.
        seed: of weights and data; None means 0, or that of the run to resume.
        resume: continue from `out/state` instead of starting over.
        device: where the model trains.
        progress: called with every log record.
        start: finished checkpoint to begin with instead of fresh weights. Counts restart at 0.

    Raises:
        CheckpointError: `resume` without a state, a state without `resume`, `resume` with `start`
            or with another seed or recipe, or a `start` that is damaged or of another architecture.
        BadInputError: a folder that cannot be made.
    """
    open_folder(out, resume, start)
    resumed = load_state(out) if resume else None
    if resumed is not None:
        _check_same_run(resumed, recipe, seed)
    recipe = _runnable(recipe)
    seed = (seed or 0) if resumed is None else resumed.seed
    model = new_model(recipe.model_config(), seed)
    if resumed is not None:
        state = resumed
        model.load_state_dict(state.model)
    elif start is not None:
        state = _state_from(start, model, seed)
    else:
        texts = training_texts(recipe.num_tokenizer_texts, seed)
        state = RunState(seed, build_tokenizer(texts, recipe.num_entries).to_str())
        scale_embeddings(model, recipe.embedding_rms, seed)
    state.recipe = asdict(recipe)
    run = _Run(recipe, out, minutes * 60, state, model.to(device), progress)
    if state.stage == "vision":
        run.vision()
    run.joint()


def _check_same_run(state: RunState, recipe: Recipe, seed: int | None) -> None:
    """What goes on must be what was begun: neither its data nor its settings may change."""
    if seed not in (None, state.seed):
        raise CheckpointError(f"the run was begun with seed {state.seed}, not {seed}; leave it out")
    if state.recipe is None:
        return
    values = asdict(recipe)
    changed = sorted(n for n in values if n not in MAY_CHANGE and state.recipe.get(n) != values[n])
    if changed:
        raise CheckpointError(
            f"the run was begun with other settings: {', '.join(changed)}; begin a new one"
        )


def _runnable(recipe: Recipe) -> Recipe:
    """The same recipe; uncompiled where there is no compiler, which is slower."""
    default = "clang++" if sys.platform == "darwin" else "g++"
    command = shlex.split(os.environ.get("CXX", "")) or [default]
    if not recipe.compile_layers or shutil.which(command[0]):
        return recipe
    log.warning("there is no C++ compiler (%s): layers run uncompiled, and slower", command[0])
    return replace(recipe, compile_layers=False)


def _state_from(folder: Path, model: VlmModel, seed: int) -> RunState:
    """Fill `model` from a finished checkpoint and keep its tokenizer."""
    if read_config(folder) != model.config:
        raise CheckpointError(f"{folder} has another architecture than the recipe")
    try:
        tokenizer = (folder / "tokenizer.json").read_text(encoding="utf-8")
    except OSError:
        raise CheckpointError(f"{folder} has no readable tokenizer.json") from None
    model.load_state_dict(load_model(folder).state_dict())
    return RunState(seed, tokenizer, has_start=True)


class _Run:
    """One process's part of a run."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        budget: float,
        state: RunState,
        model: VlmModel,
        progress: Progress | None,
    ) -> None:
        self.recipe = recipe
        self.out = out
        self.budget = budget  # seconds
        self.state = state
        self.model = model
        self.progress = progress
        self._heldout: list[Batch] = []
        (out / STATE_FOLDER).mkdir(parents=True, exist_ok=True)

    def vision(self) -> None:
        stage = VisionStage(self.model, self.recipe, self.state.seed, self.state.has_start)
        budget = self.budget * self.recipe.vision_share
        self._run_stage(stage, budget, self.recipe.vision_steps)
        stage.finish(self._on_device(batch) for batch in self._heldout)
        self.state.stage = "joint"
        self.state.optimizer, self.state.extra = None, stage.extra_state()
        self._save_model_state()
        keep_state(self.out, AFTER_VISION)

    def joint(self) -> None:
        tokenizer = Tokenizer.from_str(self.state.tokenizer)
        stage = JointStage(self.model, tokenizer, self.recipe, self.state.seed)
        budget = self.budget - self.state.seconds["vision"]
        self._run_stage(stage, budget, self.recipe.joint_steps)
        export(self.model, self.state, self.recipe, self.out)

    def _run_stage(self, stage: Stage, budget: float, num_steps: int | None) -> None:
        """Steps until the budget in seconds or in steps is used up, then a last evaluation."""
        state, recipe, name = self.state, self.recipe, stage.name
        if state.extra is not None:
            stage.load_extra_state(state.extra)
        if state.optimizer is not None:
            stage.optimizer.load_state_dict(state.optimizer)
        self._heldout = [stage.heldout[index] for index in range(recipe.eval_batches)]
        batches = stream(stage.dataset, state.steps[name], recipe.num_workers)
        window = _Window()
        offset = time.monotonic() - state.seconds[name]
        next_save, next_eval = recipe.checkpoint_seconds, recipe.eval_seconds
        next_save, next_eval = (state.seconds[name] + wait for wait in (next_save, next_eval))
        while (share := self._progress(name, budget, num_steps)) < 1.0:
            factor = lr_factor(recipe, state.steps[name], share)
            self._step(stage, next(batches), factor, window)
            state.seconds[name] = time.monotonic() - offset
            if state.steps[name] % recipe.log_every == 0:
                self._log(name, {"lr_factor": factor, **window.summary()})
                window = _Window()
            if state.seconds[name] >= next_eval:
                self._evaluate(stage)
                next_eval = state.seconds[name] + recipe.eval_seconds
            if state.seconds[name] >= next_save:
                self._save(stage)
                next_save = state.seconds[name] + recipe.checkpoint_seconds
        self._evaluate(stage)
        self._save(stage)

    def _progress(self, name: str, budget: float, num_steps: int | None) -> float:
        if num_steps is not None:
            return self.state.steps[name] / num_steps
        return self.state.seconds[name] / max(budget, 1e-9)

    def _step(self, stage: Stage, batch: Batch, factor: float, window: _Window) -> None:
        loss, metrics = stage.loss(self._on_device(batch))
        loss.backward()
        norm = stage.optimizer.step(factor)
        num_samples = len(batch["clean_ids"] if "clean_ids" in batch else batch["pixels"])
        self.state.steps[stage.name] += 1
        self.state.samples[stage.name] += num_samples
        window.add({"loss": float(loss.detach()), "grad_norm": norm, **metrics}, num_samples)

    def _evaluate(self, stage: Stage) -> None:
        """Metrics on held-out batches. Gradients stay enabled: without them every layer would be
        compiled a second time."""
        window = _Window()
        for batch in self._heldout:
            loss, metrics = stage.loss(self._on_device(batch))
            window.add({"loss": float(loss.detach()), **metrics}, 1)
        means = {f"heldout_{name}": value for name, value in window.means().items()}
        self.state.evaluation = means
        self._log(stage.name, means)

    def _save(self, stage: Stage) -> None:
        self.state.optimizer = stage.optimizer.state_dict()
        self.state.extra = stage.extra_state()
        self._save_model_state()
        if stage.name == "joint":
            export(self.model, self.state, self.recipe, self.out)

    def _save_model_state(self) -> None:
        self.state.model = self.model.state_dict()
        save_state(self.state, self.out)

    def _log(self, name: str, values: Metrics) -> None:
        state = self.state
        record: dict[str, Any] = {"stage": name, "step": state.steps[name]}
        record["seconds"] = round(state.seconds[name], 2)
        record |= {key: round(value, 5) for key, value in values.items()}
        with (self.out / STATE_FOLDER / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self.progress is not None:
            self.progress(record)

    def _on_device(self, batch: Batch) -> Batch:
        device = self.model.device
        return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


class _Window:
    """Running means between two log records."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = defaultdict(list)
        self._samples = 0
        self._start = time.monotonic()

    def add(self, metrics: Metrics, num_samples: int) -> None:
        """One step's metrics."""
        for name, value in metrics.items():
            self._values[name].append(value)
        self._samples += num_samples

    def means(self) -> Metrics:
        """Mean of every metric over the steps that had it."""
        return {name: sum(values) / len(values) for name, values in self._values.items()}

    def summary(self) -> Metrics:
        """Means and throughput."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        return {**self.means(), "samples_per_second": self._samples / seconds}
