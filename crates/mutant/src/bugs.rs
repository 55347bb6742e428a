//! Which bugs there are, and which of them is planted: part of mutant builds alone.

use core::sync::atomic::{AtomicUsize, Ordering};

macro_rules! mutants {
    ($($mutant:ident = $name:literal: $bug:literal;)*) => {
        /// One planted bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $(#[doc = $bug] $mutant,)*
        }

        impl Mutant {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$mutant,)*];

            /// What it is called.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$mutant => $name,)* }
            }

            /// What it does wrong.
            #[must_use]
            pub const fn bug(self) -> &'static str {
                match self { $(Self::$mutant => $bug,)* }
            }
        }
    };
}

mutants! {
    // Leases.
    AckFromReceipt = "ack-from-receipt": "a lease counts from when an ack was received, not from when its heartbeat was sent";
    VoteFromLastAttempt = "vote-from-last-attempt": "a vote's base is the last sending of its proposal, whichever it answers";
    HolderIgnoresDrift = "holder-ignores-drift": "the holder counts the whole of E";
    GuardIgnoresDrift = "guard-ignores-drift": "a guard counts E + A on a clock that may be fast";
    GuardIgnoresAcquireAfter = "guard-ignores-acquire-after": "a guard ends with E: no time to fence";
    DeadlineNeedsBothClocks = "deadline-needs-both-clocks": "a deadline has passed only when both clocks say so";
    GuardNeedsOneClock = "guard-needs-one-clock": "a guard is over when one clock says so";
    GuardForgottenAtStart = "guard-forgotten-at-start": "a restarted acceptor guards no lease";
    GuardNotRenewed = "guard-not-renewed": "heartbeats renew nothing at the acceptor";
    GuardIgnored = "guard-ignored": "a candidate is promised during another's lease";
    LeaseByFewer = "lease-by-fewer": "a lease needs one base less than a majority";
    AckFromOldState = "ack-from-old-state": "an ack during a commit lists what was supported before it";
    AckFromNewState = "ack-from-new-state": "an ack lists what is not committed yet";
    AckForLaterSupport = "ack-for-later-support": "an ack counts for tickets that came to the set after it";
    AckForOtherBallot = "ack-for-other-ballot": "an ack counts whatever ballot is in force";
    DigestCountsChanges = "digest-counts-changes": "a counter of changes in the place of the digest";
    DigestNotCompared = "digest-not-compared": "an ack counts whatever its digest";
    MirrorKeptOverRestart = "mirror-kept-over-restart": "a mirror outlives its acceptor's process";
    LifeNotCounted = "life-not-counted": "heartbeats of a site's new life renew what its old one held";
    ListingFromReceipt = "listing-from-receipt": "a page of a listing renews from when it was received";
    ListAskRenewsNothing = "list-ask-renews-nothing": "an acceptor's guards do not count from a question for a listing";
    ListAskWhileBarred = "list-ask-while-barred": "a barred site's questions for listings renew";
    ShrunkExpireUntold = "shrunk-expire-untold": "a smaller E is agreed before the fence daemon knows";
    HeartbeatWhileBarred = "heartbeat-while-barred": "a barred site sends heartbeats and not pings";
    DiskNotWatched = "disk-not-watched": "heartbeats go on while the disk stands still";
    FenceNotWatched = "fence-not-watched": "heartbeats go on while the fence daemon does not answer";
    MergedOrdersOwed = "merged-orders-owed": "of two deadlines that were ordered before the first was answered, one stays owed for ever";
    RefusalOwed = "refusal-owed": "a fence daemon that refuses a deadline is taken for one that does not answer";
    OrderNotRepeated = "order-not-repeated": "deadlines whose request has failed are not ordered again while that bars heartbeats";
    // Registers and rounds.
    PromiseNotWritten = "promise-not-written": "an acceptor keeps its promises in memory";
    VoteBeforeCommit = "vote-before-commit": "a vote leaves before its commit has ended";
    PromiseBeforeCommit = "promise-before-commit": "a promise leaves before its commit has ended";
    AcceptBeforeOwnPromise = "accept-before-own-promise": "a proposal leaves before its proposer's own promise is durable";
    BallotUsedAgain = "ballot-used-again": "a proposer takes the ballot of its last promise again";
    TwoValues = "two-values": "a repeated proposal carries another value";
    LowestValue = "lowest-value": "a proposer takes over the value of the lowest ballot";
    AcceptBelowPromise = "accept-below-promise": "an acceptor accepts below what it has promised";
    PromiseBelowPromise = "promise-below-promise": "an acceptor promises a ballot below an older promise";
    OldAcceptCounts = "old-accept-counts": "a late duplicate of an old accept takes the place of a newer one";
    RecoveredPromiseAnswered = "recovered-promise-answered": "a promise known from witnesses is given again";
    AdoptedIsVote = "adopted-is-vote": "a value that was only learnt counts as a vote for it";
    MajorityIsHalf = "majority-is-half": "half of the members make a majority";
    ReplyToAnother = "reply-to-another": "a reply to another process of this member counts";
    VoteOfAnotherLife = "vote-of-another-life": "a vote of a process that has ended since counts";
    LeapNotChecked = "leap-not-checked": "a round far above all that was seen is answered";
    // Forgetting.
    ProofNotAsked = "proof-not-asked": "a disk is believed to be whole, whatever the proof says";
    RollbackNotSeen = "rollback-not-seen": "nobody says that a member has forgotten";
    HearsayHidesRollback = "hearsay-hides-rollback": "who hears of a life from others does not compare what it tells itself with what was told before";
    RecoveryFromFewer = "recovery-from-fewer": "one witness less than needed is enough";
    UnsureWitness = "unsure-witness": "a witness that may itself have forgotten counts";
    RecoveryWithoutDoubt = "recovery-without-doubt": "after a recovery an old vote of one's own still counts";
    OutsiderCounted = "outsider-counted": "a member with an identity that is not the formation's votes";
    BirthByMajority = "birth-by-majority": "a majority that has met votes";
    BirthByOne = "birth-by-one": "a member votes when one other has met everybody";
    ConfirmedNotAskedAgain = "confirmed-not-asked-again": "an unborn member asks those no more who have confirmed its list";
    DiskBeforeBirth = "disk-before-birth": "a disk from before birth votes once it hears of the formation";
    SettlingSkipped = "settling-skipped": "a readmitted member votes at once";
    ReadmittedByHalf = "readmitted-by-half": "half of the members readmit one";
    OldIdentityRemembered = "old-identity-remembered": "what is known of a replaced identity's lives stays";
    RoundOutlivesEpoch = "round-outlives-epoch": "what was said for a round and has not left is said in the epoch that ended it";
    EpochByOwnVote = "epoch-by-own-vote": "an epoch is told with the ballot of an own vote that only confirms it";
    EpochBeforeCommit = "epoch-before-commit": "a new epoch is spoken of before it is durable";
    SpeaksWhenOver = "speaks-when-over": "a process that found out that it has forgotten still sends";
    // Tickets and their fencing.
    TokenUsedAgain = "token-used-again": "a tenure takes the token of the one before";
    TakesOwnUnfenced = "takes-own-unfenced": "a site takes its own lost ticket again without a receipt";
    ReleasesUnfenced = "releases-unfenced": "a ticket is released once its fencing is ordered";
    ConfirmedNotAwaited = "confirmed-not-awaited": "a confirmed ticket is taken over without a receipt";
    WritesOffOwn = "writes-off-own": "a site settles its own tenure as waited for";
    ResumesLate = "resumes-late": "a tenure is resumed after its deadline";
    EffectsLate = "effects-late": "effects that a slow commit has overtaken are done all the same";
    ForeverHeld = "forever-held": "a holder does not look at its deadline";
    // Wishes.
    ActsOnUnchosenWish = "acts-on-unchosen-wish": "a site acts on a wish that may get lost";
    RevokeConfirmedByRead = "revoke-confirmed-by-read": "a revoke is answered once it is written";
    RevokeNotWritten = "revoke-not-written": "a revoke is kept in memory";
    StandbyIgnored = "standby-ignored": "a standby between promise and accept is overlooked";
    ForbiddenAccepted = "forbidden-accepted": "an acceptor accepts a tenure that a wish it knows forbids";
    WaitersForEver = "waiters-for-ever": "a site runs a round for a question that nobody asks any more";
    EarlierRoundConfirms = "earlier-round-confirms": "a round that began before a wish confirms it";
    AnyAttestation = "any-attestation": "an attestation counts for later tenures too";
    AttestedUnheard = "attested-unheard": "a site that is heard is attested dead";
    FlapsForEver = "flaps-for-ever": "takeovers are not limited";
    // The pumps.
    LostRequestAwaited = "lost-request-awaited": "a request for deadlines that was lost with its connection is waited for";
    FailedRequestAwaited = "failed-request-awaited": "a request for deadlines that has failed is waited for";
    RefusedDeadlineTaken = "refused-deadline-taken": "a deadline that the fence daemon refuses is told as taken";
    ArmRefusalUntold = "arm-refusal-untold": "an arming that fails is not told";
    LineLossUntold = "line-loss-untold": "that the connection to the fence daemon is lost is not told";
    OneReceiptTold = "one-receipt-told": "of a ticket's receipts the first is told";
    EventsDuringCommit = "events-during-commit": "everything is handled while a commit runs";
    // The deadman.
    DeadmanLate = "deadman-late": "the deadman fences half a second after the deadline";
    DeadmanForgets = "deadman-forgets": "a restarted fence daemon fences nothing";
    LeaseCarriedOnLate = "lease-carried-on-late": "a restarted fence daemon carries a tenure on after its deadline";
    ArmsDuringFence = "arms-during-fence": "a resource is armed while it is being fenced";
    FencedOnTimeout = "fenced-on-timeout": "a fence level that does not end counts as done";
    FencedByFailure = "fenced-by-failure": "a fence level that fails counts as done";
    ReceiptBeforeCommit = "receipt-before-commit": "a receipt is told before it is durable";
    KillNotVerified = "kill-not-verified": "what a level left running is not looked for";
    StartsAfterReceipt = "starts-after-receipt": "a program on its way to exec does not look at its lease";
    ArmedBeforeCommit = "armed-before-commit": "an arming is told before it is durable";
}

/// The place of the planted bug in [`Mutant::ALL`], from 1; 0 for none.
static PLANTED: AtomicUsize = AtomicUsize::new(0);

/// Plants the bug called `name`, and takes out any other. False if there is none of that name.
pub fn plant(name: &str) -> bool {
    let found = Mutant::ALL.iter().position(|mutant| mutant.name() == name);
    PLANTED.store(found.map_or(0, |place| place + 1), Ordering::Relaxed);
    found.is_some()
}

/// Whether this very bug is planted.
#[must_use]
pub fn planted(mutant: Mutant) -> bool {
    PLANTED.load(Ordering::Relaxed) == mutant as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_planted_at_a_time() {
        assert!(!Mutant::ALL.iter().any(|&mutant| planted(mutant)));
        for &mutant in Mutant::ALL {
            assert!(plant(mutant.name()) && planted(mutant));
            assert_eq!(Mutant::ALL.iter().filter(|&&other| planted(other)).count(), 1, "{mutant:?}");
        }
        assert!(!plant("no such bug"));
        assert!(!Mutant::ALL.iter().any(|&mutant| planted(mutant)));
    }
}
