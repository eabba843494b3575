"""The formulas of scores, of tensors alone. All in float64; what is not finite gives nan, never an exception."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

SMALL = 1e-5
"""Added to eigenvalues, k of the formula."""


def correlations(rows: Tensor) -> Tensor:
    """Pearson correlations (..., n, n) of rows (..., n, m); nan beside rows without variance."""
    rows = rows.detach().double()
    centred = rows - rows.mean(-1, keepdim=True)
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
