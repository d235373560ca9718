"""Builds the root file systems of the lab's Asterisks from Debian's packages, and the TLS certificates."""

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
    """The folder of the lab's files: `PBX_LAB_DIR`, or one in the user's cache."""
    if chosen := os.environ.get("PBX_LAB_DIR"):
        return Path(chosen).absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache).absolute() / "pbx-notebook" / "lab"


def root_dir(version: int) -> Path:
    """The root file system of this version's Asterisk."""
    return lab_dir() / f"root-{version}"


def is_made(version: int) -> bool:
    """Whether that version's root is complete. A folder alone may be left from an interrupted run."""
    return (root_dir(version) / "usr/sbin/asterisk").is_file()


def require_made(version: int) -> None:
    """Raise LabError, with a fix, unless that version's root is complete."""
    if not is_made(version):
        raise LabError(f"This needs the lab's Asterisk {version}: run `make lab-up` first (root on Debian).")


def provision() -> None:
    """Install the tools, and build both roots (in parallel, about a minute) and the certificates, if missing."""
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
    """Build one root with debootstrap, and rename it when it is complete. An incomplete one is built again."""
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
    """Delete a root, after unmounting what a killed debootstrap left mounted in it."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if Path(m).is_relative_to(root)), reverse=True):
        subprocess.run(["umount", mount], check=True)
    if root.exists():
        shutil.rmtree(root)


def run_logged(command: list[str], name: str, environment: dict[str, str] | None = None) -> None:
    """Run a command with its output in the lab's `NAME.log`. Raises LabError with the log's end if it fails."""
    log = lab_dir() / f"{name}.log"
    with log.open("wb") as output:
        done = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
        )
    if done.returncode:
        raise LabError(f"{' '.join(command)} failed ({done.returncode}); the end of {log}:\n{tail(log)}")


def tail(path: Path, lines: int = 40) -> str:
    """The last lines of a text file, or an empty text if it doesn't exist."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""


def make_certificates() -> None:
    """Create the lab's certificate authority (`ca.pem`), and a certificate for localhost and 127.0.0.1."""
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
