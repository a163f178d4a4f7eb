"""What a bucket can answer instead of doing what it was asked."""

from __future__ import annotations

import re

from perdure.errors import PerdureError

LONGEST = 300


class BucketError(PerdureError):
    """A bucket could not do what it was asked, and will not be able to either when asked again."""


class BucketUnreachable(BucketError):
    """No answer, or one that says nothing (a server error). A write may have been done, or may still be done later."""

    hint = "check the endpoint, the region and the network; it is tried again where that makes sense"


class BucketDenied(BucketError):
    """The store knows us and refuses, or does not know us."""

    hint = "check the keys, and that they may read, write, list and delete below the prefix"


class BucketMissing(BucketError):
    """There is no such bucket."""

    hint = "create the bucket first; perdure does not"


class BucketConflict(BucketError):
    """The condition of a write did not hold: somebody else was faster."""

    hint = "read the object, and decide again"


def translated(error: Exception, doing: str) -> BucketError:
    """Turn what obstore, or Python below it, raised into an error of ours. `doing` begins its text."""
    from obstore import exceptions as said

    text = f"{doing}: {_told(error)}"
    match error:
        case said.AlreadyExistsError() | said.PreconditionError():
            return BucketConflict(text)
        case said.PermissionDeniedError() | said.UnauthenticatedError() | PermissionError():
            return BucketDenied(text)
        case FileNotFoundError():
            return BucketMissing(text)
        case NotImplementedError() | said.NotSupportedError() | said.InvalidPathError() | ValueError():
            return BucketError(text, hint="this store cannot do that")
        case said.BaseError() | OSError():
            return BucketUnreachable(text)
        case _:
            return BucketError(f"{doing}: {type(error).__name__}", hint="please report this with the traceback")


def _told(error: Exception) -> str:
    """Give the telling part of a page of text: what was asked, the status, and what an S3 error says about itself."""
    text = str(error).partition("\n\nDebug source")[0]
    body = dict(re.findall(r"<(Code|Message)>([^<]*)<", text))
    told = " ".join(
        [text.partition("<")[0].strip(" :\n"), *(body[name] for name in ("Code", "Message") if name in body)]
    )
    return told if len(told) <= LONGEST else told[:LONGEST] + "…"
