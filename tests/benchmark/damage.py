"""What may become of a JSON file: no reader of the project may end in anything but its own error."""

from __future__ import annotations

DAMAGES = {
    'empty': b'',
    'cut': b'{"schema": 1, "cell',
    'null': b'null',
    'list': b'[]',
    'text': b'"x"',
    'number': b'1',
    'NaN': b'{"schema": NaN}',
    'too large': b'{"schema": 1e999}',
    'deep': b'[' * 100_000,
    'deep object': b'{"a":' * 100_000,
    'half a character': b'{"schema": "\\ud800"}',
    'no UTF-8': b'{"schema": "\xff"}',
    'digits': b'{"schema": ' + b'9' * 5000 + b'}',
    'nothing in it': b'{}',
    'zero bytes': bytes(100),
}.values()
