"""The formulas of scores, of tensors alone. All in float64; what is not finite gives nan, never an exception."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

SMALL = 1e-5
"""Added to eigenvalues, k of the formula."""
BACK, SKIPPED = 4, 8
"""Inputs, the present one included, that are recalled; and positions left out at first, where states still settle."""
RIDGE, FLOOR = 0.01, 0.01
"""Ridge of the readout, in units of the variance of a feature, and what is added to shares of variance."""
FADING = 5
"""Positions over which a gradient fades or grows."""


def correlations(rows: Tensor) -> Tensor:
    """Pearson correlations (..., n, n) of rows (..., n, m); nan beside rows without variance."""
    rows = rows.detach().double()
    centred = rows - rows.mean(-1, keepdim=True)
    # The mean of equal numbers may differ from them in the last place, which would count as a variance.
    centred = torch.where(rows.amax(-1, keepdim=True) > rows.amin(-1, keepdim=True), centred, 0.0)
    unit = centred / centred.norm(dim=-1, keepdim=True)
    product: Tensor = unit @ unit.mT
    return product


def covariance_score(rows: Tensor) -> float:
    """S = - sum_i [ln(l_i + k) + 1 / (l_i + k)], l_i the eigenvalues of the correlation matrix of rows (n, m).

    At most -n, when rows are uncorrelated; each zero eigenvalue costs 1e5. Rows of samples give the Jacobian covariance
    of Mellor et al. 2021 (arXiv 2006.04647, first version), rows of hidden units the hidden covariance of Serianni and
    Kalita 2023. nan where a row has no variance or is not finite.
    """
    matrix = correlations(rows)
    if not matrix.isfinite().all():
        return math.nan
    try:
        found = np.linalg.eigvalsh(matrix.cpu().numpy())
    except np.linalg.LinAlgError:
        return math.nan
    eigenvalues = found.clip(min=0) + SMALL
    return -float((np.log(eigenvalues) + 1 / eigenvalues).sum())


def cosine_score(rows: Tensor) -> float:
    """1 - sum_{i != j} abs(cos(row_i, row_j))^(1/20) / 2 / (n^2 - n) of rows (n, m), from 0.5 to 1.

    The diagonal is left out exactly: a rounding error of 1e-7 would count .45.
    """
    rows = rows.detach().double()
    unit = rows / rows.norm(dim=-1, keepdim=True)
    cosines = (unit @ unit.mT).abs().fill_diagonal_(0)
    count = len(rows)
    if count < 2 or not cosines.isfinite().all():
        return math.nan
    return 1 - float(0.5 * cosines.pow(1 / 20).sum() / (count * count - count))


def kernel_of(codes: Tensor) -> Tensor:
    """c c' + (1 - c)(1 - c)' (n, n) of binary codes c, bool (n, m): the bits two samples have in common."""
    signs = codes.flatten(1).float() * 2 - 1
    return ((signs @ signs.mT).double() + signs.shape[1]) / 2


def log_determinant(kernel: Tensor) -> float:
    """ln det of a kernel (n, n); -inf where two samples have the same codes."""
    if not kernel.isfinite().all():
        return math.nan
    sign, value = torch.linalg.slogdet(kernel)
    return float(value) if sign > 0 else -math.inf


def alignment(kernel: Tensor, classes: Tensor) -> float:
    """Correlation over all entries between a kernel (n, n) and L, 1 for samples of one class and -1 for others.

    nan with one class only.
    """
    same = (classes[:, None] == classes[None]).double() * 2 - 1
    first, second = kernel.double() - kernel.double().mean(), same - same.mean()
    return float((first * second).sum() / (first.norm() * second.norm()))


def recall_score(entered: Tensor, features: Tensor) -> float:
    """sum_{k=0..3} ln(max(R2_k, 0) + 0.01): how well a linear readout of the features finds the present input and the
    three before it.

    R2_k is the share of the variance of the inputs (n, time, e) k positions earlier that a ridge regression on the
    standardised features (n, time, h), fitted to the first two thirds of the samples, explains in the others: the
    memory capacity of reservoir computing (Jaeger 2001, GMD Report 152) with a logarithm, so that no input may be
    missing. The first 8 positions are left out. nan where something is not finite, or nothing varies.
    """
    count, steps = features.shape[:2]
    features, entered = features.detach().double()[:, SKIPPED:], entered.detach().double()
    if not (features.isfinite().all() and entered.isfinite().all()):
        return math.nan
    targets = torch.stack([entered[:, SKIPPED - back : steps - back] for back in range(BACK)], dim=2).flatten(2)
    fitted = 2 * count // 3
    middle, deviation = features[:fitted].mean((0, 1)), features[:fitted].std((0, 1))
    features = (features - middle) / torch.where(deviation > 1e-12, deviation, 1.0)
    rows, others = features[:fitted].flatten(0, 1), features[fitted:].flatten(0, 1)
    known, asked = targets[:fitted].flatten(0, 1), targets[fitted:].flatten(0, 1)
    level = known.mean(0)
    kernel = rows.T @ rows / len(rows) + RIDGE * torch.eye(rows.shape[1], dtype=rows.dtype)
    readout = torch.linalg.solve(kernel, rows.T @ (known - level) / len(rows))

    def squares(values: Tensor) -> Tensor:
        return values.square().sum(0).reshape(BACK, -1).sum(1)

    varied = squares(asked - level)
    if not (varied > 0).all():
        return math.nan
    explained = 1 - squares(asked - level - others @ readout) / varied
    return float((explained.clamp(min=0) + FLOOR).log().sum())


def fading_score(gradients: Tensor) -> float:
    """- abs(g_5 - g_0), g_k the mean over samples of the logarithm of the norm of the gradient (n, time, e) at the k-th
    position before the last: 0 where a gradient neither fades nor grows on its way back. -inf where the last input has
    no gradient; nan where one is not finite."""
    norms = gradients.detach().double().norm(dim=-1)[:, [-1, -1 - FADING]]
    if not norms.isfinite().all():
        return math.nan
    now, before = norms.log().mean(0).tolist()
    return -math.inf if math.isinf(now) else -abs(before - now)
