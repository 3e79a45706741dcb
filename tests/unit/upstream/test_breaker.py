"""Whose breaker is whose, however many models are asked for?"""

from gateway.upstream.breaker import LISTS, MAX_MODELS, WINDOW_CALLS, Breakers


def failing(breakers: Breakers, model: str) -> None:
    """Open a model's breaker."""
    for _ in range(WINDOW_CALLS):
        breakers.of(model).record(failed=True)


def test_every_model_has_its_own() -> None:
    """U19: the 1 025th model shares its breaker with nobody, and lists have their own."""
    breakers = Breakers()
    for number in range(MAX_MODELS + 200):
        breakers.of(f"model-{number}")
    failing(breakers, "one-more")
    assert ["one-more"] == breakers.open()
    assert not breakers.of(LISTS).is_open
    assert not breakers.of("another").is_open


def test_invented_names_do_not_stay() -> None:
    """M1: the map is bounded, and who is asked for often keeps its breaker while names that came once go."""
    breakers = Breakers()
    used = breakers.of("used")
    for number in range(5 * MAX_MODELS):
        breakers.of(f"invented-{number}")
        assert used is breakers.of("used")
    assert MAX_MODELS == len(breakers._by_model)


def test_an_open_breaker_is_not_forgotten() -> None:
    """U9, U19: invented names cannot make the gateway forget that a model fails."""
    breakers = Breakers()
    failing(breakers, "failing")
    for number in range(5 * MAX_MODELS):
        breakers.of(f"invented-{number}")
    assert ["failing"] == breakers.open()


def test_when_all_are_open_nothing_more_is_kept() -> None:
    """M1: also then the map is bounded."""
    breakers = Breakers()
    for number in range(MAX_MODELS):
        failing(breakers, f"model-{number}")
    breakers.of("newcomer")
    assert MAX_MODELS >= len(breakers._by_model)
