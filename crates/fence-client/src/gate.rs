//! What storage has to do with fencing tokens, as a type: a reference for those who build it into a store of their own.
//! Why stands in docs/fencing.md, "Storage that checks tokens"; `conf/postgresql/token_gate.sql` is the same in PostgreSQL.

use crate::wire::Token;

/// Lets in whoever writes under the greatest token so far, and refuses smaller ones: of one resource, in one store.
///
/// A holder that was frozen does not know that its lease is over; the store has heard of its successor. These are the
/// sequencers of Chubby (Burrows, OSDI 2006, §2.4), also called fencing tokens (Kleppmann, "How to do distributed
/// locking", 2016).
///
/// The contract of a store that uses it:
///
/// 1. At its start it reads the token that it has stored and makes the gate [`restored`](Self::restored) with it, or
///    [`new`](Self::new) if there is none.
/// 2. It asks for each write, before the write: [`admit`](Self::admit).
/// 3. **It stores [`Admitted::token`] in the same transaction as what is written**: with each write, not only with the
///    first of a token, which may have failed. What is stored after the write, or is not as durable, is not enough:
///    after a crash the gate would let in somebody whom it had refused.
/// 4. It keeps the [`Admitted`] until that transaction is durable or has failed for certain. The gate is borrowed so
///    long: nobody else is let in, so no write under a smaller token ends up behind one under a greater.
///
/// A refusal needs no transaction.
///
/// ```
/// use sitegate_fence_client::gate::{Refused, TokenGate};
///
/// /// All that is on the disk; replaced as a whole, which stands for a transaction.
/// #[derive(Clone, Default)]
/// struct Disk {
///     greatest: Option<u64>,
///     rows: Vec<&'static str>,
/// }
///
/// fn write(gate: &mut TokenGate, disk: &mut Disk, token: u64, row: &'static str) -> Result<(), Refused> {
///     let admitted = gate.admit(token)?;
///     let mut next = disk.clone();
///     next.rows.push(row);
///     next.greatest = Some(admitted.token());
///     *disk = next;
///     Ok(())
/// }
///
/// let mut disk = Disk::default();
/// let mut gate = TokenGate::new();
/// write(&mut gate, &mut disk, 257, "by paris")?;
/// write(&mut gate, &mut disk, 514, "by lyon")?;
/// // Paris was frozen and does not know of Lyon.
/// let refused = write(&mut gate, &mut disk, 257, "by paris, late");
/// assert_eq!(refused, Err(Refused::TooOld { token: 257, greatest: 514 }));
///
/// // The store crashes, and comes back with what is on its disk.
/// let mut gate = disk.greatest.map_or(TokenGate::new(), TokenGate::restored);
/// assert!(write(&mut gate, &mut disk, 257, "by paris, later").is_err());
/// assert_eq!(disk.rows, ["by paris", "by lyon"]);
/// # Ok::<(), Refused>(())
/// ```
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TokenGate {
    greatest: Option<Token>,
}

impl TokenGate {
    /// A gate that nobody has passed. Only for a store in which nothing was ever written under a token.
    #[must_use]
    pub const fn new() -> Self {
        Self { greatest: None }
    }

    /// The gate as it was when `greatest` was stored.
    #[must_use]
    pub const fn restored(greatest: Token) -> Self {
        Self { greatest: Some(greatest) }
    }

    /// The greatest token that was let in, or nothing before the first.
    #[must_use]
    pub const fn greatest(&self) -> Option<Token> {
        self.greatest
    }

    /// Lets a write under `token` in, and from now on nothing smaller, whatever becomes of that write: a transaction that
    /// seems to have failed may be on the disk.
    ///
    /// # Errors
    /// [`Refused`], and then nothing may be written.
    pub fn admit(&mut self, token: Token) -> Result<Admitted<'_>, Refused> {
        if token == 0 {
            return Err(Refused::NoTenure);
        }
        match self.greatest {
            Some(greatest) if token < greatest => Err(Refused::TooOld { token, greatest }),
            _ => {
                self.greatest = Some(token);
                Ok(Admitted { gate: self, token })
            }
        }
    }
}

/// Leave to write once. Holds the gate until it is dropped, which is to be after the write's transaction.
#[derive(Debug)]
#[must_use = "the gate is to be held until the write's transaction has ended"]
pub struct Admitted<'gate> {
    #[expect(dead_code, reason = "held, not used")]
    gate: &'gate mut TokenGate,
    token: Token,
}

impl Admitted<'_> {
    /// What is to be stored in the transaction of the write.
    #[must_use]
    pub const fn token(&self) -> Token {
        self.token
    }
}

