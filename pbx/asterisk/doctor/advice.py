"""The fixes that the connection check recommends: the likely causes, each with the lines to enter on the PBX.

FreePBX overwrites most of Asterisk's configuration files, so each fix names FreePBX's own page or a *_custom.conf file.
In a custom file, `[general]` must be written `[general](+)`: Asterisk ignores a second section of the same name
(observed with Asterisk 16 and 22).
"""

from pbx.asterisk.ami.connection import netmask

LINK_COMMANDS = """\
cd /var/spool/asterisk
[ -d recording ] && [ ! -L recording ] && mv recording recording.before
ln -sfn monitor recording
chown -h asterisk:asterisk recording"""


def port_closed(interface: str, port: int, source: str) -> list[str]:
    """Fixes for a port on which nothing listens. `interface`: AMI or ARI; `source`: this machine's address."""
    local = source in ("127.0.0.1", "::1")
    bind = "127.0.0.1" if local else "0.0.0.0"  # noqa: S104 - advice; the permit= lines restrict access
    if interface == "AMI":
        return [
            "AMI is off, or listens on 127.0.0.1 only. Check with `asterisk -rx 'manager show settings'`, then write "
            f"in /etc/asterisk/manager_custom.conf:\n[general](+)\nenabled = yes\nbindaddr = {bind}\nport = {port}\n"
            "and run `asterisk -rx 'manager reload'`.",
            "AMI listens on another port. Set FREEPBX_AMI_PORT to the port that 'manager show settings' shows.",
            "Asterisk isn't running. Check with `asterisk -rx 'core show uptime'`; on FreePBX, run `fwconsole start`.",
        ]
    return [
        "Asterisk's web server is off (the default on a new FreePBX), or listens on 127.0.0.1 only. Check with "
        "`asterisk -rx 'http show status'`. FreePBX: under Settings, Advanced Settings, Asterisk Builtin mini-HTTP "
        f"server, enable it, set HTTP Bind Address {bind} and HTTP Bind Port {port}, then Submit and Apply Config. "
        f"Without FreePBX, write in /etc/asterisk/http.conf:\n[general]\nenabled = yes\nbindaddr = {bind}\n"
        f"bindport = {port}\nand run `asterisk -rx 'module reload http'`.",
        "The web server listens on another port. Set FREEPBX_ARI_PORT to the port that 'http show status' shows.",
        "Asterisk isn't running. Check with `asterisk -rx 'core show uptime'`; on FreePBX, run `fwconsole start`.",
    ]


def packets_dropped(interface: str, port: int, source: str) -> list[str]:
    """Fixes for a port that doesn't answer. `interface`: AMI or ARI; `source`: this machine's address, or ""."""
    address = source or "this machine"
    return [
        f"A firewall blocks {address}. FreePBX: under Connectivity, Firewall, Networks, add {address} as a trusted "
        f"network. Or run on the PBX:\niptables -I INPUT -p tcp -s {source or 'ADDRESS'} --dport {port} -j ACCEPT",
        f"{address} was banned after wrong passwords. FreePBX: under Connectivity, Firewall, Intrusion Detection, "
        "remove it from the list.",
        f"FREEPBX_HOST is the address of another machine, or FREEPBX_{interface}_PORT is wrong.",
    ]


def ami_login(user: str, source: str) -> list[str]:
    """Fixes for a refused AMI login. Asterisk answers the same to an unknown user, a wrong secret and a wrong address.

    `source`: this machine's address.
    """
    return [
        "The secret is wrong, or the user doesn't exist. FreePBX: see Settings, Asterisk Manager Users. Or write in "
        f"/etc/asterisk/manager_custom.conf:\n[{user}]\nsecret = (the same as FREEPBX_AMI_PASSWORD)\n"
        f"deny = 0.0.0.0/0.0.0.0\npermit = {source}/{netmask(source)}\n"
        "read = system,call,agent,reporting,cdr\nwrite = system,reporting\nand run `asterisk -rx 'manager reload'`.",
        f"The user may not log in from this machine's address {source} (FreePBX permits only 127.0.0.1 by default). "
        f"Add to that user:\npermit = {source}/{netmask(source)}",
        "A router or a VPN rewrites addresses, so the PBX sees another address. Find it with `asterisk -rx 'manager "
        "show connected'` or in /var/log/asterisk/full, and permit that one.",
    ]


