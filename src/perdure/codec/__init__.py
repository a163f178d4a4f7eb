"""How values cross the log: arguments, results, failures, and the bytes that are finally stored.

- `value.py`       one annotated value to JSON text and back; `annotation.py` decides which types can be written,
                   `model.py` speaks for pydantic models, `loss.py` finds what JSON would silently change, and
                   `fields.py` knows the fields of a class
- `arguments.py`   all arguments of a function as one JSON object; `form.py` compiles the signature for it
- `failure.py`     an exception to JSON text and back; `exception.py` makes instances of exception classes without
                   running their code, `literal.py` keeps the plain values that an exception carries
- `payload.py`     the storage boundary: size limit, large bodies apart and compressed, the user's codec
- `encryption.py`  a codec that encrypts with AES-GCM

Everything here is pure, and nothing is ever pickled: a database from a stranger is safe to open.
"""

from __future__ import annotations

from perdure.codec.arguments import Arguments
from perdure.codec.failure import Failure, decode_failure, encode_failure
from perdure.codec.failure import rebuild as rebuild_failure
from perdure.codec.value import Value

__all__ = ["Arguments", "Failure", "Value", "decode_failure", "encode_failure", "rebuild_failure"]
