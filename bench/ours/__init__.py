"""The product itself, in its production shape: the same commands, and everything switched on."""
