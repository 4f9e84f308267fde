"""What fleet-wide budgets rely on in Envoy's rate-limit service, without a gateway: if a new version differs, this says so."""

from pathlib import Path
from typing import Iterator

import pytest

from ratelimit import DAY, HOUR, OK, OVER_LIMIT, Engine, Hits, ask

MOST = 2**32 - 1


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(tmp_path_factory.mktemp("engine")) as engine:
        yield engine


def left(engine: Engine, *descriptors: Hits) -> list[int]:
    status, answers = ask(engine.port, list(descriptors))
    assert status == 0
    return [MOST - answer["remaining"] for answer in answers]


def test_a_limit_comes_with_the_request(engine: Engine) -> None:
    """And refused hits are counted all the same."""
    name = {"budget": "limit"}
    seen = [ask(engine.port, [Hits(name, 4, (10, HOUR))])[1][0] for _ in range(3)]
    assert [(one["code"], one["limit"], one["remaining"]) for one in seen] == [(OK, (10, HOUR), 6), (OK, (10, HOUR), 2), (OVER_LIMIT, (10, HOUR), 0)]
    assert left(engine, Hits(name, 0, (MOST, HOUR))) == [12], "another limit, the same counter"


def test_a_look_counts_nothing_and_an_ask_learns_what_is_counted(engine: Engine) -> None:
    name = {"budget": "look"}
    asks = [Hits(name, hits, (MOST, HOUR)) for hits in (0, 7, 0, 3)]
    assert left(engine, *asks) == [0, 7, 7, 10], "several of one request, in order"


def test_hits_are_given_back_as_twos_complement(engine: Engine) -> None:
    name = {"budget": "back"}
    assert left(engine, Hits(name, 20, (MOST, DAY)), Hits(name, 2**64 - 5, (MOST, DAY)), Hits(name, 0, (MOST, DAY))) == [20, 15, 15]


def test_an_unknown_domain_says_nothing(engine: Engine) -> None:
    assert ask(engine.port, [Hits({"a": "b"}, 1, (10, HOUR))], "other") == (0, [{"code": OK, "limit": (None, None), "remaining": 0, "reset": None}])


def test_redis_and_the_service_die_and_come_back(tmp_path: Path) -> None:
    """What was counted is there again; meanwhile there is an error, and at once."""
    with Engine(tmp_path) as engine:
        assert left(engine, Hits({"a": "b"}, 6, (MOST, HOUR))) == [6]
        engine.kill_redis()
        assert ask(engine.port, [Hits({"a": "b"}, 1, (MOST, HOUR))]) == (2, [])
        engine.start_redis()
        engine.kill_service()
        engine.start_service()
        assert left(engine, Hits({"a": "b"}, 0, (MOST, HOUR))) == [6]
