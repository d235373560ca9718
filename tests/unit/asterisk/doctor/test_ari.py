"""The connection check recognizes each fault of the REST interface and the recordings, and shows the fix."""

import pytest

from pbx.asterisk.doctor import ari
from tests.unit.asterisk.ami.replay_server import raw
from tests.unit.asterisk.ari.replay_server import STORED, captured, never_answer, reply, send_slowly, wav
from tests.unit.asterisk.doctor.working_pbx import ARI_STEPS, NEW, OLD, check_steps, only_failed, working_pbx

# The answer for a path outside /ari, as when ARI is off or has a prefix (captured from Asterisk 16 and 22).
NO_ARI = (
    b"HTTP/1.1 404 Not Found\r\nServer: Asterisk/16.28.0~dfsg-0+deb11u4\r\nCache-Control: no-cache, no-store\r\n"
    b"Content-type: text/html\r\nContent-Length: 28\r\n\r\n<title>404 Not Found</title>"
)


def test_a_web_server_without_ari_lists_the_settings_to_check() -> None:
    with working_pbx() as pbx:
        pbx.ari.answers["/ari/asterisk/info"] = NO_ARI
        found = only_failed(check_steps(pbx.connection()), "ARI answers", ARI_STEPS)
    assert "doesn't offer ARI" in found.finding
    assert [cause.partition(".")[0] for cause in found.fix[:2]] == ["ARI is off", "The web server uses a prefix"]
    assert "FREEPBX_ARI_PREFIX=PREFIX" in found.fix[1]


@pytest.mark.parametrize(
    ("actual_prefix", "configured_prefix"), [("/asterisk", ""), ("", "/asterisk"), ("/asterisk", "/pbx"), ("", "/pbx")]
)
@pytest.mark.parametrize("answer", ["info", "401"])
def test_ari_below_another_prefix_is_found_and_its_prefix_named(
    actual_prefix: str, configured_prefix: str, answer: str
) -> None:
    with working_pbx() as pbx:
        pbx.ari.answers = {f"{prefix}/ari/asterisk/info": NO_ARI for prefix in ("", "/asterisk", "/pbx")}
        pbx.ari.answers[f"{actual_prefix}/ari/asterisk/info"] = captured(answer)
        found = only_failed(check_steps(pbx.connection(ari_prefix=configured_prefix)), "ARI answers", ARI_STEPS)
    assert "doesn't offer ARI" in found.finding
    assert found.fix[0].endswith(f"\nFREEPBX_ARI_PREFIX={actual_prefix.strip('/')}")
    assert len(found.fix) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply("info", b"<html>Log in</html>"), "not with JSON as ARI does"),
        (reply("info", b"[]"), "not with JSON as ARI does"),
        (captured("info").replace(b"200 OK", b"302 Found"), "HTTP status 302"),
        (raw(16, "login"), "doesn't speak HTTP"),
        (reply("list-500", b"").replace(b"500 Internal Server Error", b"503 Service Unavailable"), "503"),
    ],
)
def test_an_answer_that_is_not_aris_is_explained(answer: bytes, words: str) -> None:
    with working_pbx() as pbx:
        pbx.ari.answers["/ari/asterisk/info"] = answer
        found = only_failed(check_steps(pbx.connection()), "ARI answers", ARI_STEPS)
    assert words in found.finding


def test_an_ari_server_that_never_answers_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ari, "ANSWER_S", 0.1)
    with working_pbx() as pbx:
        pbx.ari.faults["/ari/asterisk/info"] = [never_answer] * 20
        found = only_failed(check_steps(pbx.connection()), "ARI answers", ARI_STEPS)
    assert "stopped sending" in found.finding


@pytest.mark.parametrize(("user", "section"), [("notebook", "[notebook]"), ("other", "[other]"), ("", "[notebook]")])
def test_a_refused_ari_login_shows_the_section_to_write(user: str, section: str) -> None:
    with working_pbx() as pbx:
        changes = {"ari_username": user, "ari_password": "wrong"}
        found = only_failed(check_steps(pbx.connection(**changes)), "ARI login", ARI_STEPS)
    assert f"{section}\ntype = user\nread_only = yes\n" in found.fix[0]
    assert "ari_additional_custom.conf" in found.fix[0]
    assert ("No ARI user is set" in found.finding) == (not user)


@pytest.mark.parametrize("version", [16, 22])
def test_a_failed_list_shows_its_causes_in_order(version: int) -> None:
    with working_pbx() as pbx:
        pbx.ari.answers[STORED] = captured("list-500", version)
        found = only_failed(check_steps(pbx.connection()), "Recordings listed", ARI_STEPS)
    assert "ln -sfn monitor recording" in found.fix[0]
    assert "find -L /var/spool/asterisk/recording -type l" in found.fix[1]


