"""The sandbox provider: a payment gateway behind real HTTP at which tests and demos pay.

`create_app()` is the application; `kami sandbox` runs it as a process of its own. With the adapter
plugins/payment/sandbox.py it shares no code, only the format in docs/guides/sandbox.md.
"""

from server.sandbox.app import Sandbox, SandboxConfig, create_app

__all__ = ["Sandbox", "SandboxConfig", "create_app"]
