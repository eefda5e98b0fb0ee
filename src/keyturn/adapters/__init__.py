"""The ties to other people's improvement loops.

Never imported by another room, and never needed: without its tool an adapter says so and stops.
"""
