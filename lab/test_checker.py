"""The checker is handed runs that are well, and runs with planted faults that it must see: python3 -m unittest discover lab"""

import tempfile
import unittest
from pathlib import Path

import checker
import picture
from history import Tail, Write, parse

PERIOD_S = 0.04
TICKETS = ("db",)
BOUND_S = 10.0


def written(site, token, begin, end, ticket="db"):
    """What a writer writes from `begin` to `end`."""
    count = round((end - begin) / PERIOD_S)
    return [Write(ticket, site, token, n + 1, begin + n * PERIOD_S) for n in range(count)]


def in_order(*runs):
    return sorted((write for run in runs for write in run), key=lambda write: write.at)


def events(*healed, begun=1):
    log = [{"at": 0.0, "event": "running"}, {"at": 0.0, "event": "plan", "faults": 1}]
    log += [{"at": 1.0 + n, "event": "begin", "kind": "loss", "id": f"fault{n}"} for n in range(begun)]
    log += [{"at": at, "event": "healed"} for at in healed]
    return log


def judge(writes, log=None, tickets=TICKETS):
    return checker.judge(writes, log or events(), tickets, BOUND_S)


class WellRuns(unittest.TestCase):
    def test_one_tenure_after_the_other_is_ok(self):
        verdict = judge(in_order(written("paris", 257, 0, 5), written("lyon", 514, 7, 20)), events(7.5))
        self.assertTrue(verdict["ok"], verdict)
        self.assertEqual((verdict["overlaps"], verdict["losses"], verdict["faults"]), (0, 1, 1))
        self.assertAlmostEqual(verdict["gap_ms_min"], 2000, delta=50)

    def test_a_move_that_was_asked_for_is_no_loss(self):
        log = events() + [{"at": 5.2, "event": "moved", "ticket": "db", "to": "lyon", "began": 4.9}]
        verdict = judge(in_order(written("paris", 257, 0, 5), written("lyon", 514, 5.1, 9)), log)
        self.assertEqual((verdict["losses"], verdict["moves"]), (0, 1))
        verdict = judge(in_order(written("paris", 257, 0, 5), written("lyon", 514, 8.1, 9)), log)
        self.assertEqual((verdict["losses"], verdict["moves"]), (1, 0))

    def test_availability_is_the_share_of_time_in_which_somebody_wrote(self):
        log = events() + [{"at": 20.0, "event": "revoking"}]
        verdict = judge(in_order(written("paris", 257, 0, 5), written("lyon", 514, 10, 20)), log)
        self.assertAlmostEqual(verdict["availability"], 0.75, delta=0.01)


class Overlaps(unittest.TestCase):
    def test_two_sites_at_once(self):
        verdict = judge(in_order(written("paris", 257, 0, 5), written("lyon", 514, 4, 9)))
        self.assertFalse(verdict["ok"])
        self.assertEqual(verdict["overlaps"], 1)
        self.assertAlmostEqual(verdict["overlap_seconds_max"], 0.96, delta=0.01)

    def test_a_single_write_after_the_next_one_has_begun(self):
        late = [Write("db", "paris", 257, 999, 7.5)]
        verdict = judge(in_order(written("paris", 257, 0, 5), written("lyon", 514, 7, 9), late))
        self.assertEqual(verdict["overlaps"], 1)

    def test_the_place_in_the_file_counts_even_if_the_times_say_otherwise(self):
        lines = written("paris", 257, 0, 5)
        writes = lines[:-1] + written("lyon", 514, 7, 9) + lines[-1:]
        self.assertEqual(judge(writes)["overlaps"], 1)

    def test_two_tenures_of_one_site_may_not_overlap_either(self):
        verdict = judge(in_order(written("paris", 257, 0, 5), written("paris", 513, 4.5, 9)))
        self.assertEqual(verdict["overlaps"], 1)
        self.assertFalse(verdict["overlap_details"][0]["two_sites"])

    def test_a_third_tenure_is_compared_with_the_first(self):
        verdict = judge(in_order(written("paris", 257, 0, 5), written("lyon", 514, 6, 7), written("rome", 771, 8, 9),
                                 [Write("db", "paris", 257, 999, 8.5)]))
        self.assertEqual(verdict["overlaps"], 2)

    def test_another_ticket_is_no_overlap(self):
        writes = in_order(written("paris", 257, 0, 5), written("lyon", 514, 0, 5, ticket="web"))
        self.assertTrue(judge(writes, tickets=("db", "web"))["ok"])

    def test_two_sites_in_the_process_table_that_do_not_write(self):
        both = [("db", "paris", 257), ("db", "lyon", 514)]
        log = events() + [{"at": at, "event": "processes", "writers": both} for at in (3.0, 3.2)]
        self.assertEqual(judge(written("paris", 257, 0, 5), log)["overlaps"], 1)
        # One look takes its time: what it saw need not have been there at one moment.
        self.assertEqual(judge(written("paris", 257, 0, 5), log[:-1])["overlaps"], 0)


