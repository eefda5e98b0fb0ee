"""What can be said of a public key by itself: its kind, and which secret stands behind it; never who holds it."""
