"""This machine: what it can give, what it lacks, and the check that its sandboxes hold."""