/// Why a write was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The fault of nobody, and final: the writer has lost its resource to another, and should have been fenced.
    #[error("fencing token {token} is too old: the greatest is {greatest}")]
    TooOld {
        /// The writer's.
        token: Token,
        /// The greatest that was let in.
        greatest: Token,
    },
    /// The writer's fault: programs find this token when a plan is tested, and no tenure has it.
    #[error("0 is the fencing token of no tenure")]
    NoTenure,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store whose transactions hold a write and the greatest token.
    #[derive(Default)]
    struct Store {
        gate: TokenGate,
        stored: Option<Token>,
        /// The tokens of what was written, in order.
        written: Vec<Token>,
    }

    /// What may happen to it.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// A write, committed.
        Write(Token),
        /// A write whose transaction fails.
        Fail(Token),
        /// A crash, while no transaction is under way.
        Crash,
        /// A crash after the commit of a write, before anybody hears of it.
        WriteAndCrash(Token),
    }

    impl Store {
        /// Stores the token with each write, or, wrongly, as its own `stores` says.
        fn step(&mut self, step: Step, stores: impl Fn(&Self, Token) -> bool) {
            match step {
                Step::Crash => self.crash(),
                Step::Write(token) => self.write(token, stores),
                Step::WriteAndCrash(token) => {
                    self.write(token, stores);
                    self.crash();
                }
                Step::Fail(token) => {
                    let _ = self.gate.admit(token);
                }
            }
        }

        fn write(&mut self, token: Token, stores: impl Fn(&Self, Token) -> bool) {
            let stored = if stores(self, token) { Some(token) } else { self.stored };
            if let Ok(admitted) = self.gate.admit(token) {
                self.written.push(admitted.token());
                self.stored = stored;
            }
        }

        fn crash(&mut self) {
            self.gate = restored(self.stored);
        }
    }

    fn restored(greatest: Option<Token>) -> TokenGate {
        greatest.map_or(TokenGate::new(), TokenGate::restored)
    }

    const STEPS: [Step; 10] = [
        Step::Write(1),
        Step::Write(2),
        Step::Write(3),
        Step::Fail(1),
        Step::Fail(2),
        Step::Fail(3),
        Step::WriteAndCrash(1),
        Step::WriteAndCrash(2),
        Step::WriteAndCrash(3),
        Step::Crash,
    ];

    /// All runs of up to `left` more steps: the first after which a write lies behind one under a greater token.
    fn disorder(
        store: &Store,
        left: u32,
        stores: impl Fn(&Store, Token) -> bool + Copy,
    ) -> Option<Vec<Token>> {
        if !store.written.is_sorted() {
            return Some(store.written.clone());
        }
        if left == 0 {
            return None;
        }
        STEPS.into_iter().find_map(|step| {
            let mut next =
                Store { gate: restored(store.gate.greatest()), written: store.written.clone(), ..*store };
            next.step(step, stores);
            disorder(&next, left - 1, stores)
        })
    }

    #[test]
    fn smaller_tokens_are_refused_and_equal_ones_are_not() {
        let mut gate = TokenGate::new();
        assert_eq!(gate.greatest(), None);
        assert_eq!(gate.admit(257).map(|admitted| admitted.token()), Ok(257));
        assert_eq!(gate.admit(257).map(|admitted| admitted.token()), Ok(257));
        assert_eq!(gate.admit(514).map(|admitted| admitted.token()), Ok(514));
        let refused = gate.admit(513).map(|admitted| admitted.token());
        assert_eq!(refused, Err(Refused::TooOld { token: 513, greatest: 514 }));
        assert_eq!(gate.greatest(), Some(514), "who is refused raises nothing");
    }

    #[test]
    fn the_token_of_a_test_is_no_tenures() {
        assert_eq!(TokenGate::new().admit(0).map(|admitted| admitted.token()), Err(Refused::NoTenure));
        assert_eq!(TokenGate::restored(1).admit(0).map(|admitted| admitted.token()), Err(Refused::NoTenure));
    }

    #[test]
    fn all_of_64_bits_are_compared() {
        let mut gate = TokenGate::restored(1 << 63);
        assert!(gate.admit((1 << 63) - 1).is_err());
        assert!(gate.admit(Token::MAX).is_ok());
    }

    #[test]
    fn a_write_that_failed_still_keeps_older_ones_out() {
        let mut gate = TokenGate::restored(257);
        let _ = gate.admit(514);
        assert_eq!(
            gate.admit(257).map(|admitted| admitted.token()),
            Err(Refused::TooOld { token: 257, greatest: 514 })
        );
    }

    #[test]
    fn in_all_runs_of_five_steps_no_write_lies_behind_one_under_a_greater_token() {
        assert_eq!(disorder(&Store::default(), 5, |_, _| true), None);
    }

    /// Each of these is what the contract forbids, and the search has to find it.
    #[test]
    fn stores_that_break_the_contract_are_found_out() {
        let never = |_: &Store, _: Token| false;
        assert!(disorder(&Store::default(), 5, never).is_some());
        // Only with the first write of a token that the gate has let in: that one may have failed.
        let when_the_gate_rises = |store: &Store, token: Token| store.gate.greatest() < Some(token);
        assert!(disorder(&Store::default(), 5, when_the_gate_rises).is_some());
    }
}
