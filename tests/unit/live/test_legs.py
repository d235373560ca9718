"""Live calls through trunks that AMI doesn't list get their trunk from FreePBX's contexts."""

from pbx.model.call_from_legs import fold_legs
from tests.unit.live.event_feed import EventFeed


def test_freepbx_contexts_identify_trunks_that_ami_does_not_list() -> None:
    pbx = EventFeed()
    phone = {"Channel": "PJSIP/1001-2", "Uniqueid": "2.1", "Linkedid": "2.1"}
    pbx.send("Newchannel", **phone, Exten="95550101", Context="from-internal", CallerIDNum="1001")
    to = {"DestChannel": "DAHDI/i1/5550101-1a", "DestUniqueid": "2.2"}
    pbx.send("DialBegin", **phone, **to, Exten="s", Context="macro-dialout-trunk", CallerIDNum="5550000")
    line = {"Channel": "Dongle/dongle0-01", "Uniqueid": "3.1", "Linkedid": "3.1"}
    pbx.send("Newchannel", **line, Exten="5550000", Context="from-trunk-dongle", CallerIDNum="5550200")
    to = {"DestChannel": "PJSIP/1001-3", "DestUniqueid": "3.2"}
    pbx.send("DialBegin", **line, **to, Exten="s", Context="macro-dial-one")
    pbx.updates()
    outgoing, incoming = (fold_legs([leg]) for leg in pbx.legs.values())
    assert (outgoing.direction, outgoing.from_number, outgoing.to_number, outgoing.agent) == (
        "outbound",
        "1001",
        "95550101",
        "1001",
    )
    assert [leg.outbound_number for leg in pbx.legs.values()] == ["5550000", ""]
    assert (incoming.direction, incoming.did, incoming.from_number) == ("inbound", "5550000", "5550200")
    assert [leg.trunk for leg in pbx.legs.values()] == ["i1", "dongle0"]
