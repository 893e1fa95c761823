"""Seeds derived from names, so that every random draw follows from random_seed and where it is made.

A generator seeded by (random_seed, what, iteration) needs no state in a snapshot: after a restore the
draws of iteration i are those that an unbroken run would have made.
"""

from __future__ import annotations

import hashlib
import secrets


def derive(*parts: int | str) -> int:
    """A seed, 63 bits, that depends on every one of `parts` and on their order."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def fresh() -> int:
    """A seed from the operating system's entropy, small enough for random_seed to hold and people to type."""
    return secrets.randbelow(2**31)
