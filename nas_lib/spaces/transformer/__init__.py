"""Transformer encoders whose every layer has an operation, heads and feed-forward stacks of its own."""
