"""Sandboxes that another program keeps for us: containers of a docker engine, pods of a Kubernetes cluster.

What the engine says is its word and no proof by itself: what is required is compared field by field with what it says
and with what our own init sees inside before the subject begins. Never accepts a weaker container silently.
"""
