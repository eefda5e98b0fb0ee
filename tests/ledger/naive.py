"""The tree of RFC 6962 as its section 2.1 defines it: slow, recursive, and obviously right."""

from __future__ import annotations

from hashlib import sha256


def split(n):
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def mth(leaves):
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    k = split(len(leaves))
    return sha256(b"\1" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m, leaves):
    if len(leaves) == 1:
        return ()
    k = split(len(leaves))
    if m < k:
        return (*path(m, leaves[:k]), mth(leaves[k:]))
    return (*path(m - k, leaves[k:]), mth(leaves[:k]))


def proof(m, leaves):
    return () if m in {0, len(leaves)} else subproof(m, leaves, True)


def subproof(m, leaves, whole):
    n = len(leaves)
    if m == n:
        return () if whole else (mth(leaves),)
    k = split(n)
    if m <= k:
        return (*subproof(m, leaves[:k], whole), mth(leaves[k:]))
    return (*subproof(m - k, leaves[k:], False), mth(leaves[:k]))


def nodes(leaves):
    """The lookup that our own proofs are made from."""

    def at(level, n):
        part = leaves[n << level : (n + 1) << level]
        assert len(part) == 1 << level, "only complete subtrees may be asked for"
        return mth(part)

    return at
