"""What the runner tells, as a caller and as a server."""
