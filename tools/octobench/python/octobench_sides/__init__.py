"""Python's sides of octobench: the Python SDK and grpcio, both by asyncio."""
