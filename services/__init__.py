"""The services: users, sessions and messages, and the runtime they stand on."""
