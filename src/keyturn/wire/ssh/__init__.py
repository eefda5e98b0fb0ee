"""People who sign with SSH keys: the formats of OpenSSH, read and checked without it. Never signs."""