class TokensAndTickets(unittest.TestCase):
    def test_a_token_that_does_not_grow(self):
        for token in (257, 256):
            verdict = judge(in_order(written("paris", 257, 0, 5), written("lyon", token, 7, 9)))
            self.assertFalse(verdict["ok"])
            self.assertIn("1 tokens did not grow", verdict["why"])

    def test_a_ticket_that_is_never_written_again_after_healing_hangs(self):
        verdict = judge(written("paris", 257, 0, 5), events(6.0))
        self.assertEqual(verdict["hung"], 1)
        self.assertFalse(verdict["ok"])

    def test_a_ticket_that_is_written_again_too_late_hangs(self):
        runs = in_order(written("paris", 257, 0, 5), written("lyon", 514, 6.0 + BOUND_S + 0.5, 30))
        self.assertEqual(judge(runs, events(6.0))["hung"], 1)

    def test_recovery_is_counted_to_the_first_write_that_lasts(self):
        runs = in_order(written("paris", 257, 0, 5), written("lyon", 514, 7, 7.2), written("paris", 769, 9, 20))
        verdict = judge(runs, events(6.0))
        self.assertTrue(verdict["ok"], verdict)
        self.assertEqual(verdict["recovery_ms"]["max"], 3000)

    def test_a_ticket_nobody_ever_wrote(self):
        self.assertIn("web was never written", judge(written("paris", 257, 0, 5), tickets=("db", "web"))["why"])

    def test_a_plan_with_faults_of_which_none_was_begun(self):
        self.assertIn("no fault was begun", judge(written("paris", 257, 0, 5), events(begun=0))["why"])

    def test_what_the_lab_itself_could_not_do(self):
        log = events() + [{"at": 3.0, "event": "failed", "what": "no disk"}]
        self.assertFalse(judge(written("paris", 257, 0, 5), log)["ok"])


class Files(unittest.TestCase):
    def test_a_tail_sees_pauses_and_unfinished_lines(self):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "writes"
            path.write_text("db paris 257 1 1000000000\ndb paris 257 2 1040000000\ndb paris 257 3 9")
            tail = Tail(path, checker.PAUSE_S)
            tail.read_on()
            self.assertEqual(tail.last["db"].sequence, 2)
            with open(path, "a") as file:
                file.write("000000000\n")
            tail.read_on()
            self.assertEqual((tail.last["db"].at, tail.since["db"]), (9.0, 9.0))

    def test_a_broken_line_is_an_error(self):
        with self.assertRaises(ValueError):
            parse("db paris 257\n")

    def test_a_picture_is_drawn(self):
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            (directory / "writes").write_text("".join(
                f"{w.ticket} {w.site} {w.token} {w.sequence} {round(w.at * 1e9)}\n" for w in written("paris", 257, 0, 5)))
            (directory / "history.jsonl").write_text('{"at": 0.5, "event": "begin", "kind": "loss", "id": "a", "member": "<x>"}\n')
            picture.draw(directory, judge(written("paris", 257, 0, 5)))
            drawn = (directory / "picture.svg").read_text()
            self.assertIn("paris, token 257", drawn)
            self.assertIn("loss &lt;x&gt;", drawn)


if __name__ == "__main__":
    unittest.main()
