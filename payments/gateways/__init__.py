"""The payment gateways, each behind the protocol of `base.py`."""
