"""What entries name without saying it: kept before it is named, erased after that is recorded. Never shows anything."""
