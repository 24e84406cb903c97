"""One fit for teacher, cross-fitted networks and every student: the same Trainer, the same budget."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dvclive import Live
from numpy.typing import NDArray
from scmrepo.exceptions import SCMError
from torch import Tensor
from tqdm import tqdm
from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from cpfd.distill.losses import distillation_loss
from cpfd.errors import CpfdError, disk_told
from cpfd.features.store import FeatureStore
from cpfd.files import read_json, remove
from cpfd.metrics import macro_f1
from cpfd.models.xvlm import XVlmConfig, XVlmForVideoClassification, build_model
from cpfd.params.schema import Model, Train
from cpfd.training.batches import Batch, ClipDataset
from cpfd.training.budget import epoch_steps

TARGETS = ("labels", "label_weight", "soft_logits", "soft_weight")


@dataclass(frozen=True)
class TrainingRun:
    """One training: its seed, the title of its progress bar, and the folders that it writes to."""

    seed: int
    title: str
    scratch: Path
    """Where a checkpoint is kept after each epoch: killed and called again with the same folder, training goes on from
    the last one and ends at the same weights."""
    curves: Path | None = None
    """Where DVCLive writes loss, learning rate and validation macro-F1; None: nowhere."""


def fit(
    config: XVlmConfig,
    train: ClipDataset,
    validation: ClipDataset,
    params: Train,
    run: TrainingRun,
    *,
    tau: float = 1.0,
) -> XVlmForVideoClassification:
    """Train a network and return it with the weights of its best validation macro-F1.

    The budget is params.epochs passes over the *labelled* clips: a method that also learns from unlabelled clips sees
    each clip less often, not more steps. `tau` is the temperature of `distillation_loss`.
    """
    torch.set_num_threads(params.threads)
    labelled = int(train.store.labelled[train.rows].sum())
    trainer = DistillationTrainer(
        model_init=lambda: build_model(config),
        args=_training_arguments(params, epoch_steps(labelled, params.batch_size), run),
        train_dataset=train,
        eval_dataset=validation,
        data_collator=_as_is,
        compute_metrics=lambda prediction: _validation_scores(prediction, config.task),
        callbacks=[EarlyStoppingCallback(params.patience), _Progress(run.title, run.curves)],
        tau=tau,
        class_weights=_class_weights(train) if params.class_weighting == "balanced" else None,
    )
    trainer.remove_callback(PrinterCallback)
    run.scratch.mkdir(parents=True, exist_ok=True)
    with disk_told(run.scratch):
        trainer.train(resume_from_checkpoint=_last_whole_checkpoint(run.scratch))
    model = trainer.model
    assert isinstance(model, XVlmForVideoClassification)
    remove(run.scratch)
    return model


def _training_arguments(params: Train, epoch_steps: int, run: TrainingRun) -> TrainingArguments:
    """The settings of a run whose epochs have so many steps; after each it is evaluated and a checkpoint kept."""
    cuda = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(run.scratch),
        max_steps=params.epochs * epoch_steps,
        per_device_train_batch_size=params.batch_size,
        per_device_eval_batch_size=4 * params.batch_size,
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        lr_scheduler_type="cosine",
        warmup_steps=round(params.warmup_share * params.epochs * epoch_steps),
        optim="adamw_torch_fused",
        bf16=cuda and torch.cuda.is_bf16_supported(),
        use_cpu=not cuda,
        eval_strategy="steps",
        eval_steps=epoch_steps,
        save_strategy="steps",
        save_steps=epoch_steps,
        save_total_limit=1,
        logging_steps=epoch_steps,
        load_best_model_at_end=True,
        restore_callback_states_from_checkpoint=True,  # else early stopping would count from nothing again
        metric_for_best_model="macro_f1",
        greater_is_better=True,
        seed=run.seed,
        full_determinism=True,
        remove_unused_columns=False,
        label_names=["labels"],
        disable_tqdm=True,
        report_to=[],
    )


class DistillationTrainer(Trainer):
    """A Trainer whose batches carry the targets and weights of `distillation_loss`."""

    def __init__(self, *args: Any, tau: float, class_weights: Tensor | None, **kwargs: Any) -> None:
        """Pass all but the loss's own settings on to Trainer."""
        super().__init__(*args, **kwargs)
        self.tau, self.class_weights = tau, class_weights

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Mean loss of a batch, and the network's outputs where they are asked for."""
        content = {name: value for name, value in inputs.items() if name not in TARGETS}
        outputs = model(**content)
        config: XVlmConfig = self.accelerator.unwrap_model(model).config
        loss = distillation_loss(
            outputs.logits,
            *(inputs[name] for name in TARGETS),
            task=config.task,
            tau=self.tau,
            label_smoothing=config.label_smoothing,
            class_weights=None if self.class_weights is None else self.class_weights.to(outputs.logits.device),
        ).mean()
        return (loss, outputs) if return_outputs else loss


