"""The bus's schema as a document for people who write a client in another language.

``make proto`` writes it to ``proto/bus/schema.json``; a test keeps file and code in step.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pipespec.protocol.codec import KINDS, MAX_MESSAGE_BYTES
from pipespec.protocol.messages import VERSION

ENVELOPE = ["version", "kind", "sender", "incarnation", "number", "body"]


def schema() -> dict[str, Any]:
    """Envelope and body of every kind: field names in order, with type, unit and limit."""
    return {
        "version": VERSION,
        "frames": [
            "topic: the reader's inbox, ends in a dot",
            "message: msgpack array, see envelope; then CRC-32 (4 bytes, little-endian) of topic and array",
        ],
        "envelope": ENVELOPE,
        "max_message_bytes": MAX_MESSAGE_BYTES,
        "kinds": {
            kind: [{"field": name, "type": field_type.name} for name, field_type in struct.fields]
            for kind, struct in KINDS.items()
        },
    }


if __name__ == "__main__":
    json.dump(schema(), sys.stdout, indent=1)
    sys.stdout.write("\n")
