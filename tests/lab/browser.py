"""Browser helpers for lab tests: those of tests/browser, and one that enters a lab PBX on the settings page."""

from playwright.sync_api import Page

from tests.browser.app import running_app as running_app
from tests.browser.chromium import CHROMIUM as CHROMIUM
from tests.browser.chromium import browser as browser
from tests.browser.chromium import go as go
from tests.lab.servers import LabServer
from tests.paths import ROOT as ROOT


def enter_pbx(page: Page, server: LabServer) -> None:
    """Enter a lab server's address and users on the settings page."""
    for name, port, user, secret in (
        ("AMI", server.ami_port, server.ami_username, server.ami_secret),
        ("ARI", server.http_port, server.ari_username, server.ari_secret),
    ):
        page.get_by_label(f"{name} user").fill(user)
        page.get_by_label(f"{name} password", exact=True).fill(secret)
        page.get_by_label(f"{name} port").fill(str(port))
    page.get_by_label("Host name or address").fill(server.host)
