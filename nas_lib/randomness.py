"""Addressed randomness: every draw comes from a generator seeded by where it is used.

Nothing is streamed, so any proposal or training can be repeated alone, in any order.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


def seed_of(seed: int, *address: str | int) -> int:
    """A 63-bit seed for the place `address` of the experiment seed `seed`.

    >>> seed_of(1, "train", 0, 3) == seed_of(1, "train", 0, 3)
    True
    >>> seed_of(1, "train", 0, 3) == seed_of(1, "train", 3, 0)
    False
    """
    digest = hashlib.blake2b(repr((seed, *address)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, *address: str | int) -> np.random.Generator:
    """A NumPy generator for the place `address`; see `seed_of`."""
    return np.random.default_rng(seed_of(seed, *address))


@contextmanager
def single_thread() -> Iterator[None]:
    """PyTorch computes in one thread, and so to the same bits whatever the number of cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
