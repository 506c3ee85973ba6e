"""Which random numbers does a step draw?"""

from __future__ import annotations

_PRIME_1, _PRIME_2, _PRIME_5 = 11400714785074694791, 14029467366897019727, 2870177450012600261
_WORD = 1 << 64
# Two numbers of the tuple hash of CPython: it adds the length with a constant, and keeps -1 for errors.
_LENGTH, _MINUS_ONE = _PRIME_5 ^ 3527539, 1546275796
# Integers are taken modulo this prime.
_MODULUS = (1 << 61) - 1


def step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of a process in a step: it depends on the place in the run alone, so a checkpoint stores no generator.

    The numbers are mixed by the rounds of xxHash64, as CPython 3.8 to 3.14 hashes the tuple of them: runs that were
    seeded by `hash` continue as they began.

    Returns:
        a signed integer of 64 bits.
    """
    mixed = _PRIME_5
    numbers = (seed, step, rank)
    for number in numbers:
        mixed = (mixed + number % _MODULUS * _PRIME_2) % _WORD
        mixed = (mixed << 31 | mixed >> 33) % _WORD * _PRIME_1 % _WORD
    mixed = (mixed + (len(numbers) ^ _LENGTH)) % _WORD
    if mixed == _WORD - 1:
        return _MINUS_ONE
    return mixed - _WORD if mixed >= _WORD // 2 else mixed
