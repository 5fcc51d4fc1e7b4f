"""The wiring: which parts run together, and with what settings. May import everything."""
