"""The services: users, sessions and messages, and the runtime they stand on."""

SERVICES = ("users", "sessions", "messages")
"""Their names: of their packages, and of what each has for its own, a schema, a role, keys."""
