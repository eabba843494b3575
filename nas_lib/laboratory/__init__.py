"""The laboratory: strategies on problems whose every architecture is known, so that evaluations cost nothing."""
