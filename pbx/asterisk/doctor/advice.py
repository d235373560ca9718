"""The lines that fix a PBX. FreePBX writes most of Asterisk's files anew, so its own page or a *_custom.conf is named.

In a custom file `[general]` must be `[general](+)`: Asterisk ignores a second section of that name (seen on 16 and 22).
"""

import ipaddress

LINK = """\
cd /var/spool/asterisk
[ -d recording ] && [ ! -L recording ] && mv recording recording.before
ln -sfn monitor recording
chown -h asterisk:asterisk recording"""


def mask(source: str) -> str:
    """The netmask of one address, as Asterisk's permit= wants it."""
    return "255.255.255.255" if ipaddress.ip_address(source).version == 4 else "128"


def refused(what: str, port: int, source: str) -> list[str]:
    """Nothing listens on that port."""
    local = source in ("127.0.0.1", "::1")
    bind = "127.0.0.1" if local else "0.0.0.0"  # noqa: S104 - advice; the permit= lines keep others out
    if what == "AMI":
        return [
            "AMI is off, or listens on 127.0.0.1 only. See `asterisk -rx 'manager show settings'`, then write in "
            f"/etc/asterisk/manager_custom.conf:\n[general](+)\nenabled = yes\nbindaddr = {bind}\nport = {port}\n"
            "and run `asterisk -rx 'manager reload'`.",
            "AMI listens on another port: set FREEPBX_AMI_PORT to what 'manager show settings' shows.",
            "Asterisk isn't running: `asterisk -rx 'core show uptime'`, and `fwconsole start` on FreePBX.",
        ]
    return [
        "Asterisk's web server is off (so it is on a new FreePBX), or listens on 127.0.0.1 only. See `asterisk -rx "
        "'http show status'`. FreePBX: Settings, Advanced Settings, Asterisk Builtin mini-HTTP server: enable it, set "
        f"HTTP Bind Address {bind} and HTTP Bind Port {port}, then Submit and Apply Config. Without FreePBX, in "
        f"/etc/asterisk/http.conf:\n[general]\nenabled = yes\nbindaddr = {bind}\nbindport = {port}\n"
        "and run `asterisk -rx 'module reload http'`.",
        "It listens on another port: set FREEPBX_ARI_PORT to what 'http show status' shows.",
        "Asterisk isn't running: `asterisk -rx 'core show uptime'`, and `fwconsole start` on FreePBX.",
    ]


def firewall(what: str, port: int, source: str) -> list[str]:
    """The packets are dropped."""
    own = source or "this machine"
    return [
        f"A firewall keeps {own} out. FreePBX: Connectivity, Firewall, Networks: add {own} as a trusted network; or on "
        f"the PBX:\niptables -I INPUT -p tcp -s {source or 'ADDRESS'} --dport {port} -j ACCEPT",
        f"{own} was banned after wrong passwords. FreePBX: Connectivity, Firewall, Intrusion Detection: remove it.",
        f"FREEPBX_HOST is another machine's address, or FREEPBX_{what}_PORT is wrong.",
    ]


def ami_login(user: str, source: str) -> list[str]:
    """Unknown user, wrong secret and a refusal by address are the same on the wire: all three in one section."""
    return [
        "The secret is another one, or there is no such user. FreePBX: Settings, Asterisk Manager Users; or the "
        f"section in /etc/asterisk/manager_custom.conf:\n[{user}]\nsecret = (the same as FREEPBX_AMI_PASSWORD)\n"
        f"deny = 0.0.0.0/0.0.0.0\npermit = {source}/{mask(source)}\n"
        "read = system,call,agent,reporting,cdr\nwrite = system,reporting\nthen `asterisk -rx 'manager reload'`.",
        f"This machine's address {source} isn't permitted (FreePBX permits 127.0.0.1 only, unless told otherwise). Add "
        f"to that user:\npermit = {source}/{mask(source)}",
        "If a router or a VPN rewrites addresses, the PBX sees another one than that: `asterisk -rx 'manager show "
        "connected'` and /var/log/asterisk/full tell which.",
    ]


