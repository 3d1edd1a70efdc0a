"""The connection: what a URI says, and which of the driver's errors pass by themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient, uri_parser
from pymongo.database import Database
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    InvalidOperation,
    InvalidURI,
    PyMongoError,
    WriteConcernError,
)
from pymongo.write_concern import WriteConcern

from eventstorm.errors import StartError
from eventstorm_sinks.stores import StoreUnavailable, redacted

__all__ = ["RAW", "Connection", "guarded", "is_unavailable"]

DEFAULT_DATABASE, DEFAULT_COLLECTION = "eventstorm", "events"

# Each may be set in the URI. The driver's own wait of 30 s for a server would hold up the sink's stop, and its wait
# without end for an answer would hold up the store for as long as a host that vanished is believed to be there.
_DEFAULTS: dict[str, Any] = {
    "serverselectiontimeoutms": ("serverSelectionTimeoutMS", 2_000),
    "connecttimeoutms": ("connectTimeoutMS", 5_000),
    "sockettimeoutms": ("socketTimeoutMS", 30_000),
    "appname": ("appname", "eventstorm"),
}

RAW: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=RawBSONDocument, datetime_conversion=DatetimeConversion.DATETIME_MS
)
"""Documents stay bytes; dates are milliseconds, since datetime cannot hold all that BSON can."""

# The server's errors that say nothing of the documents:
# https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
_PASSING_CODES = {
    6, 7, 89, 9001,  # the network
    91, 189, 10107, 11600, 11602, 13435, 13436, 10058,  # shutting down, stepping down, no primary
    24, 43, 46, 50, 112, 237, 262,  # locks, limits of time, cursors that the server has closed
    64, 79, 100, 133, 134, 317,  # too few members of the replica set
    13, 18, 391, 8000,  # credentials that may be put right
    14031,  # the disk is full
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Connection:
    """A server, as a URI names it. Nothing is sent before the first question."""

    name: str
    """The URI without its password."""
    client: MongoClient[RawBSONDocument]
    database: Database[RawBSONDocument]
    collection: str

    @classmethod
    def of(cls, uri: str) -> Connection:
        """Read a URI: ``mongodb://host/database.collection?options``.

        Raises:
            StartError: it is not understood, or asks for what would make losses invisible.
        """
        name = redacted(uri)
        try:
            # As a plain one, since the names of mongodb+srv are looked up only when there is something to ask.
            parsed = uri_parser.parse_uri(uri.replace("mongodb+srv:", "mongodb:", 1), warn=False)
            given = {str(option).lower() for option in parsed["options"]}
            options = {key: value for option, (key, value) in _DEFAULTS.items() if option not in given}
            client = MongoClient(uri, connect=False, document_class=RawBSONDocument, **options)
        except (ConfigurationError, InvalidURI, ValueError) as error:
            # The driver's messages may quote the URI.
            raise StartError(f"{name}: {_without(str(error), uri)}") from None
        concern = client.write_concern
        if not concern.acknowledged:
            client.close()
            raise StartError(f"{name}: w=0: the server would not say what it has stored; leave it out, or write w=1")
        if concern.is_server_default:
            # All that is acknowledged survives a crash and a change of the primary, else the books would count it.
            concern = WriteConcern(w="majority", j=True)
        database = client.get_database(parsed["database"] or DEFAULT_DATABASE, codec_options=RAW, write_concern=concern)
        return cls(name, client, database, parsed["collection"] or DEFAULT_COLLECTION)


def _without(message: str, uri: str) -> str:
    """Leave out of a message what the URI hides between ``//`` and the last ``@``."""
    secret, at, _ = uri.partition("//")[2].rpartition("@")
    return message.replace(secret, "***") if at and secret else message


@contextlib.contextmanager
def guarded(name: str, *, whatever: bool = False) -> Iterator[None]:
    """Turn the driver's errors that pass by themselves into `StoreUnavailable`; or whatever it raises."""
    try:
        yield
    except PyMongoError as error:
        if whatever or is_unavailable(error):
            raise StoreUnavailable(f"{name}: {_first_line(error)}") from error
        raise


def is_unavailable(error: BaseException) -> bool:
    """Tell whether the same may work later."""
    if isinstance(error, BulkWriteError):
        details = error.details
        errors = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
        return bool(details.get("writeConcernErrors")) or any(each.get("code") in _PASSING_CODES for each in errors)
    # ConfigurationError is said of a server that is too old: someone may put a newer one there. InvalidOperation comes
    # of a client that another thread has closed meanwhile.
    if isinstance(error, (ConnectionFailure, ConfigurationError, InvalidOperation, WriteConcernError)):
        return True
    return getattr(error, "code", None) in _PASSING_CODES or (
        isinstance(error, PyMongoError) and error.has_error_label("RetryableWriteError")
    )


# What the driver says of a login or a certificate, and what to look at then.
_REMEDIES = {
    "uthentication failed": "look at the user, the password (a sign of its own as %40), and authSource in the URI",
    "requires authentication": "write a user and a password into the URI: mongodb://USER:PASSWORD@HOST/DATABASE",
    "not authorized": "give the user the role readWrite of the database",
    "CERTIFICATE_VERIFY_FAILED": "name the authority that signed the server's certificate: tlsCAFile=FILE in the URI",
    "IP address mismatch": "write the host as the server's certificate names it",
    "Hostname mismatch": "write the host as the server's certificate names it",
}


def _first_line(error: BaseException) -> str:
    """Return what happened, and what can be done about it, if that is known."""
    if not str(error):
        return type(error).__name__
    said = str(error).splitlines()[0]
    # The driver's settings, its picture of the whole topology, the server's answer once more.
    for what_follows in (" (configured timeouts: ", ", Timeout: ", ", full error: "):
        said = said.partition(what_follows)[0]
    said = said[:300]
    remedy = [fix for text, fix in _REMEDIES.items() if text in said]
    return f"{said}; {remedy[-1]}" if remedy else said