def test_a_list_of_invalid_json_fails() -> None:
    with working_pbx() as pbx:
        pbx.ari.answers[STORED] = reply("list", b'[{"name":"2026')
        found = only_failed(check_steps(pbx.connection()), "Recordings listed", ARI_STEPS)
    assert "JSON" in found.finding


@pytest.mark.parametrize("version", [16, 22])
def test_an_empty_list_shows_how_to_link_freepbx_recordings(version: int) -> None:
    with working_pbx() as pbx:
        pbx.ari.answers[STORED] = captured("bare-list", version)
        steps = check_steps(pbx.connection())
    assert steps["Recordings listed"].state == "warning"
    assert "ln -sfn monitor recording" in steps["Recordings listed"].fix[0]
    assert steps["Recording downloads"].state == "skipped"


def test_a_linked_folder_is_found_beside_a_normal_one() -> None:
    with working_pbx() as pbx:
        inside, second = f"monitor/{NEW}", f"monitor/{OLD}"
        pbx.ari.recordings |= {inside: wav(), second: wav()}
        for name in (inside, second):
            pbx.ari.answers[f"{STORED}/{name.replace('/', '%2F').replace('+', '%2B')}/file"] = captured("404-recording")
        found = only_failed(check_steps(pbx.connection()), "Recording downloads", ARI_STEPS)
    assert "in monitor/ but refuses to send them" in found.finding
    assert "/var/spool/asterisk/recording/monitor is, or contains, a link" in found.fix[0]
    assert "mount --bind /var/spool/asterisk/monitor /var/spool/asterisk/recording/monitor" in found.fix[1]


def test_a_recording_deleted_during_the_check_is_skipped() -> None:
    with working_pbx() as pbx:
        pbx.ari.recordings[NEW] = wav()
        pbx.ari.answers[f"{STORED}/{NEW.replace('/', '%2F')}/file"] = captured("404-recording")
        steps = check_steps(pbx.connection())
    assert steps["Recording downloads"].finding.startswith(OLD)


WITHOUT_AUDIO = {
    "empty": (b"", "holds no sound (0 bytes)"),
    "header": (wav(b""), "holds no sound (44 bytes)"),
    "written": (wav(announced=0, riff=0), "still being written"),
    "text": (b"This call may be recorded.\n" * 99, "is named WAV, but its content is not WAV"),
    "cut": (wav(announced=99_999), "cut short"),
}


@pytest.mark.parametrize(("content", "words"), WITHOUT_AUDIO.values(), ids=list(WITHOUT_AUDIO))
def test_a_recording_without_audio_is_a_warning_unless_another_has_audio(content: bytes, words: str) -> None:
    with working_pbx() as pbx:
        pbx.ari.recordings = {NEW: content}
        found = check_steps(pbx.connection())["Recording downloads"]
        assert (found.state, words in found.finding) == ("warning", True), found
        assert found.fix
        pbx.ari.recordings[OLD] = wav()
        after = check_steps(pbx.connection())["Recording downloads"]
        assert after.state == "ok"
        assert after.finding.startswith(OLD)


def test_a_text_file_named_as_a_headerless_format_is_recognized() -> None:
    with working_pbx() as pbx:
        pbx.ari.recordings, pbx.ari.formats = {NEW: b"This call may be recorded.\n" * 99}, {NEW: "ulaw"}
        found = check_steps(pbx.connection())["Recording downloads"]
    assert found.state == "warning"
    assert "it is a text file" in found.finding


def test_the_newest_recording_is_downloaded() -> None:
    with working_pbx() as pbx:
        pbx.ari.recordings = {NEW: wav(), OLD: wav(), "0-odd": wav(), "2026/11/21/zzz": wav()}
        steps = check_steps(pbx.connection())
        assert steps["Recording downloads"].finding.startswith(NEW)
        assert pbx.ari.downloads() == {NEW: 1, "0-odd": 1}  # one of each folder


def test_a_recording_that_asterisk_may_not_read_fails() -> None:
    with working_pbx() as pbx:
        pbx.ari.answers[f"{STORED}/{OLD.replace('/', '%2F')}/file"] = captured("403")
        found = only_failed(check_steps(pbx.connection()), "Recording downloads", ARI_STEPS)
    assert "chown -R asterisk:asterisk" in found.fix[0]


def test_a_slow_download_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ari, "DOWNLOAD_S", 0.3)
    with working_pbx() as pbx:
        pbx.ari.faults[f"{STORED}/{OLD.replace('/', '%2F')}/file"] = [send_slowly] * 20
        found = check_steps(pbx.connection())["Recording downloads"]
    assert found.state == "warning"
    assert "longer than" in found.finding
