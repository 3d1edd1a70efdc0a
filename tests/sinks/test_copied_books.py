"""What becomes of accounts that are copied: they go along, or stay where they would say something wrong."""

from __future__ import annotations

from dataclasses import replace

from eventstorm_sinks.batch import Book, Source
from eventstorm_sinks.copied_books import CopiedBooks
from eventstorm_sinks.ledger import REMAINDER_TID, remainder_key

SOURCE = Source(bytes(12), "host", "shop", 1)
BOOK = Book("shop.order", SOURCE, 0, 10, 30, 2, stored=15, lost_source=2, lost_way=3, last_at_ms=5)
SUM = Book("shop.order", Source(remainder_key("shop.order").source_id, "", "", 0), REMAINDER_TID, 0, 100, 0, stored=100)


def copied(source: list[Book], target: list[Book]) -> tuple[list[Book], int]:
    """Return the target's books when all is done, and how many stayed as they were."""
    books = CopiedBooks(source, target)
    first = books.sums()
    books.wrote(first)
    rest, left = books.rest()
    return list({book.key: book for book in (*target, *first, *rest)}.values()), left


def test_an_account_goes_along_with_its_losses() -> None:
    assert copied([BOOK], []) == ([BOOK], 0)


def test_copying_again_changes_nothing() -> None:
    assert copied([BOOK, SUM], [BOOK, SUM]) == ([BOOK, SUM], 0)


def test_an_account_that_went_on_replaces_what_it_was() -> None:
    later = replace(BOOK, next_seq=40, stored=25, closed=True)

    assert copied([later], [BOOK]) == ([later], 0)
    assert copied([BOOK], [later]) == ([later], 0)


def test_an_account_that_ended_before_the_targets_own_began_is_put_before_it() -> None:
    own = replace(BOOK, first_seq=32, next_seq=50, stored=18, lost_source=0, lost_way=0)
    whole, left = copied([BOOK], [own])

    assert whole == [replace(BOOK, next_seq=50, stored=33, lost_way=5)]
    assert left == 0
    assert copied([BOOK], whole) == (whole, 0)
    assert copied([own], [BOOK]) == (whole, 0)


def test_accounts_that_overlap_stay_as_they_are() -> None:
    own = replace(BOOK, first_seq=20, next_seq=50, stored=30, lost_source=0, lost_way=0)

    assert copied([BOOK], [own]) == ([own], 1)


def test_sums_of_forgotten_streams_are_copied_only_where_nothing_of_their_topic_is() -> None:
    own = replace(SUM, next_seq=7, stored=7)

    assert copied([SUM, BOOK], []) == ([SUM, BOOK], 0)
    assert copied([SUM], [own]) == ([own], 1)
    assert copied([SUM], [BOOK]) == ([BOOK], 1)


def test_a_stream_that_may_be_in_a_sum_of_the_target_is_not_counted_twice() -> None:
    own = replace(SUM, next_seq=7, stored=7)

    assert copied([BOOK], [own]) == ([own], 1)


def test_a_stream_whose_first_event_is_new_to_the_target_is_in_no_sum_of_it() -> None:
    own = replace(SUM, next_seq=7, stored=7)
    books = CopiedBooks([BOOK], [own])

    assert books.beginning([BOOK.key]) == [BOOK]
    books.wrote([BOOK])
    assert books.beginning([BOOK.key]) == []
    assert books.rest() == ([], 0)


def test_what_the_target_refused_is_not_stored_there() -> None:
    books = CopiedBooks([BOOK], [])
    books.wrote(books.beginning([BOOK.key]))
    books.refused(BOOK.key)
    adjusted = replace(BOOK, stored=14, refused=1)

    assert books.rest() == ([adjusted], 0)

    again = CopiedBooks([BOOK], [adjusted])
    assert again.beginning([BOOK.key]) == []
    again.refused(BOOK.key)
    assert again.rest() == ([], 0)
