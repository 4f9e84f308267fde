"""A plain sequential book of each account, against what the gateway did and said.

1. In no window, wherever it lies, is more charged than the limit by requests that can only have been admitted inside it; nor
   are more under way at a time.
2. Whatever the gateway says is left of an account lies between what the book says at least and at most: the charges of all
   who were surely admitted before and count, and the holds of all who may have been. After everything these two are the same,
   but for the few whose charge is not known exactly.
3. What was reserved by requests whose VM died is free when it may have lapsed.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import accumulate
from typing import Iterable

from .evidence import Account, Entry, Files, Told
from .plan import Budget, Plan

# Steps in which a sliding window moves on (filter/gateway/src/budget/window.rs).
STEPS = 32


@dataclass
class Fault:
    budget: Budget
    account: str
    window: str
    what: str
    # overshoot, undershoot or lost; and by how much.
    column: str
    amount: int
    requests: list[int]

    def text(self) -> str:
        involved = ", ".join(map(str, self.requests[:12])) + (" …" if len(self.requests) > 12 else "")
        account = f"account {self.account!r}" if self.account else "its account"
        return f"{self.budget.name}, {account}, window {self.window}: {self.column} of {self.amount}: {self.what}; requests {involved}"


@dataclass
class Verdict:
    faults: list[Fault] = field(default_factory=list)
    # Accounts, what was checked of them, and how much of the final ones was known to the unit.
    checked: Counter = field(default_factory=Counter)


class Sums:
    """Amounts by time, to be summed up to any."""

    def __init__(self, pairs: Iterable[tuple[float, int]]):
        ordered = sorted(pairs)
        self.times = [time for time, _ in ordered]
        self.sums = [0, *accumulate(amount for _, amount in ordered)]

    def before(self, time: float) -> int:
        return self.sums[bisect_left(self.times, time)]
    def until(self, time: float) -> int:
        return self.sums[bisect_right(self.times, time)]


# ---- windows ----


def bounds(budget: Budget, time: float) -> tuple[float, float]:
    """The fixed or calendar window of this moment: when it began and when it ends."""
    if budget.kind == "fixed":
        length = int(budget.length) / 1000
        begin = time // length * length
        return begin, begin + length
    day = datetime.fromtimestamp(time, timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    match budget.length:
        case "hour":
            begin = datetime.fromtimestamp(time, timezone.utc).replace(minute=0, second=0, microsecond=0)
            end = begin + timedelta(hours=1)
        case "day":
            begin, end = day, day + timedelta(days=1)
        case "week":
            begin = day - timedelta(days=day.weekday())
            end = begin + timedelta(days=7)
        case _:
            begin = day.replace(day=1)
            end = (begin + timedelta(days=32)).replace(day=1)
    return begin.timestamp(), end.timestamp()


# The gateway counts whole milliseconds.
MILLI = 0.001


def inside(entry: Entry | Told, begin: float, end: float) -> bool:
    """It was surely admitted in there."""
    return entry.since - MILLI >= begin and entry.until + MILLI < end


def touches(entry: Entry, begin: float, end: float) -> bool:
    return entry.since - MILLI < end and entry.until + MILLI >= begin


# ---- checks ----


class Book:
    """One account."""

    def __init__(self, budget: Budget, account: str, limit: int, entries: list[Entry], verdict: Verdict):
        self.budget, self.account, self.limit, self.entries, self.verdict = budget, account, limit, entries, verdict
        self.own = {entry.who.number: entry.hold for entry in entries}

    def check(self, told: list[Told]) -> None:
        self.verdict.checked["accounts"] += 1
        if self.budget.kind in ("fixed", "calendar"):
            windows = {bounds(self.budget, time) for one in [*self.entries, *told] for time in (one.since, one.until)}
            for begin, end in sorted(windows):
                self.window(begin, end, [entry for entry in self.entries if touches(entry, begin, end)], [one for one in told if inside(one, begin, end)])
        elif self.budget.kind == "sliding":
            self.slides()
            self.tellings("the last", self.entries, told, int(self.budget.length) / 1000)
        else:
            self.at_once()
            self.tellings("now", self.entries, told, float("inf"))

    def window(self, begin: float, end: float, entries: list[Entry], told: list[Told]) -> None:
        name = f"from {stamp(begin)}"
        sure = [entry for entry in entries if inside(entry, begin, end)]
        self.sum(name, sure)
        surely = Sums((entry.until, entry.least) for entry in sure)
        self.tellings(name, entries, told, float("inf"), surely)

    def sum(self, name: str, sure: list[Entry]) -> None:
        self.verdict.checked["windows"] += 1
        charged = sum(entry.least for entry in sure)
        if charged > self.limit and self.budget.exceed != "shadow":
            self.fault(name, f"{charged} charged, of {self.limit}", "overshoot", charged - self.limit, sure)

    def slides(self) -> None:
        """Each position that begins with a request."""
        length = int(self.budget.length) / 1000
        ordered = sorted(self.entries, key=lambda entry: entry.since)
        since = [entry.since for entry in ordered]
        worst: tuple[int, list[Entry]] = (self.limit, [])
        for at, first in enumerate(ordered):
            near = ordered[at : bisect_right(since, first.since + length)]
            charged = sum(entry.least for entry in near if entry.until <= first.since + length)
            self.verdict.checked["windows"] += 1
            if charged > worst[0]:
                worst = charged, near
        if worst[1] and self.budget.exceed != "shadow":
            charged, near = worst
            self.fault(f"from {stamp(near[0].since)}", f"{charged} charged, of {self.limit}", "overshoot", charged - self.limit, near)

    def at_once(self) -> None:
        """The most that were surely under way at a time."""
        events = sorted([(entry.until, 1, at) for at, entry in enumerate(self.entries) if entry.holds > entry.until]
                        + [(entry.holds, -1, at) for at, entry in enumerate(self.entries) if entry.holds > entry.until])
        self.verdict.checked["windows"] += len(events) // 2
        under_way: set[int] = set()
        worst: set[int] = set()
        for _, step, at in events:
            under_way.add(at) if step > 0 else under_way.discard(at)
            if len(under_way) > max(len(worst), self.limit):
                worst = set(under_way)
        if worst:
            found = [self.entries[at] for at in worst]
            self.fault(stamp(max(entry.until for entry in found)), f"{len(worst)} at a time, of {self.limit}", "overshoot", len(worst) - self.limit, found)

    def tellings(self, name: str, entries: list[Entry], told: list[Told], length: float, surely: Sums | None = None) -> None:
        """Each word of the gateway against the book. `length`: of a sliding window, else without end."""
        if not told:
            return
        surely = surely or Sums((entry.until, entry.least) for entry in entries)
        gone = Sums((entry.since, entry.least) for entry in entries)
        held = Sums((entry.since, entry.hold) for entry in entries)
        settled = Sums((max(entry.settled, entry.until), entry.hold - entry.most) for entry in entries if entry.hold > entry.most)
        over = Sums((entry.until, min(entry.most, entry.hold)) for entry in entries)
        step = -(-int(length * 1000) // STEPS) / 1000 if length < float("inf") else 0
        for one in told:
            self.verdict.checked["told"] += 1
            # Its own entry is not before itself: what it was told is what was left before it came.
            least_spent = surely.before(one.since) - (gone.before(one.until - length) if length < float("inf") else 0)
            most_spent = held.until(one.until) - settled.before(one.since) - self.own.get(one.who.number, 0)
            if length < float("inf"):
                most_spent -= over.before(one.since - length - 2 * step - MILLI)
            self.compare(name, one, self.limit - least_spent, self.limit - most_spent, entries)

    def compare(self, name: str, one: Told, most: int, least: int, entries: list[Entry]) -> None:
        if one.final:
            self.verdict.checked["final"] += 1
            self.verdict.checked["exact"] += most == least
        if one.least > most:
            before = [entry for entry in entries if entry.until < one.since]
            self.fault(name, f"request {one.who.number} was told that {one.least} are left, {most} can be at most", "overshoot", one.least - most, before)
        if one.most < max(least, 0):
            before = [entry for entry in entries if entry.since <= one.until]
            column = "lost" if one.final else "undershoot"
            self.fault(name, f"request {one.who.number} was told that {one.most} are left, {least} must be at least", column, least - one.most, before)

    def fault(self, window: str, what: str, column: str, amount: int, involved: list[Entry]) -> None:
        numbers = [entry.who.number for entry in sorted(involved, key=lambda entry: entry.until, reverse=True)]
        self.verdict.faults.append(Fault(self.budget, self.account, window, what, column, amount, numbers))


def stamp(time: float) -> str:
    return datetime.fromtimestamp(time, timezone.utc).strftime("%H:%M:%S.%f")[:-3]


def check(plan: Plan, files: Files, verdict: Verdict) -> None:
    budgets = {budget.name: budget for budget in plan.budgets}
    accounts: set[Account] = set(files.entries) | set(files.told)
    for name, account in sorted(accounts):
        book = Book(budgets[name], account, plan.limits[name], files.entries.get((name, account), []), verdict)
        book.check(files.told.get((name, account), []))
