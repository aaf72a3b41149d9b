"""What is known of people's totals: enough to let writes through, never enough to refuse one."""

from uuid import uuid4

from services.messages.quota import KnownTotals

MIB = 1 << 20
ANN, BEN, CORA = uuid4(), uuid4(), uuid4()


def test_what_was_read_is_known_with_all_that_was_added_since() -> None:
    totals = KnownTotals(100 * MIB)
    assert not totals.has_room(ANN, 1, now=0)
    totals.learn(ANN, 90 * MIB, now=0)
    assert totals.has_room(ANN, 10 * MIB, now=0)
    totals.add(ANN, 6 * MIB)
    assert totals.has_room(ANN, 4 * MIB, now=0)
    assert not totals.has_room(ANN, 4 * MIB + 1, now=0)
    totals.learn(ANN, 10 * MIB, now=0)
    assert totals.has_room(ANN, 90 * MIB, now=0)


def test_it_is_known_for_as_long_as_others_would_need_to_fill_the_room_and_a_minute_at_most() -> (
    None
):
    totals = KnownTotals(1_600 * MIB)
    totals.learn(ANN, 1_440 * MIB, now=5)
    assert totals.has_room(ANN, 1, now=14.9)
    assert not totals.has_room(ANN, 1, now=15)
    totals.learn(BEN, 0, now=5)
    assert totals.has_room(BEN, 1, now=64.9)
    assert not totals.has_room(BEN, 1, now=65)
    totals.learn(CORA, 2_000 * MIB, now=5)
    assert not totals.has_room(CORA, 0, now=5)


def test_it_is_known_of_so_many_people_and_forgotten_of_those_who_were_read_longest_ago() -> None:
    totals = KnownTotals(MIB, people=2)
    for person in (ANN, BEN, ANN, CORA):
        totals.learn(person, 0, now=0)
    known = [totals.has_room(person, 1, now=0) for person in (ANN, BEN, CORA)]
    assert known == [True, False, True]
    totals.add(BEN, 1)
    assert not totals.has_room(BEN, 1, now=0)
