"""Calling a merchant's own address: what is said, how it is signed, and how a stranger's server is called safely."""
