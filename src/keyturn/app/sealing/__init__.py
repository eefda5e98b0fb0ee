"""What is done in sealed runs: one trial, with a seat for every member.

It carries out and reports; it decides no verdict.
"""

from __future__ import annotations
