"""The names of all scores, for what cannot wait for the libraries that compute them."""

from typing import Literal, get_args

ScoreName = Literal[
    "hidden_covariance_1",
    "hidden_covariance_2",
    "hidden_covariance_3",
    "hidden_covariance_last",
    "jacobian_covariance",
    "jacobian_cosine",
    "recall",
    "gradient_memory",
    "small_noise_jacobian",
    "small_noise_jacobian_cosine",
    "large_noise_jacobian",
    "large_noise_jacobian_cosine",
    "more_noised_jacobian",
    "more_noised_jacobian_cosine",
    "activation_distance",
    "synflow",
    "synaptic_saliency",
    "hidden_saliency",
    "snip",
    "grasp",
    "fisher",
    "gradient_norm",
    "plain",
    "lga",
    "head_importance",
    "head_confidence",
    "softmax_confidence",
    "synaptic_diversity",
    "parameters",
    "flops",
    "depth",
    "width",
    "depth_x_width",
    "nodes",
]

NAMES: tuple[str, ...] = get_args(ScoreName)
TRIVIAL: tuple[ScoreName, ...] = ("parameters", "flops", "depth", "width", "depth_x_width", "nodes")
"""Scores that are mere sizes: what every other has to beat."""
REVISION = 2
"""Of the formulas: counted up when a score gets another value, so that what is kept of the one before is not used."""
