"""The kernel's packet filter by libnftables(3): what nft(8) reads, without a process for each change.

The kernel removes tables with ``flags owner`` with the connection that made them, however its process ends
(Linux 5.12; nft(8), TABLES).
"""

from __future__ import annotations

import ctypes
from functools import cache

from buildkit_py.errors import SandboxError
from buildkit_py.linux import hints
from buildkit_py.typed import Any

_LIBRARY = "libnftables.so.1"
_JSON = 1 << 4


class Connection:
    """To the packet filter of the network namespace that the calling thread is in now.

    Raises SandboxError where the library is missing.
    """

    def __init__(self) -> None:
        self._lib = _library()
        self._context = self._lib.nft_ctx_new(0)
        if not self._context:
            raise SandboxError("the packet filter can't be reached", call="nftables")
        self._lib.nft_ctx_buffer_error(self._context)
        self._lib.nft_ctx_buffer_output(self._context)

    def run(self, commands: str, *, json: bool = False) -> str:
        """Run commands as one transaction; what they print. Raises SandboxError."""
        self._lib.nft_ctx_output_set_flags(self._context, _JSON if json else 0)
        failed = self._lib.nft_run_cmd_from_buffer(self._context, commands.encode())
        said = self._lib.nft_ctx_get_error_buffer(self._context).decode("utf-8", "replace")
        printed: str = self._lib.nft_ctx_get_output_buffer(self._context).decode("utf-8", "replace")
        if failed:
            first = said.strip().partition("\n")[0].partition("Error: ")[2] or "refused"
            raise SandboxError(f"the packet filter: {first}", call="nftables")
        return printed

    def close(self) -> None:
        """Safe to call twice."""
        if self._context:
            self._lib.nft_ctx_free(self._context)
            self._context = None

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@cache
def _library() -> Any:
    try:
        lib = ctypes.CDLL(_LIBRARY)
    except OSError as e:
        raise SandboxError(
            f"{_LIBRARY} is not installed", call="nftables", hint=f"`{hints.INSTALL} nftables`"
        ) from e
    lib.nft_ctx_new.restype = ctypes.c_void_p
    for name in ("error", "output"):
        getattr(lib, f"nft_ctx_buffer_{name}").argtypes = (ctypes.c_void_p,)
        get = getattr(lib, f"nft_ctx_get_{name}_buffer")
        get.argtypes, get.restype = (ctypes.c_void_p,), ctypes.c_char_p
    lib.nft_ctx_output_set_flags.argtypes = (ctypes.c_void_p, ctypes.c_uint)
    lib.nft_run_cmd_from_buffer.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
    lib.nft_ctx_free.argtypes = (ctypes.c_void_p,)
    return lib
