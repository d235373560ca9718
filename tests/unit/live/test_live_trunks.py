"""Which live calls go through a trunk, where AMI lists none."""

from pbx.model.call_from_legs import fold_legs
from tests.unit.live.live_events import Pbx


def test_trunks_that_ami_does_not_list_are_known_by_freepbx_s_contexts() -> None:
    pbx = Pbx()
    phone = {"Channel": "PJSIP/1001-2", "Uniqueid": "2.1", "Linkedid": "2.1"}
    pbx.tell("Newchannel", **phone, Exten="95550101", Context="from-internal", CallerIDNum="1001")
    to = {"DestChannel": "DAHDI/i1/5550101-1a", "DestUniqueid": "2.2"}
    pbx.tell("DialBegin", **phone, **to, Exten="s", Context="macro-dialout-trunk", CallerIDNum="5550000")
    line = {"Channel": "Dongle/dongle0-01", "Uniqueid": "3.1", "Linkedid": "3.1"}
    pbx.tell("Newchannel", **line, Exten="5550000", Context="from-trunk-dongle", CallerIDNum="5550200")
    to = {"DestChannel": "PJSIP/1001-3", "DestUniqueid": "3.2"}
    pbx.tell("DialBegin", **line, **to, Exten="s", Context="macro-dial-one")
    pbx.facts()
    out, came = (fold_legs([leg]) for leg in pbx.legs.values())
    assert (out.direction, out.from_number, out.to_number, out.agent) == ("outbound", "1001", "95550101", "1001")
    assert [leg.outbound_number for leg in pbx.legs.values()] == ["5550000", ""]
    assert (came.direction, came.did, came.from_number) == ("inbound", "5550000", "5550200")
    assert [leg.trunk for leg in pbx.legs.values()] == ["i1", "dongle0"]