def ami_rights(user: str, lacking: str) -> list[str]:
    """Fixes for an AMI user who lacks the class `lacking`."""
    return [
        f"Give the user the write right {lacking} (AMI needs a write right even for queries). FreePBX: see "
        f"Settings, Asterisk Manager Users, {user}, Rights. Or write in /etc/asterisk/manager_custom.conf:\n[{user}]\n"
        "read = system,call,agent,reporting,cdr\nwrite = system,reporting\nand run `asterisk -rx 'manager reload'`."
    ]


def ari_not_found(port: int, prefix: str) -> list[str]:
    """Fixes for a web server that answers without ARI at the expected path. `prefix`: the one that is set."""
    causes = [
        "ARI is off. FreePBX: under Settings, Advanced Settings, Asterisk REST Interface, enable it, then Submit and "
        "Apply Config. Or write in /etc/asterisk/ari_general_custom.conf (without FreePBX: in ari.conf, under "
        "[general]):\nenabled = yes\nand run `asterisk -rx 'module reload res_ari.so'`.",
        "The web server uses a prefix. `asterisk -rx 'http show status'` shows it in a line `/PREFIX/ari/...`. Enter "
        "it in the settings, or set:\nFREEPBX_ARI_PREFIX=PREFIX",
        f"Port {port} belongs to another web server. Set FREEPBX_ARI_PORT to the port that 'http show status' shows.",
    ]
    if prefix:
        wrong = f"The web server’s prefix isn’t {prefix}. Check with `asterisk -rx 'http show status'`."
        causes.insert(0, wrong)
    return causes


def other_ari_prefix(found: str) -> list[str]:
    """Fix for an ARI that was found under the prefix `found` ("" for none) instead of the one that is set."""
    where = f"with the prefix {found.strip('/')}" if found else "without a prefix"
    return [f"ARI answers {where}. Enter that in the settings, or set:\nFREEPBX_ARI_PREFIX={found.strip('/')}"]


def ari_login(user: str) -> list[str]:
    """Fix for a refused ARI login (401): no such user, or a wrong password."""
    return [
        "The password is wrong, or the user doesn't exist. FreePBX: see Settings, Asterisk REST Interface Users. Or "
        f"write in /etc/asterisk/ari_additional_custom.conf (without FreePBX: in ari.conf):\n[{user}]\ntype = user\n"
        "read_only = yes\npassword = (the same as FREEPBX_ARI_PASSWORD)\nand run `asterisk -rx 'module reload "
        "res_ari.so'`."
    ]


def listing_failed() -> list[str]:
    """Fixes for ARI's answer 500 "Allocation failed" to the list of recordings."""
    return [
        "The directory /var/spool/asterisk/recording doesn't exist, or it is a broken link. Make it a link:\n"
        + LINK_COMMANDS,
        "The directory contains a broken link. The first line lists broken links, the second deletes them:\n"
        "find -L /var/spool/asterisk/recording -type l\nfind -L /var/spool/asterisk/recording -type l -delete",
        "A file name isn't UTF-8. This command lists such files; rename them:\n"
        "find -L /var/spool/asterisk/recording | LC_ALL=C.UTF-8 grep -axv '.*'",
    ]


def no_recordings() -> list[str]:
    """Fixes for an ARI that works and lists no recording."""
    return [
        "FreePBX records to /var/spool/asterisk/monitor, but ARI lists /var/spool/asterisk/recording. Make the second "
        f"a link to the first:\n{LINK_COMMANDS}",
        "Nothing has been recorded yet. Check with `ls -R /var/spool/asterisk/monitor | head`. FreePBX records calls "
        "according to the Call Recording settings of extensions, queues and inbound routes.",
    ]


def downloads_refused(folder: str) -> list[str]:
    """Fixes for recordings in a folder ("" for none) that ARI lists but answers with 404."""
    if not folder:
        return ["The recordings were deleted on the PBX a moment ago. Check again."]
    path = f"/var/spool/asterisk/recording/{folder}"
    return [
        f"{path} is, or contains, a link that leads out of `recording`. Asterisk lists such files but doesn't serve "
        f"them. Make `recording` itself the link:\n{LINK_COMMANDS}",
        "If `recording` must keep files of its own, mount the folder instead of linking it:\n"
        f"rm {path} && mkdir {path}\nmount --bind /var/spool/asterisk/monitor {path}",
    ]


def no_sound() -> list[str]:
    """Fixes for the newest recordings being complete but without sound."""
    return [
        "A call is still in progress, or nobody answered the latest calls. Check again after a call of a few seconds.",
        "Asterisk can't write recordings. Look at the newest files and the free disk space:\n"
        "ls -lrt $(find /var/spool/asterisk/monitor -type d | sort | tail -1) | tail\ndf -h /var/spool/asterisk",
    ]
