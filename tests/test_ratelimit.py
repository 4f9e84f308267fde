"""What fleet-wide budgets rely on in Envoy's rate-limit service, without a gateway: if a new version differs, this says so."""

from pathlib import Path
from typing import Iterator

import pytest

from ratelimit import OK, OVER_LIMIT, Engine, ask

MOST = 2**32 - 1
HOUR = 3


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(tmp_path_factory.mktemp("engine")) as engine:
        yield engine


def counted(engine: Engine, *hits: tuple[str, str, int]) -> list[int]:
    """What each counter has counted, by what the service says is left."""
    status, answers = ask(engine.port, list(hits))
    assert status == 0 and all(answer["code"] == OK for answer in answers), answers
    return [MOST - answer["remaining"] for answer in answers]


def test_the_configuration_is_for_every_value_and_says_which_limit_holds(engine: Engine) -> None:
    status, [answer] = ask(engine.port, [("hour", "limit", 1)])
    assert (status, answer["code"], answer["limit"]) == (0, OK, (MOST, HOUR))
    assert 0 < answer["reset"] <= 3600


def test_a_look_counts_nothing_and_an_ask_learns_what_is_counted(engine: Engine) -> None:
    asks = [("hour", "look", hits) for hits in (0, 7, 0, 3)]
    assert counted(engine, *asks) == [0, 7, 7, 10], "several of one request, in order"


def test_a_refusal_is_counted_and_does_not_tell_how_much_is(engine: Engine) -> None:
    """Which is why the limit in its configuration is as high as can be."""
    assert counted(engine, ("hour", "much", MOST)) == [MOST]
    status, [answer] = ask(engine.port, [("hour", "much", 5)])
    assert (status, answer["code"], answer["remaining"]) == (0, OVER_LIMIT, 0)
    assert MOST + 5 in engine.counters().values()


def test_an_unknown_unit_or_domain_says_nothing(engine: Engine) -> None:
    nothing = (0, [{"code": OK, "limit": (None, None), "remaining": 0, "reset": None}])
    assert ask(engine.port, [("century", "a", 1)]) == nothing
    assert ask(engine.port, [("hour", "a", 1)], "other") == nothing


def test_redis_and_the_service_die_and_come_back(tmp_path: Path) -> None:
    """What was counted is there again; meanwhile there is an error, and at once."""
    with Engine(tmp_path) as engine:
        assert counted(engine, ("day", "kept", 6)) == [6]
        engine.kill_redis()
        assert ask(engine.port, [("day", "kept", 1)]) == (2, [])
        engine.start_redis()
        engine.kill_service()
        engine.start_service()
        assert counted(engine, ("day", "kept", 0)) == [6]
