"""What each request may have been charged with, by what its client and its providers saw: nothing of it is asked of the gateway.

Most amounts are exact. A range is left to who hung up (how much had the filter read, and of a whole answer, for how long had
it been made?), and to a request whose VM died after its provider had said all (had it been charged?).
"""

from dataclasses import dataclass, field

from . import plan
from .clients import Seen
from .origin import Attempt
from .plan import DEAREST, MOST, PRICES, PROVIDERS, ROUTES, Budget, Plan

# Seconds after an exchange's deadline at which its reservation lapses (AFTERMATH, filter/gateway/src/admission/budgets.rs), and
# what clocks differ by.
AFTERMATH, SLACK = 30.0, 1.0
# Seconds after its end in which an exchange that nobody answered is surely settled: a second (LATER, filter/plugin/src/desk.rs),
# and what a busy machine adds.
SETTLES = 10.0
# A VM that dies within that second takes with it what was to be settled; likewise.
LATER = 4.0
# Clocks of whole milliseconds.
MILLI = 0.001
# Units as headers name them, where that is not as the configuration does.
UNITS = {"inputTokens": "input-tokens", "outputTokens": "output-tokens"}
FAILS = ("503", "reset", "cut", "stall")
DEAR = ROUTES["dear"][0][1]
# The row's number of the provider whose tokens are only estimated.
ESTIMATED = plan.ROWS.index("anthropic")


@dataclass
class Evidence:
    """One request, with its attempts in the order in which providers got them."""

    seen: Seen
    attempts: list[Attempt]
    # When the VMs died that may have had it.
    deaths: list[tuple[float, float]]
    # One may have died before it was settled.
    shaken: bool

    @property
    def number(self) -> int:
        return self.seen.number
    @property
    def refused(self) -> bool:
        return self.seen.status == 429
    @property
    def downgraded(self) -> bool:
        told = ";downgrade" in self.seen.told.get("x-attache-budget", "")
        return told or (self.seen.wish.mix == "down" and any(one.model != DEAR for one in self.attempts))
    @property
    def victim(self) -> bool:
        """Its VM may have died under it: it has no answer, or none that says who gave it."""
        return bool(self.deaths) and not (self.seen.complete and self.seen.told)
    @property
    def never(self) -> bool:
        """It was surely never admitted by all its budgets."""
        return self.refused or (self.seen.turned_away and not self.attempts and not self.deaths)
    @property
    def missed(self) -> str | None:
        """The first to be asked, where no provider saw that: the connection broke off before it had the request."""
        told = self.seen.told
        unseen = int(told.get("x-attache-attempts", 0)) > len(self.attempts)
        return told.get("x-attache-attempt-log", "").partition(";")[0] if unseen else None
    @property
    def answered(self) -> bool:
        return self.seen.status == 200 and self.seen.complete
    @property
    def admitted(self) -> float:
        """By then it was admitted, if ever: a provider had it, or it was over, or its VM."""
        if self.attempts:
            return self.attempts[0].received
        return min(self.seen.ended, max(end for _, end in self.deaths)) if self.victim else self.seen.ended


@dataclass
class Entry:
    """What a request did to one account. Amounts in the budget's unit."""

    who: Evidence
    # Between these times it was admitted.
    since: float
    until: float
    # It was charged with something in between.
    least: int = 0
    most: int = 0
    # It held no more than that, and was surely settled by then.
    hold: int = 0
    settled: float = 0.0
    # It surely held until then.
    holds: float = 0.0


@dataclass
class Told:
    """What the gateway said was left in an account; before what the request itself may have held is taken off."""

    who: Evidence
    since: float
    until: float
    least: int
    most: int
    # After everything.
    final: bool = False


@dataclass
class Range:
    least: int
    most: int


Account = tuple[str, str]


@dataclass
class Files:
    """Entries and tellings by account: the budget's name, and its key."""

    entries: dict[Account, list[Entry]] = field(default_factory=dict)
    told: dict[Account, list[Told]] = field(default_factory=dict)


def gather(plan: Plan, seen: list[Seen], attempts: list[Attempt]) -> list[Evidence]:
    by_number: dict[int, list[Attempt]] = {}
    for attempt in sorted(attempts, key=lambda one: one.received):
        by_number.setdefault(attempt.number, []).append(attempt)
    deaths = [(one.sent, one.ended) for one in seen if one.wish.crash]

    def of(one: Seen, after: float = 0.0) -> list[tuple[float, float]]:
        return [(begin, end) for begin, end in deaths if one.sent < end and one.ended + after >= begin]

    return [Evidence(one, by_number.get(one.number, []), of(one), bool(of(one, LATER))) for one in seen]


