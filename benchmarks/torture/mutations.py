"""Damage to files: what disks, networks and other programs do to bytes and to JSON.

Each function draws from the generator that it is given and from nothing else, so that
a seed and the number of an input give the input again.
"""

import copy
import json
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
_EDGES_WIDE = (*_EDGES, 2**63, 2**64 - 1)
_STRAY = (
    None,
    True,
    False,
    0,
    -1,
    2**63,
    10**40,
    -0.5,
    1e308,
    math.nan,
    math.inf,
    "",
    "x",
    "../..",
    "\x00",
    "\ud800",
    "9" * 400,
    [],
    [[]],
    [None],
    ["a", "a"],
    {},
    {"": {}},
)
_DEPTH = 100_000  # Of lists in lists: beyond what any parser follows.


def mutated(content: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """A file with one to four kinds of damage, or none at all.

    Args:
        content: The whole file.
        rng: Of all draws.
        others: Files that parts are taken from.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content = rng.choice(_DAMAGES)(content, rng, others or (content,))
    return content


def mutated_json(content: bytes, rng: random.Random) -> bytes:
    """JSON with other values, names and shapes; now and then no JSON any more."""
    kind = rng.random()
    if kind < 0.25:
        return mutated(content, rng)
    if kind < 0.27:
        return rng.choice((b"[", b'{"a":')) * rng.randrange(1, _DEPTH)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return mutated(content, rng)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if isinstance(value, (dict, list)):
            value = _with_other_node(value, rng)
    return json.dumps(value).encode()


def _with_other_node(value: Any, rng: random.Random) -> Any:
    """One value at any depth replaced, removed, renamed or doubled."""
    value = copy.deepcopy(value)
    places = list(_places(value))
    if not places:
        return rng.choice(_STRAY)
    parent, key = rng.choice(places)
    how = rng.random()
    if how < 0.55:
        parent[key] = copy.deepcopy(rng.choice(_STRAY))
    elif how < 0.8:
        del parent[key]
    elif how < 0.9 and isinstance(parent, dict):
        parent[rng.choice(("x", key.upper(), key + " "))] = parent.pop(key)
    else:
        other, name = rng.choice(places)
        parent[key] = copy.deepcopy(other[name])
    return rng.choice(_STRAY) if rng.random() < 0.02 else value


def _places(value: Any):
    keys = value if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _places(value[key])


def _flip(content: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _set(content: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    """An integer at the edge of its range, in any width and order of bytes."""
    width = rng.choice((1, 2, 4, 8))
    order: Any = rng.choice(("little", "big"))
    value = rng.choice(_EDGES_WIDE) & (256**width - 1)
    at = (
        rng.randrange(min(len(content), 256) if rng.random() < 0.5 else len(content) or 1)
        if content
        else 0
    )
    return content[:at] + value.to_bytes(width, order) + content[at + width :]


def _cut(content: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _remove(content: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    start, size = _part(content, rng)
    return content[:start] + content[start + size :]


def _zero(content: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    """What a hole in a file reads as after a power failure."""
    start, size = _part(content, rng)
    return content[:start] + bytes(size) + content[start + size :]


def _repeat(content: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    start, size = _part(content, rng)
    return content[: start + size] + content[start:]


def _noise(content: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    start, size = _part(content, rng)
    return content[:start] + rng.randbytes(size) + content[start + size :]


def _splice(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    return (
        content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other) + 1) :]
    )


def _nothing(content: bytes, _: random.Random, __: Sequence[bytes]) -> bytes:
    """Whole files must stay readable beside damaged ones."""
    return content


def _empty(_: bytes, rng: random.Random, __: Sequence[bytes]) -> bytes:
    return bytes(rng.choice((0, 1, 4096)))


def _part(content: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(content) + 1)
    return start, min(rng.choice((1, 2, 4, 16, 64, 512)), len(content) - start)


_DAMAGES: tuple[Callable[[bytes, random.Random, Sequence[bytes]], bytes], ...] = (
    _flip,
    _flip,
    _set,
    _set,
    _cut,
    _remove,
    _zero,
    _repeat,
    _noise,
    _splice,
    _nothing,
    _empty,
)
