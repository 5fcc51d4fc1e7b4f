"""Plumbing without domain, for every app."""
