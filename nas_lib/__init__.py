"""A neural architecture search platform: from a data set to a Pareto front of trained networks."""

__version__ = "0.1.0"