def network_config(store: FeatureStore, model: Model, train: Train, dense_values: int = 0) -> XVlmConfig:
    """Describe the network for the clips of `store`: a student, or with `dense_values` a teacher."""
    config = XVlmConfig(
        **{key: store.meta[key] for key in ("vision", "text", "frames", "size", "max_tokens", "text_columns")},
        classes=store.classes,
        task=store.task,
        backbones=store.meta["mode"] == "finetune",
        hidden_size=model.hidden_size,
        fusion_layers=model.fusion_layers,
        attention_heads=model.attention_heads,
        dropout=model.dropout,
        label_smoothing=train.label_smoothing,
    )
    if dense_values:
        config.dense_values, config.dense_tokens = dense_values, model.dense_tokens
    return config


@torch.inference_mode()
def predict_logits(model: XVlmForVideoClassification, clips: ClipDataset, batch_size: int = 64) -> NDArray[np.float32]:
    """Logits[N, C] of a data set's clips, in its order."""
    model.eval()
    device = next(model.parameters()).device
    logits = [np.zeros((0, len(model.config.classes or [])), np.float32)]
    for start in range(0, len(clips), batch_size):
        batch = clips.__getitems__(list(range(start, min(start + batch_size, len(clips)))))
        content = {name: value.to(device) for name, value in batch.items() if name not in TARGETS}
        logits.append(model(**content).logits.float().cpu().numpy())
    return np.concatenate(logits)


class _Progress(TrainerCallback):
    """A progress bar, and DVCLive curves of what is logged.

    The curves of a resumed run are written again from the checkpoint's history, so that they have no gap and no echo.
    transformers' own DVCLiveCallback also logs run times, which would make the outputs differ from run to run.
    """

    def __init__(self, title: str, curves: Path | None) -> None:
        self.title, self.curves = title, curves

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc=self.title, unit="step", mininterval=1)
        self.live = None
        if self.curves is not None:
            try:
                self.live = Live(str(self.curves), save_dvc_exp=False, dvcyaml=None, report=None)
            except SCMError as error:
                raise CpfdError(f"DVCLive asks git for the current commit: {error}; run `git commit` first") from None
            for entry in state.log_history:
                self._log(entry, int(entry["step"]))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        self._log(logs or {}, state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.bar.update()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.bar.set_postfix(best_macro_f1=f"{state.best_metric:.3f}")
        self.bar.close()
        if self.live is not None:
            self.live.end()

    def _log(self, entry: dict[str, Any], step: int) -> None:
        if "eval_macro_f1" in entry:
            self.bar.set_postfix(macro_f1=f"{entry['eval_macro_f1']:.3f}", refresh=False)
        if self.live is None:
            return
        kept = {name: entry[name] for name in ("loss", "learning_rate", "eval_loss", "eval_macro_f1") if name in entry}
        for name, value in kept.items():
            self.live.step = step
            self.live.log_metric(name, value)
        if kept:
            self.live.make_summary()


def _last_whole_checkpoint(scratch: Path) -> str | None:
    """The newest checkpoint to go on from, if any.

    A kill may have left a newer one in pieces. It may also have left the very last one, from which Trainer would go on
    although training is over: both are removed, and their steps are done again from the one before.
    """
    for checkpoint in sorted(scratch.glob("checkpoint-*"), key=lambda path: -int(path.name.split("-")[1])):
        try:
            state = read_json(checkpoint / "trainer_state.json")  # Trainer writes it last
        except (OSError, ValueError):
            remove(checkpoint)
            continue
        if not state["stateful_callbacks"]["TrainerControl"]["args"]["should_training_stop"]:
            return str(checkpoint)
        remove(checkpoint)
    return None


def _as_is(batch: Batch) -> Batch:
    return batch


def _validation_scores(prediction: EvalPrediction, task: str) -> dict[str, float]:
    """What Trainer chooses among epochs by."""
    assert isinstance(prediction.predictions, np.ndarray)
    assert isinstance(prediction.label_ids, np.ndarray)
    return {"macro_f1": macro_f1(prediction.label_ids, prediction.predictions, task)}


def _class_weights(train: ClipDataset) -> Tensor:
    """Inverse frequency of each class among the labelled clips, [C], with mean 1 over the clips."""
    counts = train.store.targets[train.rows].sum(0)
    return torch.from_numpy(counts.sum() / (len(counts) * np.maximum(counts, 1)))