def ami_rights(user: str, lacking: str) -> list[str]:
    """The user lacks an AMI class."""
    return [
        f"Give the user the write right {lacking}; writing is what AMI calls asking. FreePBX: "
        f"Settings, Asterisk Manager Users, {user}, Rights; or in /etc/asterisk/manager_custom.conf:\n[{user}]\n"
        "read = system,call,agent,reporting,cdr\nwrite = system,reporting\nthen `asterisk -rx 'manager reload'`."
    ]


def no_ari(port: int, prefix: str) -> list[str]:
    """A web server answers, without ARI where it was expected."""
    causes = [
        "ARI is off. FreePBX: Settings, Advanced Settings, Asterisk REST Interface: enable it, then Submit and Apply "
        "Config; or in /etc/asterisk/ari_general_custom.conf (ari.conf without FreePBX, under [general]):\n"
        "enabled = yes\nthen `asterisk -rx 'module reload res_ari.so'`.",
        "The web server has a prefix. `asterisk -rx 'http show status'` shows it in a line `/PREFIX/ari/...`. Enter it "
        "in the settings, or set:\nFREEPBX_ARI_PREFIX=PREFIX",
        f"Port {port} is another web server's: set FREEPBX_ARI_PORT to the one that 'http show status' names.",
    ]
    if prefix:
        wrong = f"The web server’s prefix isn’t {prefix}: see `asterisk -rx 'http show status'`."
        causes.insert(0, wrong)
    return causes


def ari_prefix(found: str) -> list[str]:
    """ARI is there, below another prefix than the one set."""
    where = f"the prefix {found.strip('/')}" if found else "no prefix"
    return [f"ARI answers under {where}. Enter that in the settings, or set:\nFREEPBX_ARI_PREFIX={found.strip('/')}"]


def ari_login(user: str) -> list[str]:
    """401: no such user, or a wrong password."""
    return [
        "The password is another one, or there is no such user. FreePBX: Settings, Asterisk REST Interface Users; or "
        f"in /etc/asterisk/ari_additional_custom.conf (ari.conf without FreePBX):\n[{user}]\ntype = user\n"
        "read_only = yes\npassword = (the same as FREEPBX_ARI_PASSWORD)\nthen `asterisk -rx 'module reload "
        "res_ari.so'`."
    ]


def unlistable() -> list[str]:
    """500 Allocation failed."""
    return [
        f"There is no directory /var/spool/asterisk/recording, or it is a broken link. Make it a link:\n{LINK}",
        "A link below it is broken. The first line shows such links, the second removes them:\n"
        "find -L /var/spool/asterisk/recording -type l\nfind -L /var/spool/asterisk/recording -type l -delete",
        "A file's name isn't UTF-8. This shows it; rename it:\n"
        "find -L /var/spool/asterisk/recording | LC_ALL=C.UTF-8 grep -axv '.*'",
    ]


def nothing_listed() -> list[str]:
    """ARI works and knows no recording."""
    return [
        "FreePBX records to /var/spool/asterisk/monitor, ARI lists /var/spool/asterisk/recording. Make the second a "
        f"link to the first:\n{LINK}",
        "Nothing has been recorded yet: `ls -R /var/spool/asterisk/monitor | head` shows whether. FreePBX records what "
        "the Call Recording settings of extensions, queues and inbound routes ask for.",
    ]


def unfetchable(folder: str) -> list[str]:
    """Listed, and then 404 for each file."""
    if not folder:
        return ["They were deleted on the PBX in this moment: check again."]
    path = f"/var/spool/asterisk/recording/{folder}"
    return [
        f"{path} is a link that leads out of `recording`, or holds one: Asterisk lists what is there and hands nothing "
        f"out. Make `recording` itself the link:\n{LINK}",
        "If `recording` must keep files of its own, mount instead of linking:\n"
        f"rm {path} && mkdir {path}\nmount --bind /var/spool/asterisk/monitor {path}",
    ]


def nothing_heard() -> list[str]:
    """The newest recordings came whole, without sound in them."""
    return [
        "A call goes on, or nobody answered the last ones: check again after a call of some seconds.",
        "Asterisk can't write them: look at the newest files and at the space left.\n"
        "ls -lrt $(find /var/spool/asterisk/monitor -type d | sort | tail -1) | tail\ndf -h /var/spool/asterisk",
    ]
