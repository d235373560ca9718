"""Turns what goes wrong between this machine and ARI into errors with a fix. No message contains a password."""

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

_UNKNOWN_CA = {2, 18, 19, 20, 21}  # X509_V_ERR_*: self-signed, or the issuer is unknown
_OTHER_NAME = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH


def status_error(status: int, content_type: str, text: str, connection: Connection) -> AriError:
    """The error for an answer with any HTTP status but 200. `text`: the start of its body."""
    where = connection.ari_url
    if status == 401:
        return AriLoginError(
            f"ARI refused the user {connection.ari_username!r} or the password.",
            "Compare FREEPBX_ARI_USERNAME and FREEPBX_ARI_PASSWORD with the user on the PBX (FreePBX: Settings, "
            "Asterisk REST Interface Users; or ari.conf), then run `asterisk -rx 'module reload res_ari.so'`.",
        )
    if status == 403:
        return AriDenied(
            f"ARI denied the user {connection.ari_username!r} access ({text or status}).",
            "A read-only user is enough. Let Asterisk itself read the recordings: "
            "`chown -R asterisk:asterisk /var/spool/asterisk/monitor`.",
        )
    if status == 404 and "Recording not found" in text:
        return AriNotFound(
            "The PBX lists the recording but refuses to send it (404).",
            "If this happens with every recording of a folder, the folder is a link that leads out of "
            "/var/spool/asterisk/recording. Make `recording` itself the link "
            "(`ln -s monitor /var/spool/asterisk/recording`), or mount the folder with --bind.",
        )
    if status == 404 and "json" in content_type:
        return AriNotFound(
            f"ARI answers at {where}, but without recordings or channels.",
            "Load the modules on the PBX: `asterisk -rx 'module load res_ari_recordings.so'`, and the same for "
            "res_ari_channels.so.",
        )
    if status == 404:
        return AriNotFound(
            f"A web server answers at {where}, but it doesn't offer ARI.",
            "Set enabled=yes in /etc/asterisk/ari.conf, then run `asterisk -rx 'module reload res_ari.so'`. If "
            "`asterisk -rx 'http show status'` shows a prefix, set FREEPBX_ARI_PREFIX to it. Otherwise, check whether "
            "FREEPBX_ARI_PORT belongs to another web server.",
        )
    if status >= 500:
        return _server_error(status, text)
    return AriProtocolError(
        f"{where} answered with HTTP status {status}, which ARI doesn't use here.",
        "Check FREEPBX_ARI_PORT and FREEPBX_ARI_TLS: this looks like another web server or a proxy.",
    )


def _server_error(status: int, text: str) -> AriServerError:
    if "Allocation failed" in text:
        return AriServerError(
            "The PBX can't list its recordings (500 Allocation failed).",
            "If the directory /var/spool/asterisk/recording is missing, make it a link: "
            "`ln -s monitor /var/spool/asterisk/recording`. Otherwise, remove broken links in it "
            "(`find -L /var/spool/asterisk/recording -type l` lists them) and rename files whose name isn't UTF-8.",
        )
    if status == 503:
        return AriServerError("The PBX is still starting (503).", "Try again in a minute.")
    return AriServerError(
        f"The PBX could not answer ({status} {text}).".replace(" )", ")"),
        "Look for the reason in the log /var/log/asterisk/full on the PBX.",
    )


def not_json_error(connection: Connection) -> AriProtocolError:
    """The error for a successful answer that isn't ARI's JSON."""
    return AriProtocolError(
        f"{connection.ari_url} answered, but not with JSON as ARI does.",
        "Check FREEPBX_HOST and FREEPBX_ARI_PORT: this looks like another web server, a proxy or a login page.",
    )


def no_length_error(connection: Connection) -> AriProtocolError:
    """The error for an answer without a usable Content-Length."""
    return AriProtocolError(
        f"{connection.ari_url} doesn't send the length of its answer, so the answer can't be checked.",
        "Connect to Asterisk's own port, not through a proxy that removes Content-Length.",
    )


