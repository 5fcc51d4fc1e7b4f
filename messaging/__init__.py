"""How work travels: the outbox, the relay, the broker and what happens to messages that fail."""
