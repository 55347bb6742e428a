//! What the programs of a resource are for, which is also how their control groups and marks are called.

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It starts the resource. What it leaves running stays.
    Start,
    /// It stops the resource gracefully.
    Stop,
    /// It is a level of the fence plan; numbered by the run, so that one that would not die is told from the next.
    Level(u64),
    /// It is one of several programs of a level, numbered within the run: each has a place of its own, whether they run at once
    /// or one after the other.
    Part {
        /// The level's run.
        run: u64,
        /// Which of its programs.
        part: u32,
    },
    /// It tries out whether a level would work, without fencing anything; numbered likewise.
    Trial {
        /// The trial.
        run: u64,
        /// Which of its programs.
        part: u32,
    },
}

impl Role {
    /// [`Role::Part`].
    pub(crate) fn part(run: u64, part: u32) -> Self {
        Self::Part { run, part }
    }

    /// [`Role::Trial`].
    pub(crate) fn trial(run: u64, part: u32) -> Self {
        Self::Trial { run, part }
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Start => "start".to_owned(),
            Self::Stop => "stop".to_owned(),
            Self::Level(run) => format!("fence-{run}"),
            Self::Part { run, part } => format!("fence-{run}-{part}"),
            Self::Trial { run, part } => format!("trial-{run}-{part}"),
        }
    }

    /// Whether it belongs to a tenure: then it needs the lease, and there is one place for all its runs. Levels need none: they
    /// are what comes when there is no lease any more.
    pub(crate) fn of_tenure(self) -> bool {
        matches!(self, Self::Start | Self::Stop)
    }

    /// Whether it belongs to a plan that is being carried out.
    pub(crate) fn of_plan(self) -> bool {
        matches!(self, Self::Level(_) | Self::Part { .. })
    }
}
