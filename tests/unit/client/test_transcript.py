"""The text that holds: what a lost attempt said is taken back."""

from goagents.client import Transcript
from goagents.events import RunEvent


def event(event_id: str, kind: str, **data: object) -> RunEvent:
    attempt, _, seq = event_id.partition("-")
    return RunEvent(kind, data, int(attempt), int(seq))


def delta(event_id: str, text: str) -> RunEvent:
    return event(event_id, "message.delta", text=text)


def completed(event_id: str, text: str) -> RunEvent:
    message = {"role": "assistant", "parts": [{"type": "text", "text": text}]}
    return event(event_id, "message.completed", message=message)


def transcript(*events: RunEvent) -> Transcript:
    made = Transcript()
    for each in events:
        assert made.add(each) == ()
    return made


def test_text_is_that_of_the_message_in_progress_or_the_last_one():
    told = transcript(delta("1-1", "Let me "), delta("1-2", "look"))
    assert told.text == "Let me look"
    told.add(completed("1-3", "Let me look."))
    assert told.text == "Let me look."
    told.add(event("1-4", "tool.started", call_id="c"))
    told.add(delta("1-5", "Here"))
    assert (told.text, told.texts) == ("Here", ("Let me look.", "Here"))


def test_an_attempt_takes_back_what_was_lost():
    told = transcript(delta("1-1", "A"), completed("1-2", "A"), delta("1-3", "B"), delta("1-4", "C"))
    lost = told.add(event("2-1", "attempt", resumed_after="1-2"))
    assert [each.id for each in lost] == ["1-3", "1-4"]
    assert told.texts == ("A",)
    told.add(delta("2-2", "D"))
    assert told.texts == ("A", "D")
    assert [each.id for each in told.events] == ["1-1", "1-2", "2-1", "2-2"]


def test_an_attempt_in_the_middle_of_a_message_goes_on_behind_what_holds():
    told = transcript(delta("1-1", "A"), delta("1-2", "B"))
    told.add(event("2-1", "attempt", resumed_after="1-1"))
    told.add(delta("2-2", "C"))
    assert told.text == "AC"


def test_where_nothing_holds_it_begins_anew():
    told = transcript(event("1-1", "run.started"), delta("1-2", "A"))
    lost = told.add(event("2-1", "attempt", resumed_after=None))
    assert [each.id for each in lost] == ["1-1", "1-2"]
    assert told.text == ""
    assert told.texts == ()


def test_attempts_add_up():
    told = transcript(delta("1-1", "A"), delta("1-2", "B"))
    told.add(event("2-1", "attempt", resumed_after="1-1"))
    told.add(delta("2-2", "C"))
    lost = told.add(event("3-1", "attempt", resumed_after="1-1"))
    assert [each.id for each in lost] == ["2-1", "2-2"]
    told.add(delta("3-2", "D"))
    assert told.text == "AD"


def test_a_hand_off_loses_nothing():
    told = transcript(completed("1-1", "A"), event("1-2", "run.handed_off"))
    assert told.add(event("2-1", "attempt", resumed_after="1-2")) == ()


def test_an_event_seen_before_is_left_aside():
    told = transcript(delta("1-1", "A"), delta("1-2", "B"))
    assert told.add(delta("1-1", "A")) == ()
    assert told.text == "AB"


def test_a_message_whose_beginning_was_not_seen_is_whole_in_the_end():
    told = transcript(delta("1-7", "ld"), completed("1-8", "Hello world"))
    assert told.texts == ("Hello world",)
