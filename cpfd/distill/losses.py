"""The loss of every method, in one function."""

import torch.nn.functional as F
from torch import Tensor

from cpfd.models.xvlm import label_loss


def distillation_loss(
    logits: Tensor,
    labels: Tensor,
    label_weight: Tensor,
    soft_logits: Tensor,
    soft_weight: Tensor,
    *,
    task: str,
    tau: float,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Loss of each clip, [N], float32:

        label_weight * CE(labels, z_S) + soft_weight * tau^2 * KL(softmax(z_T / tau) || softmax(z_S / tau))

    with student logits z_S = `logits`[N, C], teacher logits z_T = `soft_logits`[N, C], `labels`[N, C] a distribution or
    independent probabilities, weights[N]. The methods are rows of one matrix, a_i = alpha * c_i ** gamma:

        none       labels y~           label_weight 1        soft_weight 0
        pfd        labels y~           label_weight 1 - a    soft_weight a with c = 1     (arXiv 1907.05171)
        cpfd       labels y~           label_weight 1 - a_i  soft_weight a_i              (arXiv 2410.03038)
        posterior  labels r_i or q_i   label_weight 1        soft_weight 0                (docs/method.md)

    An unlabelled clip has label_weight 0 under pfd and cpfd. tau^2 keeps gradients of one size (Hinton et al. 2015,
    arXiv 1503.02531, section 2). For multi_label the KL is that of independent Bernoulli variables, averaged over
    classes.
    """
    logits, soft_logits = logits.float(), soft_logits.float()
    hard = label_loss(logits, labels, task, label_smoothing, class_weights)
    if task == "single_label":
        student, teacher = (logits / tau).log_softmax(-1), (soft_logits / tau).log_softmax(-1)
        soft = (teacher.exp() * (teacher - student)).sum(-1)
    else:
        student, teacher = logits / tau, soft_logits / tau
        positive = teacher.sigmoid() * (F.logsigmoid(teacher) - F.logsigmoid(student))
        negative = (-teacher).sigmoid() * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
        soft = (positive + negative).mean(-1)
    return label_weight * hard + soft_weight * tau**2 * soft