def list_too_large_error(connection: Connection) -> AriProtocolError:
    """The error for a list of recordings that is larger than this app accepts."""
    return AriProtocolError(
        f"{connection.ari_url} sent a list of recordings that is too large: more than 64 MB or 2,500,000 JSON values.",
        f"Check that {connection.host} is your PBX. If it really has that many recordings, move old ones out of "
        "/var/spool/asterisk/monitor. FreePBX can no longer play those.",
    )


def connection_error(error: http.HTTPError, connection: Connection) -> PbxError:
    """The error for a failure of the connection itself."""
    where = f"{connection.host}:{connection.ari_port}"
    reason: BaseException | None = error.reason if isinstance(error, http.MaxRetryError) else error
    if isinstance(reason, http.NameResolutionError):
        return Unreachable(
            f"The name {connection.host!r} doesn't resolve to an address.",
            "Check FREEPBX_HOST for spelling, or set it to the PBX's IP address.",
        )
    if isinstance(reason, http.ConnectTimeoutError) and not isinstance(reason, http.NewConnectionError):
        return Deadline(
            f"No answer from {where}.",
            "Check the address. If it is right, a firewall may drop the packets (FreePBX: add this machine under "
            "Connectivity, Firewall).",
        )
    if isinstance(reason, http.NewConnectionError) and not isinstance(reason.__cause__, ConnectionRefusedError):
        why = getattr(reason.__cause__, "strerror", None) or "no route"
        return Unreachable(f"Can't connect to {where}: {why}.", "Check the network and the address.")
    if isinstance(reason, http.NewConnectionError):
        return Unreachable(
            f"Nothing listens on {where}.",
            "Set enabled=yes and a bindaddr this machine can reach in /etc/asterisk/http.conf, then run "
            "`asterisk -rx 'module reload http'`. `asterisk -rx 'http show status'` shows the current settings. Check "
            "FREEPBX_ARI_PORT, too.",
        )
    if isinstance(reason, http.ReadTimeoutError):
        return Deadline(
            f"{where} stopped sending in the middle of its answer.",
            "Try again. If it happens often, check the PBX’s load.",
        )
    if isinstance(reason, http.SSLError):
        return _tls_error(reason, where)
    if _is_not_http(reason):
        return AriProtocolError(
            f"{where} doesn't speak HTTP.",
            "Check FREEPBX_ARI_PORT. The usual port is 8088, or 8089 with TLS (FREEPBX_ARI_TLS); 5038 is AMI's.",
        )
    fix = "Try again. Asterisk may have restarted."
    if not connection.ari_tls:
        fix += " If it happens every time, this may be the TLS port: set FREEPBX_ARI_TLS."
    return Unreachable(f"The connection to {where} broke off.", fix)


def _is_not_http(reason: BaseException | None) -> bool:
    cause = next((arg for arg in getattr(reason, "args", ()) if isinstance(arg, Exception)), None)
    return type(cause).__name__ in ("BadStatusLine", "LineTooLong", "UnknownProtocol")  # not RemoteDisconnected


def _tls_error(reason: http.SSLError, where: str) -> Unreachable:
    cause = reason.args[0] if reason.args else None
    if not isinstance(cause, ssl.SSLCertVerificationError):
        return Unreachable(
            f"{where} doesn't speak TLS.",
            "Set FREEPBX_ARI_PORT to the TLS port (tlsbindaddr in http.conf, often 8089), or turn FREEPBX_ARI_TLS off.",
        )
    if cause.verify_code in _UNKNOWN_CA:
        fix = "Copy the certificate of the CA that signed it from the PBX, and set FREEPBX_CA_FILE to its path."
        return Unreachable(f"{where} uses a certificate from an unknown CA.", fix)
    if cause.verify_code in _OTHER_NAME:
        fix = "Set FREEPBX_HOST to the name in the certificate, or install a certificate for this name on the PBX."
        return Unreachable(f"{where} uses a certificate for another name.", fix)
    return Unreachable(f"The certificate of {where} isn't valid: {cause.verify_message}.", "Renew it on the PBX.")
