"""The auditor, wired: its folder, where it fetches a log from, and what it answers to who asks for a cosignature.

Never needs the project, never cosigns what it could not decide again, and never follows a server to another one.
"""
