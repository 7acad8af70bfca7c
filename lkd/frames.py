"""Frames that pass between processes: a command as JSON, with bytes behind it; read without torch."""

import json
import struct
from typing import Any

LARGEST_COMMAND = 16 << 20
"""Largest number of bytes of a command that is read; what is behind it may be longer."""


def frame(command: dict[str, Any], body: bytes = b"") -> bytes:
    """Packs a command as JSON, with the message that goes with it.

    Example:
        >>> unframe(frame({"do": "answer"}, b"tensors"))
        ({'do': 'answer'}, b'tensors')
    """
    head = json.dumps(command).encode()
    return struct.pack("<I", len(head)) + head + body


def unframe(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Unpacks a command and its message.

    Raises:
        ValueError: If the bytes are no frame.
    """
    try:
        (length,) = struct.unpack("<I", data[:4])
        if length > min(LARGEST_COMMAND, len(data) - 4):
            raise ValueError(f"a command of {length} bytes in {len(data)}, {LARGEST_COMMAND} at most")
        command = json.loads(data[4 : 4 + length].decode())  # as bytes, JSON would be of any encoding
        if not isinstance(command, dict):
            raise ValueError(f"a command is a {type(command).__name__}")
    except (ValueError, TypeError, RecursionError, struct.error) as error:
        raise ValueError(f"no frame: {type(error).__name__}: {error}") from error
    return command, data[4 + length :]
