"""tracebee: ask a running Linux system what it is doing."""
