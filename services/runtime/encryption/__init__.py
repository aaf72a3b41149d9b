"""Encryption at rest: envelopes, data keys, and the key-encryption keys that wrap them.

A key-encryption key (KEK) never touches content: it wraps data keys, one or a few for each
conversation or person. A data key seals fields, each into an envelope that opens only in the place
that it was sealed for.
"""
