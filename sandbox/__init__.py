"""A pretend payment gateway: its own process, its own journal on disk, magic payment methods.

It imports nothing of the application, so that in crash tests it can be the witness: what its journal says
was charged, was charged.
"""
