"""Published correlations, to be shown beside ours: Kendall's tau, Pearson's r, Spearman's rho, signed.

Computed from the released tables of Serianni and Kalita (2023, arXiv 2306.00288; aaronserianni/training-free-nas): over
8,794 rows with each recipe several times against PTB test loss, and over 500 encoders against GLUE. Those of depth and
width are of the numbers of layers and hidden sizes in the same tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Published(NamedTuple):
    """Coefficients of one score; None: not computed."""

    kendall: float
    pearson: float | None
    spearman: float | None


PUBLISHED: Mapping[str, Mapping[str, Published]] = {
    "nas-bench-nlp": {
        "hidden_covariance_1": Published(-0.372, -0.405, -0.524),
        "hidden_covariance_2": Published(-0.314, -0.416, -0.457),
        "hidden_covariance_3": Published(-0.247, -0.333, -0.367),
        "more_noised_jacobian_cosine": Published(-0.280, -0.086, -0.417),
        "more_noised_jacobian": Published(0.273, 0.021, 0.411),
        "large_noise_jacobian_cosine": Published(0.273, 0.138, 0.410),
        "hidden_saliency": Published(0.268, 0.221, 0.393),
        "jacobian_cosine": Published(-0.264, -0.074, -0.398),
        "large_noise_jacobian": Published(0.259, 0.077, 0.396),
        "activation_distance": Published(-0.223, -0.232, -0.338),
        "synaptic_saliency": Published(0.122, 0.091, 0.183),
        "jacobian_covariance": Published(-0.003, -0.016, -0.005),
        "parameters": Published(-0.025, -0.046, -0.037),
    },
    "flexibert": {
        "head_confidence": Published(0.478, 0.669, 0.716),
        "parameters": Published(0.454, 0.590, 0.652),
        "activation_distance": Published(0.222, 0.323, 0.331),
        "softmax_confidence": Published(0.216, 0.213, 0.326),
        "synaptic_saliency": Published(0.188, 0.221, 0.281),
        "head_importance": Published(0.164, 0.186, 0.250),
        "synaptic_diversity": Published(0.156, 0.183, 0.241),
        "jacobian_covariance": Published(-0.042, -0.020, -0.067),
        "jacobian_cosine": Published(0.003, 0.016, 0.006),
        "depth": Published(0.682, None, 0.834),
        "width": Published(0.341, None, 0.417),
        "depth_x_width": Published(0.745, None, 0.875),
    },
}
"""Benchmark -> score -> coefficients."""
DEFECTS: Mapping[str, tuple[str, ...]] = {
    "nas-bench-nlp": (
        "The published figures count every recipe as often as it was trained, mostly three times, and leave out "
        "networks of which any score failed.",
        "Published scores were computed on the test split, at full size; ours on random words, at reduced size.",
        "The published Jacobian covariance hardly varies, and so says nothing of the cell; some published noise "
        "Jacobians lie beyond the range of their formula.",
    ),
    "flexibert": (
        "Operation types had no effect when the networks were trained: by the released code every layer fell back to "
        "plain attention, and their numbers explain next to nothing of the GLUE score (R² from .743 to .744). So the "
        "benchmark cannot judge operations, nor scores of attention; our networks have the operations they are "
        "described with.",
        "The first feed-forward layer always had 4 times the hidden size, so its width matters only with 3 stacks.",
        "The published scores were computed with hidden size 256 and feed-forward width 1024 whatever the network has, "
        "with dropout active, and several over the wrong axis. Their gradients are those of the sum of normalised "
        "features, which is a constant, so they are hardly more than rounding; ours are those of the outputs.",
        "Networks that occur twice differ by up to 2 points of GLUE (mean .67), the noise of the benchmark; 54 "
        "networks have a task score of exactly 0.",
        "500 encoders of one small space, in English alone: no more than that is tested.",
    ),
}
"""Benchmark -> what is known to be wrong with it, or with what was published, as sentences."""
