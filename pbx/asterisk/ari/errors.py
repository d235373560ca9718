"""What can go wrong between here and ARI → an error for people. No message holds a password, nor does any address."""

import ssl

import urllib3.exceptions as http

from pbx.errors import (
    AriDenied,
    AriError,
    AriLoginError,
    AriNotFound,
    AriProtocolError,
    AriServerError,
    Deadline,
    PbxError,
    Unreachable,
)
from pbx.settings import Connection

_UNKNOWN_CA = {18, 19, 20, 21}  # X509_V_ERR_*: self-signed, or the issuer is not known here
_OTHER_NAME = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH


def refusal(status: int, content_type: str, text: str, connection: Connection) -> AriError:
    """The error for any answer that isn't 200. `text` is the start of its body."""
    where = connection.ari_url
    if status == 401:
        return AriLoginError(
            f"ARI refused the user {connection.ari_username!r} or the password.",
            "Compare FREEPBX_ARI_USERNAME and FREEPBX_ARI_PASSWORD with the PBX's user (FreePBX: Settings, "
            "Asterisk REST Interface Users; or ari.conf), then `asterisk -rx 'module reload res_ari.so'`.",
        )
    if status == 403:
        return AriDenied(
            f"ARI denies the user {connection.ari_username!r} this ({text or status}).",
            "Reading needs no more than a read-only user. Asterisk itself must be able to read the recordings: "
            "`chown -R asterisk:asterisk /var/spool/asterisk/monitor`.",
        )
    if status == 404 and "Recording not found" in text:
        return AriNotFound(
            "The PBX lists it but doesn't hand it out (404).",
            "If that goes for all of a folder, the folder is a link that leads out of /var/spool/asterisk/recording: "
            "make `recording` itself the link (`ln -s monitor /var/spool/asterisk/recording`), or mount with --bind.",
        )
    if status == 404 and "json" in content_type:
        return AriNotFound(
            f"ARI answers at {where}, but doesn't know recordings or channels.",
            "Load the modules on the PBX: `asterisk -rx 'module load res_ari_recordings.so'` and res_ari_channels.so.",
        )
    if status == 404:
        return AriNotFound(
            f"A web server answers at {where}, but there is no ARI behind it.",
            "Set enabled=yes in /etc/asterisk/ari.conf, then run `asterisk -rx 'module reload res_ari.so'`. If "
            "`asterisk -rx 'http show status'` shows a prefix, set FREEPBX_ARI_PREFIX to it. Otherwise, "
            "FREEPBX_ARI_PORT may belong to another web server.",
        )
    if status >= 500:
        return _server_error(status, text)
    return AriProtocolError(
        f"{where} answered with HTTP {status} where ARI answers 200.",
        "Check FREEPBX_ARI_PORT and FREEPBX_ARI_TLS: this looks like another web server or a proxy.",
    )


def _server_error(status: int, text: str) -> AriServerError:
    if "Allocation failed" in text:
        return AriServerError(
            "The PBX can't list its recordings (500 Allocation failed).",
            "The directory /var/spool/asterisk/recording is missing, or something below it stops the listing: a broken "
            "link (`find -L /var/spool/asterisk/recording -type l` shows it), or a file name that isn't UTF-8. "
            "Make it a link: `ln -s monitor /var/spool/asterisk/recording`.",
        )
    if status == 503:
        return AriServerError("The PBX is still starting (503).", "Try again in a minute.")
    return AriServerError(
        f"The PBX failed to answer ({status} {text}).".replace(" )", ")"), "Its log /var/log/asterisk/full tells why."
    )


def not_json(connection: Connection) -> AriProtocolError:
    """The error for a 200 that holds something else than ARI's JSON."""
    return AriProtocolError(
        f"{connection.ari_url} answered, but not with ARI's JSON.",
        "Check FREEPBX_HOST and FREEPBX_ARI_PORT: this looks like another web server, a proxy or a login page.",
    )


def no_length(connection: Connection) -> AriProtocolError:
    """The error for an answer that doesn't announce its length in plain digits."""
    return AriProtocolError(
        f"{connection.ari_url} doesn't say how long its answer is, so it can't be checked.",
        "Connect to Asterisk's own port, not through a proxy that drops Content-Length.",
    )


