"""What an entry names without saying it: data behind a salted digest. Never reads a file, and never draws a salt."""
