"""Every error the package raises on purpose.

    PbxError                    message + fix (what to do next)
    ├── SettingsError           ours: a setting is missing, malformed or contradictory
    ├── DataError               ours: the data directory or the database can't be used as it is
    │   ├── NewerDatabase       written by a newer version of the app
    │   ├── UnreadableFile      a file to import can't be read, or only in part
    │   └── StorageFull         the disk is full
    ├── JobOverdue              ours: a job was past its limit of time
    ├── ModelError              ours: a speech model is missing, damaged, or too large for this machine
    ├── QueryError              ours: a search that can't be understood
    ├── AnalysisError           the peer's: what the language server answered is not usable
    ├── Unreachable             the wire: name unknown, port closed, line dropped, TLS refused
    │   └── Deadline            the peer was too slow
    ├── AmiError                the peer's: what the manager interface answered
    │   ├── AmiProtocolError    it doesn't speak AMI, or not any more
    │   │   └── AmiTooLarge     what it sends is over a bound of ours
    │   ├── AmiLoginError       login refused
    │   │   └── AmiPlainLogin   ... by us: the peer takes the password in clear only
    │   └── AmiActionError      an action was answered by an error
    │       └── AmiDenied       ... because the user lacks a right
    └── AriError                the peer's: what the REST interface answered
        ├── AriProtocolError    not ARI, or not JSON where JSON belongs
        ├── AriLoginError       401
        ├── AriDenied           403
        ├── AriNotFound         404
        └── AriServerError      5xx

A message is a sentence for the analyst; `fix` says what to do next. Neither ever holds a password.
"""


class PbxError(Exception):
    """An error with a message for people and, in `fix`, what to do next."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix

    @property
    def advice(self) -> str:
        """The message and what to do next, as one text."""
        return f"{self} {self.fix}".strip()


class SettingsError(PbxError): ...


class DataError(PbxError): ...


class NewerDatabase(DataError): ...


class UnreadableFile(DataError): ...


class StorageFull(DataError): ...


class JobOverdue(PbxError): ...


class ModelError(PbxError): ...


class QueryError(PbxError): ...


class AnalysisError(PbxError): ...


class Unreachable(PbxError): ...


class Deadline(Unreachable): ...


class AmiError(PbxError): ...


class AmiProtocolError(AmiError): ...


class AmiTooLarge(AmiProtocolError): ...


class AmiLoginError(AmiError): ...


class AmiPlainLogin(AmiLoginError): ...


class AmiActionError(AmiError): ...


class AmiDenied(AmiActionError): ...


class AriError(PbxError): ...


class AriProtocolError(AriError): ...


class AriLoginError(AriError): ...


class AriDenied(AriError): ...


class AriNotFound(AriError): ...


class AriServerError(AriError): ...