def file(plan: Plan, found: list[Evidence], final: bool = False) -> Files:
    files = Files()
    for one in found:
        budgets = [budget for budget in plan.budgets_of(one.seen.wish.mix) if concerns(budget, one)]
        units = [budget.unit for budget in budgets if budget.exceed != "shadow"]
        for budget in budgets:
            for account, entry in entries(plan, budget, one, len(budgets) > 1):
                if not kept(budget, account):
                    continue
                files.entries.setdefault((budget.name, account), []).append(entry)
            if units.count(budget.unit) == 1 and admits(budget, one) and (told := telling(plan, budget, one)):
                told.final = final
                files.told.setdefault((budget.name, admitted_at(budget, one)), []).append(told)
    return files


def concerns(budget: Budget, one: Evidence) -> bool:
    return not budget.routes or not one.downgraded


def admits(budget: Budget, one: Evidence) -> bool:
    """Whether it is asked before the first target is, and so told of."""
    return concerns(budget, one) and kept(budget, admitted_at(budget, one))


def kept(budget: Budget, account: str) -> bool:
    """Whether this is an account at all: of what other providers serve there is none."""
    return not budget.at or account.rpartition("/")[2] in budget.at


def account_of(budget: Budget, one: Evidence, attempt: int, otherwise: tuple[str, str] | None = None) -> str:
    """The key of the account from which the attempt of this number is served; one that nobody saw went to the first target, or past it
    where its client was told so."""
    parts = [one.seen.wish.key] if budget.keyed else []
    if budget.moves:
        passed = f"{budget.name};pass" in one.seen.told.get("x-attache-budget", "")
        provider, model = otherwise or targets(one)[:2][-1 if passed else 0]
        if attempt < len(one.attempts):
            provider, model = PROVIDERS[one.attempts[attempt].provider], one.attempts[attempt].model
        parts.append(provider if budget.follows_provider else model)
    return "/".join(parts)


def admitted_at(budget: Budget, one: Evidence) -> str:
    """The key of the account that admitted it, which is the one that it is told of."""
    first = [target for target in targets(one) if target[0] == one.missed]
    return account_of(budget, one, len(one.attempts), first[0]) if first else account_of(budget, one, 0)


def targets(one: Evidence) -> list[tuple[str, str]]:
    route = one.seen.wish.route
    if route.startswith("only-"):
        _, provider, model = route.split("-", 2)
        return [(provider, model)]
    return ROUTES["cheap" if one.downgraded else route]


# ---- entries ----


def entries(plan: Plan, budget: Budget, one: Evidence, several: bool) -> list[tuple[str, Entry]]:
    """One, or one for each account that it came to."""
    seen = one.seen
    if one.never:
        # While others were asked, it may have been held here.
        held = Entry(one, seen.sent, seen.ended, hold=most_held(plan, budget, one), settled=seen.ended)
        return [(account_of(budget, one, 0), held)] if several and one.refused else []
    received = [attempt.received for attempt in one.attempts]
    places = [at for at in range(len(one.attempts) or 1) if at == 0 or account_of(budget, one, at) != account_of(budget, one, at - 1)]
    found = []
    for place, at in enumerate(places):
        since = received[at - 1] if at else seen.sent
        until = received[at] if received else one.admitted
        last = place == len(places) - 1
        here = [index for index in range(len(one.attempts)) if at <= index and (last or index < places[place + 1])]
        served = here if budget.moves else range(len(one.attempts))
        if len({one.attempts[index].model for index in here}) > 1:
            # What a dearer model may use is held only when it is its turn.
            until = received[here[-1]]
        amount, hold = charged(budget, one, served, last), most_held(plan, budget, one) + wasted(budget, one, served).most
        # Who moved on has left the account before.
        settled = settled_by(one, until) if last else received[places[place + 1]]
        holds = surely_under_way(one) if last else (one.attempts[here[-1]].finished or one.attempts[here[-1]].received)
        found.append((account_of(budget, one, at), Entry(one, since, until, amount.least, amount.most, hold, settled, holds)))
    if budget.moves:
        found += under_way(plan, budget, one, {account for account, _ in found})
    return found


def under_way(plan: Plan, budget: Budget, one: Evidence, known: set[str]) -> list[tuple[str, Entry]]:
    """Accounts of targets that it may have been on its way to, though no provider saw it there."""
    since = one.attempts[0].received if one.attempts and not one.missed else one.seen.sent
    found, failed = [], not one.answered or len(one.attempts) > 1 or one.missed
    for provider, model in targets(one):
        account = account_of(budget, one, len(one.attempts), (provider, model))
        if failed and account not in known:
            most = amount(budget, model, estimate(one), unseen(one).most) if one.seen.left else 0
            found.append((account, Entry(one, since, max(since, one.seen.ended), 0, most, most_held(plan, budget, one), settled_by(one, one.admitted))))
    return found


