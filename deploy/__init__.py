"""How the product is run: on one's own machine, in containers, in a cluster."""
