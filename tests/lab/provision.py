"""Make the lab's Asterisk roots (Debian's own packages) and the certificates its TLS ports show."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SUITES = {16: "bullseye", 22: "sid"}  # the Debian suites that carry these versions
PACKAGES = "asterisk,asterisk-core-sounds-en-wav"
TOOLS = {"debootstrap": "debootstrap", "baresip": "baresip-core", "openssl": "openssl"}


class LabError(RuntimeError):
    """The lab can't do something. The message has the reason and a fix."""


def lab_dir() -> Path:
    """Where everything of the lab lives: `PBX_LAB_DIR`, or the user's cache."""
    if chosen := os.environ.get("PBX_LAB_DIR"):
        return Path(chosen).absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache).absolute() / "pbx-notebook" / "lab"


def root_dir(version: int) -> Path:
    """The directory that is `/` to this version's Asterisk."""
    return lab_dir() / f"root-{version}"


def is_made(version: int) -> bool:
    """Whether that version's root is whole: a directory there may be what a stopped run or another program left."""
    return (root_dir(version) / "usr/sbin/asterisk").is_file()


def require_made(version: int) -> None:
    """Raise LabError, with what to do, where that version's root isn't whole."""
    if not is_made(version):
        raise LabError(f"This needs the lab's Asterisk {version}: run `make lab-up` first (root on Debian).")


def provision() -> None:
    """Make what is missing: tools, both roots (in parallel, about a minute), certificates."""
    if os.geteuid() != 0:
        raise LabError("The lab needs root, for debootstrap and chroot: run it with sudo.")
    lab_dir().mkdir(parents=True, exist_ok=True)
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for step in (["update", "-q"], ["install", "-qy", "--no-install-recommends", *missing]):
            run_logged(["apt-get", *step], "apt", environment)
    with ThreadPoolExecutor() as pool:
        list(pool.map(make_root, SUITES))
    make_certificates()


def make_root(version: int) -> None:
    """Debootstrap one root beside its final name; a half-made one is made again."""
    if is_made(version):
        return
    root = root_dir(version)
    part = root.with_suffix(".part")
    remove_root(root)
    remove_root(part)
    print(f"making Asterisk {version}'s root with debootstrap ...", flush=True)
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITES[version], str(part)]
    run_logged(command, f"debootstrap-{version}")
    shutil.rmtree(part / "var/cache/apt", ignore_errors=True)
    part.rename(root)


def remove_root(root: Path) -> None:
    """Remove a root, after unmounting what a killed debootstrap left mounted in it."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if Path(m).is_relative_to(root)), reverse=True):
        subprocess.run(["umount", mount], check=True)
    if root.exists():
        shutil.rmtree(root)


def run_logged(command: list[str], name: str, environment: dict[str, str] | None = None) -> None:
    """Run a command, its output into the lab's `NAME.log`; raise LabError with the log's tail if it fails."""
    log = lab_dir() / f"{name}.log"
    with log.open("wb") as output:
        done = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
        )
    if done.returncode:
        raise LabError(f"{' '.join(command)} failed ({done.returncode}); the end of {log}:\n{tail(log)}")


def tail(path: Path, lines: int = 40) -> str:
    """The last lines of a text file, empty if there is none."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""


def make_certificates() -> None:
    """An authority of the lab's own (`ca.pem`) and the certificate of localhost and 127.0.0.1 signed by it."""
    base = lab_dir()
    if (base / "server.pem").exists():
        return
    days = ["-days", "3650"]
    new_key = ["-newkey", "rsa:2048", "-nodes"]
    ca = ["-x509", "-subj", "/CN=PBX Notebook lab authority", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    run_logged(
        ["openssl", "req", *ca, *new_key, *days, "-keyout", f"{base}/ca.key", "-out", f"{base}/ca.pem"], "openssl"
    )
    request = ["-subj", "/CN=localhost", "-keyout", f"{base}/server.key", "-out", f"{base}/server.csr"]
    run_logged(["openssl", "req", "-new", *new_key, *request], "openssl")
    extensions = base / "server.ext"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    sign = ["-CA", f"{base}/ca.pem", "-CAkey", f"{base}/ca.key", "-CAcreateserial", "-extfile", str(extensions)]
    certificate = ["-in", f"{base}/server.csr", "-out", f"{base}/server.crt"]
    run_logged(["openssl", "x509", "-req", *certificate, *sign, *days], "openssl")
    part = base / "server.pem.part"
    part.write_text((base / "server.key").read_text() + (base / "server.crt").read_text())
    part.rename(base / "server.pem")