def settled_by(one: Evidence, admitted: float) -> float:
    """When it was surely over for its budgets: with its answer's last byte, or soon after; where its VM died it lapses."""
    if one.answered:
        return one.seen.ended
    lapses = admitted + plan.TOTAL + AFTERMATH + SLACK
    return lapses if one.shaken else min(lapses, one.seen.ended + SETTLES)


def surely_under_way(one: Evidence) -> float:
    last = one.attempts[-1] if one.attempts else None
    if last is None or one.victim:
        return 0.0
    return min([time for time in (last.finished, last.left, one.seen.left, one.seen.ended) if time])


def charged(budget: Budget, one: Evidence, here: "range | list[int]", last: bool) -> Range:
    """What it is charged with in the end in an account that these attempts were served from, `last` the last one."""
    if budget.unit == "concurrent":
        return Range(0, 0)
    if budget.unit == "requests":
        return Range(1, 1) if one.attempts else Range(0, 1)
    total, lost = used(budget, one) if last else Range(0, 0), wasted(budget, one, here)
    return Range(total.least + lost.least, total.most + lost.most)


def wasted(budget: Budget, one: Evidence, here: "range | list[int]") -> Range:
    """Of it, what is charged for attempts that failed; what they used stays held beside what the next may use."""
    found = [failed(budget, one, index) for index in here] if budget.charges_failed else []
    return Range(sum(lost.least for lost in found), sum(lost.most for lost in found))


def used(budget: Budget, one: Evidence) -> Range:
    """What its answer is charged with."""
    seen, attempt = one.seen, one.attempts[-1] if one.attempts else None
    if attempt is None:
        # Its client may have hung up while its attempt was on its way, which costs the prompt.
        model = targets(one)[0][1]
        return Range(0, amount(budget, model, estimate(one), unseen(one).most) if seen.left else 0)
    given, model = 7 + attempt.words, attempt.model
    likely = estimate(one)
    if one.answered:
        if attempt.reported:
            return exactly(amount(budget, model, given, attempt.sent))
        return Range(amount(budget, model, given, attempt.sent), amount(budget, model, likely, attempt.sent))
    counted = (attempt.sent, attempt.sent) if attempt.provider != ESTIMATED else (0, 2 * attempt.sent + 16)
    made = unseen(one)
    whole = amount(budget, model, likely, max(counted[1], made.most))
    if one.victim:
        # What came before the VM died was read; and an attempt that was made afterwards had another VM.
        told_all = attempt.finished and any(attempt.finished <= end for _, end in one.deaths) and attempt.act not in FAILS
        afterwards = any(attempt.received >= begin for begin, _ in one.deaths)
        live = seen.status == 200 and attempt.act in FAILS
        return Range(0, whole if told_all or afterwards or live or seen.left else 0)
    if seen.left:
        if attempt.act in FAILS and attempt.finished and not seen.tokens:
            # Between two attempts, or with the next on its way; and who was first, if both hung up at once?
            return Range(0, amount(budget, model, likely, max(counted[1] if attempt.sent else 0, made.most)))
        sure = attempt.received < seen.left
        if not seen.wish.stream:
            # All of it, if it came first; else what is taken to have been made until then.
            least = min(made.least, counted[0]) if attempt.finished else made.least
            return Range(amount(budget, model, given, least) if sure else 0, amount(budget, model, likely, max(counted[1] if attempt.finished else 0, made.most)))
        if attempt.provider == ESTIMATED:
            return Range(amount(budget, model, given, 0) if sure else 0, whole)
        return Range(amount(budget, model, given, seen.tokens) if sure else 0, whole)
    if seen.status == 200:
        # A stream that broke off, or was told to have.
        return Range(amount(budget, model, given, counted[0]), whole)
    return Range(0, 0)


def unseen(one: Evidence) -> Range:
    """Tokens of a whole answer that the gateway takes to have been made when its client left. Nobody saw them, so it charges what
    such a model makes in such a time: no less than from when the provider had the request until its client left, no more than
    from when it may have been sent until the provider was left too."""
    seen, attempt = one.seen, one.attempts[-1] if one.attempts else None
    if seen.wish.stream or not seen.left:
        return Range(0, 0)
    begun = attempt.received if attempt else seen.left
    since = one.attempts[-2].received if len(one.attempts) > 1 else seen.sent
    until = attempt.left if attempt and attempt.left else max(seen.left, seen.ended, attempt.finished if attempt else 0.0) + SLACK
    # Where it went on it may have been limited to less.
    held = seen.wish.answers * min(attempt.limit or MOST, MOST) if attempt else output(one)
    most = seen.wish.answers * min(seen.wish.cap or MOST, MOST) if held is None else held

    def tokens(seconds: float) -> int:
        return min(seen.wish.answers * int(max(seconds, 0.0) * plan.SPEED), most)

    return Range(tokens(seen.left - begun - 2 * MILLI), tokens(until - since + 2 * MILLI))


