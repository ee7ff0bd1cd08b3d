"""What is in the way between a device and its server, and messages that are not as docs/protocol.md says."""

from __future__ import annotations

from syncline.error_catalogue.shape import CloseCode, Entry, Section


def _way(code: str, meaning: str, remedy: str, *, http: tuple[int, ...] = ()) -> Entry:
    return Entry(code, meaning, remedy, again=True, http=http)


def _message(code: str, meaning: str, remedy: str, *, http: tuple[int, ...] = (400,)) -> Entry:
    return Entry(code, meaning, remedy, http=http)


_CLIENT = "Mend the client; a released one: update the older of the two sides."

NETWORK: tuple[Section, ...] = (
    Section(
        "The way to the server",
        "the app, in `status.reason`; the device tries again by itself",
        (
            _way("unreachable", "No connection, or it was closed.", "Is the device online, and the address right?"),
            _way("name_unknown", "The server's name leads nowhere.", "Is the device online, and the name right?"),
            _way("connection_refused", "Nobody listens there.", "Does the server run, and is the port right?"),
            _way(
                "timed_out",
                "Nothing comes back; or nothing more of a request came.",
                "The network is slow, or something swallows what is sent.",
                http=(503,),
            ),
            _way("tls", "The certificate is not to be trusted.", "Look at it, and at the device's clock."),
            _way("captive_portal", "Something answered in the server's place.", "Sign in to the network."),
            _way("not_syncline", "Another program answers at this address.", "Is the address right, with its path?"),
            _way("cut_short", "A download broke off.", "Nothing: it resumes."),
            _way("silent", "The live connection fell silent.", "Nothing: another one is opened."),
            _way("live_blocked", "WebSockets do not get through.", "Nothing: long polls stand in."),
            _way("catch_up", "What is new does not come by the stream.", "Nothing: it is downloaded."),
            _way("buckets_needed", "The server wants the list of buckets.", "Nothing: it is sent."),
            _way("gap", "The server lost what the device knows as sent.", "Nothing: it is offered again."),
            _way("stopped", "The sync agent was stopped.", "Start it again."),
            _way("sync_timeout", "`sync()` ran out of time; `.report` says how far it came.", "Give it more time."),
        ),
    ),
    Section(
        "Messages",
        "who writes a client; an app meets them where versions do not fit",
        (
            _message("protocol", "A message is not as docs/protocol.md says.", _CLIENT, http=()),
            _message("protocol_version", "The two sides speak different versions.", "Update the older of the two."),
            _message("bad_json", "A message is not a JSON object.", _CLIENT),
            _message("bad_frame", "A frame is damaged, or of an unknown kind.", _CLIENT),
            _message("bad_field", "A field is missing or of another type.", _CLIENT),
            _message("bad_value", "A value is not one that the protocol can carry.", _CLIENT),
            _message("repeated_id", "Two mutations have the same id.", "Draw 16 random bytes for each."),
            _message("limit", "Something is larger, deeper or more than allowed.", "Send less at once.", http=(413,)),
            _message("not_found", "There is nothing at this path.", "Is the address right?", http=(404,)),
            _message("method_not_allowed", "This method is not taken here.", "Use POST.", http=(405,)),
            _message("request_refused", "The request was refused before it was read.", _CLIENT),
            _message("bad_order", "A frame came where it cannot stand.", _CLIENT, http=()),
            _message("layout", "Rows have other columns than the program.", "Nothing: hello fetches it.", http=()),
            _message("no_program", "The server sent no program to a new file.", _CLIENT, http=()),
            _message(
                "bad_program",
                "The program is damaged, or does not fit the file.",
                "Try again; then look at what is in between.",
                http=(),
            ),
            _message("program_version", "The program is of another version.", "Update the older side.", http=()),
            _message("program_refused", "The program wants what none may.", "Do not trust this server.", http=()),
        ),
    ),
)

CLOSE_CODES: tuple[CloseCode, ...] = (
    CloseCode(1000, "The stream ended in good order.", "opens another one"),
    CloseCode(1013, "The server has too much to do (`overloaded`, `too_many_requests`).", "waits, then opens it"),
    CloseCode(4400, "The device spoke out of turn.", "says hello"),
    CloseCode(4401, "The token ran out, or is not taken.", "asks for a new token, then opens it"),
    CloseCode(4408, "The device was silent.", "opens another one"),
    CloseCode(4409, "The server needs the list of buckets (`buckets_needed`).", "downloads, with the list"),
    CloseCode(4410, "A newer stream of the same device took its place.", "opens another one"),
    CloseCode(4412, "What is new comes by a download (`catch_up`).", "downloads, then opens it"),
    CloseCode(4500, "The server met a fault.", "waits, then opens it"),
    CloseCode(4503, "The service is not ready.", "waits, then opens it"),
)
