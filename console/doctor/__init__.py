"""`manage.py doctor`: looks at everything that a payment needs, and says of each fault how to mend it.

It changes nothing, and goes on when a server is down. One module per patient, one function per check.
"""
