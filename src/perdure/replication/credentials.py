"""Where the keys to a bucket come from: the usual AWS places, in the usual order, and nowhere else.

    environment ─▶ web identity ─▶ profile (~/.aws/credentials, ~/.aws/config) ─▶ container ─▶ instance role

obstore knows all of these but profiles, which are read here: at each refresh again, so that keys which are rotated in
the file are picked up. Profiles that need more than reading a file (SSO, an assumed role, `credential_process`) go
through boto3 where it is installed. Keys are in no error, log or `repr`.
"""

from __future__ import annotations

import configparser
import importlib
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure.errors import PerdureError

if TYPE_CHECKING:
    from obstore.store import S3Credential, S3CredentialProvider

REFRESH = timedelta(minutes=5)
"""How long keys from a file are used before it is read again."""
_WITH_BOTO3 = ("credential_process", "role_arn", "sso_account_id", "sso_session", "sso_start_url")


class CredentialsMissing(PerdureError):
    """No keys to the bucket in any of the usual places, or in a form that cannot be used."""

    hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or write ~/.aws/credentials"


def profile() -> Mapping[str, str]:
    """Give the settings of the profile in use, keys included: never show them. Empty when there is none.

    Raises `CredentialsMissing` when AWS_PROFILE names one that no file has.
    """
    wanted = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
    name = wanted or "default"
    credentials = _file("AWS_SHARED_CREDENTIALS_FILE", "credentials")
    config = _file("AWS_CONFIG_FILE", "config")
    found: dict[str, str] = {}
    sections = [(config, name if name == "default" else f"profile {name}"), (credentials, name)]
    for path, section in sections:
        found |= _section(path, section)
    if wanted and not found:
        raise CredentialsMissing(f"AWS_PROFILE is {name!r}, and neither {credentials} nor {config} has it")
    return found


def provider(*, on_aws: bool) -> S3CredentialProvider | None:
    """Give what obstore is to ask for keys; None where it finds them by itself. `on_aws`: there can be a role of the
    machine. Raises `CredentialsMissing`."""
    env = os.environ
    if env.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true"):
        return None
    if bool(env.get("AWS_ACCESS_KEY_ID")) != bool(env.get("AWS_SECRET_ACCESS_KEY")):
        raise CredentialsMissing("only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set")
    if env.get("AWS_ACCESS_KEY_ID") or env.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return None
    settings = profile()
    if settings.get("aws_access_key_id"):
        _keys()
        return _keys
    if any(name in settings for name in _WITH_BOTO3):
        return _boto3()
    if env.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") or env.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        return None
    if not on_aws or env.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise CredentialsMissing("there are no keys to the bucket: not in the environment, and in no profile")
    return None


def _keys() -> S3Credential:
    """Read the keys of the profile."""
    settings = profile()
    key, secret = settings.get("aws_access_key_id"), settings.get("aws_secret_access_key")
    if not key or not secret:
        raise CredentialsMissing("the AWS profile has only one of aws_access_key_id and aws_secret_access_key")
    token = settings.get("aws_session_token")
    return {
        "access_key_id": key,
        "secret_access_key": secret,
        "token": token,
        "expires_at": datetime.now(UTC) + REFRESH,
    }


def _boto3() -> S3CredentialProvider:
    """Let boto3 do what takes more than reading a file."""
    try:
        boto3: Any = importlib.import_module("obstore.auth.boto3")
    except ImportError:
        raise CredentialsMissing(
            "the AWS profile needs SSO, an assumed role or a credential_process, which perdure does not do by itself",
            hint='pip install boto3, or: eval "$(aws configure export-credentials --format env)"',
        ) from None
    try:
        made: S3CredentialProvider = boto3.Boto3CredentialProvider()
    except Exception as error:  # whatever boto3 and its plug-ins raise
        raise CredentialsMissing(f"boto3 could not get credentials: {type(error).__name__}") from error
    return made


def _file(variable: str, name: str) -> Path:
    return Path(os.environ.get(variable) or Path("~/.aws") / name).expanduser()


def _section(path: Path, section: str) -> dict[str, str]:
    """Read one section of an AWS file; empty when there is none."""
    parser = configparser.RawConfigParser(default_section="", strict=False)  # "default" is a profile like any other
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, configparser.Error) as error:  # its text may quote a line with a key
        raise CredentialsMissing(f"{path} cannot be read: {type(error).__name__}", hint="mend it") from None
    return dict(parser[section]) if parser.has_section(section) else {}
