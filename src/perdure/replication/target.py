"""Where a database is replicated to: a checked URL, without secrets.

    s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=eu-west-1&path_style=true
    file:///srv/nas/prefix

1. A target holds no keys and cannot be made from a URL that does. No error quotes a URL that was refused.
2. Keys of objects are made of plain characters only, so they mean the same to every store, shell and log.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from perdure.errors import PerdureError
from perdure.replication import credentials

if TYPE_CHECKING:
    from obstore.store import ClientConfig, LocalStore, S3Config, S3Store

PARAMETERS = ("endpoint", "region", "path_style")
LONGEST_PREFIX = 512
"""S3 keys have up to 1,024 bytes; the rest is for ours and Litestream's."""
CONNECT_TIMEOUT_S = 5.0
_NAME = re.compile(r"[A-Za-z0-9._=@-]+", re.ASCII)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}", re.ASCII)
_REGION = re.compile(r"[A-Za-z0-9-]+", re.ASCII)


class InvalidTarget(PerdureError, ValueError):
    """A replica URL that cannot be used. Never quotes the URL, which may have secrets in it."""

    hint = "write s3://bucket/prefix, with ?endpoint=https://… for a store other than AWS, or file:///folder"


class ObstoreMissing(PerdureError, ImportError):
    """The library that reads and writes buckets is not installed."""

    hint = 'pip install "perdure[litestream]"'


@dataclass(frozen=True, slots=True)
class Target:
    """A place in a bucket, or in a folder. Make it with `Target.parse`."""

    scheme: str
    """`s3` or `file`."""
    bucket: str
    """Empty for `file`."""
    prefix: str
    """Without slashes at its ends; empty for the whole bucket. For `file` the absolute path of the folder."""
    endpoint: str | None = None
    """Where the store is, when it is not AWS: `https://host` or `http://host:port`."""
    region: str | None = None
    path_style: bool = False
    """Whether the bucket's name is in the path of a request, and not in its host name."""

    @classmethod
    def parse(cls, url: str) -> Target:
        """Check a URL. What it leaves open comes from AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION,
        AWS_DEFAULT_REGION and the AWS profile. Raises `InvalidTarget`."""
        if not url.isprintable() or " " in url or "\\" in url:
            raise InvalidTarget("a replica URL has no spaces, backslashes or control characters")
        scheme, separator, _ = url.partition("://")
        if not separator or scheme not in ("s3", "file"):
            known = "replicas go to s3:// (and what speaks S3: MinIO, R2, Ceph, Google Cloud Storage) or to file://"
            raise InvalidTarget(f"{known}, not to {scheme[:20] + '://' if separator else 'a plain path'}")
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise InvalidTarget("keys do not belong in a URL: it ends up in process lists and logs", hint=_KEYS_HINT)
        if parts.fragment or url.endswith("#"):
            raise InvalidTarget("a replica URL has no #")
        query = _query(parts.query)
        return _file(parts.netloc, parts.path, query) if scheme == "file" else _s3(parts.netloc, parts.path, query)

    # --- naming -----------------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        """Give the place without its settings, for people."""
        if self.scheme == "file":
            return f"file://{quote(self.prefix)}"
        return f"s3://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")

    @property
    def url(self) -> str:
        """The whole URL: `Target.parse` makes the same target of it elsewhere."""
        settings = {"endpoint": self.endpoint, "region": self.region}
        query = {name: value for name, value in settings.items() if value}
        if self.scheme == "s3" and self.path_style != _usual_style(self.bucket, self.endpoint):
            query["path_style"] = str(self.path_style).lower()
        return str(self) + (f"?{urlencode(query, safe=':/')}" if query else "")

    def child(self, name: str | int) -> Target:
        """Give the target below this one: a name, of several parts perhaps, or an epoch. Raises `InvalidTarget`."""
        below = _segments(f"{name:08d}" if isinstance(name, int) else name)
        if not below:
            raise InvalidTarget("the name of a replica below a prefix is empty")
        return replace(self, prefix=_checked("/".join([*filter(None, [self.prefix]), below])))

    # --- for Litestream ---------------------------------------------------------------------------------------------

    def litestream(self) -> dict[str, str | bool]:
        """Give the `replica` part of Litestream's configuration: no keys, it finds them in its environment."""
        if self.scheme == "file":
            return {"type": "file", "path": self.prefix}
        settings: dict[str, str | bool] = {"type": "s3", "bucket": self.bucket, "path": self.prefix}
        if self.endpoint:
            settings["endpoint"] = self.endpoint
        if self.region:
            settings["region"] = self.region
        return settings | {"force-path-style": self.path_style}

    def litestream_url(self) -> str:
        """Give the same as a URL, in Litestream's own dialect."""
        if self.scheme == "file":
            return str(self)
        query = {"endpoint": self.endpoint, "region": self.region, "forcePathStyle": str(self.path_style).lower()}
        return f"{self}?{urlencode({name: value for name, value in query.items() if value}, safe=':/')}"

    def credentials(self) -> dict[str, str]:
        """Give what Litestream's environment needs beside ours. It finds keys by itself, in the same places as we do;
        those of the machine's role are not for a store that is not AWS."""
        return {"AWS_EC2_METADATA_DISABLED": "true"} if self.endpoint else {}

    # --- for obstore ------------------------------------------------------------------------------------------------

    def store(self, timeout_s: float = 30.0) -> S3Store | LocalStore:
        """Open the store: the whole bucket, or the folder, which is made if need be.

        `timeout_s` bounds one request. It never retries: a caller that must know what was written decides about that.
        Raises `CredentialsMissing`, `ObstoreMissing`, `InvalidTarget` for a folder that cannot be made.
        """
        try:
            from obstore.store import LocalStore, S3Store
        except ImportError as error:
            raise ObstoreMissing("replication needs the library obstore, and it is not installed") from error
        if self.scheme == "file":
            try:
                Path(self.prefix).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InvalidTarget(f"{self.prefix} cannot be used: {error.strerror}", hint="name a folder") from error
            return LocalStore(self.prefix, automatic_cleanup=True)  # of folders that a deletion leaves empty
        return S3Store(
            self.bucket,
            config=self._config(),
            client_options=self._client(timeout_s),
            retry_config={"max_retries": 0},
            credential_provider=credentials.provider(on_aws=self.endpoint is None),
        )

    def _config(self) -> S3Config:
        """Name everything that obstore would otherwise take from variables of its own, some of which win."""
        config: S3Config = {
            "region": self.region or "us-east-1",
            "virtual_hosted_style_request": not self.path_style,
            "conditional_put": "etag",
        }
        if self.endpoint:
            endpoint = self.endpoint
            if not self.path_style:  # obstore wants the bucket in it then
                endpoint = endpoint.replace("://", f"://{self.bucket}.", 1)
            # The service's own variable wins over `endpoint`, so this one is set.
            config |= {"aws_endpoint_url_s3": endpoint, "disable_bulk_delete": True}
        return config

    def _client(self, timeout_s: float) -> ClientConfig:
        options: ClientConfig = {
            "allow_http": bool(self.endpoint and self.endpoint.startswith("http://")),
            "connect_timeout": timedelta(seconds=min(CONNECT_TIMEOUT_S, timeout_s)),
            "timeout": timedelta(seconds=timeout_s),
        }
        bundle = os.environ.get("AWS_CA_BUNDLE")
        if bundle and not options["allow_http"]:
            try:
                options["root_certificate"] = Path(bundle).read_bytes()
            except OSError as error:
                raise InvalidTarget(f"AWS_CA_BUNDLE cannot be read: {error.strerror}", hint="unset it") from error
        return options


