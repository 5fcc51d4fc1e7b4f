"""How fast it is: limits, peers and ours, measured in one interleaved run (`make bench`)."""
