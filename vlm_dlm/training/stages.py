"""The two stages: which parameters move, what a batch costs, and how well it goes.

The loop around them is `trainer`. The label classifiers never reach the exported checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.scenes.labels import IGNORE, LABEL_SIZES
from vlm_dlm.training.data import Batch, JointDataset, StageDataset, VisionDataset
from vlm_dlm.training.forward import compile_tower, compiled_layer_forward, packed_hidden
from vlm_dlm.training.optimizer import OptimizerPair
from vlm_dlm.training.packing import NO_TARGET
from vlm_dlm.training.recipe import Recipe

Metrics = dict[str, float]

_NONE_SHARE = 0.5  # weight of all cells labelled "none" over that of the others, which are few
_MIN_CELLS = 64.0  # a label that hardly occurs in a batch must not dominate its step
_LABELS_WITHOUT_NONE = ("background", "is_chart", "short_side")


class Stage(Protocol):
    """What the training loop needs of a stage."""

    name: str
    optimizer: OptimizerPair

    @property
    def dataset(self) -> StageDataset:
        """What is trained on."""
        ...

    @property
    def heldout(self) -> StageDataset:
        """What evaluation sees."""
        ...

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Loss to minimise, and what to log."""
        ...

    def extra_state(self) -> dict[str, Any]:
        """State beside model and optimizer."""
        ...

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Undo `extra_state`."""
        ...

    def finish(self, batches: Iterator[Batch]) -> None:
        """Called once when the stage is over."""
        ...


class VisionStage:
    """Tower and projector alone, with a linear classifier per dense label on every image token.

    The projector of weights that were trained before stays as it is: their decoder reads what comes
    out of it, so the tower learns to say more in the same terms.
    """

    name = "vision"

    def __init__(self, model: VlmModel, recipe: Recipe, seed: int, has_start: bool = False) -> None:
        assert model.vision is not None
        self.has_start = has_start
        self.vision = model.vision
        self.recipe = recipe
        self.device = model.device
        self.dataset = VisionDataset(recipe, seed)
        self.heldout = VisionDataset(recipe, seed, "heldout")
        self.vision.requires_grad_(True)
        self.vision.multi_modal_projector.requires_grad_(not has_start)
        if recipe.compile_layers:
            compile_tower(self.vision)
        self.head = _new_head(recipe, seed).to(self.device)
        named = [*self.vision.named_parameters(), *_named_head(self.head)]
        self.optimizer = OptimizerPair(named, recipe, recipe.vision_muon_lr)

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        with _autocast(self.device):
            features = self.vision(batch["pixels"])  # [n, h * w, D]
            return _labels_loss(self.head(features), batch)

    def extra_state(self) -> dict[str, Any]:
        return {"head": self.head.state_dict()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.head.load_state_dict(state["head"])

    def finish(self, batches: Iterator[Batch]) -> None:
        """Scale a fresh projector so that image features enter the decoder as large as
        embeddings."""
        if self.has_start:
            return
        with _autocast(self.device):  # as in training, or every layer would be compiled again
            squares = [self.vision(batch["pixels"]).detach().square().mean() for batch in batches]
        rms = torch.stack(squares).mean().sqrt()
        projector: Any = self.vision.multi_modal_projector
        with torch.no_grad():
            projector.linear_2.weight.mul_(self.recipe.embedding_rms / rms)
            self.head.weight.mul_(rms / self.recipe.embedding_rms)


def _new_head(recipe: Recipe, seed: int) -> nn.Linear:
    """One linear classifier per label, side by side."""
    generator = torch.Generator().manual_seed(seed)
    head = nn.Linear(recipe.hidden_size, sum(LABEL_SIZES.values()))
    nn.init.normal_(head.weight, std=0.02, generator=generator)
    nn.init.zeros_(head.bias)
    return head


def _named_head(head: nn.Linear) -> list[tuple[str, nn.Parameter]]:
    return [(f"head.{name}", parameter) for name, parameter in head.named_parameters()]


def _labels_loss(scores: Tensor, batch: Batch) -> tuple[Tensor, Metrics]:
    """Sum over labels of the loss of scores [n, h * w, sum of label sizes], and accuracies."""
    total = scores.new_zeros((), dtype=torch.float32)
    metrics: Metrics = {}
    for name, part in zip(LABEL_SIZES, scores.split(list(LABEL_SIZES.values()), -1), strict=True):
        loss, accuracy = _label_loss(name, part.flatten(0, 1).float(), batch[name].flatten())
        total = total + loss
        metrics[name] = accuracy
    metrics["labels"] = sum(metrics.values()) / len(metrics)
    return total, metrics


def _label_loss(name: str, scores: Tensor, labels: Tensor) -> tuple[Tensor, float]:
    """scores [cells, classes], labels int64 [cells]. The accuracy is that of cells with something
    in them, where the label has a "none"."""
    is_known = labels != IGNORE
    losses = F.cross_entropy(scores, labels, ignore_index=IGNORE, reduction="none")  # [cells]
    weights = is_known.float()
    is_scored = is_known
    if name not in _LABELS_WITHOUT_NONE:
        is_object = is_known & (labels > 0)
        num_objects, num_known = int(is_object.sum()), int(is_known.sum())
        share = min(1.0, _NONE_SHARE * num_objects / max(1, num_known - num_objects))
        weights = torch.where(labels == 0, share * weights, weights)
        is_scored = is_object if num_objects else is_known
    is_right = (scores.argmax(-1) == labels)[is_scored]
    loss = (losses * weights).sum() / weights.sum().clamp_min(_MIN_CELLS)
    return loss, float(is_right.float().mean())


class JointStage:
    """Everything on packed rows. The tower learns slower, held to its labels, or not at all where
    `joint_vision_factor` is 0; the projector learns with the decoder."""

    name = "joint"

    def __init__(self, model: VlmModel, tokenizer: Tokenizer, recipe: Recipe, seed: int) -> None:
        assert model.vision is not None
        self.model = model
        self.recipe = recipe
        self.device = model.device
        self.dataset = JointDataset(recipe, seed, tokenizer)
        self.heldout = JointDataset(recipe, seed, tokenizer, "heldout")
        self.learns_to_see = recipe.joint_vision_factor > 0
        model.vision.multi_modal_projector.requires_grad_(True)
        model.vision.vision_tower.requires_grad_(self.learns_to_see)
        self.head = _new_head(recipe, seed).to(self.device)
        self.head.requires_grad_(self.learns_to_see)
        if recipe.compile_layers:
            compile_tower(model.vision)
        self.run_layer = compiled_layer_forward(recipe.compile_layers)
        self.optimizer = OptimizerPair(
            [*model.named_parameters(), *_named_head(self.head)],
            recipe,
            recipe.muon_lr,
            slow_prefix="vision.vision_tower.",
            slow_factor=recipe.joint_vision_factor,
        )

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        with _autocast(self.device):
            features = self._features(batch)
            hidden = packed_hidden(self.model, batch, features, self.run_layer, torch.bfloat16)
            num_clean = batch["clean_ids"].shape[1]
            is_next = batch["next_target"] != NO_TARGET  # [B, C]
            is_masked = batch["masked_target"] != NO_TARGET  # [B, N]
            next_scores = self.model.logits(hidden[:, :num_clean][is_next])  # [answers, V]
            masked_scores = self.model.logits(hidden[:, num_clean:][is_masked])  # [masks, V]
        next_target = batch["next_target"][is_next]
        masked_target = batch["masked_target"][is_masked]
        weight = batch["masked_weight"][is_masked]
        next_loss = F.cross_entropy(next_scores.float(), next_target)
        each = F.cross_entropy(masked_scores.float(), masked_target, reduction="none")
        masked_loss = (each * weight).sum() / weight.sum()
        is_answer = weight == 1.0  # the rest lies after the end token
        metrics = {
            "next_loss": float(next_loss.detach()),
            "masked_loss": float(masked_loss.detach()),
            "next_accuracy": _accuracy(next_scores, next_target),
            "masked_accuracy": _accuracy(masked_scores[is_answer], masked_target[is_answer]),
        }
        loss = next_loss + self.recipe.masked_loss_weight * masked_loss
        if features is None or not self.learns_to_see:
            return loss, metrics
        with _autocast(self.device):
            label_loss, label_metrics = _labels_loss(self.head(features), batch)
        metrics["labels"] = label_metrics["labels"]
        metrics["text_label"] = label_metrics["text"]
        return loss + self.recipe.label_loss_weight * label_loss, metrics

    def _features(self, batch: Batch) -> Tensor | None:
        """[B, h * w, D], or None for a batch without images."""
        if "pixels" not in batch:
            return None
        return self.model.encode_images(batch["pixels"])

    def extra_state(self) -> dict[str, Any]:
        return {"head": self.head.state_dict()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.head.load_state_dict(state["head"])

    def finish(self, batches: Iterator[Batch]) -> None:
        pass


def scale_embeddings(model: VlmModel, rms: float, seed: int) -> None:
    """Fresh token embeddings of the given RMS."""
    generator = torch.Generator().manual_seed(seed)
    weight = model.decoder.embed_tokens.weight
    values = torch.empty(weight.shape).normal_(0.0, rms, generator=generator)
    with torch.no_grad():
        weight.copy_(values)


def _autocast(device: torch.device) -> AbstractContextManager[object]:
    return torch.autocast(device.type, torch.bfloat16)


def _accuracy(scores: Tensor, target: Tensor) -> float:
    return float((scores.argmax(-1) == target).float().mean())
