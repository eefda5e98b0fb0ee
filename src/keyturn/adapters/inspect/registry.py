"""What Inspect loads through its entry point: by being imported, the provider is there under the name `keyturn`."""

from keyturn.adapters.inspect.provider import KeyturnSandbox

__all__ = ["KeyturnSandbox"]
