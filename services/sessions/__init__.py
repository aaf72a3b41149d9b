"""A person's conversations: title, state, times. It sees no message content."""
