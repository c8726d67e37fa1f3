"""Floor 7: who asks for memory."""