def exactly(amount: int) -> Range:
    return Range(amount, amount)


def failed(budget: Budget, one: Evidence, index: int) -> Range:
    """What a failed attempt is charged with: what is known to have been answered, where nothing of it had left."""
    attempt, last = one.attempts[index], index == len(one.attempts) - 1
    if not (one.seen.wish.whole and attempt.act in ("cut", "stall") and attempt.sent) or (last and one.answered):
        return Range(0, 0)
    estimated = attempt.provider == ESTIMATED
    most = amount(budget, attempt.model, estimate(one), 2 * attempt.sent + 16 if estimated else attempt.sent)
    certain = not (estimated or one.seen.left or one.victim)
    return Range(amount(budget, attempt.model, 7 + attempt.words, attempt.sent) if certain else 0, most)


def estimate(one: Evidence) -> int:
    """The most that its prompt is taken for where no provider reports it: other models' tokens are estimated."""
    words = one.seen.wish.words
    return 7 + words if all(model.startswith("gpt") for _, model in targets(one)) else 24 + words * 3 // 2


def amount(budget: Budget, model: str, given: int, taken: int, held: bool = False) -> int:
    """So many tokens in the budget's unit, charged or held."""
    match budget.unit:
        case "tokens":
            return given + taken
        case "inputTokens":
            return given
        case "outputTokens":
            return taken
        case "usd":
            given_price, taken_price = PRICES[model]
            return given * (DEAREST[model] if held else given_price) + taken * taken_price
    return 1


# ---- what was held, and what was told ----


def output(one: Evidence) -> int | None:
    """Tokens that its answers might have had; `None`: nobody saw what it was allowed."""
    wish = one.seen.wish
    if one.attempts:
        return wish.answers * min(one.attempts[0].limit or MOST, MOST)
    clamp = one.seen.told.get("x-attache-budget", "").partition(";clamp=")[2].split(",")[0]
    return wish.answers * int(clamp) if clamp else None


def most_held(plan: Plan, budget: Budget, one: Evidence) -> int:
    wish, limit = one.seen.wish, plan.limits[budget.name]
    if budget.unit in ("requests", "concurrent"):
        return 1
    taken = output(one)
    if taken is None and budget.exceed == "clamp":
        return limit
    asked = wish.answers * min(wish.cap or MOST, MOST)
    most = max(amount(budget, model, most_prompt(one), taken if taken is not None else asked, held=True) for _, model in targets(one))
    return most if budget.exceed == "shadow" else min(most, limit)


def fits(plan: Plan, budget: Budget, one: Evidence, left: int) -> bool:
    """Whether it surely fits where so much is left. With a clamp an answer may be as short as a token."""
    wish = one.seen.wish
    if budget.unit in ("requests", "concurrent"):
        return left >= 1
    taken = wish.answers * (1 if budget.exceed == "clamp" else min(wish.cap or MOST, MOST))
    return left >= max(amount(budget, model, most_prompt(one), taken, held=True) for _, model in targets(one))


def most_prompt(one: Evidence) -> int:
    """What a prompt is held at most: a byte is no less than a token."""
    words = one.seen.wish.words
    return 7 + 2 * words - 1 if all(model.startswith("gpt") for _, model in targets(one)) else 120 + 3 * words


def telling(plan: Plan, budget: Budget, one: Evidence) -> Told | None:
    """What it was told of this budget, as what was left before it came."""
    seen, until = one.seen, one.admitted
    if budget.exceed == "shadow":
        return None
    if one.refused:
        if seen.told.get("x-attache-budget") != f"{budget.name};reject" or " left of " not in seen.error:
            return None
        left = parsed(budget, seen.error.partition(": ")[2].split(" ")[0])
        return Told(one, seen.sent, until, left, left)
    text = seen.remaining.get(UNITS.get(budget.unit, budget.unit))
    if text is None:
        return None
    left = parsed(budget, text)
    if budget.unit in ("requests", "concurrent"):
        return Told(one, seen.sent, until, left + 1, left + 1)
    taken = output(one)
    if taken is None:
        return None
    least = amount(budget, targets(one)[0][1], 7 + seen.wish.words, taken, held=True)
    most = max(amount(budget, model, most_prompt(one), taken, held=True) for _, model in targets(one))
    return Told(one, seen.sent, until, left + least, left + most)


def parsed(budget: Budget, text: str) -> int:
    if budget.unit != "usd":
        return int(text)
    dollars, _, decimals = text.partition(".")
    return int(dollars) * plan.DOLLAR + int(f"{decimals:0<12}")
