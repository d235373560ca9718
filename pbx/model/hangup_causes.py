"""Hang-up causes of ITU-T Q.850, as Asterisk reports them (its causes.h): their names and how calls ended."""

CAUSE_NAMES = {
    1: "Unallocated number",
    2: "No route to transit network",
    3: "No route to destination",
    6: "Channel unacceptable",
    7: "Call awarded in an established channel",
    16: "Normal clearing",
    17: "User busy",
    18: "No user responding",
    19: "No answer from user",
    20: "Subscriber absent",
    21: "Call rejected",
    22: "Number changed",
    23: "Redirected to a new destination",
    25: "Exchange routing error",
    26: "Answered elsewhere",
    27: "Destination out of order",
    28: "Invalid number format",
    29: "Facility rejected",
    31: "Normal, unspecified",
    34: "No circuit available",
    38: "Network out of order",
    41: "Temporary failure",
    42: "Switching equipment congestion",
    43: "Access information discarded",
    44: "Requested circuit not available",
    47: "Resource unavailable, unspecified",
    50: "Facility not subscribed",
    52: "Outgoing calls barred",
    54: "Incoming calls barred",
    57: "Bearer capability not authorised",
    58: "Bearer capability not available",
    65: "Bearer capability not implemented",
    66: "Channel type not implemented",
    69: "Facility not implemented",
    81: "Invalid call reference",
    88: "Incompatible destination",
    95: "Invalid message",
    96: "Mandatory information missing",
    97: "Message type not implemented",
    98: "Wrong message",
    99: "Information element not implemented",
    100: "Invalid information element",
    101: "Wrong call state",
    102: "Recovery on timer expiry",
    103: "Mandatory information of wrong length",
    111: "Protocol error",
    127: "Interworking, unspecified",
}
# The dispositions of unanswered calls by cause; any other cause means NO ANSWER.
CAUSE_DISPOSITIONS = {17: "BUSY", 21: "BUSY", 34: "CONGESTION", 38: "CONGESTION", 42: "CONGESTION"}
# Causes of calls that the network delivered: normal clearing, user busy, no user responding, no answer, call rejected
# (by the called user). ITU-T E.425 counts these for NER.
EFFECTIVE_CAUSES = (16, 17, 18, 19, 21)


def cause_text(cause: int | None) -> str:
    """Format a Q.850 cause, for example "User busy (17)"; "" for None."""
    return "" if cause is None else f"{CAUSE_NAMES.get(cause, 'Cause')} ({cause})"
