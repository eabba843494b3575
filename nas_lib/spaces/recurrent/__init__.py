"""Cells of recurrent networks: what they are, how they run, and how a search changes them."""
