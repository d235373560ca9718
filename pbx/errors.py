"""The errors that the package raises on purpose.

    PbxError                    a message and its fix
    ├── SettingsError           a setting is missing, malformed or contradictory
    ├── DataError               the data directory or the database can't be used
    │   ├── NewerDatabase       a newer version of the app wrote the database
    │   ├── UnreadableFile      a file to import can't be read, or not to its end
    │   └── StorageFull         the disk is full
    ├── JobOverdue              a job exceeded its time limit
    ├── ModelError              a speech model is missing, damaged, or too large for this machine
    ├── QueryError              a search query has a syntax error
    ├── SqlError                a statement of SQL is refused, or failed
    │   └── SqlLimit            ... because it took too much time or memory
    ├── AnalysisError           the language server's answer is unusable
    ├── Unreachable             the connection failed: unknown name, closed port, lost connection, TLS error
    │   └── Deadline            the server was too slow
    ├── AmiError                the manager interface answered with an error
    │   ├── AmiProtocolError    the server doesn't speak AMI, or broke the protocol
    │   │   └── AmiTooLarge     a message exceeds a size limit of the app
    │   ├── AmiLoginError       login refused
    │   │   └── AmiPlainLogin   login not attempted: the server accepts only a plain-text password
    │   └── AmiActionError      an action failed
    │       └── AmiDenied       ... because the user lacks a right
    └── AriError                the REST interface answered with an error
        ├── AriProtocolError    the answer isn't ARI's, or isn't JSON
        ├── AriLoginError       401
        ├── AriDenied           403
        ├── AriNotFound         404
        └── AriServerError      5xx

A message is a sentence for the user; `fix` is what to do next, in the imperative. Neither contains a password.
"""


class PbxError(Exception):
    """The base of all errors: a message for the user and, in `fix`, what to do next ("" if nothing)."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix

    @property
    def advice(self) -> str:
        """The message and the fix, as one text."""
        return f"{self} {self.fix}".strip()


class SettingsError(PbxError):
    """A setting is missing, malformed or contradictory."""


class DataError(PbxError):
    """The data directory or the database can't be used."""


class NewerDatabase(DataError):
    """A newer version of the app wrote the database."""


class UnreadableFile(DataError):
    """A file to import can't be read, or not to its end."""


class StorageFull(DataError):
    """The disk is full."""


class JobOverdue(PbxError):
    """A job exceeded its time limit."""


class ModelError(PbxError):
    """A speech model is missing, damaged, or too large for this machine."""


class QueryError(PbxError):
    """A search query has a syntax error."""


class SqlError(PbxError):
    """A statement of SQL that an analyst wrote is refused, or failed.

    `line` and `column`: where in the statement, from 1; None if unknown.
    """

    def __init__(self, message: str, fix: str = "", line: int | None = None, column: int | None = None) -> None:
        super().__init__(message if line is None else f"Line {line}, column {column}: {message}", fix)
        self.line, self.column = line, column


class SqlLimit(SqlError):
    """A statement of SQL took more time or memory than it may."""


class AnalysisError(PbxError):
    """The language server's answer is unusable."""


class Unreachable(PbxError):
    """The connection to a server failed."""


class Deadline(Unreachable):
    """A server was too slow."""


class AmiError(PbxError):
    """AMI answered with an error."""


class AmiProtocolError(AmiError):
    """The server doesn't speak AMI, or broke the protocol."""


class AmiTooLarge(AmiProtocolError):
    """An AMI message exceeds a size limit of the app."""


class AmiLoginError(AmiError):
    """AMI refused the login."""


class AmiPlainLogin(AmiLoginError):
    """The app didn't log in, because the server accepts only a plain-text password."""


class AmiActionError(AmiError):
    """An AMI action failed."""


class AmiDenied(AmiActionError):
    """An AMI action failed because the user lacks a right."""


class AriError(PbxError):
    """ARI answered with an error."""


class AriProtocolError(AriError):
    """The answer isn't ARI's, or isn't JSON."""


class AriLoginError(AriError):
    """ARI refused the login (401)."""


class AriDenied(AriError):
    """ARI denied access (403)."""


class AriNotFound(AriError):
    """ARI doesn't know the address (404)."""


class AriServerError(AriError):
    """ARI failed to answer (5xx)."""
