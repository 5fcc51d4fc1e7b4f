"""The whole system on one machine, for trying it out (`python -m deploy.local`) and for tests."""
