"""Where blobs lie beside the log. Never decides what may be erased, and never hands out other bytes than were named."""
