"""Lists of bucket names by their digest: what lets a device name 20,000 buckets in 32 characters."""

from __future__ import annotations

from collections import OrderedDict

from syncline import limits
from syncline.protocol.cursor import digest_of


class BucketLists:
    """The lists that devices were told last. Nothing rests on it but traffic: what is not here, the device is asked
    for; and a list says only what a device has, never what it may have."""

    def __init__(self, names_max: int = limits.BUCKET_LISTS_NAMES_MAX) -> None:
        self._names_max = names_max
        self._names = 0
        self._lists: OrderedDict[str, frozenset[str]] = OrderedDict()

    def remember(self, buckets: frozenset[str]) -> None:
        digest = digest_of(buckets)
        if digest in self._lists:
            self._lists.move_to_end(digest)
            return
        self._lists[digest] = buckets
        self._names += len(buckets)
        while self._names > self._names_max:
            self._names -= len(self._lists.popitem(last=False)[1])

    def find(self, digest: str, *guesses: frozenset[str]) -> frozenset[str] | None:
        """The list with this digest, if it is one of the guesses or remembered."""
        for guess in guesses:
            if digest_of(guess) == digest:
                return guess
        return self._lists.get(digest)
