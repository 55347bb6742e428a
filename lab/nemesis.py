"""The seeded nemesis: rounds of one to three faults at a time, each round healed until everything has recovered.

A seed gives the same faults in the same order with the same lengths; what they meet is up to the machine, so two runs of one
seed differ. Kinds are drawn from a bag that holds each once, so that all of them come about equally often.
"""

import time

from faults import KINDS

AT_ONCE_MAX = 3
# How long a fault lasts: within a lease's renewals, about a lease, beyond a lease and the wait of the others.
LENGTHS_S = ((0.3, 1.5), (1.5, 4.0), (4.0, 8.0))
LENGTH_WEIGHTS = (2, 4, 4)
BEGIN_WITHIN_S = 2.0
CALM_S = (0.2, 1.0)
# Part of the rounds in which somebody also moves a ticket while things break.
MOVES = 0.3
LOOK_S = 0.05


class Nemesis:
    def __init__(self, lab, chance, faults, say):
        self.lab, self.chance, self.left, self.say = lab, chance, faults, say
        self.bag = []
        self.count = 0

    def run(self):
        while self.left:
            self.round()
            self.pause(self.chance.uniform(*CALM_S))

    def next_kind(self):
        if not self.bag:
            self.bag = [kind for kind in sorted(KINDS) if kind in self.lab.kinds]
            self.chance.shuffle(self.bag)
        return self.bag.pop()

    def draw(self):
        """The faults of a round, as (begin, end, kind, fault); none of them in the way of another."""
        drawn, taken = [], set()
        for _ in range(min(self.left, self.chance.randint(1, AT_ONCE_MAX))):
            kind = self.next_kind()
            fault = KINDS[kind](self.lab, self.chance, f"fault{self.count + 1}")
            begin = self.chance.uniform(0, BEGIN_WITHIN_S)
            length = fault.length_s or self.chance.uniform(*self.chance.choices(LENGTHS_S, LENGTH_WEIGHTS)[0])
            if fault.touches() & taken:
                self.bag.append(kind)
                self.chance.shuffle(self.bag)
                continue
            self.count += 1
            taken |= fault.touches()
            drawn.append((begin, begin + length, kind, fault))
        self.left -= len(drawn)
        return drawn

    def round(self):
        drawn = self.draw()
        steps = sorted([(begin, 0, n) for n, (begin, _, _, _) in enumerate(drawn)]
                       + [(end, 1, n) for n, (_, end, _, _) in enumerate(drawn)])
        began = time.monotonic()
        is_moved = self.chance.random() < MOVES
        if is_moved:
            self.lab.move_something(self.chance, began + BEGIN_WITHIN_S * self.chance.random())
        tokens = self.lab.tokens()
        for at, what, number in steps:
            self.pause(began + at - time.monotonic())
            _, _, kind, fault = drawn[number]
            if what == 0:
                self.lab.log("begin", kind=kind, id=fault.key, **fault.detail)
                fault.begin()
            else:
                fault.heal()
                self.lab.log("heal", kind=kind, id=fault.key)
        healed = self.lab.log("healed")
        took = self.lab.recover(healed)
        self.lab.finish_moves()
        if not is_moved and all(fault.is_harmless for _, _, _, fault in drawn):
            for ticket in sorted(t for t, token in self.lab.tokens().items() if token != tokens.get(t)):
                self.lab.hung(f"{ticket} was lost, and no fault explains it")
        shown = ", ".join(f"{kind} {where(fault)}" for _, _, kind, fault in drawn)
        self.say(f"{self.count:4d}  {shown}: {took}")

    def pause(self, seconds):
        """Nothing is awaited here but time itself; the process table is looked at meanwhile."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.lab.look()
            time.sleep(max(0.0, min(LOOK_S, end - time.monotonic())))


def where(fault):
    detail = fault.detail
    return detail.get("member") or " ".join(detail.get("group") or detail.get("members") or [f"{detail.get('percent')} %"])