def endless(connection: Connection) -> AriProtocolError:
    """The error for a list that is longer than this app takes in."""
    return AriProtocolError(
        f"{connection.ari_url} sent too large a list of recordings: more than 64 MB or 2,500,000 JSON values.",
        f"Check that {connection.host} is your PBX. If it really has that many recordings, archive old ones outside "
        "/var/spool/asterisk/monitor; FreePBX can't play those any more.",
    )


def line_fault(error: http.HTTPError, connection: Connection) -> PbxError:
    """The error for what happened to the connection itself."""
    where = f"{connection.host}:{connection.ari_port}"
    reason: BaseException | None = error.reason if isinstance(error, http.MaxRetryError) else error
    if isinstance(reason, http.NameResolutionError):
        return Unreachable(
            f"The name {connection.host!r} doesn't resolve to an address.",
            "Check FREEPBX_HOST for a slip, or write the PBX's IP address.",
        )
    if isinstance(reason, http.ConnectTimeoutError) and not isinstance(reason, http.NewConnectionError):
        return Deadline(
            f"No answer from {where}.",
            "A firewall may drop the packets (FreePBX: add this machine under Connectivity, Firewall), "
            "or the address is wrong.",
        )
    if isinstance(reason, http.NewConnectionError) and not isinstance(reason.__cause__, ConnectionRefusedError):
        why = getattr(reason.__cause__, "strerror", None) or "no way there"
        return Unreachable(f"Can't connect to {where}: {why}.", "Check the network and the address.")
    if isinstance(reason, http.NewConnectionError):
        return Unreachable(
            f"Nothing listens on {where}.",
            "Set enabled=yes and a bindaddr this machine can reach in /etc/asterisk/http.conf, then run "
            "`asterisk -rx 'module reload http'`; `asterisk -rx 'http show status'` shows what is in force. Check "
            "FREEPBX_ARI_PORT too.",
        )
    if isinstance(reason, http.ReadTimeoutError):
        return Deadline(f"{where} stopped answering in the middle.", "Is the PBX overloaded? Try again.")
    if isinstance(reason, http.SSLError):
        return _tls_fault(reason, where)
    if _speaks_no_http(reason):
        return AriProtocolError(
            f"{where} doesn't speak HTTP.",
            "Check FREEPBX_ARI_PORT: ARI's is 8088, or 8089 with TLS (FREEPBX_ARI_TLS); 5038 is AMI's.",
        )
    fix = "Does Asterisk restart? Then try again."
    if not connection.ari_tls:
        fix += " If it happens each time, this may be the TLS port: set FREEPBX_ARI_TLS."
    return Unreachable(f"The connection to {where} broke off.", fix)


def _speaks_no_http(reason: BaseException | None) -> bool:
    cause = next((arg for arg in getattr(reason, "args", ()) if isinstance(arg, Exception)), None)
    return type(cause).__name__ in ("BadStatusLine", "LineTooLong", "UnknownProtocol")  # not RemoteDisconnected


def _tls_fault(reason: http.SSLError, where: str) -> Unreachable:
    cause = reason.args[0] if reason.args else None
    if not isinstance(cause, ssl.SSLCertVerificationError):
        return Unreachable(
            f"{where} doesn't speak TLS.",
            "ARI over TLS has a port of its own (tlsbindaddr in http.conf, often 8089): set FREEPBX_ARI_PORT to it, "
            "or turn FREEPBX_ARI_TLS off.",
        )
    if cause.verify_code in _UNKNOWN_CA:
        fix = "Copy the certificate of the CA that signed it from the PBX and name that file in FREEPBX_CA_FILE."
        return Unreachable(f"{where} shows a certificate of an unknown CA.", fix)
    if cause.verify_code in _OTHER_NAME:
        fix = "Set FREEPBX_HOST to the name in the certificate, or let the PBX have one for this name."
        return Unreachable(f"{where} shows a certificate for another name.", fix)
    return Unreachable(f"The certificate of {where} isn't valid: {cause.verify_message}.", "Renew it on the PBX.")
