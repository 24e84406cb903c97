"""The loss of every method keeps the promises that docs/method.md makes of it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cpfd.distill.losses import distillation_loss

TASKS = ("single_label", "multi_label")


def batch(seed: int, task: str, clips: int = 6, classes: int = 4, scale: float = 3.0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    labels = (
        np.eye(classes)[rng.integers(classes, size=clips)]
        if task == "single_label"
        else rng.integers(2, size=(clips, classes))
    )
    soft_weight = rng.random(clips)
    arrays = {
        "logits": scale * rng.normal(size=(clips, classes)),
        "labels": labels,
        "label_weight": 1 - soft_weight,
        "soft_logits": scale * rng.normal(size=(clips, classes)),
        "soft_weight": soft_weight,
    }
    return {name: torch.tensor(values, dtype=torch.float32) for name, values in arrays.items()}


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, task: str) -> torch.Tensor:
    if task == "single_label":
        return F.cross_entropy(logits, labels, reduction="none")
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(-1)


seeds = st.integers(0, 2**20)
taus = st.floats(0.5, 8)
tasks = st.sampled_from(TASKS)


@given(seeds, tasks, taus)
@settings(max_examples=50, deadline=None)
def test_without_distillation_it_is_cross_entropy(seed: int, task: str, tau: float) -> None:
    clips = batch(seed, task) | {"label_weight": torch.ones(6), "soft_weight": torch.zeros(6)}
    loss = distillation_loss(**clips, task=task, tau=tau)
    torch.testing.assert_close(loss, cross_entropy(clips["logits"], clips["labels"], task))


@given(seeds, tasks, taus)
@settings(max_examples=50, deadline=None)
def test_agrees_with_a_float64_reference(seed: int, task: str, tau: float) -> None:
    clips = batch(seed, task)
    z, y, w, t, a = (clips[name].double().numpy() for name in clips)
    if task == "single_label":
        p_s, p_t = (np.exp(x / tau) / np.exp(x / tau).sum(1, keepdims=True) for x in (z, t))
        hard = -(y * np.log(np.exp(z) / np.exp(z).sum(1, keepdims=True))).sum(1)
        kl = (p_t * np.log(p_t / p_s)).sum(1)
    else:
        p_s, p_t, p = 1 / (1 + np.exp(-z / tau)), 1 / (1 + np.exp(-t / tau)), 1 / (1 + np.exp(-z))
        hard = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean(1)
        kl = (p_t * np.log(p_t / p_s) + (1 - p_t) * np.log((1 - p_t) / (1 - p_s))).mean(1)
    loss = distillation_loss(**clips, task=task, tau=tau)
    np.testing.assert_allclose(loss.numpy(), w * hard + a * tau**2 * kl, rtol=2e-4, atol=2e-5)


@given(seeds, tasks)
@settings(max_examples=25, deadline=None)
def test_the_order_of_a_batch_does_not_matter(seed: int, task: str) -> None:
    clips = batch(seed, task)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    shuffled = {name: values[order] for name, values in clips.items()}
    loss = distillation_loss(**clips, task=task, tau=2)
    torch.testing.assert_close(distillation_loss(**shuffled, task=task, tau=2), loss[order])


@given(seeds, st.floats(-50, 50))
@settings(max_examples=25, deadline=None)
def test_a_constant_added_to_all_logits_does_not_matter(seed: int, constant: float) -> None:
    clips = batch(seed, "single_label")
    moved = clips | {name: clips[name] + constant for name in ("logits", "soft_logits")}
    loss, other = (distillation_loss(**each, task="single_label", tau=2) for each in (clips, moved))
    torch.testing.assert_close(loss, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_an_unlabelled_clip_that_the_teacher_is_unsure_of_teaches_nothing(task: str) -> None:
    clips = batch(0, task) | {"label_weight": torch.zeros(6), "soft_weight": torch.zeros(6)}
    clips["logits"].requires_grad_()
    distillation_loss(**clips, task=task, tau=2).sum().backward()
    assert not clips["logits"].grad.any()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_extreme_logits_stay_finite(task: str, dtype: torch.dtype) -> None:
    clips = batch(0, task)
    clips["logits"] = (3e3 * clips["logits"]).to(dtype).requires_grad_()
    clips["soft_logits"] = (3e3 * clips["soft_logits"]).to(dtype)
    loss = distillation_loss(**clips, task=task, tau=2)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert clips["logits"].grad.isfinite().all()


@pytest.mark.parametrize("task", TASKS)
def test_a_student_equal_to_its_teacher_has_no_soft_loss(task: str) -> None:
    clips = batch(0, task) | {"label_weight": torch.zeros(6)}
    clips["soft_logits"] = clips["logits"]
    torch.testing.assert_close(distillation_loss(**clips, task=task, tau=3), torch.zeros(6))


def test_label_smoothing_agrees_with_torch() -> None:
    clips = batch(0, "single_label") | {"label_weight": torch.ones(6), "soft_weight": torch.zeros(6)}
    loss = distillation_loss(**clips, task="single_label", tau=1, label_smoothing=0.1)
    expected = F.cross_entropy(clips["logits"], clips["labels"].argmax(1), label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(loss, expected)


def test_balanced_classes_weigh_the_label_alone() -> None:
    clips = batch(0, "single_label")
    weights = torch.tensor([2.0, 1.0, 0.5, 0.5])
    plain, weighted = (distillation_loss(**clips, task="single_label", tau=2, class_weights=w) for w in (None, weights))
    hard = clips["label_weight"] * cross_entropy(clips["logits"], clips["labels"], "single_label")
    torch.testing.assert_close(weighted - plain, (weights[clips["labels"].argmax(1)] - 1) * hard)