_KEYS_HINT = "use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or ~/.aws/credentials"


def _query(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name not in PARAMETERS:
            shown = name if re.fullmatch("[A-Za-z_]{1,24}", name) else "one of these"
            raise InvalidTarget(
                f"a replica URL has the parameters {', '.join(PARAMETERS)}; {shown} is not among them", hint=_KEYS_HINT
            )
        if name in found or not value:
            raise InvalidTarget(f"{name} is in the replica URL twice, or empty")
        found[name] = value
    return found


def _file(host: str, path: str, query: Mapping[str, str]) -> Target:
    if query:
        raise InvalidTarget("a file:// replica has no parameters")
    folder = unquote(path)
    if host or not folder.startswith("/") or folder.strip("/") == "":
        raise InvalidTarget("a file:// replica names an absolute path: file:///srv/replicas/shop")
    if not folder.isprintable() or ".." in folder.split("/"):
        raise InvalidTarget("the path of a file:// replica has no .. and no control characters")
    return Target("file", "", "/" + "/".join(part for part in folder.split("/") if part not in ("", ".")))


def _s3(bucket: str, path: str, query: Mapping[str, str]) -> Target:
    if ":" in bucket:
        raise InvalidTarget(
            "the first part of an s3:// URL is the bucket, without a port",
            hint="name the server with ?endpoint=http://host:port",
        )
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise InvalidTarget("the first part of an s3:// URL is a bucket: letters, digits, '-', '.' and '_'")
    prefix = _checked(_segments(path))
    settings = {} if "endpoint" in query and "region" in query else credentials.profile()
    endpoint = _endpoint(query.get("endpoint") or _usual_endpoint(settings))
    region = query.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    region = region or settings.get("region") or None
    if region and not _REGION.fullmatch(region):
        raise InvalidTarget("a region is made of letters, digits and '-', such as eu-west-1")
    style = query.get("path_style", str(_usual_style(bucket, endpoint))).lower()
    if style not in ("true", "false"):
        raise InvalidTarget("path_style is true or false")
    return Target("s3", bucket, prefix, endpoint, region, style == "true")


def _segments(path: str) -> str:
    """Check the parts of a prefix one by one; give it without slashes at its ends and without double ones."""
    parts = [part for part in path.split("/") if part]
    for part in parts:
        if part in (".", ".."):
            raise InvalidTarget("the prefix of a replica has no . and no ..")
        if not _NAME.fullmatch(part):
            raise InvalidTarget("the prefix of a replica is made of letters, digits and - . _ = @, with / between")
    return "/".join(parts)


def _checked(prefix: str) -> str:
    if len(prefix) > LONGEST_PREFIX and not PurePosixPath(prefix).is_absolute():
        raise InvalidTarget(f"the prefix of a replica has at most {LONGEST_PREFIX} characters")
    return prefix


def _usual_endpoint(settings: Mapping[str, str]) -> str | None:
    env = os.environ
    if env.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    return env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or settings.get("endpoint_url") or None


def _usual_style(bucket: str, endpoint: str | None) -> bool:
    """Servers other than AWS seldom have host names for buckets; AWS has no certificate for those with dots."""
    return endpoint is not None or "." in bucket


def _endpoint(text: str | None) -> str | None:
    if text is None:
        return None
    parts = urlsplit(text)
    if "@" in parts.netloc:
        raise InvalidTarget("keys do not belong in the address of a store", hint=_KEYS_HINT)
    plain = re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?", parts.netloc, re.ASCII)
    if parts.scheme not in ("http", "https") or not plain or parts.path.strip("/") or parts.query or parts.fragment:
        raise InvalidTarget(
            "an endpoint is https://host or http://host:port, without a path", hint="leave out the rest"
        )
    return f"{parts.scheme}://{parts.netloc}"
