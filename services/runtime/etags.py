"""Etags (AIP-154): an item's version, as clients see it."""

_NO_REVISION = -1


def etag_of(revision: int) -> str:
    """The etag of an item's revision."""
    return f"{revision:x}"


def expected_revision(etag: str) -> int | None:
    """The revision that an etag names: None for an empty one, and one that no item has for junk."""
    if not etag:
        return None
    try:
        revision = int(etag, 16)
    except ValueError:
        return _NO_REVISION
    return revision if etag_of(revision) == etag and revision < 1 << 63 else _NO_REVISION
